//! Disks that fail, lose power, or lie.

use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, Script};
use rmr_sim::world::DiskWork;
use std::cell::Cell;

#[test]
pub(crate) fn h03_a_failed_metadata_write_stops_the_store() {
    let mut s = Script::pool(2);
    s.metadata_fails_on(Some(A));
    s.submit(IoOp::Write, 20, 1);
    s.run(30);
    s.check_disks();
    s.metadata_fails_on(None);
    s.until_whole();
    s.read(20);
    s.end();
}

#[test]
pub(crate) fn h21_a_leg_whose_flush_failed_leaves_and_comes_back_repaired() {
    for _ in 0..4 {
        let mut s = Script::pool(2);
        for block in 0..40 {
            s.write(block);
        }
        s.flushes_fail_on(Some(B));
        s.flush();
        s.until_set(&[A]);
        s.flushes_fail_on(None);
        s.until_whole();
        for block in 0..40 {
            s.read(block);
        }
        s.end();
    }
}

#[test]
pub(crate) fn h20_what_a_leg_lost_with_its_power_is_fetched_again() {
    for _ in 0..8 {
        let mut s = Script::pool(2);
        for block in 0..30 {
            s.write(block);
        }
        s.power_off(B);
        s.start(B);
        s.until_whole();
        for block in 0..30 {
            s.read(block);
        }
        s.end();
    }
}

#[test]
pub(crate) fn h19_a_copied_chunk_is_durable_before_it_is_called_clean() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    for block in 0..30 {
        s.write(block);
    }
    s.start(B);
    s.until_whole();
    s.power_off(B);
    s.start(B);
    s.until_whole();
    for block in 0..30 {
        s.read(block);
    }
    s.end();
}

#[test]
pub(crate) fn finding_07_a_source_has_made_durable_what_the_others_are_told_they_missed() {
    let mut s = Script::pool(2);
    s.write(5);
    s.crash_client();
    // At the start A is the source, B has missed the chunk and cannot fetch it yet.
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.restart_client();
    s.until_set(&[A, B]);
    s.power_off_losing_all(A);
    s.world.release();
    s.start(A);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn finding_07_a_leg_that_lost_its_cache_is_no_source_while_another_did_not() {
    let mut s = Script::pool(2);
    s.write(5);
    s.crash_client();
    s.power_off_losing_all(A);
    s.start(A);
    s.restart_client();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn finding_07_a_leg_that_lost_its_cache_is_no_source_after_it_was_let_in_again() {
    // A misses chunk 0 and C chunk 1: nobody fetches anything.
    let mut s = Script::with(Options { peer_timeout_ns: 5_000_000, ..Options::quiet(3) });
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    for (leaver, block) in [(A, 0), (C, 4)] {
        s.kill_seen(leaver);
        s.write(block);
        s.until_entries_clear();
        s.start(leaver);
        s.until_set(&[A, B, C]);
    }
    // So B is asked to flush this write, and A is not.
    let write = s.submit(IoOp::Write, 3, 2);
    assert_eq!(s.wait(write), Ok(()));
    s.power_off_losing_all(A);
    s.kill_seen(B);
    s.until_set(&[C]);
    // A has chunk 1 in doubt, and so has B.
    s.start(A);
    s.until_set(&[A, C]);
    s.start(B);
    s.until_set(&[A, B, C]);
    s.world.release();
    s.until_whole();
    s.read(4);
    s.end();
}

#[test]
pub(crate) fn h20_an_entry_lives_until_its_writes_are_flushed() {
    let mut s = Script::pool(2);
    s.write(5);
    s.run(100);
    s.crash_client();
    s.power_off_losing_all(A);
    s.power_off_keeping_cache(B);
    s.start(A);
    s.start(B);
    s.restart_client();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn h16_a_commit_that_was_only_in_the_journal_survives_the_next_crash() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.run(20);
    // Both journal copies are written, the home pages not.
    let written = Cell::new(0);
    s.hold_disk(A, move |work| {
        written.set(written.get() + u32::from(work == DiskWork::Metadata));
        work == DiskWork::Metadata && written.get() > 2
    });
    s.write(5);
    s.until_disk_holds(1);
    s.crash_client();
    s.power_off_keeping_cache(A);
    s.world.release_disk();
    s.start(A);
    // The next commit is a promise; then it crashes again.
    s.hold(|e| matches!(e.msg, Msg::Adopt(_)));
    s.restart_client();
    s.until_held(|e| e.to == A);
    s.run(5);
    s.crash_client();
    s.world.drop_held();
    s.power_off_keeping_cache(A);
    s.start(A);
    s.restart_client();
    s.until_set(&[A]);
    s.start(B);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn finding_12_one_rotten_copy_of_metadata_is_harmless_and_two_are_refused() {
    let mut s = Script::pool(2);
    s.write(5);
    for place in s.world.metadata_places() {
        s.kill(B);
        s.until_set(&[A]);
        s.write(5);
        s.world.rot_metadata(B, place[0]);
        s.start(B);
        s.until_whole();
        s.read(5);
    }
    s.end();
    let mut s = Script::pool(2);
    for place in s.world.metadata_places() {
        s.kill(B);
        s.until_set(&[A]);
        s.world.rot_metadata(B, place[0]);
        s.world.rot_metadata(B, place[1]);
        assert!(s.world.opens(B).is_err(), "both copies at {place:?} are rotten");
        s.world.rot_metadata(B, place[0]);
        s.world.rot_metadata(B, place[1]);
        s.start(B);
        s.until_whole();
    }
    s.end();
}
