//! Time: the processor's time-stamp counter, read once per reactor turn, and its rate.
//!
//! Reading it costs about 38 cycles, so nothing reads it per IO: the reactor hands `now` down.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A point in time, or a length of time, in ticks of the time-stamp counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Ticks(pub u64);

impl Ticks {
    /// No ticks; as a point in time it means "not stamped yet".
    pub const ZERO: Ticks = Ticks(0);

    /// Further away than any deadline.
    pub const NEVER: Ticks = Ticks(u64::MAX);

    /// Reads the counter. Any thread; cores agree (the counter is invariant and synchronised by the kernel).
    #[inline]
    #[must_use]
    pub fn now() -> Ticks {
        Ticks(read_counter())
    }

    /// The length of time from `earlier` to `self`; zero if `earlier` is later, as two cores may differ by a few ticks.
    #[inline]
    #[must_use]
    pub fn since(self, earlier: Ticks) -> Ticks {
        Ticks(self.0.saturating_sub(earlier.0))
    }

    /// A length of time in ticks.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Ticks {
        let ticks = duration.as_nanos() * u128::from(tick_rate()) / 1_000_000_000;
        Ticks(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// This length of time in nanoseconds.
    #[must_use]
    pub fn as_ns(self) -> u64 {
        let ns = u128::from(self.0) * 1_000_000_000 / u128::from(tick_rate());
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// This length of time as the standard library's type.
    #[must_use]
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos(self.as_ns())
    }
}

impl Add for Ticks {
    type Output = Ticks;
    #[inline]
    fn add(self, other: Ticks) -> Ticks {
        Ticks(self.0.saturating_add(other.0))
    }
}

impl Sub for Ticks {
    type Output = Ticks;
    #[inline]
    fn sub(self, other: Ticks) -> Ticks {
        self.since(other)
    }
}

/// Ticks per second, measured once per process against the monotonic clock (takes about 4 ms the first time).
#[must_use]
pub fn tick_rate() -> u64 {
    static RATE: OnceLock<u64> = OnceLock::new();
    *RATE.get_or_init(|| measure_rate(Duration::from_millis(4)))
}

/// Something to say to the user if this machine's counter cannot be trusted, else nothing.
#[must_use]
pub fn advice() -> Option<String> {
    (!counter_is_invariant()).then(|| {
        "the time-stamp counter of this processor is not invariant: latencies are not to be trusted while its \
         frequency changes; fix the frequency or run on a newer processor"
            .to_owned()
    })
}

/// Measures the counter against the monotonic clock over `span`.
fn measure_rate(span: Duration) -> u64 {
    let (start_ticks, start) = read_both();
    while start.elapsed() < span {
        std::hint::spin_loop();
    }
    let (end_ticks, end) = read_both();
    let ns = end.duration_since(start).as_nanos().max(1);
    let rate = u128::from(end_ticks.saturating_sub(start_ticks)) * 1_000_000_000 / ns;
    u64::try_from(rate).unwrap_or(1_000_000_000).max(1)
}

/// Both clocks at one moment: the reading between two counter reads that lie closest together, of several tries.
fn read_both() -> (u64, Instant) {
    let tries = (0..16).map(|_| {
        let before = read_counter();
        let instant = Instant::now();
        let gap = read_counter().saturating_sub(before);
        (gap, before + gap / 2, instant)
    });
    let (_, ticks, instant) = tries.min_by_key(|(gap, _, _)| *gap).expect("sixteen tries were made");
    (ticks, instant)
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn read_counter() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor and touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn read_counter() -> u64 {
    let ticks: u64;
    // SAFETY: CNTVCT_EL0 is readable from user space on Linux and reading it touches no memory.
    unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

#[cfg(target_arch = "x86_64")]
fn counter_is_invariant() -> bool {
    use core::arch::x86_64::__cpuid;
    // CPUID Fn8000_0007 EDX bit 8, "TscInvariant" (AMD64 Architecture Programmer's Manual, volume 3, appendix E).
    __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0
}

#[cfg(not(target_arch = "x86_64"))]
fn counter_is_invariant() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_nanoseconds_convert_both_ways() {
        for ns in [0, 1_000, 1_000_000, 3_600_000_000_000] {
            let back = Ticks::from_duration(Duration::from_nanos(ns)).as_ns();
            assert!(ns.abs_diff(back) <= 1 + ns / 1_000_000, "{ns} came back as {back}");
        }
    }

    #[test]
    fn time_since_the_future_is_zero() {
        assert_eq!(Ticks(5).since(Ticks(7)), Ticks::ZERO);
        assert_eq!(Ticks(7) - Ticks(5), Ticks(2));
    }

    #[test]
    fn never_stays_never() {
        assert_eq!(Ticks::NEVER + Ticks(1), Ticks::NEVER);
    }

    #[test]
    fn the_rate_agrees_with_a_longer_measurement() {
        let (short, long) = (tick_rate(), measure_rate(Duration::from_millis(50)));
        let ppm = u128::from(short.abs_diff(long)) * 1_000_000 / u128::from(long);
        // The machine may preempt either measurement; the readings are bracketed, so a gross error is a bug.
        assert!(ppm < 5_000, "{short} against {long}: {ppm} ppm apart");
    }
}
