//! IO accounts: written by the reactor that does the IO, read by any thread.
//!
//! One [`ChannelStats`] per io channel. Its counters are atomics with a single writer, so adding is a plain load and
//! store. A reset from a control thread only raises a generation; the channel zeroes its own counters when it sees
//! that, and a reader takes counters of an older generation for zero.

use crate::io::{Done, Op};
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use tgt_env::clock::Ticks;
use tgt_status::IoStatus;

/// Operations that have accounts of their own, in SPDK's order.
const ACCOUNTS: usize = 4;

/// Latencies are kept for these operations; the others are not counted, as in SPDK.
#[inline]
const fn account_of(op: Op) -> Option<usize> {
    match op {
        // Told apart by their numbers, not by a table: they are most of all IO.
        Op::Read | Op::Write => Some(op as usize),
        Op::Unmap => Some(2),
        Op::Copy => Some(3),
        Op::WriteZeroes | Op::Flush | Op::Reset | Op::Abort | Op::Compare | Op::CompareAndWrite => None,
    }
}

/// Totals of one kind of operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpStats {
    /// Operations that succeeded.
    pub ops: u64,
    /// Blocks they moved.
    pub blocks: u64,
    /// Sum of their latencies.
    pub ticks: Ticks,
    /// Longest latency.
    pub ticks_max: Ticks,
    /// Shortest latency; zero if there was none.
    pub ticks_min: Ticks,
}

/// Totals of a bdev or of one of its channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Reads.
    pub read: OpStats,
    /// Writes.
    pub write: OpStats,
    /// Unmaps.
    pub unmap: OpStats,
    /// Copies.
    pub copy: OpStats,
    /// How often each failure occurred.
    pub errors: Vec<(IoStatus, u64)>,
}

/// What a reset forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetMode {
    /// Everything.
    All,
    /// Longest and shortest latencies.
    MaxMin,
    /// Failures.
    Errors,
}

impl OpStats {
    fn add(&mut self, other: &OpStats) {
        self.ops += other.ops;
        self.blocks += other.blocks;
        self.ticks = self.ticks + other.ticks;
        self.ticks_max = self.ticks_max.max(other.ticks_max);
        self.ticks_min = match (self.ticks_min, other.ticks_min) {
            (Ticks::ZERO, ticks) | (ticks, Ticks::ZERO) => ticks,
            (a, b) => a.min(b),
        };
    }
}

impl IoStats {
    /// Adds another's totals.
    pub fn add(&mut self, other: &IoStats) {
        self.read.add(&other.read);
        self.write.add(&other.write);
        self.unmap.add(&other.unmap);
        self.copy.add(&other.copy);
        for (status, count) in &other.errors {
            match self.errors.iter_mut().find(|(known, _)| known == status) {
                Some((_, sum)) => *sum += count,
                None => self.errors.push((*status, *count)),
            }
        }
    }

    /// Forgets longest and shortest latencies.
    pub(crate) fn forget_max_min(&mut self) {
        for op in [&mut self.read, &mut self.write, &mut self.unmap, &mut self.copy] {
            (op.ticks_max, op.ticks_min) = (Ticks::ZERO, Ticks::ZERO);
        }
    }
}

/// Which reset a channel's counters have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) all: u32,
    pub(crate) max_min: u32,
    pub(crate) errors: u32,
}

/// Counters of one io channel.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct ChannelStats {
    accounts: [Account; ACCOUNTS],
    /// Failures by status, in the order of `IoStatus::ALL`; the last is for statuses that devices made up.
    errors: Vec<AtomicU64>,
    /// IOs in flight, written down only while queue depths are sampled.
    depth: AtomicU32,
    generation_all: AtomicU32,
    generation_max_min: AtomicU32,
    generation_errors: AtomicU32,
}

#[derive(Debug)]
struct Account {
    ops: AtomicU64,
    blocks: AtomicU64,
    ticks: AtomicU64,
    ticks_max: AtomicU64,
    ticks_min: AtomicU64,
}

impl Account {
    const fn new() -> Account {
        Account {
            ops: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            ticks_max: AtomicU64::new(0),
            ticks_min: AtomicU64::new(u64::MAX),
        }
    }

