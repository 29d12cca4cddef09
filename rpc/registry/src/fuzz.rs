//! Entry point for the fuzzer: any bytes as the parameters of a method with one member of every kind.

use crate::{Method, Phase, Registry, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One member of every kind that methods declare.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// A name
    #[schemars(length(min = 1, max = 16))]
    name: String,
    #[schemars(range(min = 1))]
    num_blocks: Option<u64>,
    delta: Option<i32>,
    share: Option<f64>,
    flag: Option<bool>,
    policy: Option<Policy>,
    uuid: Option<uuid::Uuid>,
    pair: Option<(u8, String)>,
    #[schemars(length(max = 3))]
    paths: Option<Vec<Path>>,
    labels: Option<BTreeMap<String, Option<u32>>>,
    either: Option<Either>,
    free: Option<serde_json::Value>,
}

/// Words.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Policy {
    /// One after the other
    RoundRobin,
    MinInflight,
}

/// A nested object.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Path {
    addr: String,
    port: u16,
}

/// Alternatives of different kinds.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Either {
    Number(u32),
    Path(Path),
}

static SAMPLE: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::new();
    registry.add(Method::new("sample", "Answers what it was given").phase(Phase::Any), |sample: Sample| {
        Ok(sample)
    });
    registry
});

/// Decodes `data` as parameters. Never panics; what was accepted once is accepted again, with the same result.
pub fn params(data: &[u8]) {
    let Some(raw) =
        std::str::from_utf8(data).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok())
    else {
        return;
    };
    match SAMPLE.call(&Scope::all(), "sample", Some(raw)) {
        Ok(text) => {
            assert!(text.is_ascii());
            // The sample answers "none" as null, which is no way to ask for it.
            let mut again: serde_json::Value = serde_json::from_str(&text).expect("a result is JSON");
            if let Some(members) = again.as_object_mut() {
                members.retain(|_, value| !value.is_null());
            }
            let second = SAMPLE.call_value("sample", Some(&again)).expect("what was accepted once");
            assert_eq!(second, serde_json::from_str::<serde_json::Value>(&text).expect("a result is JSON"));
        }
        Err(error) => assert!(!error.message.contains("panicked"), "{error}"),
    }
}
