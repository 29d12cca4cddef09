//! Requests.

use super::*;
use std::collections::HashMap;
use test_vhost::front::{Front, REQUEST_BYTES, kind};
use test_vhost::guest::GUEST;

#[test]
fn what_is_written_is_read_back_through_every_kind_of_ring_and_every_queue() {
    let rig = Rig::new(2);
    each_kind(|setup| {
        let mut front = Front::connected(&rig.path("c"), Setup { queues: 3, ..setup });
        for (turn, bytes) in [512, 4096, 8192, 60 * KIB].into_iter().enumerate() {
            let queue = turn % 3;
            let data = pattern(turn as u64, 1, bytes);
            let sector = 128 * turn as u64;
            assert_eq!(front.request(queue, kind::WRITE, sector, &data, 0).0, OK, "{setup:?}");
            let (status, back) = front.request((queue + 1) % 3, kind::READ, sector, &[], bytes);
            assert!(status == OK && back == data, "{setup:?} {bytes}");
        }
        assert_eq!(front.request(0, kind::FLUSH, 0, &[], 0).0, OK);
        let (status, id) = front.request(0, kind::GET_ID, 0, &[], 20);
        assert_eq!((status, &id[..2]), (OK, &b"D\0"[..]));
    });
}

#[test]
fn many_requests_in_flight_keep_their_data_apart() {
    let rig = Rig::new(2);
    each_kind(|setup| {
        let mut front = Front::connected(&rig.path("c"), Setup { queues: 2, ..setup });
        let mut pending: [HashMap<u16, Vec<u8>>; 2] = Default::default();
        let mut finished = 0;
        for turn in 0..3000_u64 {
            let queue = (turn % 2) as usize;
            // Each queue has its half of the disk; each slot of it is written, then read.
            let sector = 8 * (turn / 4 % 64) + 1024 * queue as u64;
            let version = (turn / 256) as u8;
            let data = pattern(sector, version, 4096);
            let writes = turn / 2 % 2 == 0;
            let offered = if writes {
                front.submit(queue, kind::WRITE, sector, &data, 0).map(|id| (id, Vec::new()))
            } else {
                // The write before it has to have ended.
                while !pending[queue].is_empty() {
                    finished += take_one(&mut front, queue, &mut pending[queue]);
                }
                front.submit(queue, kind::READ, sector, &[], 4096).map(|id| (id, data))
            };
            if let Some((id, expected)) = offered {
                pending[queue].insert(id, expected);
            }
        }
        for (queue, pending) in pending.iter_mut().enumerate() {
            while !pending.is_empty() {
                finished += take_one(&mut front, queue, pending);
            }
        }
        assert!(finished > 2900, "{finished}");
    });
}

fn take_one(front: &mut Front, queue: usize, pending: &mut HashMap<u16, Vec<u8>>) -> u32 {
    let done = front.wait(queue);
    let expected = pending.remove(&done.id).expect("it was offered");
    assert_eq!(done.status, OK);
    assert_eq!(done.written, 1 + expected.len() as u32);
    assert!(front.guest.read(done.at + 4096, expected.len()) == expected, "wrong data");
    1
}

