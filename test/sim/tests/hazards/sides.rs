//! Two histories of one pool (finding 13), and starts by force.

use crate::commands::{accept, discard, force, member, members, remove};
use rmr_engine::client::Why;
use rmr_proto::{IoOp, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, History, Script};

/// A wrote alone, then B, by force, without A: what each side may read. Nothing runs but B, and its client.
pub(crate) fn two_histories() -> (Script, History, History) {
    two_histories_after(0)
}

/// The same, and so many clients have come and gone before: epochs with other nonces, so that now the one side's are the
/// greater ones, now the other's.
fn two_histories_after(clients: usize) -> (Script, History, History) {
    let mut s = Script::pool(2);
    for _ in 0..clients {
        s.crash_client();
        s.restart_client();
        s.until_set(&[A, B]);
    }
    for block in 0..40 {
        s.write(block);
    }
    s.until_entries_clear();
    let fork = s.history();
    s.kill(B);
    s.until_set(&[A]);
    for block in 0..20 {
        s.write(block);
    }
    s.until_entries_clear();
    let of_a = s.history();
    s.crash_client();
    s.kill(A);
    s.start(B);
    s.choose(&fork);
    s.restart_client_with(force(&[B]));
    s.until_set(&[B]);
    for block in 10..30 {
        s.write(block);
    }
    s.until_entries_clear();
    let of_b = s.history();
    (s, of_a, of_b)
}

pub(crate) fn read_all(s: &mut Script) {
    for block in 0..40 {
        s.read(block);
    }
}

#[test]
pub(crate) fn finding_13_a_member_that_wrote_in_another_history_is_refused_and_said() {
    let (mut s, _, _) = two_histories();
    assert_eq!(s.status().given_up.members, members(&[A]));
    s.start(A);
    s.run(3_000);
    s.until_set(&[B]);
    assert_eq!(s.why(A), Some(Why::SplitBrain));
    read_all(&mut s);
    assert_eq!(s.command(discard(A)), Ok(()));
    s.until_whole();
    read_all(&mut s);
    s.kill(B);
    s.until_set(&[A]);
    read_all(&mut s);
    s.end();
}

#[test]
pub(crate) fn finding_13_a_pool_with_two_histories_waits_until_a_side_is_chosen() {
    for chosen in [A, B] {
        let (mut s, of_a, of_b) = two_histories();
        s.crash_client();
        s.start(A);
        s.restart_client();
        s.run(2_000);
        let status = s.status();
        assert!(status.set.is_empty(), "started with {:?}", status.set);
        assert_eq!(status.waits_for, members(&[A]));
        assert_eq!((s.why(A), s.why(B)), (Some(Why::SplitBrain), Some(Why::Here)));
        s.crash_client();
        s.choose(if chosen == A { &of_a } else { &of_b });
        s.restart_client_with(accept(chosen));
        s.until_whole();
        read_all(&mut s);
        assert_eq!(s.status().given_up.members, members(&[A, B]).without(member(chosen)));
        s.crash_client();
        s.restart_client();
        s.until_whole();
        s.kill(chosen);
        s.until_set(&[1 - chosen]);
        read_all(&mut s);
        s.end();
    }
}

#[test]
pub(crate) fn finding_13_the_side_that_comes_second_finds_the_other_and_is_not_overwritten() {
    for clients in 0..6 {
        let (mut s, of_a, _) = two_histories_after(clients);
        // A alone, and its client knows nothing of B: it goes on where A was.
        s.crash_client();
        s.kill(B);
        s.start(A);
        s.choose(&of_a);
        s.restart_client();
        s.until_set(&[A]);
        s.write(35);
        s.start(B);
        s.run(2_000);
        assert_eq!(s.why(B), Some(Why::SplitBrain));
        s.until_set(&[A]);
        read_all(&mut s);
        assert_eq!(s.command(discard(B)), Ok(()));
        s.until_whole();
        read_all(&mut s);
        s.end();
    }
}

