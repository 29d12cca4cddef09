//! Random steps of several channels, of owners of locks and of the device, against plain rules over sets of blocks:
//! nothing of others is in the device inside a held lock; locks that overlap are held in the order of asking; and
//! when owners let go one after the other, every lock is granted and every IO ends once.

use super::script::{BLOCK, Opened, buffer, on_reactor, open};
use crate::{
    Bufs, CopyRange, Cx, DmaBuf, Done, DoneQueue, Io, IoChannel, KeepsOut, Mode, Op, OpSet, RangeLock, Tag,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;
use std::ops::Range;

const CHANNELS: usize = 3;

/// Few blocks, so that most things meet.
const BLOCKS: u64 = 12;

/// IO of the owner of the n-th lock bears this plus n as its tag.
const OWNERS: u64 = 1000;

#[derive(Clone, Debug)]
enum Step {
    Submit { channel: usize, op: Op, lba: u64, blocks: u32, source: u64, tag: u64 },
    Under { lock: usize, channel: usize, op: Op },
    End { index: usize },
    Poll { channel: usize },
    Reopen { channel: usize },
    Ask { channel: usize, ranges: Vec<(u64, u64)>, keeps_out: KeepsOut },
    Drop { lock: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = prop::sample::select(vec![
        Op::Read,
        Op::Write,
        Op::Unmap,
        Op::Compare,
        Op::CompareAndWrite,
        Op::Copy,
        Op::Flush,
    ]);
    let own = prop::sample::select(vec![Op::Read, Op::Write, Op::Unmap]);
    let kind = prop::sample::select(vec![
        KeepsOut::Writes,
        KeepsOut::Writes,
        KeepsOut::ReadsAndWrites,
        KeepsOut::ReadsAndWrites,
        KeepsOut::Everything,
    ]);
    let ranges = prop::collection::vec((0..BLOCKS, 1..4u64), 1..3);
    let channel = 0..CHANNELS;
    let step = prop_oneof![
        6 => (channel.clone(), op, 0..BLOCKS, 1..4u32, 0..BLOCKS, 0..4u64).prop_map(
            |(channel, op, lba, blocks, source, tag)| Step::Submit { channel, op, lba, blocks, source, tag }),
        2 => (any::<usize>(), channel.clone(), own).prop_map(
            |(lock, channel, op)| Step::Under { lock, channel, op }),
        5 => any::<usize>().prop_map(|index| Step::End { index }),
        8 => channel.clone().prop_map(|channel| Step::Poll { channel }),
        1 => channel.clone().prop_map(|channel| Step::Reopen { channel }),
        2 => (channel, ranges, kind).prop_map(
            |(channel, ranges, keeps_out)| Step::Ask { channel, ranges, keeps_out }),
        2 => any::<usize>().prop_map(|lock| Step::Drop { lock }),
    ];
    prop::collection::vec(step, 1..120)
}

/// A lock as the rules see it.
struct Owned {
    number: u64,
    lock: RangeLock,
    blocks: BTreeSet<u64>,
    keeps_out: KeepsOut,
    ranges: Vec<Range<u64>>,
}

impl Owned {
    fn overlaps(&self, other: &Owned) -> bool {
        let everything = |owned: &Owned| owned.keeps_out == KeepsOut::Everything;
        everything(self) || everything(other) || !self.blocks.is_disjoint(&other.blocks)
    }

    /// Whether this may not be in the device while the lock is held.
    fn forbids(&self, op: Op, range: &Range<u64>, tag: Tag) -> bool {
        if tag.0 == OWNERS + self.number {
            return false;
        }
        let meets = range.clone().any(|block| self.blocks.contains(&block));
        match self.keeps_out {
            KeepsOut::Writes => meets && op.is_write(),
            KeepsOut::ReadsAndWrites => meets,
            KeepsOut::Everything => true,
        }
    }
}

struct Model {
    opened: Opened,
    /// All but the first.
    channels: Vec<IoChannel>,
    /// In the order of asking.
    locks: Vec<Owned>,
    asked: u64,
    submitted: usize,
    ended: usize,
}

impl Model {
    fn new(cx: &mut Cx) -> Model {
        let ops = [Op::Read, Op::Write, Op::Unmap, Op::Flush];
        let opened = open(cx, Mode::Write, |spec| {
            (spec.ops, spec.num_blocks) = (OpSet::of(&ops), BLOCKS);
        });
        let channels = (1..CHANNELS).map(|_| opened.desc.open_channel(cx).expect("it opens")).collect();
        Model { opened, channels, locks: Vec::new(), asked: 0, submitted: 0, ended: 0 }
    }

    fn channel(&mut self, index: usize) -> &mut IoChannel {
        match index {
            0 => &mut self.opened.channel,
            _ => &mut self.channels[index - 1],
        }
    }

    fn take(&mut self, cx: &mut Cx, step: &Step) {
        match *step {
            Step::Submit { channel, op, lba, blocks, source, tag } => {
                let io = io(op, tag, lba, blocks, source);
                self.channel(channel).submit(cx, io).expect("there is room");
                self.submitted += 1;
            }
            Step::Under { lock, channel, op } => self.submit_under(cx, lock, channel, op),
            Step::End { index } => self.opened.script.end_some(index),
            Step::Poll { channel } => self.poll(cx, channel),
            Step::Reopen { channel } => {
                if self.channel(channel).in_flight() == 0 {
                    let fresh = self.opened.desc.open_channel(cx).expect("it opens");
                    *self.channel(channel) = fresh;
                }
            }
            Step::Ask { channel, ref ranges, keeps_out } => {
                let ranges: Vec<_> =
                    ranges.iter().map(|(lba, blocks)| *lba..(lba + blocks).min(BLOCKS)).collect();
                let lock = self.channel(channel).ask_lock(cx, &ranges, keeps_out).expect("few are asked for");
                let blocks = ranges.iter().flat_map(Clone::clone).collect();
                self.locks.push(Owned { number: self.asked, lock, blocks, keeps_out, ranges });
                self.asked += 1;
            }
            Step::Drop { lock } => {
                // Never with IO of its own under way: that is the owner's side of the bargain.
                if !self.locks.is_empty() {
                    let index = lock % self.locks.len();
                    let tag = Tag(OWNERS + self.locks[index].number);
                    if self.opened.script.held().iter().all(|(_, _, other)| *other != tag) {
                        self.locks.remove(index);
                    }
                }
            }
        }
    }

    fn submit_under(&mut self, cx: &mut Cx, lock: usize, channel: usize, op: Op) {
        if self.locks.is_empty() {
            return;
        }
        let index = lock % self.locks.len();
        let owned = self.locks.remove(index);
        if owned.lock.is_held() {
            let range = &owned.ranges[0];
            let io = io(op, OWNERS + owned.number, range.start, (range.end - range.start) as u32, 0);
            self.channel(channel).submit_under(cx, &owned.lock, io).expect("there is room");
            self.submitted += 1;
        }
        self.locks.insert(index, owned);
    }

    fn poll(&mut self, cx: &mut Cx, channel: usize) {
        let mut done = DoneQueue::default();
        let _ = self.channel(channel).poll(cx, &mut done);
        self.ended += std::iter::from_fn(|| done.pop().map(Done::finish)).count();
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (index, owned) in self.locks.iter().enumerate().filter(|(_, owned)| owned.lock.is_held()) {
            for (op, range, tag) in self.opened.script.held() {
                prop_assert!(
                    !owned.forbids(op, &range, tag),
                    "{op:?} of {range:?} ({tag:?}) is in the device inside {:?} {:?}",
                    owned.keeps_out,
                    owned.ranges
                );
            }
            let earlier = self.locks[..index].iter().find(|other| other.overlaps(owned));
            prop_assert!(
                earlier.is_none(),
                "{:?} is held before {:?}",
                owned.ranges,
                earlier.map(|o| &o.ranges)
            );
        }
        Ok(())
    }

    /// Lets the device end everything, and everybody look, as often as anything may need.
    fn settle(&mut self, cx: &mut Cx) -> Result<(), TestCaseError> {
        for _ in 0..40 {
            self.opened.script.end_all();
            (0..CHANNELS).for_each(|channel| self.poll(cx, channel));
            self.check()?;
        }
        Ok(())
    }

    fn run(cx: &mut Cx, steps: &[Step]) -> Result<(), TestCaseError> {
        let mut model = Model::new(cx);
        let outcome = model.take_all(cx, steps);
        if outcome.is_err() {
            // What is in flight would panic, and hide why.
            std::mem::forget(model);
        }
        outcome
    }

    fn take_all(&mut self, cx: &mut Cx, steps: &[Step]) -> Result<(), TestCaseError> {
        for step in steps {
            self.take(cx, step);
            self.check()?;
        }
        self.settle(cx)?;
        while !self.locks.is_empty() {
            prop_assert!(self.locks[0].lock.is_held(), "the first of those that are left is granted");
            self.locks.remove(0);
            self.settle(cx)?;
        }
        prop_assert_eq!(self.ended, self.submitted, "every IO ends once");
        prop_assert_eq!(self.opened.bdev.control().locks.len(), 0, "no lock is left");
        Ok(())
    }
}

fn io(op: Op, tag: u64, lba: u64, blocks: u32, source: u64) -> Io {
    let bufs = match op {
        Op::Read | Op::Write | Op::Compare => zeroed(blocks * BLOCK),
        Op::CompareAndWrite => zeroed(2 * blocks * BLOCK),
        Op::Copy => {
            let mut entry = DmaBuf::alloc(CopyRange::BYTES).expect("memory");
            entry.as_mut_slice().copy_from_slice(&CopyRange { lba: source, blocks }.encode());
            Bufs::from(entry)
        }
        _ => Bufs::none(),
    };
    let (lba, blocks) = if op == Op::Flush { (0, 0) } else { (lba, blocks) };
    Io::new(op, Tag(tag), lba, blocks, bufs)
}

fn zeroed(bytes: u32) -> Bufs {
    let mut bufs = buffer(bytes);
    bufs.fill(0);
    bufs
}

#[test]
fn nothing_of_others_is_inside_a_held_lock_and_everything_ends() {
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    // A reactor for each case: while it runs a test it takes no messages, and its inbox is bounded.
    let outcome = TestRunner::new(config).run(&steps(), |steps| on_reactor(move |cx| Model::run(cx, &steps)));
    assert_eq!(outcome.map_err(|error| error.to_string()), Ok(()));
}
