//! A connection that comes and goes.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::{Error, Net};

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
        let (stop, stopped) = channel::<()>();
        let cuts = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let count = &cuts;
            let flapping = scope.spawn(move || self.flap(one, other, phase, count, &stopped));
            // Dropped when the body has ended, also by a panic.
            let stop = stop;
            let done = body(count);
            drop(stop);
            flapping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(|()| done)
        })
    }

    fn flap(
        &self,
        one: &str,
        other: &str,
        phase: Duration,
        cuts: &AtomicU32,
        stopped: &Receiver<()>,
    ) -> Result<(), Error> {
        let goes_on = || stopped.recv_timeout(phase) == Err(RecvTimeoutError::Timeout);
        loop {
            self.cut(one, other)?;
            cuts.fetch_add(1, Relaxed);
            let again = goes_on();
            self.heal(one, other)?;
            if !(again && goes_on()) {
                return Ok(());
            }
        }
    }
}
