//! The sampled trace as an opener and RPC see it.

use super::script::{BLOCK, Opened, buffer, on_reactor, open, read, write};
use crate::{Bufs, Cx, Io, IoStatus, Limits, Mode, Op, RateLimits, Tag, TracedIo};

const OK: IoStatus = IoStatus::SUCCESS;

fn traced(opened: &Opened) -> Vec<(Op, u64, u32, IoStatus)> {
    let channels = opened.bdev.io_trace(usize::MAX);
    let ios = channels.iter().flat_map(|channel| channel.ios.iter());
    ios.map(|&TracedIo { op, lba, blocks, status, .. }| (op, lba, blocks, status)).collect()
}

/// Sets the trace, and lets the channel notice.
fn set(opened: &mut Opened, cx: &mut Cx, every: u32) {
    opened.bdev.set_io_trace(every);
    assert_eq!(opened.ended(cx), []);
}

#[test]
fn one_of_so_many_ios_is_noted_with_what_it_was_and_how_it_ended() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        (0..4).for_each(|tag| opened.submit(cx, read(tag, tag, 1)));
        set(&mut opened, cx, 3);
        (4..14).for_each(|tag| opened.submit(cx, write(tag, 10 * tag, 2)));
        assert_eq!(traced(&opened), [], "nothing has ended");
        (0..9).for_each(|_| opened.script.end_one(OK));
        opened.script.end_one(IoStatus::WRITE_FAULT);
        opened.script.end_all();
        let before = cx.now();
        let after = cx.refresh_now();
        assert_eq!(opened.ended(cx).len(), 14);
        let [third, sixth, ninth] = [60, 90, 120].map(|lba| (Op::Write, lba, 2));
        let ends = [(third, OK), (sixth, IoStatus::WRITE_FAULT), (ninth, OK)];
        assert_eq!(traced(&opened), ends.map(|((op, lba, blocks), status)| (op, lba, blocks, status)));
        for io in &opened.bdev.io_trace(usize::MAX)[0].ios {
            assert_eq!((io.submitted, io.done), (before, after));
        }
        let newest = &opened.bdev.io_trace(1)[0];
        assert_eq!(
            (newest.sampled, newest.ios[0].lba, newest.ios.len(), &*newest.opener),
            (3, 120, 1, "test")
        );
        set(&mut opened, cx, 0);
        opened.submit(cx, read(1, 1, 1));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, OK)]);
        assert!(opened.bdev.io_trace(9).is_empty() && opened.bdev.io_trace_every() == 0);
    });
}

#[test]
fn io_that_is_cut_held_back_or_has_no_data_is_noted_once_as_its_opener_gave_it() {
    on_reactor(|cx| {
        let limits = Limits { max_rw_blocks: 2, ..Limits::default() };
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = limits);
        set(&mut opened, cx, 1);
        opened.submit(cx, Io::new(Op::Read, Tag(1), 7, 5, buffer(5 * BLOCK)));
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, OK)]);
        opened.bdev.set_rate_limits(RateLimits { rw_ios_per_sec: 1000, ..RateLimits::default() });
        let _ = cx.refresh_now();
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, write(2, 30, 1));
        opened.submit(cx, Io::new(Op::Flush, Tag(3), 0, 0, Bufs::none()));
        while traced(&opened).len() < 3 {
            let _ = cx.refresh_now();
            opened.script.end_all();
            opened.ended(cx);
        }
        let mut seen = traced(&opened);
        seen.sort_by_key(|(op, ..)| *op as u8);
        assert_eq!(seen, [(Op::Read, 7, 5, OK), (Op::Write, 30, 1, OK), (Op::Flush, 0, 0, OK)]);
    });
}

#[test]
fn a_change_of_something_else_does_not_begin_the_trace_anew() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        set(&mut opened, cx, 2);
        opened.submit(cx, read(1, 1, 1));
        opened.bdev.resize(900);
        assert_eq!(opened.ended(cx), []);
        opened.submit(cx, read(2, 2, 1));
        opened.script.end_all();
        assert_eq!(opened.ended(cx).len(), 2);
        assert_eq!(traced(&opened), [(Op::Read, 2, 1, OK)]);
        // A channel that is opened later is traced as well; what was noted goes with its channel.
        opened.channel = opened.desc.open_channel(cx).expect("another channel");
        assert_eq!(traced(&opened), []);
        (3..5).for_each(|tag| opened.submit(cx, read(tag, tag, 1)));
        opened.script.end_all();
        assert_eq!(opened.ended(cx).len(), 2);
        assert_eq!(traced(&opened), [(Op::Read, 4, 1, OK)]);
    });
}

/// IO whose completion never comes keeps no room from those after it.
#[test]
fn samples_under_way_are_bounded() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |_| ());
        set(&mut opened, cx, 1);
        (0..100).for_each(|tag| opened.submit(cx, read(tag, tag, 1)));
        opened.script.end_all();
        assert_eq!(opened.ended(cx).len(), 100);
        let lbas: Vec<u64> = traced(&opened).iter().map(|(_, lba, ..)| *lba).collect();
        assert_eq!(lbas, (84..100).collect::<Vec<_>>(), "the newest of those in flight at once");
    });
}
