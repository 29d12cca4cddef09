//! Rules of sessions, one scenario each.

mod pair;

use pair::{MS, Pair, key};
use std::sync::Arc;
use test_alloc_counter::{Counter, allocations};
use tgt_rtrs::client::{self, Link, Permit, Policy, SubmitError};
use tgt_rtrs::frame::{Frame, Hand, Hello, KeyName, RefuseCause, Request};
use tgt_rtrs::server::{Gate, GateAction, GateConfig, GateEvent, Place};
use tgt_rtrs::{ConnId, Death, Direction, Fault, Id, Incarnation, Key, Life, UserId};

#[global_allocator]
static COUNTER: Counter = Counter;

fn up(paths: usize, depth: u16) -> Pair {
    let mut pair = Pair::new(paths, depth);
    pair.tick();
    assert!(matches!(pair.links[..], [Link::Up { .. }]), "{:?}", pair.links);
    pair
}

#[test]
fn a_request_goes_there_and_its_answer_back() {
    let mut pair = up(2, 4);
    pair.submit(11, Direction::Write, 100);
    pair.pass();
    pair.answer();
    pair.pass();
    let (tag, answer) = pair.completed[0];
    assert_eq!((tag, answer.expect("answered").result), (11, Ok(7)));
    assert_eq!(pair.released, 0, "kept until the client has said that it has it");
    pair.wait(200);
    assert_eq!(pair.released, 1);
}

#[test]
fn a_late_copy_does_not_take_the_answer() {
    let mut pair = up(2, 4);
    pair.submit(1, Direction::Write, 10);
    let (first, copy) = pair.to_server.pop_front().expect("the request");
    pair.lose(first);
    assert_ne!(pair.to_server[0].0, first, "sent again on the other path");
    pair.pass();
    // The server knows nothing of the loss: what was on the old connection arrives now.
    pair.reach_server(first, copy);
    pair.answer();
    pair.pass();
    assert_eq!(pair.completed.len(), 1, "the answer went to the connection that nobody reads");
    assert_eq!(pair.executed.len(), 0, "executed once");
}

#[test]
fn another_life_on_a_second_path_ends_the_first() {
    let mut pair = Pair::new(2, 4);
    pair.tick_client();
    while pair
        .to_server
        .iter()
        .any(|(_, frame)| matches!(frame, Frame::Hand(hand) if matches!(**hand, Hand::Hello(_))))
    {
        let (conn, frame) = pair.to_server.pop_front().expect("a hello");
        pair.reach_server(conn, frame);
        let (conn, frame) = pair.to_client.pop_front().expect("a challenge");
        pair.reach_client(conn, frame);
    }
    // Both proofs are on their way, and neither knows a life. One arrives.
    let (conn, frame) = pair.to_server.pop_front().expect("a proof");
    pair.reach_server(conn, frame);
    let (conn, frame) = pair.to_client.pop_front().expect("a welcome");
    pair.reach_client(conn, frame);
    pair.submit(1, Direction::Write, 10);
    let of_second =
        pair.to_server.iter().position(|(_, frame)| matches!(frame, Frame::Hand(_))).expect("a proof");
    let (conn, frame) = pair.to_server.remove(of_second).expect("just seen");
    // The server forgets the life; the other proof has it begin another.
    pair.forget();
    pair.reach_server(conn, frame);
    let (conn, frame) = pair.to_client.pop_back().expect("a welcome");
    pair.reach_client(conn, frame);
    let dead = pair.links.iter().any(|link| matches!(link, Link::Dead { why: Death::OtherLife }));
    assert!(dead, "{:?}", pair.links);
    assert!(matches!(pair.completed[..], [(1, Err(_))]), "{:?}", pair.completed);
}

