//! All methods with their parameters, as the target publishes them.

use crate::kind::Kind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Kept up to date by a test of `test/e2e`.
const TEXT: &str = include_str!("../../schema.json");

/// The schema of the target that this client was built with.
pub fn embedded() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> =
        LazyLock::new(|| serde_json::from_str(TEXT).expect("rpc/schema.json is a schema: a test reads it"));
    &SCHEMA
}

/// What `rmr_get_schema` answers.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// All methods, in the order of their registration.
    pub methods: Vec<Method>,
}

/// One method.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// `startup`, `runtime` or `any`.
    pub phase: String,
    /// Is it SPDK's, and known to SPDK's client?
    pub spdk: bool,
    /// Deprecated names.
    pub aliases: Vec<String>,
    /// The code that wrong parameters are answered with.
    pub decode_error: i64,
    /// JSON Schema of the parameters; none: it takes none.
    pub params: Option<Value>,
    /// Example parameters.
    pub example: Option<Value>,
    /// What the example answers, or something of its shape.
    pub result_example: Option<Value>,
}

/// One parameter of a method.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name on the wire.
    pub name: String,
    /// What it means, on one line.
    pub meaning: String,
    /// Must it be given?
    pub required: bool,
    /// What it takes.
    pub kind: Kind,
    /// Its JSON Schema.
    pub schema: Value,
}

impl Schema {
    /// The method of this name or alias.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.name == name || method.aliases.iter().any(|a| a == name))
    }
}

impl Method {
    /// Its parameters: those that must be given first.
    pub fn parameters(&self) -> Vec<Parameter> {
        let params = self.params.as_ref();
        let required: Vec<&str> = params
            .and_then(|schema| schema.get("required")?.as_array())
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let members = params.and_then(|schema| schema.get("properties")?.as_object());
        let mut parameters: Vec<Parameter> =
            members.into_iter().flatten().map(|(name, schema)| parameter(name, schema, &required)).collect();
        parameters.sort_by_key(|parameter| !parameter.required);
        parameters
    }

    /// The example's members; none for a method without an example.
    pub fn example_members(&self) -> Map<String, Value> {
        self.example.as_ref().and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// The example as arguments: `bdev_null_create --name Null0 --num-blocks 1024`.
    pub fn example_command(&self) -> String {
        let options = self.example_members();
        let options = options.iter().map(|(name, value)| format!(" --{} {}", option(name), argument(value)));
        std::iter::once(self.name.clone()).chain(options).collect()
    }
}

impl Parameter {
    /// Its name on the command line.
    pub fn option(&self) -> String {
        option(&self.name)
    }
}

fn parameter(name: &str, schema: &Value, required: &[&str]) -> Parameter {
    let meaning = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    Parameter {
        name: name.to_owned(),
        meaning: meaning.split_whitespace().collect::<Vec<_>>().join(" "),
        required: required.contains(&name),
        kind: Kind::of(schema),
        schema: schema.clone(),
    }
}

fn option(name: &str) -> String {
    name.replace('_', "-")
}

/// A value as the command line takes it, quoted for a shell where it must be.
fn argument(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(list)
            if !list.is_empty() && list.iter().all(|each| !each.is_array() && !each.is_object()) =>
        {
            list.iter().map(argument).collect::<Vec<_>>().join(" ")
        }
        other => quoted(&other.to_string()),
    }
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_embedded_schema_is_one_and_names_every_method_once() {
        let mut names: Vec<&str> = embedded().methods.iter().map(|method| method.name.as_str()).collect();
        assert!(names.len() > 30, "{names:?}");
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn an_example_reads_as_a_shell_would_take_it() {
        let method = Method {
            name: "m".to_owned(),
            summary: String::new(),
            phase: "any".to_owned(),
            spdk: false,
            aliases: Vec::new(),
            decode_error: -1,
            params: None,
            example: Some(json!({"the_name": "it's", "n": 7, "list": ["a", "b c"], "o": {"x": 1}, "e": []})),
            result_example: None,
        };
        let expect = r#"m --the-name 'it'\''s' --n 7 --list a 'b c' --o '{"x":1}' --e '[]'"#;
        assert_eq!(method.example_command(), expect);
    }
}
