//! Blocks that cannot be read.

use rmr_engine::IoError;
use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, Script};

/// Blocks 4 to 7 are chunk 1, in a pool of 62 blocks in chunks of 4.
#[test]
pub(crate) fn a_block_that_one_leg_cannot_read_is_read_elsewhere_and_written_again() {
    let mut s = Script::pool(2);
    s.write(5);
    s.flush();
    s.unreadable(B, 5);
    s.read(5);
    s.until("B can read it again", |w| w.can_read(B, 5));
    assert_eq!(s.world.resync(B).rewritten, 1);
    s.end();
}

#[test]
pub(crate) fn what_no_clean_leg_can_read_fails_and_is_never_old_data() {
    let mut s = Script::pool(2);
    s.write(5);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.flush();
    // B comes back with the old block; A, the only clean leg, cannot read the new one.
    s.unreadable(A, 5);
    s.start(B);
    s.until_set(&[A, B]);
    s.fails_to_read(5, &[IoError::Deadline, IoError::Unreadable]);
    s.run(2_000);
    assert!(s.world.dirty_chunks(B) > 0, "B cannot have fetched it");
    assert!(s.world.resync(B).sources_failed > 0 && s.world.resync(B).waiting > 0, "{:?}", s.world.resync(B));
    let asked = s.world.resync(B).sources_failed;
    s.run(2_000);
    let again = s.world.resync(B).sources_failed - asked;
    assert!((1..=20).contains(&again), "tried again, ever less often: {again} times in 2 s");
    // Written again it is readable, and everything converges.
    s.write(5);
    s.end();
}

#[test]
pub(crate) fn a_leg_that_cannot_read_one_block_still_serves_the_rest_of_the_chunk_when_its_peer_dies() {
    let mut s = Script::pool(2);
    s.write(5);
    s.write(6);
    s.until_entries_clear();
    s.unreadable(A, 5);
    // The peer dies while it is asked for the chunk.
    s.hold(|e| matches!(e.msg, Msg::CopyReply { .. }));
    s.read(5);
    s.until("B was asked and answered", |w| w.held() > 0);
    s.kill_loudly(B);
    s.world.drop_held();
    s.until_set(&[A]);
    s.read(6);
    s.fails_to_read(5, &[IoError::Unreadable]);
    s.start(B);
    s.until_whole();
    s.read(5);
    s.until("A can read it again", |w| w.can_read(A, 5));
    s.end();
}

#[test]
pub(crate) fn another_source_is_asked_when_one_cannot_read_and_the_one_that_failed_is_repaired() {
    let mut s = Script::pool(3);
    s.kill(C);
    s.until_set(&[A, B]);
    s.write(5);
    s.flush();
    s.unreadable(A, 6);
    s.start(C);
    s.until_whole();
    assert_eq!(s.world.resync(C).sources_failed, 1);
    s.until("A can read it again", |w| w.can_read(A, 6));
    s.end();
}

#[test]
pub(crate) fn a_write_under_way_is_not_undone_by_the_repair_of_its_chunk() {
    for wait in 0..6 {
        let mut s = Script::with(Options { slow_ppm: 300_000, disk_slow_ppm: 300_000, ..Options::quiet(3) });
        s.write(5);
        s.flush();
        s.unreadable(B, 5);
        for round in 0..40 {
            s.offer(IoOp::Read, 5, 1);
            s.offer(IoOp::Write, 4 + (round + wait) % 4, 1);
            s.run(wait);
        }
        s.run(6_000);
        // Where the legs that can read it left first, only a write makes the block whole again.
        s.write(5);
        s.end();
    }
}

#[test]
pub(crate) fn a_leg_with_too_many_read_errors_leaves_unless_it_is_the_last_whole_one() {
    let mut s = Script::with(Options { read_errors_max: 3, ..Options::quiet(2) });
    for block in [1, 9, 17, 25, 33, 41] {
        s.unreadable(B, block);
    }
    // Nobody can repair it meanwhile.
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    for block in [1, 9, 17, 25, 33, 41] {
        s.read(block);
    }
    s.until_set(&[A]);
    let epochs = s.world.stats().epochs;
    for block in [2, 10, 18, 26, 34, 42] {
        s.unreadable(A, block);
        s.fails_to_read(block, &[IoError::Unreadable]);
    }
    assert_eq!(s.world.stats().epochs, epochs, "A stays: nobody else is there");
    s.world.drop_held();
    s.world.mend_media();
    s.end();
}