#[test]
fn a_silent_path_is_noticed_in_time_and_its_requests_go_elsewhere() {
    let mut pair = up(2, 4);
    pair.wait(3000);
    pair.submit(1, Direction::Write, 10);
    let (conn, _) = *pair.to_server.front().expect("the request");
    pair.cut.push(conn);
    let cut_at = pair.now;
    while pair.executed.is_empty() {
        pair.wait(5);
        assert!(pair.now - cut_at <= 760 * MS, "{} ms", (pair.now - cut_at) / MS);
    }
    pair.answer();
    pair.pass();
    assert_eq!(pair.completed.len(), 1);
    let silent =
        pair.closed.iter().any(|(who, fault)| *who == "client" && matches!(fault, Fault::Silent { .. }));
    assert!(silent, "{:?}", pair.closed);
}

/// A pair with a ping out behind a mebibyte of data, and the one path cut off from everything but what a test says of it.
fn behind_data() -> Pair {
    let mut pair = up(1, 4);
    pair.wait(3000);
    pair.submit(1, Direction::Write, 10);
    pair.pass();
    let conn = pair.conn(0);
    pair.cut.push(conn);
    pair.signs.queued = 1 << 20;
    pair.wait(100);
    assert!(pair.closed.is_empty(), "{:?}", pair.closed);
    pair
}

/// How long it takes from now until the client calls the path silent, with `grow` every 5 ms.
fn silent_after(pair: &mut Pair, most_ms: u64, grow: impl Fn(&mut client::Signs)) -> Option<u64> {
    let began = pair.now;
    while pair.closed.is_empty() && pair.now - began < most_ms * MS {
        grow(&mut pair.signs);
        pair.now += 5 * MS;
        pair.tick_client();
    }
    let silent = matches!(pair.closed[..], [("client", Fault::Silent { .. })]);
    assert!(silent || pair.closed.is_empty(), "{:?}", pair.closed);
    silent.then(|| (pair.now - began) / MS)
}

#[test]
fn a_path_on_which_own_data_gets_on_is_slow_and_not_dead_until_that_ends() {
    let mut pair = behind_data();
    assert_eq!(silent_after(&mut pair, 5000, |signs| signs.acknowledged += 1000), None);
    // Nothing moves any more: noticed as soon as on any other path.
    let ms = silent_after(&mut pair, 5000, |_| ()).expect("it is dead");
    assert!((650..=755).contains(&ms), "{ms} ms");
}

#[test]
fn a_path_on_which_bytes_of_an_answer_come_is_slow_and_not_dead_until_that_ends() {
    let mut pair = behind_data();
    assert_eq!(silent_after(&mut pair, 5000, |signs| signs.came += 1000), None);
    let ms = silent_after(&mut pair, 5000, |_| ()).expect("it is dead");
    assert!((650..=755).contains(&ms), "{ms} ms");
}

#[test]
fn a_peer_whose_host_has_the_ping_and_that_does_not_answer_is_dead_whatever_its_host_goes_on_taking() {
    let mut pair = behind_data();
    let acknowledged = 1 << 20;
    pair.signs = client::Signs { came: 0, queued: 2 << 20, acknowledged };
    let ms = silent_after(&mut pair, 5000, |signs| signs.acknowledged += 1000).expect("it is dead");
    assert!((650..=755).contains(&ms), "{ms} ms");
}

/// A request that was under way for longer than its lease, as on a path that is very slow; and its connection.
fn after_its_lease() -> (Pair, ConnId) {
    let mut pair = up(1, 4);
    pair.submit(1, Direction::Write, 10);
    let (conn, request) = pair.to_server.pop_front().expect("the request");
    // The ping behind it stays behind it.
    for _ in 0..620 {
        pair.now += 5 * MS;
        pair.signs.came += 1;
        pair.tick_client();
    }
    pair.reach_server(conn, request);
    assert!(pair.executed.is_empty(), "its client may be dead: {:?}", pair.executed);
    assert!(pair.closed.is_empty(), "{:?}", pair.closed);
    (pair, conn)
}

