//! The methods, as a client sees them.

use super::{Folder, key_bytes, set_mode};
use crate::{Keyring, rpc};
use rpc_registry::{ConfigEntry, Registry, RpcError, Subsystem};
use serde_json::{Value, json};
use std::sync::Arc;

fn served() -> (Registry, Arc<Keyring>, Subsystem) {
    let (mut registry, keyring) = (Registry::new(), Keyring::new());
    let subsystem = rpc::register(&mut registry, &keyring);
    registry.enter_runtime();
    (registry, keyring, subsystem)
}

fn add(registry: &Registry, name: &str, path: &str) -> Result<Value, RpcError> {
    registry.call_value("keyring_file_add_key", Some(&json!({"name": name, "path": path})))
}

#[test]
fn keys_are_added_listed_and_removed_as_spdk_does_it() {
    let folder = Folder::new();
    let (registry, keyring, _) = served();
    let path = folder.file("key", &key_bytes(32));
    let listed = || registry.call_value("keyring_get_keys", None).expect("the list");
    assert_eq!(listed(), json!([]));
    assert_eq!(add(&registry, "key0", &path), Ok(json!(true)));
    let mut expect = json!([{"name": "key0", "module": "keyring_file", "removed": false, "probed": false,
        "refcnt": 1, "path": path}]);
    assert_eq!(listed().to_string(), expect.to_string(), "the order of members as well");
    let user = keyring.get("key0").expect("there");
    expect[0]["refcnt"] = json!(2);
    assert_eq!(listed(), expect);
    let remove = || registry.call_value("keyring_file_remove_key", Some(&json!({"name": "key0"})));
    assert_eq!(remove(), Ok(json!(true)));
    let removed = json!([{"name": "key0", "module": "keyring_file", "removed": true, "probed": false,
        "refcnt": 1}]);
    assert_eq!(listed().to_string(), removed.to_string());
    assert_eq!(remove().expect_err("not there").code, -126);
    drop(user);
    assert_eq!(listed(), json!([]));
}

#[test]
fn refusals_have_spdks_codes_and_say_what_would_be_accepted() {
    let folder = Folder::new();
    let (registry, _, _) = served();
    let path = folder.file("key", &key_bytes(32));
    assert_eq!(add(&registry, "key0", &path), Ok(json!(true)));
    let open = folder.file("open", &key_bytes(32));
    set_mode(&open, 0o644);
    let short = folder.file("short", b"12345");
    for (name, path, code, words, parameter) in [
        ("key0", path.as_str(), -17, "File exists: there is a key \"key0\" already", "name"),
        ("ring:a", &path, -22, "Invalid argument: the key name \"ring:a\"", "name"),
        ("a", "key", -1, "Operation not permitted: the path \"key\" is relative", "path"),
        ("a", "/nonexistent/key", -2, "No such file or directory: cannot find the key file", "path"),
        ("a", &open, -1, "has mode 0644", "path"),
        ("a", &short, -22, "holds 5 bytes of key; accepted: 16 to 4096", "path"),
    ] {
        let error = add(&registry, name, path).expect_err(words);
        let data = error.data.as_ref().expect("the detail");
        assert!(error.code == code && error.message.contains(words), "{error}");
        assert_eq!(data["parameter"], parameter, "{data}");
        assert_eq!(data["value"], if parameter == "name" { name } else { path }, "{data}");
        assert!(data["accepted"].as_str().is_some_and(|text| !text.is_empty()), "{data}");
    }
    for params in [json!({"name": "", "path": "/a"}), json!({"name": "a"}), json!({"name": "a", "path": 1})] {
        assert_eq!(
            registry.call_value("keyring_file_add_key", Some(&params)).expect_err("wrong").code,
            -32602
        );
    }
}

#[test]
fn what_is_saved_brings_the_keys_back_in_their_order_and_holds_no_key() {
    let folder = Folder::new();
    let (registry, keyring, subsystem) = served();
    assert_eq!((subsystem.name(), subsystem.saved()), ("keyring", Some(Vec::new())));
    let path = folder.file("key", b"TheSecretOfThisTest\n");
    for name in ["key1", "key0", ":key2", "gone"] {
        assert_eq!(add(&registry, name, &path), Ok(json!(true)));
    }
    let _user = keyring.get("gone").expect("there");
    keyring.remove("gone").expect("there");
    let entry = |name| ConfigEntry::new("keyring_file_add_key", json!({"name": name, "path": path}));
    let saved = subsystem.saved().expect("it is saved");
    assert_eq!(saved, ["key1", "key0", ":key2"].map(entry));
    let (again, _, subsystem) = served();
    for ConfigEntry { method, params } in &saved {
        assert_eq!(again.call_value(method, params.as_ref()), Ok(json!(true)));
    }
    assert_eq!(subsystem.saved(), Some(saved));
}
