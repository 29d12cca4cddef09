//! A target that is killed under load and started again: the guest sees a pause, and nothing else.

#![allow(clippy::expect_used, missing_docs)]

mod process;

use std::collections::HashMap;
use std::time::Instant;

use process::Target;
use test_vhost::front::{Front, Setup, kind};

/// Places on the disk that are written, one request at a time each.
const PLACES: u64 = 48;
const BYTES: u32 = 4096;
const KILLS: u32 = 6;
/// Answers between two kills.
const ANSWERS: u32 = 700;

/// What a place holds and what is on its way there.
#[derive(Clone, Copy, Default)]
struct Place {
    version: u32,
    busy: bool,
}

/// A machine that writes without pause, and knows what must be where.
struct Load {
    front: Front,
    places: Vec<Place>,
    pending: [HashMap<u16, u64>; 2],
}

fn content(place: u64, version: u32) -> Vec<u8> {
    let word = [place as u32, version].map(u32::to_le_bytes).concat();
    word.iter().copied().cycle().take(BYTES as usize).collect()
}

impl Load {
    /// Keeps every place busy, each from its own queue.
    fn fill(&mut self) {
        for place in 0..PLACES {
            let at = &mut self.places[place as usize];
            let queue = (place % 2) as usize;
            if at.busy {
                continue;
            }
            let data = content(place, at.version + 1);
            if let Some(id) = self.front.submit(queue, kind::WRITE, 8 * place, &data, 0) {
                (at.version, at.busy) = (at.version + 1, true);
                self.pending[queue].insert(id, place);
            }
        }
    }

    /// Takes one answer of either queue.
    fn take(&mut self, queue: usize) {
        let done = self.front.wait(queue);
        assert_eq!(done.status, 0, "no error reaches the guest");
        let place = self.pending[queue].remove(&done.id).expect("it was offered");
        self.places[place as usize].busy = false;
    }

    fn finish(&mut self) {
        for queue in 0..2 {
            while !self.pending[queue].is_empty() {
                self.take(queue);
            }
        }
    }

    fn check(&mut self) {
        for place in 0..PLACES {
            let (status, back) = self.front.request((place % 2) as usize, kind::READ, 8 * place, &[], BYTES);
            let expected = content(place, self.places[place as usize].version);
            assert!(status == 0 && back == expected, "place {place}: {:?}", &back[..8]);
        }
    }
}

fn is_killed_under_load(packed: bool, event_idx: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut target = Target::start(dir.path());
    let setup = Setup { queues: 2, size: 128, packed, event_idx, inflight: true };
    let front = Front::connected(&target.socket(), setup);
    let places = vec![Place::default(); PLACES as usize];
    let mut load = Load { front, places, pending: Default::default() };
    let mut pauses_ms = Vec::new();
    for _ in 0..KILLS {
        for turn in 0..ANSWERS {
            load.fill();
            load.take((turn % 2) as usize);
        }
        load.fill();
        target.kill();
        let dead = Instant::now();
        // A guest goes on offering; nobody kicks or calls.
        load.fill();
        target.start_again();
        load.front.disconnect();
        load.front.connect(&target.socket());
        load.front.start();
        load.take(0);
        pauses_ms.push(dead.elapsed().as_millis());
        load.finish();
        load.check();
    }
    println!(
        "packed {packed}: from the kill to the next answer, with the start of the process, ms: {pauses_ms:?}"
    );
}

#[test]
fn a_split_ring_goes_on_after_each_kill_with_every_write_in_place() {
    is_killed_under_load(false, true);
    is_killed_under_load(false, false);
}

#[test]
fn a_packed_ring_goes_on_after_each_kill_with_every_write_in_place() {
    is_killed_under_load(true, true);
    is_killed_under_load(true, false);
}
