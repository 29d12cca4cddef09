//! Anything at any time: whatever both sides do, buffers come back once, streams end once, and nothing comes after.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use tgt_reactor::Cx;
use tgt_sock::{Event, Group, GroupOptions, Received, StreamId};

use crate::rig::*;

const STREAMS: usize = 12;
const STEPS: usize = 1500;

struct Chaos {
    group: Group,
    random: fastrand::Rng,
    /// Streams that have not ended, with their peers as long as these are there.
    streams: HashMap<StreamId, Option<TcpStream>>,
    ended: HashSet<StreamId>,
    /// Payloads that are away, and whose they are.
    away: HashMap<u64, StreamId>,
    next_tag: u64,
    counts: [u64; 5],
}

impl Chaos {
    fn new(cx: &mut Cx, seed: u64) -> Chaos {
        let options = GroupOptions {
            turn_bytes: 4000,
            frame_max: 2000,
            queue_bytes: 60_000,
            queue_pieces: 30,
            hot_time: Duration::from_micros(if seed.is_multiple_of(2) { 0 } else { 20 }),
            ..GroupOptions::default()
        };
        Chaos {
            group: Group::new(cx, options).expect("a group"),
            random: fastrand::Rng::with_seed(seed),
            streams: HashMap::new(),
            ended: HashSet::new(),
            away: HashMap::new(),
            next_tag: 0,
            counts: [0; 5],
        }
    }

    fn tag(&mut self, id: StreamId) -> u64 {
        self.next_tag += 1;
        assert_eq!(self.away.insert(self.next_tag, id), None);
        self.next_tag
    }

    /// Something that one of the two sides does.
    fn step(&mut self) {
        if self.streams.len() < STREAMS {
            let (id, peer) = adopted(&mut self.group);
            assert!(!self.ended.contains(&id), "a name is not used again");
            peer.set_nonblocking(true).expect("a socket");
            self.streams.insert(id, Some(peer));
        }
        let ids: Vec<_> = self.streams.keys().copied().collect();
        let id = ids[self.random.usize(..ids.len())];
        match self.random.u8(..100) {
            0..40 => self.peer_writes(id),
            40..60 => self.peer_reads(id),
            60..85 => self.send(id),
            85..92 => self.hold_or_resume(id),
            92..95 => self.peer_ends(id),
            95..97 => self.with(id, |stream| stream.abort()),
            _ => self.with(id, |stream| stream.finish(Duration::from_millis(1))),
        }
    }

