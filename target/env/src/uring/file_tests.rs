//! Reads, writes and the rest on real files. Needs io_uring, as the other tests here.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::tests::{completion, event, ring};
use super::*;
use crate::bufs::{Bufs, Lender};
use crate::memory::DmaBuf;

pub(super) struct Rig {
    pub(super) ring: Uring,
    pub(super) source: SourceId,
    pub(super) file: Arc<File>,
    pub(super) id: FileId,
}

impl Rig {
    pub(super) fn new() -> Option<Rig> {
        Self::on(tempfile::tempfile().expect("a file"))
    }

    pub(super) fn on(file: File) -> Option<Rig> {
        let mut ring = ring()?;
        let file = Arc::new(file);
        let (source, id) = (ring.add_source().unwrap(), ring.add_file(file.clone()).unwrap());
        Some(Rig { ring, source, file, id })
    }

    pub(super) fn start(&mut self, op: FileOp, bufs: Bufs, tag: u64) {
        self.ring.start(self.source, self.id, op, bufs, tag).unwrap();
    }

    /// Runs one operation to its end.
    pub(super) fn run(&mut self, op: FileOp, bufs: Bufs) -> IoDone {
        self.start(op, bufs, 7);
        self.end()
    }

    pub(super) fn end(&mut self) -> IoDone {
        loop {
            if let Some(done) = self.ring.next_io(self.source) {
                return done;
            }
            assert_ne!(self.ring.wait(Some(Duration::from_secs(10))).unwrap(), Woken::TimedOut);
        }
    }
}

pub(super) fn filled(bytes: u32, byte: u8) -> Bufs {
    let mut bufs = Bufs::from(DmaBuf::alloc(bytes).expect("memory"));
    bufs.fill(byte);
    bufs
}

pub(super) fn bytes(bufs: &Bufs) -> Vec<u8> {
    let mut bytes = vec![0; bufs.len() as usize];
    bufs.copy_to_slice(0, &mut bytes);
    bytes
}

#[test]
fn what_is_written_is_in_the_file_and_is_read_again() {
    let Some(mut rig) = Rig::new() else { return };
    for durable in [false, true] {
        let write = FileOp::Write { offset: 512, skip: 0, end: 4096, durable };
        let done = rig.run(write, filled(4096, 7));
        assert_eq!((done.tag, done.result, done.bufs.len()), (7, 4096, 4096));
        assert_eq!(rig.run(FileOp::DataSync, Bufs::none()).result, 0);
        let read = rig.run(FileOp::Read { offset: 512, skip: 0 }, filled(4096, 0));
        assert_eq!((read.result, bytes(&read.bufs)), (4096, vec![7; 4096]));
    }
}

#[test]
fn lists_are_read_and_written_piece_by_piece_from_any_byte_on() {
    let Some(mut rig) = Rig::new() else { return };
    let mut lender = Lender::new();
    let pieces = [100u32, 4096, 1, 900];
    let total: u32 = pieces.iter().sum();
    let data: Vec<u8> = (0..total).map(|at| (at % 251) as u8).collect();
    for skip in [0, 99, 100, 101, 4196, 4197, total - 1] {
        let mut list = lender.gather(pieces.map(|len| filled(len, 0)));
        list.copy_from_slice(0, &data);
        let end = total - (total - skip) / 3;
        let done = rig.run(FileOp::Write { offset: 3, skip, end, durable: false }, list);
        assert_eq!(done.result, (end - skip) as i32);
        let mut there = vec![0; (end - skip) as usize];
        rig.file.read_exact_at(&mut there, 3).unwrap();
        assert_eq!(there, data[skip as usize..end as usize]);
    }
    rig.file.write_all_at(&data, 0).unwrap();
    for skip in [0, 99, 100, 101, 4196, 4197, total - 1] {
        let list = lender.gather(pieces.map(|len| filled(len, 9)));
        let done = rig.run(FileOp::Read { offset: 0, skip }, list);
        let (kept, read) = (skip as usize, (total - skip) as usize);
        assert_eq!(done.result, read as i32);
        assert_eq!(bytes(&done.bufs)[kept..], data[..read]);
        assert!(bytes(&done.bufs)[..kept].iter().all(|byte| *byte == 9));
    }
}

