//! What idle sessions cost: `cargo test --release -p tgt-rtrs --test idle -- --ignored --nocapture`.

#[path = "common/mod.rs"]
mod common;

use common::process::{self, Process};
use common::{figure, loopback, now_ns, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

const SESSIONS: usize = 1000;
const SECONDS: u64 = 20;

/// Bytes of memory that a process has of its own.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Nanoseconds of processor time that the threads of a process have used.
fn used_ns(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let used = tasks.flatten().map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).expect("scheduler statistics");
        stat.split(' ').next().and_then(|used| used.parse::<u64>().ok()).expect("a number")
    });
    used.sum()
}

#[test]
#[ignore = "takes half a minute and prints figures: run it alone, in a release build"]
fn a_thousand_idle_sessions() {
    // Children have the same limit.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
    for paths in [1, 2] {
        let mut server = Process::start(process::server(loopback(), None));
        let to = vec![server.address(); paths];
        let mut client = Process::start(process::client(&to, SESSIONS));
        assert_eq!(client.hear(), "starts");
        let ids = [server.id(), client.id()];
        let before = ids.map(resident);
        assert_eq!(client.ask(), "up");
        wait_until("all paths are up", || server.ask() == format!("({SESSIONS}, {}, 0)", SESSIONS * paths));
        let (began, used) = (now_ns(), ids.map(used_ns));
        // Without taking part: a wait that looks again and again would take the cores from what is measured.
        while now_ns() - began < SECONDS * 1_000_000_000 {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        let took = (now_ns() - began) as f64;
        for (at, name) in ["server", "client"].into_iter().enumerate() {
            let kib = (resident(ids[at]) - before[at]) as f64 / 1024.0 / SESSIONS as f64;
            let share = (used_ns(ids[at]) - used[at]) as f64 * 100.0 / took;
            figure(&format!(
                "{SESSIONS} idle sessions, {paths} paths each, {name}: {kib:.1} KiB a session, {share:.2} % of a core"
            ));
        }
        assert_eq!(server.ask(), format!("({SESSIONS}, {}, 0)", SESSIONS * paths), "all are still up");
    }
}
