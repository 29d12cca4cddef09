//! Memory that comes and goes, and the log of what was written to it.

use super::*;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use test_vhost::front::{Front, feature, kind, until};
use test_vhost::guest::GUEST;
use test_vhost::wire::{code, words};
use tgt_guest_memory::{Mapping, Window, sealed_memfd};

/// Beyond the memory that fronts have.
const PLUGGED: u64 = 1 << 40;

#[test]
fn memory_that_was_plugged_is_used_and_that_was_taken_away_is_not() {
    let rig = Rig::new(1);
    let mut front = Front::connected(&rig.path("c"), Setup::default());
    assert_eq!(front.request(0, kind::READ, 0, &[], 512).0, OK);
    let slots = front.ask(code::GET_MAX_MEM_SLOTS, &[], &[]).body;
    assert_eq!(slots, words(&[32]));
    let file = sealed_memfd("plugged", 1 << 20).expect("a file");
    let region = words(&[0, PLUGGED, 1 << 20, 0x1000_0000, 0]);
    front.tell(code::ADD_MEM_REG, &region, &[file.as_fd()]);
    assert_eq!(front.try_tell(code::ADD_MEM_REG, &region, &[file.as_fd()]), Some(1), "it is there already");
    let mapping = Arc::new(Mapping::shared(&file, 0, 1 << 20).expect("mapped"));
    let plugged = Window::new(&mapping, 0, 1 << 20, 8).expect("all of it");
    // Data in the new memory, header and status in the old.
    assert_eq!(front.request(0, kind::WRITE, 3, &[0x5a; 512], 0).0, OK);
    let header = [[0; 4], [0; 4], 3_u32.to_le_bytes(), [0; 4]].concat();
    let at = GUEST + (64 << 10);
    front.guest.write(at, &header);
    let pieces = [(at, 16, false), (PLUGGED, 512, true), (at + 16, 1, true)];
    front.queues[0].driver.offer(&pieces).expect("room");
    front.queues[0].kick_if_wanted();
    until("it is answered", || front.queues[0].driver.next_answer());
    assert_eq!(plugged.load_u64(504, Relaxed), 0x5a5a_5a5a_5a5a_5a5a);
    front.tell(code::REM_MEM_REG, &region, &[]);
    assert_eq!(front.try_tell(code::REM_MEM_REG, &region, &[]), Some(1), "it is gone");
    assert_eq!(front.request(0, kind::READ, 0, &[], 512).0, OK);
    front.queues[0].driver.offer(&pieces).expect("room");
    front.queues[0].kick_if_wanted();
    let patience = test_vhost::PATIENCE;
    assert!(test_vhost::front::is_rung_within(&front.queues[0].error, patience), "the ring is broken");
}

#[test]
fn everything_written_is_in_the_log_once_it_was_asked_for() {
    let rig = Rig::new(1);
    each_kind(|setup| {
        let mut front = Front::connected(&rig.path("c"), setup);
        assert_eq!(front.request(0, kind::WRITE, 0, &pattern(0, 0, 8192), 0).0, OK);
        let pages = (GUEST + front.guest.spec.len) / 4096;
        let bytes = pages.div_ceil(8);
        let file = sealed_memfd("log", bytes).expect("a file");
        let log = Arc::new(Mapping::shared(&file, 0, bytes).expect("mapped"));
        let log = Window::new(&log, 0, bytes, 1).expect("all of it");
        let dirty = |at: u64| log.load_u8((at / 4096 / 8) as usize, Relaxed) & 1 << (at / 4096 % 8) != 0;
        front.tell(code::SET_LOG_BASE, &words(&[bytes, 0]), &[file.as_fd()]);
        assert_eq!(front.request(0, kind::READ, 0, &[], 8192).0, OK);
        assert!((0..pages).all(|page| !dirty(page * 4096)), "not agreed on yet");
        front.set_features(feature::LOG_ALL);
        let device = front.queues[0].driver.at();
        let guest_address = |user: u64| user - test_vhost::guest::USER + GUEST;
        front.set_addresses(0, Some(guest_address(device.device)));
        let id = front.submit(0, kind::READ, 0, &[], 8192).expect("room");
        let done = front.wait(0);
        assert_eq!((done.id, done.status), (id, OK));
        let ring = if setup.packed { device.desc } else { device.device };
        for at in [done.at, done.at + 4096, done.at + 8192, guest_address(ring)] {
            assert!(dirty(at), "{setup:?}: {at:#x} was written");
        }
        assert!(!dirty(done.at + 3 * 4096), "and nothing else was");
    });
}
