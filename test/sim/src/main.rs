//! `rmr-sim`: runs seeds of the simulator. See the library's page.

#[path = "cli/hunt.rs"]
mod hunt;
#[path = "cli/pool.rs"]
mod pool;
#[path = "cli/totals.rs"]
mod totals;

use clap::Parser;
use rmr_sim::run::{older_options_of, options_of, run_caught};
use std::process::ExitCode;
use std::time::Duration;

/// Runs the simulated cluster; exits 1 at the first broken promise and names its seed.
#[derive(Parser)]
#[command(name = "rmr-sim")]
struct Args {
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: as in an older swarm, which lines of seeds.txt were found with: first, second.
    #[arg(long, requires = "seed")]
    swarm: Option<String>,
    /// With --seed: print every event.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run fresh random seeds for so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Run so many seeds, however long it takes.
    #[arg(long, conflicts_with = "seconds")]
    seeds: Option<u64>,
    /// Run seeds until so many hours have been simulated.
    #[arg(long, conflicts_with = "seconds")]
    hours: Option<f64>,
    /// Threads; each runs seeds of its own.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// First of the seeds run with --seconds, --seeds or --hours; random if not given.
    #[arg(long)]
    from: Option<u64>,
    /// With --seed: look for the smallest options under which it still fails.
    #[arg(long, requires = "seed")]
    minimise: bool,
    /// Print which event met which state of the engine how often, and which never did.
    #[arg(long)]
    coverage: bool,
    /// For every old mistake: how many seeds, at most this many, until one notices it (needs a build with `mutants`).
    #[arg(long)]
    mutants: Option<u64>,
    /// Bring an old mistake back, or try this one alone (needs a build with the `mutants` feature).
    #[arg(long)]
    mutant: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A failed assertion is reported as a breach with its seed; the bare panic would only drown it.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(most) = args.mutants {
        return hunt::hunt(most, args.from.unwrap_or(1), args.mutant.as_deref());
    }
    if let Some(name) = &args.mutant
        && !hunt::activate(name)
    {
        return ExitCode::from(2);
    }
    if let Some(seed) = args.seed {
        return one(seed, &args);
    }
    let open_ended = args.seeds.is_some() || args.hours.is_some();
    let seconds = if open_ended { None } else { Some(args.seconds.unwrap_or(10)) };
    pool::run(&pool::Plan {
        first: args.from.unwrap_or_else(|| fastrand::u64(..)),
        seeds: args.seeds.unwrap_or(u64::MAX),
        length: seconds.map_or(Duration::MAX, Duration::from_secs),
        hours: args.hours.unwrap_or(f64::INFINITY),
        jobs: args.jobs,
        coverage: args.coverage,
    })
}

fn one(seed: u64, args: &Args) -> ExitCode {
    let options = match &args.swarm {
        None => Some(options_of(seed)),
        Some(swarm) => older_options_of(swarm, seed),
    };
    let Some(options) = options else {
        eprintln!("--swarm: there are first and second; without it a seed stands for what it does today");
        return ExitCode::from(2);
    };
    if args.minimise {
        return match rmr_sim::run::minimise(options, seed) {
            Some(outcome) => {
                println!("{:#?}", outcome.options);
                println!("seed {seed}: {}", outcome.breach.map_or_else(String::new, |b| b.to_string()));
                ExitCode::FAILURE
            }
            None => {
                println!("seed {seed} does not fail");
                ExitCode::SUCCESS
            }
        };
    }
    let outcome = run_caught(options, seed, args.trace);
    if args.trace {
        println!("{:?}", outcome.options);
    }
    println!("hash {:016x}, {} events", outcome.hash, outcome.stats.events);
    match &outcome.breach {
        Some(breach) => {
            println!("seed {seed}: {breach}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
