//! `cargo xtask`: the project's own commands.
//!
//! ## What it is and is not
//! One small binary that runs what CI runs, on any machine, in the same order, and says how long each part took.
//! It holds no part of the product and links none of it: it drives `cargo`, `git`, `apt-get`, `pip` and the built
//! binaries as a person would. It does not measure the product; benches live in `perf/`.
//!
//! ## Words
//! * *step*: one part of `ci`; a name, one line about it, the steps it needs, a function.
//! * *left out*: something a step did not do, with the reason in one line; a step left out as a whole is *skipped*.
//! * *complaint*: one line about the sources that a checking step (`layers`, `deps`, `tree`) objects to.
//! * *job*: one part of `soak`, bounded in time.
//!
//! ## Who may call it, on which thread
//! A person or a CI runner, from anywhere inside the checkout. Everything runs on the main thread, one tool at a time.
//!
//! ## Invariants
//! * Nothing outside `.build/` and `test/fuzz/` is written, but for packages, Rust components and huge pages (step
//!   `prepare`, listed first, refused by `--no-install`).
//! * A step that cannot do its work either fails or says in one line what was left out. It never passes in silence.
//! * Fuzzing, the simulator and Miri are ended after their time; tests bound themselves, and are not ended from here.
//!
//! ## Map of files
//! `ci.rs` the steps in order · `step.rs` running them and the summary · `steps/` one file a step · `layers/` the
//! layer table and its checks · `fuzz.rs`, `fuzz/` fuzzing · `soak.rs` the long jobs · `deb.rs` the package · `project.rs` root and cargo
//! metadata · `tool.rs` running other programs · `error.rs`.
//!
//! ## Where the tests are
//! Beside each checker: `layers/check.rs`, `layers/lints.rs`, `steps/deps.rs`, `steps/words.rs`, `fuzz/stats.rs`,
//! `step.rs`, `ci.rs`, `fuzz.rs`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod ci;
mod deb;
mod error;
mod fuzz;
mod layers;
mod project;
mod soak;
mod step;
mod steps;
mod tool;

use error::Error;
use project::Project;

/// The project's own commands.
///
/// `cargo xtask ci` is what CI runs. Everything is built into `.build/`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ci(ci::Args),
    Deb(deb::Args),
    Fuzz(fuzz::Args),
    Soak(soak::Args),
}

fn run(cli: &Cli) -> Result<(), Error> {
    let project = Project::find()?;
    match &cli.command {
        Command::Ci(args) => ci::run(&project, args),
        Command::Deb(args) => deb::run(&project, args),
        Command::Fuzz(args) => fuzz::run(&project, args),
        Command::Soak(args) => soak::run(&project, args),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
