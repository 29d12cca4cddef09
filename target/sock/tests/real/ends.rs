//! Every way in which a stream ends: one event, with the reason.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use tgt_reactor::{Reactors, SleepPolicy, StartOptions};
use tgt_sock::{Cause, ConnectTo, Event, Group, GroupOptions, Refused, SocketOptions, StreamId};

use crate::rig::*;

const A_MOMENT: Duration = Duration::from_millis(200);

/// The one end of a stream; waits for it.
fn end_of(log: &Log, id: StreamId) -> Cause {
    log.wait_for("its end", |seen| matches!(seen, Seen::Closed(of, _) if *of == id));
    let causes = log.causes(id);
    assert_eq!(causes.len(), 1, "one end only: {causes:?}");
    causes[0]
}

#[test]
fn a_peer_that_closes_ends_the_stream_after_its_last_bytes() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    for asleep in [false, true] {
        let (id, peer) = rig.adopt();
        write_all(&peer, b"last words");
        if asleep {
            rig.wait_asleep();
        }
        drop(peer);
        assert_eq!(end_of(&log, id), Cause::PeerClosed);
        assert_eq!(log.bytes(id), b"last words");
        assert!(rig.with(move |group, _| group.stream(id).is_none()));
    }
}

#[test]
fn a_reset_is_told_as_one() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    for held in [false, true] {
        let (id, peer) = rig.adopt();
        if held {
            rig.with(move |group, _| group.stream(id).expect("open").hold());
        }
        rig.wait_asleep();
        set_socket_linger(peer.as_fd(), Some(Duration::ZERO)).expect("a socket");
        drop(peer);
        assert_eq!(end_of(&log, id), Cause::Reset, "held: {held}");
    }
}

#[test]
fn a_close_in_mid_frame_says_what_is_missing_and_gives_the_payload_back() {
    on_reactor(|cx| {
        let mut group = small_group(cx);
        let (id, peer) = adopted(&mut group);
        write_all(&peer, b"half a fr");
        drop(peer);
        let mut cause = None;
        turn_until("its end", &mut group, cx, |event| {
            if let Event::Closed { cause: why, .. } = event {
                cause = Some(why);
            }
            cause.is_some()
        });
        assert_eq!(cause, Some(Cause::PeerClosedInFrame { kept: 9, missing: 0 }));

        let (other, peer) = adopted(&mut group);
        assert!(other != id && other.place() == id.place());
        write_all(&peer, b"head, then 30 bytes");
        drop(peer);
        let mut seen = Vec::new();
        turn_until("its end", &mut group, cx, |event| match event {
            Event::Received(mut received) => {
                received.consume(11);
                assert!(received.payload(payload(&[0; 30], 5)).is_none());
                assert!(received.bytes().is_empty());
                false
            }
            event => {
                seen.push(Seen::of(event));
                matches!(seen.last(), Some(Seen::Closed(..)))
            }
        });
        let missing = Cause::PeerClosedInFrame { kept: 0, missing: 22 };
        assert_eq!(seen, [Seen::Unfilled(other, 5), Seen::Closed(other, missing)]);
        leave(group, cx);
    });
}

