//! Range locks, one rule after the other. All rules at once, in any order: `lock_model.rs`; across reactors: the crate
//! `test-bdevs`.

// One range of blocks is meant, not its blocks.
#![allow(clippy::single_range_in_vec_init)]

use super::script::{BLOCK, BLOCKS, Opened, buffer, on_reactor, open, read, write};
use crate::{
    Bufs, CopyRange, Cx, Desc, DmaBuf, DoneQueue, Event, Io, IoChannel, IoStatus, KeepsOut, LOCK_RANGES_MAX,
    LOCKS_MAX, LockError, Mode, Op, RangeLock, Tag, Work,
};
use std::ops::Range;
use std::time::Duration;

const OK: IoStatus = IoStatus::SUCCESS;

fn ask(opened: &Opened, cx: &Cx, range: Range<u64>, keeps_out: KeepsOut) -> RangeLock {
    opened.channel.ask_lock(cx, &[range], keeps_out).expect("it may be asked for")
}

/// Polls a channel until `lock` is held; tags that ended meanwhile.
fn until_held(opened: &mut Opened, cx: &mut Cx, lock: &RangeLock) -> Vec<u64> {
    let mut ended = Vec::new();
    for _ in 0..100 {
        if lock.is_held() {
            return ended;
        }
        ended.extend(opened.ended(cx).into_iter().map(|(tag, _)| tag));
    }
    panic!("the lock was not granted");
}

fn held(opened: &mut Opened, cx: &mut Cx, range: Range<u64>, keeps_out: KeepsOut) -> RangeLock {
    let lock = ask(opened, cx, range, keeps_out);
    assert!(until_held(opened, cx, &lock).is_empty());
    lock
}

fn open_any(cx: &mut Cx) -> Opened {
    open(cx, Mode::Write, |_| ())
}

fn no_data(op: Op, tag: u64, lba: u64, blocks: u32) -> Io {
    Io::new(op, Tag(tag), lba, blocks, Bufs::none())
}

fn copy(tag: u64, lba: u64, source: u64) -> Io {
    let mut entry = DmaBuf::alloc(CopyRange::BYTES).expect("memory");
    entry.as_mut_slice().copy_from_slice(&CopyRange { lba: source, blocks: 1 }.encode());
    Io::new(Op::Copy, Tag(tag), lba, 1, Bufs::from(entry))
}

fn in_device(opened: &Opened) -> Vec<u64> {
    opened.script.held().into_iter().map(|(_, _, tag)| tag.0).collect()
}

#[test]
fn what_is_in_flight_is_drained_before_a_lock_is_granted() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        opened.submit(cx, write(1, 10, 4));
        let lock = ask(&opened, cx, 12..13, KeepsOut::Writes);
        assert_eq!((opened.ended(cx), lock.is_held()), (vec![], false));
        opened.script.end_one(OK);
        assert_eq!(opened.ended(cx), [(1, OK)]);
        assert!(lock.is_held());
    });
}

#[test]
fn each_kind_of_lock_keeps_out_what_it_says_and_nothing_beside() {
    on_reactor(|cx| {
        for (keeps_out, expected) in [
            (KeepsOut::Writes, vec![1, 2, 3, 4, 5, 9, 10, 13]),
            (KeepsOut::ReadsAndWrites, vec![1, 3, 4, 5, 13]),
            (KeepsOut::Everything, vec![]),
        ] {
            let mut opened = open_any(cx);
            let _lock = held(&mut opened, cx, 100..110, keeps_out);
            opened.submit(cx, read(1, 99, 1));
            opened.submit(cx, read(2, 99, 2));
            opened.submit(cx, write(3, 110, 1));
            opened.submit(cx, write(4, 99, 1));
            opened.submit(cx, no_data(Op::Flush, 5, 0, 0));
            opened.submit(cx, write(6, 90, 11));
            opened.submit(cx, no_data(Op::Unmap, 7, 109, 1));
            opened.submit(cx, no_data(Op::WriteZeroes, 8, 0, 1000));
            opened.submit(cx, Io::new(Op::Compare, Tag(9), 105, 1, buffer(BLOCK)));
            opened.submit(cx, copy(10, 0, 105));
            opened.submit(cx, copy(11, 105, 0));
            opened.submit(cx, Io::new(Op::CompareAndWrite, Tag(12), 105, 1, buffer(2 * BLOCK)));
            opened.submit(cx, copy(13, 0, 99));
            assert_eq!(in_device(&opened), expected, "{keeps_out:?}");
            opened.submit(cx, no_data(Op::Reset, 20, 0, 0));
            assert_eq!(in_device(&opened).last(), Some(&20), "a reset passes");
            assert_eq!(opened.ended(cx), []);
            drop(_lock);
            assert_eq!(opened.ended(cx), []);
            assert_eq!(in_device(&opened).len(), 14, "all went on");
            opened.script.end_all();
            assert_eq!(opened.ended(cx).len(), 14);
        }
    });
}

