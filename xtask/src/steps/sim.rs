//! The step `sim`: the simulator on seeds that are the same in each run, so that a change is judged and not luck. The
//! job `sim` of `soak` runs it on fresh ones.

use std::time::Duration;

use super::build::SIMULATOR;
use crate::error::Error;
use crate::project::Project;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

/// The seeds of this step.
const FIRST_SEED: &str = "100000";
const SEEDS: &str = "300";
/// What they may take on a slow machine.
const SEEDS_TIMEOUT: Duration = Duration::from_secs(300);
/// How much longer than asked the simulator may take to end by itself.
const GRACE: Duration = Duration::from_secs(60);

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    if let Some(reason) = not_offered(context.project)? {
        return context.skip(reason);
    }
    let simulator = context.project.release_bin(SIMULATOR)?;
    Tool::bounded(simulator, SEEDS_TIMEOUT).args(["--from", FIRST_SEED, "--seeds", SEEDS]).run()?;
    Ok(Outcome::Passed)
}

/// Why the release build of the simulator cannot be run for a given time; `None` if it can.
pub(crate) fn not_offered(project: &Project) -> Result<Option<String>, Error> {
    if !project.has_bin(SIMULATOR)? {
        return Ok(Some(format!("no member has a binary `{SIMULATOR}`")));
    }
    let (status, help, _) = Tool::new(project.release_bin(SIMULATOR)?).args(["--help"]).outcome()?;
    let offered = status.success() && help.contains("--seconds");
    Ok((!offered).then(|| format!("{SIMULATOR} has no `--seconds N`")))
}

/// Runs the release build of the simulator for `time` on fresh seeds.
pub(crate) fn fresh_seeds(project: &Project, time: Duration) -> Result<(), Error> {
    let seconds = time.as_secs().to_string();
    Tool::bounded(project.release_bin(SIMULATOR)?, time + GRACE).args(["--seconds", &seconds]).run()
}
