//! One level of JSON text, read strictly: what `serde_json::Value` would forgive is seen here.
//!
//! A parameter is looked at level by level, guided by what the method declares, with the text below still as the
//! caller wrote it: so duplicates are noticed, numbers stay exact, and an error can show the value as given.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One JSON value, with its children still as text.
pub(crate) enum Node<'a> {
    Null,
    Bool(bool),
    /// The number's text.
    Number(&'a str),
    Text(String),
    List(Vec<&'a RawValue>),
    /// Members in the order given; names may repeat.
    Members(Vec<(String, &'a RawValue)>),
}

impl<'a> Node<'a> {
    /// Reads one level. The error says why the text is not valid JSON (a lone surrogate, say, which only shows when
    /// a string is decoded).
    pub(crate) fn open(raw: &'a RawValue) -> Result<Self, String> {
        let text = raw.get().trim();
        let node = match text.as_bytes().first() {
            Some(b'{') => serde_json::from_str::<Members<'a>>(text).map(|members| Self::Members(members.0)),
            Some(b'[') => serde_json::from_str(text).map(Self::List),
            Some(b'"') => serde_json::from_str(text).map(Self::Text),
            Some(b't' | b'f') => serde_json::from_str(text).map(Self::Bool),
            Some(b'n') => serde_json::from_str::<()>(text).map(|()| Self::Null),
            _ => Ok(Self::Number(text)),
        };
        node.map_err(|why| why.to_string())
    }

    /// The JSON name of the kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::List(_) => "array",
            Self::Members(_) => "object",
        }
    }
}

/// All members of an object, duplicates kept.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.len() >= MEMBERS_MAX {
                        return Err(A::Error::custom(format!("more than {MEMBERS_MAX} members")));
                    }
                    members.push((name, map.next_value::<&RawValue>()?));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Self)
    }
}

/// Bounds one object; a whole request holds at most 8,192 values.
const MEMBERS_MAX: usize = 8192;

/// The name that an object gives twice, if any.
pub(crate) fn duplicate<'m>(members: &'m [(String, &RawValue)]) -> Option<&'m str> {
    let mut seen = std::collections::HashSet::new();
    members.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(*name))
}