#[test]
fn a_request_that_comes_after_its_lease_waits_until_its_client_shows_that_it_lives() {
    let (mut pair, _) = after_its_lease();
    // The ping that comes first was sent long ago.
    let (conn, ping) = pair.to_server.pop_front().expect("a ping");
    pair.reach_server(conn, ping);
    assert!(pair.executed.is_empty(), "an old stamp proves nothing: {:?}", pair.executed);
    pair.pass();
    pair.wait(105);
    assert_eq!(pair.executed.len(), 1, "the next ping has returned a new stamp");
    pair.answer();
    pair.pass();
    assert_eq!(pair.completed.len(), 1);
    assert!(pair.closed.is_empty(), "{:?}", pair.closed);
}

#[test]
fn a_request_that_waits_for_the_lease_is_executed_once_when_it_is_sent_again_and_never_after_the_life() {
    for dies in [false, true] {
        let (mut pair, conn) = after_its_lease();
        pair.to_server.clear();
        if dies {
            pair.end_life();
        } else {
            pair.lose(conn);
        }
        pair.wait(500);
        assert_eq!(pair.executed.len(), usize::from(!dies), "{:?}", pair.executed);
        if dies {
            assert!(matches!(pair.completed[..], [(1, Err(_))]), "{:?}", pair.completed);
            assert_eq!(pair.released, 1, "its memory is let go");
        } else {
            pair.answer();
            pair.pass();
            assert!(matches!(pair.completed[..], [(1, Ok(_))]), "{:?}", pair.completed);
        }
    }
}

#[test]
fn beats_are_rare_without_requests() {
    let mut pair = up(1, 4);
    pair.wait(1000);
    pair.pings = 0;
    pair.wait(10_000);
    assert!((9..=11).contains(&pair.pings), "{} in ten seconds", pair.pings);
    pair.submit(1, Direction::Write, 0);
    pair.pings = 0;
    pair.wait(1000);
    assert!((8..=11).contains(&pair.pings), "{} in a second with a request under way", pair.pings);
    assert!(pair.closed.is_empty(), "{:?}", pair.closed);
}

#[test]
fn a_server_out_of_reach_ends_the_life_only_after_its_lease() {
    let mut pair = up(2, 4);
    pair.submit(1, Direction::Write, 10);
    (pair.cut, pair.dark) = (vec![pair.conn(0), pair.conn(1)], true);
    let cut_at = pair.now;
    while pair.completed.is_empty() {
        pair.wait(5);
        assert!(pair.now < cut_at + 10_000 * MS, "nothing waits for ever");
    }
    assert!(pair.now - cut_at >= 4000 * MS, "dead after {} ms", (pair.now - cut_at) / MS);
    assert!(
        matches!(pair.links.last(), Some(Link::Dead { why: Death::Unreachable { .. } })),
        "{:?}",
        pair.links
    );
}

/// Both paths are cut for so long; returns how long it takes from then until the life resumes, and until both are up, ms.
fn resumes_after(cut_ms: u64) -> (u64, u64) {
    let mut pair = up(2, 4);
    pair.wait(1000);
    pair.submit(1, Direction::Write, 10);
    (pair.dark, pair.cut) = (true, pair.proved.clone());
    pair.wait(cut_ms);
    assert!(matches!(pair.links.last(), Some(Link::Stalled { .. })), "{:?}", pair.links);
    pair.dark = false;
    let healed = pair.now;
    let ms_until = |pair: &mut Pair, what: fn(&Pair) -> bool| {
        while !what(pair) {
            pair.wait(5);
            assert!(pair.now - healed < 5000 * MS, "{:?}", pair.links);
        }
        (pair.now - healed) / MS
    };
    let resumed = ms_until(&mut pair, |pair| matches!(pair.links.last(), Some(Link::Resumed)));
    let both = ms_until(&mut pair, |pair| {
        pair.client.paths().all(|(_, _, state, _)| state == client::PathState::Up)
    });
    (resumed, both)
}

