//! A reactor's accounts, written by its thread alone and readable by any.

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use tgt_env::clock::Ticks;

/// Counters of one reactor since it started. Each is exact; two of them read one after the other may be a turn apart.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ReactorStats {
    busy: AtomicU64,
    idle: AtomicU64,
    turns: AtomicU64,
    sleeps: AtomicU64,
    asleep: AtomicBool,
    stopped: AtomicBool,
    thread_id: AtomicU32,
    /// Idle ticks before it sleeps; may be changed at any time. `u64::MAX`: it never sleeps.
    pub(crate) spin: AtomicU64,
}

/// A copy of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Ticks spent in turns that did something.
    pub busy: Ticks,
    /// Ticks spent in turns that did nothing, sleep included.
    pub idle: Ticks,
    /// Turns.
    pub turns: u64,
    /// Times it went to sleep in the kernel.
    pub sleeps: u64,
    /// Whether it sleeps right now.
    pub asleep: bool,
    /// Kernel thread id.
    pub thread_id: u32,
}

impl ReactorStats {
    pub(crate) fn with_spin(spin: Ticks) -> ReactorStats {
        ReactorStats { spin: AtomicU64::new(spin.0), ..ReactorStats::default() }
    }

    /// Reads them all.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            busy: Ticks(self.busy.load(Relaxed)),
            idle: Ticks(self.idle.load(Relaxed)),
            turns: self.turns.load(Relaxed),
            sleeps: self.sleeps.load(Relaxed),
            asleep: self.asleep.load(Relaxed),
            thread_id: self.thread_id.load(Relaxed),
        }
    }

    /// Books a turn that took `spent`.
    #[inline]
    pub(crate) fn book_turn(&self, busy: bool, spent: Ticks) {
        let account = if busy { &self.busy } else { &self.idle };
        add(account, spent.0);
        add(&self.turns, 1);
    }

    pub(crate) fn fell_asleep(&self) {
        add(&self.sleeps, 1);
        self.asleep.store(true, Relaxed);
    }

    pub(crate) fn woke(&self) {
        self.asleep.store(false, Relaxed);
    }

    pub(crate) fn set_stopped(&self) {
        self.stopped.store(true, Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }

    pub(crate) fn set_thread_id(&self, id: u32) {
        self.thread_id.store(id, Relaxed);
    }
}

/// Adds to a counter that only this thread writes: a plain load and store, no locked instruction.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}
