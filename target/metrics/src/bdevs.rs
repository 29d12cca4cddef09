//! Bdevs.

use crate::families::{
    BDEV_BYTES, BDEV_DEPTH, BDEV_DEPTH_BUSY, BDEV_ERRORS, BDEV_HISTOGRAM, BDEV_INFO, BDEV_IOS, BDEV_LATENCY,
    BDEV_LATENCY_MAX, BDEV_SIZE,
};
use crate::page::seconds;
use crate::text::{Samples, Text};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tgt_bdev::{Bdev, Bdevs, Counts, HistogramSpec, IoStats, OpStats, QueueDepth};
use tgt_env::clock::Ticks;

/// Borders of a page's histogram, nanoseconds: 1, 2 and 5 of each decade from a microsecond to ten seconds.
const BORDERS_NS: [u64; 22] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A bdev and its figures, all taken at one time.
struct Row {
    bdev: Arc<Bdev>,
    stats: IoStats,
    depth: Option<QueueDepth>,
    histogram: Option<Counts>,
}

pub(crate) fn write(text: &mut Text, bdevs: &Bdevs) {
    let row = |bdev: Arc<Bdev>| Row {
        stats: bdev.stats(),
        depth: bdev.queue_depth_sampled(),
        histogram: bdev.histogram(),
        bdev,
    };
    let rows: Vec<Row> = bdevs.all().into_iter().map(row).collect();
    text.family(BDEV_INFO, |s| rows.iter().for_each(|row| info(s, &row.bdev)));
    text.family(BDEV_SIZE, |s| {
        each(s, &rows, |row| Some(u128::from(row.bdev.num_blocks()) * u128::from(row.bdev.block_size())))
    });
    text.family(BDEV_IOS, |s| ops(s, &rows, |_, op| op.ops));
    text.family(BDEV_BYTES, |s| ops(s, &rows, |bdev, op| op.blocks * u64::from(bdev.block_size())));
    text.family(BDEV_LATENCY, |s| ops(s, &rows, |_, op| seconds(op.ticks)));
    text.family(BDEV_LATENCY_MAX, |s| ops(s, &rows, |_, op| seconds(op.ticks_max)));
    text.family(BDEV_ERRORS, |s| rows.iter().for_each(|row| errors(s, row)));
    text.family(BDEV_DEPTH, |s| each(s, &rows, |row| row.depth.as_ref().map(|depth| depth.depth)));
    text.family(BDEV_DEPTH_BUSY, |s| {
        each(s, &rows, |row| row.depth.as_ref().map(|depth| depth.busy.as_secs_f64()));
    });
    text.family(BDEV_HISTOGRAM, |s| rows.iter().for_each(|row| histogram(s, row)));
}

fn info(samples: &mut Samples<'_>, bdev: &Bdev) {
    let uuid = bdev.uuid().to_string();
    samples.add(&[("bdev", bdev.name()), ("product", bdev.product_name()), ("uuid", &uuid)], 1);
}

/// One sample for each bdev that has this figure.
fn each<V: Display>(samples: &mut Samples<'_>, rows: &[Row], value: impl Fn(&Row) -> Option<V>) {
    for row in rows {
        if let Some(value) = value(row) {
            samples.add(&[("bdev", row.bdev.name())], value);
        }
    }
}

/// One sample for each bdev and operation.
fn ops<V: Display>(samples: &mut Samples<'_>, rows: &[Row], value: impl Fn(&Bdev, &OpStats) -> V) {
    for Row { bdev, stats, .. } in rows {
        for (op, stats) in [("read", &stats.read), ("write", &stats.write), ("unmap", &stats.unmap)] {
            samples.add(&[("bdev", bdev.name()), ("op", op)], value(bdev, stats));
        }
    }
}

/// One sample for each status that occurred.
fn errors(samples: &mut Samples<'_>, row: &Row) {
    for (status, count) in &row.stats.errors {
        let (sct, sc) = (status.sct().to_string(), format!("{:#04x}", status.sc()));
        let labels = [("bdev", row.bdev.name()), ("status", status.text()), ("sct", &sct), ("sc", &sc)];
        samples.add(&labels, count);
    }
}

fn histogram(samples: &mut Samples<'_>, row: &Row) {
    let Some(counts) = &row.histogram else { return };
    let op = counts.spec.op.map_or("all", |op| op.name());
    let borders = BORDERS_NS.map(Duration::from_nanos);
    let labels = [("bdev", row.bdev.name()), ("op", op)];
    samples.histogram(&labels, &BORDERS_NS.map(|ns| ns as f64 / 1e9), &counts.between(&borders), sum(counts));
}

/// The sum of all latencies in seconds, each IO taken to lie in the middle of its bucket: wrong by less than
/// 2^-granularity of itself, as long as the latencies lie between the histogram's shortest and longest.
fn sum(counts: &Counts) -> f64 {
    let middles = (0..counts.counts.len()).map(|index| middle(&counts.spec, index));
    counts.counts.iter().zip(middles).map(|(count, middle)| *count as f64 * middle).sum()
}

/// The middle of the bucket at `index`, seconds. Range r > 0 begins at 2^(granularity + r - 1) ticks.
fn middle(spec: &HistogramSpec, index: usize) -> f64 {
    let range = spec.ranges().0 + (index >> spec.granularity) as u32;
    let whole = (1u64 << spec.granularity) as f64;
    let within = (index & ((1 << spec.granularity) - 1)) as f64 + 0.5;
    let ticks = if range == 0 { within } else { (whole + within) * 2f64.powi(range as i32 - 1) };
    ticks * seconds(Ticks(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(granularity: u8) -> HistogramSpec {
        HistogramSpec { granularity, ..HistogramSpec::default() }
    }

    /// The buckets' ends as the block layer sees them: the smallest border that takes the bucket in.
    fn end_by_search(counts: &Counts) -> Duration {
        let (mut low, mut high) = (0u64, 1 << 40);
        while low + 1 < high {
            let border = low + (high - low) / 2;
            let below = counts.between(&[Duration::from_nanos(border)])[0];
            if below > 0 { high = border } else { low = border }
        }
        Duration::from_nanos(high)
    }

    #[test]
    fn middles_lie_in_their_buckets() {
        for granularity in [1, 4, 7] {
            let spec = spec(granularity);
            let (first, last) = spec.ranges();
            let buckets = ((last - first + 1) as usize) << granularity;
            for index in [1, 2, 3, buckets / 3, buckets / 2, buckets * 2 / 3] {
                let mut counts = Counts { spec, counts: vec![0; buckets] };
                counts.counts[index] = 1;
                let end = end_by_search(&counts).as_secs_f64();
                let middle = sum(&counts);
                let width = 0.5f64.powi(i32::from(granularity));
                assert!(middle < end && middle > end * (1.0 - width) * 0.99, "{index}: {middle} {end}");
            }
        }
    }
}
