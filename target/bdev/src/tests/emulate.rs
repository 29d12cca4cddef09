//! Compare, compare-and-write and copy on a device that only reads and writes, and what their locks do to IO.

use super::script::{BLOCK, BLOCKS, Opened, buffer, on_reactor, open, read, write};
use crate::emulate::{PIECE_BYTES, RUNNING_MAX};
use crate::{
    Bufs, CopyRange, Cx, DmaBuf, Done, DoneQueue, Event, Io, IoStatus, KeepsOut, Limits, LockError, Mode, Op,
    OpSet, RateLimits, Tag, Work,
};
use std::time::Duration;

const OK: IoStatus = IoStatus::SUCCESS;
const DIFFERS: IoStatus = IoStatus::COMPARE_FAILURE;
const GONE: IoStatus = IoStatus::INVALID_NAMESPACE;

/// Blocks of one piece.
const PIECE: u32 = PIECE_BYTES / BLOCK;

fn simple(opened: &mut crate::BdevSpec) {
    let ops = [Op::Read, Op::Write, Op::Unmap, Op::Flush, Op::Reset, Op::Abort];
    opened.ops = OpSet::of(&ops);
}

fn open_simple(cx: &mut Cx) -> Opened {
    open(cx, Mode::Write, simple)
}

fn filled(blocks: u32, byte: u8) -> Bufs {
    let mut bufs = buffer(blocks * BLOCK);
    bufs.fill(byte);
    bufs
}

/// Every read gives this.
fn reads_seven(mut io: Io) -> Done {
    if io.op == Op::Read {
        io.bufs.fill(7);
    }
    io.complete(OK)
}

fn compare(tag: u64, lba: u64, blocks: u32, byte: u8) -> Io {
    Io::new(Op::Compare, Tag(tag), lba, blocks, filled(blocks, byte))
}

/// Expects `byte` and writes 9.
fn swap(tag: u64, lba: u64, blocks: u32, byte: u8) -> Io {
    let mut bufs = filled(2 * blocks, 9);
    bufs.copy_from_slice(0, &vec![byte; (blocks * BLOCK) as usize]);
    Io::new(Op::CompareAndWrite, Tag(tag), lba, blocks, bufs)
}

fn copy(tag: u64, lba: u64, ranges: &[(u64, u32)]) -> Io {
    let mut entries = DmaBuf::alloc(ranges.len() as u32 * CopyRange::BYTES).expect("memory");
    let encoded = ranges.iter().flat_map(|&(lba, blocks)| CopyRange { lba, blocks }.encode());
    entries.as_mut_slice().copy_from_slice(&encoded.collect::<Vec<_>>());
    let blocks = ranges.iter().map(|(_, blocks)| blocks).sum();
    Io::new(Op::Copy, Tag(tag), lba, blocks, Bufs::from(entries))
}

/// Polls until `count` IOs have ended, a bounded number of times.
fn ends(opened: &mut Opened, cx: &mut Cx, count: usize) -> Vec<(u64, IoStatus)> {
    let mut ended = Vec::new();
    for _ in 0..1000 {
        ended.extend(opened.ended(cx));
        if ended.len() >= count {
            break;
        }
    }
    ended
}

/// Locks of the bdev, those that are waited for included.
fn locks(opened: &Opened) -> usize {
    opened.bdev.control().locks.len()
}

fn seen(opened: &Opened) -> Vec<(Op, u64, u32)> {
    opened.script.seen().iter().map(|seen| (seen.op, seen.lba, seen.blocks)).collect()
}

#[test]
fn a_compare_reads_in_pieces_and_stops_at_the_first_difference() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.script.set_automatic(reads_seven);
        opened.submit(cx, compare(1, 5, 2 * PIECE + 3, 7));
        assert_eq!(ends(&mut opened, cx, 1), [(1, OK)]);
        let piece = u64::from(PIECE);
        let reads = [(Op::Read, 5, PIECE), (Op::Read, 5 + piece, PIECE), (Op::Read, 5 + 2 * piece, 3)];
        assert_eq!(seen(&opened), reads);
        opened.submit(cx, compare(2, 0, 2 * PIECE, 8));
        assert_eq!(ends(&mut opened, cx, 1), [(2, DIFFERS)]);
        assert_eq!(opened.script.seen().len(), 4, "no piece after the difference");
    });
}

