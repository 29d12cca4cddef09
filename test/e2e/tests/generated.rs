//! The files made from the schema are up to date: `rpc/schema.json`, `docs/rpc.md`, `rpc/plugin/rmr_rpc.py`, `docs/man`.

#![allow(clippy::expect_used, missing_docs)]

use rmr_rpc::{Method, Schema};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use test_e2e::generate::{COMMAND, files, man, plugin};
use test_e2e::places::{or_skip, root, venv};
use test_e2e::spdk::fixture;
use tgt_app::{Options, Target};

/// The schema of the target as it is compiled now, without a process of its own. None where no target can start.
fn schema() -> Option<Value> {
    let options = Options { rpc: None, core_locks: false, pin: false, ..Options::default() };
    match Target::start(options) {
        Ok(target) => {
            let schema = target.registry().schema();
            drop(target);
            Some(schema)
        }
        Err(why) => or_skip(None, &format!("no target can start here: {why}")),
    }
}

#[test]
fn the_files_made_from_the_schema_are_up_to_date() {
    let Some(schema) = schema() else { return };
    let update = std::env::var_os("RMR_UPDATE").is_some();
    let mut stale = Vec::new();
    for (path, text) in files(&schema) {
        let path = root().join(path);
        if fs::read_to_string(&path).is_ok_and(|now| now == text) {
            continue;
        }
        if update {
            fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            fs::write(&path, text).expect("the file can be written");
            println!("written: {}", path.display());
        } else {
            stale.push(path);
        }
    }
    assert!(stale.is_empty(), "not up to date: {stale:?}; write them anew with:\n  {COMMAND}");
}

#[test]
fn the_manual_pages_name_every_option_and_man_can_read_them() {
    for (path, roff) in man() {
        assert!(roff.contains(".SH NAME") && roff.contains(".SH \"SEE ALSO\""), "{path}");
        let words = match path {
            "docs/man/rmr_tgt.8" => ["\\-\\-metrics", "\\-\\-wait\\-for\\-rpc"],
            "docs/man/rmr-rpc.1" => ["bdev_malloc_create", "completion"],
            _ => ["\\-\\-queue\\-depth", "compare"],
        };
        for word in words {
            assert!(roff.contains(word), "{path}: {word}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("page");
        fs::write(&file, &roff).expect("the page");
        let man = Command::new("man").args(["--warnings", "-l"]).arg(&file).env("MANWIDTH", "100").output();
        let Some(told) = or_skip(man.ok(), "no man") else { return };
        let complaints = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success() && complaints.is_empty(), "{path}: {complaints}");
    }
}

#[test]
fn a_method_that_is_spdks_is_known_to_spdks_client_and_ours_are_not() {
    let (Some(schema), Some(venv)) = (schema(), venv()) else { return };
    let output =
        Command::new(venv.join("bin/python")).arg(fixture("spdk_methods.py")).output().expect("python");
    let known = String::from_utf8(output.stdout).expect("text");
    let known: Vec<&str> = known.lines().collect();
    assert!(known.len() > 200, "SPDK's client lists {} methods", known.len());
    for method in schema["methods"].as_array().expect("methods") {
        let name = method["name"].as_str().expect("a name");
        let said = method["spdk"].as_bool().expect("a flag");
        assert_eq!(known.contains(&name), said, "{name}");
    }
}

/// A method with a parameter of every kind.
fn invented() -> Schema {
    let method: Method = serde_json::from_value(json!({
        "name": "rmr_try", "summary": "Try 100 % of the \"kinds\"", "phase": "any", "spdk": false, "aliases": [],
        "decode_error": -32602, "example": null, "result_example": null,
        "params": {"type": "object", "required": ["pool_name"], "properties": {
            "pool_name": {"type": "string"}, "count": {"type": "integer"}, "share": {"type": "number"},
            "force": {"type": "boolean"}, "mode": {"enum": ["create", "assemble"]}, "timeout": {"type": "integer"},
            "paths": {"type": "array", "items": {"type": "string"}}, "members": {"type": "array"}
        }}
    }))
    .expect("a method");
    Schema { methods: vec![method] }
}

#[test]
fn the_plugin_makes_calls_of_arguments_of_every_kind() {
    let python = venv().map(|venv| venv.join("bin/python"));
    let Some(python) = python else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("plugin.py");
    fs::write(&file, plugin(&invented())).expect("the plugin");
    let run = |line: &str| {
        let args = line.split(' ');
        Command::new(&python).arg(fixture("plugin_call.py")).arg(&file).args(args).output().expect("python")
    };
    let all = "rmr_try --pool-name p --count -7 --share 0.5 --force false --mode create --timeout 3 --paths a b \
               --members [{\"member_id\":1}]";
    let output = run(all);
    let call: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&output.stderr)));
    let params = json!({"pool_name": "p", "count": -7, "share": 0.5, "force": false, "mode": "create", "timeout": 3,
        "paths": ["a", "b"], "members": [{"member_id": 1}]});
    assert_eq!(call, json!({"method": "rmr_try", "params": params}));
    let least: Value = serde_json::from_slice(&run("rmr_try --pool-name p").stdout).expect("a call");
    assert_eq!(least["params"], json!({"pool_name": "p"}));
    for wrong in ["rmr_try", "rmr_try --pool-name p --mode x", "rmr_try --pool-name p --force maybe"] {
        assert!(!run(wrong).status.success(), "{wrong}");
    }
}
