//! The walker: text against shape, giving the value to decode or the first fault.

use super::fault::What;
use super::{DEPTH_MAX, Fault, Kind, Member, Shape, words};
use crate::near::nearest;
use crate::node::{Node, duplicate};
use crate::number::whole;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// Checks `raw` against `shape`. Numbers come back exact and whole where an integer is declared.
pub(crate) fn check(shape: &Shape, raw: &RawValue) -> Result<Value, Fault> {
    walk(shape, raw, "")
}

fn walk(shape: &Shape, raw: &RawValue, path: &str) -> Result<Value, Fault> {
    let refuse = |kind| Fault::wrong(path, raw.get(), kind, shape.accepted());
    let node = Node::open(raw).map_err(|_| refuse("invalid JSON"))?;
    let kind = node.kind();
    let value = match (&shape.kind, node) {
        (Kind::Any, node) => any(node, raw, path, 0)?,
        (Kind::OneOf(shapes), node) => one_of(shape, shapes, &node, raw, path)?,
        (Kind::Null, Node::Null) => Value::Null,
        (Kind::Bool, Node::Bool(value)) => Value::Bool(value),
        (Kind::Integer { min, max }, Node::Number(text)) => {
            integer(text, *min, *max).ok_or_else(|| refuse(kind))?
        }
        (Kind::Number { min, max }, Node::Number(text)) => {
            number(text, *min, *max).ok_or_else(|| refuse(kind))?
        }
        (Kind::Text { chars_min, chars_max }, Node::Text(text)) => {
            // A NUL would end the string in every C library below, as in SPDK.
            let fits =
                (*chars_min..=*chars_max).contains(&(text.chars().count() as u64)) && !text.contains('\0');
            fits.then_some(Value::String(text)).ok_or_else(|| refuse(kind))?
        }
        (Kind::Uuid, Node::Text(text)) => {
            let valid = uuid::Uuid::try_parse(&text).is_ok();
            valid.then_some(Value::String(text)).ok_or_else(|| refuse(kind))?
        }
        (Kind::Word(words), Node::Text(text)) => {
            words.contains(&text).then_some(Value::String(text)).ok_or_else(|| refuse(kind))?
        }
        (Kind::List { items, len_min, len_max, distinct }, Node::List(list)) => {
            if !(*len_min..=*len_max).contains(&(list.len() as u64)) {
                return Err(refuse(kind));
            }
            let values = elements(|_| items, &list, path)?;
            if *distinct && (1..values.len()).any(|at| values[..at].contains(&values[at])) {
                return Err(refuse(kind));
            }
            Value::Array(values)
        }
        (Kind::Tuple(shapes), Node::List(list)) if list.len() == shapes.len() => {
            Value::Array(elements(|at| &shapes[at], &list, path)?)
        }
        (Kind::Members(declared), Node::Members(given)) => members(declared, &given, path)?,
        (Kind::Map(values), Node::Members(given)) => map(values, &given, path)?,
        _ => return Err(refuse(kind)),
    };
    Ok(value)
}

fn integer(text: &str, min: i128, max: i128) -> Option<Value> {
    let value = whole(text).ok().filter(|value| (min..=max).contains(value))?;
    let exact = u64::try_from(value).map(Number::from).or_else(|_| i64::try_from(value).map(Number::from));
    exact.ok().map(Value::Number)
}

fn number(text: &str, min: f64, max: f64) -> Option<Value> {
    let value = text.parse::<f64>().ok().filter(|value| (min..=max).contains(value))?;
    Number::from_f64(value).map(Value::Number)
}

fn elements<'s>(
    shape_at: impl Fn(usize) -> &'s Shape,
    list: &[&RawValue],
    path: &str,
) -> Result<Vec<Value>, Fault> {
    let element = |(at, raw): (usize, &&RawValue)| walk(shape_at(at), raw, &format!("{path}[{at}]"));
    list.iter().enumerate().map(element).collect()
}

