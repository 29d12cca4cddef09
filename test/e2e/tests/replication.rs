//! The main job by RPC alone: two storage nodes and a compute node as processes; one is killed, comes back, and is let in.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_e2e::PATIENCE;
use test_e2e::calls::loopback_of;
use test_e2e::target::Target;

const POOL: &str = "4e0c3f0a-9f0e-4c73-8f5b-9a5a7c1f0b11";

/// A storage node with a file for a disk; `new`: its store is made, else it is opened again.
fn node(disk: &Path, at: Ipv4Addr, member: u8, new: bool) -> Option<Target> {
    // As if it were started where it was before.
    let host = format!("00000000-0000-4000-8000-00000000000{member}");
    let mut node = Target::start(&["--host-id", &host])?;
    node.wait_ready();
    node.call("bdev_uring_create", json!({"filename": disk, "name": "Disk", "block_size": 4096}));
    node.call("rtrs_add_listener", json!({"trtype": "TCP", "traddr": at.to_string(), "trsvcid": "4431"}));
    if new {
        let params = json!({"pool": POOL, "bdev": "Disk", "member_id": member, "mapped_size": 64 << 20});
        node.call("brmr_create_store", params);
    } else {
        node.call("brmr_add_store", json!({"pool": POOL, "bdev": "Disk"}));
    }
    Some(node)
}

fn device(compute: &mut Target) -> Value {
    compute.call("bdev_brmr_get_devices", json!({"name": "Brmr0"}))[0].clone()
}

fn wait_device(compute: &mut Target, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let device = device(compute);
        if condition(&device) {
            return device;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}: {device:#}\n{}", compute.log());
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_pool_outlives_the_death_of_a_node_and_lets_it_in_again() {
    let folder = TempDir::new().expect("a folder");
    let disks = [0, 1].map(|member| {
        let disk = folder.path().join(format!("disk{member}"));
        File::create(&disk).and_then(|file| file.set_len(128 << 20)).expect("room for a sparse file");
        disk
    });
    let [_, b, c, d] = loopback_of(folder.path()).octets();
    let ways = [Ipv4Addr::new(127, b, c, d), Ipv4Addr::new(127, b, c, d ^ 1)];
    let Some(first) = node(&disks[0], ways[0], 0, true) else { return };
    let Some(second) = node(&disks[1], ways[1], 1, true) else { return };
    let Some(mut compute) = Target::start(&[]) else { return };
    compute.wait_ready();
    let member = |id: usize| json!({"member_id": id, "paths": [format!("ip:{}:4431", ways[id])]});
    let made = json!({"name": "Brmr0", "pool": POOL, "members": [member(0), member(1)]});
    assert_eq!(compute.call("bdev_brmr_create", made), json!("Brmr0"));
    // In the set at once; up to date when the new store has copied what it lacks.
    let made = device(&mut compute);
    assert_eq!((&made["state"], &made["in_set"]), (&json!("active"), &json!([0, 1])), "{made:#}");
    let whole =
        wait_device(&mut compute, "both hold everything", |device| device["up_to_date"] == json!([0, 1]));
    assert_eq!(
        (&whole["degraded"], &whole["legs"][1]["chunks_to_copy"]),
        (&json!(false), &json!(0)),
        "{whole:#}"
    );
    assert_eq!(whole["num_blocks"], json!((64 << 20) / 4096));

    let killed = Command::new("kill").args(["-9", &second.pid().to_string()]).status();
    assert!(killed.expect("there is a kill").success());
    drop(second);
    let degraded = wait_device(&mut compute, "one leg is lost", |device| device["up_to_date"] == json!([0]));
    assert_eq!((&degraded["state"], &degraded["degraded"]), (&json!("active"), &json!(true)), "{degraded:#}");
    let why = degraded["legs"][1]["why"].as_str().expect("it says why");
    assert!(why.contains("no path is up"), "{why}");

    let Some(second) = node(&disks[1], ways[1], 1, false) else { return };
    wait_device(&mut compute, "it is let in", |device| device["up_to_date"] == json!([0, 1]));
    assert_eq!(compute.call("bdev_brmr_delete", json!({"name": "Brmr0"})), json!(true));
    for target in [first, second, compute] {
        assert!(target.stop().success());
    }
}
