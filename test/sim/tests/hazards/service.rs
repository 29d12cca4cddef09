//! What a caller may count on besides the data: that requests and commands end, when they should and as they should.

use crate::commands::{member, members, rest};
use rmr_engine::IoError;
use rmr_engine::client::{Phase, ResizeError};
use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, CLIENT, Script};

const MS: u64 = 1_000_000;
const DEADLINE_MS: u64 = 300;

/// Ends with its deadline, not before and not much later.
fn ends_at_its_deadline(s: &mut Script, user: u64, submitted: u64) {
    assert_eq!(s.wait(user), Err(IoError::Deadline));
    let took = (s.now() - submitted) / MS;
    assert!((DEADLINE_MS..DEADLINE_MS + 20).contains(&took), "it ended after {took} ms");
}

#[test]
fn a_request_ends_at_its_deadline_while_nobody_serves() {
    let mut s = Script::with(Options { deadline_ns: DEADLINE_MS * MS, ..Options::quiet(2) });
    s.until_whole();
    s.kill(A);
    s.kill(B);
    s.until("nobody serves", |w| !w.is_whole());
    for op in [IoOp::Write, IoOp::Read, IoOp::Flush] {
        let (user, now) = (s.submit(op, 5, 1), s.now());
        ends_at_its_deadline(&mut s, user, now);
    }
    s.start(A);
    s.start(B);
    s.write(5);
    s.end();
}

#[test]
fn a_write_ends_at_its_deadline_while_no_leg_holds_its_chunk() {
    let mut s = only_b_and_b_missed_it(Options { deadline_ns: DEADLINE_MS * MS, ..Options::quiet(2) });
    let (user, now) = (s.submit(IoOp::Write, 5, 1), s.now());
    ends_at_its_deadline(&mut s, user, now);
    s.start(A);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
fn a_write_that_no_leg_could_execute_goes_on_when_one_can() {
    let mut s = only_b_and_b_missed_it(Options::quiet(2));
    let (user, now) = (s.submit(IoOp::Write, 5, 1), s.now());
    s.run(100);
    assert!(!s.world.has_ended(user));
    s.start(A);
    assert_eq!(s.wait(user), Ok(()));
    assert!(s.now() - now < 2_000 * MS, "long before its deadline");
    s.until_whole();
    s.read(5);
    s.end();
}

/// The set is B, which holds all but the chunk of block 5.
fn only_b_and_b_missed_it(options: Options) -> Script {
    let mut s = Script::with(options);
    s.until_whole();
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.until_entries_clear();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.run(30);
    s.kill_loudly(A);
    s.until_set(&[B]);
    s.world.drop_filters();
    s
}

#[test]
fn maintenance_that_is_on_already_changes_nothing() {
    let mut s = Script::pool(2);
    s.until_whole();
    assert_eq!(s.command(rest(B, true)), Ok(()));
    s.until_set(&[A]);
    let epochs = s.world.stats().epochs;
    assert_eq!(s.command(rest(B, true)), Ok(()));
    assert_eq!(s.command(rest(A, false)), Ok(()));
    assert_eq!(s.world.stats().epochs, epochs, "a new epoch for nothing");
    assert_eq!(s.command(rest(B, false)), Ok(()));
    s.until_whole();
    s.end();
}

#[test]
fn a_start_says_who_has_not_adopted_it_yet() {
    let mut s = Script::pool(2);
    s.write(5);
    s.crash_client();
    s.hold(|e| e.from == B && matches!(e.msg, Msg::Adopted { .. }));
    s.restart_client();
    s.until_held(|e| matches!(e.msg, Msg::Adopted { .. }));
    s.run(2);
    let status = s.status();
    assert_eq!((s.phase(), status.waits_for), (Some(Phase::Assembling), members(&[B])), "{:?}", member(B));
    s.world.drop_filters();
    s.until_set(&[A, B]);
    s.read(5);
    s.end();
}

#[test]
fn a_device_of_more_bytes_than_can_be_is_refused() {
    let mut s = Script::pool(2);
    s.until_whole();
    assert!(matches!(s.resize(u64::MAX >> 12), Err(ResizeError::TooLarge { .. })));
    s.write(5);
    s.end();
}

#[test]
fn a_growth_is_answered_when_the_pool_becomes_somebody_elses() {
    let mut s = Script::pool(2);
    s.until_whole();
    s.hold(|e| e.from == CLIENT && matches!(e.msg, Msg::Promise { .. }));
    s.ask_resize(s.blocks() + 8);
    s.run(5);
    let old = s.blocks();
    s.other_client();
    s.until_set(&[A, B]);
    // A second time: its generation is the greater one, whatever their nonces.
    s.crash_client();
    s.restart_client();
    s.until_set(&[A, B]);
    s.world.drop_filters();
    assert_eq!(s.until_resized(), Err(ResizeError::Interrupted));
    assert_eq!(s.blocks(), old);
    s.write(5);
    s.end();
}

#[test]
fn a_write_waits_for_room_in_the_intent_log_and_not_for_ever() {
    // Nobody flushes, so no entry can go: after its patience a write makes one more.
    let mut s = Script::with(Options { intents_soft_max: 1, blocks: 160, ..Options::quiet(2) });
    s.until_whole();
    s.hold(|e| e.from == CLIENT && matches!(e.msg, Msg::Io(io, _) if io.op == IoOp::Flush));
    for region in 0..4 {
        s.write(16 * region);
    }
    for region in 4..8 {
        let (user, now) = (s.submit(IoOp::Write, 16 * region, 1), s.now());
        assert_eq!(s.wait(user), Ok(()));
        let waited = (s.now() - now) / MS;
        assert!((10..40).contains(&waited), "it waited {waited} ms for room");
    }
    s.world.drop_filters();
    s.world.release();
    s.end();
}

#[test]
fn a_chunk_that_cannot_be_read_is_asked_for_again_until_it_comes() {
    let mut s = Script::pool(2);
    s.write(5);
    s.until_entries_clear();
    s.unreadable(A, 5);
    s.hold(|e| e.from == A && matches!(e.msg, Msg::CopyRead { .. }));
    s.read(5);
    s.until_held(|e| matches!(e.msg, Msg::CopyRead { .. }));
    // The first time in vain: the peer does not answer in time.
    s.run(100);
    s.world.drop_filters();
    s.world.drop_held();
    s.until("it was written again", |w| w.can_read(A, 5));
    s.read(5);
    s.end();
}
