//! The channel's side of range locks: see `range_lock.rs` for the other side.
//!
//! ```text
//! a lock is noticed ─► Fresh ─ the drain before is over ─► Draining ─ all from before is gone ─► Clear (acknowledged)
//! ```
//! From the moment a lock is noticed, IO in its way is held back. A drain waits for what is in flight when it begins, but
//! for what touches nothing (IO that is held back, that waits for its rate or for a lock of its own), and for what has passed since
//! and was found not to be in the way: that is written down, in a table that is there only meanwhile. One drain serves all
//! locks that are fresh when it begins; those noticed later wait for the next, so a drain ends however many locks follow.
//!
//! When a lock goes, what only it held back goes on at once, and before any lock that is noticed at the same time is
//! acknowledged: locks in a row starve nobody.

use super::{IoChannel, WAITING_MAX};
use crate::channel::DoneQueue;
use crate::io::{Io, IoKey, Tag};
use crate::range_lock::{KeepsOut, Lock, LockError, RangeLock, Waker};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use tgt_reactor::Cx;
use tgt_status::IoStatus;

/// IO that may pass during one drain; beyond that it is held back until the drain is over.
const PASSED_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Locks {
    /// Of the bdev's set of locks, when the channel last looked.
    version: u64,
    known: Vec<Known>,
    /// What has passed since the drain began and is not in its way. Openers may give one tag twice: then an entry goes with
    /// the first of them, and the other counts as from before.
    passed: Vec<IoKey>,
    held: VecDeque<Io>,
    /// Held back no more: goes on as soon as there is room.
    released: VecDeque<Io>,
}

#[derive(Debug)]
struct Known {
    lock: Arc<Lock>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Draining,
    Clear,
}

impl Locks {
    /// Of a channel that was opened while these are in force: nothing of it is in their way.
    pub(super) fn new((version, in_force): (u64, Vec<Arc<Lock>>)) -> Locks {
        let clear = |lock| Known { lock, phase: Phase::Clear };
        Locks {
            version,
            known: in_force.into_iter().map(clear).collect(),
            passed: Vec::new(),
            held: VecDeque::new(),
            released: VecDeque::new(),
        }
    }

    /// True if new IO has to be looked at.
    pub(super) fn any(&self) -> bool {
        !self.known.is_empty()
    }

    /// Whether this IO has to wait.
    pub(super) fn bars(&self, io: &Io) -> bool {
        self.is_in_the_way(io) || (self.passed.len() >= PASSED_MAX && io.op.has_range())
    }

    fn is_in_the_way(&self, io: &Io) -> bool {
        self.known.iter().any(|known| known.lock.bars(io))
    }

    pub(super) fn hold(&mut self, io: Io) -> Result<(), Io> {
        if self.held.len() >= WAITING_MAX {
            return Err(io);
        }
        self.held.push_back(io);
        Ok(())
    }

    /// What to write down about an IO that passes, if anything: for [`Locks::passed`].
    pub(super) fn harmless(&self, io: &Io) -> Option<IoKey> {
        let in_the_way = |known: &Known| known.phase == Phase::Draining && known.lock.bars(io);
        let free = self.is_draining() && !self.known.iter().any(in_the_way);
        (free && self.passed.len() < PASSED_MAX).then(|| io.key())
    }

    pub(super) fn passed(&mut self, key: Option<IoKey>) {
        self.passed.extend(key);
    }

    fn is_draining(&self) -> bool {
        self.known.iter().any(|known| known.phase == Phase::Draining)
    }

    /// True if a poll has more to do than to look whether the bdev has changed.
    pub(super) fn is_busy(&self) -> bool {
        self.is_draining() || !self.released.is_empty()
    }

    /// True if something waits only for room.
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Takes the IO with this tag out.
    pub(super) fn remove(&mut self, tag: Tag) -> Option<Io> {
        let out_of = |queue: &mut VecDeque<Io>| {
            let index = queue.iter().position(|io| io.tag == tag && !io.child)?;
            queue.remove(index)
        };
        out_of(&mut self.held).or_else(|| out_of(&mut self.released))
    }