#[test]
fn the_owner_passes_on_any_channel_but_only_while_it_holds_and_inside_its_ranges() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        opened.submit(cx, write(1, 10, 1));
        let ranges = [10..12, 20..25, 12..14];
        let lock = opened.channel.ask_lock(cx, &ranges, KeepsOut::ReadsAndWrites).expect("asked");
        assert_eq!(opened.ended(cx), []);
        let field = IoStatus::INVALID_FIELD;
        let under = |opened: &mut Opened, cx: &mut Cx, io: Io| {
            opened.channel.submit_under(cx, &lock, io).expect("there is room");
        };
        under(&mut opened, cx, write(2, 10, 1));
        assert_eq!(opened.ended(cx), [(2, field)], "it is not held yet");
        opened.script.end_one(OK);
        assert_eq!(until_held(&mut opened, cx, &lock), [1]);
        under(&mut opened, cx, write(3, 10, 4));
        under(&mut opened, cx, write(4, 20, 6));
        under(&mut opened, cx, write(5, 14, 1));
        under(&mut opened, cx, copy(6, 20, 13));
        under(&mut opened, cx, copy(7, 20, 14));
        under(&mut opened, cx, no_data(Op::Flush, 8, 0, 0));
        under(&mut opened, cx, read(9, BLOCKS, 1));
        assert_eq!(in_device(&opened), [3, 6, 8]);
        let refused = [(4, field), (5, field), (7, field), (9, IoStatus::LBA_OUT_OF_RANGE)];
        assert_eq!(opened.ended(cx), refused);
        let mut other = opened.desc.open_channel(cx).expect("a second channel");
        other.submit(cx, write(10, 11, 1)).expect("room");
        other.submit_under(cx, &lock, write(11, 11, 1)).expect("room");
        assert_eq!(in_device(&opened), [3, 6, 8, 11], "it is the lock that counts, not the channel");
        let mut elsewhere = open_any(cx);
        elsewhere.channel.submit_under(cx, &lock, write(12, 11, 1)).expect("room");
        assert_eq!(elsewhere.ended(cx), [(12, field)], "another bdev");
        drop(lock);
        let mut done = DoneQueue::default();
        let _ = other.poll(cx, &mut done);
        opened.script.end_all();
        let _ = other.poll(cx, &mut done);
        assert_eq!(std::iter::from_fn(|| done.pop()).map(|done| drop(done.finish())).count(), 2);
        assert_eq!(opened.ended(cx).len(), 3);
    });
}

/// The device does not compare and write itself: this would wait for a lock that its own submitter holds.
#[test]
fn an_owner_compares_and_writes_under_its_own_lock() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |spec| spec.ops = spec.ops.without(Op::CompareAndWrite));
        opened.script.set_automatic(|mut io| {
            if io.op == Op::Read {
                io.bufs.fill(0);
            }
            io.complete(OK)
        });
        let lock = held(&mut opened, cx, 5..6, KeepsOut::Writes);
        let swap = |tag| {
            let mut bufs = buffer(2 * BLOCK);
            bufs.fill(0);
            Io::new(Op::CompareAndWrite, Tag(tag), 5, 1, bufs)
        };
        opened.submit(cx, swap(1));
        opened.channel.submit_under(cx, &lock, swap(2)).expect("room");
        let ended: Vec<_> = (0..10).flat_map(|_| opened.ended(cx)).collect();
        assert_eq!(ended, [(2, OK)], "the other waits");
        drop(lock);
        let ended: Vec<_> = (0..10).flat_map(|_| opened.ended(cx)).collect();
        assert_eq!(ended, [(1, OK)]);
    });
}

