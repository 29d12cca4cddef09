//! Stores on bdevs that fail or hang.

use super::{Pool, filled};
use crate::rig::{PATIENCE, Rig, wait_until};
use bdev_error::{Fault, Kind, Target};
use bdev_rmr::store::Phase;
use rmr_engine::store::{OutCause, Service};
use rmr_proto::envelope::Status;
use rmr_proto::{IoOp, IoStatus, Msg, Promise};
use tgt_bdev::IoStatus as WireStatus;

fn fault(kind: Kind, num: u32) -> Fault {
    Fault { kind, num, queue_depth: 0 }
}

#[test]
fn a_store_whose_metadata_cannot_be_written_latches_and_says_so_to_everybody() {
    let rig = Rig::start();
    let (bdev, faults) = rig.failing();
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    let written = filled(1, 1);
    assert_eq!(pool.write(0, &written), IoStatus::Done);
    let collect = pool.client.start_collect(4096);
    faults.set(Target::Write, fault(Kind::Status(WireStatus::WRITE_FAULT), 1));
    // A new promise has to be written down.
    let promise = Promise { generation: 2, nonce: 11 };
    pool.client.letter(&Msg::Promise { promise, takeover: true });
    assert_eq!(pool.client.wait(collect).envelope.status, Status::Latched);
    let io = pool.request(IoOp::Read, 0, 1);
    let tag = pool.client.start_io(io, None);
    assert_eq!(pool.client.wait(tag).envelope.status, Status::Latched);
    assert_eq!(pool.client.hail(0, Vec::new()).envelope.status, Status::Latched);
    let status = rig.status(1);
    assert_eq!((status.phase, status.requests, status.buffers), (Phase::Latched, 0, 0));
    let why = status.why.expect("it says why");
    assert!(why.contains("failed to write metadata: write fault"), "{why}");
    rig.close(1);
    rig.open(1, &bdev).expect("it opens again");
    let (mut pool, report) = Pool::start(pool.client, 3, false);
    assert_eq!(report.record.promise.generation, 3);
    assert_eq!(pool.read(0, 1), (IoStatus::Done, written));
}

#[test]
fn a_flush_that_fails_is_told_and_the_store_leaves_the_set() {
    let rig = Rig::start();
    let (bdev, faults) = rig.failing();
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    assert_eq!(pool.write(0, &filled(1, 1)), IoStatus::Done);
    faults.set(Target::Flush, fault(Kind::Status(WireStatus::WRITE_FAULT), 1));
    assert_eq!(pool.plain(IoOp::Flush, 0, 0), IoStatus::DiskError);
    let engine = rig.status(1).engine.expect("it runs");
    assert_eq!(engine.service, Service::Out(OutCause::DiskError));
    // That the cache is lost gets durable: the next to open it needs no hint.
    wait_until("it is written down", || rig.status(1).engine.is_some_and(|engine| engine.record.boot == 0));
    assert!(!rig.close(1).cache_lost);
}

#[test]
fn a_cache_that_was_lost_and_could_not_be_noted_is_told_by_the_close() {
    let rig = Rig::start();
    let (bdev, faults) = rig.failing();
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    assert_eq!(pool.write(0, &filled(1, 1)), IoStatus::Done);
    faults.set(Target::Flush, fault(Kind::Status(WireStatus::WRITE_FAULT), 1));
    faults.set(Target::Write, fault(Kind::Status(WireStatus::WRITE_FAULT), 1));
    assert_eq!(pool.plain(IoOp::Flush, 0, 0), IoStatus::DiskError);
    wait_until("metadata cannot be written either", || rig.status(1).phase == Phase::Latched);
    assert!(rig.close(1).cache_lost);
}

#[test]
fn a_store_closes_when_its_disk_has_answered_and_not_before() {
    let rig = Rig::start();
    let (bdev, faults) = rig.failing();
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    assert_eq!(pool.write(0, &filled(1, 1)), IoStatus::Done);
    for (target, op) in [(Target::Write, IoOp::Write), (Target::Read, IoOp::Read)] {
        faults.set(target, fault(Kind::Pending, 1));
        let io = pool.request(op, 0, 1);
        let data = filled(1, 2);
        pool.client.start_io(io, (op == IoOp::Write).then_some(&data));
    }
    wait_until("the disk hangs", || rig.status(1).on_disk == 2);
    let waiting = pool.request(IoOp::Flush, 0, 0);
    let flushed = pool.client.start_io(waiting, None);
    assert_eq!(pool.client.wait(flushed).envelope.status, Status::Done);
    let closed = rig.start_close(1);
    let status = rig.status(1);
    assert_eq!((status.phase, status.on_disk, status.requests), (Phase::Closing, 2, 2));
    assert!(closed.try_recv().is_err());
    assert_eq!(pool.client.hail(0, Vec::new()).envelope.status, Status::NoPool, "nothing new");
    assert_eq!(bdev.openers().len(), 1, "the disk may still write: nobody else gets it");
    let tags = [flushed - 2, flushed - 1];
    assert!(tags.iter().all(|tag| pool.client.answer(*tag).is_none()), "their memory is with the disk");
    faults.resume_pending();
    closed.recv_timeout(PATIENCE).expect("it closes");
    assert!(bdev.openers().is_empty());
    for tag in tags {
        assert_eq!(pool.client.wait(tag).envelope.status, Status::NoPool);
    }
}
