//! Keys by SPDK's commands on a live target, and where no key may show.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use test_e2e::calls::key_file;
use test_e2e::places::{target as program, venv};
use test_e2e::spdk::{SpdkClient, printed, spdk_rpc};
use test_e2e::target::Target;

/// What no answer, no log and no file may hold.
const SECRET: &str = "ThisIsTheSecretOfTheTest";

/// A file with the secret in `dir`, and its path.
fn secret_in(dir: &Path) -> String {
    let path = dir.join("secret");
    key_file(&path, SECRET.as_bytes());
    path.to_str().expect("a path").to_owned()
}

#[test]
fn spdks_commands_add_list_save_and_remove_keys_and_nothing_shows_one() {
    if venv().is_none() {
        return;
    }
    let Some(mut target) = Target::start(&["-L", "all"]) else { return };
    target.wait_ready();
    let path = secret_in(target.dir());
    let mut said = String::new();
    let mut rpc = |args: &[&str]| -> Value {
        let text = printed(spdk_rpc(&target.socket(), args).expect("spdk-rpc"));
        said.push_str(&text);
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    rpc(&["keyring_file_add_key", "key0", &path]);
    rpc(&["keyring_file_add_key", "key1", &path]);
    let key = |name: &str| {
        json!({"name": name, "module": "keyring_file", "removed": false, "probed": false, "refcnt": 1,
            "path": path})
    };
    assert_eq!(rpc(&["keyring_get_keys"]), json!([key("key0"), key("key1")]));
    let config = rpc(&["save_config"]);
    let first = &config["subsystems"][0];
    assert_eq!(first["subsystem"], "keyring", "before all that may use keys");
    let call = |name: &str| json!({"method": "keyring_file_add_key", "params": {"name": name, "path": path}});
    assert_eq!(first["config"], json!([call("key0"), call("key1")]));
    rpc(&["keyring_file_remove_key", "key0"]);
    assert_eq!(rpc(&["keyring_get_keys"]), json!([key("key1")]));
    for (args, words) in [
        (["keyring_file_remove_key", "key0", ""], "Required key not available"),
        (["keyring_file_add_key", "key1", &path], "File exists"),
        (["keyring_file_add_key", "key2", "key"], "Operation not permitted"),
        (["keyring_file_add_key", "key2", "/etc/passwd"], "Operation not permitted"),
    ] {
        let args: Vec<&str> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
        let output = spdk_rpc(&target.socket(), &args).expect("spdk-rpc");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(words), "{args:?}: {text}");
        said.push_str(&text);
    }
    said.push_str(&target.log());
    assert!(said.contains("key added") && said.contains(&path), "the log is looked at: {said}");
    assert!(!said.contains(SECRET), "{said}");
    assert!(target.stop().success());
}

#[test]
fn codes_are_spdks() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    let Some(mut client) = SpdkClient::connect(&target.socket()) else { return };
    let path = secret_in(target.dir());
    let mut code =
        |method: &str, params: Value| client.call(method, Some(&params)).map_err(|error| error.code);
    assert_eq!(code("keyring_file_add_key", json!({"name": "key0", "path": path})), Ok(json!(true)));
    for (method, params, expect) in [
        ("keyring_file_add_key", json!({"name": "key0", "path": path}), -17),
        ("keyring_file_add_key", json!({"name": ":key0", "path": path}), -17),
        ("keyring_file_add_key", json!({"name": "ring:key1", "path": path}), -22),
        ("keyring_file_add_key", json!({"name": "key1", "path": "relative"}), -1),
        ("keyring_file_add_key", json!({"name": "key1", "path": "/nonexistent"}), -2),
        ("keyring_file_add_key", json!({"name": "key1"}), -32602),
        ("keyring_file_remove_key", json!({"name": "key1"}), -126),
        ("keyring_file_remove_key", json!({}), -32602),
    ] {
        assert_eq!(code(method, params.clone()), Err(expect), "{method} {params}");
    }
    assert_eq!(code("keyring_file_remove_key", json!({"name": ":key0"})), Ok(json!(true)));
    assert!(target.stop().success());
}

#[test]
fn a_startup_configuration_with_a_key_that_is_not_there_ends_the_start_and_names_the_file() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let (config, key) = (dir.path().join("config.json"), dir.path().join("key0"));
    let call = json!({"method": "keyring_file_add_key", "params": {"name": "key0", "path": key}});
    let text = json!({"subsystems": [{"subsystem": "keyring", "config": [call]}]});
    fs::write(&config, text.to_string()).expect("written");
    let mut command = Command::new(program);
    command.args(["--disable-cpumask-locks", "--no-rpc-server", "-c"]).arg(&config);
    let output = command.output().expect("it ends by itself");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains(key.to_str().expect("a path")) && told.contains("No such file"), "{told}");
}