#[test]
fn locks_that_overlap_are_granted_in_the_order_of_asking_and_others_at_once() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        let kind = KeepsOut::Writes;
        let first = held(&mut opened, cx, 0..10, kind);
        let second = ask(&opened, cx, 9..20, kind);
        let third = ask(&opened, cx, 15..30, kind);
        let apart = ask(&opened, cx, 30..40, kind);
        for _ in 0..5 {
            assert_eq!(opened.ended(cx), []);
        }
        let held = |locks: [&RangeLock; 3]| locks.map(RangeLock::is_held);
        assert_eq!(held([&second, &third, &apart]), [false, false, true], "the third waits for the second");
        drop(second);
        let _ = opened.ended(cx);
        assert_eq!(held([&first, &third, &apart]), [true; 3], "one that gives up holds nobody up");
        let all = ask(&opened, cx, 500..501, KeepsOut::Everything);
        let behind = ask(&opened, cx, 900..901, kind);
        drop((first, third));
        let _ = opened.ended(cx);
        assert_eq!(held([&all, &behind, &apart]), [false, false, true]);
        drop(apart);
        let _ = opened.ended(cx);
        assert_eq!((all.is_held(), behind.is_held()), (true, false));
    });
}

#[test]
fn io_that_a_lock_held_back_goes_before_the_next_lock_is_granted() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        let first = held(&mut opened, cx, 0..10, KeepsOut::Writes);
        let second = ask(&opened, cx, 0..10, KeepsOut::Writes);
        opened.submit(cx, write(1, 5, 1));
        assert_eq!(opened.ended(cx), []);
        drop(first);
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, write(2, 5, 1));
        assert_eq!((in_device(&opened), second.is_held()), (vec![1], false));
        opened.script.end_one(OK);
        assert_eq!(opened.ended(cx), [(1, OK)]);
        assert!(second.is_held());
        drop(second);
        assert_eq!((opened.ended(cx), in_device(&opened)), (vec![], vec![2]));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(2, OK)]);
    });
}

#[test]
fn io_that_passes_during_a_drain_does_not_prolong_it_even_with_equal_tags() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        opened.submit(cx, write(7, 0, 1));
        let lock = ask(&opened, cx, 0..1, KeepsOut::Writes);
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, write(7, 1, 1));
        opened.submit(cx, write(8, 1, 1));
        assert_eq!(in_device(&opened), [7, 7, 8]);
        // The drain cannot tell the two apart, and waits for both.
        opened.script.end_some(1);
        assert_eq!((opened.ended(cx), lock.is_held()), (vec![(7, OK)], false));
        opened.script.end_some(0);
        assert_eq!((opened.ended(cx), lock.is_held()), (vec![(7, OK)], true));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(8, OK)]);
    });
}

#[test]
fn a_stream_of_locks_elsewhere_does_not_put_a_drain_off() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        opened.submit(cx, write(0, 0, 1));
        let lock = ask(&opened, cx, 0..1, KeepsOut::Writes);
        assert_eq!(opened.ended(cx), []);
        let mut others = Vec::new();
        for number in 1..20 {
            others.push(ask(&opened, cx, number..number + 1, KeepsOut::Writes));
            opened.submit(cx, write(number, 500 + number, 1));
            assert_eq!(opened.ended(cx), []);
        }
        opened.script.end_one(OK);
        assert_eq!(opened.ended(cx), [(0, OK)]);
        assert!(lock.is_held() && others.iter().all(|other| !other.is_held()), "these drain next");
        opened.script.end_all();
        assert_eq!(opened.ended(cx).len(), 19);
        assert!(others.iter().all(RangeLock::is_held));
    });
}

#[test]
fn a_channel_that_is_not_polled_holds_a_lock_up_until_it_closes_and_a_new_one_does_not() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        let idle = opened.desc.open_channel(cx).expect("a second channel");
        let lock = ask(&opened, cx, 0..10, KeepsOut::Writes);
        assert_eq!((opened.ended(cx), opened.ended(cx)), (vec![], vec![]));
        assert!(!lock.is_held());
        let mut late = opened.desc.open_channel(cx).expect("a third channel");
        late.submit(cx, write(1, 5, 1)).expect("room");
        assert!(in_device(&opened).is_empty(), "it knows the lock from its start");
        drop(idle);
        assert!(lock.is_held());
        drop(lock);
        let mut done = DoneQueue::default();
        assert_eq!(late.poll(cx, &mut done), Work::Spin);
        opened.script.end_all();
        let _ = late.poll(cx, &mut done);
        assert_eq!(done.pop().map(|done| done.finish().tag), Some(Tag(1)));
    });
}

