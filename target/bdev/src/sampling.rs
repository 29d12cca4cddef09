//! Queue depth over time: a thread of its own that looks at all channels of a bdev at a fixed period.
//!
//! It runs only while somebody asked for it, and ends by itself when the period becomes 0 or the bdev is gone. Channels
//! write their queue depth down only meanwhile.

use crate::bdev::Bdev;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::Duration;

/// Shortest period: more often would cost more than it tells.
pub(crate) const PERIOD_MIN: Duration = Duration::from_micros(100);

/// What sampling has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Time between two looks.
    pub period: Duration,
    /// IOs in flight at the last look.
    pub depth: u64,
    /// Sum of the periods at whose end IO was in flight.
    pub busy: Duration,
    /// Sum over all looks of period times depth.
    pub weighted: Duration,
}

/// Shared by the sampler and its readers. Times in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    period: AtomicU64,
    /// Which sampler may go on: a newer one has taken over from all before.
    run: AtomicU64,
    depth: AtomicU64,
    busy: AtomicU64,
    weighted: AtomicU64,
}

impl Samples {
    /// True while queue depths are wanted.
    #[inline]
    pub(crate) fn on(&self) -> bool {
        self.period.load(Relaxed) != 0
    }

    pub(crate) fn read(&self) -> Option<QueueDepth> {
        let time = |micros: &AtomicU64| Duration::from_micros(micros.load(Relaxed));
        self.on().then(|| QueueDepth {
            period: time(&self.period),
            depth: self.depth.load(Relaxed),
            busy: time(&self.busy),
            weighted: time(&self.weighted),
        })
    }

    /// Starts sampling `bdev` afresh, or ends it with a period of zero.
    ///
    /// # Errors
    /// If no thread could be started; nothing is sampled then.
    pub(crate) fn start(bdev: &Arc<Bdev>, period: Duration) -> std::io::Result<()> {
        let samples = bdev.samples();
        let run = samples.run.fetch_add(1, AcqRel) + 1;
        for counter in [&samples.period, &samples.depth, &samples.busy, &samples.weighted] {
            counter.store(0, Relaxed);
        }
        if period.is_zero() {
            return Ok(());
        }
        let weak = Arc::downgrade(bdev);
        Builder::new().name("qd-sampler".to_owned()).spawn(move || sample(&weak, run, period))?;
        samples.period.store(period.as_micros() as u64, Relaxed);
        Ok(())
    }
}

fn sample(bdev: &Weak<Bdev>, run: u64, period: Duration) {
    loop {
        std::thread::sleep(period);
        let Some(bdev) = bdev.upgrade() else { return };
        let samples = bdev.samples();
        if samples.run.load(Acquire) != run || bdev.is_removed() {
            return;
        }
        let (depth, micros) = (bdev.queue_depth(), period.as_micros() as u64);
        samples.depth.store(depth, Relaxed);
        samples.busy.fetch_add(if depth > 0 { micros } else { 0 }, Relaxed);
        samples.weighted.fetch_add(micros * depth, Relaxed);
    }
}
