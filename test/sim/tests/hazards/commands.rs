//! Commands to the pool: how they are given, that each ends, and what is left when somebody dies meanwhile.

use rmr_engine::client::{Command, CommandError, StartOptions, Why};
use rmr_proto::{IoOp, MemberId, MemberSet, Msg};
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, CLIENT, Script};

pub(crate) fn member(node: usize) -> MemberId {
    MemberId::at(node)
}

pub(crate) fn add(node: usize) -> Command {
    Command::Add { member: member(node) }
}

pub(crate) fn remove(node: usize) -> Command {
    Command::Remove { member: member(node), force: false }
}

pub(crate) fn rest(node: usize, on: bool) -> Command {
    Command::Maintenance { member: member(node), on }
}

pub(crate) fn replace(node: usize) -> Command {
    Command::Replace { member: member(node), force: false }
}

pub(crate) fn discard(node: usize) -> Command {
    Command::Discard { member: member(node), force: false }
}

pub(crate) fn members(nodes: &[usize]) -> MemberSet {
    nodes.iter().fold(MemberSet::EMPTY, |set, node| set.with(member(*node)))
}

pub(crate) fn force(nodes: &[usize]) -> StartOptions {
    StartOptions { force: members(nodes), ..StartOptions::takeover() }
}

pub(crate) fn accept(node: usize) -> StartOptions {
    StartOptions { accept: Some(member(node)), ..StartOptions::takeover() }
}

/// A pool, and nodes with an empty store that it does not name.
pub(crate) fn with_spares(members: usize, spares: usize) -> Script {
    Script::with(Options { spares, ..Options::quiet(members) })
}

/// B in the set with chunks that it has not fetched yet: A cannot read them for it.
pub(crate) fn with_a_stale_leg() -> Script {
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
pub(crate) fn a_command_survives_the_loss_of_a_leg_meanwhile() {
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
pub(crate) fn a_client_that_dies_during_a_command_leaves_the_old_or_the_new_state() {
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
pub(crate) fn every_command_ends() {
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
pub(crate) fn commands_are_refused_in_words_that_name_the_member_and_the_next_step() {
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
pub(crate) fn a_client_that_comes_back_finds_a_pool_whose_members_are_others() {
    let mut s = with_spares(2, 1);
    s.write(5);
    // Another host takes the pool, moves it to C, and the old disks are made empty stores again; the first host is cut off.
    for node in [A, B, C] {
        s.cut(CLIENT, node);
    }
    s.other_client();
    s.until_set(&[A, B]);
    assert_eq!(s.command(add(C)), Ok(()));
    s.until_whole();
    for gone in [A, B] {
        assert_eq!(s.command(remove(gone)), Ok(()));
    }
    s.write(5);
    s.wipe(A);
    s.wipe(B);
    s.crash_client();
    // The first host's client still runs, and knows A and B.
    s.mend();
    s.other_client();
    s.until_set(&[C]);
    s.read(5);
    s.end();
}

#[test]
pub(crate) fn a_start_that_was_settled_with_one_disk_is_not_adopted_by_the_next() {
    let mut s = Script::pool(2);
    s.kill_seen(B);
    s.until_set(&[A]);
    s.write(5);
    s.crash_client();
    // A client on the other host knows from A's report with whom to start. What it asks next is late.
    s.hold(|e| e.from == CLIENT + 1 && matches!(e.msg, Msg::Query { .. } | Msg::Adopt(_)));
    s.other_client();
    s.until_held(|e| matches!(e.msg, Msg::Query { .. }));
    // Meanwhile the pool is somebody else's, and A's disk is replaced by an empty one.
    s.start(B);
    s.other_client();
    s.until_whole();
    assert_eq!(s.command(replace(A)), Ok(()));
    s.write(5);
    s.cut(CLIENT, A);
    s.wipe(A);
    s.crash_client();
    s.cut(CLIENT + 1, B);
    s.world.release();
    s.other_client();
    let read = s.submit(IoOp::Read, 5, 1);
    s.run(30);
    s.mend();
    assert_eq!(s.wait(read), Ok(()));
    s.end();
}

#[test]
pub(crate) fn a_pool_of_eight_members_takes_commands() {
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
