use super::script::{BLOCK, BLOCKS, buffer, on_reactor, open, read, write};
use crate::split::CHILDREN_MAX;
use crate::{Bufs, Done, Io, IoStatus, Limits, Mode, Op, Tag};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const OK: IoStatus = IoStatus::SUCCESS;

fn pieces_of(blocks: u32) -> Limits {
    Limits {
        max_rw_blocks: blocks,
        max_unmap_blocks: blocks,
        max_write_zeroes_blocks: blocks,
        ..Limits::default()
    }
}

/// A byte that tells which block it is from.
fn mark(lba: u64) -> u8 {
    (lba % 251) as u8
}

/// Fills a read's buffers with the marks of its blocks.
fn fill_with_marks(mut io: Io) -> Done {
    if io.op == Op::Read {
        for block in 0..io.blocks {
            let marks = [mark(io.lba + u64::from(block)); BLOCK as usize];
            io.bufs.copy_from_slice(block * BLOCK, &marks);
        }
    }
    io.complete(OK)
}

fn scattered(cx: &mut crate::Cx, sizes: &[u32], total: u32) -> Bufs {
    let mut left = total;
    let mut parts = Vec::new();
    for size in sizes.iter().cycle() {
        if left == 0 {
            break;
        }
        let size = (*size).min(left);
        parts.push(buffer(size));
        left -= size;
    }
    cx.lender().gather(parts)
}

/// Any limits, any IO, any scatter list: the pieces keep to the limits, cover the range once and in order, and every
/// byte lands where an unsplit read would have put it.
#[test]
fn pieces_cover_the_io_and_keep_to_every_limit() {
    let limits = (0u32..9, 0u32..9, 0u16..5).prop_map(|(max, boundary, segments)| Limits {
        max_rw_blocks: max,
        boundary_blocks: boundary,
        // A block lies in at most four segments of the lists below.
        max_segments: if segments == 0 { 0 } else { segments + 3 },
        ..Limits::default()
    });
    let io = (0u64..BLOCKS - 100, 1u32..100, prop::collection::vec(200u32..2000, 1..5));
    on_reactor(move |cx| {
        let mut runner =
            TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let cx = std::cell::RefCell::new(cx);
        let outcome = runner.run(&(limits, io), |(limits, (lba, blocks, sizes))| {
            let cx = &mut **cx.borrow_mut();
            let mut opened = open(cx, Mode::Read, |spec| spec.limits = limits);
            opened.script.set_automatic(fill_with_marks);
            let bufs = scattered(cx, &sizes, blocks * BLOCK);
            opened.submit(cx, Io::new(Op::Read, Tag(1), lba, blocks, bufs));
            let mut ended = Vec::new();
            for _ in 0..200 {
                ended.extend(opened.poll(cx));
            }
            prop_assert_eq!(ended.len(), 1);
            let finished = ended.pop().expect("one");
            prop_assert_eq!(finished.status, OK);
            let mut next = lba;
            for seen in opened.script.seen() {
                prop_assert_eq!(seen.lba, next);
                prop_assert!(limits.max_rw_blocks == 0 || seen.blocks <= limits.max_rw_blocks);
                prop_assert!(limits.max_segments == 0 || seen.segments <= usize::from(limits.max_segments));
                if let Some(boundary) = Some(u64::from(limits.boundary_blocks)).filter(|b| *b != 0) {
                    prop_assert_eq!(seen.lba / boundary, (seen.lba + u64::from(seen.blocks) - 1) / boundary);
                }
                next += u64::from(seen.blocks);
            }
            prop_assert_eq!(next, lba + u64::from(blocks));
            let mut data = vec![0; (blocks * BLOCK) as usize];
            finished.bufs.copy_to_slice(0, &mut data);
            let expected = (lba..next).flat_map(|lba| [mark(lba); BLOCK as usize]);
            prop_assert!(data.into_iter().eq(expected));
            Ok(())
        });
        outcome.expect("the property holds");
    });
}