#[test]
fn zeroes_and_discards_name_their_range_in_their_data() {
    let rig = Rig::new(1);
    let mut front = Front::connected(&rig.path("c"), Setup::default());
    let range = |sector: u64, sectors: u32, flags: u32| {
        [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    let data = pattern(7, 7, 8192);
    assert_eq!(front.request(0, kind::WRITE, 0, &data, 0).0, OK);
    assert_eq!(front.request(0, kind::WRITE_ZEROES, 0, &range(2, 3, 1), 0).0, OK);
    let (_, back) = front.request(0, kind::READ, 0, &[], 8192);
    let zeroed = back.iter().enumerate().all(|(at, byte)| {
        let zero = (2 * 512..5 * 512).contains(&at);
        *byte == if zero { 0 } else { data[at] }
    });
    assert!(zeroed);
    assert_eq!(front.request(0, kind::DISCARD, 0, &range(8, 8, 0), 0).0, OK);
    for (kind, range, status) in [
        (kind::DISCARD, range(0, 8, 1), UNSUPP),
        (kind::WRITE_ZEROES, range(0, 8, 2), UNSUPP),
        (kind::WRITE_ZEROES, range(SECTORS, 1, 0), IOERR),
        (kind::WRITE_ZEROES, range(0, 0, 0), IOERR),
        (kind::WRITE_ZEROES, range(u64::MAX, 1, 0), IOERR),
        (kind::WRITE_ZEROES, [range(0, 1, 0), range(2, 1, 0)].concat(), IOERR),
        (kind::WRITE_ZEROES, range(0, 1, 0)[..15].to_vec(), IOERR),
    ] {
        assert_eq!(front.request(0, kind, 0, &range, 0).0, status, "{kind} {range:?}");
    }
}

#[test]
fn a_wrong_request_is_answered_and_the_next_one_served() {
    let rig = Rig::new(1);
    let mut front = Front::connected(&rig.path("c"), Setup::default());
    for (kind, sector, write, read, status) in [
        (kind::READ, SECTORS, 0, 512, IOERR),
        (kind::READ, SECTORS - 1, 0, 1024, IOERR),
        (kind::READ, u64::MAX, 0, 512, IOERR),
        (kind::READ, u64::MAX / 512, 0, 512, IOERR),
        (kind::READ, 0, 0, 100, IOERR),
        (kind::READ, 0, 0, 0, IOERR),
        (kind::WRITE, SECTORS, 512, 0, IOERR),
        (kind::WRITE, 0, 513, 0, IOERR),
        (3, 0, 512, 0, UNSUPP),
        (u32::MAX, 0, 0, 512, UNSUPP),
    ] {
        let data = vec![1; write];
        assert_eq!(front.request(0, kind, sector, &data, read).0, status, "{kind} {sector} {write} {read}");
        assert_eq!(front.request(0, kind::READ, 0, &[], 512).0, OK);
    }
}

#[test]
fn a_request_longer_than_a_buffer_can_be_is_done_whole() {
    let rig = Rig::new(1);
    let setup = Setup { size: 128, ..Setup::default() };
    let mut front = Front::connected(&rig.path("c"), setup);
    // 5 MiB in 60 pieces of unequal length, all of the memory for requests but the first.
    let at = GUEST + (64 << 10);
    let data_at = at + REQUEST_BYTES;
    let bytes: Vec<u8> = (0..5 << 20).map(|at: u32| (at ^ at >> 9 ^ at >> 17) as u8).collect();
    front.guest.write(data_at, &bytes);
    let cut = |writes: bool| {
        let mut pieces = Vec::new();
        let mut done = 0;
        for piece in 0..60_u64 {
            let rest = bytes.len() as u64 - done;
            let len = if piece == 59 { rest } else { (80_000 + piece * 137).min(rest) };
            pieces.push((data_at + done, len as u32, writes));
            done += len;
        }
        pieces
    };
    for (kind, writes) in [(kind::WRITE, false), (kind::READ, true)] {
        let header = [kind.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat();
        front.guest.write(at, &header);
        front.guest.write(at + 16, &[0xff]);
        let mut pieces = vec![(at, 16, false)];
        pieces.extend(cut(writes));
        pieces.push((at + 16, 1, true));
        let queue = &mut front.queues[0];
        let id = queue.driver.offer_indirect(&front.guest, at + 64, &pieces).expect("room");
        queue.kick_if_wanted();
        let end = test_vhost::front::until("it is answered", || queue.driver.next_answer());
        assert_eq!((end.id, front.guest.read(at + 16, 1)), (id, vec![OK]));
        assert!(front.guest.read(data_at, bytes.len()) == bytes);
        // What is read next has to come from the disk.
        front.guest.write(data_at, &vec![0; bytes.len()]);
    }
}

#[test]
fn who_may_only_read_is_told_so_and_held_to_it() {
    let rig = Rig::new(1);
    rig.create("ro", "D", |spec| BlkSpec { readonly: true, ..spec });
    let mut front = Front::connected(&rig.path("ro"), Setup::default());
    assert_ne!(front.offered & 1 << 5, 0, "VIRTIO_BLK_F_RO");
    assert_eq!(front.request(0, kind::READ, 0, &[], 512).0, OK);
    assert_eq!(front.request(0, kind::WRITE, 0, &[1; 512], 0).0, IOERR);
    assert_eq!(front.request(0, kind::READ, 0, &[], 512), (OK, vec![0; 512]));
}

#[test]
fn calls_may_be_held_back_and_come_all_the_same() {
    let rig = Rig::new(1);
    let mut front = Front::connected(&rig.path("c"), Setup::default());
    rig.controllers.set_coalescing("c", 2000, 1).expect("it is there");
    for sector in 0..200 {
        assert_eq!(front.request(0, kind::READ, sector, &[], 512).0, OK);
    }
    rig.controllers.set_coalescing("c", 0, 0).expect("it is there");
    assert_eq!(front.request(0, kind::READ, 0, &[], 512).0, OK);
}

#[test]
fn reactors_of_an_idle_disk_sleep_and_a_kick_wakes_them() {
    let rig = Rig::new(2);
    each_kind(|setup| {
        let mut front = Front::connected(&rig.path("c"), Setup { queues: 2, ..setup });
        for queue in [0, 1, 1, 0] {
            for reactor in rig.world.reactors() {
                test_vhost::front::until("it sleeps", || reactor.stats().snapshot().asleep.then_some(()));
            }
            assert_eq!(front.request(queue, kind::READ, 0, &[], 512).0, OK, "{setup:?}");
        }
    });
}
