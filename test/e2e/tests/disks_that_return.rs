//! A node that comes back with another disk than it had: an older copy of its own, another member's, another pool's.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_e2e::PATIENCE;
use test_e2e::load::Loads;
use test_e2e::pool::Nodes;

const BYTES: u64 = 8 << 20;
const LOOK: Duration = Duration::from_millis(5);

struct Pool {
    // Ends before the nodes do.
    loads: Loads,
    nodes: Nodes,
}

impl Pool {
    fn start() -> Option<Self> {
        let nodes = Nodes::start(2, BYTES)?;
        let loads = Loads::new(nodes.folder(), &nodes.device_of(2))?;
        let mut pool = Self { loads, nodes };
        pool.loads.start(50, 3600);
        pool.until_whole();
        Some(pool)
    }

    fn until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        while !self.loads.device().as_ref().is_some_and(&condition) {
            assert_eq!(self.loads.ended(), None, "nothing ends the load");
            assert!(
                begun.elapsed() < 2 * PATIENCE,
                "waited in vain until {what}: {:#?}\n{}",
                self.loads.device(),
                self.nodes.logs()
            );
            sleep(LOOK);
        }
    }

    fn until_whole(&mut self) {
        self.until("both legs are up to date", |device| device["up_to_date"] == json!([0, 1]));
    }

    fn until_writes(&mut self, more: u64) {
        let before = self.loads.writes_now();
        self.until("there are more writes", |_| true);
        let begun = Instant::now();
        while self.loads.writes_now() < before + more {
            assert!(begun.elapsed() < 2 * PATIENCE, "no more writes: {:#?}", self.loads.device());
            sleep(LOOK);
        }
    }

    /// Reads everything back from one leg, the other being dead.
    fn read_alone(&mut self, leg: usize) {
        self.nodes.kill(1 - leg);
        self.until("it is alone", |device| device["in_set"] == json!([leg]));
        self.loads.interrupt();
        let begun = Instant::now();
        while self.loads.ended().is_none() {
            assert!(begun.elapsed() < 2 * PATIENCE, "the load does not end: {:#?}", self.loads.device());
            sleep(LOOK);
        }
    }
}

#[test]
fn an_older_copy_of_a_disk_is_never_read_and_copies_everything_again() {
    let Some(mut pool) = Pool::start() else { return };
    let older = pool.nodes.folder().join("older");
    pool.nodes.kill(1);
    fs::copy(pool.nodes.disk(1), &older).expect("room for a copy");
    pool.nodes.start_again(1);
    pool.until_whole();
    pool.until_writes(2000);
    pool.nodes.kill(1);
    fs::copy(&older, pool.nodes.disk(1)).expect("room for a copy");
    pool.nodes.start_again(1);
    pool.until_whole();
    pool.read_alone(1);
}

#[test]
fn an_older_copy_alone_does_not_start_the_pool() {
    let Some(mut pool) = Pool::start() else { return };
    let older = pool.nodes.folder().join("older");
    pool.nodes.kill(1);
    fs::copy(pool.nodes.disk(1), &older).expect("room for a copy");
    // The other goes on without it, and writes.
    pool.until_writes(500);
    pool.loads.kill();
    pool.nodes.kill(0);
    fs::copy(&older, pool.nodes.disk(1)).expect("room for a copy");
    pool.nodes.start_again(1);
    pool.loads.start(50, 3600);
    let begun = Instant::now();
    let refused = loop {
        if let Err(why) = pool.loads.try_ended() {
            break why;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "it neither serves nor gives up");
        sleep(LOOK);
    };
    assert!(refused.contains("was not assembled within") && refused.contains("member 0"), "{refused}");
    // With the other one it goes on where it was.
    pool.nodes.mend();
    pool.loads.start(50, 3600);
    pool.until_whole();
    pool.read_alone(1);
}

#[test]
fn the_disk_of_another_member_is_refused_by_name() {
    let Some(mut pool) = Pool::start() else { return };
    pool.nodes.kill(1);
    let own = pool.nodes.folder().join("own");
    fs::copy(pool.nodes.disk(1), &own).expect("room for a copy");
    // As if it were put into the wrong node. Its owner has it as well, which is worse.
    fs::copy(pool.nodes.disk(0), pool.nodes.disk(1)).expect("room for a copy");
    pool.nodes.start_again(1);
    pool.until("the leg is refused", |device| {
        let why = device["legs"][1]["why"].as_str().unwrap_or_default();
        device["in_set"] == json!([0]) && why.contains("of another member of the pool")
    });
    pool.until_writes(500);
    pool.nodes.kill(1);
    fs::copy(&own, pool.nodes.disk(1)).expect("room for a copy");
    pool.nodes.start_again(1);
    pool.until_whole();
    pool.read_alone(1);
}
