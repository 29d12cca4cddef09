//! Shapes of real parameter structs against text: what is accepted, and how a refusal reads.

#![allow(clippy::expect_used)]

use super::{check, compile};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Policy {
    /// One after the other
    RoundRobin,
    MinInflight,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Address {
    traddr: String,
    /// Port
    trsvcid: u16,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the schema is looked at")]
enum Target {
    Id(u32),
    Address(Address),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct All {
    /// Name of
    /// the device
    #[schemars(length(min = 1, max = 8))]
    name: String,
    #[schemars(range(min = 1))]
    num_blocks: Option<u64>,
    delta: Option<i64>,
    #[schemars(range(min = 0.0, max = 1.0))]
    share: Option<f64>,
    flag: Option<bool>,
    policy: Option<Policy>,
    uuid: Option<uuid::Uuid>,
    listen_address: Option<Address>,
    #[schemars(length(min = 1, max = 2))]
    paths: Option<Vec<Address>>,
    cores: Option<BTreeSet<u8>>,
    pair: Option<(u8, String)>,
    labels: Option<BTreeMap<String, Option<u32>>>,
    target: Option<Target>,
    free: Option<Value>,
}

fn run(text: &str) -> Result<Value, String> {
    let compiled = compile::<All>().expect("a shape");
    let raw: &RawValue = serde_json::from_str(text).expect("JSON");
    check(&compiled.shape, raw).map_err(|fault| fault.into_error("m", -1).message)
}

/// `member` added to the one that is required.
fn with(member: &str) -> Result<Value, String> {
    run(&format!("{{\"name\":\"a\",{member}}}"))
}

#[test]
fn values_of_the_declared_kind_arrive_exactly() {
    let table = [
        (r#""num_blocks":18446744073709551615"#, json!({"num_blocks": u64::MAX})),
        (r#""num_blocks":1e3"#, json!({"num_blocks": 1000})),
        (r#""num_blocks":9223372036854775809.0"#, json!({"num_blocks": 9223372036854775809u64})),
        (r#""delta":-9223372036854775808"#, json!({"delta": i64::MIN})),
        (r#""share":1"#, json!({"share": 1.0})),
        (r#""policy":"round_robin""#, json!({"policy": "round_robin"})),
        (r#""flag":true"#, json!({"flag": true})),
        (
            r#""listen_address":{"traddr":"x","trsvcid":4420}"#,
            json!({"listen_address": {"traddr": "x", "trsvcid": 4420}}),
        ),
        (r#""pair":[7,"b"]"#, json!({"pair": [7, "b"]})),
        (r#""labels":{"a":1,"b":null}"#, json!({"labels": {"a": 1, "b": null}})),
        (r#""target":4"#, json!({"target": 4})),
        (r#""free":{"x":[null,1.5]}"#, json!({"free": {"x": [null, 1.5]}})),
    ];
    for (member, expect) in table {
        let mut all = json!({"name": "a"});
        all.as_object_mut().expect("object").extend(expect.as_object().expect("object").clone());
        assert_eq!(with(member), Ok(all), "{member}");
    }
}

#[test]
fn a_refusal_names_the_parameter_the_value_and_what_is_accepted() {
    let long = "x".repeat(100);
    let cut = format!("\"{}", "x".repeat(79));
    let table = [
        (
            r#""num_blocks":"abc""#,
            r#"m: parameter "num_blocks": got "abc" (string), accepted: integer 1..18446744073709551615"#,
        ),
        (
            r#""num_blocks":0"#,
            r#"m: parameter "num_blocks": got 0 (number), accepted: integer 1..18446744073709551615"#,
        ),
        (
            r#""num_blocks":18446744073709551616"#,
            r#"m: parameter "num_blocks": got 18446744073709551616 (number), accepted: integer 1..18446744073709551615"#,
        ),
        (
            r#""num_blocks":1.5"#,
            r#"m: parameter "num_blocks": got 1.5 (number), accepted: integer 1..18446744073709551615"#,
        ),
        (
            r#""num_blocks":null"#,
            r#"m: parameter "num_blocks": got null (null), accepted: integer 1..18446744073709551615"#,
        ),
        (
            r#""num_blocks":true"#,
            r#"m: parameter "num_blocks": got true (boolean), accepted: integer 1..18446744073709551615"#,
        ),
        (r#""share":2"#, r#"m: parameter "share": got 2 (number), accepted: number 0..1"#),
        (r#""share":1e999"#, r#"m: parameter "share": got 1e999 (number), accepted: number 0..1"#),
        (r#""flag":1"#, r#"m: parameter "flag": got 1 (number), accepted: true or false"#),
        (
            r#""policy":"x""#,
            r#"m: parameter "policy": got "x" (string), accepted: one of "min_inflight", "round_robin""#,
        ),
        (
            r#""uuid":"7""#,
            r#"m: parameter "uuid": got "7" (string), accepted: UUID such as "11111111-2222-4333-8444-555555555555""#,
        ),
        (
            r#""listen_address":{"traddr":"x","trsvcid":70000}"#,
            r#"m: parameter "listen_address.trsvcid": got 70000 (number), accepted: integer 0..65535"#,
        ),
        (
            r#""listen_address":{"traddr":"x"}"#,
            r#"m: parameter "listen_address.trsvcid" is missing, accepted: integer 0..65535 (Port)"#,
        ),
        (
            r#""listen_address":{"traddr":"x","traddr":"y","trsvcid":1}"#,
            r#"m: parameter "listen_address.traddr" is given more than once, accepted: once"#,
        ),
        (
            r#""paths":[]"#,
            r#"m: parameter "paths": got [] (array), accepted: array of 1..2 elements of object {traddr, trsvcid}"#,
        ),
        (
            r#""paths":[{"traddr":"x","trsvcid":1},{"trsvcid":1}]"#,
            r#"m: parameter "paths[1].traddr" is missing, accepted: string"#,
        ),
        (
            r#""cores":[1,1]"#,
            r#"m: parameter "cores": got [1,1] (array), accepted: array of integer 0..255 without repetition"#,
        ),
        (
            r#""pair":[1]"#,
            r#"m: parameter "pair": got [1] (array), accepted: array [integer 0..255, string]"#,
        ),
        (
            r#""target":"x""#,
            r#"m: parameter "target": got "x" (string), accepted: integer 0..4294967295 or object {traddr, trsvcid}"#,
        ),
        (r#""target":-1"#, r#"m: parameter "target": got -1 (number), accepted: integer 0..4294967295"#),
        (
            r#""free":{"a":{"b":1,"b":2}}"#,
            r#"m: parameter "free.a.b" is given more than once, accepted: once"#,
        ),
        (r#""name":"b""#, r#"m: parameter "name" is given more than once, accepted: once"#),
        (r#""n\u0061me":"b""#, r#"m: parameter "name" is given more than once, accepted: once"#),
        (
            r#""num_block":1"#,
            r#"m: unknown parameter "num_block", did you mean "num_blocks"? accepted: name, num_blocks?, delta?, share?, flag?, policy?, uuid?, listen_address?, paths?, cores?, pair?, labels?, target?, free?"#,
        ),
    ];
    for (member, expect) in table {
        assert_eq!(with(member), Err(expect.to_owned()), "{member}");
    }
    let shown = format!("m: parameter \"flag\": got {cut}... (string), accepted: true or false");
    assert_eq!(with(&format!("\"flag\":\"{long}\"")), Err(shown));
}

#[test]
fn text_is_measured_in_characters_and_may_not_hold_nul_or_half_a_character() {
    assert!(run(r#"{"name":"éééééééé"}"#).is_ok());
    for text in
        [r#"{"name":""}"#, r#"{"name":"123456789"}"#, r#"{"name":"a\u0000b"}"#, r#"{"name":"\ud800"}"#]
    {
        let message = run(text).expect_err(text);
        assert!(message.contains("string of 1..8 characters"), "{message}");
    }
}

#[test]
fn parameters_as_a_whole_must_be_an_object_with_what_is_required() {
    let missing =
        r#"m: parameter "name" is missing, accepted: string of 1..8 characters (Name of the device)"#;
    assert_eq!(run("{}"), Err(missing.to_owned()));
    let message = run("[1]").expect_err("an array");
    assert!(
        message.starts_with("m: params: got [1] (array), accepted: object {name, num_blocks?,"),
        "{message}"
    );
}

#[test]
fn deep_nesting_ends_in_an_error_not_in_a_stack_overflow() {
    let deep = format!("\"free\":{}1{}", "[".repeat(100), "]".repeat(100));
    assert!(with(&deep).expect_err("too deep").contains("at most 64 levels of nesting"));
}

#[test]
fn the_published_schema_has_no_null_for_members_left_out() {
    let schema = compile::<All>().expect("a shape").schema;
    assert_eq!(schema["properties"]["num_blocks"]["type"], "integer");
    assert_eq!(schema["properties"]["policy"]["oneOf"].as_array().map(Vec::len), Some(2));
    assert_eq!(schema["properties"]["labels"]["additionalProperties"]["type"], json!(["integer", "null"]));
    assert_eq!(schema["required"], json!(["name"]));
}

#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Open {
    a: u8,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Pattern {
    #[schemars(regex(pattern = "^a"))]
    a: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema is looked at")]
struct Recursive {
    inner: Option<Box<Recursive>>,
}

#[test]
fn what_would_not_be_checked_is_refused_at_registration() {
    let why = |result: Result<super::Compiled, String>| result.err().expect("refused");
    assert!(why(compile::<Open>()).contains("deny_unknown_fields"));
    assert!(why(compile::<Pattern>()).contains("\"pattern\""));
    assert!(!why(compile::<Recursive>()).is_empty());
    assert!(why(compile::<Vec<u8>>()).contains("named fields"));
}
