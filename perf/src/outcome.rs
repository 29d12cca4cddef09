//! All that is known after a run, in its JSON form (docs/rmr-perf.md).

use crate::args::BdevArgs;
use crate::setting::Setting;
use perf_load::{JobReport, Latency, Limit, Report};
use serde::Serialize;
use tgt_app::exit;
use tgt_reactor::Handle;

/// What was asked for, where it ran, and what was seen. Its keys are promised in docs/rmr-perf.md: they may grow, but
/// none may go or change its meaning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) version: &'static str,
    pub(crate) workload: &'static str,
    pub(crate) read_percent: Option<u8>,
    pub(crate) queue_depth: u32,
    pub(crate) io_bytes: u32,
    pub(crate) seconds_asked: Option<f64>,
    pub(crate) ios_asked: Option<u64>,
    pub(crate) seed: u64,
    pub(crate) setting: Setting,
    pub(crate) ended_early: bool,
    /// These three as in `total`: what scripts ask for most.
    pub(crate) iops: f64,
    pub(crate) mib_s: f64,
    pub(crate) latency_ns: Option<Latency>,
    pub(crate) total: Figures,
    pub(crate) bdevs: Vec<BdevFigures>,
}

/// Rates, latencies and errors of some jobs together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    #[serde(flatten)]
    pub(crate) report: Report,
    /// How the first IO failed that did, in words.
    pub(crate) first_error: Option<String>,
    /// Checked load: the first block that held what it may not hold, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wrong: Option<String>,
}

/// One bdev.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BdevFigures {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    pub(crate) cores: Vec<CoreFigures>,
}

/// One bdev on one core: a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CoreFigures {
    pub(crate) core: u32,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

impl Outcome {
    /// Adds the jobs' reports up.
    pub(crate) fn new(
        args: &BdevArgs,
        setting: Setting,
        reactors: &[Handle],
        jobs: &[JobReport],
        ended_early: bool,
    ) -> Outcome {
        let total = Figures::of(&jobs.iter().collect::<Vec<_>>());
        let (seconds_asked, ios_asked) = match args.limit() {
            Limit::Time(time) => (Some(time.as_secs_f64()), None),
            Limit::Ios(ios) => (None, Some(ios)),
        };
        Outcome {
            version: env!("CARGO_PKG_VERSION"),
            workload: args.workload.name(),
            read_percent: args.read_percent(),
            queue_depth: args.queue_depth,
            io_bytes: args.io_bytes,
            seconds_asked,
            ios_asked,
            seed: args.seed,
            setting,
            ended_early,
            iops: total.report.iops,
            mib_s: total.report.mib_s,
            latency_ns: total.report.latency_ns,
            total,
            bdevs: by_bdev(jobs, |reactor| reactors[reactor as usize].core()),
        }
    }

    /// The process's exit code: whether IO failed.
    pub(crate) fn exit_code(&self) -> u8 {
        let fine = self.total.report.errors == 0 && self.total.wrong.is_none();
        if fine { exit::OK } else { exit::ERROR }
    }
}

impl Figures {
    fn of(jobs: &[&JobReport]) -> Figures {
        let first_error = jobs.iter().find_map(|job| job.first_error).map(|status| status.to_string());
        let wrong = jobs.iter().find_map(|job| job.wrong.clone());
        Figures { report: Report::of(jobs), first_error, wrong }
    }
}

/// The jobs under their bdevs, both in the order in which they were started.
fn by_bdev(jobs: &[JobReport], core_of: impl Fn(u32) -> u32) -> Vec<BdevFigures> {
    let mut groups: Vec<(&str, Vec<&JobReport>)> = Vec::new();
    for job in jobs {
        match groups.iter_mut().find(|(name, _)| *name == job.bdev) {
            Some((_, group)) => group.push(job),
            None => groups.push((&job.bdev, vec![job])),
        }
    }
    let on_core =
        |job: &&JobReport| CoreFigures { core: core_of(job.reactor), figures: Figures::of(&[*job]) };
    let bdev = |(name, jobs): (&str, Vec<&JobReport>)| BdevFigures {
        name: name.to_owned(),
        figures: Figures::of(&jobs),
        cores: jobs.iter().map(on_core).collect(),
    };
    groups.into_iter().map(bdev).collect()
}
