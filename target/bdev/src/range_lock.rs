//! Locks on ranges of blocks of a bdev, across all its channels on all reactors.
//!
//! ```text
//! asked ─► waits for every earlier request that overlaps ─► in force: every channel holds new IO in its way back, and
//!                                                             │        acknowledges when nothing from before is left
//!                                                             ▼        in the device
//!                                                           held: all have acknowledged, the owner goes on
//!                                                             │
//!          over ◄── dropped, at any point ────────────────────┘
//! ```
//! The owner is a control thread ([`Bdev::lock_ranges`], [`Bdev::quiesce`]), whoever has an io channel
//! ([`IoChannel::ask_lock`]), or an io channel that emulates compare-and-writes. Its own IO goes by
//! [`IoChannel::submit_under`]. Two locks that overlap are never in force together, whatever they keep out. Whoever needs
//! several ranges asks for them at once: one lock, granted as a whole. One who asks for a second lock while holding the
//! first may wait for somebody who does the same in the other order.
//!
//! Which blocks the IO in flight touches is not written down, as that would cost every IO. So a channel that learns of a
//! lock waits for everything that is in its device at that moment, overlapping or not; what it submits from then on
//! is known, and does not hold the lock up. `range_lock/queue.rs`: who waits for whom, without threads and atomics. The channel's side is
//! in `io_channel/locks.rs`.
//!
//! Late or doubled messages do no harm: a channel acknowledges locks by their numbers, which never come again, under the
//! mutex of the bdev's control state.

mod queue;

pub(crate) use queue::{LockQueue, Waker};

use crate::bdev::{Bdev, Control};
use crate::copy::CopyRange;
use crate::io::{Io, Op};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::time::{Duration, Instant};

#[cfg(doc)]
use crate::IoChannel;

/// Locks of one bdev, those that are waited for included; those of compare-and-writes come on top, one a channel.
pub const LOCKS_MAX: usize = 256;

/// Ranges of one lock.
pub const LOCK_RANGES_MAX: usize = 64;

/// What a lock keeps out while it is in force. Never its owner's IO, nor aborts and resets: a device that hangs must be
/// reached, and neither changes data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepsOut {
    /// What changes blocks of the ranges.
    Writes,
    /// What changes or reads blocks of the ranges.
    ReadsAndWrites,
    /// Everything, flushes too, wherever it goes: the ranges say only what the owner may do.
    Everything,
}

/// What was asked for, as the bdev and its channels see it.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) number: u64,
    /// Sorted; none touches the next.
    ranges: Box<[Range<u64>]>,
    keeps_out: KeepsOut,
    held: AtomicBool,
}

/// A lock that was asked for. Dropping it gives it back, or gives up waiting for it, at any time and on any thread.
#[derive(Debug)]
pub struct RangeLock {
    bdev: Arc<Bdev>,
    lock: Arc<Lock>,
}

/// Why there is no lock. Nothing is held back then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LockError {
    /// The bdev was removed.
    #[error("bdev {0:?} is removed: there is nothing to lock")]
    Removed(String),
    /// IO did not end, or another lock did not.
    #[error("bdev {bdev:?}: no lock within {patience:?}: {why}; wait for its IO, or reset the bdev")]
    TimedOut {
        /// The bdev.
        bdev: String,
        /// How long was waited.
        patience: Duration,
        /// Whose IO is in it, or who holds a lock that overlaps.
        why: String,
    },
    /// There are as many as there may be.
    #[error("bdev {0:?} has {LOCKS_MAX} locks, held or waited for: give some back first")]
    TooMany(String),
    /// What was to be locked is not there.
    #[error(
        "bdev {bdev:?}: blocks {start} to {end} cannot be locked: accepted are ranges of at least one of its {num_blocks} blocks"
    )]
    Range {
        /// The bdev.
        bdev: String,
        /// First block.
        start: u64,
        /// First block behind it.
        end: u64,
        /// Its blocks.
        num_blocks: u64,
    },
    /// No range, or more than one lock has.
    #[error("{0} ranges: accepted are 1 to {LOCK_RANGES_MAX}")]
    RangeCount(usize),
}

