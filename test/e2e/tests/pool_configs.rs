//! The configurations of `config/pool/`, as real processes: everybody is killed under load, started again from the same files in
//! the worst order, and what was acknowledged is there.

#![allow(clippy::expect_used, missing_docs)]

use rmr_rpc::Client;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_e2e::PATIENCE;
use test_e2e::calls::{key_file, loopback_of};
use test_e2e::places::root;
use test_e2e::target::Target;

const BLOCKS: u64 = (32 << 20) / 4096;
const LOOK: Duration = Duration::from_millis(5);

/// The files of `config/pool/`, with a file for each disk, loopback for the network, and a key of the test's own.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Files {
        let dir = TempDir::new().expect("a folder");
        key_file(&dir.path().join("pool0"), b"a key that four processes have");
        for member in 0..3 {
            let disk = dir.path().join(format!("disk{member}"));
            File::create(&disk).and_then(|file| file.set_len(64 << 20)).expect("a sparse file");
        }
        let files = Files { dir };
        for name in ["storage-0", "storage-1", "storage-2", "compute"] {
            let text = fs::read_to_string(root().join("config/pool").join(format!("{name}.json")));
            fs::write(files.path(&format!("{name}.json")), files.filled_in(name, text.expect("it is there")))
                .expect("a file");
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What stands for somebody's hosts and disks is this test's. Every word that is looked for has to be there.
    fn filled_in(&self, name: &str, mut text: String) -> String {
        let mut put = |word: &str, ours: &str| {
            assert!(text.contains(word), "config/pool/{name}.json has no {word}");
            text = text.replace(word, ours);
        };
        put("/etc/rmr_tgt/keys/pool0", &self.path("pool0").display().to_string());
        let [_, b, c, d] = loopback_of(self.dir.path()).octets();
        let address = |member: usize| format!("127.{b}.{c}.{}:9400", (usize::from(d) + member) % 254 + 1);
        if let Some(member) = name.strip_prefix("storage-") {
            let own = address(member.parse().expect("a number"));
            put(&format!("\"192.0.2.1{member}\""), &format!("\"{}\"", own.trim_end_matches(":9400")));
            let disk = self.path(&format!("disk{member}"));
            put(&format!("/dev/disk/by-id/nvme-EXAMPLE_DISK_{member}"), &disk.display().to_string());
        } else {
            (0..3).for_each(|member| put(&format!("192.0.2.1{member}:9400"), &address(member)));
            put("\"num_blocks\": 268435456", &format!("\"num_blocks\": {BLOCKS}"));
        }
        text
    }

    /// Starts a process from its file; whether it is ready shows later.
    fn start(&self, name: &str, more: &[&str]) -> Option<Target> {
        let file = self.path(&format!("{name}.json"));
        // A host keeps its name.
        let host = match name.strip_prefix("storage-") {
            Some(member) => format!("00000000-0000-4000-8000-00000000001{member}"),
            None => "00000000-0000-4000-8000-000000000020".to_owned(),
        };
        let file = file.to_str().expect("a path");
        Target::start(&[&["-c", file, "--host-id", &host], more].concat())
    }

    /// The command that a storage node's file gives for its first start.
    fn create(&self, member: usize) -> Value {
        let text = fs::read_to_string(self.path(&format!("storage-{member}.json"))).expect("text");
        let line = text.lines().find(|line| line.contains("brmr_create_store")).expect("it says how");
        let word = |option: &str| {
            let rest = line.split(option).nth(1).unwrap_or_else(|| panic!("no {option} in {line}"));
            rest.split_whitespace().next().expect("a value").to_owned()
        };
        assert_eq!(word("--mapped-size"), (1_u64 << 40).to_string(), "as compute.json has it");
        json!({
            "pool": word("--pool"),
            "bdev": word("--bdev"),
            "member_id": word("--member-id").parse::<u64>().expect("a number"),
            "mapped_size": BLOCKS * 4096,
        })
    }
}

fn kill(target: &Target) {
    let killed = Command::new("kill").args(["-9", &target.pid().to_string()]).status();
    assert!(killed.expect("there is a kill").success());
}

fn load(state: &Path, requests: u64) -> Value {
    json!({"name": "Brmr0", "overwrite": true, "requests": requests, "state": state, "limit_s": 60})
}

/// Starts all four, the compute node first, and waits until the device serves with all of its copies.
fn start_all(files: &Files) -> Option<(Vec<Target>, Target)> {
    let mut compute = files.start("compute", &["--allow-load"])?;
    compute.wait_ready();
    let mut nodes = Vec::new();
    for member in 0..3 {
        nodes.push(files.start(&format!("storage-{member}"), &[])?);
    }
    for node in &mut nodes {
        node.wait_ready();
    }
    let begun = Instant::now();
    loop {
        let device = compute.call("bdev_brmr_get_devices", json!({"name": "Brmr0"}))[0].clone();
        if device["state"] == json!("active") && device["up_to_date"] == json!([0, 1, 2]) {
            return Some((nodes, compute));
        }
        assert!(begun.elapsed() < PATIENCE, "it is not whole: {device:#}\n{}", compute.log());
        sleep(LOOK);
    }
}

#[test]
fn a_pool_of_the_example_files_keeps_what_was_acknowledged_when_all_are_killed() {
    let files = Files::new();
    for member in 0..3 {
        let Some(mut node) = files.start(&format!("storage-{member}"), &["--json-ignore-init-errors"]) else {
            return;
        };
        node.wait_ready();
        assert!(
            node.log().contains("brmr_add_store"),
            "the first start says what is missing: {}",
            node.log()
        );
        assert_eq!(node.call("brmr_create_store", files.create(member)), json!(true));
        assert!(node.stop().success());
    }
    let state = files.path("load.state");
    let Some((nodes, mut compute)) = start_all(&files) else { return };
    compute.call("rmr_run_load", load(&state, 300));
    // So many that it is under way when all are killed.
    let (socket, much) = (compute.socket(), load(&state, 10_000_000));
    let noted = || fs::metadata(&state).expect("the state file").len();
    let before = noted();
    let loading = spawn(move || {
        Client::connect(&socket, 4 * PATIENCE).and_then(|mut to| to.call("rmr_run_load", Some(&much)))
    });
    let begun = Instant::now();
    while noted() < before + 500 * 24 {
        assert!(begun.elapsed() < PATIENCE, "no load:\n{}", compute.log());
        sleep(LOOK);
    }
    nodes.iter().chain([&compute]).for_each(kill);
    assert!(loading.join().expect("no panic").is_err(), "it was cut off");
    drop((nodes, compute));
    let Some((nodes, mut compute)) = start_all(&files) else { return };
    // Reads back first what was written before.
    compute.call("rmr_run_load", load(&state, 300));
    for target in nodes.into_iter().chain([compute]) {
        assert!(target.stop().success());
    }
}