#[test]
fn an_aborted_stream_gives_its_buffers_back_and_resets_the_peer() {
    on_reactor(|cx| {
        let mut group = Group::new(cx, GroupOptions::default()).expect("a group");
        let (id, mut peer) = adopted(&mut group);
        let mut stream = group.stream(id).expect("open");
        stream.send_with(b"never sent", payload(&[1; 100], 1)).expect("room");
        stream.send_with(b"", payload(&[2; 100], 2)).expect("room");
        stream.abort();
        stream.abort();
        assert_eq!(stream.send(b"late"), Err(Refused::Ending));
        assert!(!stream.is_connected());
        let mut seen = Vec::new();
        let _ = turn(&mut group, cx, |event| seen.push(Seen::of(event)));
        let _ = turn(&mut group, cx, |event| seen.push(Seen::of(event)));
        assert_eq!(seen, [Seen::Unsent(id, 1), Seen::Unsent(id, 2), Seen::Closed(id, Cause::Aborted)]);
        let error = peer.read(&mut [0; 8]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        leave(group, cx);
    });
}

#[test]
fn an_abort_in_the_middle_of_bytes_leaves_nothing_behind() {
    on_reactor(|cx| {
        let mut group = small_group(cx);
        let (id, peer) = adopted(&mut group);
        write_all(&peer, b"head");
        let mut seen = Vec::new();
        let mut take = |event: Event<'_>| match event {
            Event::Received(mut received) if received.bytes() == b"head" => {
                received.consume(4);
                assert!(received.payload(payload(&[0; 10], 1)).is_none());
                false
            }
            Event::Received(mut received) => {
                // Too late for both: they come back all the same.
                received.stream().abort();
                received.consume(1);
                assert!(received.payload(payload(&[0; 500], 3)).is_none());
                false
            }
            event => {
                seen.push(Seen::of(event));
                matches!(seen.last(), Some(Seen::Closed(..)))
            }
        };
        let _ = turn(&mut group, cx, |event| assert!(!take(event)));
        write_all(&peer, &[2; 30]);
        turn_until("its end", &mut group, cx, take);
        assert_eq!(seen, [Seen::Filled(id, 1), Seen::Unfilled(id, 3), Seen::Closed(id, Cause::Aborted)]);

        // Bytes that came behind a payload are not handed out once the stream was aborted over it.
        let (id, peer) = adopted(&mut group);
        write_all(&peer, b"h");
        turn_until("its head", &mut group, cx, |event| match event {
            Event::Received(mut received) => {
                received.consume(1);
                received.payload(payload(&[0; 10], 4)).is_none()
            }
            other => panic!("{other:?}"),
        });
        write_all(&peer, &[3; 30]);
        turn_until("its end", &mut group, cx, |event| match event {
            Event::Filled { mut stream, .. } => {
                stream.abort();
                false
            }
            event => Seen::of(event) == Seen::Closed(id, Cause::Aborted),
        });
        leave(group, cx);
    });
}

#[test]
fn a_stream_that_finishes_sends_all_and_waits_for_the_peer() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    let (id, mut peer) = rig.adopt();
    let much = vec![7; 3 << 20];
    let queued = much.clone();
    rig.with(move |group, _| {
        let mut stream = group.stream(id).expect("open");
        stream.send_with(b"", payload(&queued[..2 << 20], 1)).expect("room");
        stream.send(&queued[2 << 20..]).expect("room");
        stream.finish(PATIENCE);
        assert_eq!(stream.send(b"more"), Err(Refused::Ending));
    });
    let mut got = Vec::new();
    peer.read_to_end(&mut got).expect("bytes, then an orderly end");
    assert!(got == much);
    write_all(&peer, b"bye");
    drop(peer);
    assert_eq!(end_of(&log, id), Cause::Finished);
    assert_eq!(log.bytes(id), b"bye");
}

#[test]
fn a_finish_that_takes_too_long_ends_all_the_same() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    let (id, _peer) = rig.adopt();
    let begun = Instant::now();
    rig.with(move |group, _| group.stream(id).expect("open").finish(A_MOMENT));
    assert_eq!(end_of(&log, id), Cause::FinishTimedOut { after: A_MOMENT, unsent: 0 });
    assert!(begun.elapsed() >= A_MOMENT);
    let (id, _peer) = rig.adopt();
    rig.with(move |group, _| {
        let mut stream = group.stream(id).expect("open");
        while stream.send(&[0; 60_000]).is_ok() {}
        stream.finish(A_MOMENT);
    });
    let cause = end_of(&log, id);
    assert!(matches!(cause, Cause::FinishTimedOut { unsent: 1.., .. }), "{cause:?}");
}

/// An address at which nobody listens.
fn deserted() -> SocketAddr {
    let listener = TcpListener::bind(loopback()).expect("loopback");
    listener.local_addr().expect("its address")
}

#[test]
fn a_refused_connection_is_one_event_and_gives_back_what_was_queued() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    let to = ConnectTo::new(deserted());
    let id = rig.with(move |group, _| {
        let id = group.connect(&to).expect("an attempt");
        if let Some(mut stream) = group.stream(id) {
            match stream.send_with(b"hello", payload(&[0; 10], 3)) {
                Ok(()) | Err((Refused::Ending, _)) => {}
                Err((Refused::Full, _)) => panic!("an empty queue"),
            }
        }
        id
    });
    assert_eq!(end_of(&log, id), Cause::Refused);
    assert!(!log.all().contains(&Seen::Connected(id)));
}

