//! Rate limits, histograms and queue depths as an opener and RPC see them.

use super::script::{BLOCK, buffer, on_reactor, open, read, write};
use crate::{Event, HistogramSpec, Io, IoStatus, Limits, Mode, Op, RateLimits, Tag, Work};
use std::time::{Duration, Instant};

const OK: IoStatus = IoStatus::SUCCESS;

/// One IO a second: the first goes at once, the others wait far longer than any test.
const ONE_A_SECOND: RateLimits =
    RateLimits { rw_ios_per_sec: 1, rw_mbytes_per_sec: 0, r_mbytes_per_sec: 0, w_mbytes_per_sec: 0 };

#[test]
fn beyond_its_limit_io_waits_and_goes_on_in_order_when_the_limit_falls() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.bdev.set_rate_limits(ONE_A_SECOND);
        let _ = cx.refresh_now();
        assert_eq!(opened.ended(cx), [], "the channel notices the limit");
        (0..4).for_each(|tag| opened.submit(cx, read(tag, tag, 1)));
        assert_eq!(opened.script.seen().len(), 1);
        opened.submit(cx, Io::new(Op::Unmap, Tag(9), 5, 1, crate::Bufs::none()));
        assert_eq!(opened.script.seen().len(), 2, "only reads and writes are limited");
        assert_eq!(opened.channel.in_flight(), 5);
        opened.bdev.set_rate_limits(RateLimits::default());
        let _ = cx.refresh_now();
        assert_eq!(opened.ended(cx), []);
        assert_eq!(opened.script.seen().iter().map(|seen| seen.lba).collect::<Vec<_>>(), [0, 5, 1, 2, 3]);
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [0, 9, 1, 2, 3].map(|tag| (tag, OK)));
        opened.submit(cx, read(7, 7, 1));
        assert_eq!(opened.script.seen().len(), 6, "nothing is held back any more");
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(7, OK)]);
    });
}

#[test]
fn io_that_waits_for_its_time_can_be_stopped() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.bdev.set_rate_limits(ONE_A_SECOND);
        let _ = cx.refresh_now();
        assert_eq!(opened.ended(cx), []);
        (0..3).for_each(|tag| opened.submit(cx, write(tag, tag, 1)));
        opened.channel.submit_abort(cx, Tag(8), Tag(2)).expect("room");
        assert_eq!(opened.ended(cx), [(2, IoStatus::ABORTED), (8, OK)]);
        opened.bdev.mark_removed();
        assert_eq!(opened.ended(cx), [(1, IoStatus::INVALID_NAMESPACE)], "what waits ends with the bdev");
        assert_eq!(opened.channel.take_event(), Some(Event::Removed));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(0, OK)]);
    });
}

#[test]
fn a_limited_io_is_still_cut_to_what_the_device_takes() {
    on_reactor(|cx| {
        let limits = Limits { max_rw_blocks: 2, ..Limits::default() };
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = limits);
        opened.bdev.set_rate_limits(RateLimits { rw_mbytes_per_sec: 1, ..RateLimits::default() });
        let _ = cx.refresh_now();
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, Io::new(Op::Read, Tag(1), 0, 5, buffer(5 * BLOCK)));
        assert_eq!(opened.script.seen().iter().map(|seen| seen.blocks).collect::<Vec<_>>(), [2, 2, 1]);
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, OK)]);
    });
}

#[test]
fn whoever_lets_an_io_through_asks_to_be_polled_for_its_end() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.script.set_automatic(|io| io.complete(OK));
        let forty_a_second = RateLimits { rw_ios_per_sec: 40, ..RateLimits::default() };
        opened.bdev.set_rate_limits(forty_a_second);
        let _ = cx.refresh_now();
        assert_eq!(opened.ended(cx), []);
        (0..2).for_each(|tag| opened.submit(cx, read(tag, tag, 1)));
        assert_eq!(opened.ended(cx), [(0, OK)]);
        let mut done = crate::DoneQueue::default();
        // Idle until the second may go; in the poll that hands it to the device the reactor must stay awake.
        let mut work = opened.channel.poll(cx, &mut done);
        while opened.script.seen().len() == 1 {
            assert_eq!(work, Work::Idle);
            let _ = cx.refresh_now();
            work = opened.channel.poll(cx, &mut done);
        }
        assert_eq!((work, done.len()), (Work::Spin, 0));
        assert_eq!(opened.ended(cx), [(1, OK)]);
    });
}

#[test]
fn two_channels_share_one_limit() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.bdev.set_rate_limits(ONE_A_SECOND);
        let _ = cx.refresh_now();
        let mut other = opened.desc.open_channel(cx).expect("a second channel");
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, read(1, 1, 1));
        other.submit(cx, read(2, 2, 1)).expect("room");
        assert_eq!(opened.script.seen().len(), 1, "the second channel's turn comes a second later");
        opened.bdev.set_rate_limits(RateLimits::default());
        let _ = cx.refresh_now();
        assert_eq!(opened.ended(cx), []);
        let mut done = crate::DoneQueue::default();
        let _ = other.poll(cx, &mut done);
        assert_eq!(opened.script.seen().len(), 2);
        for channel in [&mut opened.channel, &mut other] {
            opened.script.end_one(OK);
            let _ = channel.poll(cx, &mut done);
            let _ = done.pop().expect("its read").finish();
        }
    });
}

#[test]
fn every_io_counts_once_in_the_histogram_of_its_operation() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        assert_eq!(opened.bdev.histogram(), None);
        opened.bdev.set_histogram(Some(HistogramSpec { op: Some(Op::Read), ..HistogramSpec::default() }));
        assert_eq!(opened.ended(cx), []);
        (0..3).for_each(|tag| opened.submit(cx, read(tag, tag, 1)));
        opened.submit(cx, write(3, 3, 1));
        opened.script.end_all();
        assert_eq!(opened.ended(cx).len(), 4);
        let sum = |opened: &super::script::Opened| {
            opened.bdev.histogram().map(|counts| counts.counts.iter().sum::<u64>())
        };
        assert_eq!(sum(&opened), Some(3), "reads only");
        // Counts of a closed channel stay.
        opened.channel = opened.desc.open_channel(cx).expect("another channel");
        opened.submit(cx, read(4, 4, 1));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(4, OK)]);
        assert_eq!(sum(&opened), Some(4));
        opened.bdev.set_histogram(Some(HistogramSpec::default()));
        assert_eq!(sum(&opened), Some(0), "counting starts afresh");
        opened.bdev.set_histogram(None);
        assert_eq!(sum(&opened), None);
    });
}

#[test]
fn the_queue_depth_is_sampled_until_it_is_not_wanted() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        opened.bdev.sample_queue_depth(Duration::from_micros(200)).expect("a thread");
        (0..3).for_each(|tag| opened.submit(cx, read(tag, tag, 1)));
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert_eq!(opened.ended(cx), []);
            let seen = opened.bdev.queue_depth_sampled().expect("it is sampled");
            if seen.depth == 3 && seen.weighted >= 3 * seen.period {
                assert!(seen.busy >= seen.period && seen.weighted <= 3 * seen.busy);
                break;
            }
            assert!(Instant::now() < deadline, "three IOs in flight were never seen: {seen:?}");
        }
        opened.bdev.sample_queue_depth(Duration::ZERO).expect("nothing to start");
        assert_eq!(opened.bdev.queue_depth_sampled(), None);
        opened.script.end_all();
        assert_eq!(opened.ended(cx).len(), 3);
    });
}
