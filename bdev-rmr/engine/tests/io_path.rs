//! What one IO costs in the engine.

mod common;

use common::Direct;
use rmr_proto::IoOp;

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

#[test]
fn writes_and_reads_of_a_live_region_allocate_nothing() {
    for legs in 1..=3 {
        let mut pool = Direct::new(legs);
        let run = |pool: &mut Direct| {
            for block in 0..256 {
                pool.io(IoOp::Write, block * 7 % 4096);
                pool.io(IoOp::Read, block * 7 % 4096);
            }
            pool.io(IoOp::Flush, 0);
        };
        run(&mut pool);
        let (before, meta) = (test_alloc_counter::allocations(), pool.meta_writes);
        run(&mut pool);
        assert_eq!(
            test_alloc_counter::allocations() - before,
            0,
            "allocations of 513 requests on {legs} legs"
        );
        assert_eq!(pool.meta_writes, meta, "a live region needs no metadata");
    }
}
