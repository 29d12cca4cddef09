//! keyring_file_add_key, keyring_file_remove_key, keyring_get_keys. Control threads.

use crate::error::KeyringError;
use crate::keyring::{KeyInfo, Keyring};
use rpc_registry::{ConfigEntry, Method, Registry, RpcError, Subsystem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// The module behind keys in files, as SPDK calls it.
const MODULE: &str = "keyring_file";

/// Parameters of `keyring_file_add_key`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    /// Name of the key
    #[schemars(length(min = 1))]
    name: String,
    /// Absolute path of the file that holds it: the target's own, mode 0600 or 0400, 16 to 4096 bytes; read at each use
    #[schemars(length(min = 1))]
    path: String,
}

/// Parameters of `keyring_file_remove_key`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// Name of the key
    #[schemars(length(min = 1))]
    name: String,
}

/// One key, its members in SPDK's order.
#[derive(Serialize)]
struct Shown {
    name: String,
    module: &'static str,
    removed: bool,
    /// Fetched from elsewhere by its mere name: not from files.
    probed: bool,
    refcnt: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// Adds the methods of the keyring to `registry`. The subsystem `keyring` is given back: to be added before those that
/// use keys.
pub fn register(registry: &mut Registry, keyring: &Arc<Keyring>) -> Subsystem {
    let of = keyring.clone();
    registry.add(
        Method::new("keyring_file_add_key", "Add a key that is read from a file")
            .spdk(true)
            .example(json!({"name": "key0", "path": "/etc/rmr_tgt/keys/key0"}))
            .result_example(json!(true)),
        move |params: Add| of.add_file(&params.name, &params.path).map(|()| true).map_err(refused),
    );
    let of = keyring.clone();
    registry.add(
        Method::new("keyring_file_remove_key", "Remove a key; who uses it now goes on, nobody new can")
            .spdk(true)
            .example(json!({"name": "key0"}))
            .result_example(json!(true)),
        move |params: Remove| of.remove(&params.name).map(|()| true).map_err(refused),
    );
    let of = keyring.clone();
    registry.add_no_params(
        Method::new("keyring_get_keys", "List the keys, and those that were removed but are still in use")
            .spdk(true)
            .result_example(json!([{"name": "key0", "module": MODULE, "removed": false, "probed": false,
                "refcnt": 1, "path": "/etc/rmr_tgt/keys/key0"}])),
        move || Ok(of.list().into_iter().map(shown).collect::<Vec<_>>()),
    );
    let of = keyring.clone();
    Subsystem::new("keyring").config(move || saved(&of))
}

fn shown(info: KeyInfo) -> Shown {
    let removed = info.is_removed();
    let KeyInfo { name, path, references } = info;
    Shown { name, module: MODULE, removed, probed: false, refcnt: references, path }
}

/// The calls that add the keys again: names and paths, no keys.
fn saved(keyring: &Keyring) -> Vec<ConfigEntry> {
    let keys = keyring.list().into_iter();
    keys.filter_map(|info| {
        let path = info.path?;
        Some(ConfigEntry::new("keyring_file_add_key", json!({"name": info.name, "path": path})))
    })
    .collect()
}

fn refused(error: KeyringError) -> RpcError {
    let answer = RpcError::errno(error.errno(), error.to_string());
    match error.parameter() {
        Some((name, value, accepted)) => answer.parameter(name, value, accepted),
        None => answer,
    }
}
