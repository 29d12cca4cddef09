//! The target as a process: how soon it answers, what it holds at rest, what it costs while idle, how soon another
//! client is answered.
//!
//! `cargo build --release -p rmr_tgt && cargo bench -p rmr-perf --bench process [-- --quick]`

mod common;

use rmr_rpc::Client;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A target that is killed when dropped.
struct Target {
    child: Child,
    socket: PathBuf,
    started: Instant,
}

impl Target {
    fn start(folder: &Path, options: &[&str]) -> Target {
        let socket = folder.join("rpc.sock");
        let binary = concat!(env!("CARGO_MANIFEST_DIR"), "/../.build/release/rmr_tgt");
        let started = Instant::now();
        let mut command = Command::new(binary);
        command.arg("-r").arg(&socket).args(options).arg("--silence-noticelog");
        let child = command.stderr(std::process::Stdio::null()).spawn();
        Target { child: child.expect("build it first: cargo build --release -p rmr_tgt"), socket, started }
    }

    /// Waits for the first answer.
    fn client(&self) -> (Client, Duration) {
        loop {
            if let Ok(mut client) = Client::connect(&self.socket, Duration::from_secs(5))
                && client.call("spdk_get_version", None).is_ok()
            {
                return (client, self.started.elapsed());
            }
            assert!(self.started.elapsed() < Duration::from_secs(10), "the target does not answer");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }

    /// A line of `status`, in KiB.
    fn status_kib(&self, name: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Processor time so far, all threads, in clock ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn main() {
    common::print_setting();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (starts, idle) = if common::quick() { (5, 2) } else { (20, 10) };
    for options in [&[][..], &["--no-huge"], &["-m", "0x3"]] {
        let first = |_| Target::start(folder.path(), options).client().1;
        let times: Vec<Duration> = (0..starts).map(first).collect();
        let max = times.iter().max().copied().unwrap_or_default();
        println!(
            "rmr_tgt {options:?}: first answer after exec: median {:.1?}, longest {max:.1?}, of {starts}",
            median(times)
        );
        let target = Target::start(folder.path(), options);
        let (mut client, _) = target.client();
        let before = target.ticks();
        std::thread::sleep(Duration::from_secs(idle));
        let ticks = target.ticks() - before;
        println!(
            "    at rest: VmRSS {:.1} MiB, hugepages {} MiB; idle {idle} s: {} ms of processor time",
            target.status_kib("VmRSS:") as f64 / 1024.0,
            target.status_kib("HugetlbPages:") / 1024,
            ticks * 10,
        );
        let call = |_| {
            let began = Instant::now();
            client.call("spdk_get_version", None).expect("it answers");
            began.elapsed()
        };
        let mut calls: Vec<Duration> = (0..2000).map(call).collect();
        calls.sort();
        println!("    a call: median {:.1?}, p99 {:.1?}", calls[1000], calls[1980]);
    }
}
