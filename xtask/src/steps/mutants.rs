//! The step `mutants`: old mistakes of the replication engine are brought back one at a time; each must fail its named
//! scenario, and some must be found by the model check. The same for mistakes of sessions, in their simulated network, and
//! for their wake-ups, on reactors that sleep.

use crate::error::Error;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

pub(crate) fn run(_: &Context<'_>) -> Result<Outcome, Error> {
    let packages = ["test", "--locked", "-p", "rmr-sim", "-p", "rmr-model"];
    let features =
        ["--features", "rmr-sim/mutants,rmr-model/mutants", "--test", "hazards", "--test", "model"];
    Tool::cargo().args(packages).args(features).run()?;
    let sessions = ["test", "--locked", "-p", "tgt-rtrs", "--features", "mutants"];
    Tool::cargo().args(sessions).args(["--test", "sim", "--test", "rules", "--test", "hub"]).run()?;
    Ok(Outcome::Passed)
}