#[test]
fn a_stalled_life_resumes_soon_after_its_network_is_whole_however_long_that_was_cut() {
    // The path that is idle is found silent after 1.65 s.
    for cut_ms in (1700..3900).step_by(55) {
        let (resumed, both) = resumes_after(cut_ms);
        assert!(resumed <= 410 && both <= resumed + 275, "{resumed} and {both} ms after {cut_ms} ms");
    }
}

#[test]
fn a_dead_host_is_tried_often_only_while_its_life_hangs_on_it() {
    let mut pair = up(2, 4);
    (pair.dark, pair.cut) = (true, pair.proved.clone());
    while !matches!(pair.links.last(), Some(Link::Dead { .. })) {
        pair.wait(5);
        assert!(pair.now < 20_000 * MS, "{:?}", pair.links);
    }
    assert!((10..=50).contains(&pair.dials), "{} attempts in 5 s on two paths", pair.dials);
    // Until the pause has grown.
    pair.wait(10_000);
    pair.dials = 0;
    pair.wait(20_000);
    assert!((10..=30).contains(&pair.dials), "{} attempts in 20 s on two paths", pair.dials);
}

#[test]
fn a_life_ended_by_command_ends_when_the_server_agrees() {
    let mut pair = up(1, 4);
    pair.submit(1, Direction::Write, 10);
    pair.end_life();
    assert!(pair.completed.is_empty(), "the server has the request in front of it");
    assert_eq!(pair.client.permit(pair.user), Err(SubmitError::Dead));
    pair.pass();
    assert!(matches!(pair.completed[..], [(1, Err(_))]));
    assert_eq!(pair.links.last(), Some(&Link::Dead { why: Death::Command }));
    pair.wait(100);
    assert!(pair.client.life().is_none(), "its request is still with a user");
    pair.answer();
    pair.wait(3000);
    assert!(pair.client.life().is_some(), "a new life");
}

#[test]
fn wrong_keys_and_none_are_refused_on_both_sides_with_words() {
    for (ours, theirs, words) in [
        (key(1), key(2), "check name and content of the key"),
        (Key::NONE, key(2), "wants a key from this address"),
        (key(1), Key::NONE, "check name and content of the key"),
    ] {
        let mut pair = Pair::with(1, 4, ours, theirs);
        pair.tick();
        assert!(pair.client.life().is_none());
        let said: Vec<String> = pair.closed.iter().map(|(who, fault)| format!("{who}: {fault}")).collect();
        assert!(said.iter().any(|text| text.starts_with("client") && text.contains(words)), "{said:?}");
        assert!(said.iter().any(|text| text.starts_with("gate") && text.contains(words)), "{said:?}");
    }
    let mut pair = Pair::with(1, 4, key(1), key(1));
    pair.tick();
    assert!(pair.client.life().is_some());
}

#[test]
fn a_server_without_the_key_cannot_welcome() {
    let mut pair = Pair::with(1, 4, key(1), key(1));
    pair.tick_with(|frame| {
        if let Frame::Hand(hand) = frame
            && let Hand::Welcome(welcome) = &mut **hand
        {
            welcome.life = Life(99);
        }
    });
    assert!(pair.client.life().is_none());
    assert!(pair.closed.contains(&("client", Fault::Proof)), "{:?}", pair.closed);
}

fn hello(version: u16) -> Hello {
    let key = KeyName::NONE;
    let (session, path, host) = (Id([1; 16]), Id([2; 16]), Id([3; 16]));
    let (incarnation, nonce) = (Incarnation(1), [4; 32]);
    Hello {
        version_min: version,
        version_max: version,
        lane: 0,
        lanes: 1,
        connection: 1,
        digest: true,
        incarnation,
        session,
        path,
        host,
        nonce,
        key,
    }
}

