//! Membership by command, one test a rule, named as a sentence.

use rmr_engine::client::{Command, CommandError, StartOptions, Why};
use rmr_proto::{MemberId, MemberSet, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, CLIENT, History, Script};

fn member(node: usize) -> MemberId {
    MemberId::at(node)
}

fn add(node: usize) -> Command {
    Command::Add { member: member(node) }
}

fn remove(node: usize) -> Command {
    Command::Remove { member: member(node), force: false }
}

fn rest(node: usize, on: bool) -> Command {
    Command::Maintenance { member: member(node), on }
}

fn replace(node: usize) -> Command {
    Command::Replace { member: member(node), force: false }
}

/// A pool, and nodes with an empty store that it does not name.
fn with_spares(members: usize, spares: usize) -> Script {
    Script::with(Options { spares, ..Options::quiet(members) })
}

/// B in the set with chunks that it has not fetched yet: A cannot read them for it.
fn with_a_stale_leg() -> Script {
    let mut s = Script::pool(2);
    s.kill(B);
    s.until_set(&[A]);
    for block in 0..30 {
        s.write(block);
    }
    s.hold(|e| matches!(e.msg, Msg::CopyRead { .. }));
    s.start(B);
    s.until_set(&[A, B]);
    s.run(100);
    s
}

#[test]
fn a_store_that_the_pool_does_not_name_is_let_in_by_add_alone() {
    let mut s = with_spares(2, 1);
    s.write(5);
    s.crash_client();
    s.restart_client(); // Configured with C as well now.
    s.until_set(&[A, B]);
    s.run(500);
    assert_eq!(s.why(C), Some(Why::Stranger));
    assert_eq!(s.command(add(C)), Ok(()));
    s.until_set(&[A, B, C]);
    s.until_whole();
    s.kill(A);
    s.kill(B);
    s.until_set(&[C]);
    s.read(5);
    s.end();
}

#[test]
fn members_are_those_of_the_newest_record_after_every_restart() {
    let mut s = with_spares(2, 1);
    assert_eq!(s.command(add(C)), Ok(()));
    s.until_whole();
    assert_eq!(s.command(remove(A)), Ok(()));
    s.write(7);
    s.crash_client();
    for node in [A, B, C] {
        s.power_off(node);
        s.start(node);
    }
    s.restart_client();
    s.until_set(&[B, C]);
    assert_eq!(s.why(A), Some(Why::Stranger));
    s.read(7);
    s.end();
}

#[test]
fn the_disk_of_a_removed_member_may_be_wiped() {
    let mut s = Script::pool(2);
    for block in 0..40 {
        s.write(block);
    }
    assert_eq!(s.command(remove(B)), Ok(()));
    s.wipe(B);
    s.power_off(A);
    s.start(A);
    s.until_set(&[A]);
    for block in 0..40 {
        s.read(block);
    }
    s.end();
}

#[test]
fn a_removed_member_that_is_added_again_counts_as_another_disk() {
    let mut s = Script::pool(2);
    s.write(9);
    assert_eq!(s.command(remove(B)), Ok(()));
    s.write(9);
    s.write(33);
    s.flush();
    s.run(200);
    assert_eq!(s.command(add(B)), Ok(()));
    s.until_whole();
    s.read(9);
    s.read(33);
    s.end();
}

#[test]
fn a_dead_member_can_be_removed_and_its_place_taken_again() {
    let mut s = Script::pool(3);
    s.kill(C);
    s.until_set(&[A, B]);
    assert_eq!(s.command(remove(C)), Ok(()));
    s.write(4);
    s.wipe(C);
    s.run(200);
    assert_eq!(s.why(C), Some(Why::Stranger));
    assert_eq!(s.command(add(C)), Ok(()));
    s.end();
}

#[test]
fn the_only_member_cannot_be_removed() {
    let mut s = Script::pool(1);
    assert_eq!(s.command(remove(A)), Err(CommandError::OnlyMember { member: member(A) }));
    assert_eq!(s.command(rest(A, true)), Err(CommandError::OnlyMember { member: member(A) }));
    assert_eq!(s.command(replace(A)), Err(CommandError::OnlyMember { member: member(A) }));
    s.write(1);
    s.end();
}

