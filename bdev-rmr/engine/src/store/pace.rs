//! How fast chunks are copied: the limit, the room left to clients, and what there is to tell of it.

use super::Store;
use crate::{Now, ResyncLimits};

const SECOND: Now = 1_000_000_000;

/// Limits and counts of resync.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Pace {
    limits: ResyncLimits,
    /// When a client last wanted something; `None` = never.
    client_at: Option<Now>,
    next_start: Now,
    copied_bytes: u64,
    pub(super) overwritten_bytes: u64,
    pub(super) rewritten: u64,
    pub(super) sources_failed: u64,
    /// Since when `measured` counts.
    measured_at: Now,
    measured: u64,
    rate: u64,
}

/// How resync stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Resync {
    /// Not clean here, bytes.
    pub dirty_bytes: u64,
    /// Copied from peers since the store was opened, bytes.
    pub copied_bytes: u64,
    /// Not copied because a write covered the whole chunk, bytes.
    pub overwritten_bytes: u64,
    /// Chunks that could not be read here and were written again from a peer.
    pub rewritten: u64,
    /// Times that a peer could not read what it was asked for.
    pub sources_failed: u64,
    /// Chunks that nobody could deliver when it was last tried; they are tried again, ever less often.
    pub waiting: usize,
    /// Speed of late, bytes a second.
    pub bytes_per_sec: u64,
    /// Time left at that speed, ns; `None` = nothing is being copied, or there is nothing to copy.
    pub eta_ns: Option<Now>,
}

impl Pace {
    pub(super) fn new(limits: ResyncLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A client wants something.
    pub(super) fn client_io(&mut self, now: Now) {
        self.client_at = Some(now);
    }

    fn is_busy(&self, now: Now) -> bool {
        self.client_at.is_some_and(|at| now < at + self.limits.busy_ns)
    }

    /// How many chunks may be copied at a time.
    pub(super) fn depth(&self, now: Now, most: usize) -> usize {
        if self.is_busy(now) { most.min(1) } else { most }
    }

    pub(super) fn may_start(&self, now: Now) -> bool {
        now >= self.next_start
    }

    /// A copy starts. What was not used of the limit is kept for one tick, no longer.
    pub(super) fn started(&mut self, now: Now, bytes: u64, tick_ns: Now) {
        if self.limits.bytes_per_sec > 0 {
            let from = self.next_start.max(now.saturating_sub(tick_ns));
            self.next_start = from + time_of(bytes, self.limits.bytes_per_sec);
        }
    }

    /// A copy that began at `began` is over: while clients are busy it is followed by a pause in proportion.
    pub(super) fn copied(&mut self, now: Now, began: Now, bytes: u64) {
        self.copied_bytes += bytes;
        self.measured += bytes;
        if self.is_busy(now) {
            let share = u64::from(self.limits.busy_share_pct.clamp(1, 100));
            let pause = (now - began) * (100 - share) / share;
            let longest = time_of(bytes, self.limits.min_bytes_per_sec.max(1));
            self.next_start = self.next_start.max((now + pause).min(began + longest));
        }
    }

    /// Takes the speed now and then.
    pub(super) fn tick(&mut self, now: Now) {
        let elapsed = now.saturating_sub(self.measured_at);
        if elapsed >= SECOND {
            let rate = (u128::from(self.measured) * u128::from(SECOND) / u128::from(elapsed)) as u64;
            self.rate = if self.rate == 0 { rate } else { (self.rate + rate) / 2 };
            (self.measured_at, self.measured) = (now, 0);
        }
    }
}

/// How long `bytes` take at `rate` bytes a second, ns.
fn time_of(bytes: u64, rate: u64) -> Now {
    (u128::from(bytes) * u128::from(SECOND) / u128::from(rate)).min(u128::from(Now::MAX / 4)) as Now
}

impl Store {
    /// Sets how fast chunks are copied, from now on.
    pub fn set_resync_limits(&mut self, limits: ResyncLimits) {
        self.config.resync = limits;
        self.copies.pace.limits = limits;
        self.copies.pace.next_start = 0;
    }

    /// How resync stands.
    pub fn resync(&self) -> Resync {
        let pace = &self.copies.pace;
        let geometry = self.geometry();
        let whole = self.dirty_chunks() << (geometry.chunk_shift() + geometry.block_shift());
        let dirty_bytes = whole.min(geometry.blocks() << geometry.block_shift());
        let known = dirty_bytes > 0 && pace.rate > 0;
        Resync {
            dirty_bytes,
            copied_bytes: pace.copied_bytes,
            overwritten_bytes: pace.overwritten_bytes,
            rewritten: pace.rewritten,
            sources_failed: pace.sources_failed,
            waiting: self.copies.waiting(),
            bytes_per_sec: pace.rate,
            eta_ns: known.then(|| time_of(dirty_bytes, pace.rate)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Now = 1_000_000;
    const CHUNK: u64 = 1 << 20;

    /// Starts a copy whenever it may, each taking `copy_ns`, one at a time; bytes copied in a second come back.
    fn in_a_second(pace: &mut Pace, copy_ns: Now, clients: bool) -> u64 {
        let (mut now, before) = (SECOND, pace.copied_bytes);
        while now < 2 * SECOND {
            if clients {
                pace.client_io(now);
            }
            if pace.may_start(now) {
                pace.started(now, CHUNK, 10 * MS);
                pace.copied(now + copy_ns, now, CHUNK);
                now += copy_ns;
            } else {
                now += MS;
            }
        }
        pace.copied_bytes - before
    }

    #[test]
    fn the_limit_holds_and_no_limit_is_none() {
        let limits = ResyncLimits { bytes_per_sec: 20 * CHUNK, ..ResyncLimits::default() };
        let copied = in_a_second(&mut Pace::new(limits), MS, false);
        assert!((19 * CHUNK..=22 * CHUNK).contains(&copied), "{copied} bytes copied");
        let free = in_a_second(&mut Pace::new(ResyncLimits { bytes_per_sec: 0, ..limits }), MS, false);
        assert_eq!(free, 1000 * CHUNK);
    }

    #[test]
    fn copies_leave_most_of_the_time_to_busy_clients_and_never_starve() {
        let limits = ResyncLimits {
            bytes_per_sec: 0,
            min_bytes_per_sec: 2 * CHUNK,
            busy_share_pct: 25,
            ..ResyncLimits::default()
        };
        let copied = in_a_second(&mut Pace::new(limits), 2 * MS, true);
        assert!((120 * CHUNK..=130 * CHUNK).contains(&copied), "a quarter of 500 copies: {copied}");
        let copied = in_a_second(&mut Pace::new(limits), 400 * MS, true);
        assert!(copied >= 2 * CHUNK, "the least speed: {copied}");
    }
}
