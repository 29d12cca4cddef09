//! The shape of a value: its members and their JSON kinds.

use serde_json::Value;

/// How strictly an answer is held against its example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The same members everywhere, each of the same kind.
    Same,
    /// All members of the example; the answer may have more.
    AtLeast,
    /// Member names are data; values must be of the kind of the example's.
    Names,
}

/// Where and how `answer` differs from `example`; none when it does not.
///
/// `null` in the example stands for a member that may be null or anything, `null` in the answer for one that is not
/// there now. Each element of a list must be like some element of the example's; whether there are any, is data.
pub fn difference(rule: Rule, example: &Value, answer: &Value) -> Option<String> {
    differs(rule, example, answer, "result")
}

/// Takes the members called `name` out of `value`, at every depth.
pub fn without(value: &mut Value, name: &str) {
    match value {
        Value::Object(members) => {
            members.shift_remove(name);
            members.values_mut().for_each(|value| without(value, name));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| without(value, name)),
        _ => {}
    }
}

fn differs(rule: Rule, example: &Value, answer: &Value, path: &str) -> Option<String> {
    match (example, answer) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Object(expect), Value::Object(given)) if rule == Rule::Names => {
            let kinds: Vec<_> = expect.values().map(kind).collect();
            let odd = given.iter().find(|(_, value)| !kinds.contains(&kind(value)))?;
            Some(format!("{path}.{}: {}, in the example {kinds:?}", odd.0, kind(odd.1)))
        }
        (Value::Object(expect), Value::Object(given)) => {
            if let Some(name) = expect.keys().find(|name| !given.contains_key(*name)) {
                return Some(format!("{path}.{name} is missing"));
            }
            if let Some(name) = given.keys().find(|name| rule == Rule::Same && !expect.contains_key(*name)) {
                return Some(format!("{path}.{name} is not in the example"));
            }
            expect
                .iter()
                .find_map(|(name, expect)| differs(rule, expect, &given[name], &format!("{path}.{name}")))
        }
        (Value::Array(expect), Value::Array(given)) => {
            let like = |answer: &Value, path: &str| {
                let faults: Vec<_> =
                    expect.iter().map(|expect| differs(rule, expect, answer, path)).collect();
                if expect.is_empty() || faults.iter().any(Option::is_none) {
                    None
                } else {
                    faults.into_iter().next()?
                }
            };
            given.iter().enumerate().find_map(|(at, answer)| like(answer, &format!("{path}[{at}]")))
        }
        _ if kind(example) == kind(answer) => None,
        _ => Some(format!("{path} is a {}, in the example a {}", kind(answer), kind(example))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shapes_are_compared_by_the_rule() {
        let example = json!({"a": 1, "l": [{"x": "t"}, 7], "n": null});
        let good = json!({"a": 2, "l": [{"x": "u"}], "n": "now"});
        assert_eq!(difference(Rule::Same, &example, &good), None);
        let cases = [
            (json!({"a": "1", "l": [7], "n": null}), "result.a is a string, in the example a number"),
            (json!({"l": [7], "n": null}), "result.a is missing"),
            (
                json!({"a": 1, "l": [{"x": 1}], "n": null}),
                "result.l[0].x is a number, in the example a string",
            ),
            (json!({"a": 1, "l": [7], "n": null, "b": 1}), "result.b is not in the example"),
        ];
        for (answer, expect) in cases {
            assert_eq!(difference(Rule::Same, &example, &answer).as_deref(), Some(expect));
        }
        assert_eq!(difference(Rule::AtLeast, &json!({"a": 1}), &json!({"a": 1, "b": 2})), None);
        assert_eq!(difference(Rule::Names, &json!({"a": true}), &json!({"b": false})), None);
        assert!(difference(Rule::Names, &json!({"a": true}), &json!({"b": 1})).is_some());
    }

    #[test]
    fn members_are_taken_out_at_every_depth() {
        let mut value = json!([{"a": 1, "b": {"a": 2, "c": 3}}]);
        without(&mut value, "a");
        assert_eq!(value, json!([{"b": {"c": 3}}]));
    }
}
