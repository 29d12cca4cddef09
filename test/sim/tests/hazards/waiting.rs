//! What a pool says of itself: whom it waits for, and why.

use crate::commands::{force, member, members, rest, with_spares};
use rmr_engine::client::{StartOptions, Why};
use rmr_proto::Msg;
use rmr_sim::script::{A, B, C};

#[test]
pub(crate) fn a_start_says_whom_it_waits_for_and_why() {
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
pub(crate) fn while_it_serves_a_pool_says_why_each_member_is_not_up_to_date() {
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