    #[inline]
    fn book(&self, blocks: u32, latency: Ticks) {
        add(&self.ops, 1);
        add(&self.blocks, u64::from(blocks));
        add(&self.ticks, latency.0);
        if latency.0 > self.ticks_max.load(Relaxed) {
            self.ticks_max.store(latency.0, Relaxed);
        }
        if latency.0 < self.ticks_min.load(Relaxed) {
            self.ticks_min.store(latency.0, Relaxed);
        }
    }

    fn forget_max_min(&self) {
        self.ticks_max.store(0, Relaxed);
        self.ticks_min.store(u64::MAX, Relaxed);
    }

    fn clear(&self) {
        self.forget_max_min();
        [&self.ops, &self.blocks, &self.ticks].into_iter().for_each(|counter| counter.store(0, Relaxed));
    }

    fn snapshot(&self) -> OpStats {
        let min = self.ticks_min.load(Relaxed);
        OpStats {
            ops: self.ops.load(Relaxed),
            blocks: self.blocks.load(Relaxed),
            ticks: Ticks(self.ticks.load(Relaxed)),
            ticks_max: Ticks(self.ticks_max.load(Relaxed)),
            ticks_min: Ticks(if min == u64::MAX { 0 } else { min }),
        }
    }
}

impl ChannelStats {
    pub(crate) fn new(generation: Generation) -> ChannelStats {
        ChannelStats {
            accounts: [const { Account::new() }; ACCOUNTS],
            errors: (0..=IoStatus::ALL.len()).map(|_| AtomicU64::new(0)).collect(),
            depth: AtomicU32::new(0),
            generation_all: AtomicU32::new(generation.all),
            generation_max_min: AtomicU32::new(generation.max_min),
            generation_errors: AtomicU32::new(generation.errors),
        }
    }

    /// Reactor: books a completion that was noticed at `now`.
    #[inline]
    pub(crate) fn book(&self, done: &Done, now: Ticks) {
        if !done.status.is_ok() {
            return self.book_error(done.status);
        }
        if let Some(account) = account_of(done.op) {
            self.accounts[account].book(done.blocks, now - done.submitted);
        }
    }

    /// Reactor: so many IOs are in flight.
    #[inline]
    pub(crate) fn note_depth(&self, in_flight: u32) {
        self.depth.store(in_flight, Relaxed);
    }

    /// Any thread: IOs in flight when the reactor last looked.
    pub(crate) fn depth(&self) -> u32 {
        self.depth.load(Relaxed)
    }

    #[cold]
    fn book_error(&self, status: IoStatus) {
        let known = IoStatus::ALL.iter().position(|known| *known == status);
        add(&self.errors[known.unwrap_or(IoStatus::ALL.len())], 1);
    }

    /// Reactor: obeys resets that were asked for since the last call.
    pub(crate) fn catch_up(&self, generation: Generation) {
        if self.generation_all.load(Relaxed) != generation.all {
            self.accounts.iter().for_each(Account::clear);
            self.clear_errors();
        } else if self.generation_max_min.load(Relaxed) != generation.max_min {
            self.accounts.iter().for_each(Account::forget_max_min);
        }
        if self.generation_errors.load(Relaxed) != generation.errors {
            self.clear_errors();
        }
        self.generation_all.store(generation.all, Release);
        self.generation_max_min.store(generation.max_min, Release);
        self.generation_errors.store(generation.errors, Release);
    }

    /// Any thread: the totals since the last reset.
    pub(crate) fn snapshot(&self, generation: Generation) -> IoStats {
        if self.generation_all.load(Acquire) != generation.all {
            return IoStats::default();
        }
        let [read, write, unmap, copy] = std::array::from_fn(|account| self.accounts[account].snapshot());
        let mut stats = IoStats { read, write, unmap, copy, errors: self.error_counts() };
        if self.generation_max_min.load(Acquire) != generation.max_min {
            stats.forget_max_min();
        }
        if self.generation_errors.load(Acquire) != generation.errors {
            stats.errors.clear();
        }
        stats
    }

