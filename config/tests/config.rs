//! Formats, passes, errors, and the round trip.

#![allow(clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use rpc_registry::{ConfigEntry, Method, Phase, Registry, RpcError, Subsystem, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tgt_config::{ApplyReport, ConfigError, apply, load, parse, save};

/// A device of the tests, and the parameters that make it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Device {
    name: String,
    #[schemars(range(min = 1))]
    num_blocks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// Devices and options; the calls in the order they were made.
#[derive(Default)]
struct World {
    devices: BTreeMap<String, Device>,
    option: Option<u32>,
    log: Vec<&'static str>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetOption {
    value: u32,
}

fn target() -> (Registry, Arc<Mutex<World>>) {
    let world = Arc::new(Mutex::new(World::default()));
    let mut registry = Registry::new();
    let at = Arc::clone(&world);
    registry.add(Method::new("dev_create", "Make").decode_error(codes::INTERNAL), move |device: Device| {
        let mut world = at.lock().expect("lock");
        world.log.push("dev_create");
        match world.devices.insert(device.name.clone(), device.clone()) {
            Some(_) => Err(RpcError::errno(17, device.name)),
            None => Ok(device.name),
        }
    });
    for (name, phase) in [("dev_early", Phase::Startup), ("dev_any", Phase::Any)] {
        let at = Arc::clone(&world);
        registry.add(Method::new(name, "Set").phase(phase), move |set: SetOption| {
            let mut world = at.lock().expect("lock");
            world.log.push(name);
            world.option = Some(set.value);
            Ok(true)
        });
    }
    registry.add_subsystem(Subsystem::new("plain"));
    let at = Arc::clone(&world);
    registry.add_subsystem(Subsystem::new("dev").depends_on(&["plain"]).config(move || {
        let world = at.lock().expect("lock");
        let option = world.option.map(|value| ConfigEntry::new("dev_early", json!({"value": value})));
        let devices = world.devices.values();
        let device = |device| ConfigEntry::new("dev_create", serde_json::to_value(device).expect("JSON"));
        option.into_iter().chain(devices.map(device)).collect()
    }));
    (registry, world)
}

/// Both passes on a fresh target.
fn run(text: &str, ignore: bool) -> (Result<Vec<ApplyReport>, ConfigError>, Registry, Arc<Mutex<World>>) {
    let (registry, world) = target();
    let config = parse(text).expect("a configuration");
    let result = apply(&config, &registry, ignore).and_then(|first| {
        registry.enter_runtime();
        Ok(vec![first, apply(&config, &registry, ignore)?])
    });
    (result, registry, world)
}

const FULL: &str = r#"// A comment
{
  "comment": "other members are ignored", "x": [1],
  "subsystems": [
    { "subsystem": "plain", "config": null },
    { "subsystem": "dev" },
    { /* another */ "subsystem": "dev",
      "config": [
        { "method": "dev_create", "params": { "name": "a//b", "num_blocks": 18446744073709551615 } }, // runs late
        [ { "method": "dev_early", "params": { "value": 1 } }, { "method": "dev_create", "params": { "name": "c", "num_blocks": 1e3 } } ],
        { "method": "dev_any", "params": { "value": 2 } }
      ] },
    { "subsystem": "foreign", "config": [ { "method": "foreign_create" } ] }
  ]
}
"#;

#[test]
fn a_configuration_runs_in_two_passes_each_call_once() {
    let (result, _, world) = run(FULL, false);
    let reports = result.expect("applied");
    assert_eq!([reports[0].made, reports[1].made], [2, 2]);
    assert_eq!(reports[0].skipped.len(), 1);
    assert_eq!(reports[0].skipped[0].place.to_string(), "config:13:43");
    assert!(reports[1].skipped.is_empty());
    let world = world.lock().expect("lock");
    assert_eq!(world.log, ["dev_early", "dev_any", "dev_create", "dev_create"]);
    assert_eq!(world.devices["a//b"].num_blocks, u64::MAX);
    assert_eq!(world.devices["c"].num_blocks, 1000);
}

#[test]
fn a_failing_call_is_named_with_its_place_and_ends_the_pass() {
    let table = [
        (
            r#"{"method":"dev_create","params":{"name":"a","num_blocks":0}}"#,
            r#"config:3:1: subsystem "dev", method "dev_create": dev_create: parameter "num_blocks": got 0 (number), accepted: integer 1..18446744073709551615 (code -32603)"#,
        ),
        (
            r#"{"method":"dev_create","params":{"name":"a","name":"b","num_blocks":1}}"#,
            r#"config:3:1: subsystem "dev", method "dev_create": dev_create: parameter "name" is given more than once, accepted: once (code -32603)"#,
        ),
        (
            r#"{"method":"dev_creat"}"#,
            r#"config:3:1: subsystem "dev", method "dev_creat": Method not found (code -32601)"#,
        ),
    ];
    for (call, expect) in table {
        let text = format!(
            "{{\"subsystems\":[{{\"subsystem\":\"dev\",\"config\":[\n\n{call},\n{}]}}]}}",
            r#"{"method":"dev_create","params":{"name":"z","num_blocks":1}}"#
        );
        let (result, _, world) = run(&text, false);
        assert_eq!(result.expect_err("an error").to_string(), expect);
        assert!(world.lock().expect("lock").devices.is_empty());
        let (result, _, world) = run(&text, true);
        let failed: Vec<String> = result
            .expect("ignored")
            .iter()
            .flat_map(|report| &report.failed)
            .map(ToString::to_string)
            .collect();
        assert_eq!(failed, [expect]);
        assert_eq!(world.lock().expect("lock").devices.len(), 1);
    }
}