    /// The bdev is gone: takes everything out.
    pub(super) fn drain_held(&mut self) -> impl Iterator<Item = Io> + '_ {
        self.released.drain(..).chain(self.held.drain(..))
    }

    /// These are in force now.
    fn update(&mut self, in_force: Vec<Arc<Lock>>) {
        self.known.retain(|known| in_force.iter().any(|lock| lock.number == known.lock.number));
        self.release();
        for lock in in_force {
            if !self.known.iter().any(|known| known.lock.number == lock.number) {
                self.known.push(Known { lock, phase: Phase::Fresh });
            }
        }
        self.begin_drain();
    }

    /// Lets go what nothing known holds back any more.
    fn release(&mut self) {
        for _ in 0..self.held.len() {
            let Some(io) = self.held.pop_front() else { return };
            let queue = if self.is_in_the_way(&io) { &mut self.held } else { &mut self.released };
            queue.push_back(io);
        }
    }

    fn begin_drain(&mut self) {
        if self.is_draining() {
            return;
        }
        self.passed.clear();
        self.known
            .iter_mut()
            .filter(|known| known.phase == Phase::Fresh)
            .for_each(|known| known.phase = Phase::Draining);
    }

    /// The drain is over, and the next begins if one is to. The numbers of the locks it served.
    fn end_drain(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for known in self.known.iter_mut().filter(|known| known.phase == Phase::Draining) {
            known.phase = Phase::Clear;
            numbers.push(known.lock.number);
        }
        self.begin_drain();
        self.release();
        numbers
    }
}

impl IoChannel {
    /// Asks for a lock on ranges of blocks of this bdev, across all channels on all reactors. It is held when
    /// [`RangeLock::is_held`] says so, not before; this reactor is woken then. Dropping it gives it back.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held back then.
    pub fn ask_lock(
        &self,
        cx: &Cx,
        ranges: &[Range<u64>],
        keeps_out: KeepsOut,
    ) -> Result<RangeLock, LockError> {
        self.bdev.ask_lock(ranges, keeps_out, self.waker(cx))
    }

    pub(super) fn waker(&self, cx: &Cx) -> Waker {
        Waker::Channel(cx.peers()[cx.id().0 as usize].clone(), self.desc.opener.clone())
    }

    /// As [`IoChannel::submit`], for the owner of a lock: passes every lock, as what lies inside this one lies inside no
    /// other, and rate limits, as others wait for it. Ends with an invalid field if the lock is not held, is another bdev's, or does
    /// not cover all that the IO touches. Give the lock back only when it has completed.
    pub fn submit_under(&mut self, cx: &mut Cx, lock: &RangeLock, mut io: Io) -> Result<(), Io> {
        if !io.op.has_range() {
            return self.submit(cx, io);
        }
        self.probe_submit(&io);
        let allowed = self.check(&io).and_then(|()| match lock.lets_its_owner(&self.bdev, &io) {
            true => Ok(()),
            false => Err(IoStatus::INVALID_FIELD),
        });
        if let Err(status) = allowed {
            return self.end_here(cx, io, status);
        }
        let submitted = self.stamp(cx, &mut io);
        self.pass_freely(cx, io)?;
        self.took(submitted);
        self.busy_inside = true;
        Ok(())
    }

    /// Looks which locks are in force.
    pub(super) fn notice_locks(&mut self) {
        if let Some(in_force) = self.bdev.locks_since(&mut self.locks.version) {
            self.locks.update(in_force);
        }
    }

    /// Lets go on what is held back no more. True if any was.
    pub(super) fn let_released_go(&mut self, cx: &mut Cx) -> bool {
        let mut moved = false;
        while let Some(io) = self.locks.released.pop_front() {
            moved = true;
            // The bdev may have shrunk meanwhile.
            if let Err(status) = self.check(&io) {
                self.ended.push(io.complete(status));
            } else if let Err(io) = self.pass_freely(cx, io) {
                self.locks.released.push_front(io);
                break;
            }
        }
        moved
    }

    /// Acknowledges locks when nothing from before is left in the device. The completions in `done` from `first` on are on
    /// their way to the opener.
    pub(super) fn drain_for_locks(&mut self, done: &DoneQueue, first: usize) {
        if !self.locks.is_draining() {
            return;
        }
        for done in done.iter_from(first) {
            let key = done.key();
            if let Some(index) = self.locks.passed.iter().position(|passed| *passed == key) {
                self.locks.passed.swap_remove(index);
            }
        }
        let surfaced = done.len() - first;
        let aside = self.locks.held.len() + self.exclusive.waiting() + self.gate.len();
        while self.locks.is_draining()
            && self.in_flight as usize == surfaced + aside + self.locks.passed.len()
        {
            let numbers = self.locks.end_drain();
            self.bdev.acknowledge_locks(self.id, &numbers);
        }
    }
}
