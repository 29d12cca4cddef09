//! Every way to get a method's parameters wrong, derived from its schema.

use rmr_rpc::{Method, Parameter};
use serde_json::{Map, Value, json};

/// One wrong call.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What is wrong, in a word.
    pub what: &'static str,
    /// The parameter that the answer must name; none for a method without parameters.
    pub parameter: Option<String>,
    /// The parameters' text; no map, as it may hold a name twice.
    pub params: String,
}

/// All wrong calls of `method`, made from its example.
pub fn of(method: &Method) -> Vec<Fault> {
    if method.params.is_none() {
        let fault =
            |params: &str| Fault { what: "not asked for", parameter: None, params: params.to_owned() };
        return vec![fault("{}"), fault(r#"{"no_such_parameter":1}"#), fault("[]")];
    }
    let base = method.example_members();
    let mut faults = vec![with(&base, "unknown", "no_such_parameter", &json!(1))];
    for parameter in method.parameters() {
        let name = &parameter.name;
        faults.extend(wrong_kind(&parameter).map(|value| with(&base, "wrong kind", name, &value)));
        faults.push(with(&base, "null", name, &Value::Null));
        faults.extend(out_of_range(&parameter).iter().map(|value| number(&base, name, value)));
        faults.extend(not_accepted(&parameter).map(|value| with(&base, "not accepted", name, &value)));
        faults.push(twice(&base, &parameter));
        if parameter.required {
            faults.push(without(&base, name));
        }
    }
    faults
}

fn fault(what: &'static str, name: &str, params: &Map<String, Value>) -> Fault {
    Fault { what, parameter: Some(name.to_owned()), params: Value::Object(params.clone()).to_string() }
}

fn with(base: &Map<String, Value>, what: &'static str, name: &str, value: &Value) -> Fault {
    let mut params = base.clone();
    params.insert(name.to_owned(), value.clone());
    fault(what, name, &params)
}

fn without(base: &Map<String, Value>, name: &str) -> Fault {
    let mut params = base.clone();
    params.shift_remove(name);
    fault("missing", name, &params)
}

/// A number that `Value` cannot hold goes in as text.
fn number(base: &Map<String, Value>, name: &str, text: &str) -> Fault {
    let mut rest = base.clone();
    rest.shift_remove(name);
    joined("out of range", name, &rest, &format!("\"{name}\":{text}"))
}

fn twice(base: &Map<String, Value>, parameter: &Parameter) -> Fault {
    let mut rest = base.clone();
    let given = rest.shift_remove(&parameter.name).unwrap_or_else(|| good(parameter));
    let member = format!("\"{}\":{given}", parameter.name);
    joined("twice", &parameter.name, &rest, &format!("{member},{member}"))
}

fn joined(what: &'static str, name: &str, rest: &Map<String, Value>, members: &str) -> Fault {
    let rest = Value::Object(rest.clone()).to_string();
    let rest = &rest[1..rest.len() - 1];
    let comma = if rest.is_empty() { "" } else { "," };
    Fault { what, parameter: Some(name.to_owned()), params: format!("{{{rest}{comma}{members}}}") }
}

/// Some value of the right kind.
fn good(parameter: &Parameter) -> Value {
    match kinds(&parameter.schema).first().copied().unwrap_or("string") {
        "integer" | "number" => json!(1),
        "boolean" => json!(false),
        "array" => json!([]),
        "object" => json!({}),
        _ => json!("x"),
    }
}

/// A value of a JSON kind that the parameter does not take; none if it takes every kind.
fn wrong_kind(parameter: &Parameter) -> Option<Value> {
    let taken = kinds(&parameter.schema);
    let candidates = [
        ("integer", json!(7)),
        ("string", json!("no number")),
        ("boolean", json!(true)),
        ("object", json!({"no": "member"})),
    ];
    let numeric = taken.contains(&"number");
    let mut odd =
        candidates.into_iter().filter(|(kind, _)| !(taken.contains(kind) || numeric && *kind == "integer"));
    odd.next().map(|(_, value)| value).filter(|_| !taken.is_empty())
}

/// The JSON kinds that a schema takes; nothing if it does not say.
fn kinds(schema: &Value) -> Vec<&str> {
    let alternatives = ["oneOf", "anyOf"].iter().filter_map(|name| schema.get(*name)?.as_array()).flatten();
    let mut taken: Vec<&str> = alternatives.flat_map(kinds).collect();
    match schema.get("type") {
        Some(Value::String(name)) => taken.push(name),
        Some(Value::Array(names)) => taken.extend(names.iter().filter_map(Value::as_str)),
        _ => {}
    }
    taken
}

/// Whole numbers just beyond both ends, and a fraction.
fn out_of_range(parameter: &Parameter) -> Vec<String> {
    let schema = &parameter.schema;
    if schema.get("type") != Some(&json!("integer")) {
        return Vec::new();
    }
    let end = |name: &str| schema.get(name).and_then(|end| end.to_string().parse::<i128>().ok());
    let (least, most) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, u8::MAX.into()),
        Some("uint16") => (0, u16::MAX.into()),
        Some("uint32") => (0, u32::MAX.into()),
        Some("int32") => (i32::MIN.into(), i32::MAX.into()),
        Some("int64") => (i64::MIN.into(), i64::MAX.into()),
        _ => (0, i128::from(u64::MAX)),
    };
    let (least, most) = (end("minimum").unwrap_or(least), end("maximum").unwrap_or(most));
    vec![(least - 1).to_string(), (most + 1).to_string(), format!("{least}.5")]
}

/// A value of the right kind that is refused: an empty or malformed text, an element of the wrong kind.
fn not_accepted(parameter: &Parameter) -> Option<Value> {
    let schema = &parameter.schema;
    if schema.get("enum").is_some()
        || schema.get("oneOf").is_some()
        || schema.get("format") == Some(&json!("uuid"))
    {
        return kinds(schema).contains(&"string").then(|| json!("no such word"));
    }
    if schema.get("minLength").and_then(Value::as_u64).is_some_and(|least| least > 0) {
        return Some(json!(""));
    }
    let items = schema.get("items")?;
    kinds(items).contains(&"string").then(|| json!([7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_made_of_a_parameter() {
        let method: Method = serde_json::from_value(json!({
            "name": "m", "summary": "", "phase": "any", "spdk": false, "aliases": [], "decode_error": -32602,
            "params": {"type": "object", "required": ["n"], "properties": {
                "n": {"type": "integer", "format": "uint64", "minimum": 1}, "u": {"type": "string", "format": "uuid"}}},
            "example": {"n": 7}, "result_example": true
        }))
        .expect("a method");
        let texts: Vec<(&str, String)> =
            of(&method).into_iter().map(|fault| (fault.what, fault.params)).collect();
        let expect = [
            ("unknown", r#"{"n":7,"no_such_parameter":1}"#),
            ("wrong kind", r#"{"n":"no number"}"#),
            ("null", r#"{"n":null}"#),
            ("out of range", r#"{"n":0}"#),
            ("out of range", r#"{"n":18446744073709551616}"#),
            ("out of range", r#"{"n":1.5}"#),
            ("twice", r#"{"n":7,"n":7}"#),
            ("missing", "{}"),
            ("wrong kind", r#"{"n":7,"u":7}"#),
            ("null", r#"{"n":7,"u":null}"#),
            ("not accepted", r#"{"n":7,"u":"no such word"}"#),
            ("twice", r#"{"n":7,"u":"x","u":"x"}"#),
        ];
        assert_eq!(texts, expect.map(|(what, params)| (what, params.to_owned())));
    }
}
