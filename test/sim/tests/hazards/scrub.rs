//! Rot, and what a scrub does about it.

use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, CLIENT, Script};
use rmr_sim::world::Envelope;

#[test]
pub(crate) fn h46_a_scrub_finds_rot_and_the_majority_repairs_it() {
    let mut s = Script::pool(3);
    for block in [5, 30] {
        s.write(block);
    }
    s.until_entries_clear();
    s.world.rot_block(A, 5);
    s.world.rot_block(C, 30);
    let scrub = s.scrub(None);
    assert_eq!((scrub.mismatches, scrub.repaired, scrub.unresolved), (2, 2, 0));
    s.until_whole();
    s.read(5);
    s.read(30);
    s.end();
}

#[test]
pub(crate) fn h46_a_misdirected_write_is_found_in_both_places() {
    let mut s = Script::pool(3);
    s.write(5);
    s.write(41);
    s.until_entries_clear();
    s.world.misdirect_next_write(B, 41, 2);
    s.write(5);
    let scrub = s.scrub(None);
    assert_eq!((scrub.mismatches, scrub.repaired), (2, 2));
    s.until_whole();
    s.read(5);
    s.read(41);
    s.end();
}

#[test]
pub(crate) fn with_two_legs_rot_is_pinned_to_one_and_repaired_only_on_the_word_of_the_caller() {
    let mut s = Script::pool(2);
    s.write(5);
    s.until_entries_clear();
    s.world.stop_comparing();
    s.world.rot_block(B, 5);
    let scrub = s.scrub(None);
    assert_eq!((scrub.mismatches, scrub.repaired, scrub.unresolved, scrub.pinned), (1, 0, 1, 1));
    s.read(5); // The oracle knows A's value only: B is never asked.
    let scrub = s.scrub(Some(A));
    assert_eq!((scrub.mismatches, scrub.repaired, scrub.pinned), (1, 1, 0));
    s.until_whole();
    s.end();
}

#[test]
pub(crate) fn a_scrub_under_load_finds_nothing_where_nothing_rotted() {
    let mut s = Script::with(Options { slow_ppm: 50_000, disk_slow_ppm: 50_000, ..Options::quiet(3) });
    s.start_scrub();
    for round in 0..400 {
        s.offer(IoOp::Write, round * 7 % 60, 2);
        s.run(1);
        if round % 50 == 0 {
            s.start_scrub();
        }
    }
    let scrub = s.until_scrubbed();
    assert_eq!((scrub.chunks, scrub.mismatches), (16, 0));
    s.end();
}

#[test]
pub(crate) fn a_repair_marks_its_chunk_only_when_every_leg_has_what_it_executed() {
    // A scrub says that B's chunk 1 is wrong while B alone has executed a write to another chunk of the region.
    let mut s = Script::pool(3);
    s.write(5);
    s.until_entries_clear();
    s.world.rot_block(B, 5);
    s.hold(|e| e.from == CLIENT && e.to != B && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.submit(IoOp::Write, 9, 1);
    s.run(2);
    s.start_scrub();
    s.run(10);
    let scrub = s.scrubbed();
    assert_eq!((scrub.chunks, scrub.repaired), (1, 0), "the mark waits for the write");
    s.world.release();
    let scrub = s.until_scrubbed();
    assert_eq!((scrub.mismatches, scrub.repaired), (1, 1));
    s.until_whole();
    s.end();
}

#[test]
pub(crate) fn a_repair_that_comes_twice_marks_once() {
    let options = Options { duplicate_ppm: 1_000_000, net_jitter_ns: 8_000_000, ..Options::quiet(3) };
    let mut s = Script::with(options);
    s.write(5);
    s.until_entries_clear();
    for _ in 0..5 {
        s.world.rot_block(B, 5);
        let scrub = s.scrub(None);
        assert_eq!((scrub.mismatches, scrub.unresolved), (1, 0));
        s.until_whole();
    }
    s.end();
}

#[test]
pub(crate) fn a_scrub_counts_what_the_one_before_it_had_in_hand() {
    let mut s = Script::pool(3);
    s.write(5);
    s.until_entries_clear();
    s.world.rot_block(B, 5);
    s.hold(|e| matches!(e.msg, Msg::Check { chunk, .. } if chunk.0 == 1));
    s.start_scrub();
    s.until_held(|e| matches!(e.msg, Msg::Check { .. }));
    s.start_scrub();
    s.world.release();
    let scrub = s.until_scrubbed();
    assert_eq!((scrub.chunks, scrub.mismatches, scrub.repaired), (16, 1, 1), "{scrub:?}");
    s.until_whole();
    s.end();
}

#[test]
pub(crate) fn what_a_scrub_marks_is_missed_and_not_in_doubt() {
    let mut s = Script::with(Options { region_shift: 0, ..Options::quiet(2) });
    let copy = |e: &Envelope<'_>| e.from == B && matches!(e.msg, Msg::CopyRead { .. });
    s.write(5);
    s.kill_seen(B);
    s.until_set(&[A]);
    // B has the chunk in doubt, and A cannot read it. Before the client hears of that all of it is written anew.
    s.unreadable(A, 5);
    s.hold(|e| matches!(e.msg, Msg::BeatReply { stuck: true, .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.until_copy_fails(B);
    let written = s.submit(IoOp::Write, 4, 4);
    assert_eq!(s.wait(written), Ok(()));
    s.until_whole();
    s.release_if(|_| false);
    s.until_entries_clear();
    let epoch = s.epoch();
    s.world.rot_block(B, 5);
    s.hold(copy);
    let scrub = s.scrub(Some(A));
    assert_eq!((scrub.mismatches, scrub.repaired), (1, 1));
    s.run(100);
    assert_eq!(s.epoch(), epoch, "there is nothing to settle");
    s.world.release();
    s.until_whole();
    s.end();
}

#[test]
pub(crate) fn a_scrub_counts_what_it_could_not_read() {
    let mut s = Script::pool(2);
    for block in 0..40 {
        s.write(block);
    }
    s.until_entries_clear();
    s.unreadable(A, 5);
    let scrub = s.scrub(None);
    assert_eq!((scrub.unread, scrub.single, scrub.mismatches, scrub.repaired), (1, 1, 0, 0), "{scrub:?}");
    s.until("it was written again", |w| w.can_read(A, 5));
    let scrub = s.scrub(None);
    assert_eq!((scrub.unread, scrub.single), (0, 0), "{scrub:?}");
    s.end();
}
