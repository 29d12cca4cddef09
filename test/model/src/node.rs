//! A storage node: the store engine while its process lives, and its disk.

use crate::oracle::Value;
use rmr_engine::store::{Store, View};
use rmr_engine::{DiskOp, StoreAction, StoreEvent};
use rmr_proto::{BlockRange, BufId};

/// Offset of the first journal copy: with a write here a new commit begins.
const JOURNAL_AT: u64 = 2 * rmr_proto::disk::PAGE as u64;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Work {
    Write {
        range: BlockRange,
        value: u32,
    },
    Read {
        range: BlockRange,
    },
    /// Covers so many of the oldest entries of the cache.
    Flush {
        covered: usize,
    },
}

/// What the disk has been asked for, by this process or by one that is gone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Queued {
    pub(crate) op: DiskOp,
    pub(crate) work: Work,
    pub(crate) orphan: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    pub(crate) store: Option<Store>,
    pub(crate) durable: View,
    pub(crate) boot: u64,
    pub(crate) data: Vec<Value>,
    /// Done and not durable, oldest first.
    pub(crate) cache: Vec<(u64, Value)>,
    pub(crate) queue: Vec<Queued>,
    /// A commit of metadata is under way.
    pub(crate) committing: bool,
}

/// The bytes of a range stand in its buffer's number: four bits a block.
pub(crate) fn pack(values: impl Iterator<Item = Value>) -> BufId {
    BufId(values.enumerate().fold(0, |packed, (at, value)| packed | u32::from(value) << (4 * at)))
}

pub(crate) fn unpack(packed: u32, at: u64) -> Value {
    (packed >> (4 * at) & 0xf) as Value
}

impl Node {
    /// What a read returns now.
    pub(crate) fn seen(&self, block: u64) -> Value {
        let cached = self.cache.iter().rev().find(|(at, _)| *at == block);
        cached.map_or(self.data[block as usize], |(_, value)| *value)
    }

    /// Takes what the store wants done; messages are left to the caller.
    pub(crate) fn take(&mut self, action: StoreAction) {
        let work = match action {
            StoreAction::Write { op, range, buf, .. } => {
                Some((op, Work::Write { range, value: buf.map_or(0, |buf| buf.0) }))
            }
            StoreAction::Read { op, range } => Some((op, Work::Read { range })),
            StoreAction::Flush { op } => Some((op, Work::Flush { covered: self.cache.len() })),
            StoreAction::MetaWrite { .. } => {
                self.committing = true;
                None
            }
            // Nobody scrubs here.
            StoreAction::Send(..) | StoreAction::Release(_) | StoreAction::Checksum { .. } => None,
        };
        self.queue.extend(work.map(|(op, work)| Queued { op, work, orphan: false }));
    }

    /// The disk finishes its `nth` operation; the event for the store, if it still is the one that asked.
    pub(crate) fn finish(&mut self, nth: usize) -> Option<StoreEvent> {
        let Queued { op, work, orphan } = self.queue.remove(nth);
        let mut buf = None;
        match work {
            Work::Write { range, value } => {
                let blocks = range.first..range.end();
                self.cache.extend(blocks.zip(0..).map(|(block, at)| (block, unpack(value, at))));
            }
            Work::Read { range } => {
                buf = Some(pack((range.first..range.end()).map(|block| self.seen(block))));
            }
            Work::Flush { covered } => self.flush(covered),
        }
        (!orphan && self.store.is_some()).then_some(StoreEvent::Disk { op, ok: true, buf })
    }

    fn flush(&mut self, covered: usize) {
        for (block, value) in self.cache.drain(..covered) {
            self.data[block as usize] = value;
        }
        for queued in &mut self.queue {
            if let Work::Flush { covered: later } = &mut queued.work {
                *later = later.saturating_sub(covered);
            }
        }
    }

    /// Runs the commit under way to its end, home pages and all; the actions of the store but for metadata writes.
    pub(crate) fn commit(&mut self, now: u64) -> Vec<StoreAction> {
        let mut all = Vec::new();
        let Some(store) = &mut self.store else { return all };
        self.committing = false;
        // Home pages go to the disk several at a time; the next record begins when all of them are there.
        let mut under_way = 1;
        while under_way > 0 && !self.committing {
            let mut out = Vec::new();
            store.on(now, StoreEvent::Disk { op: DiskOp::Meta, ok: true, buf: None }, &mut out);
            under_way -= 1;
            for action in out {
                match action {
                    StoreAction::MetaWrite { offset: JOURNAL_AT, .. } => self.committing = true,
                    StoreAction::MetaWrite { .. } => under_way += 1,
                    other => all.push(other),
                }
            }
        }
        self.durable = store.durable().clone();
        all
    }

    /// kill -9: what the disk was given stays with it.
    pub(crate) fn kill(&mut self) {
        self.store = None;
        self.committing = false;
        self.queue.iter_mut().for_each(|queued| queued.orphan = true);
    }

    /// Power loss: of each block the first `kept` unflushed versions have reached the medium.
    pub(crate) fn lose_power(&mut self, kept: &[usize]) {
        self.kill();
        self.queue.clear();
        self.boot += 1;
        for (block, kept) in kept.iter().enumerate() {
            let versions = self.cache.iter().filter(|(at, _)| *at == block as u64);
            if let Some((_, value)) = versions.take(*kept).last() {
                self.data[block] = *value;
            }
        }
        self.cache.clear();
    }

    pub(crate) fn unflushed(&self, block: u64) -> usize {
        self.cache.iter().filter(|(at, _)| *at == block).count()
    }
}