impl Lock {
    fn new(number: u64, ranges: impl IntoIterator<Item = Range<u64>>, keeps_out: KeepsOut) -> Lock {
        let mut sorted: Vec<Range<u64>> = ranges.into_iter().collect();
        sorted.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Lock { number, ranges: merged.into(), keeps_out, held: AtomicBool::new(false) }
    }

    fn overlaps(&self, other: &Lock) -> bool {
        [self, other].iter().any(|lock| lock.keeps_out == KeepsOut::Everything)
            || other.ranges.iter().any(|range| self.meets(range))
    }

    fn meets(&self, range: &Range<u64>) -> bool {
        self.ranges.iter().any(|own| own.start < range.end && range.start < own.end)
    }

    /// Whether this IO of somebody else has to wait.
    pub(crate) fn bars(&self, io: &Io) -> bool {
        if matches!(io.op, Op::Reset | Op::Abort) {
            return false;
        }
        let reads_too = match self.keeps_out {
            KeepsOut::Everything => return true,
            KeepsOut::ReadsAndWrites => true,
            KeepsOut::Writes => false,
        };
        any_range(io, |range, written| (written || reads_too) && self.meets(&range))
    }

    /// Whether this IO lies inside, so that its owner may do it whoever else holds a lock.
    fn covers(&self, io: &Io) -> bool {
        let inside = |range: &Range<u64>| {
            self.ranges.iter().any(|own| own.start <= range.start && range.end <= own.end)
        };
        !any_range(io, |range, _| !inside(&range))
    }
}

/// Whether `test` is true for a range that this IO touches; with it: whether it is written. The IO was checked: no sum
/// overflows.
fn any_range(io: &Io, mut test: impl FnMut(Range<u64>, bool) -> bool) -> bool {
    if !io.op.has_range() {
        return false;
    }
    if test(io.lba..io.lba + u64::from(io.blocks), io.op.is_write()) {
        return true;
    }
    let source = |CopyRange { lba, blocks }| lba..lba + u64::from(blocks);
    io.op == Op::Copy && CopyRange::all_of(&io.bufs).any(|range| test(source(range), false))
}

impl RangeLock {
    /// True once nothing of others is, or will be, in the ranges. An owner on a reactor is woken when that
    /// comes true, and looks each time it is polled; it costs a load. Never if the bdev is removed before.
    #[inline]
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lock.held.load(Acquire)
    }

    /// The bdev that it is on.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        &self.bdev
    }

    /// Whether this IO on `bdev` is its owner's to do now.
    pub(crate) fn lets_its_owner(&self, bdev: &Arc<Bdev>, io: &Io) -> bool {
        Arc::ptr_eq(&self.bdev, bdev) && self.is_held() && self.lock.covers(io)
    }
}

impl Drop for RangeLock {
    fn drop(&mut self) {
        let mut control = self.bdev.control();
        control.locks.withdraw(self.lock.number);
        self.bdev.enforce_locks(&mut control);
    }
}

impl Bdev {
    /// Locks ranges of blocks, and waits for it, for `patience` at most. Control threads only.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held back then.
    pub fn lock_ranges(
        self: &Arc<Bdev>,
        ranges: &[Range<u64>],
        keeps_out: KeepsOut,
        patience: Duration,
    ) -> Result<RangeLock, LockError> {
        let lock = self.ask_lock(ranges, keeps_out, Waker::Thread)?;
        self.wait_for_lock(lock, patience)
    }

    /// Holds new IO of all channels back and waits until nothing is in the device, for `patience` at most: a lock that
    /// keeps everything out. Control threads only. Everything goes on when what this returns is dropped.
    ///
    /// # Errors
    /// [`LockError`]; nothing is held back then.
    pub fn quiesce(self: &Arc<Bdev>, patience: Duration) -> Result<RangeLock, LockError> {
        let lock = self.enqueue_lock(std::iter::once(0..u64::MAX), KeepsOut::Everything, Waker::Thread);
        self.wait_for_lock(lock, patience)
    }

