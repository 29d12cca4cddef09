//! Anything that can die does, at random, under checked load: for twenty seconds, or `RMR_HAMMER_SECONDS=n`.
//!
//! Three storage nodes with files for disks, and a load generator that has the replicated device in its own process and
//! notes in a file what each block may hold. Nodes are killed and paused, alone and together; so is the load. Whatever
//! happens, every block holds what it may hold: each start of the load reads everything back, and at the end each leg is
//! read alone.

#![allow(clippy::expect_used, missing_docs)]

use rmr_rpc::Client;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_e2e::cluster::Cluster;
use test_e2e::{PATIENCE, places};

const BYTES: u64 = 16 << 20;
const LOOK: Duration = Duration::from_millis(5);

fn seconds() -> u64 {
    std::env::var("RMR_HAMMER_SECONDS").map_or(20, |text| text.parse().expect("RMR_HAMMER_SECONDS: a number"))
}

fn seed() -> u64 {
    std::env::var("RMR_HAMMER_SEED")
        .map_or_else(|_| fastrand::u64(0..1 << 32), |text| text.parse().expect("RMR_HAMMER_SEED: a number"))
}

/// What has been done to the pool.
#[derive(Default, Debug)]
struct Counts {
    nodes_killed: u32,
    nodes_paused: u32,
    loads_killed: u32,
    everything_killed: u32,
    loads_ended: u32,
    ios: u64,
}

/// The load generator, killed when dropped.
struct Load {
    child: Child,
    number: u32,
}

struct Hammer {
    cluster: Cluster,
    program: PathBuf,
    random: fastrand::Rng,
    load: Option<Load>,
    loads: u32,
    counts: Counts,
}

impl Hammer {
    fn start(seed: u64) -> Option<Self> {
        let program = places::rmr_perf()?;
        let cluster = Cluster::start(3, BYTES)?;
        let create = json!({"method": "bdev_brmr_create", "params": cluster.device("R")});
        let config = json!({"subsystems": [{"subsystem": "bdev", "config": [create]}]});
        fs::write(cluster.folder().join("load.json"), config.to_string()).expect("a file");
        let random = fastrand::Rng::with_seed(seed);
        Some(Self { cluster, program, random, load: None, loads: 0, counts: Counts::default() })
    }

    fn socket(&self) -> PathBuf {
        self.cluster.folder().join(format!("load{}.sock", self.loads))
    }

    fn output(&self, number: u32, what: &str) -> PathBuf {
        self.cluster.folder().join(format!("load{number}.{what}"))
    }

    /// Starts the load: `reads` per cent of it, for so long.
    fn load(&mut self, reads: u32, seconds: u64) {
        self.loads += 1;
        let mut command = Command::new(&self.program);
        command.args(["bdev", "--disable-cpumask-locks", "-w", "verify", "-q", "16", "-o", "4096", "--json"]);
        command.args(["-M", &reads.to_string(), "-t", &seconds.to_string()]);
        command.arg("-c").arg(self.cluster.folder().join("load.json"));
        command.arg("--state").arg(self.cluster.folder().join("state"));
        command.arg("-r").arg(self.socket()).stdin(Stdio::null());
        let file = |what| File::create(self.output(self.loads, what)).expect("a file");
        command.stdout(file("json")).stderr(file("log"));
        let child = command.spawn().expect("the load generator");
        self.load = Some(Load { child, number: self.loads });
    }

    fn kill_load(&mut self) {
        if let Some(mut load) = self.load.take() {
            load.child.kill().expect("our child");
            load.child.wait().expect("our child");
        }
    }

    /// Has the load ended? Then it must have ended well.
    fn check_load(&mut self) {
        let Some(load) = &mut self.load else { return };
        let Some(status) = load.child.try_wait().expect("our child") else { return };
        let number = load.number;
        self.load = None;
        self.ended(number, status);
    }

