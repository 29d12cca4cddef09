//! Every kind of bad call leaves the target as it was; every method answers its own example.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{Client, Process};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

/// Everything a caller can see that a call may change.
fn state(client: &mut Client) -> String {
    let saved = client.save();
    let seen = [
        "bdev_get_bdevs",
        "keyring_get_keys",
        "log_get_flags",
        "log_get_level",
        "log_get_print_level",
        "notify_get_notifications",
    ];
    let seen = seen.map(|method| client.get(method));
    let mut memory = client.get("rmr_get_memory");
    // Threads keep buffers; the bytes mapped must not change.
    memory["buffers"].take();
    json!([saved, seen, memory]).to_string()
}

fn furnished() -> Process {
    let process = Process::start(&[]);
    let mut client = process.client();
    client.get("framework_wait_init");
    let uuid = "11111111-2222-4333-8444-555555555555";
    client.call(
        "bdev_malloc_create",
        json!({"name": "Malloc0", "num_blocks": 4096, "block_size": 512, "uuid": uuid}),
    );
    client.call("bdev_null_create", json!({"name": "Null0", "num_blocks": 4096, "block_size": 512}));
    process
}

#[test]
fn a_refused_call_says_why_and_changes_nothing() {
    let process = furnished();
    let mut client = process.client();
    let before = state(&mut client);
    let malloc = |name: &str, value: Value| {
        let mut params = json!({"name": "new", "num_blocks": 4096, "block_size": 512});
        params[name] = value;
        params
    };
    let uuid = json!("11111111-2222-4333-8444-555555555555");
    for (method, params, code, words) in [
        ("bdev_malloc_create", malloc("name", json!("Malloc0")), -17, "Malloc0"),
        ("bdev_malloc_create", malloc("name", json!("Null0")), -17, "Null0"),
        ("bdev_malloc_create", malloc("uuid", uuid), -17, "11111111"),
        ("bdev_malloc_create", malloc("num_blocks", json!(1_u64 << 50)), -12, "memory"),
        ("bdev_malloc_create", malloc("num_blocks", json!(-1)), -32603, "num_blocks"),
        ("bdev_malloc_create", malloc("block_size", json!("512")), -32603, "block_size"),
        ("bdev_malloc_create", malloc("block_size", json!(513)), -22, "513"),
        ("bdev_malloc_create", malloc("md_size", json!(64)), -22, "md_size"),
        ("bdev_malloc_create", malloc("bogus", json!(1)), -32603, "bogus"),
        ("bdev_malloc_create", json!({"name": "new", "num_blocks": 1}), -32603, "block_size"),
        ("bdev_malloc_create", json!({}), -32603, "num_blocks"),
        ("bdev_malloc_delete", json!({"name": "Null0"}), -22, "Null disk"),
        ("bdev_null_delete", json!({"name": "Malloc0"}), -22, "Malloc disk"),
        ("bdev_null_delete", json!({"name": "gone"}), -19, "gone"),
        ("bdev_null_resize", json!({"name": "Null0", "new_size": 1}), -22, "2 (its present size)"),
        ("bdev_null_resize", json!({"name": "Malloc0", "new_size": 9}), -22, "Malloc disk"),
        ("bdev_set_options", json!({"bdev_io_pool_size": 9}), -1, "--wait-for-rpc"),
        ("bdev_get_iostat", json!({"names": ["gone"]}), -19, "gone"),
        ("keyring_file_add_key", json!({"name": "new", "path": "key"}), -1, "relative"),
        ("keyring_file_add_key", json!({"name": "new", "path": "/"}), -22, "a directory"),
        ("keyring_file_add_key", json!({"path": "/"}), -32602, "name"),
        ("keyring_file_remove_key", json!({"name": "gone"}), -126, "gone"),
        ("bdev_reset_iostat", json!({"mode": "most"}), -32603, "mode"),
        ("framework_get_config", json!({"name": "gone"}), -32602, "'gone' not found"),
        ("framework_set_scheduler", json!({"name": "dynamic"}), -32602, "static"),
        ("log_set_level", json!({"level": "LOUD"}), -32602, "LOUD"),
        ("log_set_print_level", json!({"level": 1}), -32603, "level"),
        ("log_set_flag", json!({"flag": "gone"}), -32602, "gone"),
        ("thread_set_cpumask", json!({"id": 99, "cpumask": "0x1"}), -32602, "Thread 99"),
        ("thread_set_cpumask", json!({"id": 1, "cpumask": "zz"}), -32602, "zz"),
        ("spdk_kill_instance", json!({"sig_name": "SIGSEGV"}), -32602, "SIGTERM"),
        ("notify_get_notifications", json!({"id": -1}), -32602, "id"),
        ("no_such_method", json!({}), -32601, "Method not found"),
        ("framework_start_init", json!({}), -1, "before framework"),
        ("rmr_get_version", json!({}), -32602, "requires no parameters"),
    ] {
        let (got, text) = client.refused(method, Some(&params));
        assert!(got == code && text.contains(words), "{method} {params}: {got} {text}");
        assert_eq!(state(&mut client), before, "{method} {params}");
    }
    process.stop();
}

