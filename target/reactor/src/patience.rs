//! How long an idle reactor polls before it sleeps.
//!
//! Polling on saves a sleep and a wake-up if what is waited for comes soon; if it does not, the same time is lost, on a
//! core that others may want. So whoever was disappointed a few times in a row sleeps at once, until something
//! comes so soon that polling would have met it. As a slow wake-up hides that, it polls once in a while all the same.
//! A thread that loses its core shares it with somebody: it sleeps at once for a while, longer each time, because
//! whoever sleeps gets the core back sooner than whoever has used up its time.
//!
//! ```text
//!           VAIN_MAX idle times in a row that were longer than the longest spin
//!   polls ──────────────────────────────────────────────────────────────────────▶ sleeps at once
//!     ◀───────────── one that was not; work found in the spin of every PROBE-th ─────────┘
//! ```

use std::time::Duration;
use tgt_env::clock::Ticks;

/// Disappointments in a row that are borne: single long pauses between short ones are no reason to sleep at once.
const VAIN_MAX: u32 = 3;

/// Of so many idle times of one who sleeps at once, one is polled through.
const PROBE: u32 = 64;

/// A turn takes microseconds; if it took longer than this, the scheduler had given the core to others.
const HOLE: Duration = Duration::from_millis(1);

/// How long the core counts as shared after a hole: at first, and after many.
const CROWDED: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3)];

/// One reactor's experience.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Idle times in a row that outlasted the longest spin.
    in_vain: u32,
    /// Until then the core counts as shared.
    crowded_until: Ticks,
    /// How long it did the last time.
    crowded_for: Ticks,
    /// The reactor has been idle and polled since the last work.
    spun: bool,
    hole: Ticks,
    crowded: [Ticks; 2],
}

impl Patience {
    pub(crate) fn new() -> Patience {
        let crowded = CROWDED.map(Ticks::from_duration);
        let hole = Ticks::from_duration(HOLE);
        Patience {
            in_vain: 0,
            crowded_until: Ticks::ZERO,
            crowded_for: crowded[0],
            spun: false,
            hole,
            crowded,
        }
    }

    /// Whether to sleep as soon as there is nothing to do; `longest`: the longest spin that is wanted.
    pub(crate) fn sleeps_at_once(&self, longest: Ticks, now: Ticks) -> bool {
        let disappointed = self.in_vain >= VAIN_MAX && !self.in_vain.is_multiple_of(PROBE);
        longest == Ticks::ZERO || (longest != Ticks::NEVER && (disappointed || now < self.crowded_until))
    }

    /// A turn without sleep ended at `now` and took `spent`.
    #[inline]
    pub(crate) fn turned(&mut self, spent: Ticks, now: Ticks) {
        if spent > self.hole {
            self.lost_the_core(now);
        }
    }

    #[cold]
    fn lost_the_core(&mut self, now: Ticks) {
        if now >= self.crowded_until {
            let soon_again = now - self.crowded_until < self.crowded_for;
            let longer = (self.crowded_for + self.crowded_for).min(self.crowded[1]);
            self.crowded_for = if soon_again { longer } else { self.crowded[0] };
        }
        self.crowded_until = now + self.crowded_for;
    }

    /// The reactor is idle and polls on.
    pub(crate) fn spins(&mut self) {
        self.spun = true;
    }

    /// Something came while it polled.
    #[inline]
    pub(crate) fn found_work(&mut self) {
        if self.spun {
            self.spun = false;
            self.in_vain = 0;
        }
    }

    /// It slept, and was idle for so long altogether.
    pub(crate) fn slept(&mut self, idle: Ticks, longest: Ticks) {
        self.spun = false;
        self.in_vain = if idle > longest { self.in_vain.wrapping_add(1).max(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Ticks = Ticks(1000);

    fn asleep(patience: &Patience) -> bool {
        patience.sleeps_at_once(LONGEST, Ticks(1))
    }

    #[test]
    fn it_sleeps_at_once_after_a_few_long_waits_and_polls_again_after_a_short_one() {
        let mut patience = Patience::new();
        for _ in 0..VAIN_MAX {
            assert!(!asleep(&patience));
            patience.slept(Ticks(1001), LONGEST);
        }
        assert!(asleep(&patience));
        patience.slept(Ticks(5000), LONGEST);
        assert!(asleep(&patience));
        patience.slept(Ticks(1000), LONGEST);
        assert!(!asleep(&patience), "polling would have met that one");
    }

    #[test]
    fn once_in_a_while_it_polls_again_and_goes_on_doing_so_if_that_met_something() {
        let mut patience = Patience::new();
        let slept = (1..=3 * PROBE).filter(|_| {
            patience.slept(Ticks(9000), LONGEST);
            asleep(&patience)
        });
        assert_eq!(slept.count() as u32, 3 * PROBE - (VAIN_MAX - 1) - 3);
        patience.spins();
        patience.found_work();
        assert!(!asleep(&patience));
        patience.slept(Ticks(9000), LONGEST);
        assert!(!asleep(&patience));
    }

    #[test]
    fn long_pauses_between_short_ones_change_nothing() {
        let mut patience = Patience::new();
        for _ in 0..3 * VAIN_MAX {
            patience.slept(Ticks(9000), LONGEST);
            patience.spins();
            patience.found_work();
            assert!(!asleep(&patience));
        }
    }

    #[test]
    fn work_that_needed_no_polling_says_nothing_about_it() {
        let mut patience = Patience::new();
        for _ in 0..VAIN_MAX {
            patience.slept(Ticks(9000), LONGEST);
            patience.found_work();
        }
        assert!(asleep(&patience), "the work after a sleep is what ended it");
    }

    #[test]
    fn a_core_that_was_lost_counts_as_shared_for_a_while_and_longer_if_that_happens_again() {
        let mut patience = Patience::new();
        let [first, longest] = patience.crowded;
        let hole = patience.hole + Ticks(1);
        patience.turned(patience.hole, Ticks(longest.0 * 10));
        assert!(!patience.sleeps_at_once(LONGEST, Ticks(longest.0 * 10)));
        let mut now = Ticks(longest.0 * 20);
        let mut lengths = Vec::new();
        for _ in 0..8 {
            patience.turned(hole, now);
            assert!(patience.sleeps_at_once(LONGEST, now));
            let end = patience.crowded_until;
            assert!(!patience.sleeps_at_once(LONGEST, end));
            lengths.push(end - now);
            now = end + Ticks(1);
        }
        assert!(lengths[0] == first && lengths[1] == first + first && lengths[7] == longest, "{lengths:?}");
        patience.turned(hole, now + longest + longest);
        assert_eq!(patience.crowded_for, first, "that was long ago");
    }

    #[test]
    fn who_is_to_poll_always_does_and_who_is_not_to_never_does() {
        let mut patience = Patience::new();
        assert!(patience.sleeps_at_once(Ticks::ZERO, Ticks(1)));
        for _ in 0..=VAIN_MAX {
            patience.slept(Ticks(9000), LONGEST);
        }
        assert!(!patience.sleeps_at_once(Ticks::NEVER, Ticks(1)));
    }
}
