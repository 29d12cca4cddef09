//! rmr_run_load: who may run it, what it refuses, what it finds.

#![allow(clippy::expect_used, missing_docs)]

use rmr_tgt::{Options, Target};
use serde_json::{Value, json};
use tempfile::TempDir;
use tgt_env::cores::usable_cores;

fn target(dir: &TempDir, allow_load: bool) -> Target {
    let core = usable_cores().expect("cores").iter().next().expect("a core");
    let lock_directory = dir.path().to_owned();
    let options = Options {
        cores: vec![core],
        core_locks: false,
        lock_directory,
        rpc: None,
        allow_load,
        ..Options::default()
    };
    let target = Target::start(options).expect("it starts");
    make_disk(&target);
    target
}

fn make_disk(target: &Target) {
    let disk = json!({"name": "Malloc0", "num_blocks": 256, "block_size": 4096});
    assert_eq!(target.registry().call_value("bdev_malloc_create", Some(&disk)), Ok(json!("Malloc0")));
}

fn load(target: &Target, more: Value) -> Result<Value, String> {
    let mut params = json!({"name": "Malloc0", "overwrite": true, "requests": 500});
    for (name, value) in more.as_object().expect("members") {
        params[name] = value.clone();
    }
    let answer = target.registry().call_value("rmr_run_load", Some(&params));
    answer.map_err(|error| format!("{}: {}", error.code, error.message))
}

#[test]
fn load_is_for_those_whom_the_operator_lets_and_only_on_what_may_be_overwritten() {
    let dir = TempDir::new().expect("a folder");
    let closed = target(&dir, false);
    let why = load(&closed, json!({})).expect_err("nobody may");
    assert!(why.starts_with("-1: ") && why.contains("--allow-load"), "{why}");
    drop(closed);
    let open = target(&dir, true);
    let state = dir.path().join("no such folder/state");
    for (more, code, word) in [
        (json!({"overwrite": false}), "-32602: ", "overwrite"),
        (json!({"name": "gone"}), "-19: ", "gone"),
        (json!({"io_size": 1000}), "-22: ", "1000"),
        (json!({"state": state}), "-22: ", "no such folder"),
        (json!({"requests": 0}), "-32602: ", "requests"),
    ] {
        let why = load(&open, more).expect_err(word);
        assert!(why.starts_with(code) && why.contains(word), "{why}");
    }
    let seen = load(&open, json!({"queue_depth": 4})).expect("it runs");
    // 500, and what was written read back.
    assert!(seen["ios"].as_u64() > Some(500) && seen["latency_us"]["max"].as_f64() > Some(0.0), "{seen}");
}

#[test]
fn a_disk_that_forgot_what_was_written_is_found_out() {
    let dir = TempDir::new().expect("a folder");
    let target = target(&dir, true);
    let state = json!({"state": dir.path().join("state")});
    load(&target, state.clone()).expect("a new disk holds what is written");
    load(&target, state.clone()).expect("and still does");
    let gone = target.registry().call_value("bdev_malloc_delete", Some(&json!({"name": "Malloc0"})));
    assert_eq!(gone, Ok(json!(true)));
    make_disk(&target);
    let why = load(&target, state).expect_err("another disk");
    assert!(why.starts_with("-32603: WRONG"), "{why}");
}