#[test]
fn h28_the_last_copy_in_the_set_is_not_removed_nor_put_to_rest_nor_replaced() {
    for command in [remove(A), rest(A, true), replace(A)] {
        let mut s = with_a_stale_leg();
        let refused = s.command(command);
        assert!(matches!(refused, Err(CommandError::LastCopy { lacking: 1.., .. })), "{refused:?}");
        s.world.release();
        s.until_whole();
        s.read(5);
        assert_eq!(s.command(command), Ok(()), "everything is copied");
        s.wipe(A);
        s.until_set(if matches!(command, Command::Replace { .. }) { &[A, B] } else { &[B] });
        s.read(5);
        s.end();
    }
}

#[test]
fn h28_the_last_copy_outside_the_set_is_not_removed_nor_replaced() {
    for command in [remove(A), rest(A, true), replace(A)] {
        let mut s = with_a_stale_leg();
        s.kill(A);
        s.until_set(&[B]);
        s.run(200);
        let refused = s.command(command);
        assert!(matches!(refused, Err(CommandError::LastCopy { lacking: 1.., .. })), "{refused:?}");
        s.world.release();
        s.start(A);
        s.until_whole();
        s.read(5);
        s.end();
    }
}

#[test]
fn h28_a_chunk_that_is_clean_in_memory_alone_is_not_a_copy() {
    // Slow metadata: between calling chunks clean and knowing it durably, the other copy is removed and wiped.
    for pause in 0..60 {
        let mut s = Script::with(Options { meta_delay_ns: 2_000_000, ..Options::quiet(2) });
        s.kill(B);
        s.until_set(&[A]);
        for block in 0..8 {
            s.write(block);
        }
        s.start(B);
        s.until_set(&[A, B]);
        s.run(pause);
        if s.command(remove(A)).is_ok() {
            s.wipe(A);
            s.power_off(B);
            s.start(B);
            s.until_set(&[B]);
            s.read(5);
        }
        s.end();
    }
}

#[test]
fn h32_a_resting_member_stays_out_over_restarts_until_it_ends() {
    let mut s = Script::pool(3);
    s.write(2);
    assert_eq!(s.command(rest(C, true)), Ok(()));
    s.until_set(&[A, B]);
    s.write(2);
    s.power_off(C);
    s.start(C);
    s.crash_client();
    s.power_off(B);
    s.start(B);
    s.restart_client();
    s.until_set(&[A, B]);
    s.run(1_000);
    s.until_set(&[A, B]);
    assert_eq!(s.why(C), Some(Why::Resting));
    s.write(3);
    assert_eq!(s.command(rest(C, false)), Ok(()));
    s.until_set(&[A, B, C]);
    s.until_whole();
    s.read(2);
    s.end();
}

#[test]
fn h39_a_replaced_disk_has_missed_everything() {
    let mut s = Script::pool(3);
    s.write(11);
    s.until_entries_clear();
    // The disk that comes back is the old one, by mistake: what it holds counts for nothing all the same.
    assert_eq!(s.command(replace(B)), Ok(()));
    s.until_whole();
    assert_eq!(s.command(replace(B)), Ok(()));
    s.wipe(B);
    s.until_whole();
    s.kill(A);
    s.kill(C);
    s.until_set(&[B]);
    s.read(11);
    s.end();
}

#[test]
fn h39_another_disk_is_not_let_in_while_nobody_else_holds_everything() {
    let mut s = with_a_stale_leg();
    s.keep_image(A);
    s.kill(A);
    s.until_set(&[B]);
    // A blank disk in A's place, by mistake: were it let in, A's real one would count as another.
    s.wipe(A);
    s.run(500);
    s.until_set(&[B]);
    assert_eq!(s.why(A), Some(Why::WouldVoid));
    s.restore_image(A);
    s.world.release();
    s.start(A);
    s.until_whole();
    s.read(5);
    s.end();
}

#[test]
fn a_command_survives_the_loss_of_a_leg_meanwhile() {
    let mut s = Script::pool(4);
    s.cut(C, CLIENT);
    let tag = s.give(remove(B));
    s.run(20);
    s.kill(3);
    assert_eq!(s.ended(tag), Ok(()));
    s.until_set(&[A]);
    s.mend();
    s.start(3);
    s.until_set(&[A, C, 3]);
    s.end();
}

#[test]
fn a_client_that_dies_during_a_command_leaves_the_old_or_the_new_state() {
    for pause in 0..30 {
        let mut s = with_spares(3, 1);
        for block in 0..20 {
            s.write(block);
        }
        s.give([remove(B), rest(B, true), replace(B), add(3)][pause % 4]);
        for _ in 0..pause {
            s.world.run_until(s.world.now() + 50_000);
        }
        s.crash_client();
        s.restart_client();
        s.until_whole();
        for block in 0..20 {
            s.read(block);
        }
        s.end();
    }
}

