//! `cargo xtask soak`: what is too long for `ci`.

use std::time::Duration;

use clap::builder::PossibleValuesParser;

use crate::error::Error;
use crate::fuzz::{self, Harness};
use crate::project::Project;
use crate::step::{self, Context, Outcome, Part, shown};
use crate::steps::build::{self, BINARIES, SIMULATOR};
use crate::steps::sim;
use crate::steps::test::with_binaries;
use crate::tool::Tool;

/// Run the long tests for a given time, shared evenly between the jobs
///
/// A job that cannot run here says why in one line and leaves its time to the others. Every job ends by itself or is
/// ended. The time to build comes on top.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long all jobs together run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(required_unless_present = "list")]
    minutes: Option<u64>,
    /// Run only these jobs
    #[arg(long, value_name = "JOB", num_args = 1.., value_parser = names())]
    only: Vec<String>,
    /// List the jobs and run none
    #[arg(long)]
    list: bool,
}

/// One long test.
struct Job {
    name: &'static str,
    about: &'static str,
    /// Builds what the job needs; the reason why it cannot run here, if so.
    prepare: fn(&Project) -> Result<Option<String>, Error>,
    /// Runs for about the given time.
    run: fn(&Project, Duration) -> Result<(), Error>,
}

const JOBS: &[Job] = &[
    Job {
        name: "sim",
        about: "the simulator on fresh seeds",
        prepare: |project| {
            if project.has_bin(SIMULATOR)? {
                build::release(&[SIMULATOR])?;
            }
            sim::not_offered(project)
        },
        run: sim::fresh_seeds,
    },
    Job {
        name: "fuzz",
        about: "every fuzz target in rotation",
        prepare: |project| Harness::build(project, &fuzz::targets(project)?).map(|_| None),
        run: fuzz_all,
    },
    Job {
        name: "hammer",
        about: "nodes and clients of a pool that are killed and paused under checked load",
        prepare: |project| pool_binaries(project).map(|()| None),
        run: hammer,
    },
    Job {
        name: "deaths",
        about: "two legs, one that fails or hangs, and everything killed, time and again",
        prepare: |project| pool_binaries(project).map(|()| None),
        run: deaths,
    },
];

/// A death of everything, the return and the check of all blocks take about so long, on two cores that do this alone.
const DEATH: Duration = Duration::from_millis(1200);

/// What the tests of pools start.
fn pool_binaries(project: &Project) -> Result<(), Error> {
    let shipped = BINARIES.iter().map(|(name, _)| *name).filter(|name| *name != SIMULATOR);
    let names = shipped.filter_map(|name| match project.has_bin(name) {
        Ok(true) => Some(Ok(name)),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    });
    build::release(&names.collect::<Result<Vec<_>, _>>()?)
}

fn hammer(project: &Project, time: Duration) -> Result<(), Error> {
    pool_test(project, "hammer")?.env("RMR_HAMMER_SECONDS", time.as_secs().to_string()).run()
}

fn deaths(project: &Project, time: Duration) -> Result<(), Error> {
    let count = (time.as_secs_f64() / DEATH.as_secs_f64()).max(1.0) as u64;
    pool_test(project, "two_legs")?.env("RMR_DEATHS", count.to_string()).run()
}

/// A test of `test/e2e`, with the release binaries.
fn pool_test(project: &Project, name: &str) -> Result<Tool, Error> {
    let tool = Tool::cargo().args(["test", "--locked", "--package", "test-e2e", "--test", name]);
    with_binaries(project, tool)
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(JOBS.iter().map(|job| job.name))
}

fn fuzz_all(project: &Project, time: Duration) -> Result<(), Error> {
    let targets = fuzz::targets(project)?;
    let harness = Harness::build(project, &targets)?;
    let each = time.div_f64(targets.len() as f64).max(Duration::from_secs(1));
    fuzz::rotate(&harness, &targets, each)
}

pub(crate) fn run(project: &Project, args: &Args) -> Result<(), Error> {
    let chosen =
        JOBS.iter().filter(|job| args.only.is_empty() || args.only.iter().any(|name| name == job.name));
    let Some(minutes) = args.minutes.filter(|_| !args.list) else {
        chosen.for_each(|job| println!("{:<8} {}", job.name, job.about));
        return Ok(());
    };
    let ready = prepared(project, chosen)?;
    let able = ready.iter().filter(|(_, reason)| reason.is_none()).count();
    let share = Duration::from_secs(minutes * 60) / u32::try_from(able.max(1)).unwrap_or(u32::MAX);
    println!("{able} job(s), {} each", shown(share));
    let parts: Vec<Part<'_>> =
        ready.iter().map(|(job, reason)| part(project, job, reason.as_deref(), share)).collect();
    // One job's failure says nothing about the others: all get their time.
    step::run_all(&Context::new(project, true), &parts, true)
}

type Ready = (&'static Job, Option<String>);

fn prepared(project: &Project, jobs: impl Iterator<Item = &'static Job>) -> Result<Vec<Ready>, Error> {
    jobs.map(|job| Ok((job, (job.prepare)(project)?))).collect()
}

fn part<'f>(project: &'f Project, job: &'static Job, reason: Option<&'f str>, share: Duration) -> Part<'f> {
    let run = move |context: &Context<'_>| match reason {
        Some(reason) => context.skip(reason.to_owned()),
        None => (job.run)(project, share).map(|()| Outcome::Passed),
    };
    Part { name: job.name, about: job.about, needs: &[], run: Box::new(run) }
}
