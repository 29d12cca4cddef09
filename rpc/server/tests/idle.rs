//! Idle connections cost nothing, nor do clients that hung up. Alone in its file: it looks at the threads of the whole process.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{BOUND, Rig};
use rpc_server::CONNECTIONS_MAX;
use std::path::Path;
use std::time::Instant;

const PING: &str = r#"{"id":1,"method":"ping"}"#;

/// In handlers, their clients gone.
const LEFT_BEHIND: usize = 8;
/// One per connection, and the one that accepts.
const THREADS: usize = CONNECTIONS_MAX + LEFT_BEHIND + 1;

/// Id, and a sum of context switches and time on the CPU, of each of the server's threads.
fn threads() -> Vec<(String, u64)> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let switches = |status: &str| {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum::<u64>()
    };
    // Nanoseconds; an empty file where the kernel does not count them.
    let time = |text: &str| text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks").filter_map(Result::ok);
    let ours = tasks.filter(|task| matches!(read(&task.path().join("comm")).trim(), "rpc" | "rpc-accept"));
    ours.map(|task| {
        let [status, schedstat] = ["status", "schedstat"].map(|file| read(&task.path().join(file)));
        (task.file_name().to_string_lossy().into_owned(), switches(&status) + time(&schedstat))
    })
    .collect()
}

#[test]
fn threads_of_idle_connections_never_run() {
    let rig = Rig::new();
    let gone: Vec<_> = (0..LEFT_BEHIND).map(|_| rig.client()).collect();
    gone.iter().for_each(|client| client.send(r#"{"id":1,"method":"wait"}"#));
    rig.gate.wait_inside(LEFT_BEHIND);
    drop(gone);
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
        if before.len() == THREADS && asleep == THREADS - 1 {
            return rig.gate.open();
        }
        assert!(Instant::now() < end, "{asleep} of {} threads stayed asleep", before.len());
    }
}
