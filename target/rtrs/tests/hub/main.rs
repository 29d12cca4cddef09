//! Hubs on two reactors, one for the clients and one for the server, over real sockets.

mod rig;

use rig::{Rig, Server, User, wait_until};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tgt_rtrs::client::{Link, SubmitError};
use tgt_rtrs::frame::Refused;
use tgt_rtrs::hub::Hub;
use tgt_rtrs::tcp::Refusal;

#[test]
fn two_users_share_a_lane_and_each_gets_his_own_answers() {
    let rig = Rig::start();
    let server = Server::spawn(&rig);
    let session = rig.session(2);
    let (one, two) = (User::spawn(&rig, &session, 1), User::spawn(&rig, &session, 2));
    for user in [&one, &two] {
        user.load(3000, 64);
    }
    for user in [&one, &two] {
        user.wait_for("all requests end", |log| log.done == 3000);
        let log = user.log();
        assert_eq!((log.foreign, log.failed, log.refused), (0, 0, 0), "{log:?}");
        assert!(matches!(log.links[..], [Link::Up { .. }]), "told once that it is up: {:?}", log.links);
    }
    assert_eq!(server.served.load(SeqCst), 6000, "each once");
    let lanes = rig.client_lanes();
    assert_eq!(lanes.len(), 1, "one lane for both");
    assert_eq!((lanes[0].users, lanes[0].under_way, lanes[0].lives), (2, 0, 1));
    let paths = &lanes[0].paths;
    assert!(paths.iter().all(|path| path.stats.requests > 0), "both paths carry requests: {paths:?}");
    assert_eq!(paths.iter().map(|path| path.stats.answers).sum::<u64>(), 6000);
    let server_lanes = rig.server_lanes();
    assert_eq!(server_lanes.len(), 1);
    assert_eq!((server_lanes[0].session, server_lanes[0].connections.len()), (session.id(), 2));
    let counted = |counter: fn(&tgt_rtrs::client::PathStats) -> u64| {
        paths.iter().map(|path| counter(&path.stats)).sum()
    };
    let theirs = tgt_rtrs::server::ServedStats {
        requests: counted(|stats| stats.requests),
        answers: counted(|stats| stats.answers),
        bytes_in: counted(|stats| stats.bytes_out),
        bytes_out: counted(|stats| stats.bytes_in),
    };
    assert_eq!(server_lanes[0].stats, theirs, "both ends count the same");
    assert!(theirs.bytes_in > 0 && theirs.bytes_out > 0, "{theirs:?}");
    let by_path = server_lanes[0].connections.iter().map(|path| path.stats.requests).sum::<u64>();
    assert_eq!(by_path, theirs.requests, "no connection was lost");
}

#[test]
fn one_request_at_a_time_finds_no_reactor_asleep_over_it() {
    let rig = Rig::start();
    let _server = Server::spawn(&rig);
    let session = rig.session(1);
    let user = User::spawn(&rig, &session, 1);
    // The user's poller says `Idle` whatever it did: the hub alone keeps the reactor awake.
    user.load(500, 1);
    user.wait_for("all requests end", |log| log.done == 500);
    wait_until("both sleep", || rig.handles.iter().all(|handle| handle.stats().snapshot().asleep));
    for _ in 0..20 {
        let done = user.log().done;
        user.load(1, 1);
        user.wait_for("a request out of sleep", |log| log.done == done + 1);
    }
}