#[test]
fn deleting_gives_the_memory_back() {
    let process = furnished();
    let mut client = process.client();
    let before = client.get("rmr_get_memory");
    client.call("bdev_malloc_create", json!({"name": "big", "num_blocks": 65536, "block_size": 512}));
    assert_ne!(client.get("rmr_get_memory")["mapped_bytes"], before["mapped_bytes"]);
    client.call("bdev_malloc_delete", json!({"name": "big"}));
    assert_eq!(client.get("rmr_get_memory")["mapped_bytes"], before["mapped_bytes"]);
    process.stop();
}

#[test]
fn every_method_is_described_with_examples_and_answers_them() {
    if !tgt_env::cores::usable_cores().expect("cores").contains(0) {
        println!("skipped: this process may not use core 0, of which the examples speak");
        return;
    }
    let mut process = Process::start(&["--wait-for-rpc"]);
    let mut client = process.client();
    let schema = client.get("rmr_get_schema");
    let methods = schema["methods"].as_array().expect("methods").clone();
    let names: Vec<&str> = methods.iter().map(|method| method["name"].as_str().expect("a name")).collect();
    let files = tempfile::tempdir().expect("a directory");
    let call = |client: &mut Client, method: &Value| {
        let name = method["name"].as_str().expect("a name");
        assert!(method["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        assert!(!method["result_example"].is_null(), "{name} has no example of its result");
        let example = Some(method["example"].clone()).filter(|example| !example.is_null());
        let example = example.map(|example| with_file(files.path(), example));
        let example = example.as_ref();
        assert_eq!(
            example.is_none(),
            method["params"].is_null(),
            "{name}: an example for every method with parameters"
        );
        let answer = client.ask(name, example);
        assert!(answer.get("error").is_none(), "{name} {example:?}: {answer}");
        assert_eq!(kind(&answer["result"]), kind(&method["result_example"]), "{name}: {answer}");
    };
    // Those that end the target, or that need what others make, have an order of their own.
    let first = ["bdev_set_options", "iobuf_set_options", "framework_start_init"];
    let made = ["bdev_null_create", "bdev_malloc_create"];
    let last = [
        "bdev_uring_delete",
        "bdev_aio_delete",
        "bdev_delay_delete",
        "bdev_passthru_delete",
        "bdev_split_delete",
        "bdev_error_delete",
        "bdev_null_delete",
        "bdev_malloc_delete",
        "keyring_file_remove_key",
        "spdk_kill_instance",
    ];
    let find =
        |name: &str| methods.iter().find(|method| method["name"] == name).unwrap_or_else(|| panic!("{name}"));
    first.iter().chain(&made).for_each(|name| call(&mut client, find(name)));
    let own_order = |name: &&str| first.contains(name) || made.contains(name) || last.contains(name);
    let alone = |name: &&&str| !own_order(name) && !needs_others(name);
    names.iter().filter(alone).for_each(|name| call(&mut client, find(name)));
    last.iter().for_each(|name| call(&mut client, find(name)));
    assert_eq!(process.wait().code(), Some(0));
}

/// Methods of replicated pools need stores, or other hosts: `test/e2e/tests/pool_methods.rs` and `bdev-brmr/tests` call
/// them. Those of remote NVMe controllers need one: `test/e2e/tests/nvme.rs`.
/// Those of sessions, of vhost and of NVMe-oF need each other, in order: `test/e2e/tests/methods.rs`. Load is refused unless it is allowed: `load.rs`.
fn needs_others(name: &str) -> bool {
    let legs = ["add_leg", "remove_leg", "replace_leg", "discard_leg", "set_leg_maintenance"];
    let stores = ["set_sync_limit", "get_server_pools", "get_store_metadata"];
    let whole = ["enable_pool", "verify_pool", "stop_verify", "get_verify", "run_load"];
    let of_pools = legs.iter().chain(&stores).chain(&whole).any(|verb| name == format!("rmr_{verb}"));
    let families = ["brmr_", "rtrs_", "bdev_brmr_", "bdev_nvme_", "vhost_", "nvmf_"];
    families.iter().any(|family| name.starts_with(family)) || of_pools
}

/// A file that an example names is made in `dir`, and named there.
fn with_file(dir: &std::path::Path, mut example: Value) -> Value {
    if let Some(name) = example["filename"].as_str() {
        let path = dir.join(std::path::Path::new(name).file_name().expect("the name of a file"));
        std::fs::File::create(&path).and_then(|file| file.set_len(1 << 20)).expect("a file");
        example["filename"] = path.to_str().expect("a path").into();
    }
    if let Some(name) = example["path"].as_str() {
        let path = dir.join(std::path::Path::new(name).file_name().expect("the name of a file"));
        std::fs::write(&path, "a key for an example of a call").expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        example["path"] = path.to_str().expect("a path").into();
    }
    example
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
