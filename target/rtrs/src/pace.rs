//! How much data a connection has under way: on a path that is slow, not so much that beats are late.
//!
//! Beats go before data that waits, and cannot go before data that a socket has. What a socket takes is no measure: it takes
//! megabytes, of which a path of some Mbit/s brings one in seconds. So both sides look from time to time at what the peer's
//! host has acknowledged. While data would take longer than `LATE` to get there, little is put behind it; on any
//! other path there is no limit here.

use crate::Now;

/// Data takes too long if it takes longer, ns: half of the usual detection time.
const LATE: Now = 325_000_000;
/// Rates are taken over at least this time, ns.
const SPAN: Now = 200_000_000;
/// However slow a path is, the next frame is queued while less than this is under way, bytes.
pub const FLOOR: u64 = 64 << 10;
/// A limit beyond this is none.
const ENOUGH: u64 = 1 << 30;

/// What a connection may send. Counts bytes from the connection's start.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    floor: u64,
    acknowledged: u64,
    /// What was queued and acknowledged then.
    mark: Option<(Now, u64, u64)>,
    /// Most bytes under way; `None`: as many as the socket takes.
    limit: Option<u64>,
}

impl Pace {
    /// No limit until data proves slow. `floor`: the lowest limit, bytes; [`FLOOR`] but for tests.
    #[must_use]
    pub const fn new(floor: u64) -> Self {
        Self { floor, acknowledged: 0, mark: None, limit: None }
    }

    /// What was queued so far, and how much of it the peer's host has acknowledged.
    pub fn look(&mut self, now: Now, queued: u64, acknowledged: u64) {
        self.acknowledged = self.acknowledged.max(acknowledged);
        let Some((then, queued_then, acknowledged_then)) = self.mark else {
            self.mark = Some((now, queued, acknowledged));
            return;
        };
        let span = now.saturating_sub(then);
        if span < SPAN {
            return;
        }
        self.mark = Some((now, queued, acknowledged));
        if acknowledged >= queued_then {
            // Whatever was under way then is there.
            self.limit = None;
            return;
        }
        let passed = u128::from(acknowledged - acknowledged_then.min(acknowledged));
        let under_way = u128::from(queued.saturating_sub(acknowledged));
        self.limit = if under_way * u128::from(span) > passed * u128::from(LATE) {
            let in_time = passed * u128::from(LATE) / u128::from(span);
            Some(u64::try_from(in_time).unwrap_or(ENOUGH).max(self.floor))
        } else {
            // On its way to none, if more under way brings more there.
            self.limit.map(|limit| limit * 2).filter(|&limit| limit < ENOUGH)
        };
    }

    /// May one more frame with data be queued, after so many bytes were?
    #[must_use]
    pub fn admits(&self, queued: u64) -> bool {
        self.limit.is_none_or(|limit| queued.saturating_sub(self.acknowledged) < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Now = 1_000_000;

    /// A path that passes `rate` bytes a millisecond and tells of it `delay` ms later, always as full as pace and `socket` allow, for
    /// a minute. Returns the most that was under way in its second half, and what got there.
    fn run(rate: u64, delay: usize, frame: u64, socket: u64) -> (u64, u64) {
        let mut pace = Pace::new(FLOOR);
        let (mut queued, mut there, mut known, mut most) = (0, 0, 0, 0);
        let mut told = std::collections::VecDeque::from(vec![0; delay]);
        for ms in 0..60_000 {
            while pace.admits(queued) && queued - known < socket {
                queued += frame;
            }
            there = queued.min(there + rate);
            told.push_back(there);
            known = told.pop_front().expect("as long as the path");
            if ms % 100 == 0 {
                pace.look(ms * MS, queued, known);
            }
            if ms > 30_000 {
                most = most.max(queued - there);
            }
        }
        (most, there)
    }

    /// What a socket takes at least: a mebibyte is queued, and what the system has room for.
    const SOCKET: u64 = 5 << 19;

    #[test]
    fn a_fast_path_gets_all_it_can_take_however_long_it_is() {
        for (rate, delay) in [(1_250_000, 0), (125_000, 1), (125_000, 100), (12_500, 250)] {
            let (_, there) = run(rate, delay, 1 << 20, 2 * delay as u64 * rate + SOCKET);
            assert!(there >= rate * 57_000, "{rate} bytes/ms over {delay} ms: {there} in a minute");
        }
    }

    #[test]
    fn a_slow_path_has_one_frame_and_little_more_under_way_and_is_seldom_empty() {
        for rate in [125, 500, 1250] {
            let (most, there) = run(rate, 1, 1 << 20, SOCKET);
            assert!(most <= (1 << 20) + FLOOR.max(rate * 700), "{rate} bytes/ms: {most} under way");
            assert!(there >= rate * 54_000, "{rate} bytes/ms: {there} in a minute");
        }
    }

    #[test]
    fn small_frames_fill_a_slow_path_and_are_not_late_for_long() {
        for rate in [700, 1250, 5000] {
            let (most, there) = run(rate, 1, 4096, SOCKET);
            assert!(most <= rate * 800, "{rate} bytes/ms: {most} under way");
            assert!(there >= rate * 57_000, "{rate} bytes/ms: {there} in a minute");
        }
    }

    #[test]
    fn a_burst_after_silence_is_not_mistaken_for_a_slow_path() {
        let mut pace = Pace::new(FLOOR);
        pace.look(0, 100, 100);
        pace.look(1000 * MS, 5 << 20, 100);
        assert!(pace.admits(5 << 20), "it was queued this moment");
    }
}
