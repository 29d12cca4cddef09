//! Noticing IO that takes too long, without a table of all IO in flight.
//!
//! Time is cut into slices of a quarter of the timeout. An IO in flight is counted in the slice in which it was
//! submitted (its own time stamp tells which when it completes). What is still counted in a slice that lies a whole
//! timeout back is late. So an IO is reported after 1 to 1.25 times the timeout; the opener knows its own tags and
//! decides what to do.

use std::time::Duration;
use tgt_env::clock::Ticks;

/// Slices per timeout.
const SLICES: u64 = 4;

/// Slices kept: those of one timeout, the current one, and one for what is older than all.
const KEPT: usize = SLICES as usize + 1;

#[derive(Debug)]
pub(crate) struct Timeouts {
    slice: Ticks,
    /// Number of the newest slice, counted from tick zero.
    newest: u64,
    /// IO in flight by slice, at `number % KEPT`.
    counts: [u32; KEPT],
    late: u32,
    reported: u32,
}

impl Timeouts {
    pub(crate) fn new(timeout: Duration, now: Ticks) -> Timeouts {
        let slice = Ticks((Ticks::from_duration(timeout).0 / SLICES).max(1));
        Timeouts { newest: now.0 / slice.0, slice, counts: [0; KEPT], late: 0, reported: 0 }
    }

    pub(crate) fn submitted(&mut self, at: Ticks) {
        self.advance(at);
        *self.count_of(at) += 1;
    }

    pub(crate) fn completed(&mut self, submitted: Ticks) {
        let count = self.count_of(submitted);
        *count -= 1;
        self.reported = self.reported.min(self.late);
    }

    /// How many IOs are late by now, if more than were reported before.
    pub(crate) fn newly_late(&mut self, now: Ticks) -> Option<u32> {
        self.advance(now);
        let more = self.late > self.reported;
        self.reported = self.late;
        more.then_some(self.late)
    }

    /// When to look again.
    pub(crate) fn next_look(&self) -> Ticks {
        Ticks((self.newest + 1).saturating_mul(self.slice.0))
    }

    fn advance(&mut self, now: Ticks) {
        while self.newest < now.0 / self.slice.0 {
            self.newest += 1;
            if self.newest + (KEPT as u64) < now.0 / self.slice.0
                && self.counts.iter().all(|count| *count == 0)
            {
                self.newest = now.0 / self.slice.0;
            }
            let oldest = &mut self.counts[(self.newest % KEPT as u64) as usize];
            self.late += std::mem::take(oldest);
        }
    }

    fn count_of(&mut self, submitted: Ticks) -> &mut u32 {
        // An IO may carry the stamp of a layer above, from before this channel was opened: it is in the oldest slice.
        let number = (submitted.0 / self.slice.0).min(self.newest);
        if number + (KEPT as u64) <= self.newest {
            return &mut self.late;
        }
        &mut self.counts[(number % KEPT as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TIMEOUT: Duration = Duration::from_millis(40);

    fn at(ms: u64) -> Ticks {
        Ticks::from_duration(Duration::from_millis(1_000_000 + ms))
    }

    #[test]
    fn an_io_is_late_after_the_timeout_and_reported_once() {
        let mut timeouts = Timeouts::new(TIMEOUT, at(0));
        timeouts.submitted(at(1));
        assert_eq!(timeouts.newly_late(at(39)), None);
        assert_eq!(timeouts.newly_late(at(52)), Some(1));
        assert_eq!(timeouts.newly_late(at(60)), None);
        timeouts.completed(at(1));
        timeouts.submitted(at(61));
        timeouts.completed(at(61));
        assert_eq!(timeouts.newly_late(at(500)), None);
    }

    /// Against a plain map of everything in flight.
    #[test]
    fn it_agrees_with_a_table_of_all_io() {
        let mut rng = 12345u64;
        let mut random = |below: u64| {
            rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (rng >> 33) % below
        };
        let (mut timeouts, mut table) = (Timeouts::new(TIMEOUT, at(0)), BTreeMap::<u64, u32>::new());
        for now in 0..5_000 {
            if random(3) == 0 {
                timeouts.submitted(at(now));
                *table.entry(now).or_default() += 1;
            }
            if random(4) == 0 && !table.is_empty() {
                let key = *table.keys().nth(random(table.len() as u64) as usize).expect("not empty");
                timeouts.completed(at(key));
                let count = table.get_mut(&key).expect("chosen from the keys");
                *count -= 1;
                table.retain(|_, count| *count > 0);
            }
            let _ = timeouts.newly_late(at(now));
            let older = |ms: u64| table.range(..now.saturating_sub(ms)).map(|(_, count)| count).sum::<u32>();
            let late = timeouts.late;
            assert!(
                older(52) <= late && late <= older(39),
                "{} <= {late} <= {} at {now}",
                older(52),
                older(39)
            );
        }
    }
}
