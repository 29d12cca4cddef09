//! A configuration saved by SPDK's client, loaded again in both ways, and saved again: the same text.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use test_e2e::calls::key_file;
use test_e2e::places::venv;
use test_e2e::spdk::{printed, spdk_rpc};
use test_e2e::target::Target;

/// What `spdk-rpc` prints; it must succeed.
fn rpc(target: &Target, line: &str) -> String {
    let args: Vec<&str> = line.split(' ').collect();
    printed(spdk_rpc(&target.socket(), &args).expect("the environment was there before"))
}

/// A target with options, bdevs and log settings made by SPDK's client, saved to a file. None without the client.
fn saved(dir: &Path) -> Option<(PathBuf, String)> {
    venv()?;
    let mut target = Target::start(&["--wait-for-rpc"])?;
    drop(target.client());
    for line in [
        "bdev_set_options -p 4096 -c 64",
        "iobuf_set_options --small-pool-count 4096 --large-pool-count 512",
        "framework_start_init",
        "bdev_malloc_create 8 512 -b Malloc0 -u 11111111-2222-4333-8444-555555555555",
        "bdev_null_create Null0 64 4096",
        "bdev_malloc_create 4 4096",
        "bdev_null_resize Null0 128",
        "bdev_split_create Malloc0 2",
        "bdev_passthru_create -b Malloc0p0 -p Passthru0",
        "bdev_delay_create -b Passthru0 -d Delay0 -r 1 -t 2 -w 3 -n 4",
        "bdev_error_create Null0 --uuid 22222222-2222-4333-8444-555555555555",
        "bdev_passthru_create -b not_there_yet -p Passthru1",
    ] {
        rpc(&target, line);
    }
    let key = dir.join("key");
    key_file(&key, b"a key that two targets have");
    rpc(&target, &format!("keyring_file_add_key key1 {}", key.display()));
    rpc(&target, &format!("keyring_file_add_key key0 {}", key.display()));
    let file = dir.join("disk");
    fs::File::create(&file).and_then(|file| file.set_len(1 << 20)).expect("a file");
    rpc(&target, &format!("bdev_uring_create {} Uring0", file.display()));
    let file = dir.join("other disk");
    fs::File::create(&file).and_then(|file| file.set_len(1 << 20)).expect("a file");
    let file = file.to_str().expect("a path");
    target.call(
        "bdev_aio_create",
        json!({"name": "Aio0", "filename": file, "block_size": 4096, "readonly": true}),
    );
    let text = rpc(&target, "save_config");
    let file = dir.join("saved.json");
    fs::write(&file, &text).expect("a file");
    assert!(target.stop().success());
    Some((file, text))
}

#[test]
fn save_restart_load_save_gives_the_same_text() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some((file, text)) = saved(dir.path()) else { return };
    for name in [
        "Malloc0",
        "Malloc1",
        "Null0",
        "11111111-2222-4333-8444-555555555555",
        "4096",
        "Passthru0",
        "Delay0",
        "Uring0",
        "Aio0",
        "22222222-2222-4333-8444-555555555555",
        "not_there_yet",
        "split_count",
        "key0",
        "key1",
    ] {
        assert!(text.contains(name), "{name} is not saved: {text}");
    }
    let Some(mut target) = Target::start(&["--wait-for-rpc"]) else { return };
    drop(target.client());
    let told = rpc(&target, &format!("load_config -j {}", file.display()));
    assert_eq!(told, "", "load_config had nothing to complain about");
    assert_eq!(rpc(&target, "save_config"), text);
    let bdevs: Value = serde_json::from_str(&rpc(&target, "bdev_get_bdevs")).expect("JSON");
    let sizes: Vec<_> =
        bdevs.as_array().expect("a list").iter().map(|bdev| (&bdev["name"], &bdev["num_blocks"])).collect();
    for expect in [
        (&json!("Malloc0"), &json!(16384)),
        (&json!("Null0"), &json!(32768)),
        (&json!("Malloc1"), &json!(1024)),
        (&json!("Malloc0p1"), &json!(8192)),
        (&json!("Delay0"), &json!(8192)),
        (&json!("EE_Null0"), &json!(32768)),
        (&json!("Aio0"), &json!(256)),
    ] {
        assert!(sizes.contains(&expect), "{expect:?} in {sizes:?}");
    }
    assert!(target.stop().success());
}

#[test]
fn the_saved_text_is_a_startup_configuration_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some((file, text)) = saved(dir.path()) else { return };
    let Some(mut target) = Target::start(&["-c", file.to_str().expect("a path")]) else { return };
    target.wait_ready();
    assert_eq!(rpc(&target, "save_config"), text);
    assert!(target.stop().success());
}
