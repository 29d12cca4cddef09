//! Guests and front ends that mean ill: they stop themselves, and nobody else.

use super::*;
use std::io::Write;
use std::os::unix::net::UnixStream;
use test_vhost::front::{Front, is_rung_within, kind, until};
use test_vhost::wire::{self, code, words};
use test_vhost::{PATIENCE, guest::GUEST};

/// A controller that shall notice nothing.
fn bystander(rig: &Rig) -> Front {
    disk(&rig.world.bdevs, "E", SECTORS);
    rig.create("e", "E", |spec| spec);
    Front::connected(&rig.path("e"), Setup::default())
}

fn is_served(front: &mut Front) {
    assert_eq!(front.request(0, kind::READ, 0, &[], 4096).0, OK);
}

#[test]
fn a_broken_ring_stops_its_disk_until_it_is_set_up_anew_and_no_other() {
    let rig = Rig::new(1);
    let mut other = bystander(&rig);
    each_kind(|setup| {
        let mut front = Front::connected(&rig.path("c"), Setup { queues: 2, ..setup });
        is_served(&mut front);
        // A request whose data is not in memory.
        front.queues[1].driver.offer(&[(GUEST, 16, false), (0, 512, true)]).expect("room");
        front.queues[1].kick_if_wanted();
        assert!(is_rung_within(&front.queues[1].error, PATIENCE), "{setup:?}");
        // The other queue of the disk takes nothing more, once it has heard of it.
        until("it is stopped", || {
            let id = front.submit(0, kind::READ, 0, &[], 512)?;
            let done = front.wait_within(0, std::time::Duration::from_millis(100));
            assert!(done.as_ref().is_none_or(|done| done.id == id));
            done.is_none().then_some(())
        });
        // Its driver resets it: rings anew.
        let stopped = [front.stop_queue(0), front.stop_queue(1)];
        assert!(stopped[0] > 0, "it was served");
        let stream = front.stream().try_clone().expect("a socket");
        drop(front);
        let mut front = Front::new(Setup { queues: 2, ..setup });
        drop(stream);
        front.connect(&rig.path("c"));
        front.start();
        is_served(&mut front);
    });
    is_served(&mut other);
}

#[test]
fn a_request_without_header_or_status_breaks_its_ring() {
    let rig = Rig::new(1);
    for pieces in [&[(GUEST, 15, false), (GUEST, 1, true)][..], &[(GUEST, 16, false)], &[(GUEST, 1, true)]] {
        let mut front = Front::connected(&rig.path("c"), Setup::default());
        front.queues[0].driver.offer(pieces).expect("room");
        front.queues[0].kick_if_wanted();
        assert!(is_rung_within(&front.queues[0].error, PATIENCE), "{pieces:?}");
    }
}

#[test]
fn a_ring_that_is_not_in_memory_is_broken_from_the_start() {
    let rig = Rig::new(1);
    let mut front = Front::new(Setup::default());
    front.connect(&rig.path("c"));
    // Queues first, then memory.
    let base = front.queues[0].driver.base();
    front.start_queue(0, base);
    assert!(is_rung_within(&front.queues[0].error, PATIENCE));
    front.share_memory();
    front.stop_queue(0);
    front.start_queue(0, base);
    is_served(&mut front);
}

#[test]
fn whoever_breaks_the_protocol_loses_the_connection_and_nobody_else_does() {
    let rig = Rig::new(1);
    let mut other = bystander(&rig);
    let header = |request: u32, flags: u32, size: u32| {
        [request, flags, size].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()
    };
    for bytes in [
        header(0, 1, 0),
        header(99, 1, 0),
        header(1, 0, 0),
        header(1, 2, 0),
        header(1, 1, 5000),
        header(1, 1, u32::MAX),
        header(1, 0xffff_fff1, 0),
        wire::message(code::SET_FEATURES, 0, &[1, 2, 3]),
        wire::message(code::SET_VRING_NUM, 0, &words(&[64 | 7 << 32])),
        wire::message(code::SET_VRING_NUM, 0, &words(&[2000 << 32])),
        wire::message(code::SET_VRING_KICK, 0, &words(&[0])),
        wire::message(code::SET_MEM_TABLE, 0, &words(&[1, GUEST, 4096, 0, 0])),
        wire::message(code::SET_INFLIGHT_FD, 0, &[0; 24]),
        wire::message(code::SET_BACKEND_REQ_FD, 0, &[]),
        vec![0xff; 4096],
    ] {
        let mut stream = UnixStream::connect(rig.path("c")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        stream.write_all(&bytes).expect("a socket with room");
        assert!(wire::receive(&stream).is_none(), "{bytes:?} is answered");
    }
    is_served(&mut other);
    is_served(&mut Front::connected(&rig.path("c"), Setup::default()));
}

#[test]
fn a_question_that_cannot_be_answered_ends_the_connection_rather_than_wait() {
    let rig = Rig::new(1);
    let no_queues = [0; 24];
    for (request, body) in [(code::GET_VRING_BASE, &words(&[99])[..]), (code::GET_INFLIGHT_FD, &no_queues)] {
        let front = Front::connected(&rig.path("c"), Setup::default());
        assert!(wire::send(front.stream(), &wire::message(request, wire::NEED_REPLY, body), &[]));
        assert!(wire::receive(front.stream()).is_none(), "{request}");
    }
}

#[test]
fn half_a_message_and_an_answer_that_is_not_read_hold_nobody_up() {
    let rig = Rig::new(1);
    let mut other = bystander(&rig);
    let mut stream = UnixStream::connect(rig.path("c")).expect("it listens");
    let message = wire::message(code::SET_FEATURES, 0, &words(&[0]));
    let (now, later) = message.split_at(15);
    stream.write_all(now).expect("a socket with room");
    is_served(&mut other);
    stream.write_all(later).expect("a socket with room");
    // Questions until neither side takes more: the target waits for room, and serves others meanwhile.
    stream.set_nonblocking(true).expect("a mode");
    let question = wire::message(code::GET_FEATURES, 0, &[]);
    let mut refused = 0;
    while refused < 20 {
        match stream.write(&question) {
            Ok(sent) if sent == question.len() => refused = 0,
            Ok(_) => panic!("a question in part"),
            Err(_) => {
                refused += 1;
                is_served(&mut other);
            }
        }
    }
    drop(stream);
    is_served(&mut Front::connected(&rig.path("c"), Setup::default()));
}

#[test]
fn a_front_end_that_dies_within_a_message_makes_room_for_the_next() {
    let rig = Rig::new(1);
    let message = wire::message(code::SET_FEATURES, 0, &words(&[0]));
    for cut in 1..message.len() {
        let mut stream = UnixStream::connect(rig.path("c")).expect("it listens");
        stream.write_all(&message[..cut]).expect("a socket with room");
        drop(stream);
        is_served(&mut Front::connected(&rig.path("c"), Setup::default()));
    }
}

#[test]
fn a_second_front_end_is_turned_away() {
    let rig = Rig::new(1);
    let mut front = Front::connected(&rig.path("c"), Setup::default());
    let second = UnixStream::connect(rig.path("c")).expect("it listens");
    second.set_read_timeout(Some(PATIENCE)).expect("a bound");
    assert!(wire::receive(&second).is_none());
    is_served(&mut front);
}
