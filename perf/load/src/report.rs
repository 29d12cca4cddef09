//! What was seen.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;
use tgt_bdev::{IoStatus, Ticks};

/// Points of [`tail`] each time the share of slower IOs halves.
const STEPS_PER_HALVING: u32 = 4;

/// What one job saw.
#[derive(Clone, Debug)]
pub struct JobReport {
    /// Name of the bdev.
    pub bdev: String,
    /// Index of the reactor.
    pub reactor: u32,
    /// IOs completed, failed ones included.
    pub ios: u64,
    /// Bytes they carried or named.
    pub bytes: u64,
    /// From the first submission to the last completion.
    pub elapsed: Duration,
    /// IOs that failed.
    pub errors: u64,
    /// How the first of them failed.
    pub first_error: Option<IoStatus>,
    /// Checked load: what the bdev held and may not hold, or why checking ended.
    pub wrong: Option<String>,
    /// Latencies in ticks, if they were kept.
    pub(crate) ticks: Option<Histogram<u64>>,
}

/// Latencies in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Shortest.
    pub min: u64,
    /// Half of the IOs took at most this.
    pub p50: u64,
    /// 90 of 100.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p99_9: u64,
    /// 9999 of 10000.
    pub p99_99: u64,
    /// Longest.
    pub max: u64,
}

/// Rates and latencies of a job or of several together. The JSON form is documented in docs/rmr-perf.md.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// IOs completed.
    pub ios: u64,
    /// IOs that failed.
    pub errors: u64,
    /// IOs per second.
    pub iops: f64,
    /// Mebibytes per second.
    pub mib_s: f64,
    /// Seconds from first to last.
    pub seconds: f64,
    /// Latencies; none without a histogram or without an IO.
    pub latency_ns: Option<Latency>,
}

impl JobReport {
    /// Rates and latencies of this job alone.
    #[must_use]
    pub fn summary(&self) -> Report {
        Report::of(&[self])
    }
}

impl Report {
    /// Several jobs together: rates add up, latencies are those of all IOs.
    #[must_use]
    pub fn of(jobs: &[&JobReport]) -> Report {
        let rate = |amount: u64, job: &JobReport| amount as f64 / job.elapsed.as_secs_f64().max(1e-9);
        Report {
            ios: jobs.iter().map(|job| job.ios).sum(),
            errors: jobs.iter().map(|job| job.errors).sum(),
            iops: jobs.iter().map(|job| rate(job.ios, job)).sum(),
            mib_s: jobs.iter().map(|job| rate(job.bytes, job) / (1 << 20) as f64).sum(),
            seconds: jobs.iter().map(|job| job.elapsed.as_secs_f64()).fold(0.0, f64::max),
            latency_ns: Latency::of(jobs),
        }
    }
}

/// The latencies of several jobs together by the share of IOs that took longer, in nanoseconds, shares falling.
#[must_use]
pub fn tail(jobs: &[JobReport]) -> Vec<(f64, u64)> {
    let Some(all) = joined(&jobs.iter().collect::<Vec<_>>()) else { return Vec::new() };
    let point = |at: hdrhistogram::iterators::IterationValue<u64>| {
        (1.0 - at.quantile_iterated_to(), Ticks(at.value_iterated_to()).as_ns())
    };
    all.iter_quantiles(STEPS_PER_HALVING).map(point).collect()
}

/// All latencies in one histogram; none if there is none.
fn joined(jobs: &[&JobReport]) -> Option<Histogram<u64>> {
    let mut histograms = jobs.iter().filter_map(|job| job.ticks.as_ref());
    let mut all = histograms.next()?.clone();
    for histogram in histograms {
        all.add(histogram).expect("all jobs have the same bounds");
    }
    (!all.is_empty()).then_some(all)
}

impl Latency {
    fn of(jobs: &[&JobReport]) -> Option<Latency> {
        Latency::of_ticks(&joined(jobs)?)
    }

    /// Of a histogram of ticks; none if it is empty.
    #[must_use]
    pub fn of_ticks(all: &Histogram<u64>) -> Option<Latency> {
        if all.is_empty() {
            return None;
        }
        let ns = |ticks: u64| Ticks(ticks).as_ns();
        let at = |quantile: f64| ns(all.value_at_quantile(quantile));
        Some(Latency {
            mean: all.mean() * ns(1_000_000_000) as f64 / 1e9,
            min: ns(all.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: ns(all.max()),
        })
    }
}