#[test]
fn empty_stores_alone_do_not_pass_for_a_new_pool() {
    let mut s = Script::pool(2);
    s.write(5);
    assert_eq!(s.command(remove(A)), Ok(()));
    s.wipe(A);
    s.crash_client();
    s.kill(B);
    s.restart_client();
    s.run(1_000);
    assert!(s.status().set.is_empty());
    s.start(B);
    s.until_set(&[B]);
    s.read(5);
    s.end();
}

#[test]
fn every_command_ends() {
    let mut s = with_spares(2, 1);
    s.kill_seen(C);
    let late = s.command(add(C));
    assert_eq!(late, Err(CommandError::Deadline { member: member(C), why: Some(Why::Unreachable) }));
    s.kill(A);
    s.kill(B);
    let tag = s.give(rest(B, true));
    assert_eq!(s.command(remove(A)), Err(CommandError::Busy));
    assert!(matches!(s.ended(tag), Err(CommandError::Deadline { .. })));
    s.end();
}

#[test]
fn commands_are_refused_in_words_that_name_the_member_and_the_next_step() {
    let mut s = with_spares(2, 1);
    let refused = s.command(remove(C)).expect_err("not a member");
    assert_eq!(refused.to_string(), "C is not a member of the pool; members are {AB}");
    let refused = s.command(add(A)).expect_err("a member");
    assert_eq!(
        refused.to_string(),
        "A is a member already: it comes back by itself, a new disk in its place needs `replace`"
    );
    let discard = Command::Discard { member: member(A), force: false };
    assert_eq!(s.command(discard), Err(CommandError::NotSplit { member: member(A) }));
    s.end();
}

#[test]
fn a_pool_of_eight_members_takes_commands() {
    let mut s = Script::pool(8);
    for block in 0..20 {
        s.write(block);
    }
    assert_eq!(s.command(remove(7)), Ok(()));
    assert_eq!(s.command(rest(6, true)), Ok(()));
    s.write(3);
    assert_eq!(s.command(add(7)), Ok(()));
    assert_eq!(s.command(rest(6, false)), Ok(()));
    s.until_set(&[0, 1, 2, 3, 4, 5, 6, 7]);
    s.end();
}

fn discard(node: usize) -> Command {
    Command::Discard { member: member(node), force: false }
}

fn members(nodes: &[usize]) -> MemberSet {
    nodes.iter().fold(MemberSet::EMPTY, |set, node| set.with(member(*node)))
}

fn force(nodes: &[usize]) -> StartOptions {
    StartOptions { force: members(nodes), ..StartOptions::takeover() }
}

fn accept(node: usize) -> StartOptions {
    StartOptions { accept: Some(member(node)), ..StartOptions::takeover() }
}