#[test]
fn another_version_is_refused_with_the_range() {
    let mut gate = Gate::new(GateConfig::new(Id([3; 16]), Arc::new(Key::NONE)));
    let mut out = Vec::new();
    let conn = ConnId(1);
    gate.on(0, GateEvent::Accepted { conn, source: 1, loopback: true, nonce: [0; 32] }, &mut out);
    gate.on(0, GateEvent::Hand { conn, hand: Hand::Hello(hello(9)) }, &mut out);
    let why = RefuseCause::Version { low: 1, high: 1 };
    assert!(
        matches!(&out[0], GateAction::Send { hand: Hand::Refuse(refuse), .. } if refuse.why == why),
        "{out:?}"
    );
    assert!(
        matches!(out[1], GateAction::Close { fault: Fault::Refused(other), .. } if other == why),
        "{out:?}"
    );
}

#[test]
fn without_a_key_only_loopback_unless_that_is_allowed() {
    for (loopback, insecure, taken) in [(true, false, true), (false, false, false), (false, true, true)] {
        let config = GateConfig { insecure, ..GateConfig::new(Id([3; 16]), Arc::new(Key::NONE)) };
        let (mut gate, mut out, conn) = (Gate::new(config), Vec::new(), ConnId(1));
        gate.on(0, GateEvent::Accepted { conn, source: 1, loopback, nonce: [0; 32] }, &mut out);
        gate.on(0, GateEvent::Hand { conn, hand: Hand::Hello(hello(1)) }, &mut out);
        let challenged = matches!(&out[0], GateAction::Send { hand: Hand::Challenge(_), .. });
        assert_eq!(challenged, taken, "loopback {loopback}, insecure {insecure}");
    }
}

#[test]
fn a_flood_of_half_open_connections_is_bounded_and_locks_nobody_out() {
    let config = GateConfig::new(Id([3; 16]), Arc::new(Key::NONE));
    let (mut gate, mut out) = (Gate::new(config), Vec::new());
    for n in 0..5000u64 {
        let accepted = GateEvent::Accepted {
            conn: ConnId(n),
            source: u128::from(n % 20),
            loopback: true,
            nonce: [0; 32],
        };
        gate.on(n, accepted, &mut out);
        assert!(gate.pending() <= 256, "{} pending", gate.pending());
    }
    assert_eq!(out.len(), 5000 - 256, "each of the others was closed");
    out.clear();
    let conn = ConnId(9999);
    gate.on(5000, GateEvent::Accepted { conn, source: 77, loopback: true, nonce: [0; 32] }, &mut out);
    gate.on(5000, GateEvent::Hand { conn, hand: Hand::Hello(hello(1)) }, &mut out);
    assert!(
        out.iter().any(|action| matches!(action, GateAction::Send { conn: ConnId(9999), .. })),
        "{out:?}"
    );
    gate.on(2_000_000_000, GateEvent::Tick, &mut out);
    assert_eq!(gate.pending(), 0, "each for a second at most");
}

#[test]
fn no_user_takes_what_is_guaranteed_to_others() {
    let mut pair = up(1, 16);
    let second = pair.client.attach(UserId(1));
    let mut held: Vec<Permit> = Vec::new();
    while let Some(permit) = pair.client.permit(pair.user).expect("a life") {
        held.push(permit);
    }
    // 16 slots, half of them guaranteed, 4 to each of the two.
    assert_eq!(held.len(), 12);
    let own: Vec<Permit> =
        (0..4).map(|_| pair.client.permit(second).expect("a life").expect("guaranteed")).collect();
    assert_eq!(pair.client.permit(second), Ok(None), "now it waits");
    // Both wait: what comes free goes to them in turn, and to the first only beyond what the second is owed.
    let mut out = Vec::new();
    pair.client.give_back(held.pop().expect("held"), &mut out);
    pair.client.give_back(held.pop().expect("held"), &mut out);
    assert_eq!(out.len(), 2, "one each: {out:?}");
    drop((held, own));
    pair.client.check();
}

