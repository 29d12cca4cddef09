//! Entries, and what they say of others.

use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, Script};

#[test]
pub(crate) fn h01_no_write_is_acknowledged_before_its_miss_is_durable() {
    // Metadata is slow: an acknowledgement that does not wait for it comes first, and the checker of promise 3 sees it.
    let mut s = Script::with(Options { meta_delay_ns: 3_000_000, ..Options::quiet(2) });
    s.kill(B);
    s.until_set(&[A]);
    for block in [1, 17, 33, 49] {
        s.write(block);
    }
    s.start(B);
    s.end();
}

#[test]
pub(crate) fn h01_a_degraded_write_survives_the_loss_of_the_only_recorder() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.flush();
    s.power_off(A);
    s.crash_client();
    s.start(B);
    s.start(A);
    s.restart_client();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn h12_zeroes_written_while_degraded_are_missed_like_any_write() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.zero(6);
    s.start(B);
    s.until_whole();
    s.read(6);
    s.end();
}

#[test]
pub(crate) fn h22_copies_agree_after_everything_loses_power_with_writes_in_flight() {
    let mut s = Script::pool(3);
    for round in 0..6 {
        for block in 0..20 {
            s.submit(IoOp::Write, block, 2);
        }
        s.world.run_until(0);
        s.crash_client();
        for node in [A, B, C] {
            s.power_off(node);
        }
        for node in [C, B, A] {
            s.start(node);
        }
        s.restart_client();
        s.until_whole();
        s.read(round);
    }
    s.end();
}

#[test]
pub(crate) fn finding_01_what_a_cleared_entry_said_of_outsiders_is_kept_as_marks() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.until_entries_clear();
    s.start(B);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn finding_09_an_entry_says_nothing_of_chunks_its_holder_missed() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.until_entries_clear();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    // Same region, a chunk that B holds.
    s.write(9);
    s.kill_seen(A);
    s.until_set(&[B]);
    s.world.release();
    s.start(A);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn finding_01_who_was_outside_is_marked_when_the_set_shrinks() {
    let mut s = Script::pool(3);
    s.kill(C);
    s.until_set(&[A, B]);
    s.write(5);
    s.kill(B);
    s.until_set(&[A]);
    s.start(C);
    s.until_set(&[A, C]);
    s.run(50);
    s.end();
}

#[test]
pub(crate) fn h30_what_an_entry_proved_in_one_epoch_is_not_said_in_the_next() {
    let mut s = Script::pool(2);
    s.kill(A);
    s.until_set(&[B]);
    s.write(5);
    s.until_entries_clear();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(A);
    s.until_set(&[A, B]);
    // A executes it and stays missed: B holds it, and leaves.
    s.write(5);
    s.kill_seen(B);
    s.until_set(&[A]);
    s.start(B);
    s.run(100);
    s.world.release();
    s.until_whole();
    s.read(5);
    s.end();
}
