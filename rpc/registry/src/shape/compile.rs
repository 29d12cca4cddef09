//! From the JSON Schema of a Rust type to a [`Shape`], once per method, when it is registered.

use super::{DEPTH_MAX, Kind, Member, Shape};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// Keywords that only explain.
const NOTES: [&str; 7] = ["$schema", "title", "description", "default", "examples", "deprecated", "readOnly"];

/// The parameters of one method.
pub(crate) struct Compiled {
    /// The JSON Schema to publish: without references, and without the `null` that stands for "left out".
    pub(crate) schema: Value,
    pub(crate) shape: Shape,
}

/// Compiles the parameters `P`. The error says which keyword at which place cannot be checked.
pub(crate) fn compile<P: JsonSchema>() -> Result<Compiled, String> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = Value::from(settings.into_generator().into_root_schema_for::<P>());
    tidy(&mut schema);
    let shape = shape_of(&schema, "params", 0)?;
    match shape.kind {
        Kind::Members(_) => Ok(Compiled { schema, shape }),
        _ => Err("params must be a struct with named fields".to_owned()),
    }
}

/// Takes `null` out of members that may be left out: leaving out is the one way to say "none", as in SPDK.
fn tidy(schema: &mut Value) {
    let Value::Object(keywords) = schema else {
        if let Value::Array(list) = schema {
            list.iter_mut().for_each(tidy);
        }
        return;
    };
    let required: Vec<Value> =
        keywords.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(Value::Object(members)) = keywords.get_mut("properties") {
        for (name, member) in members {
            if !required.contains(&Value::from(name.as_str())) {
                without_null(member);
            }
            tidy(member);
        }
    }
    for keyword in ["items", "prefixItems", "additionalProperties", "anyOf", "oneOf"] {
        if let Some(inner) = keywords.get_mut(keyword) {
            tidy(inner);
        }
    }
}

fn without_null(member: &mut Value) {
    let Value::Object(keywords) = member else { return };
    keywords
        .shift_remove("default")
        .filter(|default| !default.is_null())
        .map(|d| keywords.insert("default".into(), d));
    if let Some(Value::Array(words)) = keywords.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(types)) = keywords.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            keywords.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(alternatives)) = keywords.get_mut("anyOf") {
        alternatives.retain(|alternative| alternative.get("type") != Some(&Value::from("null")));
        if let [Value::Object(only)] = alternatives.as_slice() {
            let only = only.clone();
            keywords.shift_remove("anyOf");
            for (keyword, value) in only {
                keywords.entry(keyword).or_insert(value);
            }
        }
    }
}

fn shape_of(schema: &Value, at: &str, depth: usize) -> Result<Shape, String> {
    if depth > DEPTH_MAX {
        return Err(format!("{at}: nested deeper than {DEPTH_MAX} levels"));
    }
    let keywords = match schema {
        Value::Bool(true) => return Ok(Shape { kind: Kind::Any, meaning: String::new() }),
        Value::Object(keywords) => keywords,
        _ => return Err(format!("{at}: {schema} is no schema")),
    };
    let mut rest = Keywords { at, depth, left: keywords.clone() };
    let meaning = rest.left.get("description").and_then(Value::as_str).unwrap_or_default();
    let meaning = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
    NOTES.iter().for_each(|note| drop(rest.left.shift_remove(*note)));
    let kind = rest.kind()?;
    match rest.left.keys().next() {
        Some(keyword) => {
            Err(format!("{at}: the keyword \"{keyword}\" is not one that calls are checked against"))
        }
        None => Ok(Shape { kind, meaning }),
    }
}

/// The keywords of one schema that have not been understood yet.
struct Keywords<'a> {
    at: &'a str,
    depth: usize,
    left: Map<String, Value>,
}