    fn clear_errors(&self) {
        self.errors.iter().for_each(|counter| counter.store(0, Relaxed));
    }

    fn error_counts(&self) -> Vec<(IoStatus, u64)> {
        let statuses = IoStatus::ALL.iter().copied().chain([IoStatus::INTERNAL]);
        let mut stats = IoStats::default();
        for (status, count) in statuses.zip(&self.errors) {
            let count = count.load(Relaxed);
            if count > 0 {
                stats.add(&IoStats { errors: vec![(status, count)], ..IoStats::default() });
            }
        }
        stats.errors
    }
}

/// Adds to a counter that only this thread writes.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Io, Tag};
    use tgt_env::bufs::Bufs;

    fn book(stats: &ChannelStats, op: Op, latency: u64, status: IoStatus) {
        let mut io = Io::new(op, Tag(0), 0, 8, Bufs::none());
        io.submitted = Ticks(1000);
        let done = io.complete(status);
        stats.book(&done, Ticks(1000 + latency));
        let _ = done.finish();
    }

    #[test]
    fn sums_extremes_and_failures_are_counted_apart() {
        let stats = ChannelStats::new(Generation::default());
        book(&stats, Op::Read, 5, IoStatus::SUCCESS);
        book(&stats, Op::Read, 9, IoStatus::SUCCESS);
        book(&stats, Op::Write, 3, IoStatus::SUCCESS);
        book(&stats, Op::Write, 99, IoStatus::WRITE_FAULT);
        book(&stats, Op::Flush, 1, IoStatus::SUCCESS);
        let seen = stats.snapshot(Generation::default());
        let (ticks, ticks_max, ticks_min) = (Ticks(14), Ticks(9), Ticks(5));
        assert_eq!(seen.read, OpStats { ops: 2, blocks: 16, ticks, ticks_max, ticks_min });
        assert_eq!((seen.write.ops, seen.write.ticks), (1, Ticks(3)));
        assert_eq!(seen.unmap, OpStats::default());
        assert_eq!(seen.errors, [(IoStatus::WRITE_FAULT, 1)]);
    }

    #[test]
    fn a_reset_is_visible_before_the_channel_has_noticed_it() {
        let stats = ChannelStats::new(Generation::default());
        book(&stats, Op::Read, 5, IoStatus::SUCCESS);
        let max_min = Generation { all: 0, max_min: 1, errors: 0 };
        let seen = stats.snapshot(max_min);
        assert_eq!((seen.read.ops, seen.read.ticks_max, seen.read.ticks_min), (1, Ticks(0), Ticks(0)));
        let all = Generation { all: 1, max_min: 1, errors: 0 };
        assert_eq!(stats.snapshot(all), IoStats::default());
        stats.catch_up(all);
        book(&stats, Op::Read, 7, IoStatus::SUCCESS);
        let seen = stats.snapshot(all);
        assert_eq!((seen.read.ops, seen.read.ticks_max, seen.read.ticks_min), (1, Ticks(7), Ticks(7)));
    }

    #[test]
    fn failures_are_forgotten_alone() {
        let stats = ChannelStats::new(Generation::default());
        book(&stats, Op::Read, 5, IoStatus::SUCCESS);
        book(&stats, Op::Read, 5, IoStatus::WRITE_FAULT);
        let errors = Generation { errors: 1, ..Generation::default() };
        let seen = stats.snapshot(errors);
        assert_eq!((seen.read.ops, seen.errors.len()), (1, 0));
        stats.catch_up(errors);
        book(&stats, Op::Read, 5, IoStatus::ABORTED);
        assert_eq!(stats.snapshot(errors).errors, [(IoStatus::ABORTED, 1)]);
    }

    #[test]
    fn joining_two_channels_takes_the_extremes_of_both() {
        let mut a =
            IoStats { read: OpStats { ticks_min: Ticks(4), ..OpStats::default() }, ..IoStats::default() };
        a.add(&IoStats { read: OpStats { ticks_min: Ticks(0), ..OpStats::default() }, ..IoStats::default() });
        assert_eq!(a.read.ticks_min, Ticks(4), "no read at all is not the shortest");
    }
}
