//! The data path when media fail, and while chunks are copied: one test for a rule, named as a sentence.

use rmr_engine::{IoError, ResyncLimits};
use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, CLIENT, Script};

/// A write that one leg has executed is in what another leg copies from it. The copier must know that its chunk may differ,
/// for the write may reach nobody else: neither the leg it was copied from nor the client need come back.
#[test]
fn a_copy_that_brings_an_unfinished_write_along_leaves_the_chunk_suspect() {
    let mut s = Script::pool(3);
    s.kill(C);
    s.until_set(&[A, B]);
    s.write(5);
    s.until_entries_clear();
    // C copies from A only after A has the second write, which reaches neither B nor C.
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(C);
    s.until_set(&[A, B, C]);
    s.until("C asks for the chunk", |w| w.held() > 0);
    s.hold(|e| e.from == CLIENT && e.to != A && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.submit(IoOp::Write, 5, 1);
    s.run(2);
    s.release_if(|msg| matches!(msg, Msg::CopyRead { .. }));
    s.hold(|e| e.from == CLIENT && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.until("C has the chunk", |w| w.dirty_chunks(C) == 0);
    s.kill_loudly(A);
    s.until_set(&[B, C]);
    s.crash_client();
    s.world.drop_held();
    s.restart_client();
    s.until_set(&[B, C]);
    s.read(5);
    s.end();
}

#[test]
fn a_write_past_its_deadline_does_not_make_the_pool_wait_for_the_leg_that_owes_it() {
    let mut s = Script::with(Options { deadline_ns: 20_000_000, ..Options::quiet(2) });
    s.hold(|e| e.to == B && matches!(e.msg, Msg::Io(..)));
    s.submit(IoOp::Write, 5, 1);
    s.run(30);
    s.kill(B);
    s.world.drop_held();
    s.until_set(&[A]);
    s.write(5);
    s.end();
}

/// Blocks 4 to 7 are chunk 1, in a pool of 62 blocks in chunks of 4.
#[test]
fn a_block_that_one_leg_cannot_read_is_read_elsewhere_and_written_again() {
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
fn what_no_clean_leg_can_read_fails_and_is_never_old_data() {
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
fn a_leg_that_cannot_read_one_block_still_serves_the_rest_of_the_chunk_when_its_peer_dies() {
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
fn another_source_is_asked_when_one_cannot_read_and_the_one_that_failed_is_repaired() {
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
fn a_write_under_way_is_not_undone_by_the_repair_of_its_chunk() {
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
fn a_leg_with_too_many_read_errors_leaves_unless_it_is_the_last_whole_one() {
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

#[test]
fn h46_a_scrub_finds_rot_and_the_majority_repairs_it() {
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
fn h46_a_misdirected_write_is_found_in_both_places() {
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
fn with_two_legs_rot_is_pinned_to_one_and_repaired_only_on_the_word_of_the_caller() {
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
fn a_scrub_under_load_finds_nothing_where_nothing_rotted() {
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
fn a_repair_marks_its_chunk_only_when_every_leg_has_what_it_executed() {
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
fn a_repair_that_comes_twice_marks_once() {
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
fn a_write_that_covers_a_missed_chunk_cleans_it_without_a_copy() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    for block in 0..62 {
        s.write(block);
    }
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.until("B knows what it missed", |w| w.dirty_chunks(B) == 16);
    for first in (0..60).step_by(4) {
        let user = s.submit(IoOp::Write, first, 4);
        s.until("it ended", move |w| w.has_ended(user));
    }
    s.until("all but the last chunk is clean", |w| w.dirty_chunks(B) == 1);
    let resync = s.world.resync(B);
    assert_eq!((resync.copied_bytes, resync.overwritten_bytes), (0, 15 * 4 * 4096));
    // Clean is durable, data and mark.
    s.power_off(B);
    s.crash_client();
    s.world.drop_held();
    s.start(B);
    s.restart_client();
    s.until_whole();
    for first in (0..60).step_by(4) {
        s.read(first);
    }
    s.end();
}

#[test]
fn a_write_that_covers_a_part_of_a_missed_chunk_leaves_it_missed() {
    let mut s = Script::pool(2);
    s.until_entries_clear();
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    let user = s.submit(IoOp::Write, 6, 5);
    s.until("it ended", move |w| w.has_ended(user));
    s.run(20);
    assert_eq!(s.world.dirty_chunks(B), 1);
    s.world.drop_held();
    s.until_whole();
    s.read(5);
    s.end();
}

/// A leg that missed everything, and how long it takes to be whole, in virtual milliseconds.
fn resync_time(s: &mut Script) -> u64 {
    let start = s.now_ms();
    s.until_whole();
    s.now_ms() - start
}

fn behind(options: Options) -> Script {
    let mut s = Script::with(options);
    s.kill(B);
    s.until_set(&[A]);
    for block in 0..62 {
        s.write(block);
    }
    s.until_entries_clear();
    s.start(B);
    s.until_set(&[A, B]);
    s
}

#[test]
fn resync_keeps_to_its_limit_and_the_limit_can_be_lifted_while_it_runs() {
    // 62 blocks of 4 KiB at 64 KiB a second: 3.9 s.
    let slow = ResyncLimits { bytes_per_sec: 64 << 10, ..ResyncLimits::default() };
    let mut s = behind(Options { resync: slow, ..Options::quiet(2) });
    let took = resync_time(&mut s);
    assert!((3_000..5_000).contains(&took), "{took} ms");
    s.end();
    let mut s = behind(Options { resync: slow, ..Options::quiet(2) });
    s.run(1_500);
    let resync = s.world.resync(B);
    assert!(resync.bytes_per_sec.abs_diff(64 << 10) < 20 << 10, "{resync:?}");
    let eta_ms = resync.eta_ns.expect("it knows its speed") / 1_000_000;
    assert!((1_000..5_000).contains(&eta_ms), "{eta_ms} ms to go");
    s.world.set_resync_limits(B, ResyncLimits::default());
    let took = resync_time(&mut s);
    assert!(took < 500, "{took} ms without a limit");
    s.end();
}

#[test]
fn an_interrupted_resync_goes_on_where_it_was() {
    let slow = ResyncLimits { bytes_per_sec: 64 << 10, ..ResyncLimits::default() };
    let mut s = behind(Options { resync: slow, ..Options::quiet(2) });
    s.until("half is done", |w| w.dirty_chunks(B) <= 8);
    s.kill(B);
    s.until_set(&[A]);
    s.start(B);
    s.until_whole();
    let copied = s.world.resync(B).copied_bytes;
    assert!(copied <= 12 * 4 * 4096, "the second half, and what was under way: {copied} bytes");
    s.end();
}

#[test]
fn resync_is_never_starved_by_clients() {
    let resync = ResyncLimits { busy_share_pct: 1, min_bytes_per_sec: 256 << 10, ..ResyncLimits::default() };
    let mut s = behind(Options { resync, ..Options::quiet(2) });
    for round in 0..2_000 {
        s.offer(IoOp::Write, round * 7 % 60, 1);
        s.run(1);
    }
    assert_eq!(
        s.world.dirty_chunks(B),
        0,
        "248 KiB at no less than 256 KiB a second: {:?}",
        s.world.resync(B)
    );
    s.end();
}

#[test]
fn a_leg_that_cannot_write_does_not_freeze_the_pool_over_and_over() {
    let mut s = Script::pool(2);
    s.world.fail_writes(Some(B));
    let before = s.world.stats().epochs;
    for round in 0..6_000 {
        s.offer(IoOp::Write, round % 60, 1);
        s.run(10);
    }
    // In and out again, two epochs each, with pauses near the half second that is the longest in this world; the shortest,
    // 10 ms, would make thousands.
    let epochs = s.world.stats().epochs - before;
    assert!((4..=480).contains(&epochs), "{epochs} epochs in a minute");
    s.world.fail_writes(None);
    s.until_whole();
    s.end();
}

#[test]
fn finding_12_one_rotten_copy_of_metadata_is_harmless_and_two_are_refused() {
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
