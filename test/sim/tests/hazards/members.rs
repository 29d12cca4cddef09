//! Who is a member, who may leave, and whose disk counts.

use crate::commands::{add, member, remove, replace, rest, with_a_stale_leg, with_spares};
use rmr_engine::client::{Command, CommandError, Why};
use rmr_proto::Msg;
use rmr_sim::Options;
use rmr_sim::script::{A, B, C, Script};
use rmr_sim::world::Envelope;

#[test]
pub(crate) fn a_store_that_the_pool_does_not_name_is_let_in_by_add_alone() {
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
pub(crate) fn members_are_those_of_the_newest_record_after_every_restart() {
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
pub(crate) fn the_disk_of_a_removed_member_may_be_wiped() {
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
pub(crate) fn a_removed_member_that_is_added_again_counts_as_another_disk() {
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
pub(crate) fn a_dead_member_can_be_removed_and_its_place_taken_again() {
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
pub(crate) fn the_only_member_cannot_be_removed() {
    let mut s = Script::pool(1);
    assert_eq!(s.command(remove(A)), Err(CommandError::OnlyMember { member: member(A) }));
    assert_eq!(s.command(rest(A, true)), Err(CommandError::OnlyMember { member: member(A) }));
    assert_eq!(s.command(replace(A)), Err(CommandError::OnlyMember { member: member(A) }));
    s.write(1);
    s.end();
}

#[test]
pub(crate) fn h28_the_last_copy_in_the_set_is_not_removed_nor_put_to_rest_nor_replaced() {
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
pub(crate) fn h28_the_last_copy_outside_the_set_is_not_removed_nor_replaced() {
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
pub(crate) fn h28_a_chunk_that_is_clean_in_memory_alone_is_not_a_copy() {
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
pub(crate) fn h32_a_resting_member_stays_out_over_restarts_until_it_ends() {
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
pub(crate) fn h39_a_replaced_disk_has_missed_everything() {
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
pub(crate) fn h39_another_disk_is_not_let_in_while_nobody_else_holds_everything() {
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
pub(crate) fn empty_stores_alone_do_not_pass_for_a_new_pool() {
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
pub(crate) fn h45_a_late_answer_of_a_disk_that_is_gone_does_not_condemn_the_one_in_its_place() {
    let mut s = Script::pool(2);
    for _ in 0..20 {
        s.write(5);
        s.until_entries_clear();
    }
    s.kill(B);
    s.until_set(&[A]);
    // B is asked again, and says a second time that it adopted: that is on its way for long.
    let adopted = |e: &Envelope<'_>| e.from == B && matches!(e.msg, Msg::Adopted { .. });
    s.hold(adopted);
    s.start(B);
    s.until("B has answered twice", |w| w.held() == 2);
    let first = std::cell::Cell::new(true);
    s.let_go(|e| adopted(e) && first.replace(false));
    s.world.drop_filters();
    s.until_whole();
    assert_eq!(s.command(replace(B)), Ok(()));
    s.wipe(B);
    s.until_whole();
    s.world.release();
    s.run(100);
    // Who is older than others know is not started with.
    s.crash_client();
    s.restart_client();
    s.until_whole();
    s.read(5);
    s.end();
}
