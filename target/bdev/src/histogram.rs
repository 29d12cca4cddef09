//! Latency histograms: how long each IO took, in buckets whose width grows with the latency.
//!
//! The buckets are SPDK's: *range* r > 0 holds the values from 2^(granularity + r - 1) up to twice that, range 0 all
//! below; each range has 2^granularity buckets of equal width. Only ranges between the shortest and the longest latency
//! asked for are kept; what lies outside counts in the first or the last bucket. Values are ticks.
//!
//! Each channel writes buckets of its own, with a plain load and store; readers add them up.

use crate::io::{Done, Op};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tgt_env::clock::Ticks;

/// Finest division of a range: at most 4,096 buckets of 8 bytes for each doubling of the latency.
pub const GRANULARITY_MAX: u8 = 12;

/// What a histogram counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramSpec {
    /// Only this operation; all of them without it.
    pub op: Option<Op>,
    /// log2 of the buckets per range, at most [`GRANULARITY_MAX`].
    pub granularity: u8,
    /// Shortest latency told apart.
    pub min: Duration,
    /// Longest latency told apart.
    pub max: Duration,
}

impl Default for HistogramSpec {
    fn default() -> HistogramSpec {
        HistogramSpec {
            op: None,
            granularity: 7,
            min: Duration::from_micros(1),
            max: Duration::from_secs(120),
        }
    }
}

impl HistogramSpec {
    /// First and last range kept.
    #[must_use]
    pub fn ranges(&self) -> (u32, u32) {
        let range = |duration| self.place(Ticks::from_duration(duration).0).0;
        (range(self.min), range(self.max))
    }

    fn buckets(&self) -> usize {
        let (first, last) = self.ranges();
        ((last - first + 1) as usize) << self.granularity
    }

    /// Range and bucket of a value, ranges not cut.
    fn place(&self, value: u64) -> (u32, u64) {
        let mask = (1u64 << self.granularity) - 1;
        let bits = 64 - value.leading_zeros();
        let range = bits.saturating_sub(u32::from(self.granularity));
        (range, (value >> range.saturating_sub(1)) & mask)
    }

    /// The first value beyond the bucket at `index`, in ticks.
    fn end_of(&self, index: usize) -> u64 {
        let range = self.ranges().0 + (index >> self.granularity) as u32;
        let within = (index & ((1 << self.granularity) - 1)) as u64 + 1;
        if range == 0 {
            return within;
        }
        (((1 << self.granularity) + within) as u128)
            .checked_shl(range - 1)
            .and_then(|end| u64::try_from(end).ok())
            .unwrap_or(u64::MAX)
    }
}

/// Buckets of one channel: written by its reactor, read by any thread.
#[derive(Debug)]
pub(crate) struct Histogram {
    spec: HistogramSpec,
    first: u32,
    buckets: Box<[AtomicU64]>,
}

impl Histogram {
    pub(crate) fn new(spec: HistogramSpec) -> Histogram {
        let buckets = (0..spec.buckets()).map(|_| AtomicU64::new(0)).collect();
        Histogram { spec, first: spec.ranges().0, buckets }
    }

    /// Reactor: books a completion noticed at `now`.
    #[inline]
    pub(crate) fn book(&self, done: &Done, now: Ticks) {
        if self.spec.op.is_none_or(|op| op == done.op) {
            self.tally((now - done.submitted).0);
        }
    }

    #[inline]
    fn tally(&self, value: u64) {
        let (range, bucket) = self.spec.place(value);
        let index = match range.checked_sub(self.first) {
            Some(range) => ((range as usize) << self.spec.granularity) + bucket as usize,
            None => 0,
        };
        let counter = &self.buckets[index.min(self.buckets.len() - 1)];
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }

    pub(crate) fn add_to(&self, counts: &mut Counts) {
        for (sum, bucket) in counts.counts.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Relaxed);
        }
    }
}

/// The counts of a bdev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// What was counted.
    pub spec: HistogramSpec,
    /// One number per bucket, ranges in order.
    pub counts: Vec<u64>,
}

impl Counts {
    pub(crate) fn new(spec: HistogramSpec) -> Counts {
        Counts { spec, counts: vec![0; spec.buckets()] }
    }

    /// Counts between borders (ascending): up to the first, between each two, beyond the last. A bucket that a border
    /// cuts counts above it.
    #[must_use]
    pub fn between(&self, borders: &[Duration]) -> Vec<u64> {
        let ends: Vec<u64> = borders.iter().map(|border| Ticks::from_duration(*border).0).collect();
        let mut sums = vec![0; borders.len() + 1];
        for (index, count) in self.counts.iter().enumerate() {
            let end = self.spec.end_of(index);
            let place = ends.partition_point(|border| *border < end);
            sums[place] += count;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(granularity: u8, min: u64, max: u64) -> HistogramSpec {
        let duration = |ticks| Ticks(ticks).as_duration();
        HistogramSpec { op: None, granularity, min: duration(min), max: duration(max) }
    }

    /// The slow, obvious way: go through all buckets.
    fn bucket_by_search(spec: HistogramSpec, value: u64) -> usize {
        let buckets = spec.buckets();
        (0..buckets).find(|index| value < spec.end_of(*index)).unwrap_or(buckets - 1)
    }

    #[test]
    fn every_value_lands_in_the_bucket_that_holds_it() {
        for granularity in [1, 3, 7] {
            for (min, max) in [(0, 1 << 20), (5_000, 1 << 22), (1 << 18, 1 << 18)] {
                let spec = spec(granularity, min, max);
                let values = (0..40).flat_map(|bit| [1u64 << bit, (1 << bit) + 1, (1 << bit) - 1, 3 << bit]);
                for value in values.chain([5_000, 77_777, 1_234_567]) {
                    let histogram = Histogram::new(spec);
                    histogram.tally(value);
                    let mut counts = Counts::new(spec);
                    histogram.add_to(&mut counts);
                    let at = counts.counts.iter().position(|count| *count == 1).expect("it was counted");
                    assert_eq!(at, bucket_by_search(spec, value), "{value} in {spec:?}");
                }
            }
        }
    }

    #[test]
    fn the_default_keeps_a_microsecond_to_two_minutes() {
        let spec = HistogramSpec::default();
        let (first, last) = spec.ranges();
        let (low, high) = (Ticks::from_duration(spec.min).0, Ticks::from_duration(spec.max).0);
        assert!(1u64 << (first + 6) <= low && low < 1u64 << (first + 7));
        assert!(1u64 << (last + 6) <= high && high < 1u64 << (last + 7));
        assert_eq!(spec.buckets(), ((last - first + 1) as usize) * 128);
    }

    #[test]
    fn counts_between_borders_add_up_to_all() {
        let spec = HistogramSpec::default();
        let histogram = Histogram::new(spec);
        let latencies = [2, 9, 11, 95, 105, 5_000, 400_000].map(Duration::from_micros);
        latencies.iter().for_each(|latency| histogram.tally(Ticks::from_duration(*latency).0));
        let mut counts = Counts::new(spec);
        histogram.add_to(&mut counts);
        let borders = [10, 100, 1_000].map(Duration::from_micros);
        assert_eq!(counts.between(&borders), [2, 2, 1, 2]);
        assert_eq!(counts.between(&[]), [7]);
    }
}
