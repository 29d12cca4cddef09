//! The step `sim`: the simulator for a short while; `soak` runs it for longer.

use std::time::Duration;

use super::build::SIMULATOR;
use crate::error::Error;
use crate::project::Project;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

const SMOKE: Duration = Duration::from_secs(20);
/// How much longer than asked the simulator may take to end by itself.
const GRACE: Duration = Duration::from_secs(60);

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    if let Some(reason) = not_offered(context.project)? {
        return context.skip(reason);
    }
    smoke(context.project, SMOKE)?;
    Ok(Outcome::Passed)
}

/// Why the release build of the simulator cannot be run for a given time; `None` if it can.
pub(crate) fn not_offered(project: &Project) -> Result<Option<String>, Error> {
    if !project.has_bin(SIMULATOR)? {
        return Ok(Some(format!("no member has a binary `{SIMULATOR}`")));
    }
    let (status, help, _) = Tool::new(project.release_bin(SIMULATOR)?).args(["smoke", "--help"]).outcome()?;
    let offered = status.success() && help.contains("--seconds");
    Ok((!offered).then(|| format!("{SIMULATOR} has no `smoke --seconds N`")))
}

/// Runs the release build of the simulator for `time` on seeds of its own choice.
pub(crate) fn smoke(project: &Project, time: Duration) -> Result<(), Error> {
    let seconds = time.as_secs().to_string();
    Tool::bounded(project.release_bin(SIMULATOR)?, time + GRACE).args(["smoke", "--seconds", &seconds]).run()
}
