//! The step `test`: all tests of all crates.
//!
//! End-to-end tests are ordinary tests. They find the release binaries through the variables of
//! [`super::build::BINARIES`] and the Python environment through `RMR_VENV`, all absolute paths; a variable is unset
//! where there is no such thing. Tests that boot guests (files `tests/guest.rs`) are left to the step `guest`.

use super::build::BINARIES;
use super::venv;
use crate::error::Error;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let tool = Tool::cargo().args(["test", "--workspace", "--no-fail-fast", "--locked"]);
    let mut tool = with_binaries(context, tool.env("RMR_VM", "off"))?;
    if let Some(venv) = venv::ready(context.project)? {
        tool = tool.env("RMR_VENV", venv);
    }
    tool.run()?;
    Ok(Outcome::Passed)
}

/// `tool`, told where the release binaries are.
pub(super) fn with_binaries(context: &Context<'_>, mut tool: Tool) -> Result<Tool, Error> {
    for (name, variable) in BINARIES {
        if context.project.has_bin(name)? {
            tool = tool.env(variable, context.project.release_bin(name)?);
        }
    }
    Ok(tool)
}
