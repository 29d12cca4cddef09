//! The step `test`: all tests of all crates.
//!
//! End-to-end tests are ordinary tests. They find the release binaries through the variables of
//! [`super::build::BINARIES`] and the Python environment through `RMR_VENV`, all absolute paths; a variable is unset
//! where there is no such thing.

use super::build::BINARIES;
use super::venv;
use crate::error::Error;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let mut tool = Tool::cargo().args(["test", "--workspace", "--no-fail-fast", "--locked"]);
    for (name, variable) in BINARIES {
        if !context.project.has_bin(name)? {
            continue;
        }
        tool = tool.env(variable, context.project.release_bin(name)?);
    }
    if let Some(venv) = venv::ready(context.project)? {
        tool = tool.env("RMR_VENV", venv);
    }
    tool.run()?;
    Ok(Outcome::Passed)
}