impl Keywords<'_> {
    fn kind(&mut self) -> Result<Kind, String> {
        if self.left.is_empty() {
            return Ok(Kind::Any);
        }
        for keyword in ["oneOf", "anyOf"] {
            if let Some(Value::Array(alternatives)) = self.left.shift_remove(keyword) {
                return self.alternatives(&alternatives);
            }
        }
        match self.left.shift_remove("type") {
            Some(Value::String(name)) => self.typed(&name),
            Some(Value::Array(names)) => self.several(&names),
            other => Err(format!("{}: no usable \"type\" ({other:?})", self.at)),
        }
    }

    fn alternatives(&self, schemas: &[Value]) -> Result<Kind, String> {
        let shapes = schemas.iter().map(|schema| self.inner(schema, "|")).collect::<Result<Vec<_>, _>>()?;
        let words = |shape: &Shape| match &shape.kind {
            Kind::Word(words) => Some(words.clone()),
            _ => None,
        };
        match shapes.iter().map(words).collect::<Option<Vec<_>>>() {
            Some(words) => Ok(Kind::Word(words.concat())),
            None => Ok(Kind::OneOf(shapes)),
        }
    }

    /// `"type": ["string", "null"]`, for a value that may really be null.
    fn several(&mut self, names: &[Value]) -> Result<Kind, String> {
        let nullable = names.contains(&Value::from("null"));
        let other: Vec<&str> =
            names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect();
        let [name] = other.as_slice() else {
            return Err(format!("{}: {names:?} are several types at once", self.at));
        };
        if let Some(Value::Array(words)) = self.left.get_mut("enum") {
            words.retain(|word| !word.is_null());
        }
        let plain = |kind| Shape { kind, meaning: String::new() };
        let kind = self.typed(name)?;
        Ok(if nullable { Kind::OneOf(vec![plain(kind), plain(Kind::Null)]) } else { kind })
    }

    fn typed(&mut self, name: &str) -> Result<Kind, String> {
        match name {
            "null" => Ok(Kind::Null),
            "boolean" => Ok(Kind::Bool),
            "integer" => self.integer(),
            "number" => {
                self.left.shift_remove("format");
                let min = self.left.shift_remove("minimum").and_then(|min| min.as_f64());
                let max = self.left.shift_remove("maximum").and_then(|max| max.as_f64());
                Ok(Kind::Number { min: min.unwrap_or(f64::NEG_INFINITY), max: max.unwrap_or(f64::INFINITY) })
            }
            "string" => self.text(),
            "array" => self.list(),
            "object" => self.object(),
            other => Err(format!("{}: type \"{other}\" is not known", self.at)),
        }
    }

    fn integer(&mut self) -> Result<Kind, String> {
        let format = self.left.shift_remove("format");
        let (low, high) = match format.as_ref().and_then(Value::as_str) {
            Some("uint8") => (0, i128::from(u8::MAX)),
            Some("uint16") => (0, i128::from(u16::MAX)),
            Some("uint32") => (0, i128::from(u32::MAX)),
            Some("uint64" | "uint") => (0, i128::from(u64::MAX)),
            Some("int8") => (i128::from(i8::MIN), i128::from(i8::MAX)),
            Some("int16") => (i128::from(i16::MIN), i128::from(i16::MAX)),
            Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
            Some("int64" | "int") => (i128::from(i64::MIN), i128::from(i64::MAX)),
            other => return Err(format!("{}: integers of format {other:?} are not known", self.at)),
        };
        let min = self.bound("minimum")?.map_or(low, |min| min.max(low));
        let max = self.bound("maximum")?.map_or(high, |max| max.min(high));
        Ok(Kind::Integer { min, max })
    }

    fn bound(&mut self, keyword: &str) -> Result<Option<i128>, String> {
        let Some(value) = self.left.shift_remove(keyword) else { return Ok(None) };
        let whole = value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from));
        whole.map(Some).ok_or_else(|| format!("{}: \"{keyword}\" {value} is not a whole number", self.at))
    }

    fn text(&mut self) -> Result<Kind, String> {
        if let Some(word) = self.left.shift_remove("const") {
            return words(self.at, &[word]);
        }
        if let Some(Value::Array(list)) = self.left.shift_remove("enum") {
            return words(self.at, &list);
        }
        if self.left.get("format").and_then(Value::as_str) == Some("uuid") {
            self.left.shift_remove("format");
            return Ok(Kind::Uuid);
        }
        Ok(Kind::Text {
            chars_min: self.count("minLength", 0)?,
            chars_max: self.count("maxLength", u64::MAX)?,
        })
    }

    fn count(&mut self, keyword: &str, absent: u64) -> Result<u64, String> {
        match self.left.shift_remove(keyword) {
            None => Ok(absent),
            Some(value) => {
                value.as_u64().ok_or_else(|| format!("{}: \"{keyword}\" {value} is no count", self.at))
            }
        }
    }

    fn list(&mut self) -> Result<Kind, String> {
        let (len_min, len_max) = (self.count("minItems", 0)?, self.count("maxItems", u64::MAX)?);
        let distinct = self.left.shift_remove("uniqueItems") == Some(Value::Bool(true));
        if let Some(Value::Array(schemas)) = self.left.shift_remove("prefixItems") {
            let exact = len_min == len_max && len_min == schemas.len() as u64;
            let shapes = schemas.iter().map(|schema| self.inner(schema, "[]")).collect::<Result<_, _>>()?;
            return if exact { Ok(Kind::Tuple(shapes)) } else { Err(format!("{}: an open tuple", self.at)) };
        }
        let items = self.left.shift_remove("items").unwrap_or(Value::Bool(true));
        Ok(Kind::List { items: Box::new(self.inner(&items, "[]")?), len_min, len_max, distinct })
    }

    fn object(&mut self) -> Result<Kind, String> {
        let properties = self.left.shift_remove("properties");
        let required = self.left.shift_remove("required").unwrap_or_default();
        match (properties, self.left.shift_remove("additionalProperties")) {
            (None, Some(Value::Bool(false))) => Ok(Kind::Members(Vec::new())),
            (None, Some(values)) => Ok(Kind::Map(Box::new(self.inner(&values, ".*")?))),
            (Some(Value::Object(members)), Some(Value::Bool(false))) => {
                let member = |(name, schema): (&String, &Value)| {
                    let required =
                        required.as_array().is_some_and(|list| list.contains(&Value::from(name.as_str())));
                    let shape = self.inner(schema, &format!(".{name}"))?;
                    Ok(Member { name: name.clone(), shape, required })
                };
                Ok(Kind::Members(members.iter().map(member).collect::<Result<_, String>>()?))
            }
            _ => Err(format!("{}: the struct lacks #[serde(deny_unknown_fields)]", self.at)),
        }
    }

    fn inner(&self, schema: &Value, step: &str) -> Result<Shape, String> {
        shape_of(schema, &format!("{}{step}", self.at), self.depth + 1)
    }
}

fn words(at: &str, list: &[Value]) -> Result<Kind, String> {
    let word = |word: &Value| word.as_str().map(str::to_owned).ok_or(format!("{at}: {word} is no word"));
    list.iter().map(word).collect::<Result<_, _>>().map(Kind::Word)
}
