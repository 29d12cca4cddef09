//! What a shape accepts, in plain words.

use super::{Kind, Member, Shape};

impl Shape {
    /// What would be accepted: `integer 1..65535`, `one of "a", "b"`, `object {x, y?}`.
    pub(crate) fn accepted(&self) -> String {
        match &self.kind {
            Kind::Any => "any JSON value".to_owned(),
            Kind::Null => "null".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Integer { min, max } => format!("integer {min}..{max}"),
            Kind::Number { min, max } => number(*min, *max),
            Kind::Text { chars_min, chars_max } => {
                format!("string{}", span(*chars_min, *chars_max, "characters"))
            }
            Kind::Uuid => "UUID such as \"11111111-2222-4333-8444-555555555555\"".to_owned(),
            Kind::Word(words) => match words.as_slice() {
                [only] => format!("\"{only}\""),
                _ => format!("one of \"{}\"", words.join("\", \"")),
            },
            Kind::List { items, len_min, len_max, distinct } => {
                let distinct = if *distinct { " without repetition" } else { "" };
                format!("array{} of {}{distinct}", span(*len_min, *len_max, "elements"), items.accepted())
            }
            Kind::Tuple(shapes) => {
                format!("array [{}]", shapes.iter().map(Self::accepted).collect::<Vec<_>>().join(", "))
            }
            Kind::Members(members) => format!("object {{{}}}", names(members)),
            Kind::Map(values) => format!("object with values {}", values.accepted()),
            Kind::OneOf(shapes) => shapes.iter().map(Self::accepted).collect::<Vec<_>>().join(" or "),
        }
    }

    /// What would be accepted, with what it means when the method says so.
    pub(crate) fn accepted_and_meaning(&self) -> String {
        match self.meaning.as_str() {
            "" => self.accepted(),
            meaning => format!("{} ({meaning})", self.accepted()),
        }
    }
}

/// The names of an object's members; `?` marks those that may be left out.
pub(crate) fn names(members: &[Member]) -> String {
    let name = |member: &Member| format!("{}{}", member.name, if member.required { "" } else { "?" });
    members.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn number(min: f64, max: f64) -> String {
    match (min.is_finite(), max.is_finite()) {
        (false, false) => "number".to_owned(),
        (true, false) => format!("number from {min}"),
        (false, true) => format!("number up to {max}"),
        (true, true) => format!("number {min}..{max}"),
    }
}

fn span(min: u64, max: u64, unit: &str) -> String {
    match (min, max) {
        (0, u64::MAX) => String::new(),
        (min, u64::MAX) => format!(" of at least {min} {unit}"),
        (0, max) => format!(" of at most {max} {unit}"),
        (min, max) if min == max => format!(" of {min} {unit}"),
        (min, max) => format!(" of {min}..{max} {unit}"),
    }
}
