//! # rmr-perf: measures bdevs and sessions on pinned cores
//!
//! **What it is.** The command line around the load generator (`perf/load`): it starts a target in its own process,
//! with the same configuration files, cores and memory as `rmr_tgt`, keeps queues of IO full on its bdevs, and tells
//! what came out, to a person as a table or to a program as one JSON object (docs/rmr-perf.md). It opens bdevs as any
//! export does: there is no path around the block layer, and it measures nothing itself.
//!
//! **Words.** *job*: one bdev on one reactor. *outcome*: all that is known after a run. *setting*: what makes figures
//! comparable (processor, cores, clock, sleep policy, pages).
//!
//! **Who may call it.** The main thread of the process: it blocks until the run is over.
//!
//! **Invariants.** Standard output holds the result and nothing else; everything else goes to standard error. A run
//! that Ctrl-C ends early is reported like any other, and says so. The target is stopped on every path.
//!
//! **Map.** `main.rs` the process · `args.rs` its arguments · `units.rs` sizes and figures as people write them ·
//! `plan.rs` which bdev on which core · `session.rs` target, run, stop · `progress.rs` the live line · `setting.rs` ·
//! `outcome.rs` the JSON form · `table.rs` the form for people · `plot.rs` the picture · `compare.rs` two results · `rtrs/` sessions between two processes · `error.rs` with exit codes.
//!
//! **Tests.** Small ones beside the code; `tests/`: the command as a whole. `benches/` is about the IO path.

mod args;
mod compare;
mod error;
mod outcome;
mod plan;
mod plot;
mod progress;
mod rtrs;
mod session;
mod setting;
mod table;
mod units;

use crate::args::{BdevArgs, Cli, Command, CompareArgs};
use crate::error::PerfError;
use crate::outcome::Outcome;
use std::io::Write;
use std::process::ExitCode;

/// The command line, for what is made from it: the manual page.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs the command with the arguments of the process. Its exit codes are in docs/rmr-perf.md.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Cli::from_process().command {
        Command::Bdev(args) => bdev(&args),
        Command::Compare(args) => compare(&args),
        Command::Rtrs(args) => rtrs::run(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// `rmr-perf bdev`.
fn bdev(args: &BdevArgs) -> Result<u8, PerfError> {
    let outcome = session::run(args)?;
    print(&outcome, args.json).map_err(PerfError::Output)?;
    Ok(outcome.exit_code())
}

/// `rmr-perf compare`.
fn compare(args: &CompareArgs) -> Result<u8, PerfError> {
    let page = compare::page(&args.first, &args.second)?;
    let mut out = std::io::stdout().lock();
    out.write_all(page.as_bytes()).and_then(|()| out.flush()).map_err(PerfError::Output)?;
    Ok(tgt_app::exit::OK)
}

fn print(outcome: &Outcome, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, outcome)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", table::page(outcome, table::terminal_width()))?;
    }
    out.flush()
}
