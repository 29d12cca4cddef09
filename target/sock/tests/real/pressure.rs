//! Queues that are full, peers that are slow, peers that are greedy.

use std::io::Write;

use tgt_reactor::Work;
use tgt_sock::{Cause, Event, Group, GroupOptions, Refused};

use crate::rig::*;

#[test]
fn a_peer_that_stops_reading_is_told_to_the_sender_and_nothing_is_lost() {
    let (rig, log) = Rig::logging(GroupOptions { queue_bytes: 1 << 20, ..GroupOptions::default() });
    let (id, peer) = rig.adopt();
    let queued = || rig.with(move |group, _| group.stream(id).expect("open").queued_bytes());
    let rooms = || log.all().iter().filter(|seen| **seen == Seen::Room(id)).count();
    let mut sent = 0;
    // The kernel's buffers fill first, then the queue: until it refuses and stays full.
    wait_until("the queue is full", || {
        let (next, refused) = rig.with(send_until_refused(sent, id));
        sent = next;
        if refused {
            rig.wait_asleep();
        }
        refused && queued() > 1 << 19
    });
    assert!(queued() <= 1 << 20, "{} bytes in a queue of 1 MiB", queued());
    let rooms_before = rooms();
    let expected: Vec<u8> = (0..sent).flat_map(message).collect();
    assert!(read_exact(&peer, expected.len()) == expected);
    let tags = || log.all().into_iter().filter(|seen| matches!(seen, Seen::Sent(..))).collect::<Vec<_>>();
    wait_until("every payload is back", || tags().len() as u64 == sent);
    assert_eq!(tags(), (0..sent).map(|tag| Seen::Sent(id, tag)).collect::<Vec<_>>());
    assert_eq!(rooms(), rooms_before + 1);
}

fn message(tag: u64) -> Vec<u8> {
    [vec![tag as u8; 16], vec![tag as u8 ^ 85; 8000]].concat()
}

/// Sends messages from number `from` on until one is refused; returns the next number.
fn send_until_refused(
    from: u64,
    id: tgt_sock::StreamId,
) -> impl FnOnce(&mut Group, &mut tgt_reactor::Cx) -> (u64, bool) + Send {
    move |group, _| {
        let mut stream = group.stream(id).expect("open");
        for tag in from..from + 200 {
            let message = message(tag);
            match stream.send_with(&message[..16], payload(&message[16..], tag)) {
                Ok(()) => {}
                Err((Refused::Full, back)) => {
                    assert_eq!((back.tag, bytes_of(&back)), (tag, message[16..].to_vec()));
                    return (tag, true);
                }
                Err((Refused::Ending, _)) => panic!("it is open"),
            }
        }
        (from + 200, false)
    }
}

#[test]
fn progress_tells_what_the_peer_has_and_what_came_of_a_payload() {
    on_reactor(|cx| {
        let mut group = Group::new(cx, GroupOptions::default()).expect("a group");
        let (id, mut peer) = adopted(&mut group);
        let progress = |group: &mut Group| group.stream(id).expect("open").progress().expect("TCP");
        let turn = |group: &mut Group, cx: &mut tgt_reactor::Cx| {
            let _ = turn(group, cx, |event| match event {
                Event::Received(mut received) => {
                    received.consume(4);
                    assert!(received.payload(payload(&[0; 1000], 1)).is_none());
                }
                event => drop(Seen::of(event)),
            });
        };
        // More than the kernel's buffers take: some is queued, some is there, some is between.
        let mut tags = 0;
        while group.stream(id).expect("open").queued_bytes() < 1 << 20 {
            (tags, _) = send_until_refused(tags, id)(&mut group, cx);
            turn(&mut group, cx);
        }
        let now = progress(&mut group);
        assert_eq!((now.received, now.queued), (0, tags * 8016));
        assert!(now.acknowledged < now.queued, "{now:?} of a peer that reads nothing");
        peer.write_all(&[7; 104]).expect("room");
        wait_until("a part of the payload has come", || {
            turn(&mut group, cx);
            progress(&mut group).received == 104
        });
        peer.set_nonblocking(true).expect("a socket");
        let mut read = vec![0; 1 << 16];
        wait_until("the peer has all of it", || {
            turn(&mut group, cx);
            while std::io::Read::read(&mut peer, &mut read).is_ok_and(|count| count > 0) {}
            progress(&mut group).acknowledged == now.queued
        });
        leave(group, cx);
    });
}