#[test]
fn a_compare_and_write_writes_what_it_brought_only_if_all_is_as_expected() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.script.set_automatic(|io| {
            if io.op == Op::Write {
                let mut bytes = vec![0; io.bufs.len() as usize];
                io.bufs.copy_to_slice(0, &mut bytes);
                assert!(bytes.iter().all(|byte| *byte == 9) && io.fua, "the second half, and as forced");
            }
            reads_seven(io)
        });
        let mut io = swap(1, 10, PIECE + 1, 7);
        io.fua = true;
        opened.submit(cx, io);
        assert_eq!(ends(&mut opened, cx, 1), [(1, OK)]);
        let (first, second) = (10, 10 + u64::from(PIECE));
        let both = |op| [(op, first, PIECE), (op, second, 1)];
        assert_eq!(seen(&opened), [both(Op::Read), both(Op::Write)].concat());
        opened.submit(cx, swap(2, 10, 1, 8));
        assert_eq!(ends(&mut opened, cx, 1), [(2, DIFFERS)]);
        assert_eq!(seen(&opened).last(), Some(&(Op::Read, 10, 1)), "nothing is written");
    });
}

#[test]
fn a_copy_reads_its_ranges_and_writes_them_one_after_the_other() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.script.set_automatic(reads_seven);
        opened.submit(cx, copy(1, 0, &[(900, 2), (400, PIECE + 1)]));
        assert_eq!(ends(&mut opened, cx, 1), [(1, OK)]);
        let piece = u64::from(PIECE);
        let (read, write) = (Op::Read, Op::Write);
        let expected = [
            (read, 900, 2),
            (write, 0, 2),
            (read, 400, PIECE),
            (write, 2, PIECE),
            (read, 400 + piece, 1),
            (write, 2 + piece, 1),
        ];
        assert_eq!(seen(&opened), expected);
        let stats = opened.bdev.stats();
        assert_eq!((stats.copy.ops, stats.copy.blocks), (1, u64::from(PIECE) + 3));
        assert_eq!((stats.read.ops, stats.write.ops), (0, 0), "its pieces are nobody's IO");
    });
}

#[test]
fn what_cannot_be_done_never_reaches_the_device() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        let (field, range) = (IoStatus::INVALID_FIELD, IoStatus::LBA_OUT_OF_RANGE);
        let op = |op, blocks, bufs| Io::new(op, Tag(1), 0, blocks, bufs);
        let cases = [
            (op(Op::Compare, 2, filled(1, 0)), field),
            (op(Op::CompareAndWrite, 2, filled(2, 0)), field),
            (op(Op::CompareAndWrite, 2, Bufs::none()), field),
            (op(Op::Copy, 1, Bufs::none()), field),
            (swap(1, BLOCKS - 1, 2, 0), range),
            (copy(1, BLOCKS - 1, &[(0, 2)]), range),
            (copy(1, 0, &[(BLOCKS - 1, 2)]), range),
            (copy(1, 10, &[(11, 4)]), field),
        ];
        for (io, status) in cases {
            let what = format!("{io:?}");
            opened.submit(cx, io);
            assert_eq!(ends(&mut opened, cx, 1), [(1, status)], "{what}");
        }
        let mut reader = open(cx, Mode::Read, simple);
        reader.submit(cx, swap(1, 0, 1, 7));
        reader.submit(cx, copy(2, 0, &[(5, 1)]));
        let refused = IoStatus::WRITE_PROTECTED;
        assert_eq!(reader.ended(cx), [(1, refused), (2, refused)]);
        let mut unable = open(cx, Mode::Write, |spec| spec.ops = OpSet::of(&[Op::Write, Op::Flush]));
        unable.submit(cx, compare(1, 0, 1, 7));
        assert_eq!(unable.ended(cx), [(1, IoStatus::INVALID_OPCODE)]);
        assert_eq!((opened.script.seen(), reader.script.seen()), (vec![], vec![]));
    });
}

