//! Rate limits: how fast a bdev lets its openers read and write.
//!
//! Each limit is a point in time, the *next* slot: an IO takes the slot and moves it on by what the IO costs at the
//! limit's rate. So over any second the rate is exact, but for [`CATCH_UP`] of credit after a pause. Only the IO at the
//! head of a channel's queue takes a slot: channels take turns, however much each of them has queued. All channels of a
//! bdev share the limits through atomics; there is no lock and no reactor of its own.
//!
//! Range locks stand behind the limits: IO that a lock holds back has taken its slot, and does not take another when the
//! lock goes. IO that is stopped while it waits has spent its slot. Operations without data (unmap, flush, …) are not limited, as
//! in SPDK.

use crate::io::{Io, Op, Tag};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tgt_env::clock::{Ticks, tick_rate};

/// Bytes in a megabyte, as SPDK counts them.
const MEGABYTE: u64 = 1 << 20;

/// How far a limit may lie behind the clock: what a late wake-up of a reactor does not lose. At most so much of a
/// second's worth is let through in one go after a pause.
const CATCH_UP: Duration = Duration::from_millis(5);

/// IOs that may wait for a slot on one channel; beyond that the opener gets its IO back.
const QUEUE_MAX: usize = 4096;

/// Limits of a bdev; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RateLimits {
    /// Reads and writes a second.
    pub rw_ios_per_sec: u64,
    /// Megabytes (2^20 bytes) read and written a second.
    pub rw_mbytes_per_sec: u64,
    /// Megabytes read a second.
    pub r_mbytes_per_sec: u64,
    /// Megabytes written a second.
    pub w_mbytes_per_sec: u64,
}

impl RateLimits {
    /// True if there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != RateLimits::default()
    }
}

/// The limits of one bdev, shared by its channels.
#[derive(Debug, Default)]
pub(crate) struct Qos {
    rw_ios: Limit,
    rw_bytes: Limit,
    r_bytes: Limit,
    w_bytes: Limit,
}

impl Qos {
    /// Control threads. Slots are given out afresh.
    pub(crate) fn set(&self, limits: RateLimits) {
        let now = Ticks::now();
        self.rw_ios.set(limits.rw_ios_per_sec, now);
        self.rw_bytes.set(limits.rw_mbytes_per_sec.saturating_mul(MEGABYTE), now);
        self.r_bytes.set(limits.r_mbytes_per_sec.saturating_mul(MEGABYTE), now);
        self.w_bytes.set(limits.w_mbytes_per_sec.saturating_mul(MEGABYTE), now);
    }

    pub(crate) fn limits(&self) -> RateLimits {
        let megabytes = |limit: &Limit| limit.per_second.load(Relaxed) / MEGABYTE;
        RateLimits {
            rw_ios_per_sec: self.rw_ios.per_second.load(Relaxed),
            rw_mbytes_per_sec: megabytes(&self.rw_bytes),
            r_mbytes_per_sec: megabytes(&self.r_bytes),
            w_mbytes_per_sec: megabytes(&self.w_bytes),
        }
    }

    /// Takes a slot of each limit that applies; the IO may go at the time given back.
    fn take_slot(&self, op: Op, bytes: u64, now: Ticks) -> Ticks {
        let direction = if op.is_write() { &self.w_bytes } else { &self.r_bytes };
        let slots = [(&self.rw_ios, 1), (&self.rw_bytes, bytes), (direction, bytes)];
        slots.into_iter().map(|(limit, units)| limit.take_slot(units, now)).max().unwrap_or(now)
    }
}

/// One limit.
#[derive(Debug, Default)]
struct Limit {
    /// 0: none.
    per_second: AtomicU64,
    /// When the next unit may go, in ticks.
    next: AtomicU64,
}

impl Limit {
    fn set(&self, per_second: u64, now: Ticks) {
        self.next.store(now.0, Relaxed);
        self.per_second.store(per_second, Relaxed);
    }

    fn take_slot(&self, units: u64, now: Ticks) -> Ticks {
        let per_second = self.per_second.load(Relaxed);
        if per_second == 0 {
            return now;
        }
        let cost = u128::from(units) * u128::from(tick_rate()) / u128::from(per_second);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let oldest = now.0.saturating_sub(Ticks::from_duration(CATCH_UP).0);
        let after = |next: u64| Some(next.max(oldest).saturating_add(cost));
        let slot = self.next.fetch_update(Relaxed, Relaxed, after).unwrap_or_else(|same| same);
        Ticks(slot.max(oldest))
    }
}

/// What of one channel waits for a slot, in order of arrival.
#[derive(Debug)]
pub(crate) struct Gate {
    qos: Arc<Qos>,
    block_size: u64,
    queue: VecDeque<Io>,
    /// The slot that the head of the queue has taken.
    head_may_go: Option<Ticks>,
}