    fn ended(&mut self, number: u32, status: ExitStatus) {
        let said = fs::read_to_string(self.output(number, "json")).expect("its output");
        let log = fs::read_to_string(self.output(number, "log")).expect("its log");
        let logs = self.cluster.logs();
        let counts = &self.counts;
        assert!(
            status.success(),
            "load {number} ended with {status} after {counts:?}\n{said}\n{log}\n{logs}"
        );
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let total = &said["total"];
        assert_eq!(total["errors"], json!(0), "{said:#}");
        self.counts.ios += total["ios"].as_u64().expect("a number");
        self.counts.loads_ended += 1;
    }

    fn wait_load(&mut self) {
        let begun = Instant::now();
        while self.load.is_some() {
            self.check_load();
            assert!(begun.elapsed() < 2 * PATIENCE, "the load does not end: {}", self.cluster.logs());
            sleep(LOOK);
        }
    }

    fn pause(&mut self, at_most_ms: u64) {
        let until = Instant::now() + Duration::from_millis(self.random.u64(0..at_most_ms));
        while Instant::now() < until {
            self.check_load();
            sleep(LOOK);
        }
    }

    fn any_node(&mut self) -> usize {
        self.random.usize(0..self.cluster.len())
    }

    /// Breaks one thing, or several.
    fn strike(&mut self) {
        match self.random.u32(0..10) {
            0..=3 => {
                let no = self.any_node();
                self.cluster.kill(no);
                self.counts.nodes_killed += 1;
            }
            4 => {
                for _ in 0..2 {
                    let no = self.any_node();
                    self.cluster.kill(no);
                    self.counts.nodes_killed += 1;
                    self.pause(200);
                }
            }
            5..=6 => {
                let no = self.any_node();
                self.cluster.pause(no);
                self.counts.nodes_paused += 1;
            }
            7..=8 => {
                self.kill_load();
                self.counts.loads_killed += 1;
            }
            _ => {
                self.kill_load();
                (0..self.cluster.len()).for_each(|no| self.cluster.kill(no));
                self.counts.everything_killed += 1;
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            if self.load.is_none() {
                self.load(50, seconds);
            }
            self.pause(1500);
            self.strike();
            self.pause(1000);
            // Now and then the next blow falls before the last one is mended.
            if self.random.u32(0..4) > 0 {
                self.cluster.mend();
            }
        }
        self.cluster.mend();
        self.kill_load();
    }

    /// The load's own view of the device, as soon as it has one.
    fn device(&self) -> Option<Value> {
        let mut client = Client::connect(&self.socket(), PATIENCE).ok()?;
        let list = client.call("bdev_brmr_get_devices", None).ok()?;
        list.get(0).cloned()
    }

    fn wait_whole(&mut self) {
        let (begun, all) = (Instant::now(), (0..self.cluster.len()).collect::<Vec<_>>());
        loop {
            let device = self.device();
            if device.as_ref().is_some_and(|device| device["up_to_date"] == json!(all)) {
                return;
            }
            assert!(
                begun.elapsed() < 2 * PATIENCE,
                "not all legs come back after {:?}: {device:#?}\n{}",
                self.counts,
                self.cluster.logs()
            );
            sleep(LOOK);
        }
    }

    /// Reads everything back from one leg, all others being dead.
    fn read_from(&mut self, leg: usize) {
        self.load(100, 3600);
        self.wait_whole();
        (0..self.cluster.len()).filter(|no| *no != leg).for_each(|no| self.cluster.kill(no));
        let load = self.load.as_ref().expect("it runs");
        let pid = rustix::process::Pid::from_child(&load.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our child");
        self.wait_load();
        self.cluster.mend();
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        if let Some(load) = &mut self.load {
            // It may have ended already.
            let _ended = load.child.kill();
            let _status = load.child.wait();
        }
    }
}

#[test]
fn whatever_dies_no_acknowledged_write_is_lost_and_all_legs_are_alike() {
    let seed = seed();
    let Some(mut hammer) = Hammer::start(seed) else { return };
    places::tell(&format!("hammer: RMR_HAMMER_SEED={seed}"));
    hammer.run(seconds());
    for leg in 0..hammer.cluster.len() {
        hammer.read_from(leg);
    }
    places::tell(&format!("hammer: {:?}", hammer.counts));
}