    fn with(&mut self, id: StreamId, act: impl FnOnce(&mut tgt_sock::Stream<'_>)) {
        act(&mut self.group.stream(id).expect("it has not ended"));
    }

    fn peer_writes(&mut self, id: StreamId) {
        let len = self.random.usize(1..6000);
        if let Some(Some(peer)) = self.streams.get_mut(&id) {
            // Full, or reset: both may be.
            let _ = peer.write(&vec![5; len]);
        }
    }

    fn peer_reads(&mut self, id: StreamId) {
        if let Some(Some(peer)) = self.streams.get_mut(&id) {
            let _ = peer.read(&mut [0; 30_000]);
        }
    }

    fn peer_ends(&mut self, id: StreamId) {
        if let Some(peer) = self.streams.get_mut(&id).and_then(Option::take)
            && self.random.bool()
        {
            set_socket_linger(peer.as_fd(), Some(Duration::ZERO)).expect("a socket");
        }
    }

    fn hold_or_resume(&mut self, id: StreamId) {
        let hold = self.random.bool();
        self.with(id, |stream| if hold { stream.hold() } else { stream.resume() });
    }

    fn send(&mut self, id: StreamId) {
        let (tag, len) = (self.tag(id), self.random.usize(1..20_000));
        let mut stream = self.group.stream(id).expect("it has not ended");
        let room = stream.room();
        match stream.send_with(&[1; 50], payload(&vec![2; len], tag)) {
            Ok(()) => {}
            Err((_, back)) => {
                let fits = room.bytes >= len + 50 && room.pieces >= 2;
                assert!(!fits || stream.send(&[]) == Err(tgt_sock::Refused::Ending), "{room:?}");
                assert_eq!((back.tag, self.away.remove(&tag)), (tag, Some(id)));
            }
        }
    }

    fn turn(&mut self, cx: &mut Cx) {
        pump(cx);
        self.group.begin(cx);
        let Chaos { group, random, streams, ended, away, next_tag, counts } = self;
        while let Some(event) = group.next() {
            match event {
                Event::Received(mut received) => {
                    let id = received.stream().id();
                    assert!(!ended.contains(&id));
                    counts[0] += 1;
                    take(&mut received, random, |id| {
                        *next_tag += 1;
                        away.insert(*next_tag, id);
                        *next_tag
                    })
                    .into_iter()
                    .for_each(|tag| assert_eq!(away.remove(&tag), Some(id)));
                }
                Event::Filled { stream, payload } => {
                    counts[1] += 1;
                    assert_eq!(away.remove(&payload.tag), Some(stream.id()));
                }
                Event::Sent { stream, payload, .. } => {
                    counts[2] += 1;
                    assert!(!ended.contains(&stream));
                    assert_eq!(away.remove(&payload.tag), Some(stream));
                }
                Event::Unsent { stream, payload, .. } | Event::Unfilled { stream, payload, .. } => {
                    counts[3] += 1;
                    assert!(!ended.contains(&stream));
                    assert_eq!(away.remove(&payload.tag), Some(stream));
                }
                Event::Closed { stream, .. } => {
                    counts[4] += 1;
                    assert!(ended.insert(stream), "one end");
                    assert!(streams.remove(&stream).is_some());
                    assert!(!away.values().any(|whose| *whose == stream), "its buffers came before");
                }
                Event::Room(stream) => assert!(!ended.contains(&stream.id())),
                other => panic!("{other:?}"),
            }
        }
        let _ = self.group.end(cx);
    }
}

/// Consumes some; now and then awaits a payload, now and then ends the stream over it. Returns payloads that came back.
fn take(
    received: &mut Received<'_>,
    random: &mut fastrand::Rng,
    mut tag: impl FnMut(StreamId) -> u64,
) -> Vec<u64> {
    let (mut back, id) = (Vec::new(), received.stream().id());
    if random.u8(..) < 10 {
        received.stream().abort();
    }
    let some = random.usize(..=received.bytes().len());
    received.consume(some);
    if random.u8(..) < 60 {
        let len = random.usize(1..9000);
        let payload = payload(&vec![0; len], tag(id));
        back.extend(received.payload(payload).map(|payload| payload.tag));
    }
    if random.bool() {
        let rest = received.bytes().len();
        received.consume(rest);
    }
    back
}

#[test]
fn buffers_come_back_once_and_streams_end_once_whatever_happens() {
    on_reactor(|cx| {
        let mut counts = [0; 5];
        for seed in 0..12 {
            let mut chaos = Chaos::new(cx, seed);
            for _ in 0..STEPS {
                chaos.step();
                if chaos.random.bool() {
                    chaos.turn(cx);
                }
            }
            chaos.group.abort_all();
            let deadline = Instant::now() + PATIENCE;
            while chaos.group.stream_count() > 0 {
                chaos.turn(cx);
                assert!(Instant::now() < deadline, "seed {seed}: streams do not end");
            }
            assert!(chaos.away.is_empty() && chaos.streams.is_empty(), "seed {seed}: {:?}", chaos.away);
            chaos.group.close(cx);
            counts.iter_mut().zip(chaos.counts).for_each(|(sum, count)| *sum += count);
        }
        assert!(counts.iter().all(|count| *count > 50), "everything happened: {counts:?}");
    });
}
