//! Streams from which nothing comes cost nothing; the first byte wakes a reactor that sleeps.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tgt_reactor::Work;
use tgt_sock::{ConnectTo, Event, Group, GroupOptions, ListenOn};

use crate::rig::*;

const MANY: usize = 1000;

/// Room for the descriptors of both ends of so many connections. False, in one line, where there is none.
fn may_open(connections: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections * 2 + 200;
    if limit.current.is_none_or(|current| current >= wanted) {
        return true;
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        eprintln!("skipped: {wanted} open files are needed, `ulimit -n` allows {limit:?}");
        return false;
    }
    true
}

#[test]
fn a_thousand_idle_streams_cost_nothing_per_turn_and_are_heard_when_they_speak() {
    if !may_open(MANY as u64) {
        return;
    }
    on_reactor(|cx| {
        let mut group = Group::new(cx, GroupOptions::default()).expect("a group");
        let streams: Vec<_> = (0..MANY).map(|_| adopted(&mut group)).collect();
        wait_until("all are parked", || turn(&mut group, cx, |event| panic!("{event:?}")) == Work::Idle);
        let before = group.stats();
        assert_eq!(before.parked, MANY as u64);
        let slots = cx.uring().under_way();
        assert!(slots <= 4, "{slots} slots of the io_uring for {MANY} streams");
        for _ in 0..1000 {
            assert_eq!(turn(&mut group, cx, |event| panic!("{event:?}")), Work::Idle);
        }
        assert_eq!(group.stats(), before, "a turn does nothing for parked streams");
        for (id, peer) in streams.iter().step_by(97) {
            write_all(peer, b"hello");
            let reads = group.stats().reads;
            turn_until("it is heard", &mut group, cx, |event| {
                Seen::of(event) == Seen::Bytes(*id, b"hello".to_vec())
            });
            assert_eq!(group.stats().reads, reads + 1, "the others are not looked at");
            wait_until("it is parked again", || turn(&mut group, cx, |_| ()) == Work::Idle);
        }
        // All at once.
        streams.iter().for_each(|(_, peer)| write_all(peer, b"x"));
        let mut heard = 0;
        turn_until("all are heard", &mut group, cx, |event| {
            heard += usize::from(matches!(Seen::of(event), Seen::Bytes(..)));
            heard == MANY
        });
        leave(group, cx);
    });
}

#[test]
fn a_sleeping_reactor_is_woken_by_bytes() {
    let echo = |event: Event<'_>| {
        if let Event::Received(mut received) = event {
            let bytes = received.bytes();
            received.stream().send(bytes).expect("room");
            received.consume(bytes.len());
        }
    };
    let rig = Rig::start(GroupOptions::default(), echo);
    let (_, peer) = rig.adopt();
    for round in 0..100u32 {
        rig.wait_asleep();
        let (polls, turns) = (rig.polls.load(SeqCst), rig.handle().stats().snapshot().turns);
        write_all(&peer, &round.to_le_bytes());
        assert_eq!(read_exact(&peer, 4), round.to_le_bytes());
        assert!(rig.polls.load(SeqCst) > polls);
        assert!(rig.handle().stats().snapshot().turns >= turns);
    }
}

#[test]
fn a_reactor_with_idle_streams_stays_asleep() {
    let (rig, _) = Rig::logging(GroupOptions::default());
    let peers: Vec<TcpStream> = (0..50).map(|_| rig.adopt().1).collect();
    rig.wait_asleep();
    // A timer of another poller passes the time without a sleep here.
    let polls = rig.polls.load(SeqCst);
    let before = rig.handle().stats().snapshot();
    let quiet = TcpListener::bind(loopback()).expect("loopback");
    let (client, _) = (TcpStream::connect(quiet.local_addr().expect("bound")).expect("it listens"), quiet);
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("a bound");
    let nothing = std::io::Read::read(&mut &client, &mut [0]);
    assert!(nothing.is_err() || nothing.is_ok_and(|count| count == 0));
    let after = rig.handle().stats().snapshot();
    assert!(rig.polls.load(SeqCst) - polls <= 3, "it was polled {} times", rig.polls.load(SeqCst) - polls);
    assert!(after.turns - before.turns <= 3);
    drop(peers);
}

#[test]
fn a_sleeping_reactor_is_woken_by_connections() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    let listener = rig.with(|group, _| group.listen(&ListenOn::new(loopback())).expect("a listener"));
    let address = rig.with(move |group, _| group.listener_address(listener).expect("it listens"));
    let mut peers = Vec::new();
    for count in 1..=20 {
        rig.wait_asleep();
        peers.push(TcpStream::connect(address).expect("it listens"));
        wait_until("it is accepted", || log.all().len() == count);
    }
    assert!(log.all().iter().all(|seen| matches!(seen, Seen::Accepted(_))));
    // And by its own that succeed.
    let outside = TcpListener::bind(loopback()).expect("loopback");
    let to = ConnectTo::new(outside.local_addr().expect("bound"));
    let id = rig.with(move |group, _| group.connect(&to).expect("an attempt"));
    log.wait_for("its connection", |seen| *seen == Seen::Connected(id));
}

#[test]
fn no_wake_up_is_lost_when_every_pause_parks() {
    let echo = |event: Event<'_>| {
        if let Event::Received(mut received) = event {
            let bytes = received.bytes();
            received.stream().send(bytes).expect("room");
            received.consume(bytes.len());
        }
    };
    let rig = Rig::start(GroupOptions { hot_time: Duration::ZERO, ..GroupOptions::default() }, echo);
    let peers: Vec<_> = (0..6).map(|_| rig.adopt().1).collect();
    std::thread::scope(|scope| {
        for (number, peer) in peers.iter().enumerate() {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(number as u64);
                for round in 0..1500u32 {
                    let message = vec![round as u8; random.usize(1..300)];
                    write_all(peer, &message);
                    assert_eq!(read_exact(peer, message.len()), message);
                    if random.u8(..) < 8 {
                        pause(&mut random);
                    }
                }
            });
        }
    });
    assert!(rig.with(|group, _| group.stats().parked) > 100);
}

/// A pause of no fixed length, so that sleeps begin at any moment.
fn pause(random: &mut fastrand::Rng) {
    for _ in 0..random.u32(..20_000) {
        std::hint::spin_loop();
    }
}
