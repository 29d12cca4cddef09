use super::script::{BLOCK, BLOCKS, buffer, on_reactor, open, read, write};
use crate::io_channel::WAITING_MAX;
use crate::{Bufs, Event, Io, IoStatus, Mode, Op, OpSet, ResetMode, Tag, Ticks};
use std::time::Duration;

const OK: IoStatus = IoStatus::SUCCESS;

#[test]
fn an_io_goes_down_and_comes_back_up_once() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.submit(cx, write(7, 3, 2));
        assert_eq!(opened.ended(cx), []);
        opened.script.end_one(OK);
        let ended = opened.poll(cx);
        assert_eq!((ended.len(), ended[0].tag, ended[0].bufs.len()), (1, Tag(7), 2 * BLOCK));
        assert_eq!(opened.channel.in_flight(), 0);
    });
}

#[test]
fn what_the_device_must_not_see_ends_at_the_next_poll() {
    on_reactor(|cx| {
        let (range, field) = (IoStatus::LBA_OUT_OF_RANGE, IoStatus::INVALID_FIELD);
        let no_data = |op, lba, blocks| Io::new(op, Tag(1), lba, blocks, Bufs::none());
        let cases = [
            (read(1, BLOCKS, 1), range),
            (read(1, BLOCKS - 1, 2), range),
            (read(1, u64::MAX, 1), range),
            (write(1, u64::MAX - 1, 2), range),
            (no_data(Op::Unmap, 0, 0), range),
            (no_data(Op::WriteZeroes, BLOCKS, 1), range),
            (Io::new(Op::Read, Tag(1), 0, 2, buffer(BLOCK)), field),
            (no_data(Op::Read, 0, 1), field),
            (Io::new(Op::Unmap, Tag(1), 0, 1, buffer(BLOCK)), field),
            (no_data(Op::Reset, 0, 0), IoStatus::INVALID_OPCODE),
        ];
        let mut opened = open(cx, Mode::Write, |spec| spec.ops = OpSet::all().without(Op::Reset));
        for (io, status) in cases {
            let what = format!("{io:?}");
            opened.submit(cx, io);
            assert_eq!(opened.ended(cx), [(1, status)], "{what}");
        }
        assert_eq!(opened.script.seen(), []);
    });
}

#[test]
fn an_opener_that_may_only_read_does_not_write() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Read, |_| ());
        opened.submit(cx, write(1, 0, 1));
        opened.submit(cx, Io::new(Op::Unmap, Tag(2), 0, 1, Bufs::none()));
        let refused = IoStatus::WRITE_PROTECTED;
        assert_eq!(opened.ended(cx), [(1, refused), (2, refused)]);
        opened.submit(cx, read(3, 0, 1));
        opened.submit(cx, Io::new(Op::Flush, Tag(4), 0, 0, Bufs::none()));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(3, OK), (4, OK)]);
    });
}

#[test]
fn io_without_a_slot_waits_and_keeps_its_order() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.script.set_slots(2);
        (0..5).for_each(|tag| opened.submit(cx, read(tag, tag, 1)));
        assert_eq!(opened.script.seen().len(), 2);
        let mut order = Vec::new();
        for _ in 0..5 {
            opened.script.end_one(OK);
            order.extend(opened.ended(cx));
        }
        assert_eq!(order, [0, 1, 2, 3, 4].map(|tag| (tag, OK)));
        assert_eq!(opened.script.seen().iter().map(|seen| seen.lba).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn the_queue_of_waiting_io_is_bounded() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.script.set_slots(0);
        let flush = |tag| Io::new(Op::Flush, Tag(tag), 0, 0, Bufs::none());
        (0..WAITING_MAX as u64).for_each(|tag| opened.submit(cx, flush(tag)));
        let back = opened.channel.submit(cx, flush(9)).expect_err("the queue is full");
        assert_eq!(back.complete(OK).finish().tag, Tag(9));
        opened.script.set_slots(usize::MAX);
        assert_eq!(opened.ended(cx), []);
        opened.script.end_all();
        assert_eq!(opened.ended(cx).len(), WAITING_MAX);
    });
}

#[test]
fn a_removed_bdev_tells_its_opener_and_fails_what_waits_and_what_comes() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.script.set_slots(1);
        opened.submit(cx, read(1, 0, 1));
        opened.submit(cx, read(2, 0, 1));
        opened.bdev.mark_removed();
        let gone = IoStatus::INVALID_NAMESPACE;
        assert_eq!(opened.ended(cx), [(2, gone)]);
        assert_eq!((opened.channel.take_event(), opened.channel.take_event()), (Some(Event::Removed), None));
        opened.submit(cx, read(3, 0, 1));
        assert_eq!(opened.ended(cx), [(3, gone)]);
        opened.script.end_one(OK);
        assert_eq!(opened.ended(cx), [(1, OK)], "what the device had is the device's to end");
    });
}