#[test]
fn a_device_is_given_what_it_does_itself_unless_it_is_too_long() {
    on_reactor(|cx| {
        let limits = Limits { max_rw_blocks: 4, max_copy_blocks: 4, ..Limits::default() };
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = limits);
        opened.script.set_automatic(reads_seven);
        opened.submit(cx, compare(1, 0, 4, 7));
        opened.submit(cx, swap(2, 0, 4, 7));
        opened.submit(cx, copy(3, 0, &[(90, 4)]));
        opened.submit(cx, compare(4, 0, 5, 7));
        opened.submit(cx, copy(5, 0, &[(90, 5)]));
        assert_eq!(ends(&mut opened, cx, 5).len(), 5);
        let (compare, swap_op, copy_op) = (Op::Compare, Op::CompareAndWrite, Op::Copy);
        let native = [(compare, 0, 4), (swap_op, 0, 4), (copy_op, 0, 4), (compare, 0, 4), (compare, 4, 1)];
        assert_eq!(seen(&opened)[..5], native);
        let emulated = [(Op::Read, 90, 4), (Op::Read, 94, 1), (Op::Write, 0, 4), (Op::Write, 4, 1)];
        assert_eq!(seen(&opened)[5..], emulated);
        opened.submit(cx, swap(6, 0, 5, 7));
        assert_eq!(ends(&mut opened, cx, 1), [(6, OK)]);
        assert!(seen(&opened)[9..].iter().all(|(op, ..)| matches!(op, Op::Read | Op::Write)));
    });
}

#[test]
fn a_bounded_number_runs_and_others_wait_or_are_stopped() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        let count = RUNNING_MAX as u64 + 3;
        (0..count).for_each(|tag| opened.submit(cx, compare(tag, tag, 1, 7)));
        assert_eq!(opened.script.seen().len(), RUNNING_MAX);
        opened.channel.submit_abort(cx, Tag(50), Tag(count - 1)).expect("taken");
        assert_eq!(opened.ended(cx), [(count - 1, IoStatus::ABORTED), (50, OK)]);
        opened.channel.submit_abort(cx, Tag(51), Tag(0)).expect("taken");
        assert_eq!(opened.ended(cx), [(51, OK)], "its piece is in the device");
        opened.script.end_one(OK);
        opened.script.end_one(IoStatus::UNRECOVERED_READ_ERROR);
        assert_eq!(opened.ended(cx), [(0, IoStatus::ABORTED), (1, IoStatus::UNRECOVERED_READ_ERROR)]);
        assert_eq!(opened.script.seen().len(), RUNNING_MAX + 2, "the next two have begun");
        opened.bdev.mark_removed();
        assert_eq!(opened.ended(cx), [], "all that is left has a piece in the device");
        opened.script.end_all();
        assert_eq!(opened.ended(cx), (2..count - 1).map(|tag| (tag, GONE)).collect::<Vec<_>>());
    });
}

#[test]
fn a_compare_and_write_waits_for_other_channels_and_holds_them_up_meanwhile() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        let mut other = opened.desc.open_channel(cx).expect("a second channel");
        let mut done = DoneQueue::default();
        other.submit(cx, read(1, 0, 1)).expect("room");
        opened.submit(cx, swap(2, 10, 1, 7));
        assert_eq!(opened.ended(cx), []);
        let _ = other.poll(cx, &mut done);
        other.submit(cx, write(3, 10, 1)).expect("room");
        opened.submit(cx, write(4, 10, 1));
        assert_eq!(opened.ended(cx), []);
        assert_eq!(seen(&opened), [(Op::Read, 0, 1)], "it does not begin while a read is in the device");
        opened.script.end_one(OK);
        assert_eq!(other.poll(cx, &mut done), Work::Busy);
        assert_eq!(done.pop().map(|done| done.finish().tag), Some(Tag(1)));
        opened.script.set_automatic(reads_seven);
        assert_eq!(ends(&mut opened, cx, 2), [(2, OK), (4, OK)]);
        let _ = other.poll(cx, &mut done);
        let rest = [(Op::Read, 10, 1), (Op::Write, 10, 1), (Op::Write, 10, 1), (Op::Write, 10, 1)];
        assert_eq!(seen(&opened)[1..], rest, "what was held back goes on afterwards");
        let _ = other.poll(cx, &mut done);
        assert_eq!(done.pop().map(|done| done.finish().tag), Some(Tag(3)));
    });
}

