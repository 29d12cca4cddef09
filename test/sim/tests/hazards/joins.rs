//! Members that come back.

use crate::epochs::is_join;
use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, Script};
use std::cell::Cell;
use std::rc::Rc;

#[test]
pub(crate) fn h04_writes_during_a_return_reach_the_returning_leg() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.start(B);
    for block in 0..40 {
        s.write(block);
        s.run(1);
    }
    s.until_whole();
    for block in 0..40 {
        s.read(block);
    }
    s.end();
}

#[test]
pub(crate) fn h31_a_miss_of_one_block_does_not_stop_writes_to_its_chunk() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.write(20);
    s.start(B);
    s.until_set(&[A, B]);
    s.write(21);
    s.write(22);
    s.until_whole();
    s.read(20);
    s.end();
}

#[test]
pub(crate) fn h45_a_disk_that_went_back_in_time_has_missed_everything() {
    let mut s = Script::pool(2);
    s.write(5);
    s.until_entries_clear();
    s.keep_image(B);
    s.write(5);
    s.write(30);
    s.until_entries_clear();
    s.kill(B);
    s.until_set(&[A]);
    s.write(40);
    s.restore_image(B);
    s.start(B);
    s.until_whole();
    s.read(5);
    s.read(30);
    s.end();
}

#[test]
pub(crate) fn finding_08_an_abandoned_join_leaves_no_epoch_to_go_back_to() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.hold(|e| e.from == B && matches!(e.msg, Msg::Adopted { .. }));
    s.start(B);
    s.run(200);
    s.write(8);
    s.kill(B);
    s.world.drop_held();
    s.crash_client();
    s.kill(A);
    s.start(B);
    s.run(50);
    s.restart_client();
    s.start(A);
    s.until_whole();
    s.read(8);
    s.end();
}