/// A wrote alone, then B, by force, without A: what each side may read. Nothing runs but B, and its client.
fn two_histories() -> (Script, History, History) {
    let mut s = Script::pool(2);
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

fn read_all(s: &mut Script) {
    for block in 0..40 {
        s.read(block);
    }
}

#[test]
fn finding_13_a_member_that_wrote_in_another_history_is_refused_and_said() {
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
fn finding_13_a_pool_with_two_histories_waits_until_a_side_is_chosen() {
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
fn finding_13_the_side_that_comes_second_finds_the_other_and_is_not_overwritten() {
    let (mut s, of_a, _) = two_histories();
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

#[test]
fn a_member_that_was_left_alone_and_wrote_nothing_comes_back_by_itself() {
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
fn a_member_that_wrote_is_known_by_it_even_if_power_fails_at_once() {
    // The record that a member wrote in an epoch is durable before the write, however soon it dies.
    for pause in 0..20 {
        let mut s = Script::with(Options { meta_delay_ns: 300_000, ..Options::quiet(2) });
        s.write(5); // Its region has an entry from here on.
        s.flush();
        let fork = s.history();
        s.kill(B);
        s.until_set(&[A]);
        s.submit(rmr_proto::IoOp::Write, 5, 1);
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
fn force_names_what_it_gives_up_and_decides_what_nobody_holds() {
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
fn what_force_decided_counts_against_members_that_come_back_later() {
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
fn force_takes_nobody_who_is_stale_by_what_is_here() {
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
fn a_member_lost_for_ever_is_forgotten_by_force_and_remove() {
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

#[test]
fn a_start_says_whom_it_waits_for_and_why() {
    let mut s = with_spares(2, 1);
    s.write(5);
    s.until_entries_clear();
    s.keep_image(B);
    s.write(5);
    s.until_entries_clear();
    s.crash_client();

    s.hold(|e| e.from == B && matches!(e.msg, Msg::Promised(_)));
    s.restart_client();
    s.run(100);
    assert_eq!(s.status().waits_for, members(&[B]));
    assert_eq!((s.why(A), s.why(B), s.why(C)), (Some(Why::Here), Some(Why::Silent), Some(Why::Stranger)));
    s.world.release();
    s.until_set(&[A, B]);

    s.other_client_with(StartOptions::default());
    s.run(80);
    assert!(matches!(s.why(A), Some(Why::Leased(1..))), "{:?}", s.why(A));
    s.crash_client();
    s.other_client_with(StartOptions::default()); // Back to the first, which dies too.
    s.crash_client();

    s.restore_image(B);
    s.start(B);
    s.restart_client();
    s.run(100);
    assert_eq!((s.status().waits_for, s.why(B)), (members(&[B]), Some(Why::WentBack)));
    s.crash_client();

    s.wipe(B);
    s.restart_client();
    s.run(100);
    assert_eq!((s.status().waits_for, s.why(B)), (members(&[B]), Some(Why::OtherDisk)));
    s.kill(B);
    s.run(30);
    s.crash_client();
    s.restart_client();
    s.run(100);
    assert_eq!((s.status().waits_for, s.why(B)), (members(&[B]), Some(Why::Unreachable)));
    s.crash_client();
    s.restart_client_with(force(&[A]));
    s.until_set(&[A]);
    s.read(5);
    s.end();
}

#[test]
fn h15_a_joiner_keeps_what_it_alone_knows_of_itself() {
    let mut s = Script::pool(2);
    s.write(5);
    s.until_entries_clear();
    // A write that B alone executes, and that its client never ends: only B's own entry tells of it.
    s.hold(|e| e.to == A && matches!(e.msg, Msg::Io(io, _) if io.op.is_write()));
    s.submit(rmr_proto::IoOp::Write, 5, 1);
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
fn finding_20_a_pool_of_one_member_comes_back_from_every_outage_alone() {
    let mut s = Script::pool(1);
    for round in 0..5 {
        for block in 0..20 {
            s.write(block);
        }
        s.submit(rmr_proto::IoOp::Write, 7, 3);
        s.run(round);
        s.power_off(A);
        s.crash_client();
        s.start(A);
        s.restart_client();
        s.until_whole();
        s.read(7);
    }
    s.end();
}

#[test]
fn while_it_serves_a_pool_says_why_each_member_is_not_up_to_date() {
    let mut s = with_spares(3, 1);
    s.crash_client();
    s.restart_client(); // Configured with the spare as well.
    s.until_set(&[A, B, C]);
    assert_eq!(s.status().legs, vec![(member(3), Why::Stranger)]);
    s.hold(|e| matches!(e.msg, Msg::MapPull { .. }));
    s.kill(C);
    s.until_set(&[A, B]);
    s.start(C);
    s.run(60);
    assert_eq!(s.why(C), Some(Why::Joining));
    s.run(600);
    s.until("a pause", |w| w.says(C, |why| matches!(why, Why::BackOff(1..))));
    s.world.release();
    s.until_whole();
    assert_eq!(s.command(rest(C, true)), Ok(()));
    assert_eq!(s.status().legs, vec![(member(C), Why::Resting), (member(3), Why::Stranger)]);
    assert_eq!(s.command(rest(C, false)), Ok(()));
    s.end();
}

#[test]
fn h45_a_late_answer_of_a_replaced_disk_does_not_age_the_new_one() {
    let mut s = Script::pool(3);
    for block in 0..12 {
        s.kill_seen(C);
        s.until_set(&[A, B]);
        s.write(block);
        s.start(C);
        s.until_whole();
    }
    let first = std::cell::Cell::new(true);
    s.hold(move |e| e.from == C && matches!(e.msg, Msg::Adopted { .. }) && first.replace(false));
    s.kill_seen(B);
    s.until_set(&[A, C]);
    s.start(B);
    s.until_whole();
    assert_eq!(s.command(replace(C)), Ok(()));
    s.wipe(C);
    s.until_whole();
    s.world.release();
    s.run(50);
    let counter = s.world.counter(C);
    assert!(s.world.known_counter(C) <= counter, "{} of {counter}", s.world.known_counter(C));
    s.end();
}