#[test]
fn a_resize_is_an_event_and_a_new_bound() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.script.set_automatic(|io| io.complete(OK));
        opened.bdev.resize(2 * BLOCKS);
        assert_eq!(opened.ended(cx), []);
        assert_eq!(opened.channel.take_event(), Some(Event::Resized(2 * BLOCKS)));
        opened.submit(cx, read(1, 2 * BLOCKS - 1, 1));
        assert_eq!(opened.ended(cx), [(1, OK)]);
        opened.bdev.resize(10);
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, read(2, 10, 1));
        assert_eq!(opened.ended(cx), [(2, IoStatus::LBA_OUT_OF_RANGE)]);
    });
}

#[test]
fn an_abort_ends_what_waits_and_is_passed_on_otherwise() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.script.set_slots(1);
        (1..4).for_each(|tag| opened.submit(cx, read(tag, 0, 1)));
        opened.channel.submit_abort(cx, Tag(10), Tag(3)).expect("taken");
        assert_eq!(opened.ended(cx), [(3, IoStatus::ABORTED), (10, OK)]);
        opened.script.set_slots(2);
        let _ = opened.ended(cx);
        opened.script.set_slots(3);
        opened.channel.submit_abort(cx, Tag(11), Tag(1)).expect("taken");
        assert_eq!(opened.script.seen().last().map(|seen| (seen.op, seen.lba)), Some((Op::Abort, 1)));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, OK), (2, OK), (11, OK)]);
    });
}

#[test]
fn a_device_that_cannot_abort_is_not_asked_to() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |spec| spec.ops = OpSet::all().without(Op::Abort));
        opened.script.set_slots(1);
        (1..3).for_each(|tag| opened.submit(cx, read(tag, 0, 1)));
        opened.channel.submit_abort(cx, Tag(10), Tag(2)).expect("taken");
        opened.channel.submit_abort(cx, Tag(11), Tag(1)).expect("taken");
        let unable = IoStatus::INVALID_FIELD;
        assert_eq!(opened.ended(cx), [(2, IoStatus::ABORTED), (10, OK), (11, unable)]);
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, OK)]);
    });
}

#[test]
fn accounts_follow_completions_and_survive_the_channel() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.submit(cx, read(1, 0, 4));
        opened.submit(cx, write(2, 0, 1));
        opened.submit(cx, write(3, BLOCKS, 1));
        opened.script.end_one(OK);
        opened.script.end_one(IoStatus::WRITE_FAULT);
        assert_eq!(opened.ended(cx).len(), 3);
        let stats = opened.bdev.stats();
        assert_eq!((stats.read.ops, stats.read.blocks, stats.write.ops), (1, 4, 0));
        assert_eq!(stats.errors, [(IoStatus::LBA_OUT_OF_RANGE, 1), (IoStatus::WRITE_FAULT, 1)]);
        assert_eq!(opened.bdev.channels().len(), 1);
        let (bdev, desc) = (opened.bdev.clone(), opened.desc);
        drop(opened.channel);
        assert_eq!((bdev.stats(), bdev.channels().len()), (stats, 0));
        bdev.reset_stats(ResetMode::All);
        assert_eq!(bdev.stats().read.ops, 0);
        drop(desc);
        assert!(bdev.openers().is_empty());
    });
}

#[test]
fn latency_runs_from_submit_to_surfacing_also_through_the_waiting_queue() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.script.set_slots(0);
        let began = cx.refresh_now();
        opened.submit(cx, read(1, 0, 1));
        while cx.refresh_now().since(began) < Ticks::from_duration(Duration::from_millis(2)) {}
        opened.script.set_slots(1);
        assert_eq!(opened.ended(cx), []);
        opened.script.end_all();
        let surfaced = cx.refresh_now();
        assert_eq!(opened.ended(cx), [(1, OK)]);
        let stats = opened.bdev.stats().read;
        assert_eq!((stats.ticks, stats.ticks_min, stats.ticks_max), [surfaced - began; 3].into());
    });
}

#[test]
fn io_that_takes_too_long_is_reported_to_an_opener_who_asked() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        let timeout = Duration::from_millis(2);
        opened.channel = opened.desc.open_channel_with(cx, Some(timeout)).expect("it opens again");
        // The IO is as old as the clock of its submission.
        let began = cx.refresh_now();
        opened.submit(cx, read(1, 0, 1));
        let event = loop {
            cx.refresh_now();
            assert_eq!(opened.ended(cx), []);
            if let Some(event) = opened.channel.take_event() {
                break event;
            }
        };
        assert_eq!(event, Event::Late(1));
        assert!(cx.now().since(began) >= Ticks::from_duration(timeout).since(Ticks(1000)));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, OK)]);
    });
}

#[test]
#[should_panic(expected = "panicked on its reactor")]
fn a_channel_is_not_closed_with_io_in_flight() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.submit(cx, read(1, 0, 1));
        drop(opened.channel);
    });
}