/// Whether `condition` comes true before `end`.
fn in_time(end: Instant, condition: impl Fn() -> bool) -> bool {
    while !condition() {
        if Instant::now() > end {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// A user whose reactor sleeps between his requests, and nothing but the clock wakes it. `spoil` is done once all is up.
/// `true`: all his requests ended within `patience`.
fn the_clock_wakes_it_to_send(patience: Duration, spoil: fn(&Rig)) -> bool {
    let rig = Rig::start();
    let _server = Server::spawn(&rig);
    let session = rig.session(1);
    let user = User::spawn(&rig, &session, 1);
    user.load(1, 1);
    user.wait_for("it works", |log| log.done == 1);
    spoil(&rig);
    // Sent with the next beat instead, 100 ms later each, they do not end in time.
    user.load_by_clock(400);
    in_time(Instant::now() + patience, || user.log().done == 401)
}

/// A user who takes no events for a while: one waits for him. `true`: his reactor stayed awake for many turns within `patience`.
fn it_does_not_sleep_over_an_event(patience: Duration, spoil: fn(&Rig)) -> bool {
    let rig = Rig::start();
    let server = Server::spawn(&rig);
    let session = rig.session(1);
    let user = User::spawn(&rig, &session, 1);
    server.hold(1, true);
    user.load(1, 1);
    wait_until("it is with the server", || server.held.load(SeqCst) == 1);
    spoil(&rig);
    user.be_deaf(true);
    server.hold(1, false);
    wait_until("it is answered", || rig.client_lanes()[0].under_way == 0);
    let turns = || rig.handles[0].stats().snapshot().turns;
    let before = turns();
    // Asleep, it makes some tens of turns a second.
    let awake = in_time(Instant::now() + patience, || turns() > before + 20_000);
    user.be_deaf(false);
    user.wait_for("he is told", |log| log.done == 1);
    awake
}

const BOUND: Duration = Duration::from_secs(30);

#[test]
fn a_request_that_the_clock_began_is_sent_before_the_reactor_sleeps() {
    assert!(the_clock_wakes_it_to_send(BOUND, |_| ()), "requests waited for something else");
}

#[test]
fn a_reactor_does_not_sleep_over_an_event_that_nobody_takes() {
    assert!(it_does_not_sleep_over_an_event(BOUND, |_| ()), "it slept");
}

/// Both tests above fail when the wake-up that they are there for is taken out.
#[cfg(feature = "mutants")]
#[test]
fn every_lost_wake_up_is_noticed() {
    use tgt_rtrs::mutant::Mutant;
    fn on_reactors(rig: &Rig, mutant: Mutant) {
        rig.handles
            .iter()
            .for_each(|reactor| reactor.call(move |_| Mutant::set(Some(mutant))).expect("an answer"));
    }
    // Long enough for either with its wake-up, and far too short without.
    let patience = Duration::from_secs(8);
    assert!(!the_clock_wakes_it_to_send(patience, |rig| on_reactors(rig, Mutant::NoWakeToSend)));
    assert!(!it_does_not_sleep_over_an_event(patience, |rig| on_reactors(rig, Mutant::NoWakeToTake)));
    assert_eq!(Mutant::WAKES, [Mutant::NoWakeToSend, Mutant::NoWakeToTake]);
}

#[test]
fn two_ways_in_by_two_listeners_are_one_session() {
    let rig = Rig::start();
    let second = rig.listen();
    let _server = Server::spawn(&rig);
    let session = rig.session_to(&[rig.address, second.1]);
    let user = User::spawn(&rig, &session, 1);
    user.load(2000, 16);
    user.wait_for("load goes on", |log| log.done >= 500);
    rig.stop_listening(second.0);
    user.wait_for("all requests end", |log| log.done == 2000);
    let log = user.log();
    assert_eq!(log.failed, 0, "the other listener takes over: {:?}", log.links);
    wait_until("the path says why", || {
        let lanes = rig.client_lanes();
        let second = &lanes[0].paths[1];
        second
            .fault
            .is_some_and(|fault| matches!(fault, tgt_rtrs::Fault::Peer(_) | tgt_rtrs::Fault::System { .. }))
    });
    assert_eq!(rig.client_lanes()[0].lives, 1);
}

#[test]
fn requests_without_a_service_are_refused_and_not_dropped() {
    let rig = Rig::start();
    let session = rig.session(1);
    let user = User::spawn(&rig, &session, 1);
    user.load(10, 4);
    user.wait_for("all are refused", |log| log.refused == 10);
    assert_eq!(user.log().why, Some(Refused::NoService));
    // A service that comes later is told of the lane that is up, then serves.
    let server = Server::spawn(&rig);
    wait_until("it is told of the lane", || server.ups.load(SeqCst) == 1);
    user.load(10, 4);
    user.wait_for("all are served", |log| log.done == 10);
    server.leave();
    user.load(10, 4);
    user.wait_for("refused again", |log| log.refused == 20);
}

#[test]
fn a_second_service_is_refused() {
    let rig = Rig::start();
    let _server = Server::spawn(&rig);
    let second = rig.handles[1].call(|reactor| {
        let hub = Hub::of(reactor.cx());
        hub.serve(reactor.cx()).map_err(|error| error.to_string())
    });
    assert!(second.expect("an answer").expect_err("one is enough").contains("somebody else"));
}

#[test]
fn a_user_who_goes_with_requests_under_way_leaves_nothing_behind() {
    let rig = Rig::start();
    let server = Server::spawn(&rig);
    let session = rig.session(2);
    let (stays, goes) = (User::spawn(&rig, &session, 1), User::spawn(&rig, &session, 2));
    stays.load(u64::MAX, 8);
    server.hold(2, true);
    goes.load(400, 400);
    // More than he may have under way: he waits for room, too.
    goes.wait_for("he has filled his share", |log| log.waits > 0);
    goes.detach();
    server.hold(2, false);
    wait_until("he is gone", || rig.client_lanes()[0].users == 1);
    let done = stays.log().done;
    stays.wait_for("the other goes on", |log| log.done > done + 1000);
    stays.load(0, 8);
    stays.wait_for("his requests end", |log| log.under_way == 0);
    wait_until("all permits are back", || rig.client_lanes()[0].under_way == 0);
    assert_eq!(stays.log().foreign, 0);
    // His place is taken by another, who is told nothing of his.
    let next = User::spawn(&rig, &session, 3);
    next.load(100, 8);
    next.wait_for("the next works", |log| log.done == 100);
    assert_eq!(next.log().foreign, 0);
}

#[test]
fn a_session_lives_as_long_as_a_user_and_ends_with_the_last_holder() {
    let rig = Rig::start();
    let _server = Server::spawn(&rig);
    let session = rig.session(1);
    let user = User::spawn(&rig, &session, 1);
    user.load(1, 1);
    user.wait_for("it works", |log| log.done == 1);
    drop(session);
    assert!(!rig.was_dropped(), "a user holds it");
    user.detach();
    wait_until("the last holder is gone", || rig.was_dropped());
    rig.retire_dropped();
    wait_until("its lane ends", || rig.client_lanes().is_empty());
    wait_until("at the server as well", || rig.server_lanes().is_empty());
}

#[test]
fn what_is_submitted_without_a_life_is_refused_at_once() {
    let rig = Rig::start();
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("it is bound");
    drop(closed);
    let session = rig.session_to(&[address]);
    let user = User::spawn(&rig, &session, 1);
    assert_eq!(user.submit_now(), Some(Refusal::Refused(SubmitError::Dead)));
    wait_until("the path says why", || {
        rig.client_lanes()[0].paths[0].fault == Some(tgt_rtrs::Fault::System { errno: 111 })
    });
}

#[test]
fn a_reactor_stops_with_requests_under_way() {
    let rig = Rig::start();
    let server = Server::spawn(&rig);
    let session = rig.session(2);
    let user = User::spawn(&rig, &session, 1);
    server.hold(1, true);
    user.load(16, 16);
    wait_until("they are with the server", || server.held.load(SeqCst) == 16);
    drop(rig);
}
