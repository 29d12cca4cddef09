//! Starting jobs, watching them, adding up.

use crate::job::{Job, Shared};
use crate::pattern::Part;
use crate::report::JobReport;
use crate::spec::{JobSpec, Limit, SpecError, Workload};
use crate::verify::VerifyJob;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tgt_bdev::{Bdevs, Desc, Mode, OpenError};
use tgt_reactor::{CallError, Handle, Poller};

/// How often progress is told and the end looked for.
const LOOK: Duration = Duration::from_millis(20);

/// A job that should have ended by its own clock is given up this much later.
const GRACE: Duration = Duration::from_secs(30);

/// Why a run did not take place, or did not end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A job is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A bdev could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A reactor did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A job could not be set up on its reactor.
    #[error("bdev {0:?}: {1}")]
    Setup(String, String),
    /// There is no such reactor.
    #[error("a job wants reactor {0}, there are {1}")]
    NoReactor(u32, usize),
    /// IO is still in flight long after the end.
    #[error("bdev {0:?}: IO is still in flight {1:?} after the end of the run; is the device stuck?")]
    Stuck(String, Duration),
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// IOs completed by all jobs.
    pub ios: u64,
}

struct Running {
    spec: JobSpec,
    handle: Handle,
    shared: Arc<Shared>,
}

/// Runs the jobs to their end, all at once. Jobs on the same bdev share it: each keeps to a part of its own.
/// `watch` is called some fifty times a second; false ends the run early.
pub fn run(
    bdevs: &Bdevs,
    reactors: &[Handle],
    jobs: &[JobSpec],
    mut watch: impl FnMut(Progress) -> bool,
) -> Result<Vec<JobReport>, RunError> {
    let mut running = Vec::new();
    for (index, spec) in jobs.iter().enumerate() {
        match start(bdevs, reactors, spec, part(jobs, index)) {
            Ok(job) => running.push(job),
            Err(error) => {
                stop_all(&running);
                let _ = collect(running, Instant::now() + GRACE);
                return Err(error);
            }
        }
    }
    let (started, overdue) = (Instant::now(), overdue(jobs));
    while !running.iter().all(Running::is_over) {
        std::thread::sleep(LOOK);
        let ios = running.iter().map(|job| job.shared.ios.load(Relaxed)).sum();
        let elapsed = started.elapsed();
        if !watch(Progress { elapsed, ios }) || elapsed > overdue {
            stop_all(&running);
            break;
        }
    }
    collect(running, Instant::now() + GRACE)
}

/// When the last job should have ended by its own clock, and some more.
fn overdue(jobs: &[JobSpec]) -> Duration {
    let limits = jobs.iter().map(|job| match job.limit {
        // Reading everything back takes as long as it takes.
        Limit::Time(time) if job.workload != Workload::Verify => time.saturating_add(GRACE),
        Limit::Time(_) | Limit::Ios(_) => Duration::MAX,
    });
    limits.max().unwrap_or_default()
}

/// The part of its bdev that a job keeps to.
fn part(jobs: &[JobSpec], index: usize) -> Part {
    let same = |job: &&JobSpec| job.bdev == jobs[index].bdev;
    let count = |jobs: &[JobSpec]| jobs.iter().filter(same).count() as u64;
    Part { index: count(&jobs[..index]), count: count(jobs) }
}

fn start(bdevs: &Bdevs, reactors: &[Handle], spec: &JobSpec, part: Part) -> Result<Running, RunError> {
    let handle = reactors.get(spec.reactor as usize);
    let handle = handle.ok_or(RunError::NoReactor(spec.reactor, reactors.len()))?.clone();
    let bdev = bdevs.get(&spec.bdev).ok_or_else(|| OpenError::NotFound(spec.bdev.clone()))?;
    spec.check(&bdev)?;
    let (first, second) = spec.workload.ops();
    let mode = if first.is_write() || second.is_write() { Mode::Write } else { Mode::Read };
    let desc = Desc::open(&bdev, "rmr-perf", mode)?;
    let shared = Arc::new(Shared::default());
    let (for_job, job_spec) = (shared.clone(), spec.clone());
    let spawned = handle.call(move |reactor| {
        let cx = reactor.cx();
        let job: Box<dyn Poller> = match job_spec.workload {
            Workload::Verify => Box::new(VerifyJob::new(cx, &desc, job_spec, part, for_job)?),
            _ => Box::new(Job::new(cx, &desc, job_spec, part, for_job)?),
        };
        cx.spawn(job, None);
        Ok(())
    })?;
    spawned.map_err(|why: String| RunError::Setup(spec.bdev.clone(), why))?;
    Ok(Running { spec: spec.clone(), handle, shared })
}

fn stop_all(running: &[Running]) {
    for job in running {
        job.shared.stop.store(true, Relaxed);
        // Wakes it; one whose inbox is full is awake.
        let _ = job.handle.send(|_| ());
    }
}

fn collect(running: Vec<Running>, deadline: Instant) -> Result<Vec<JobReport>, RunError> {
    let mut reports = Vec::new();
    for job in running {
        while !job.is_over() {
            if Instant::now() >= deadline {
                return Err(RunError::Stuck(job.spec.bdev, GRACE));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let report = job.shared.report.lock().expect("nobody panics while holding this").take();
        reports.extend(report);
    }
    Ok(reports)
}

impl Running {
    /// True once the job is dropped, and with it its channel: not merely when its report is there.
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn job(bdev: &str, limit: Limit) -> JobSpec {
        JobSpec {
            bdev: bdev.to_owned(),
            reactor: 0,
            workload: Workload::Read,
            read_percent: 0,
            queue_depth: 1,
            io_bytes: 4096,
            limit,
            latency: true,
            seed: 1,
            go_on: false,
            state: None,
        }
    }

    #[test]
    fn jobs_on_one_bdev_divide_it_and_others_have_theirs_whole() {
        let jobs = ["A", "B", "A"].map(|bdev| job(bdev, Limit::Ios(1)));
        let parts = [0, 1, 2].map(|index| part(&jobs, index));
        assert_eq!(parts, [Part { index: 0, count: 2 }, Part::WHOLE, Part { index: 1, count: 2 }]);
    }

    #[test]
    fn a_run_by_time_is_overdue_some_time_after_its_longest_job_and_one_by_count_never() {
        let by_time = |seconds| job("A", Limit::Time(Duration::from_secs(seconds)));
        assert_eq!(overdue(&[by_time(1), by_time(5)]), Duration::from_secs(5) + GRACE);
        assert_eq!(overdue(&[by_time(1), job("A", Limit::Ios(1))]), Duration::MAX);
    }
}