#[test]
fn two_channels_with_compare_and_writes_take_turns_and_ordinary_io_is_not_starved() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.script.set_automatic(reads_seven);
        let mut other = opened.desc.open_channel(cx).expect("a second channel");
        let mut done = DoneQueue::default();
        let (mut swaps, mut read_done) = (0, false);
        opened.submit(cx, swap(1, 0, 1, 7));
        other.submit(cx, swap(1, 1, 1, 7)).expect("room");
        let _ = other.poll(cx, &mut done);
        opened.submit(cx, read(2, 5, 1));
        // Whenever one ends the next is there: there is always a pause in force or waiting.
        for _ in 0..10_000 {
            if read_done && swaps >= 100 {
                break;
            }
            let mut ended: Vec<_> = opened.poll(cx).iter().map(|ended| (true, ended.tag)).collect();
            let _ = other.poll(cx, &mut done);
            ended.extend(std::iter::from_fn(|| done.pop()).map(|done| (false, done.finish().tag)));
            for (own, tag) in ended {
                match tag {
                    Tag(2) => read_done = true,
                    _ if swaps >= 100 && read_done => {}
                    _ if own => opened.submit(cx, swap(1, 0, 1, 7)),
                    _ => other.submit(cx, swap(1, 1, 1, 7)).expect("room"),
                }
                swaps += u32::from(tag == Tag(1));
            }
        }
        assert!(read_done && swaps >= 100, "{swaps} compare-and-writes, read ended: {read_done}");
        for _ in 0..1000 {
            let _ = (opened.ended(cx), other.poll(cx, &mut done));
            std::iter::from_fn(|| done.pop()).for_each(|done| drop(done.finish()));
        }
        assert_eq!((opened.channel.in_flight(), other.in_flight()), (0, 0));
        assert_eq!(locks(&opened), 0, "no lock is left");
    });
}

#[test]
fn a_thread_pauses_a_bdev_until_it_lets_go() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        let short = Duration::from_millis(1);
        opened.submit(cx, read(1, 0, 1));
        let why = opened.bdev.quiesce(short).expect_err("a read is in the device").to_string();
        assert!(why.contains("no lock within") && why.contains("test on reactor"), "{why}");
        opened.script.end_one(OK);
        assert_eq!(opened.ended(cx), [(1, OK)]);
        let bdev = opened.bdev.clone();
        let pausing = std::thread::spawn(move || bdev.quiesce(Duration::from_secs(20)));
        while !pausing.is_finished() {
            assert_eq!(opened.ended(cx), []);
        }
        let quiet = pausing.join().expect("no panic").expect("all is quiet");
        let mut late = opened.desc.open_channel(cx).expect("a channel of its own");
        late.submit(cx, read(9, 0, 1)).expect("room");
        opened.submit(cx, write(2, 0, 1));
        opened.submit(cx, compare(3, 0, 1, 7));
        opened.submit(cx, swap(4, 0, 1, 7));
        opened.submit(cx, write(5, 0, 1));
        opened.submit(cx, swap(6, 0, 1, 7));
        let mut done = DoneQueue::default();
        assert_eq!((opened.ended(cx), late.poll(cx, &mut done)), (vec![], Work::Idle));
        assert_eq!(opened.channel.poll(cx, &mut done), Work::Idle, "held IO needs no polling");
        assert_eq!(opened.script.seen().len(), 1);
        for (tag, target) in [(10, 5), (11, 6)] {
            opened.channel.submit_abort(cx, Tag(tag), Tag(target)).expect("taken");
            assert_eq!(opened.ended(cx), [(target, IoStatus::ABORTED), (tag, OK)]);
        }
        opened.submit(cx, Io::new(Op::Reset, Tag(12), 0, 0, Bufs::none()));
        assert_eq!(seen(&opened).last(), Some(&(Op::Reset, 0, 0)), "a reset reaches the device");
        opened.script.end_one(OK);
        assert_eq!(opened.ended(cx), [(12, OK)]);
        let busy = opened.bdev.quiesce(short).expect_err("one pause at a time").to_string();
        assert!(busy.contains("another thread holds a lock"), "{busy}");
        drop(quiet);
        opened.script.set_automatic(reads_seven);
        assert_eq!(late.poll(cx, &mut done), Work::Spin, "the device has just got what was held");
        let _ = late.poll(cx, &mut done);
        assert_eq!(done.pop().map(|done| done.finish().tag), Some(Tag(9)));
        let mut ended = Vec::new();
        for _ in 0..100 {
            ended.extend(opened.ended(cx));
            let _ = late.poll(cx, &mut done);
        }
        ended.sort_unstable_by_key(|(tag, _)| *tag);
        assert_eq!(ended, [(2, OK), (3, OK), (4, OK)]);
    });
}