#[test]
fn an_io_within_the_limits_is_not_touched() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = pieces_of(8));
        opened.submit(cx, write(5, 0, 8));
        assert_eq!(opened.script.seen().len(), 1);
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(5, OK)]);
    });
}

#[test]
fn the_first_failure_stops_further_pieces_and_is_the_answer() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = pieces_of(1));
        opened.submit(cx, write(5, 0, CHILDREN_MAX + 20));
        assert_eq!(opened.script.seen().len(), CHILDREN_MAX as usize, "not all at once");
        opened.script.end_one(OK);
        opened.script.end_one(IoStatus::WRITE_FAULT);
        opened.script.end_one(IoStatus::INTERNAL);
        assert_eq!(opened.ended(cx), []);
        let sent = opened.script.seen().len();
        assert!(sent < CHILDREN_MAX as usize + 3, "no piece follows a failure, {sent} were sent");
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(5, IoStatus::WRITE_FAULT)]);
    });
}

#[test]
fn io_without_data_is_split_by_its_own_limit() {
    on_reactor(|cx| {
        let limits = Limits { max_unmap_blocks: 300, max_write_zeroes_blocks: 400, ..Limits::default() };
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = limits);
        opened.script.set_automatic(|io| io.complete(OK));
        for (op, pieces) in [(Op::Unmap, vec![300, 300, 300, 100]), (Op::WriteZeroes, vec![400, 400, 200])] {
            opened.submit(cx, Io::new(op, Tag(1), 0, BLOCKS as u32, Bufs::none()));
            assert_eq!(opened.ended(cx), [(1, OK)]);
            let seen = opened.script.seen();
            let sizes: Vec<u32> = seen.iter().filter(|seen| seen.op == op).map(|seen| seen.blocks).collect();
            assert_eq!(sizes, pieces);
        }
    });
}

#[test]
fn pieces_without_a_slot_wait_and_other_io_is_served_in_between() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = pieces_of(2));
        opened.script.set_slots(1);
        opened.submit(cx, write(1, 0, 6));
        opened.submit(cx, read(2, 100, 1));
        let mut order = Vec::new();
        for _ in 0..4 {
            opened.script.end_one(OK);
            order.extend(opened.ended(cx));
        }
        order.sort();
        assert_eq!(order, [(1, OK), (2, OK)]);
    });
}

#[test]
fn a_removed_bdev_ends_a_split_io_once() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = pieces_of(1));
        opened.script.set_slots(2);
        opened.submit(cx, write(1, 0, 100));
        opened.bdev.mark_removed();
        assert_eq!(opened.ended(cx), [], "two pieces are still in the device");
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, IoStatus::INVALID_NAMESPACE)]);
    });
}

#[test]
fn an_abort_stops_a_split_io() {
    on_reactor(|cx| {
        let mut opened = open(cx, Mode::Write, |spec| spec.limits = pieces_of(1));
        opened.submit(cx, write(1, 0, CHILDREN_MAX + 50));
        opened.channel.submit_abort(cx, Tag(2), Tag(1)).expect("taken");
        assert_eq!(opened.ended(cx), [(2, OK)]);
        opened.script.end_all();
        assert_eq!(opened.ended(cx), [(1, IoStatus::ABORTED)]);
        assert_eq!(opened.script.seen().len(), CHILDREN_MAX as usize);
    });
}

#[test]
fn a_block_in_too_many_segments_is_refused() {
    on_reactor(|cx| {
        let mut opened =
            open(cx, Mode::Write, |spec| spec.limits = Limits { max_segments: 2, ..Limits::default() });
        let bufs = scattered(cx, &[100], BLOCK);
        opened.submit(cx, Io::new(Op::Write, Tag(1), 0, 1, bufs));
        assert_eq!(opened.ended(cx), [(1, IoStatus::INVALID_FIELD)]);
        assert_eq!(opened.script.seen(), []);
    });
}
