//! Promises, sets, clients that replace each other.

use rmr_proto::{IoOp, Msg, Origin};
use rmr_sim::script::{A, B, C, CLIENT, Script};
use rmr_sim::world::Envelope;

/// Asks a member to adopt a join.
pub(crate) fn is_join(e: &Envelope<'_>) -> bool {
    matches!(e.msg, Msg::Adopt(proposal) if matches!(proposal.origin, Origin::Join { .. }))
}

#[test]
pub(crate) fn h05_a_second_client_restart_does_not_let_a_stale_leg_win() {
    let mut s = Script::pool(2);
    for _ in 0..3 {
        s.crash_client();
        s.restart_client();
        s.until_set(&[A, B]);
        s.kill(B);
        s.until_set(&[A]);
        s.write(9);
        s.crash_client();
        s.start(B);
        s.restart_client();
        s.until_whole();
        s.read(9);
    }
    s.end();
}

#[test]
pub(crate) fn h09_a_leg_that_does_not_know_it_was_cut_off_serves_nobody() {
    let mut s = Script::pool(3);
    s.cut(B, CLIENT);
    s.until_set(&[A, C]);
    s.write(7);
    s.kill(C);
    s.until_set(&[A]);
    s.start(C);
    s.until_set(&[A, C]);
    s.read(7);
    s.end();
}

#[test]
pub(crate) fn h26_a_client_that_was_superseded_writes_nothing_more() {
    let mut s = Script::pool(2);
    s.write(2);
    s.hold(|e| e.from == CLIENT && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.submit(IoOp::Write, 2, 1);
    s.run(1);
    s.other_client();
    s.until_set(&[A, B]);
    s.write(2);
    s.world.release();
    s.run(50);
    s.read(2);
    s.end();
}

#[test]
fn h26_an_idle_client_that_was_superseded_does_not_take_the_pool_back() {
    // Whose name is greater is drawn: either way.
    for _ in 0..8 {
        let mut s = Script::pool(2);
        s.write(2);
        for _ in 0..4 {
            s.other_client();
            s.until_set(&[A, B]);
            let taken = s.epoch().promise;
            s.run(5000);
            assert_eq!(s.epoch().promise, taken, "the one before took it back");
        }
        s.end();
    }
}

#[test]
pub(crate) fn finding_02_a_leg_that_may_have_shrunk_the_set_is_waited_for() {
    let mut s = Script::pool(2);
    s.hold(|e| e.from == A && matches!(e.msg, Msg::Adopted { .. }));
    s.kill(B);
    s.run(30);
    s.start(B);
    s.run(300);
    s.world.release();
    s.until_whole();
    s.write(1);
    s.read(1);
    s.end();
}

#[test]
pub(crate) fn finding_02_no_set_is_proposed_that_was_not_in_the_one_before() {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    s.hold(|e| e.to == A && is_join(e));
    s.start(B);
    s.until_held(is_join);
    s.cut(CLIENT, A);
    // A does not adopt the join in time. B alone may not go on: A never heard of it and would start alone later.
    s.run(150);
    s.submit(IoOp::Write, 50, 1);
    s.run(30);
    s.world.drop_held();
    s.mend();
    s.kill(B);
    s.crash_client();
    s.restart_client();
    s.until_set(&[A]);
    s.read(50);
    s.start(B);
    s.until_whole();
    s.end();
}

/// A block in each of the four regions of a quiet pool; members list two regions at a time, and are asked about two.
const ONE_IN_EACH_REGION: [u64; 4] = [1, 17, 40, 50];

#[test]
pub(crate) fn finding_07_however_many_regions_are_suspect_all_are_settled() {
    let mut s = Script::pool(2);
    s.hold(|e| e.to == B && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    for block in ONE_IN_EACH_REGION {
        s.submit(IoOp::Write, block, 1);
    }
    s.run(2);
    // A has them all, B none.
    s.crash_client();
    s.world.drop_held();
    s.restart_client();
    s.until_whole();
    for block in ONE_IN_EACH_REGION {
        s.read(block);
    }
    s.end();
}

#[test]
pub(crate) fn finding_07_a_late_answer_about_other_regions_says_nothing_of_these() {
    let mut s = Script::pool(2);
    s.kill(A);
    s.until_set(&[B]);
    s.write(40);
    s.until_entries_clear();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(A);
    s.until_set(&[A, B]);
    for block in ONE_IN_EACH_REGION {
        s.write(block);
    }
    s.crash_client();
    // A, which missed the chunk of block 40, is asked twice about the first two regions.
    let answers = |e: &Envelope<'_>| e.from == A && matches!(e.msg, Msg::QueryReply { .. });
    s.hold(answers);
    let before = s.world.held();
    s.restart_client();
    s.until("A has answered twice", |w| w.held() == before + 2);
    // The second answer comes when the client asks about the others, before the answer to that.
    let first = std::cell::Cell::new(true);
    s.let_go(|e| answers(e) && first.replace(false));
    s.until("A has answered about the others", |w| w.held() == before + 2);
    let first = std::cell::Cell::new(true);
    s.let_go(|e| answers(e) && first.replace(false));
    s.run(1);
    s.world.release();
    s.until_whole();
    s.read(40);
    s.end();
}
