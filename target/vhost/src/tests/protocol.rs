//! What front ends do in order: stop, go on, come back, and hear of changes.

use super::*;
use crate::VhostError;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use test_vhost::front::{Front, kind, until};
use test_vhost::wire::{self, code, words};
use test_vhost::{PATIENCE, guest::GUEST};

#[test]
fn a_queue_that_is_stopped_answers_nothing_and_goes_on_where_it_stood() {
    let rig = Rig::new(2);
    each_kind(|setup| {
        let mut front = Front::connected(&rig.path("c"), Setup { queues: 2, ..setup });
        for round in 0..5_u64 {
            for sector in 0..40 {
                assert_eq!(
                    front.request(1, kind::WRITE, sector, &pattern(sector, round as u8, 512), 0).0,
                    OK
                );
            }
            let base = front.stop_queue(1);
            front.submit(1, kind::READ, 7, &[], 512).expect("room");
            assert_eq!(front.request(0, kind::READ, 0, &[], 512).0, OK, "the other one runs");
            assert_eq!(front.try_done(1), None);
            front.start_queue(1, base);
            let done = front.wait(1);
            assert_eq!(front.guest.read(done.at + 4096, 512), pattern(7, round as u8, 512));
        }
        // Disabled is stopped, but for its place.
        front.tell(code::SET_VRING_ENABLE, &words(&[0]), &[]);
        front.submit(0, kind::READ, 7, &[], 512).expect("room");
        assert_eq!(front.request(1, kind::READ, 0, &[], 512).0, OK);
        assert_eq!(front.try_done(0), None);
        front.tell(code::SET_VRING_ENABLE, &words(&[1 << 32]), &[]);
        assert_eq!(front.wait(0).status, OK);
    });
}

#[test]
fn a_front_end_that_comes_back_with_its_region_goes_on() {
    let rig = Rig::new(2);
    each_kind(|setup| {
        let mut front = Front::connected(&rig.path("c"), Setup { queues: 2, inflight: true, ..setup });
        for round in 0..6_u64 {
            for sector in 0..20 {
                front.submit(0, kind::WRITE, sector, &pattern(sector, round as u8, 512), 0).expect("room");
            }
            front.disconnect();
            front.connect(&rig.path("c"));
            front.start();
            for _ in 0..20 {
                assert_eq!(front.wait(0).status, OK);
            }
            assert_eq!(front.try_done(0), None);
            let (_, back) = front.request(1, kind::READ, 19, &[], 512);
            assert_eq!(back, pattern(19, round as u8, 512));
        }
    });
}

#[test]
fn a_new_size_is_told_and_served() {
    let rig = Rig::new(1);
    let bdev = rig.world.bdevs.get("D").expect("it is there");
    let mut front = Front::connected(&rig.path("c"), Setup::default());
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    ours.set_read_timeout(Some(PATIENCE)).expect("a bound");
    front.tell(code::SET_BACKEND_REQ_FD, &[], &[theirs.as_fd()]);
    assert_eq!(front.capacity(), SECTORS);
    assert_eq!(front.request(0, kind::READ, SECTORS, &[], 512).0, IOERR);
    // Malloc cannot grow: one that can shrink in name shows the same.
    bdev.resize(SECTORS / 2);
    let told = wire::receive(&ours).expect("a message");
    assert_eq!((told.request, told.body.len()), (2, 0), "CONFIG_CHANGE_MSG");
    assert_eq!(front.capacity(), SECTORS / 2);
    assert_eq!(front.request(0, kind::READ, SECTORS / 2, &[], 512).0, IOERR);
    assert_eq!(front.request(0, kind::READ, SECTORS / 2 - 1, &[], 512).0, OK);
}

