//! The four latencies of a delay bdev: set by control threads, read by every reactor.

use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tgt_bdev::Ticks;

/// Longest latency: an hour.
pub(crate) const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Which IOs a latency is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// 99 reads of 100.
    AvgRead,
    /// One read of 100.
    P99Read,
    /// 99 writes of 100.
    AvgWrite,
    /// One write of 100.
    P99Write,
}

impl Bucket {
    /// All of them, in the order of SPDK's parameters.
    pub const ALL: [Bucket; 4] = [Bucket::AvgRead, Bucket::P99Read, Bucket::AvgWrite, Bucket::P99Write];

    const fn parameter(self) -> &'static str {
        match self {
            Bucket::AvgRead => "avg_read_latency",
            Bucket::P99Read => "p99_read_latency",
            Bucket::AvgWrite => "avg_write_latency",
            Bucket::P99Write => "p99_write_latency",
        }
    }
}

/// Microseconds for each bucket.
#[derive(Debug, Default)]
pub struct Latencies([AtomicU64; 4]);

impl Latencies {
    /// In the order of [`Bucket::ALL`]; microseconds.
    #[must_use]
    pub fn new(us: [u64; 4]) -> Latencies {
        Latencies(us.map(AtomicU64::new))
    }

    /// Changes one; seen by IO that ends from now on.
    pub fn set(&self, bucket: Bucket, us: u64) {
        self.0[bucket as usize].store(us, Relaxed);
    }

    /// One, in ticks.
    #[inline]
    pub(crate) fn ticks(&self, bucket: Bucket) -> Ticks {
        Ticks::from_duration(Duration::from_micros(self.0[bucket as usize].load(Relaxed)))
    }

    /// Adds them to an object, under SPDK's names.
    pub(crate) fn write_to(&self, object: &mut Value) {
        for bucket in Bucket::ALL {
            object[bucket.parameter()] = self.0[bucket as usize].load(Relaxed).into();
        }
    }
}
