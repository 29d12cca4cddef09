//! Steps that are one run of cargo.

use crate::error::Error;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

pub(crate) fn fmt(context: &Context<'_>) -> Result<Outcome, Error> {
    if !installed("fmt") {
        return context.skip("rustfmt is not installed".to_owned());
    }
    Tool::cargo().args(["fmt", "--all", "--check"]).run()?;
    Ok(Outcome::Passed)
}

pub(crate) fn clippy(context: &Context<'_>) -> Result<Outcome, Error> {
    if !installed("clippy") {
        return context.skip("clippy is not installed".to_owned());
    }
    let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    Tool::cargo().args(args).run()?;
    Ok(Outcome::Passed)
}

pub(crate) fn doc(_: &Context<'_>) -> Result<Outcome, Error> {
    let doc = Tool::cargo().args(["doc", "--workspace", "--no-deps", "--locked"]);
    doc.env("RUSTDOCFLAGS", "-Dwarnings").run()?;
    Ok(Outcome::Passed)
}

/// Whether this toolchain has the component behind a subcommand of cargo: a minimal one has neither.
pub(super) fn installed(subcommand: &str) -> bool {
    Tool::cargo().args([subcommand, "--version"]).answers()
}