/// What the gate says about its head.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing waits.
    Empty,
    /// Not before this.
    At(Ticks),
    /// This one may go.
    Go(Io),
}

impl Gate {
    pub(crate) fn new(qos: Arc<Qos>, block_size: u32) -> Gate {
        Gate { qos, block_size: block_size.into(), queue: VecDeque::new(), head_may_go: None }
    }

    /// Takes an IO in, or gives it back if too many wait.
    pub(crate) fn enter(&mut self, io: Io) -> Result<(), Io> {
        if self.queue.len() >= QUEUE_MAX {
            return Err(io);
        }
        self.queue.push_back(io);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The limits have changed: a slot of before means nothing.
    pub(crate) fn forget_slot(&mut self) {
        self.head_may_go = None;
    }

    pub(crate) fn next(&mut self, now: Ticks) -> Next {
        let Some(head) = self.queue.front() else { return Next::Empty };
        let bytes = u64::from(head.blocks) * self.block_size;
        let at = *self.head_may_go.get_or_insert_with(|| self.qos.take_slot(head.op, bytes, now));
        if at > now {
            return Next::At(at);
        }
        self.head_may_go = None;
        self.queue.pop_front().map_or(Next::Empty, Next::Go)
    }

    /// Puts back at the head what could not go on; its slot stays taken.
    pub(crate) fn put_back(&mut self, io: Io, now: Ticks) {
        self.queue.push_front(io);
        self.head_may_go = Some(now);
    }

    /// Takes the IO with this tag out.
    pub(crate) fn remove(&mut self, tag: Tag) -> Option<Io> {
        let index = self.queue.iter().position(|io| io.tag == tag && !io.child)?;
        if index == 0 {
            self.head_may_go = None;
        }
        self.queue.remove(index)
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Io> + '_ {
        self.head_may_go = None;
        self.queue.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(start: Ticks, elapsed: Duration) -> Ticks {
        start + Ticks::from_duration(elapsed)
    }

    /// Lets IO of `bytes` through whenever it may go, looking every `turn`; how many went within two seconds.
    fn let_through(qos: &Qos, op: Op, bytes: u64, turn: Duration) -> u64 {
        let start = Ticks::now();
        let (mut gone, mut slot) = (0, None);
        for step in 0..(2 * SECOND.as_nanos() / turn.as_nanos()) as u32 {
            let now = at(start, turn * step);
            while *slot.get_or_insert_with(|| qos.take_slot(op, bytes, now)) <= now {
                (gone, slot) = (gone + 1, None);
            }
        }
        gone
    }

    fn close(got: u64, want: u64) -> bool {
        got.abs_diff(want) * 100 <= want
    }

    #[test]
    fn each_limit_lets_its_rate_through_however_seldom_it_is_looked_at() {
        for turn in [Duration::from_micros(3), Duration::from_micros(130), Duration::from_millis(4)] {
            for (limits, op, bytes, per_second) in [
                (RateLimits { rw_ios_per_sec: 20_000, ..Default::default() }, Op::Read, 512, 20_000),
                (RateLimits { rw_ios_per_sec: 1, ..Default::default() }, Op::Write, 512, 1),
                (RateLimits { rw_mbytes_per_sec: 10, ..Default::default() }, Op::Read, 4096, 2560),
                (RateLimits { r_mbytes_per_sec: 1, ..Default::default() }, Op::Read, 1 << 16, 16),
                (RateLimits { w_mbytes_per_sec: 100, ..Default::default() }, Op::Write, 4096, 25_600),
            ] {
                let qos = Qos::default();
                qos.set(limits);
                let gone = let_through(&qos, op, bytes, turn);
                // Two seconds, and the first goes at once.
                let expect = 2 * per_second;
                assert!(
                    close(gone, expect) || gone.abs_diff(expect) <= 1,
                    "{limits:?}, turns of {turn:?}: {gone} of {expect}"
                );
            }
        }
    }

    #[test]
    fn a_limit_for_one_direction_leaves_the_other_alone() {
        let qos = Qos::default();
        qos.set(RateLimits { w_mbytes_per_sec: 1, ..RateLimits::default() });
        let now = Ticks::now();
        for _ in 0..100 {
            assert_eq!(qos.take_slot(Op::Read, 1 << 20, now), now);
        }
        qos.take_slot(Op::Write, 1 << 20, now);
        assert!(qos.take_slot(Op::Write, 1 << 20, now) > now);
    }

    #[test]
    fn a_pause_is_not_made_up_for_beyond_the_credit() {
        let qos = Qos::default();
        qos.set(RateLimits { rw_ios_per_sec: 10_000, ..RateLimits::default() });
        let later = at(Ticks::now(), 60 * SECOND);
        let at_once = (0..1000).take_while(|_| qos.take_slot(Op::Read, 512, later) <= later).count();
        assert!((50..=51).contains(&at_once), "5 ms at 10,000 a second are 50, not {at_once}");
    }
}
