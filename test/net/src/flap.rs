//! A connection that comes and goes.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::{Card, Error, Net};

impl Card<'_> {
    /// As [`Net::while_flapping`], these cards alone.
    pub fn while_flapping<T>(
        &self,
        one: &str,
        other: &str,
        phase: Duration,
        body: impl FnOnce(&AtomicU32) -> T,
    ) -> Result<T, Error> {
        flapping(phase, || self.cut(one, other), || self.heal(one, other), body)
    }
}

impl Net {
    /// Cuts the two off from each other and heals that again, each for `phase`, while `body` runs; then heals it. `body`
    /// sees how many times it was cut so far.
    pub fn while_flapping<T>(
        &self,
        one: &str,
        other: &str,
        phase: Duration,
        body: impl FnOnce(&AtomicU32) -> T,
    ) -> Result<T, Error> {
        flapping(phase, || self.cut(one, other), || self.heal(one, other), body)
    }
}

fn flapping<T>(
    phase: Duration,
    cut: impl Fn() -> Result<(), Error> + Sync,
    heal: impl Fn() -> Result<(), Error> + Sync,
    body: impl FnOnce(&AtomicU32) -> T,
) -> Result<T, Error> {
    let (stop, stopped) = channel::<()>();
    let cuts = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let (count, cut, heal) = (&cuts, &cut, &heal);
        let flapping = scope.spawn(move || flap(phase, count, &stopped, cut, heal));
        // Dropped when the body has ended, also by a panic.
        let stop = stop;
        let done = body(count);
        drop(stop);
        flapping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(|()| done)
    })
}

fn flap(
    phase: Duration,
    cuts: &AtomicU32,
    stopped: &Receiver<()>,
    cut: impl Fn() -> Result<(), Error>,
    heal: impl Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let goes_on = || stopped.recv_timeout(phase) == Err(RecvTimeoutError::Timeout);
    loop {
        cut()?;
        cuts.fetch_add(1, Relaxed);
        let again = goes_on();
        heal()?;
        if !(again && goes_on()) {
            return Ok(());
        }
    }
}
