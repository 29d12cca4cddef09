//! What an option takes, and its way from text to JSON.
//!
//! Only as much is looked at as is needed to write the value down as JSON; ranges and meaning are the target's.

use serde_json::{Number, Value};

/// What a value is turned into.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Text as it is.
    Text,
    /// One of these words.
    Word(Vec<String>),
    /// Several of one kind.
    List(Box<Kind>),
    /// JSON text; text that is no JSON is taken as a string.
    Json,
}

impl Kind {
    /// The kind that a JSON Schema asks for.
    pub fn of(schema: &Value) -> Self {
        if let Some(words) = words(schema) {
            return Self::Word(words);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("boolean") => Self::Bool,
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("string") => Self::Text,
            Some("array") => match schema.get("items").map(Self::of) {
                Some(items) if !matches!(items, Self::Json | Self::List(_)) => Self::List(Box::new(items)),
                _ => Self::Json,
            },
            _ => Self::Json,
        }
    }

    /// The placeholder in a help text.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Self::Bool => "true|false",
            Self::Integer => "INTEGER",
            Self::Number => "NUMBER",
            Self::Text => "TEXT",
            Self::Word(_) => "WORD",
            Self::List(items) => items.placeholder(),
            Self::Json => "JSON",
        }
    }

    /// One value. The error says what is needed.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Bool => text.parse().map(Value::Bool).map_err(|_| "true or false is needed".to_owned()),
            Self::Integer => integer(text).ok_or_else(|| "a whole number is needed".to_owned()),
            Self::Number => text
                .parse::<f64>()
                .ok()
                .and_then(Number::from_f64)
                .map(Value::Number)
                .ok_or_else(|| "a number is needed".to_owned()),
            Self::Text => Ok(Value::String(text.to_owned())),
            Self::Word(words) if words.iter().any(|word| word == text) => Ok(Value::String(text.to_owned())),
            Self::Word(words) => Err(format!("one of {} is needed", words.join(", "))),
            Self::List(_) if text.starts_with('[') => {
                serde_json::from_str(text).map_err(|why| why.to_string())
            }
            Self::List(items) => items.parse(text),
            Self::Json => Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))),
        }
    }

    /// The values of all occurrences of an option as one; none if it was not given.
    pub fn join(&self, mut values: Vec<Value>) -> Option<Value> {
        match self {
            _ if values.is_empty() => None,
            // A list that was written as JSON stands for all of it.
            Self::List(_) if !matches!(values.as_slice(), [Value::Array(_)]) => Some(Value::Array(values)),
            _ => values.pop(),
        }
    }
}

/// The words of an enumeration, however the schema writes it.
fn words(schema: &Value) -> Option<Vec<String>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
    }
    let one = |schema: &Value| match schema.get("const").and_then(Value::as_str) {
        Some(word) => Some(vec![word.to_owned()]),
        None => words(schema),
    };
    let alternatives = ["oneOf", "anyOf"].iter().find_map(|name| schema.get(*name)?.as_array())?;
    Some(alternatives.iter().map(one).collect::<Option<Vec<_>>>()?.concat())
}

/// Every 64-bit number, signed or not, exactly. Larger ones are the target's to refuse.
fn integer(text: &str) -> Option<Value> {
    let unsigned = text.parse::<u64>().map(Number::from);
    unsigned.or_else(|_| text.parse::<i64>().map(Number::from)).ok().map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_schema_decides_the_kind() {
        let table = [
            (json!({"type": "boolean"}), Kind::Bool),
            (json!({"type": "integer", "minimum": 0}), Kind::Integer),
            (json!({"type": "number"}), Kind::Number),
            (json!({"type": "string", "format": "uuid"}), Kind::Text),
            (json!({"type": "string", "enum": ["a", "b"]}), Kind::Word(vec!["a".into(), "b".into()])),
            (json!({"oneOf": [{"const": "a"}, {"enum": ["b"]}]}), Kind::Word(vec!["a".into(), "b".into()])),
            (json!({"type": "array", "items": {"type": "string"}}), Kind::List(Box::new(Kind::Text))),
            (json!({"type": "array", "items": {"type": "object"}}), Kind::Json),
            (json!({"type": "object"}), Kind::Json),
            (json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}), Kind::Json),
        ];
        for (schema, kind) in table {
            assert_eq!(Kind::of(&schema), kind, "{schema}");
        }
    }

    #[test]
    fn text_becomes_json_of_its_kind_or_says_what_is_needed() {
        assert_eq!(Kind::Integer.parse("18446744073709551615"), Ok(json!(u64::MAX)));
        assert_eq!(Kind::Integer.parse("-9223372036854775808"), Ok(json!(i64::MIN)));
        assert_eq!(Kind::Integer.parse("1.5"), Err("a whole number is needed".to_owned()));
        assert_eq!(Kind::Bool.parse("yes"), Err("true or false is needed".to_owned()));
        assert_eq!(Kind::Text.parse("7"), Ok(json!("7")));
        assert_eq!(Kind::Json.parse(r#"{"a":[1]}"#), Ok(json!({"a": [1]})));
        assert_eq!(Kind::Json.parse("0x3"), Ok(json!("0x3")));
        let word = Kind::Word(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(word.parse("c"), Err("one of a, b is needed".to_owned()));
    }

    #[test]
    fn lists_come_as_several_values_or_as_json() {
        let list = Kind::List(Box::new(Kind::Integer));
        let parsed =
            |texts: &[&str]| list.join(texts.iter().map(|text| list.parse(text).expect("a value")).collect());
        assert_eq!(parsed(&["1", "2"]), Some(json!([1, 2])));
        assert_eq!(parsed(&["1"]), Some(json!([1])));
        assert_eq!(parsed(&["[3, 4]"]), Some(json!([3, 4])));
        assert_eq!(parsed(&["[]"]), Some(json!([])));
        assert_eq!(Kind::Text.join(vec![json!("x")]), Some(json!("x")));
    }
}
