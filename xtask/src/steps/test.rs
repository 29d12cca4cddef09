//! The step `test`: all tests of all crates.
//!
//! End-to-end tests are ordinary tests. They find the release binaries through the variables of
//! [`super::build::BINARIES`] and the Python environment through `RMR_VENV`, all absolute paths; a variable is unset
//! where there is no such thing. Tests that boot guests (files `tests/guest.rs`) are left to the step `guest`.

use std::path::PathBuf;

use super::build::BINARIES;
use super::{programs, venv};
use crate::error::Error;
use crate::project::Project;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let venv = venv::ready(context.project)?;
    let with = |tool: Tool| {
        let tool = tool.env("RMR_VM", "off");
        venv.iter().fold(tool, |tool, venv| tool.env("RMR_VENV", venv))
    };
    let binaries = binaries(context.project)?;
    let programs = programs::build(Tool::cargo().args(["test", "--workspace", "--locked"]))?;
    // One more than cores: there is always one that waits.
    let at_once = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    let tests = programs::run(programs, at_once, |tool| with(with_each(tool, &binaries)));
    let examples =
        with(Tool::cargo().args(["test", "--workspace", "--no-fail-fast", "--locked", "--doc"])).run();
    tests.and(examples)?;
    Ok(Outcome::Passed)
}

/// `tool`, told where the release binaries are.
pub(crate) fn with_binaries(project: &Project, tool: Tool) -> Result<Tool, Error> {
    Ok(with_each(tool, &binaries(project)?))
}

/// Variables and the release binaries that they name.
fn binaries(project: &Project) -> Result<Vec<(&'static str, PathBuf)>, Error> {
    let mut all = Vec::new();
    for (name, variable) in BINARIES {
        if project.has_bin(name)? {
            all.push((*variable, project.release_bin(name)?));
        }
    }
    Ok(all)
}

fn with_each(tool: Tool, binaries: &[(&'static str, PathBuf)]) -> Tool {
    binaries.iter().fold(tool, |tool, (variable, path)| tool.env(variable, path))
}
