//! What an IO costs the engines today, as exact counts.

use perf_engine::{MS, Pattern, Rig, Shape, US};
use rmr_engine::StoreConfig;
use rmr_proto::{IoOp, MemberId};

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

const MIB: u64 = 1 << 20;
/// Blocks of one region.
const REGION: u64 = 4096;

fn rig(members: usize) -> Rig {
    Rig::new(Shape { members, device_bytes: 1024 * MIB, disk_ns: 0 })
}

/// Writes and reads over `blocks` blocks until every entry is live and every table has its size.
fn warm(rig: &mut Rig, blocks: u64) {
    let mut pattern = Pattern::sequential(blocks);
    for _ in 0..blocks {
        let block = pattern.block();
        rig.submit(IoOp::Write, block, 1);
        rig.submit(IoOp::Read, block, 1);
        rig.submit(IoOp::Flush, 0, 0);
    }
}

fn allocations_of(rig: &mut Rig, op: IoOp, blocks: u64) -> u64 {
    let mut pattern = Pattern::uniform(blocks, 3);
    let before = test_alloc_counter::allocations();
    for _ in 0..20_000 {
        rig.submit(op, pattern.block(), 1);
    }
    test_alloc_counter::allocations() - before
}

#[test]
fn an_io_between_ticks_allocates_nothing_while_its_region_has_an_entry() {
    for (members, lost) in [(1, false), (2, false), (3, false), (3, true)] {
        let mut rig = rig(members);
        if lost {
            rig.lose(MemberId::at(2));
        }
        warm(&mut rig, 2 * REGION);
        for op in [IoOp::Write, IoOp::WriteFua, IoOp::Read, IoOp::Flush, IoOp::Zero { unmap: false }] {
            assert_eq!(
                allocations_of(&mut rig, op, 2 * REGION),
                0,
                "{op:?}, {members} members, lost: {lost}"
            );
        }
        assert_eq!(rig.counts().failed, 0);
    }
}

#[test]
fn the_first_write_to_a_region_costs_one_commit_and_the_next_ones_none() {
    let mut rig = rig(2);
    warm(&mut rig, REGION);
    for region in 1..4 {
        rig.reset_counts();
        rig.submit(IoOp::Write, region * REGION, 1);
        let counts = rig.counts();
        // On each leg: the journal record, the epoch page and the intent page, both copies of each.
        assert_eq!((counts.done, counts.data_writes, counts.meta_writes), (1, 2, 2 * 6), "first write");
        rig.reset_counts();
        for block in 1..REGION {
            rig.submit(IoOp::Write, region * REGION + block, 1);
        }
        assert_eq!((rig.counts().done, rig.counts().meta_writes), (REGION - 1, 0), "writes after it");
    }
}

/// First writes that come together share a commit: one is under way, the others go into the next.
#[test]
fn first_writes_that_come_together_share_commits() {
    let mut rig = Rig::new(Shape { members: 2, device_bytes: 1024 * MIB, disk_ns: 50 * US });
    rig.reset_counts();
    for region in 0..32 {
        rig.submit(IoOp::Write, region * REGION, 1);
    }
    rig.wait_below(1);
    let counts = rig.counts();
    assert_eq!((counts.done, counts.failed, rig.entries()), (32, 0, 32));
    assert!(counts.meta_writes <= 2 * 2 * 6, "32 first writes in two commits a leg: {counts:?}");
}

#[test]
fn an_idle_pool_writes_nothing() {
    let mut rig = rig(2);
    rig.submit(IoOp::Write, 0, 1);
    rig.submit(IoOp::Flush, 0, 0);
    rig.advance(rig.now() + 5_000 * MS);
    rig.reset_counts();
    rig.advance(rig.now() + 100_000 * MS);
    assert_eq!(rig.counts().meta_writes, 0, "100 s idle: {:?}", rig.counts());
}

/// The entries of one assembly need not fit in one journal record.
#[test]
fn a_new_client_starts_with_many_regions_live() {
    const REGIONS: u64 = 5_900;
    let stores = StoreConfig { intents_soft_max: 8192, ..StoreConfig::default() };
    let mut rig = Rig::with_stores(Shape { members: 2, device_bytes: 128 << 30, disk_ns: 0 }, stores);
    for region in 0..REGIONS {
        rig.submit(IoOp::Write, region * REGION, 1);
    }
    rig.change_client();
    assert_eq!(rig.counts().suspect_chunks, REGIONS);
}

/// Nor need they fit in a message: suspects, questions and verdicts go in pieces.
#[test]
fn a_new_client_starts_with_two_hundred_thousand_regions_live() {
    const REGIONS: u64 = 200_000;
    let stores = StoreConfig { intents_soft_max: 1 << 20, ..StoreConfig::default() };
    let mut rig = Rig::with_stores(Shape { members: 2, device_bytes: 4 << 40, disk_ns: 0 }, stores);
    for region in 0..REGIONS {
        rig.submit(IoOp::Write, region * REGION, 1);
    }
    assert_eq!((rig.entries() as u64, rig.counts().failed), (REGIONS, 0));
    rig.change_client();
    // Whose bytes count has no entries left; the other one's are those of its copies.
    assert_eq!((rig.counts().suspect_chunks, rig.entries_of_the_cleanest()), (REGIONS, 0));
    let longest = rig.counts().longest_message;
    assert!(longest <= rmr_proto::wire::MESSAGE_BYTES_MAX, "the longest message has {longest} bytes");
    assert!(longest > 100_000, "the pieces are not small: {longest} bytes");
}
