//! Requests: late, twice, overlapping, unanswered.

use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, CLIENT, Script};
use rmr_sim::world::DiskWork;

#[test]
pub(crate) fn h25_a_request_delivered_twice_executes_once() {
    let options = Options { duplicate_ppm: 1_000_000, slow_ppm: 30_000, ..Options::quiet(2) };
    let mut s = Script::with(options);
    for _ in 0..60 {
        // The second copy of the first write may come after the second write.
        s.write(4);
        s.write(4);
        s.run(70);
        s.read(4);
    }
    s.end();
}

#[test]
pub(crate) fn h25_a_request_that_was_delayed_never_executes_late() {
    let mut s = Script::pool(2);
    s.hold(|e| e.to == B && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    let first = s.submit(IoOp::Write, 4, 1);
    s.until_set(&[A]);
    s.write(4);
    s.until_whole();
    s.world.release();
    s.run(50);
    s.read(4);
    assert!(first > 0);
    s.end();
}

#[test]
pub(crate) fn h11_a_write_that_no_leg_answers_ends_the_same_on_all() {
    let mut s = Script::pool(2);
    s.write(3);
    s.hold(|e| e.to == B && matches!(e.msg, Msg::Io(..)));
    let lost = s.submit(IoOp::Write, 3, 1);
    s.run(1);
    s.cut(A, CLIENT);
    s.run(200);
    s.world.drop_held();
    s.mend();
    s.until_whole();
    s.read(3);
    s.until("the write ended", move |w| w.stats().ios > 0 && lost > 0);
    s.end();
}

#[test]
pub(crate) fn h27_overlapping_writes_end_in_the_same_order_on_all_legs() {
    let mut s = Script::pool(3);
    for round in 0..20 {
        for _ in 0..6 {
            s.submit(IoOp::Write, 10 + round % 3, 3);
        }
        s.run(3);
    }
    s.read(11);
    s.end();
}

#[test]
pub(crate) fn h25_a_write_still_on_the_disk_is_waited_for_before_a_promise() {
    let mut s = Script::pool(2);
    s.hold_disk(B, |work| work == DiskWork::Write);
    s.submit(IoOp::Write, 4, 1);
    s.until_disk_holds(1);
    s.hold_disk(B, |_| false);
    s.crash_client();
    s.restart_client();
    s.run(40);
    s.submit(IoOp::Write, 4, 1);
    s.run(100);
    s.world.release_disk();
    s.until_whole();
    s.read(4);
    s.end();
}

#[test]
pub(crate) fn finding_05_an_answer_to_an_earlier_sending_ends_nothing() {
    let mut s = Script::pool(2);
    s.hold(|e| e.from == A && matches!(e.msg, Msg::IoReply(..)));
    s.submit(IoOp::Write, 4, 1);
    s.run(1);
    s.world.drop_filters();
    s.hold(|e| e.to == A && matches!(e.msg, Msg::Io(io, _) if io.op.is_write() && io.seq.0 == 1));
    s.kill_seen(B);
    // Sent again to A alone, and on its way, when the answer to the first sending comes.
    s.until_held(|e| e.to == A && matches!(e.msg, Msg::Io(..)));
    s.let_go(|e| matches!(e.msg, Msg::IoReply(..)));
    s.run(2);
    s.submit(IoOp::Write, 4, 1);
    s.run(2);
    s.world.release();
    s.run(20);
    s.read(4);
    s.end();
}

#[test]
pub(crate) fn h10_a_leg_does_not_read_what_it_missed() {
    let mut s = Script::pool(2);
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    // Each misses something, so neither is preferred.
    s.kill(A);
    s.until_set(&[B]);
    s.write(40);
    s.start(A);
    s.until_set(&[A, B]);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.start(B);
    s.until_set(&[A, B]);
    s.run(30);
    s.read(5);
    s.world.release();
    s.end();
}

#[test]
pub(crate) fn rule_w_a_leg_alone_does_not_execute_writes_to_what_it_missed() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.until_entries_clear();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.kill_seen(A);
    s.until_set(&[B]);
    s.submit(IoOp::Write, 5, 1);
    s.run(50);
    s.world.release();
    s.start(A);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn rule_w_a_flush_of_legs_that_missed_a_chunk_vouches_for_the_clean_one_that_left() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.until_entries_clear();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.write(5);
    s.kill(A);
    s.until_set(&[B]);
    s.flush();
    s.power_off_losing_all(A);
    s.world.release();
    s.start(A);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn a_write_past_its_deadline_does_not_make_the_pool_wait_for_the_leg_that_owes_it() {
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
