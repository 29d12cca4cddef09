//! Membership by command, one test a rule, named as a sentence.

use rmr_engine::client::{Command, CommandError, Why};
use rmr_proto::MemberId;
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, Script};

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
    s.hold(|e| matches!(e.msg, rmr_proto::Msg::CopyRead { .. }));
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
    s.cut(C, rmr_sim::script::CLIENT);
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
    s.kill(C);
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
