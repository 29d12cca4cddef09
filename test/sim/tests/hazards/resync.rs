//! Chunks that a leg missed: cleaned by writes, copied at a bounded speed, never starved.

use rmr_engine::ResyncLimits;
use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, Script};

#[test]
pub(crate) fn a_write_that_covers_a_missed_chunk_cleans_it_without_a_copy() {
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
pub(crate) fn a_write_that_covers_a_part_of_a_missed_chunk_leaves_it_missed() {
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
pub(crate) fn resync_time(s: &mut Script) -> u64 {
    let start = s.now_ms();
    s.until_whole();
    s.now_ms() - start
}

pub(crate) fn behind(options: Options) -> Script {
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
pub(crate) fn resync_keeps_to_its_limit_and_the_limit_can_be_lifted_while_it_runs() {
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
pub(crate) fn an_interrupted_resync_goes_on_where_it_was() {
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
pub(crate) fn resync_is_never_starved_by_clients() {
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
pub(crate) fn a_leg_that_cannot_write_does_not_freeze_the_pool_over_and_over() {
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
