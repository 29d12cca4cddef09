//! Anything that can die does, at random, under checked load: for twenty seconds, or `RMR_HAMMER_SECONDS=n`.
//!
//! Three storage nodes with files for disks, and a load generator that has the replicated device in its own process.
//! Nodes are killed and paused, alone and together; so is the load. Whatever happens, every block holds what it may hold:
//! each start of the load reads everything back, and at the end each leg is read alone. `RMR_HAMMER_SEED=n` gives the same
//! blows again, though not at the same instants.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_e2e::load::Loads;
use test_e2e::pool::Nodes;
use test_e2e::{PATIENCE, places};

const BYTES: u64 = 16 << 20;
const LOOK: Duration = Duration::from_millis(5);

fn number(variable: &str, otherwise: impl Fn() -> u64) -> u64 {
    std::env::var(variable).map_or_else(|_| otherwise(), |text| text.parse().expect("a number"))
}

/// What has been done to the pool.
#[derive(Default, Debug)]
struct Counts {
    nodes_killed: u32,
    nodes_paused: u32,
    loads_killed: u32,
    everything_killed: u32,
    writes: u64,
}

struct Hammer {
    // Ends before the nodes do.
    loads: Loads,
    nodes: Nodes,
    random: fastrand::Rng,
    counts: Counts,
}

impl Hammer {
    fn start(seed: u64) -> Option<Self> {
        let nodes = Nodes::start(3, BYTES)?;
        let loads = Loads::new(nodes.folder(), &nodes.device_of(3))?;
        let random = fastrand::Rng::with_seed(seed);
        Some(Self { loads, nodes, random, counts: Counts::default() })
    }

    fn pause(&mut self, at_most_ms: u64) {
        let until = Instant::now() + Duration::from_millis(self.random.u64(0..at_most_ms));
        while Instant::now() < until {
            self.loads.ended();
            sleep(LOOK);
        }
    }

    fn kill_any(&mut self) {
        let no = self.random.usize(0..self.nodes.count());
        self.nodes.kill(no);
        self.counts.nodes_killed += 1;
    }

    /// Breaks one thing, or several.
    fn strike(&mut self) {
        match self.random.u32(0..10) {
            0..=3 => self.kill_any(),
            4 => {
                self.kill_any();
                self.pause(200);
                self.kill_any();
            }
            5..=6 => {
                let no = self.random.usize(0..self.nodes.count());
                self.nodes.pause(no);
                self.counts.nodes_paused += 1;
            }
            7..=8 => {
                self.loads.kill();
                self.counts.loads_killed += 1;
            }
            _ => {
                self.loads.kill();
                self.nodes.kill_all();
                self.counts.everything_killed += 1;
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            if !self.loads.runs() {
                self.loads.start(50, seconds);
            }
            self.pause(1500);
            self.strike();
            self.pause(1000);
            // Now and then the next blow falls before the last one is mended.
            if self.random.u32(0..4) > 0 {
                self.nodes.mend();
            }
        }
        self.nodes.mend();
        self.loads.kill();
        self.counts.writes = self.loads.writes();
    }

    /// Reads everything back from each leg alone, all others being dead.
    fn read_each(&mut self) {
        let all: Vec<usize> = (0..self.nodes.count()).collect();
        for leg in &all {
            self.loads.start(100, 3600);
            self.until("all legs are up to date", |hammer| {
                hammer.loads.device().is_some_and(|device| device["up_to_date"] == json!(all))
            });
            all.iter().filter(|no| *no != leg).for_each(|no| self.nodes.kill(*no));
            self.loads.interrupt();
            self.until("the load ends", |hammer| hammer.loads.ended().is_some());
            self.nodes.mend();
        }
    }

    fn until(&mut self, what: &str, condition: impl Fn(&mut Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(
                begun.elapsed() < 2 * PATIENCE,
                "waited in vain until {what}, after {:?}: {:#?}\n{}",
                self.counts,
                self.loads.device(),
                self.nodes.logs()
            );
            sleep(LOOK);
        }
    }
}

#[test]
fn whatever_dies_no_acknowledged_write_is_lost_and_all_legs_are_alike() {
    let seed = number("RMR_HAMMER_SEED", || fastrand::u64(0..1 << 32));
    let Some(mut hammer) = Hammer::start(seed) else { return };
    places::tell(&format!("hammer: RMR_HAMMER_SEED={seed}"));
    hammer.run(number("RMR_HAMMER_SECONDS", || 20));
    hammer.read_each();
    places::tell(&format!("hammer: {:?}", hammer.counts));
}