#[test]
fn sending_goes_on_although_the_stream_is_never_parked() {
    on_reactor(|cx| {
        let hot_time = std::time::Duration::from_secs(600);
        let mut group =
            Group::new(cx, GroupOptions { hot_time, ..GroupOptions::default() }).expect("a group");
        let (id, peer) = adopted(&mut group);
        let mut sent = 0;
        let queued = |group: &mut Group| group.stream(id).expect("open").queued_bytes();
        // More than the kernel takes: until a turn does not change what is queued.
        let mut before = usize::MAX;
        while queued(&mut group) != before || before == 0 {
            if queued(&mut group) == 0 {
                (sent, _) = send_until_refused(sent, id)(&mut group, cx);
            }
            before = queued(&mut group);
            let _ = turn(&mut group, cx, |_| ());
        }
        let expected: Vec<u8> = (0..sent).flat_map(message).collect();
        let mut got: Vec<u8> = Vec::new();
        peer.set_nonblocking(true).expect("a socket");
        wait_until("all arrives", || {
            write_all(&peer, b"x");
            assert_ne!(turn(&mut group, cx, |event| drop(Seen::of(event))), Work::Idle);
            let mut some = vec![0; 100_000];
            if let Ok(count) = std::io::Read::read(&mut &peer, &mut some) {
                got.extend(&some[..count]);
            }
            got.len() == expected.len()
        });
        assert!(got == expected && group.stats().parked == 0);
        leave(group, cx);
    });
}

#[test]
fn a_send_within_the_room_told_is_not_refused_and_one_beyond_is() {
    on_reactor(|cx| {
        let options = GroupOptions { queue_bytes: 100, queue_pieces: 4, ..GroupOptions::default() };
        let mut group = Group::new(cx, options).expect("a group");
        let (id, peer) = adopted(&mut group);
        let mut stream = group.stream(id).expect("open");
        assert_eq!(stream.room(), tgt_sock::Room { bytes: 100, pieces: 4 });
        stream.send_with(b"head", payload(&[1; 40], 1)).expect("room");
        assert_eq!(stream.room(), tgt_sock::Room { bytes: 56, pieces: 2 });
        assert!(stream.send(&[0; 57]).is_err() && stream.send_with(&[], payload(&[0; 57], 9)).is_err());
        stream.send_with(&[2; 6], payload(&[2; 50], 2)).expect("room");
        assert_eq!(stream.send(&[3]), Err(Refused::Full));
        let mut seen = Vec::new();
        turn_until("room", &mut group, cx, |event| {
            seen.push(Seen::of(event));
            seen.len() == 3
        });
        assert_eq!(seen, [Seen::Sent(id, 1), Seen::Sent(id, 2), Seen::Room(id)]);
        assert_eq!(read_exact(&peer, 100), [&b"head"[..], &[1; 40], &[2; 56]].concat());
        leave(group, cx);
    });
}

#[test]
fn a_flood_on_one_stream_does_not_starve_another() {
    on_reactor(|cx| {
        let mut group =
            Group::new(cx, GroupOptions { turn_bytes: 4096, ..GroupOptions::default() }).expect("a group");
        let (flooded, flooder) = adopted(&mut group);
        let (pinged, pinger) = adopted(&mut group);
        flooder.set_nonblocking(true).expect("a socket");
        let pump = |mut flooder: &std::net::TcpStream| while flooder.write(&[0; 65_536]).is_ok() {};
        let mut flooded_bytes = 0;
        for round in 0..500u32 {
            pump(&flooder);
            write_all(&pinger, &round.to_le_bytes());
            let (mut of_flood, mut of_ping) = (0, Vec::new());
            let work = turn(&mut group, cx, |event| match Seen::of(event) {
                Seen::Bytes(id, bytes) if id == flooded => of_flood += bytes.len(),
                Seen::Bytes(id, bytes) if id == pinged => of_ping.extend(bytes),
                other => panic!("{other:?}"),
            });
            assert_eq!((&of_ping[..], work), (&round.to_le_bytes()[..], Work::Busy));
            assert!(of_flood <= 4096, "{of_flood} bytes in one turn");
            flooded_bytes += of_flood;
        }
        assert!(flooded_bytes > 500 * 2048, "the flood goes on beside: {flooded_bytes} bytes");
        leave(group, cx);
    });
}

#[test]
fn a_frame_that_never_ends_is_refused_at_its_bound() {
    on_reactor(|cx| {
        let mut group = small_group(cx);
        let (id, peer) = adopted(&mut group);
        write_all(&peer, &[0; 700]);
        let mut ends = Vec::new();
        turn_until("its end", &mut group, cx, |event| match event {
            Event::Received(_) => false,
            other => {
                ends.push(Seen::of(other));
                true
            }
        });
        assert_eq!(ends, [Seen::Closed(id, Cause::FrameTooLong { kept: 700, limit: 600 })]);
        assert_eq!(group.stream_count(), 0);
        leave(group, cx);
    });
}

#[test]
fn more_pieces_than_a_call_takes_go_out_in_several() {
    let (rig, log) = Rig::logging(GroupOptions { queue_pieces: 5000, ..GroupOptions::default() });
    let (id, peer) = rig.adopt();
    rig.with(move |group, _| {
        let mut stream = group.stream(id).expect("open");
        for tag in 0..2400u64 {
            stream.send_with(&[1], payload(&[tag as u8; 2], tag)).expect("room");
        }
    });
    let expected: Vec<u8> = (0..2400u64).flat_map(|tag| [1, tag as u8, tag as u8]).collect();
    assert_eq!(read_exact(&peer, expected.len()), expected);
    log.wait_for("the last", |seen| *seen == Seen::Sent(id, 2399));
    assert_eq!(log.all().len(), 2400);
}
