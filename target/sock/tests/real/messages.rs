//! Bytes and payloads, cut in any way.

use std::io::Write;
use std::net::TcpStream;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::Cx;
use tgt_sock::{Event, Group, GroupOptions, Payload, Received};

use crate::rig::*;

/// Frames of the tests: kind, length (little-endian), body. Bodies of kind `DIRECT` are received into their own memory.
const HEAD: usize = 5;
const PLAIN: u8 = 0;
const DIRECT: u8 = 1;

fn frame(direct: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![if direct { DIRECT } else { PLAIN }];
    frame.extend((body.len() as u32).to_le_bytes());
    frame.extend(body);
    frame
}

fn head_of(bytes: &[u8]) -> Option<(u8, usize)> {
    let head = bytes.get(..HEAD)?;
    Some((head[0], u32::from_le_bytes(head[1..].try_into().expect("four bytes")) as usize))
}

/// Memory for a body: 3 bytes into a list of two buffers, or into one.
fn memory_for(cx: &mut Cx, len: usize) -> Payload {
    let buf = |len: usize| Bufs::from(DmaBuf::alloc_zeroed(len.max(1) as u32).expect("memory"));
    let bufs = if len.is_multiple_of(2) {
        buf(len + 4)
    } else {
        cx.lender().gather([buf(len / 2 + 2), buf(len + 4)])
    };
    Payload { bufs, offset: 3, len: len as u32, tag: 7 }
}

/// Takes frames out of what came.
fn consume(mut received: Received<'_>, cx: &mut Cx, frames: &mut Vec<Vec<u8>>) {
    while let Some((kind, len)) = head_of(received.bytes()) {
        if kind == DIRECT {
            received.consume(HEAD);
            match received.payload(memory_for(cx, len)) {
                Some(payload) => frames.push(bytes_of(&payload)),
                None => return,
            }
        } else {
            let Some(frame) = received.bytes().get(HEAD..HEAD + len) else { return };
            frames.push(frame.to_vec());
            received.consume(HEAD + len);
        }
    }
}

fn body_strategy() -> impl Strategy<Value = (bool, Vec<u8>)> {
    prop_oneof![
        (Just(false), prop::collection::vec(any::<u8>(), 0..590)),
        (Just(true), prop::collection::vec(any::<u8>(), 0..40)),
        (Just(true), prop::collection::vec(any::<u8>(), 0..5000)),
    ]
}

#[test]
fn any_chunking_of_a_byte_stream_yields_the_same_frames() {
    on_reactor(|cx| {
        let cx = std::cell::RefCell::new(cx);
        let mut runner =
            TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
        let bodies = prop::collection::vec(body_strategy(), 1..20);
        let chunks = prop::collection::vec(prop_oneof![1usize..8, 1usize..3000], 1..60);
        runner
            .run(&(bodies, chunks), |(bodies, chunks)| {
                let cx = &mut **cx.borrow_mut();
                let mut group = small_group(cx);
                let (_, peer) = adopted(&mut group);
                let stream: Vec<u8> = bodies.iter().flat_map(|(direct, body)| frame(*direct, body)).collect();
                let (mut frames, mut rest) = (Vec::new(), &stream[..]);
                for chunk in chunks.iter().cycle() {
                    let (now, later) = rest.split_at((*chunk).min(rest.len()));
                    write_all(&peer, now);
                    rest = later;
                    one_turn(&mut group, cx, &mut frames);
                    if rest.is_empty() {
                        break;
                    }
                }
                wait_until("all frames come", || {
                    one_turn(&mut group, cx, &mut frames);
                    frames.len() >= bodies.len()
                });
                leave(group, cx);
                prop_assert!(frames.iter().eq(bodies.iter().map(|(_, body)| body)));
                Ok(())
            })
            .expect("the same frames");
    });
}

fn one_turn(group: &mut Group, cx: &mut Cx, frames: &mut Vec<Vec<u8>>) {
    pump(cx);
    group.begin(cx);
    while let Some(event) = group.next() {
        match event {
            Event::Received(received) => consume(received, cx, frames),
            Event::Filled { payload, .. } => frames.push(bytes_of(&payload)),
            other => panic!("{other:?}"),
        }
    }
    let _ = group.end(cx);
}

#[test]
fn a_payload_is_complete_wherever_it_is_split() {
    on_reactor(|cx| {
        let body: Vec<u8> = (0..4096u32).map(|n| (n * 7 + n / 256) as u8).collect();
        let mut stream = frame(true, &body);
        stream.extend(frame(false, b"behind"));
        let mut group = Group::new(cx, GroupOptions::default()).expect("a group");
        let (_, peer) = adopted(&mut group);
        let splits = (0..stream.len()).filter(|at| at % 61 == 0 || *at < 20 || *at > 4080);
        for split in splits {
            let mut frames = Vec::new();
            write_all(&peer, &stream[..split]);
            one_turn(&mut group, cx, &mut frames);
            write_all(&peer, &stream[split..]);
            wait_until("both frames come", || {
                one_turn(&mut group, cx, &mut frames);
                frames.len() == 2
            });
            assert!(frames[0] == body && frames[1] == b"behind", "split at {split}");
        }
        leave(group, cx);
    });
}

/// Writes in chunks of any size: a byte at a time, then in bursts.
fn write_in_chunks(mut peer: &TcpStream, bytes: &[u8], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = if random.u8(..) < 200 { 1 } else { 300_000 };
        let (now, later) = rest.split_at(random.usize(1..=most).min(rest.len()));
        peer.write_all(now).expect("the group reads");
        rest = later;
    }
}