#[test]
fn what_is_sent_before_the_connection_waits_for_it() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    let listener = TcpListener::bind(loopback()).expect("loopback");
    let address = listener.local_addr().expect("its address");
    let id = rig.with(move |group, _| {
        let source = Some(loopback());
        let id = group.connect(&ConnectTo { source, ..ConnectTo::new(address) }).expect("an attempt");
        let mut stream = group.stream(id).expect("it tries");
        stream.send_with(b"hello ", payload(b"there", 1)).expect("room");
        assert_eq!(stream.peer(), address);
        id
    });
    let (peer, from) = listener.accept().expect("a connection");
    assert_eq!(read_exact(&peer, 11), b"hello there");
    assert_eq!(rig.with(move |group, _| group.stream(id).expect("open").local().expect("bound")), from);
    log.wait_for("its payload", |seen| *seen == Seen::Sent(id, 1));
    assert_eq!(log.all(), [Seen::Connected(id), Seen::Sent(id, 1)]);
}

/// A reactor in a network of its own, where packets can be made to vanish.
fn reactor_in(node: &test_net::Node) -> Reactors {
    let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
    node.run(move || Reactors::start(&options)).expect("the node").expect("a reactor")
}

type Body = Box<dyn FnOnce(&mut Group, &mut tgt_reactor::Cx) -> Cause + Send>;

#[test]
fn a_connection_into_a_black_hole_times_out_and_an_established_one_as_well() {
    let net = match test_net::Net::new(&["near", "far"]) {
        Ok(net) => net,
        Err(why) => return test_net::tell_skipped(&why),
    };
    let far = net.node("far");
    let address = SocketAddr::from((far.address(), 0));
    let listener = far.run(|| TcpListener::bind(address)).expect("the node").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let reactors = reactor_in(net.node("near"));
    let net = &net;
    let on = |body: Body| {
        let handle = &reactors.handles()[0];
        let answer = handle.call_within(PATIENCE * 2, move |reactor| {
            let mut group = Group::new(reactor.cx(), GroupOptions::default()).expect("a group");
            let cause = body(&mut group, reactor.cx());
            leave(group, reactor.cx());
            cause
        });
        answer.expect("no panic")
    };
    // A connection that is there, and cut.
    let (cut, is_cut) = std::sync::mpsc::channel::<()>();
    let (connected, is_connected) = std::sync::mpsc::channel::<()>();
    let established = std::thread::scope(|scope| {
        scope.spawn(move || {
            is_connected.recv_timeout(PATIENCE).expect("it connects");
            net.cut("near", "far").expect("a cut");
            cut.send(()).expect("it waits");
        });
        on(Box::new(move |group, cx| {
            let socket = SocketOptions { user_timeout: Some(A_MOMENT), ..SocketOptions::default() };
            let id = group.connect(&ConnectTo { socket, ..ConnectTo::new(address) }).expect("an attempt");
            turn_until("it connects", group, cx, |event| Seen::of(event) == Seen::Connected(id));
            connected.send(()).expect("it waits");
            is_cut.recv_timeout(PATIENCE).expect("a cut");
            group.stream(id).expect("open").send(b"into the dark").expect("room");
            closed(group, cx)
        }))
    });
    assert_eq!(established, Cause::TimedOut);
    // And one that is tried now.
    let tried = on(Box::new(move |group, cx| {
        let to = ConnectTo { timeout: A_MOMENT, ..ConnectTo::new(address) };
        group.connect(&to).expect("an attempt");
        closed(group, cx)
    }));
    assert_eq!(tried, Cause::ConnectTimedOut { after: A_MOMENT });
    assert_eq!(reactors.stop(), []);
}

fn closed(group: &mut Group, cx: &mut tgt_reactor::Cx) -> Cause {
    let mut cause = None;
    turn_until("its end", group, cx, |event| {
        if let Event::Closed { cause: why, .. } = event {
            cause = Some(why);
        }
        cause.is_some()
    });
    cause.expect("waited for")
}