#[test]
fn held_back_io_can_be_aborted_and_fails_with_its_bdev() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        let lock = held(&mut opened, cx, 0..10, KeepsOut::Writes);
        let waiting = ask(&opened, cx, 0..10, KeepsOut::Writes);
        (1..4).for_each(|tag| opened.submit(cx, write(tag, 3, 1)));
        opened.channel.submit_abort(cx, Tag(9), Tag(2)).expect("room");
        assert_eq!(opened.ended(cx), [(2, IoStatus::ABORTED), (9, OK)]);
        opened.bdev.mark_removed();
        let gone = IoStatus::INVALID_NAMESPACE;
        assert_eq!(opened.ended(cx), [(1, gone), (3, gone)]);
        assert_eq!(opened.channel.take_event(), Some(Event::Removed));
        opened.channel.submit_under(cx, &lock, write(5, 3, 1)).expect("room");
        assert_eq!(opened.ended(cx), [(5, gone)], "a lock is no way into a removed bdev");
        let refused = opened.channel.ask_lock(cx, &[0..1], KeepsOut::Writes).expect_err("it is gone");
        assert_eq!(refused, LockError::Removed("Scripted0".to_owned()));
        drop((lock, waiting));
        assert_eq!(opened.bdev.control().locks.len(), 0);
    });
}

#[test]
fn a_lock_outlives_the_channel_it_was_asked_by_and_ends_with_its_owner() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        let lock = held(&mut opened, cx, 0..10, KeepsOut::Writes);
        opened.channel = opened.desc.open_channel(cx).expect("another");
        opened.submit(cx, write(1, 5, 1));
        assert_eq!((opened.ended(cx), in_device(&opened)), (vec![], vec![]));
        // Wherever it is dropped.
        std::thread::spawn(move || drop(lock)).join().expect("no panic");
        assert_eq!((opened.ended(cx), in_device(&opened)), (vec![], vec![1]));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, OK)]);
    });
}

#[test]
fn what_cannot_be_locked_is_refused_in_words() {
    on_reactor(|cx| {
        let opened = open_any(cx);
        let ask = |ranges: &[Range<u64>]| opened.channel.ask_lock(cx, ranges, KeepsOut::Writes);
        for (start, end) in [(BLOCKS, BLOCKS + 1), (5, 5), (0, BLOCKS + 1), (u64::MAX - 1, u64::MAX)] {
            let bdev = "Scripted0".to_owned();
            let refused = ask(&[0..1, start..end]).expect_err("no such blocks");
            assert_eq!(refused, LockError::Range { bdev, start, end, num_blocks: BLOCKS });
            assert!(refused.to_string().contains(&format!("blocks {start} to {end}")), "{refused}");
        }
        assert_eq!(ask(&[]).expect_err("none"), LockError::RangeCount(0));
        let many: Vec<_> = (0..=LOCK_RANGES_MAX as u64).map(|lba| lba..lba + 1).collect();
        assert_eq!(ask(&many).expect_err("too many"), LockError::RangeCount(many.len()));
        assert!(ask(&many[1..]).is_ok());
        let all: Vec<_> = (0..LOCKS_MAX).map(|_| ask(&[0..1]).expect("one of the last")).collect();
        assert_eq!(ask(&[0..1]).expect_err("too many"), LockError::TooMany("Scripted0".to_owned()));
        drop(all);
        assert!(ask(&[0..1]).is_ok());
    });
}

#[test]
fn a_thread_gets_a_lock_or_is_told_who_is_in_its_way() {
    on_reactor(|cx| {
        let mut opened = open_any(cx);
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(20));
        opened.submit(cx, write(1, 0, 1));
        let lock = |bdev: &std::sync::Arc<crate::Bdev>, patience| {
            bdev.lock_ranges(&[0..1], KeepsOut::Writes, patience)
        };
        let why = lock(&opened.bdev, short).expect_err("a write is in the device").to_string();
        assert!(why.contains("IO is in flight for test on reactor"), "{why}");
        let bdev = opened.bdev.clone();
        let locking = std::thread::spawn(move || lock(&bdev, long));
        opened.script.end_all();
        let mut ended = Vec::new();
        while !locking.is_finished() {
            ended.extend(opened.ended(cx));
        }
        let held = locking.join().expect("no panic").expect("all is quiet");
        assert_eq!(ended, [(1, OK)]);
        let why = lock(&opened.bdev, short).expect_err("it is held").to_string();
        assert!(why.contains("another thread holds a lock that overlaps"), "{why}");
        drop(held);
        let own: IoChannel = Desc::open(&opened.bdev, "owner", Mode::Read)
            .and_then(|desc| desc.open_channel(cx))
            .expect("it opens");
        let _own = own.ask_lock(cx, &[0..1], KeepsOut::Writes).expect("asked");
        let why = lock(&opened.bdev, short).expect_err("it was asked for").to_string();
        assert!(why.contains("owner on reactor"), "{why}");
    });
}
