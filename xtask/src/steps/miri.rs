//! The step `miri`: the pure crates' tests under the interpreter that sees undefined behaviour.

use std::time::Duration;

use crate::error::Error;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

const CRATES: &[&str] = &["tgt-status", "rmr-proto"];
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    // `cargo` of PATH: only rustup's front end knows `+nightly`.
    if !Tool::new("cargo").args(["+nightly", "miri", "--version"]).answers() {
        return context.skip("`cargo +nightly miri` is not installed".to_owned());
    }
    let tool = Tool::bounded("cargo", LIMIT).args(["+nightly", "miri", "test", "--locked", "--lib"]);
    CRATES
        .iter()
        .fold(tool, |tool, name| tool.args(["--package", name]))
        .arg("--target-dir")
        .arg(context.project.build_dir()?.join("miri"))
        // Property tests look for a file of old failures; and 256 cases of each would take an hour here.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env("PROPTEST_CASES", "4")
        .run()?;
    Ok(Outcome::Passed)
}
