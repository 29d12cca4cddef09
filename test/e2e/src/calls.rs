//! The methods' documented examples, in an order in which each finds what it needs.

use rmr_rpc::{Method, Schema};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a file that an example's bdev stands on.
const FILE_BYTES: u64 = 1 << 20;

/// The example's parameters; a file that they name is made in `dir` and named there, so that tests do not share it.
pub fn example_in(dir: &Path, method: &Method) -> Option<Value> {
    let mut params = method.example.clone()?;
    if let Some(name) = params.get("filename").and_then(Value::as_str) {
        let path = dir.join(Path::new(name).file_name().expect("the name of a file"));
        // A second target of the same folder finds it there.
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|file| file.set_len(FILE_BYTES))
            .expect("a file");
        params["filename"] = path.to_str().expect("a path").into();
    }
    if method.name.starts_with("rtrs_") || method.name.starts_with("nvmf_") {
        let own = loopback_of(dir).to_string();
        move_to(&mut params, &own);
        return Some(params);
    }
    if let Some(name) = params.get("path").and_then(Value::as_str) {
        let path = dir.join(Path::new(name).file_name().expect("the name of a file"));
        key_file(&path, b"a key for an example of a call");
        params["path"] = path.to_str().expect("a path").into();
    }
    Some(params)
}

/// A loopback address of this folder's own, for listeners with the port of an example: tests run at once.
pub fn loopback_of(dir: &Path) -> Ipv4Addr {
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    let [a, b, c, ..] = hasher.finish().to_le_bytes();
    // Neither the first address, which is everybody's, nor the last.
    Ipv4Addr::new(127, a.clamp(1, 254), b, c.clamp(1, 254))
}

/// Puts `own` in the place of the examples' address, at every depth.
fn move_to(value: &mut Value, own: &str) {
    match value {
        Value::String(text) => *text = text.replace("127.0.0.1", own),
        Value::Array(list) => list.iter_mut().for_each(|value| move_to(value, own)),
        Value::Object(members) => members.values_mut().for_each(|value| move_to(value, own)),
        _ => {}
    }
}

/// A file for a key with these bytes, for its owner alone; one that is there stays.
pub fn key_file(path: &Path, key: &[u8]) {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(mut file) => file.write_all(key).expect("written"),
        Err(why) => assert!(path.is_file(), "{why}"),
    }
}

/// Methods of replicated pools need stores, or other hosts: `tests/replication.rs`, `tests/pool_methods.rs` and `bdev-brmr/tests` call them. Those of
/// remote NVMe controllers need one: `tests/nvme.rs`. Load needs a target that lets it in: `tests/demo.rs`.
pub fn needs_more(name: &str) -> bool {
    let legs = ["add_leg", "remove_leg", "replace_leg", "discard_leg", "set_leg_maintenance"];
    let whole = ["enable_pool", "verify_pool", "stop_verify", "get_verify"];
    let stores = ["set_sync_limit", "get_server_pools", "get_store_metadata"];
    let of_pools = legs.iter().chain(&whole).chain(&stores).any(|verb| name == format!("rmr_{verb}"));
    let families = ["brmr_", "bdev_brmr_", "bdev_nvme_"];
    families.iter().any(|family| name.starts_with(family)) || of_pools || name == "rmr_run_load"
}

/// The methods, in the order in which their examples can be called on a target that was started with --wait-for-rpc:
/// options, the step to run time, what makes things, what changes them, what looks at
/// them, what removes them, and last what ends it all.
pub fn in_order(schema: &Schema) -> Vec<&Method> {
    let mut methods: Vec<&Method> = schema.methods.iter().collect();
    methods.sort_by_key(|method| rank(method));
    methods
}

fn rank(method: &Method) -> u8 {
    match (method.name.as_str(), method.phase.as_str()) {
        ("framework_start_init", _) => 1,
        ("framework_wait_init", _) => 2,
        ("spdk_kill_instance", _) => 9,
        (_, "startup") => 0,
        // Adds fields to what others answer, whose examples do without.
        ("bdev_set_qd_sampling_period", _) => 6,
        (name, _) if is_one_of(name, &["create", "add"]) => 3,
        (name, _) if is_one_of(name, &["enable", "set"]) => 4,
        // Before the bdevs that they use.
        (name, _) if name.starts_with("nvmf_") && is_one_of(name, &["delete", "remove"]) => 7,
        (name, _) if is_one_of(name, &["delete", "remove", "disable", "clear"]) => 8,
        _ => 5,
    }
}

/// Is one of the name's words one of `verbs`?
fn is_one_of(name: &str, verbs: &[&str]) -> bool {
    name.split('_').any(|word| verbs.contains(&word))
}
