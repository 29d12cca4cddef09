//! What a request costs in heap allocations: none, once everything has been used once.

#![allow(clippy::expect_used, missing_docs)]

use std::sync::Arc;

use test_bdevs::world::{World, disk};
use test_vhost::front::{Front, Setup, kind};
use tgt_vhost::{BlkSpec, Controllers};

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

fn allocations(world: &World) -> u64 {
    world.reactors()[0].call(|_| test_alloc_counter::allocations()).expect("an answer")
}

/// Reads and writes of one and of many pages, with `depth` under way.
fn rounds(front: &mut Front, count: u64, depth: usize) {
    let data = vec![7; 16 << 10];
    let mut under_way = 0;
    for turn in 0..count {
        let offered = match turn % 4 {
            0 => front.submit(0, kind::WRITE, 8 * (turn % 100), &data[..4096], 0),
            1 => front.submit(0, kind::READ, 8 * (turn % 100), &[], 4096),
            2 => front.submit(0, kind::WRITE, 8 * (turn % 100), &data, 0),
            _ => front.submit(0, kind::READ, 8 * (turn % 100), &[], 16 << 10),
        };
        under_way += usize::from(offered.is_some());
        while under_way >= depth || (offered.is_none() && under_way > 0) {
            assert_eq!(front.wait(0).status, 0);
            under_way -= 1;
        }
    }
    for _ in 0..under_way {
        assert_eq!(front.wait(0).status, 0);
    }
}

#[test]
fn a_request_allocates_nothing() {
    let world = World::new(1);
    disk(&world.bdevs, "D", 4096);
    let dir = tempfile::tempdir().expect("a directory");
    let reactors = Arc::new(world.reactors().to_vec());
    let controllers = Controllers::new(&world.bdevs, &reactors, dir.path().to_owned());
    let spec =
        BlkSpec { name: "c".to_owned(), bdev: "D".to_owned(), packed_ring: true, ..BlkSpec::default() };
    controllers.create(&spec).expect("a controller");
    for (packed, inflight) in [(false, false), (true, true)] {
        let setup = Setup { size: 128, packed, inflight, ..Setup::default() };
        let mut front = Front::connected(&dir.path().join("c"), setup);
        // A warm-up fills queues and caches, and goes deeper than what is counted.
        rounds(&mut front, 8000, 40);
        let before = allocations(&world);
        let mine = allocations(&world) - before;
        let before = allocations(&world);
        rounds(&mut front, 4000, 16);
        let made = allocations(&world) - before;
        assert!(made <= mine, "{made} allocations in 4000 requests, {mine} of them are the question's");
    }
}
