//! The step `guest`: the tests that boot a kernel of their own, which are all files `tests/guest.rs`.
//!
//! One guest runs at a time, so these tests have a step and a bound of their own. `prepare` fetches the kernel.

use std::time::Duration;

use super::test::with_binaries;
use crate::error::Error;
use crate::step::{Context, Outcome};
use crate::tool::Tool;

/// All of them together: three and a half minutes on two cores with a load of eight.
const LIMIT: Duration = Duration::from_secs(360);

/// Exit status of `rmr-guest` where the machine cannot have guests.
const MISSING: i32 = 3;

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    if let Some(why) = missing()? {
        return context.skip(why);
    }
    // Built before the clock runs.
    tests(Tool::cargo()).arg("--no-run").run()?;
    with_binaries(context.project, tests(Tool::bounded("cargo", LIMIT)))?.run()?;
    Ok(Outcome::Passed)
}

fn tests(cargo: Tool) -> Tool {
    cargo.args(["test", "--workspace", "--no-fail-fast", "--locked", "--test", "guest"])
}

/// Fetches what guests boot from. Why that failed, in one line; none if it is there.
pub(super) fn fetch() -> Result<Option<String>, Error> {
    answer("fetch")
}

/// Why guests cannot be booted here, in one line; none if they can.
pub(super) fn missing() -> Result<Option<String>, Error> {
    answer("check")
}

fn answer(question: &str) -> Result<Option<String>, Error> {
    let tool = Tool::cargo().args(["run", "--quiet", "--locked", "--package", "test-vm", "--", question]);
    let (status, out, said) = tool.outcome()?;
    print!("{out}");
    match status.code() {
        Some(0) => Ok(None),
        Some(MISSING) => Ok(Some(said.trim().trim_start_matches("rmr-guest: ").to_owned())),
        _ => Err(Error::Status { command: format!("cargo run -p test-vm -- {question}"), status, said }),
    }
}
