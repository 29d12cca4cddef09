//! The step `loom`: tests of lock-free code under the loom model checker.

use crate::error::Error;
use crate::project::Package;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let packages = &context.project.metadata()?.packages;
    let with_loom: Vec<&Package> =
        packages.iter().filter(|package| package.dependencies.iter().any(|dep| dep.name == "loom")).collect();
    if with_loom.is_empty() {
        return context.skip("no crate depends on loom".to_owned());
    }
    for package in with_loom {
        model_check(context, package)?;
    }
    Ok(Outcome::Passed)
}

/// In a build folder of its own: `--cfg loom` changes every crate, and would throw away the ordinary build.
fn model_check(context: &Context<'_>, package: &Package) -> Result<(), Error> {
    let mut flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.push_str(" --cfg loom");
    Tool::cargo()
        .args(["test", "--package", &package.name, "--lib", "--release", "--locked", "--target-dir"])
        .arg(context.project.build_dir()?.join("loom"))
        .env("RUSTFLAGS", flags.trim_start())
        .env("CARGO_PROFILE_RELEASE_LTO", "false")
        .run()
}