/// Leaves B with a write that nobody else has and that was never acknowledged, and out of the set.
fn leave_b_with_a_write_of_its_own(s: &mut Script, block: u64) {
    let holding = Rc::new(Cell::new(true));
    let on = holding.clone();
    s.hold(move |e| on.get() && e.to != B && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.submit(IoOp::Write, block, 1);
    s.run(2);
    s.kill_seen(B);
    s.run(5);
    s.crash_client();
    holding.set(false);
    s.world.forget(|e| matches!(e.msg, Msg::Io(..)));
    s.restart_client();
}

#[test]
pub(crate) fn finding_08_a_joiners_entries_become_marks() {
    let mut s = Script::pool(2);
    leave_b_with_a_write_of_its_own(&mut s, 5);
    s.until_set(&[A]);
    s.start(B);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn h15_a_joiner_keeps_what_it_knows_of_itself() {
    let mut s = Script::pool(2);
    leave_b_with_a_write_of_its_own(&mut s, 5);
    s.until_set(&[A]);
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    // Its entry is a suspect mark now, and nobody else knows.
    s.kill(B);
    s.until_set(&[A]);
    s.world.release();
    s.start(B);
    s.until_whole();
    s.read(5);
    s.end();
}

/// A pool of three in which A misses the chunk of block 5 and copies nothing.
fn three_of_which_a_misses_block_5() -> Script {
    let mut s = Script::pool(3);
    s.kill(A);
    s.until_set(&[B, C]);
    s.write(5);
    s.until_entries_clear();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(A);
    s.until_set(&[A, B, C]);
    s
}

#[test]
pub(crate) fn rule_f_a_joiners_chunks_stay_suspect_where_nobody_in_the_set_is_clean() {
    let mut s = three_of_which_a_misses_block_5();
    // B and C hold the chunk. C leaves first, then B with a write that A does not have.
    s.kill_seen(C);
    s.until_set(&[A, B]);
    leave_b_with_a_write_of_its_own(&mut s, 5);
    s.until_set(&[A]);
    s.start(B);
    s.until_set(&[A, B]);
    s.start(C);
    s.until_set(&[A, B, C]);
    s.run(50);
    s.world.release();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn finding_08_a_joiners_entries_say_nothing_of_members_that_left_after_it() {
    let mut s = three_of_which_a_misses_block_5();
    leave_b_with_a_write_of_its_own(&mut s, 5);
    s.until_set(&[A, C]);
    // From now on every leg must return this value.
    s.read(5);
    // C alone holds the chunk, and leaves. B, which has something else, comes back first.
    s.kill_seen(C);
    s.until_set(&[A]);
    s.start(B);
    s.until_set(&[A, B]);
    s.start(C);
    s.until_set(&[A, B, C]);
    s.world.release();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn a_joiner_fetches_under_the_freeze_only_what_has_changed() {
    // Maps of many slices over a slow network, from a donor that has changed nothing since it was opened.
    let options = Options {
        blocks: 97,
        chunk_shift: 0,
        region_shift: 0,
        net_jitter_ns: 4_000_000,
        ..Options::quiet(2)
    };
    let mut s = Script::with(options);
    s.kill(B);
    s.until_set(&[A]);
    for block in (0..97).step_by(7) {
        let count = (97 - block).min(7) as u32;
        let write = s.submit(IoOp::Write, block, count);
        assert_eq!(s.wait(write), Ok(()));
    }
    s.until_entries_clear();
    s.crash_client();
    s.kill(A);
    s.start(A);
    s.restart_client();
    s.until_set(&[A]);
    s.start(B);
    s.until_set(&[A, B]);
    s.end();
}

#[test]
pub(crate) fn h35_no_write_ends_while_a_joiner_takes_the_last_changes() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.hold(|e| matches!(e.msg, Msg::JoinReady { last: true, .. }));
    s.start(B);
    s.until_held(|e| matches!(e.msg, Msg::JoinReady { .. }));
    s.submit(IoOp::Write, 5, 1);
    s.run(20);
    s.world.release();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn finding_08_after_an_abandoned_join_a_late_adoption_finds_a_newer_epoch() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.hold(|e| e.to == A && is_join(e));
    s.start(B);
    s.until_held(is_join);
    s.kill_seen(B);
    s.run(5);
    s.write(50);
    s.until_entries_clear();
    // A lets B in after all, and knows what B missed. B does not.
    s.world.release();
    s.run(5);
    s.crash_client();
    s.start(B);
    s.restart_client();
    s.until_whole();
    s.read(50);
    s.end();
}

#[test]
pub(crate) fn h36_a_joiner_is_not_let_in_with_news_older_than_the_donors_last_copy() {
    let (mut s, _) = joiner_meets_a_donor_that_is_done();
    s.run(80);
    s.let_go(|e| matches!(e.msg, Msg::JoinReady { .. }));
    s.run(20);
    s.let_go(|e| matches!(e.msg, Msg::JoinReady { .. }));
    s.world.drop_filters();
    s.hold(|e| e.from == C && matches!(e.msg, Msg::CopyRead { .. }));
    s.until_set(&[A, B, C]);
    s.kill_seen(A);
    s.until_set(&[B, C]);
    s.write(5);
    s.kill_seen(B);
    s.until_set(&[C]);
    s.start(B);
    s.until_set(&[B, C]);
    s.world.release();
    s.start(A);
    s.until_whole();
    s.read(5);
    s.end();
}

/// A serves; B has copied a chunk that it missed and does not hear that A knows; C has taken B's last word, and its
/// answer is held. Then B hears. The second value tells whether B has refused a proposal since.
fn joiner_meets_a_donor_that_is_done() -> (Script, Rc<Cell<bool>>) {
    let mut s = Script::pool(3);
    s.kill(B);
    s.kill(C);
    s.until_set(&[A]);
    s.write(5);
    s.until_entries_clear();
    let b_may_hear = Rc::new(Cell::new(false));
    let open = b_may_hear.clone();
    s.hold(move |e| matches!(e.msg, Msg::ClearedAck { .. }) && !(open.get() && e.to == B));
    s.start(B);
    s.until_set(&[A, B]);
    s.until_held(|e| matches!(e.msg, Msg::ClearedAck { .. }));
    let refused = Rc::new(Cell::new(false));
    let seen = refused.clone();
    s.hold(move |e| {
        seen.set(seen.get() || (e.from == B && matches!(e.msg, Msg::AdoptRefused { .. })));
        matches!(e.msg, Msg::JoinReady { last: true, .. })
    });
    s.start(C);
    s.until_held(|e| matches!(e.msg, Msg::JoinReady { .. }));
    b_may_hear.set(true);
    s.let_go(|e| matches!(e.msg, Msg::ClearedAck { .. }) && e.to == B);
    (s, refused)
}

#[test]
pub(crate) fn h36_a_donor_calls_nothing_clean_while_a_joiner_is_let_in() {
    let (mut s, refused) = joiner_meets_a_donor_that_is_done();
    s.run(20);
    s.let_go(|e| matches!(e.msg, Msg::JoinReady { .. }));
    s.run(10);
    assert!(!refused.get(), "the donor called a chunk clean after its last word");
    s.until_set(&[A, B, C]);
    s.world.release();
    s.until_whole();
    s.end();
}

#[test]
pub(crate) fn h36_a_refused_join_costs_the_joiner_and_not_the_donor() {
    let (mut s, refused) = joiner_meets_a_donor_that_is_done();
    // Longer than the donor holds its news back.
    s.run(80);
    s.let_go(|e| matches!(e.msg, Msg::JoinReady { .. }));
    s.until("the donor refuses", |_| refused.get());
    s.run(5);
    assert_eq!(s.why(B), None, "the donor was taken out");
    s.world.drop_filters();
    s.world.release();
    s.until_set(&[A, B, C]);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn h15_a_joiner_keeps_what_it_alone_knows_of_itself() {
    let mut s = Script::pool(2);
    s.write(5);
    s.until_entries_clear();
    // A write that B alone executes, and that its client never ends: only B's own entry tells of it.
    s.hold(|e| e.to == A && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.submit(IoOp::Write, 5, 1);
    s.run(2);
    s.session_ends(B);
    s.until_set(&[A]);
    s.crash_client();
    s.world.drop_held();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.restart_client();
    s.until_set(&[A, B]);
    s.run(50);
    s.kill(B);
    s.until_set(&[A]);
    s.read(5);
    s.start(B);
    s.until_set(&[A, B]);
    s.run(50);
    s.world.compare_legs();
    s.world.release();
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn a_joiner_that_is_not_answered_at_first_copies_later_and_nobody_starts_anew() {
    let mut s = Script::pool(2);
    s.write(5);
    // Its entry lives: what it holds there is in doubt when it comes back.
    s.kill(B);
    s.until_set(&[A]);
    let promise = s.epoch().promise;
    let silent = Rc::new(Cell::new(true));
    let asked = silent.clone();
    s.hold(move |e| asked.get() && matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.until_copy_fails(B);
    s.run(3000);
    silent.set(false);
    s.world.drop_held();
    s.until_whole();
    assert_eq!(s.epoch().promise, promise, "a new generation was started");
    s.read(5);
    s.end();
}