#[test]
fn a_removal_ends_what_a_pause_holds_and_whoever_waits_for_one() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.submit(cx, read(1, 0, 1));
        opened.submit(cx, swap(2, 0, 1, 7));
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, read(3, 0, 1));
        let bdev = opened.bdev.clone();
        let waiting = std::thread::spawn(move || bdev.quiesce(Duration::from_secs(20)));
        opened.bdev.mark_removed();
        let removed = waiting.join().expect("no panic").expect_err("it is gone");
        assert_eq!(removed, LockError::Removed("Scripted0".to_owned()));
        assert_eq!(opened.ended(cx), [(3, GONE), (2, GONE)]);
        assert_eq!(opened.channel.take_event(), Some(Event::Removed));
        opened.script.end_one(OK);
        assert_eq!(opened.ended(cx), [(1, OK)]);
        assert_eq!(locks(&opened), 0);
    });
}

#[test]
fn a_removal_ends_a_compare_and_write_between_its_read_and_its_write() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.submit(cx, swap(1, 0, 1, 7));
        opened.submit(cx, swap(2, 0, 1, 7));
        assert_eq!(opened.ended(cx), []);
        assert_eq!(seen(&opened), [(Op::Read, 0, 1)]);
        opened.bdev.mark_removed();
        assert_eq!(opened.ended(cx), [(2, GONE)]);
        opened.script.end_one(OK);
        assert_eq!(opened.ended(cx), [(1, GONE)]);
        let _ = opened.ended(cx);
        assert_eq!((opened.script.seen().len(), locks(&opened)), (1, 0));
    });
}

#[test]
fn a_channel_that_closes_holds_nobody_up() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        let other = opened.desc.open_channel(cx).expect("a second channel");
        opened.submit(cx, swap(1, 0, 1, 7));
        opened.script.set_automatic(reads_seven);
        assert_eq!((opened.ended(cx), opened.ended(cx)), (vec![], vec![]), "the other has not looked yet");
        drop(other);
        assert_eq!(ends(&mut opened, cx, 1), [(1, OK)]);
    });
}

#[test]
fn io_held_back_is_checked_again_after_a_resize() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.submit(cx, read(1, 0, 1));
        let lock = opened
            .channel
            .ask_lock(cx, std::slice::from_ref(&(0..BLOCKS)), KeepsOut::ReadsAndWrites)
            .expect("free");
        opened.submit(cx, swap(2, 500, 1, 7));
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, read(3, 600, 1));
        opened.submit(cx, copy(4, 0, &[(700, 1)]));
        opened.submit(cx, read(5, 3, 1));
        opened.bdev.resize(100);
        opened.script.end_one(OK);
        drop(lock);
        opened.script.set_automatic(reads_seven);
        let beyond = IoStatus::LBA_OUT_OF_RANGE;
        let mut ended = ends(&mut opened, cx, 5);
        ended.sort_unstable_by_key(|(tag, _)| *tag);
        assert_eq!(ended, [(1, OK), (2, beyond), (3, beyond), (4, beyond), (5, OK)]);
        assert!(seen(&opened).iter().all(|(_, lba, _)| *lba < 100));
    });
}

#[test]
fn the_queue_of_held_io_is_bounded() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.submit(cx, read(0, 0, 1));
        opened.submit(cx, swap(1, 500, 1, 7));
        assert_eq!(opened.ended(cx), []);
        let unmap = || Io::new(Op::Unmap, Tag(2), 500, 1, Bufs::none());
        let mut held = 0;
        let back = loop {
            match opened.channel.submit(cx, unmap()) {
                Ok(()) => held += 1,
                Err(back) => break back,
            }
        };
        assert_eq!(held, crate::io_channel::WAITING_MAX);
        drop(back.complete(OK).finish());
        opened.script.end_one(OK);
        opened.script.set_automatic(reads_seven);
        assert_eq!(ends(&mut opened, cx, held + 2).len(), held + 2);
    });
}

#[test]
fn rate_limits_count_an_emulated_io_once_and_do_not_hold_a_pause_up() {
    on_reactor(|cx| {
        let mut opened = open_simple(cx);
        opened.script.set_automatic(reads_seven);
        opened.bdev.set_rate_limits(RateLimits { rw_ios_per_sec: 1, ..RateLimits::default() });
        let _ = cx.refresh_now();
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, swap(1, 0, 1, 7));
        opened.submit(cx, read(2, 0, 1));
        assert_eq!(ends(&mut opened, cx, 1), [(1, OK)], "it needs one slot for its read and its write");
        assert_eq!(opened.script.seen().len(), 2);
        opened.bdev.set_rate_limits(RateLimits::default());
        assert_eq!(ends(&mut opened, cx, 1), [(2, OK)]);
    });
}