    /// Asks for a lock after checking what is asked for.
    pub(crate) fn ask_lock(
        self: &Arc<Bdev>,
        ranges: &[Range<u64>],
        keeps_out: KeepsOut,
        waker: Waker,
    ) -> Result<RangeLock, LockError> {
        if !(1..=LOCK_RANGES_MAX).contains(&ranges.len()) {
            return Err(LockError::RangeCount(ranges.len()));
        }
        let num_blocks = self.num_blocks();
        let bad = |range: &&Range<u64>| range.is_empty() || range.end > num_blocks;
        if let Some(&Range { start, end }) = ranges.iter().find(bad) {
            return Err(LockError::Range { bdev: self.name().to_owned(), start, end, num_blocks });
        }
        if self.is_removed() {
            return Err(LockError::Removed(self.name().to_owned()));
        }
        let mut control = self.control();
        if control.locks.len() >= LOCKS_MAX {
            return Err(LockError::TooMany(self.name().to_owned()));
        }
        Ok(self.enqueue(&mut control, ranges.iter().cloned(), keeps_out, waker))
    }

    /// Asks for a lock: for what was checked and is bounded elsewhere.
    pub(crate) fn enqueue_lock(
        self: &Arc<Bdev>,
        ranges: impl IntoIterator<Item = Range<u64>>,
        keeps_out: KeepsOut,
        waker: Waker,
    ) -> RangeLock {
        self.enqueue(&mut self.control(), ranges, keeps_out, waker)
    }

    fn enqueue(
        self: &Arc<Bdev>,
        control: &mut Control,
        ranges: impl IntoIterator<Item = Range<u64>>,
        keeps_out: KeepsOut,
        waker: Waker,
    ) -> RangeLock {
        let lock = control.locks.ask(ranges, keeps_out, waker);
        self.enforce_locks(control);
        RangeLock { bdev: self.clone(), lock }
    }

    fn wait_for_lock(&self, lock: RangeLock, patience: Duration) -> Result<RangeLock, LockError> {
        let deadline = Instant::now() + patience;
        let mut control = self.control();
        let error = loop {
            if self.is_removed() {
                break LockError::Removed(self.name().to_owned());
            }
            if lock.is_held() {
                drop(control);
                return Ok(lock);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = control.why_not_held(&lock.lock);
                break LockError::TimedOut { bdev: self.name().to_owned(), patience, why };
            }
            let waited = self.locks_changed.wait_timeout(control, left);
            control = waited.expect("no thread panics while it holds this mutex").0;
        };
        // Its drop takes the mutex.
        drop(control);
        drop(lock);
        Err(error)
    }

    /// Nothing from before these locks is left of this channel in the device, and nothing in their way will be.
    pub(crate) fn acknowledge_locks(&self, channel: u64, numbers: &[u64]) {
        let mut control = self.control();
        control.locks.acknowledge(channel, numbers);
        self.grant_locks(&mut control);
    }

    /// The locks in force, if they have changed since `version`.
    pub(crate) fn locks_since(&self, version: &mut u64) -> Option<Vec<Arc<Lock>>> {
        if self.locks_version.load(Acquire) == *version {
            return None;
        }
        let control = self.control();
        *version = self.locks_version.load(Acquire);
        Some(control.locks.in_force().cloned().collect())
    }

    /// Called after a request came or went: others may come into force.
    fn enforce_locks(&self, control: &mut Control) {
        let channels = &control.channels;
        if control.locks.enforce(|| channels.iter().map(|channel| channel.id).collect()) {
            self.locks_version.fetch_add(1, Release);
            self.announce(control);
        }
        self.grant_locks(control);
    }

    /// Called after anything that may make a lock held.
    pub(crate) fn grant_locks(&self, control: &mut Control) {
        control.locks.grant(|lock, waker| {
            lock.held.store(true, Release);
            match waker {
                // An empty message, so that a sleeping reactor polls; one whose inbox is full is awake anyway.
                Waker::Channel(reactor, _) => drop(reactor.send(|_| ())),
                Waker::Thread => self.locks_changed.notify_all(),
            }
        });
    }
}

impl Control {
    fn why_not_held(&self, lock: &Lock) -> String {
        if let Some(waker) = self.locks.who_is_before(lock) {
            return format!("{waker} holds a lock that overlaps, or waits for one");
        }
        let loud = |id: &u64| self.channels.iter().find(|channel| channel.id == *id);
        let loud = self.locks.missing(lock.number).iter().filter_map(loud);
        let names: Vec<_> = loud.map(|loud| format!("{} on {}", loud.opener, loud.reactor.id())).collect();
        format!("IO is in flight for {}", names.join(", "))
    }
}