#[test]
fn ranges_become_zeroes_and_the_size_stays() {
    let Some(mut rig) = Rig::new() else { return };
    for how in [Allocation::Hole, Allocation::Zeroes] {
        rig.file.write_all_at(&[5; 16384], 0).unwrap();
        let done = rig.run(FileOp::Allocate { offset: 4096, len: 1 << 20, how }, Bufs::none());
        if done.result == -libc::EOPNOTSUPP {
            println!("skipped: this file system has no {how:?}");
            continue;
        }
        assert_eq!((done.result, rig.file.metadata().unwrap().len()), (0, 16384));
        let mut there = vec![0; 16384];
        rig.file.read_exact_at(&mut there, 0).unwrap();
        assert!(there[..4096].iter().all(|byte| *byte == 5) && there[4096..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_read_beyond_the_end_is_short() {
    let Some(mut rig) = Rig::new() else { return };
    rig.file.write_all_at(&[1; 100], 0).unwrap();
    for (offset, result) in [(0, 100), (60, 40), (100, 0), (5000, 0)] {
        assert_eq!(rig.run(FileOp::Read { offset, skip: 0 }, filled(512, 0)).result, result);
    }
}

#[test]
fn file_operations_are_bounded_and_leave_room_for_polls() {
    let Some(mut rig) = Rig::new() else { return };
    // 8 entries, 32 slots, of which files have 24; also more segment lists than fit at once.
    let mut lender = Lender::new();
    for tag in 0..24 {
        let list = lender.gather((0..SEGMENTS_MAX).map(|_| filled(512, tag as u8)));
        let end = list.len();
        rig.start(FileOp::Write { offset: tag * u64::from(end), skip: 0, end, durable: false }, list, tag);
    }
    let (source, id) = (rig.source, rig.id);
    let (error, bufs) = rig.ring.start(source, id, FileOp::DataSync, filled(512, 3), 0).unwrap_err();
    assert!(matches!(error, UringError::NoSlot { limit: 24 }), "{error}");
    assert_eq!(bytes(&bufs), vec![3; 512], "the buffers come back untouched");
    let watcher = rig.ring.add_source().unwrap();
    let watched = event();
    rig.ring.poll_fd(watcher, watched.clone(), Interest::Writable, false, 5).unwrap();
    assert_eq!(completion(&mut rig.ring, watcher).tag, 5);
    let mut tags: Vec<_> = (0..24).map(|_| rig.end()).map(|done| (done.tag, done.result)).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..24).map(|tag| (tag, 16384)).collect::<Vec<_>>());
    rig.start(FileOp::DataSync, Bufs::none(), 1);
    assert_eq!(rig.end().result, 0);
}

#[test]
fn a_file_that_was_removed_is_let_go_of_after_its_last_operation() {
    let Some(mut rig) = Rig::new() else { return };
    rig.start(FileOp::Write { offset: 0, skip: 0, end: 512, durable: true }, filled(512, 1), 0);
    rig.ring.remove_file(rig.id).unwrap();
    assert_eq!(Arc::strong_count(&rig.file), 2, "held while the kernel writes");
    let (source, id) = (rig.source, rig.id);
    let (error, _bufs) = rig.ring.start(source, id, FileOp::DataSync, Bufs::none(), 0).unwrap_err();
    assert!(matches!(error, UringError::UnknownFile));
    assert_eq!(rig.end().result, 512);
    assert_eq!(Arc::strong_count(&rig.file), 1);
    let other = rig.ring.add_file(rig.file.clone()).unwrap();
    assert_ne!(other, rig.id, "its place is taken by another");
    assert!(matches!(rig.ring.remove_file(rig.id), Err(UringError::UnknownFile)));
}

/// A pipe keeps a read under way for as long as nobody writes.
#[test]
fn a_read_under_way_is_cancelled_and_a_ring_that_ends_waits_for_its_buffers() {
    let Some(mut rig) = Rig::new() else { return };
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let pipe = rig.ring.add_file(Arc::new(reader)).unwrap();
    let read = FileOp::Read { offset: 0, skip: 0 };
    let op = rig.ring.start(rig.source, pipe, read, filled(512, 0), 3).unwrap();
    rig.ring.pump().unwrap();
    assert!(rig.ring.next_io(rig.source).is_none());
    rig.ring.cancel(op).unwrap();
    let done = rig.end();
    assert_eq!((done.tag, done.result, done.bufs.len()), (3, -libc::ECANCELED, 512));
    rig.ring.start(rig.source, pipe, read, filled(512, 0), 4).unwrap();
    rig.ring.pump().unwrap();
    let writes = std::thread::spawn(move || writer.write(&[1; 512]));
    drop(rig.ring);
    assert_eq!(writes.join().unwrap().expect("a reader"), 512);
}

#[test]
#[should_panic(expected = "a read into buffers that are shared")]
fn a_read_into_a_view_is_a_bug_that_is_stopped() {
    let mut rig = Rig::new().expect("a read into buffers that are shared: not tried, there is no io_uring");
    let mut lender = Lender::new();
    let lease = lender.lend(filled(512, 0)).expect("room");
    let view = lender.view(&lease);
    rig.start(FileOp::Read { offset: 0, skip: 0 }, view, 0);
}
