//! Compare-and-writes that are emulated: each runs while the channel holds a lock on its blocks.
//!
//! A channel has one such lock at a time, for those that wait when it asks, [`TENURE_MAX`] at most. They run one after the
//! other; then it gives the lock back, lets others in, and asks again if there are more.

use super::{IoChannel, WAITING_MAX};
use crate::channel::DoneQueue;
use crate::io::{Io, Tag};
use crate::range_lock::{KeepsOut, RangeLock};
use std::collections::VecDeque;
use tgt_reactor::Cx;
use tgt_status::IoStatus;

/// Compare-and-writes of one lock: enough that locking is not the whole cost, few enough that others wait briefly.
const TENURE_MAX: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Exclusive {
    /// Those that no lock has been asked for.
    parked: VecDeque<Io>,
    /// Those whose blocks `lock` is for.
    chosen: VecDeque<Io>,
    lock: Option<RangeLock>,
}

impl Exclusive {
    /// How many have not begun.
    pub(super) fn waiting(&self) -> usize {
        self.parked.len() + self.chosen.len()
    }

    /// True if a poll has more to do than to look whether the bdev has changed.
    pub(super) fn is_busy(&self) -> bool {
        self.lock.is_some()
    }

    /// Takes the IO with this tag out; gives a lock up that nobody waits for any more.
    pub(super) fn remove(&mut self, tag: Tag) -> Option<Io> {
        let is_it = |io: &Io| io.tag == tag && !io.child;
        if let Some(index) = self.parked.iter().position(is_it) {
            return self.parked.remove(index);
        }
        let index = self.chosen.iter().position(is_it)?;
        let victim = self.chosen.remove(index);
        self.give_up_lock();
        victim
    }

    /// The bdev is gone: ends what has not begun. A lock that is held ends with the compare-and-write that runs.
    pub(super) fn fail_all(&mut self, status: IoStatus, ended: &mut DoneQueue) {
        let all = self.chosen.drain(..).chain(self.parked.drain(..));
        all.for_each(|io| ended.push(io.complete(status)));
        self.give_up_lock();
    }

    fn give_up_lock(&mut self) {
        if self.chosen.is_empty() {
            self.lock.take_if(|lock| !lock.is_held());
        }
    }

    /// The channel closes: it holds nobody up.
    pub(super) fn close(&mut self) {
        self.lock = None;
    }
}

impl IoChannel {
    /// Takes a compare-and-write that has to wait until its blocks are locked.
    pub(super) fn wait_for_own_lock(&mut self, cx: &Cx, io: Io) -> Result<(), Io> {
        if self.exclusive.parked.len() >= WAITING_MAX {
            return Err(io);
        }
        self.exclusive.parked.push_back(io);
        self.ask_for_own_lock(cx);
        Ok(())
    }

    fn ask_for_own_lock(&mut self, cx: &Cx) {
        let Exclusive { parked, chosen, lock } = &mut self.exclusive;
        if lock.is_some() || parked.is_empty() {
            return;
        }
        debug_assert!(chosen.is_empty(), "they go before their lock does");
        chosen.extend(parked.drain(..parked.len().min(TENURE_MAX)));
        let ranges: Vec<_> = chosen.iter().map(|io| io.lba..io.lba + u64::from(io.blocks)).collect();
        let waker = self.waker(cx);
        self.exclusive.lock = Some(self.bdev.enqueue_lock(ranges, KeepsOut::ReadsAndWrites, waker));
    }

    /// Goes on with the compare-and-writes whose blocks are locked. True if the module got something, or the bdev has to
    /// be looked at again.
    pub(super) fn use_own_lock(&mut self, cx: &mut Cx) -> bool {
        let mut moved = false;
        while let Some(lock) = &self.exclusive.lock {
            if !lock.is_held() || self.emulations.exclusive() {
                return moved;
            }
            moved = true;
            match self.exclusive.chosen.pop_front() {
                Some(io) => self.begin_exclusive(cx, io),
                None => self.exclusive.lock = None,
            }
        }
        self.ask_for_own_lock(cx);
        moved
    }

    /// Starts a compare-and-write that has its blocks to itself.
    fn begin_exclusive(&mut self, cx: &mut Cx, io: Io) {
        // The bdev may have shrunk while it waited.
        if io.lba.checked_add(u64::from(io.blocks)).is_none_or(|end| end > self.num_blocks) {
            return self.ended.push(io.complete(IoStatus::LBA_OUT_OF_RANGE));
        }
        let known = self.locks.harmless(&io);
        self.emulations.enter_exclusive(io);
        self.locks.passed(known);
        self.pump_emulations(cx);
    }
}