#[test]
fn each_policy_chooses_as_it_says() {
    let mut pair = up(3, 32);
    let sent_on = |pair: &mut Pair, count: usize| {
        let mut on = [0; 3];
        for tag in 0..count as u64 {
            pair.submit(tag, Direction::Write, 0);
        }
        for (conn, _) in &pair.to_server {
            on[conn.0 as usize & 0xffff] += 1;
        }
        on
    };
    pair.client.set_policy(Policy::RoundRobin);
    assert_eq!(sent_on(&mut pair, 9), [3, 3, 3]);
    pair.to_server.clear();
    pair.client.set_policy(Policy::MinInflight);
    assert_eq!(sent_on(&mut pair, 3), [1, 1, 1]);
    let mut pair = up(3, 32);
    pair.client.set_policy(Policy::MinLatency);
    // One path's beats come back later than the others'.
    pair.now += 1000 * MS;
    pair.tick_with(|_| {});
    for (_, _, _, stats) in pair.client.paths() {
        assert!(stats.round_trip_ns > 0, "the first beat has told the round trip");
    }
}

#[test]
fn a_copy_that_asks_for_something_else_is_refused_before_its_data_is_taken() {
    let changes: [fn(&mut Request); 4] = [
        |request| request.bytes = 1 << 20,
        |request| request.direction = Direction::Read,
        |request| request.user = UserId(77),
        |request| request.user_len = 9,
    ];
    for change in changes {
        let mut pair = up(2, 4);
        pair.submit(11, Direction::Write, 100);
        let (conn, frame) = pair.to_server.pop_front().expect("a request");
        let Frame::Request(request) = frame else { panic!("{frame:?}") };
        // There is no memory for it at first; then there is, as much as it asked for.
        pair.starve(conn, request);
        let mut copy = Request { sending: request.sending + 1, ..request };
        change(&mut copy);
        assert_eq!(pair.place(conn, &copy), Place::Drop, "data for a buffer of another size");
        pair.reach_server(conn, Frame::Request(copy));
        let why = Fault::Protocol("a copy of a request that asks for something else");
        assert_eq!(pair.closed, [("server", why)]);
        assert!(pair.executed.is_empty(), "{:?}", pair.executed);
    }
}

#[test]
fn a_request_allocates_nothing_in_either_engine() {
    let mut pair = up(2, 8);
    let round = |pair: &mut Pair, tag: u64| {
        pair.completed.clear();
        pair.submit(tag, if tag.is_multiple_of(2) { Direction::Read } else { Direction::Write }, 4096);
        pair.pass();
        pair.answer();
        pair.pass();
        assert_eq!(pair.completed.len(), 1);
    };
    // Queues grow to their size first.
    (0..200).for_each(|tag| round(&mut pair, tag));
    let before = allocations();
    (0..1000).for_each(|tag| round(&mut pair, tag));
    assert_eq!(allocations() - before, 0);
}

/// The two rules above that chance seldom tries fail when their mistake is brought back.
#[cfg(feature = "mutants")]
#[test]
fn every_scripted_mutant_is_noticed() {
    use tgt_rtrs::mutant::Mutant;
    type Rule = fn();
    let rules: [(Mutant, Rule); 2] = [
        (Mutant::AnyCopyAnswered, a_late_copy_does_not_take_the_answer),
        (Mutant::AnyLife, another_life_on_a_second_path_ends_the_first),
    ];
    assert_eq!(rules.map(|(mutant, _)| mutant), Mutant::SCRIPTED);
    for (mutant, rule) in rules {
        Mutant::set(Some(mutant));
        let noticed = std::panic::catch_unwind(rule).is_err();
        Mutant::set(None);
        assert!(noticed, "nobody notices {mutant:?}");
    }
}
