//! SPDK's commands on a live target: `spdk-cli`, `spdk-rpc` in its modes, and our plugin for it.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use test_e2e::places::venv;
use test_e2e::spdk::{printed, spdk_cli, spdk_rpc};
use test_e2e::target::Target;

/// A target with one bdev of each kind. None without SPDK's client.
fn target() -> Option<Target> {
    venv()?;
    let mut target = Target::start(&[])?;
    target.wait_ready();
    target.call("bdev_null_create", json!({"name": "Null0", "num_blocks": 131_072, "block_size": 512}));
    target.call("bdev_malloc_create", json!({"name": "Malloc0", "num_blocks": 2048, "block_size": 4096}));
    Some(target)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

#[test]
fn spdk_cli_shows_the_bdev_tree() {
    let Some(target) = target() else { return };
    let tree = printed(spdk_cli(&target.socket(), &["ls", "/bdevs"]).expect("spdk-cli"));
    let branch = |name: &str| {
        let below = tree.lines().skip_while(move |line| !line.contains(&format!("o- {name} "))).skip(1);
        below.take_while(|line| line.starts_with("  |")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (null, malloc) = (branch("null"), branch("malloc"));
    assert!(null.len() == 1 && null[0].contains("Null0") && null[0].contains("Size=64.0M"), "{tree}");
    assert!(malloc.len() == 1 && malloc[0].contains("Malloc0") && malloc[0].contains("Size=8.0M"), "{tree}");
}

#[test]
fn spdk_rpc_shows_a_refusal_with_its_detail() {
    let Some(target) = target() else { return };
    let output = spdk_rpc(&target.socket(), &["bdev_null_delete", "Null1"]).expect("spdk-rpc");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("No such device") && text.contains("\"accepted\": \"Null0"), "{text}");
}

#[test]
fn the_plugin_brings_our_methods_to_spdk_rpc() {
    let Some(target) = target() else { return };
    let rpc = |method: &str| {
        json(&printed(spdk_rpc(&target.socket(), &["--plugin", "rmr_rpc", method]).expect("spdk-rpc")))
    };
    assert_eq!(rpc("rmr_get_version"), json!({"version": env!("CARGO_PKG_VERSION")}));
    let memory = rpc("rmr_get_memory");
    assert!(
        memory["mapped_bytes"].as_u64().is_some_and(|bytes| bytes >= 8 << 20),
        "8 MiB of malloc bdev: {memory}"
    );
    assert!(rpc("rmr_get_schema")["methods"].is_array());
    let help = printed(
        spdk_rpc(&target.socket(), &["--plugin", "rmr_rpc", "rmr_get_memory", "--help"]).expect("help"),
    );
    assert!(help.contains("Show the memory"), "{help}");
}