#[test]
fn mixed_messages_are_echoed_whatever_their_chunks() {
    let mut copies = 0;
    let echo = move |event: Event<'_>| match event {
        Event::Received(mut received) => {
            while let Some((kind, len)) = head_of(received.bytes()) {
                let head: [u8; HEAD] = received.bytes()[..HEAD].try_into().expect("a head");
                if kind == PLAIN {
                    let Some(frame) = received.bytes().get(..HEAD + len) else { return };
                    received.stream().send(frame).expect("room");
                    received.consume(HEAD + len);
                    continue;
                }
                received.stream().send(&head).expect("room");
                received.consume(HEAD);
                let memory = Bufs::from(DmaBuf::alloc(len.max(1) as u32).expect("memory"));
                let payload = Payload { bufs: memory, offset: 0, len: len as u32, tag: copies };
                copies += 1;
                match received.payload(payload) {
                    Some(payload) => received.stream().send_with(b"", payload).expect("room"),
                    None => return,
                }
            }
        }
        Event::Filled { mut stream, payload } => stream.send_with(b"", payload).expect("room"),
        Event::Sent { .. } => {}
        other => assert!(matches!(other, Event::Closed { .. }), "{other:?}"),
    };
    let rig = Rig::start(
        GroupOptions { queue_bytes: 64 << 20, queue_pieces: 65_536, ..GroupOptions::default() },
        echo,
    );
    for seed in 0..4 {
        let (_, peer) = rig.adopt();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut stream = Vec::new();
        for _ in 0..400 {
            let large = random.u8(..) < 20;
            let len = if large { random.usize(..300_000) } else { random.usize(..300) };
            let body: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            stream.extend(frame(large || random.bool(), &body));
        }
        std::thread::scope(|scope| {
            scope.spawn(|| write_in_chunks(&peer, &stream, seed));
            let echoed = read_exact(&peer, stream.len());
            assert!(echoed == stream, "what came back of seed {seed} differs");
        });
    }
}

#[test]
fn what_is_sent_arrives_in_order_and_every_payload_comes_back_once() {
    let (rig, log) = Rig::logging(GroupOptions::default());
    let (id, peer) = rig.adopt();
    let expected: Vec<u8> = (0..50u64)
        .flat_map(|tag| [vec![tag as u8; 3], vec![tag as u8 ^ 255; 5000 + tag as usize]].concat())
        .collect();
    rig.with(move |group, _| {
        let mut stream = group.stream(id).expect("it is open");
        for tag in 0..50u64 {
            let body = vec![tag as u8 ^ 255; 5000 + tag as usize];
            stream.send_with(&[tag as u8; 3], payload(&body, tag)).expect("room");
        }
    });
    assert!(read_exact(&peer, expected.len()) == expected);
    log.wait_for("the last payload", |seen| *seen == Seen::Sent(id, 49));
    let sent: Vec<_> = (0..50).map(|tag| Seen::Sent(id, tag)).collect();
    assert_eq!(log.all(), sent);
}

#[test]
fn held_bytes_come_again_and_an_end_comes_after_them() {
    on_reactor(|cx| {
        let mut group = small_group(cx);
        let (id, peer) = adopted(&mut group);
        write_all(&peer, &[1; 900]);
        turn_until("they come", &mut group, cx, |event| match event {
            Event::Received(mut received) => {
                received.consume(100);
                received.stream().hold();
                true
            }
            other => panic!("{other:?}"),
        });
        write_all(&peer, &[2; 50]);
        drop(peer);
        for _ in 0..100 {
            let _ = turn(&mut group, cx, |event| panic!("it is held: {event:?}"));
        }
        group.stream(id).expect("still there").resume();
        let mut seen = Vec::new();
        turn_until("its end", &mut group, cx, |event| {
            seen.push(Seen::of(event));
            matches!(seen.last(), Some(Seen::Closed(..)))
        });
        let ends = Seen::Closed(id, tgt_sock::Cause::PeerClosed);
        assert_eq!(seen, [Seen::Bytes(id, vec![1; 800]), Seen::Bytes(id, vec![2; 50]), ends]);
        leave(group, cx);
    });
}

#[test]
fn a_stream_moves_to_another_reactor_with_what_was_kept() {
    let keep = |event: Event<'_>| match event {
        // Nothing is consumed.
        Event::Received(received) => assert!(received.bytes().len() <= 5),
        other => panic!("{other:?}"),
    };
    let from = Rig::start(GroupOptions::default(), keep);
    let (to, log) = Rig::logging(GroupOptions::default());
    let (id, peer) = from.adopt();
    from.with(move |group, _| group.stream(id).expect("open").set_user(42));
    write_all(&peer, b"kept ");
    wait_until("they were read", || from.with(|group, _| group.stats().read_bytes) == 5);
    let detached = from.with(move |group, _| group.detach(id)).expect("at rest");
    assert_eq!(from.with(|group, _| group.stream_count()), 0);
    let there = to.with(move |group, _| {
        let id = group.adopt(detached, &Default::default()).expect("a stream");
        (id, group.stream(id).expect("open").user())
    });
    assert_eq!(there.1, 42);
    log.wait_for("what was kept", |seen| *seen == Seen::Bytes(there.0, b"kept ".to_vec()));
    write_all(&peer, b"and more");
    wait_until("more", || log.bytes(there.0) == b"kept and more");
    to.with(move |group, _| group.stream(there.0).expect("open").send(b"answer").expect("room"));
    assert_eq!(read_exact(&peer, 6), b"answer");
}
