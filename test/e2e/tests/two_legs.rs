//! What a mirror must not do when everything dies with a write half way: lose it after it was acknowledged, or answer reads
//! now with the old and now with the new block.
//!
//! Two legs. One fails its writes, or never ends them; the other is slow, or in order. Then all processes are killed and
//! started again, time and again under checked load; at the end each leg is read alone. Ten deaths of each kind, or
//! `RMR_DEATHS=n`.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::json;
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_e2e::load::Loads;
use test_e2e::pool::{Disks, Nodes};
use test_e2e::{PATIENCE, places};

const BYTES: u64 = 4 << 20;
const LOOK: Duration = Duration::from_millis(2);

struct Mirror {
    // Ends before the nodes do.
    loads: Loads,
    nodes: Nodes,
}

impl Mirror {
    fn start() -> Option<Self> {
        let nodes = Nodes::start_on(2, BYTES, Disks::Faulty)?;
        let loads = Loads::new(nodes.folder(), &nodes.device_of(2))?;
        Some(Self { loads, nodes })
    }

    fn until(&mut self, what: &str, condition: impl Fn(&mut Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(
                begun.elapsed() < 2 * PATIENCE,
                "waited in vain until {what}: {:#?}\n{}",
                self.loads.device(),
                self.nodes.logs()
            );
            sleep(LOOK);
        }
    }

    /// Load on two legs that hold everything.
    fn begin(&mut self, reads: u32) {
        self.loads.start(reads, 3600);
        self.until("both legs are up to date", |mirror| {
            mirror.loads.device().is_some_and(|device| device["up_to_date"] == json!([0, 1]))
        });
    }

    fn die(&mut self) {
        // It has not ended with an error before.
        assert_eq!(self.loads.ended(), None);
        self.loads.kill();
        self.nodes.kill_all();
        self.nodes.mend();
    }

    /// Reads everything back from each leg, the other being dead.
    fn read_each(&mut self) {
        for leg in [0, 1] {
            self.begin(100);
            self.nodes.kill(1 - leg);
            self.loads.interrupt();
            self.until("the load ends", |mirror| mirror.loads.ended().is_some());
            self.nodes.mend();
        }
    }
}

fn deaths() -> u64 {
    std::env::var("RMR_DEATHS").map_or(10, |text| text.parse().expect("RMR_DEATHS: a number"))
}

#[test]
fn what_only_the_slow_leg_acknowledged_is_there_after_everything_died() {
    let Some(mut mirror) = Mirror::start() else { return };
    for death in 0..deaths() {
        mirror.begin(50);
        let failing = death as usize % 2;
        mirror.nodes.slow(1 - failing, 3000);
        let before = mirror.loads.writes_now();
        mirror.nodes.inject(failing, "write", "failure", 1 << 20);
        mirror.until("writes are acknowledged", |mirror| mirror.loads.writes_now() > before + 64);
        mirror.die();
    }
    mirror.read_each();
    places::tell(&format!("{} deaths with a failing leg, {} writes", deaths(), mirror.loads.writes()));
}

#[test]
fn what_only_one_leg_has_and_nobody_acknowledged_is_either_there_or_not() {
    let Some(mut mirror) = Mirror::start() else { return };
    for death in 0..deaths() {
        mirror.begin(50);
        mirror.nodes.inject(death as usize % 2, "write", "pending", 1 << 20);
        // As long as the writes under way need on the other leg, and not until the one that hangs is given up.
        sleep(Duration::from_millis(10 + death % 40));
        mirror.die();
    }
    mirror.read_each();
    places::tell(&format!("{} deaths with a hanging leg, {} writes", deaths(), mirror.loads.writes()));
}