#[test]
pub(crate) fn finding_13_a_client_that_serves_does_not_go_over_to_the_side_that_is_left() {
    let (mut s, _, _) = two_histories();
    // A is all that A's own record asks for, and knows nothing of what B has written since.
    s.kill(B);
    s.start(A);
    s.run(2_000);
    let status = s.status();
    assert!(status.set.is_empty(), "serves {:?}", status.set);
    assert_eq!(status.waits_for, members(&[B]));
    s.start(B);
    s.until_set(&[B]);
    assert_eq!(s.why(A), Some(Why::SplitBrain));
    read_all(&mut s);
    assert_eq!(s.command(discard(A)), Ok(()));
    s.until_whole();
    s.end();
}

#[test]
pub(crate) fn a_member_that_was_left_alone_and_wrote_nothing_comes_back_by_itself() {
    let mut s = Script::pool(2);
    s.write(5);
    s.kill(B);
    s.until_set(&[A]);
    s.crash_client();
    s.kill(A);
    s.start(B);
    s.restart_client_with(force(&[B]));
    s.until_set(&[B]);
    s.write(5);
    s.start(A);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn what_a_member_took_for_clean_in_another_history_does_not_count() {
    let mut s = Script::pool(2);
    s.write(5);
    s.until_entries_clear();
    let fork = s.history();
    // B alone has a write that nobody acknowledged, and knows that it may.
    s.hold(|e| e.to == A && matches!(e.msg, Msg::Io(..)));
    s.submit(IoOp::Write, 5, 1);
    s.run(5);
    s.kill(A);
    s.crash_client();
    s.world.drop_filters();
    s.world.drop_held();
    // Without A it counts, and nothing says any more that it was in doubt.
    s.restart_client_with(force(&[B]));
    s.until_set(&[B]);
    s.until_entries_clear();
    s.crash_client();
    s.kill(B);
    s.start(A);
    s.choose(&fork);
    for _ in 0..2 {
        // Greater generations than B's.
        s.crash_client();
        s.restart_client_with(force(&[A]));
        s.until_set(&[A]);
    }
    s.read(5);
    s.start(B);
    s.until_whole();
    for _ in 0..4 {
        s.read(5);
    }
    s.end();
}

#[test]
pub(crate) fn who_began_to_forget_what_others_missed_and_is_started_by_force_says_all() {
    let mut s = Script::pool(3);
    s.write(5);
    s.until_entries_clear();
    s.kill(C);
    s.until_set(&[A, B]);
    s.write(5);
    s.until_entries_clear();
    let fork = s.history();
    s.kill(B);
    s.until_set(&[A]);
    s.write(6);
    // B is back and about to learn what it missed; what it said of C is void from then on.
    s.hold(|e| e.to == B && matches!(e.msg, Msg::MapSlice(_)));
    s.start(B);
    s.until_held(|e| e.to == B && matches!(e.msg, Msg::MapSlice(_)));
    s.run(20);
    s.kill(A);
    s.kill(B);
    s.crash_client();
    s.world.drop_filters();
    s.world.drop_held();
    s.start(B);
    s.choose(&fork);
    s.restart_client_with(force(&[B]));
    s.until_set(&[B]);
    s.start(C);
    s.until_set(&[B, C]);
    for _ in 0..4 {
        s.read(5);
    }
    s.start(A);
    s.run(500);
    assert_eq!(s.why(A), Some(Why::SplitBrain));
    assert_eq!(s.command(discard(A)), Ok(()));
    s.until_whole();
    s.end();
}

#[test]
pub(crate) fn a_member_that_wrote_is_known_by_it_even_if_power_fails_at_once() {
    // The record that a member wrote in an epoch is durable before the write, however soon it dies.
    for pause in 0..20 {
        let mut s = Script::with(Options { meta_delay_ns: 300_000, ..Options::quiet(2) });
        s.write(5); // Its region has an entry from here on.
        s.flush();
        let fork = s.history();
        s.kill(B);
        s.until_set(&[A]);
        s.submit(IoOp::Write, 5, 1);
        s.world.run_until(s.world.now() + 200_000 * pause);
        let acknowledged = s.world.stats().ios;
        s.power_off(A);
        s.crash_client();
        s.start(B);
        s.choose(&fork);
        s.restart_client_with(force(&[B]));
        s.until_set(&[B]);
        s.write(6);
        s.flush();
        s.start(A);
        s.run(500);
        let split = s.why(A) == Some(Why::SplitBrain);
        assert!(split || acknowledged == 2, "A wrote alone, and nobody says so");
        if split {
            assert_eq!(s.command(discard(A)), Ok(()));
        }
        s.until_whole();
        s.read(5);
        s.end();
    }
}

#[test]
pub(crate) fn force_names_what_it_gives_up_and_decides_what_nobody_holds() {
    let mut s = Script::pool(2);
    for block in 0..40 {
        s.write(block);
    }
    s.until_entries_clear();
    let before = s.history();
    s.kill(B);
    s.until_set(&[A]);
    for block in 0..20 {
        s.write(block);
    }
    s.flush();
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.run(50);
    s.kill(A);
    s.until_set(&[B]);
    s.crash_client();
    s.world.release();
    s.choose(&before); // B has nothing of what A wrote alone.
    s.restart_client_with(force(&[B]));
    s.until_set(&[B]);
    assert_eq!(s.status().given_up.chunks, 5, "20 blocks, 4 a chunk");
    for block in 0..40 {
        s.read(block);
    }
    s.write(3);
    s.start(A);
    s.until_whole();
    for block in 0..40 {
        s.read(block);
    }
    s.end();
}

#[test]
pub(crate) fn what_force_decided_counts_against_members_that_come_back_later() {
    for writes in 10..20 {
        let mut s = Script::pool(2);
        for block in 0..40 {
            s.write(block);
        }
        s.until_entries_clear();
        for block in 0..writes {
            s.write(block);
        }
        s.power_off(B); // What it had not flushed is gone or not: suspect.
        s.until_set(&[A]);
        s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
        s.start(B);
        s.until_set(&[A, B]);
        s.run(50);
        let unflushed = s.history();
        s.until_entries_clear();
        s.power_off(A);
        s.crash_client();
        s.world.release();
        s.choose(&unflushed);
        s.power_off(A); // In this history, too.
        s.restart_client_with(force(&[B]));
        s.until_set(&[B]);
        assert!(s.status().given_up.chunks > 0);
        read_all(&mut s);
        s.start(A);
        s.until_whole();
        read_all(&mut s);
        s.end();
    }
}

#[test]
pub(crate) fn force_takes_nobody_who_is_stale_by_what_is_here() {
    let mut s = Script::pool(2);
    s.write(5);
    s.kill(B);
    s.until_set(&[A]);
    s.write(5);
    s.crash_client();
    s.start(B);
    s.restart_client_with(force(&[B]));
    s.run(1_000);
    let status = s.status();
    assert!(status.set.is_empty());
    assert_eq!((status.waits_for, s.why(A)), (members(&[A]), Some(Why::HoldsNewer)));
    s.crash_client();
    s.restart_client_with(force(&[A, B]));
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn a_member_lost_for_ever_is_forgotten_by_force_and_remove() {
    let mut s = Script::pool(3);
    s.write(5);
    s.crash_client();
    s.kill(C);
    s.restart_client();
    s.run(1_000);
    assert_eq!((s.status().waits_for, s.why(C)), (members(&[C]), Some(Why::Unreachable)));
    s.crash_client();
    s.restart_client_with(force(&[A, B]));
    s.until_set(&[A, B]);
    assert_eq!(s.status().given_up.members, members(&[C]));
    s.until("a leg holds everything", |w| w.is_whole_without(C));
    assert_eq!(s.command(remove(C)), Ok(()));
    s.write(5);
    s.crash_client();
    s.restart_client();
    s.until_set(&[A, B]);
    s.read(5);
    s.end();
}
