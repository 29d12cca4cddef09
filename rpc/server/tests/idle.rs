//! Idle connections cost nothing. Alone in its file: it looks at the threads of the whole process.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{BOUND, Rig};
use rpc_server::CONNECTIONS_MAX;
use std::path::Path;
use std::time::Instant;

const PING: &str = r#"{"id":1,"method":"ping"}"#;

/// Id and context switches of each connection's thread.
fn threads() -> Vec<(String, u64)> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let switches = |status: &str| {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
    };
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks").filter_map(Result::ok);
    let ours = tasks.filter(|task| read(&task.path().join("comm")).trim() == "rpc");
    ours.map(|task| {
        (task.file_name().to_string_lossy().into_owned(), switches(&read(&task.path().join("status"))))
    })
    .collect()
}

#[test]
fn threads_of_idle_connections_never_run() {
    let rig = Rig::new();
    let mut busy = rig.client();
    let idle: Vec<_> = (1..CONNECTIONS_MAX).map(|_| rig.client()).collect();
    for client in &idle {
        client.send("[");
    }
    let end = Instant::now() + BOUND;
    loop {
        let before = threads();
        // Long enough for any timer of a few milliseconds to show.
        for _ in 0..2000 {
            assert_eq!(busy.call(PING)["result"], true);
        }
        let after = threads();
        let asleep = before.iter().filter(|thread| after.contains(thread)).count();
        if before.len() == CONNECTIONS_MAX && asleep == CONNECTIONS_MAX - 1 {
            return;
        }
        assert!(Instant::now() < end, "{asleep} of {} threads stayed asleep", before.len());
    }
}
