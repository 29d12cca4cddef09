//! Every method that is served, called by SPDK's own client with its documented example.

#![allow(clippy::expect_used, missing_docs)]

use rmr_rpc::{Method, Schema};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use test_e2e::calls::{example_in, in_order, needs_more};
use test_e2e::places::root;
use test_e2e::shape::{Rule, difference, without};
use test_e2e::spdk::SpdkClient;
use test_e2e::target::Target;

/// Answers that depend on more than the method; why.
const LOOSE: [(&str, Rule); 3] = [
    // Its example shows one method and two of its members.
    ("rmr_get_schema", Rule::AtLeast),
    // Parameters differ from method to method.
    ("framework_get_config", Rule::Names),
    // One member per flag.
    ("log_get_flags", Rule::Names),
];

/// Lists that no answer may leave empty here, so that their elements are looked at.
const FULL: [(&str, &str); 12] = [
    ("rpc_get_methods", ""),
    ("framework_get_subsystems", ""),
    ("framework_get_config", ""),
    ("framework_get_reactors", "/reactors"),
    ("thread_get_stats", "/threads"),
    ("thread_get_pollers", "/threads"),
    ("bdev_get_bdevs", ""),
    ("bdev_get_iostat", "/bdevs"),
    ("notify_get_notifications", ""),
    ("keyring_get_keys", ""),
    ("rtrs_get_listeners", ""),
    ("rtrs_get_sessions", ""),
];

/// Members that are there only in some states of their object.
const OPTIONAL: [(&str, &str); 2] = [
    // While it is claimed.
    ("bdev_get_bdevs", "claim_type"),
    // Where the machine tells.
    ("bdev_get_bdevs", "numa_id"),
];

fn rule(method: &str) -> Rule {
    LOOSE.iter().find(|(name, _)| *name == method).map_or(Rule::Same, |(_, rule)| *rule)
}

fn schema(target: &mut Target) -> Schema {
    let schema = target.call("rmr_get_schema", json!({}));
    serde_json::from_value(schema).expect("a schema of the client's form")
}

/// What is wrong with an answer, held against an example.
fn odd(method: &str, rule: Rule, example: &Value, answer: &Value) -> Option<String> {
    let (mut example, mut answer) = (example.clone(), answer.clone());
    for (_, name) in OPTIONAL.iter().filter(|(of, _)| *of == method) {
        without(&mut example, name);
        without(&mut answer, name);
    }
    let why = difference(rule, &example, &answer)?;
    Some(format!("{method}: {why}\n  example {example}\n  answer  {answer}"))
}

/// An answer whose list is empty, and would hide what its elements are like.
fn empty(method: &str, answer: &Value) -> Option<String> {
    let mut lists = FULL.iter().filter(|(of, _)| *of == method);
    let is_empty = |at: &str| answer.pointer(at).and_then(Value::as_array).is_none_or(Vec::is_empty);
    lists.find(|(_, at)| is_empty(at)).map(|(_, at)| format!("{method}: the list {at:?} is empty"))
}

#[test]
fn every_method_answers_its_example_in_the_documented_shape_and_in_spdks() {
    let Some(mut target) = Target::start(&["--wait-for-rpc"]) else { return };
    let schema = schema(&mut target);
    let Some(mut client) = SpdkClient::connect(&target.socket()) else { return };
    let served = client.call("rpc_get_methods", None).expect("the methods");
    let spdk = fs::read_to_string(root().join("test/e2e/data/spdk_results.json")).expect("the file");
    let spdk: Value = serde_json::from_str(&spdk).expect("JSON");
    let (mut called, mut faults) = (BTreeSet::new(), Vec::new());
    for method in in_order(&schema) {
        let Method { name, result_example, .. } = method;
        if needs_more(name) {
            called.insert(name.clone());
            continue;
        }
        let answer = match client.call(name, example_in(target.dir(), method).as_ref()) {
            Ok(answer) => answer,
            Err(error) => {
                faults.push(format!("{name}: {} ({})", error.message, error.code));
                continue;
            }
        };
        called.insert(name.clone());
        faults.extend(empty(name, &answer));
        match result_example {
            Some(expect) => faults.extend(odd(name, rule(name), expect, &answer)),
            None => faults.push(format!("{name} has no example of its result")),
        }
        if let Some(recorded) = spdk.get(name) {
            let rule = if rule(name) == Rule::Same { Rule::Same } else { Rule::AtLeast };
            faults.extend(odd(name, rule, recorded, &answer).map(|why| format!("unlike SPDK: {why}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let served: BTreeSet<String> = serde_json::from_value(served).expect("names");
    assert_eq!(called, served, "called, and served");
    assert!(target.wait_end().success(), "spdk_kill_instance was the last call: {}", target.log());
}

#[test]
fn every_deprecated_name_answers_as_its_method() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    let schema = schema(&mut target);
    let Some(mut client) = SpdkClient::connect(&target.socket()) else { return };
    let mut methods = in_order(&schema);
    methods.retain(|method| !method.aliases.is_empty() && !needs_more(&method.name));
    assert!(!methods.is_empty());
    for method in methods {
        for alias in &method.aliases {
            let answer = client.call(alias, example_in(target.dir(), method).as_ref());
            assert_eq!(answer.as_ref().ok(), method.result_example.as_ref(), "{alias}: {answer:?}");
        }
    }
}
