//! The target as a process: how fast it answers, and what a plain user gets of it.

#![allow(clippy::expect_used, missing_docs)]

use rmr_rpc::Client;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use test_e2e::places::{self, tell};
use test_e2e::raw::Raw;
use test_e2e::target::Target;

/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65534;
/// What a plain user may lock on Debian, in KiB.
const MEMLOCK_KIB: u32 = 8192;

/// Until the first answer after `started`.
fn first_answer(target: &mut Target, started: Instant) -> Duration {
    target.client().call("spdk_get_version", None).expect("an answer");
    started.elapsed()
}

/// A line `Name:  1234 kB` of the target's `/proc/…/status`, in KiB.
fn status_kib(target: &Target, name: &str) -> u64 {
    let path = format!("/proc/{}/status", target.pid());
    let status = fs::read_to_string(path).expect("a process");
    let line = status.lines().find(|line| line.starts_with(name)).expect(name);
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn the_first_call_is_answered_and_the_socket_is_private() {
    let mut times = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let Some(mut target) = Target::start(&[]) else { return };
        times.push(first_answer(&mut target, started));
        target.wait_ready();
        let mode = fs::metadata(target.socket()).expect("the socket").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(target.stop().success());
    }
    times.sort();
    tell(&format!(
        "first answer after exec, 5 starts: median {:.1} ms, worst {:.1} ms",
        ms(times[2]),
        ms(times[4])
    ));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A command that runs the target as a plain user who may lock what one may on Debian, with a directory of its own.
///
/// The binary is copied where that user can reach it.
fn as_plain_user(program: &Path) -> (Command, tempfile::TempDir) {
    let dir = tempfile::Builder::new().prefix("rmr-e2e-").tempdir().expect("a directory");
    let copy = dir.path().join("rmr_tgt");
    fs::copy(program, &copy).expect("a copy");
    let mut command = Command::new("sh");
    let script = format!("ulimit -l {MEMLOCK_KIB} && exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(copy);
    if rustix::process::geteuid().is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).expect("a directory for it");
        command.uid(NOBODY).gid(NOBODY);
    }
    (command, dir)
}

#[test]
fn a_plain_user_without_hugepages_gets_malloc_bdevs_and_is_told_what_is_lost() {
    let Some(program) = places::target() else { return };
    let (command, dir) = as_plain_user(&program);
    let started = Instant::now();
    let mut target = Target::run_in(command, dir, &["--no-huge"]);
    let first = first_answer(&mut target, started);
    target.wait_ready();
    let resident = status_kib(&target, "VmRSS");
    let limit = u64::from(MEMLOCK_KIB) * 1024;
    // The first fits into what may be locked, the second does not.
    for (name, bytes) in [("Malloc0", limit / 2), ("Malloc1", limit * 4)] {
        let create = json!({"name": name, "num_blocks": bytes / 4096, "block_size": 4096});
        assert_eq!(target.call("bdev_malloc_create", create), json!(name));
    }
    let memory = target.call("rmr_get_memory", json!({}));
    let sum = |member: &str| -> u64 {
        memory["pages"].as_array().expect("a list").iter().filter_map(|page| page[member].as_u64()).sum()
    };
    let locked = sum("locked_bytes");
    assert_eq!(memory["hugepage_bytes"], 0, "{memory}");
    assert!(sum("bdev_bytes") >= limit / 2 + limit * 4, "{memory}");
    assert!((limit / 2..=limit).contains(&locked), "the first, and no more than the limit: {memory}");
    let advice = memory["advice"].as_str().expect("advice");
    assert!(!advice.contains('\n') && target.log().contains(advice), "{advice}\n{}", target.log());
    tell(&format!(
        "as a plain user: first answer {:.1} ms after exec, {resident} KiB resident, {} KiB locked: {advice}",
        ms(first),
        locked >> 10
    ));
    assert_eq!(target.call("bdev_malloc_delete", json!({"name": "Malloc0"})), json!(true));
    assert!(target.stop().success());
}

#[test]
fn spdk_kill_instance_stops_it_in_order() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    let socket = target.socket();
    let mut client = Client::connect(&socket, test_e2e::PATIENCE).expect("a target");
    assert_eq!(
        client.call("spdk_kill_instance", Some(&json!({"sig_name": "SIGTERM"}))).expect("it"),
        json!(true)
    );
    assert!(target.wait_end().success(), "{}", target.log());
    assert!(!socket.exists() && !socket.with_extension("sock.lock").exists(), "nothing is left behind");
}

#[test]
fn a_connection_that_is_open_does_not_keep_it_from_stopping() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    let mut idle = Raw::connect(&target.socket());
    let mut half = Raw::connect(&target.socket());
    half.send(br#"{"id":1,"method":"#);
    assert!(target.stop().success());
    assert_eq!(idle.answer(), None);
}