#[test]
fn what_is_no_configuration_is_refused_with_its_place() {
    let table = [
        ("", "config:1:1: accepted: an object"),
        ("[]", "config:1:1: accepted: an object"),
        ("\n /* x", "config:2:2: this comment does not end"),
        ("{\"subsystems\": [1]}", "config:1:17: accepted: {\"subsystem\": NAME"),
        ("{\"subsystems\": {}}", "config:1:15: invalid type: map, expected a sequence"),
        ("{\"subsystems\": []} x", "config:1:20: trailing characters"),
        ("{\"subsystems\": [],\n\"subsystems\": []}", "config:2:12: duplicate field `subsystems`"),
        (
            "{\"subsystems\": [\n // c\n {\"subsystem\": \"a\", \"confg\": []}]}",
            "config:3:27: unknown field `confg`",
        ),
        ("{\"subsystems\": [\n {\"config\": []}]}", "config:2:15: missing field `subsystem`"),
        (
            "{\"subsystems\": [\n {\"subsystem\": \"a\", \"config\": [{\"params\":{}}]}]}",
            "config:2:44: missing field `method`",
        ),
        (
            "{\"subsystems\": [{\"subsystem\": \"a\", \"config\": [\n[\n[]]]}]}",
            "config:3:1: accepted: a call",
        ),
        ("{\"subsystems\": [{\"subsystem\": \"a\", \"config\": [7]}]}", "config:1:47: accepted: a call"),
        ("{\"subsystems\": [{\"subsystem\": \"a\", \"config\": [{\"method\": }]}]}", "config:1:"),
        ("{\"subsystems\": [{\"subsystem\": \"\u{e9}\", \"x\": 1}]}", "config:1:38: unknown field `x`"),
    ];
    for (text, expect) in table {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.starts_with(expect), "{text}\n  {error}\n  {expect}");
    }
}

#[test]
fn missing_subsystems_are_a_warning() {
    for text in ["{}", "{\"x\": 1}", "{\"subsystems\": null}"] {
        let config = parse(text).expect("a configuration");
        assert!(config.subsystems.is_empty());
        assert_eq!(config.warnings, ["config: no \"subsystems\": nothing to configure"]);
    }
}

#[test]
fn errors_of_a_file_name_it() {
    let dir = tempfile::TempDir::new().expect("a folder");
    let path = dir.path().join("my.json");
    let error = load(&path).expect_err("no file").to_string();
    assert!(error.contains("my.json: cannot read it: No such file"), "{error}");
    std::fs::write(&path, "{\n  oops").expect("a file");
    let error = load(&path).expect_err("no JSON").to_string();
    assert!(error.contains("my.json:2:3: key must be a string"), "{error}");
}

#[test]
fn the_saved_text_is_laid_out_as_by_spdks_client() {
    let (_, registry, _) = run(FULL, false);
    let expect = r#"{
  "subsystems": [
    {
      "subsystem": "plain",
      "config": null
    },
    {
      "subsystem": "dev",
      "config": [
        {
          "method": "dev_early",
          "params": {
            "value": 2
          }
        },
        {
          "method": "dev_create",
          "params": {
            "name": "a//b",
            "num_blocks": 18446744073709551615
          }
        },
        {
          "method": "dev_create",
          "params": {
            "name": "c",
            "num_blocks": 1000
          }
        }
      ]
    }
  ]
}
"#;
    assert_eq!(save(&registry).expect("text"), expect);
}

fn device() -> impl Strategy<Value = Device> {
    ("[^\\x00]{0,12}", 1..=u64::MAX, proptest::option::of("[^\\x00]{0,12}"))
        .prop_map(|(name, num_blocks, note)| Device { name, num_blocks, note })
}

proptest! {
    #[test]
    fn save_load_save_gives_the_same_text(devices in prop::collection::vec(device(), 0..6), option in proptest::option::of(any::<u32>())) {
        let (registry, world) = target();
        {
            let mut world = world.lock().expect("lock");
            world.option = option;
            world.devices = devices.into_iter().map(|device| (device.name.clone(), device)).collect();
        }
        let first = save(&registry).expect("text");
        prop_assert!(first.is_ascii());
        let (result, again, other) = run(&first, false);
        result.expect("applied");
        prop_assert_eq!(&other.lock().expect("lock").devices, &world.lock().expect("lock").devices);
        prop_assert_eq!(save(&again).expect("text"), first);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[\\[\\]{}/*\",: \nsubytemconfig1]{0,60}") {
        tgt_config::fuzz::config(text.as_bytes());
    }
}
