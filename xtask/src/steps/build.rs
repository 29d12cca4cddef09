//! The step `build`: the product's binaries as they are shipped.

use crate::error::Error;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

/// What must come out of the build, each from the package of the same name, and the variable that tells end-to-end tests where it is.
pub(crate) const BINARIES: &[(&str, &str)] =
    &[("rmr_tgt", "RMR_TGT"), ("rmr-perf", "RMR_PERF"), ("rmr-rpc", "RMR_RPC"), (SIMULATOR, "RMR_SIM")];

/// A tool for developers: the product builds without it.
pub(crate) const SIMULATOR: &str = "rmr-sim";

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let mut names = Vec::new();
    for (name, _) in BINARIES {
        if context.project.has_bin(name)? {
            names.push(*name);
        } else if *name == SIMULATOR {
            context.leave_out(format!("no member has a binary `{name}`"));
        } else {
            return Err(Error::form("the workspace", format!("no member has a binary `{name}`")));
        }
    }
    release(&names)?;
    Ok(Outcome::Passed)
}

/// Builds, as they are shipped, the binaries of the packages `names`: nothing else shares in choosing features.
pub(crate) fn release(names: &[&str]) -> Result<(), Error> {
    let tool = Tool::cargo().args(["build", "--release", "--locked", "--bins"]);
    names.iter().fold(tool, |tool, name| tool.args(["--package", name])).run()
}