fn members(declared: &[Member], given: &[(String, &RawValue)], path: &str) -> Result<Value, Fault> {
    if let Some(name) = duplicate(given) {
        return Err(fault(path, name, What::Duplicate, "once".to_owned()));
    }
    let mut values = Map::new();
    for (name, raw) in given {
        let Some(member) = declared.iter().find(|member| member.name == *name) else {
            return Err(unknown(declared, name, path));
        };
        values.insert(name.clone(), walk(&member.shape, raw, &join(path, name))?);
    }
    match declared.iter().find(|member| member.required && !values.contains_key(&member.name)) {
        Some(Member { name, shape, .. }) => {
            Err(fault(path, name, What::Missing, shape.accepted_and_meaning()))
        }
        None => Ok(Value::Object(values)),
    }
}

fn unknown(declared: &[Member], name: &str, path: &str) -> Fault {
    let near =
        nearest(name, declared.iter().map(|member| member.name.as_str())).first().map(|s| s.to_string());
    fault(path, name, What::Unknown { nearest: near }, words::names(declared))
}

fn map(values: &Shape, given: &[(String, &RawValue)], path: &str) -> Result<Value, Fault> {
    if let Some(name) = duplicate(given) {
        return Err(fault(path, name, What::Duplicate, "once".to_owned()));
    }
    let entry = |(name, raw): &(String, &RawValue)| Ok((name.clone(), walk(values, raw, &join(path, name))?));
    Ok(Value::Object(given.iter().map(entry).collect::<Result<_, Fault>>()?))
}

/// The first alternative that fits. When none does, and only one is of the kind given, its fault is the useful one.
fn one_of(
    whole: &Shape,
    shapes: &[Shape],
    node: &Node<'_>,
    raw: &RawValue,
    path: &str,
) -> Result<Value, Fault> {
    let mut faults = Vec::new();
    for shape in shapes {
        match walk(shape, raw, path) {
            Ok(value) => return Ok(value),
            Err(fault) if shape.takes(node) => faults.push(fault),
            Err(_) => {}
        }
    }
    match (faults.pop(), faults.is_empty()) {
        (Some(fault), true) => Err(fault),
        _ => Err(Fault::wrong(path, raw.get(), node.kind(), whole.accepted())),
    }
}

impl Shape {
    /// Is the node at least of the right JSON kind?
    fn takes(&self, node: &Node<'_>) -> bool {
        matches!(
            (&self.kind, node),
            (Kind::Integer { .. } | Kind::Number { .. }, Node::Number(_))
                | (Kind::Text { .. } | Kind::Uuid | Kind::Word(_), Node::Text(_))
                | (Kind::List { .. } | Kind::Tuple(_), Node::List(_))
                | (Kind::Members(_) | Kind::Map(_), Node::Members(_))
        )
    }
}

/// A value that the method takes as it is: no duplicates, bounded depth.
fn any(node: Node<'_>, raw: &RawValue, path: &str, depth: usize) -> Result<Value, Fault> {
    if depth > DEPTH_MAX {
        return Err(Fault::wrong(
            path,
            raw.get(),
            node.kind(),
            format!("at most {DEPTH_MAX} levels of nesting"),
        ));
    }
    let open = |raw: &RawValue, path: &str| {
        let refuse = || Fault::wrong(path, raw.get(), "invalid JSON", "any JSON value".to_owned());
        any(Node::open(raw).map_err(|_| refuse())?, raw, path, depth + 1)
    };
    match node {
        Node::List(list) => {
            let element = |(at, raw): (usize, &&RawValue)| open(raw, &format!("{path}[{at}]"));
            list.iter().enumerate().map(element).collect::<Result<_, _>>().map(Value::Array)
        }
        Node::Members(given) => {
            if let Some(name) = duplicate(&given) {
                return Err(fault(path, name, What::Duplicate, "once".to_owned()));
            }
            let entry = |(name, raw): &(String, &RawValue)| Ok((name.clone(), open(raw, &join(path, name))?));
            given.iter().map(entry).collect::<Result<_, Fault>>().map(Value::Object)
        }
        Node::Text(text) => Ok(Value::String(text)),
        Node::Null | Node::Bool(_) | Node::Number(_) => serde_json::from_str(raw.get())
            .map_err(|_| Fault::wrong(path, raw.get(), node.kind(), "a number within 64 bits".to_owned())),
    }
}

fn fault(path: &str, name: &str, what: What, accepted: String) -> Fault {
    Fault { path: join(path, name), what, accepted }
}

fn join(path: &str, name: &str) -> String {
    let name = super::fault::shorten(name);
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
