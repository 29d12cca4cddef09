//! Configurations: the examples, and the way save → restart → load → save.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{Client, Process, calls_of, example};
use serde_json::{Value, json};
use std::path::Path;

fn start_with(config: &Path) -> Process {
    let process = Process::start(&["-c", config.to_str().expect("a path")]);
    assert_eq!(process.client().get("framework_wait_init"), json!(true));
    process
}

/// (name, product, blocks, bytes per block) of each bdev.
fn bdevs(client: &mut Client) -> Vec<(String, String, u64, u64)> {
    let list = client.get("bdev_get_bdevs");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let number = |value: &Value| value.as_u64().expect("a number");
    let one = |bdev: &Value| {
        let size = (number(&bdev["num_blocks"]), number(&bdev["block_size"]));
        (text(&bdev["name"]), text(&bdev["product_name"]), size.0, size.1)
    };
    list.as_array().expect("a list").iter().map(one).collect()
}

#[test]
fn every_example_makes_what_it_says() {
    let null = |name: &str, blocks, size| (name.to_owned(), "Null disk".to_owned(), blocks, size);
    let malloc = |name: &str, blocks, size| (name.to_owned(), "Malloc disk".to_owned(), blocks, size);
    for (file, expect) in [
        ("null.json", vec![null("Null0", 26_214_400, 4096)]),
        ("malloc.json", vec![malloc("Malloc0", 131_072, 512)]),
        ("two-bdevs.json", vec![null("Null0", 2_097_152, 512), malloc("Malloc0", 16384, 4096)]),
    ] {
        let process = start_with(&example(file));
        assert_eq!(bdevs(&mut process.client()), expect, "{file}");
        process.stop();
    }
}

#[test]
fn no_example_is_without_a_test() {
    let listed = ["malloc.json", "null.json", "two-bdevs.json"];
    let folder = std::fs::read_dir(example("")).expect("the folder");
    let names = folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let mut found: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    found.sort();
    assert_eq!(found, listed, "name it in every_example_makes_what_it_says and here");
}

/// A target with something of everything, and its saved configuration.
fn furnished() -> (Process, Value) {
    let process = start_with(&example("two-bdevs.json"));
    let mut client = process.client();
    client.call("bdev_malloc_create", json!({"num_blocks": 64, "block_size": 512}));
    client.call("bdev_null_create", json!({"name": "näme", "num_blocks": 64, "block_size": 1024}));
    client.call("bdev_null_resize", json!({"name": "näme", "new_size": 3}));
    client.call("bdev_null_delete", json!({"name": "Null0"}));
    let saved = client.save();
    (process, saved)
}

#[test]
fn save_restart_load_save_gives_the_same_text() {
    let (process, saved) = furnished();
    let file = process.dir.path().join("saved.json");
    std::fs::write(&file, saved.to_string()).expect("written");
    let again = start_with(&file);
    assert_eq!(again.client().save().to_string(), saved.to_string());
    let methods = calls_of(&saved, "bdev");
    let methods: Vec<&str> = methods.iter().map(|call| call["method"].as_str().expect("a name")).collect();
    let expect = [
        "bdev_set_options",
        "bdev_malloc_create",
        "bdev_malloc_create",
        "bdev_null_create",
        "bdev_wait_for_examine",
    ];
    assert_eq!(methods, expect);
    again.stop();
    process.stop();
}

/// As SPDK's `load_config` does it: whatever is callable now, then `framework_start_init`, then the rest.
fn load(client: &mut Client, config: &Value) {
    let calls = config["subsystems"].as_array().expect("a list").iter();
    let mut calls: Vec<&Value> =
        calls.flat_map(|one| one["config"].as_array().into_iter().flatten()).collect();
    loop {
        let current = client.call("rpc_get_methods", json!({"current": true}));
        let current = current.as_array().expect("names").clone();
        calls.retain(|call| {
            let now = current.contains(&call["method"]);
            if now {
                let method = call["method"].as_str().expect("a name");
                let answer = client.ask(method, call.get("params"));
                assert!(answer.get("error").is_none(), "{call}: {answer}");
            }
            !now
        });
        if !current.contains(&json!("framework_start_init")) {
            break;
        }
        client.get("framework_start_init");
    }
    assert!(calls.is_empty(), "never callable: {calls:?}");
}

#[test]
fn a_configuration_loaded_through_the_socket_is_the_same_as_from_a_file() {
    let (process, saved) = furnished();
    let again = Process::start(&["--wait-for-rpc"]);
    load(&mut again.client(), &saved);
    assert_eq!(again.client().save().to_string(), saved.to_string());
    again.stop();
    process.stop();
}

#[test]
fn a_call_that_fails_ends_the_start_unless_it_is_to_be_ignored() {
    let dir = tempfile::TempDir::new().expect("a folder");
    let file = dir.path().join("bad.json");
    let call = |name: &str, size| json!({"method": "bdev_null_create", "params": {"name": name, "num_blocks": 8, "block_size": size}});
    let calls = [call("good", 512), call("bad", 7), call("after", 512)];
    let config = json!({"subsystems": [{"subsystem": "nvmf", "config": [{"method": "nvmf_set_config"}]},
        {"subsystem": "bdev", "config": calls}]});
    std::fs::write(&file, serde_json::to_string_pretty(&config).expect("text")).expect("written");
    let path = file.to_str().expect("a path");

    let mut process = Process::launch(&["-c", path]);
    assert_eq!(process.wait().code(), Some(5));
    let log = process.rest_of_log();
    assert!(log.contains("bad.json:") && log.contains("block size 7: accepted"), "{log}");
    assert!(!process.socket.exists(), "the socket is left behind");

    let mut process = Process::start(&["-c", path, "--json-ignore-init-errors"]);
    process.wait_for_log("ready");
    let names: Vec<String> = bdevs(&mut process.client()).into_iter().map(|bdev| bdev.0).collect();
    assert_eq!(names, ["good", "after"]);
    process.stop();
}