#[test]
fn a_bdev_that_is_removed_fails_requests_and_is_let_go_of() {
    let rig = Rig::new(2);
    let mut front = Front::connected(&rig.path("c"), Setup { queues: 2, ..Setup::default() });
    assert_eq!(front.request(1, kind::READ, 0, &[], 512).0, OK);
    let bdev = Arc::downgrade(&rig.world.bdevs.get("D").expect("it is there"));
    rig.world.bdevs.remove("D").expect("nobody holds it");
    assert!(bdev.upgrade().is_none(), "what is kept keeps those below it");
    for queue in [0, 1] {
        assert_eq!(front.request(queue, kind::READ, 0, &[], 512).0, IOERR);
        assert_eq!(front.request(queue, kind::GET_ID, 0, &[], 20).0, OK);
    }
    front.disconnect();
    until("it is deleted", || rig.controllers.delete("c").ok());
}

#[test]
fn a_controller_is_deleted_when_nobody_is_connected_and_its_socket_with_it() {
    let rig = Rig::new(1);
    let mut front = Front::connected(&rig.path("c"), Setup::default());
    assert!(matches!(rig.controllers.delete("c"), Err(VhostError::Busy(_))));
    assert_eq!(front.request(0, kind::READ, 0, &[], 512).0, OK);
    front.disconnect();
    until("it is deleted", || rig.controllers.delete("c").ok());
    assert!(!rig.path("c").exists());
    assert!(matches!(rig.controllers.delete("c"), Err(VhostError::NotFound(_))));
    assert!(rig.world.bdevs.get("D").expect("there").openers().is_empty());
    rig.create("c", "D", |spec| spec);
    assert_eq!(Front::connected(&rig.path("c"), Setup::default()).capacity(), SECTORS);
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing_behind() {
    let rig = Rig::new(1);
    let create = |name: &str, bdev: &str, cpumask: Option<&str>| {
        let spec = BlkSpec {
            name: name.to_owned(),
            bdev: bdev.to_owned(),
            cpumask: cpumask.map(str::to_owned),
            ..BlkSpec::default()
        };
        rig.controllers.create(&spec).expect_err("refused")
    };
    assert!(matches!(create("c", "D", None), VhostError::Exists(_)));
    assert!(matches!(create("d", "none", None), VhostError::Open(_)));
    for name in ["", ".", "..", "a/b", "a\0b", &"n".repeat(200)] {
        assert!(matches!(create(name, "D", None), VhostError::Name { .. }), "{name:?}");
    }
    for mask in ["", "0x0", "0x2", "[7]", "x", "0x3"] {
        assert!(matches!(create("d", "D", Some(mask)), VhostError::Mask { .. }), "{mask:?}");
    }
    std::fs::write(rig.path("file"), "mine").expect("a file");
    assert!(matches!(create("file", "D", None), VhostError::Socket { .. }));
    assert_eq!(std::fs::read_to_string(rig.path("file")).expect("it stays"), "mine");
    // A socket that another process listens on is left alone, that of a dead one is taken.
    let other = std::os::unix::net::UnixListener::bind(rig.path("other")).expect("a socket");
    assert!(matches!(create("other", "D", None), VhostError::Socket { .. }));
    drop(other);
    rig.create("other", "D", |spec| BlkSpec { cpumask: Some("0x1".to_owned()), ..spec });
    assert_eq!(rig.world.bdevs.get("D").expect("there").openers().len(), 2);
}

#[test]
fn a_front_end_may_look_and_go_at_any_time() {
    let rig = Rig::new(2);
    for steps in 0..6 {
        let mut front = Front::new(Setup { queues: 2, inflight: true, ..Setup::default() });
        front.connect(&rig.path("c"));
        if steps > 0 {
            front.share_memory();
        }
        if steps > 1 {
            front.start();
        }
        if steps > 2 {
            front.submit(0, kind::WRITE, 0, &[1; 4096], 0).expect("room");
        }
        if steps > 3 {
            front.queues[1].driver.offer(&[(GUEST, 1, false)]).expect("room");
            front.queues[1].kick_if_wanted();
        }
        if steps > 4 {
            front.stop_queue(0);
        }
    }
    let mut front = Front::connected(&rig.path("c"), Setup::default());
    assert_eq!(front.request(0, kind::READ, 0, &[], 512).0, OK);
}
