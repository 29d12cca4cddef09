//! `rmr-sim`: runs seeds of the simulator. See the library's page.

use clap::Parser;
use rmr_sim::run::{Outcome, run_seed};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs the simulated cluster; exits 1 at the first broken promise and names its seed.
#[derive(Parser)]
#[command(name = "rmr-sim")]
struct Args {
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event.
    #[arg(long)]
    trace: bool,
    /// Run fresh random seeds for so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Run so many seeds, however long it takes.
    #[arg(long, conflicts_with = "seconds")]
    seeds: Option<u64>,
    /// First of the seeds run with --seconds or --seeds; random if not given.
    #[arg(long)]
    from: Option<u64>,
    /// Look for the smallest options under which the seed still fails.
    #[arg(long)]
    minimise: bool,
    /// For every old mistake: how many seeds, at most this many, until one notices it (needs a build with `mutants`).
    #[arg(long)]
    mutants: Option<u64>,
    /// Bring an old mistake back (needs a build with the `mutants` feature).
    #[arg(long)]
    mutant: Option<String>,
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    simulated: u64,
    events: u64,
    ios: u64,
    errors: u64,
    epochs: u64,
    compared: u64,
    faults: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.events += outcome.stats.events;
        self.ios += outcome.stats.ios;
        self.errors += outcome.stats.errors;
        self.epochs += outcome.stats.epochs;
        self.compared += outcome.stats.compared;
        for (kind, count) in &outcome.stats.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }

    fn print(&self, wall: Duration) {
        let seconds = wall.as_secs_f64();
        let faults: u64 = self.faults.values().sum();
        let kinds: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        println!("faults: {}", kinds.join(", "));
        println!(
            "{} seeds in {seconds:.1} s ({:.1}/s), {:.2} simulated hours, {} events ({:.1} M/min), {} IOs done, {} \
             failed, {} epochs, {} chunks compared, {faults} faults, 0 breaches",
            self.seeds,
            self.seeds as f64 / seconds,
            self.simulated as f64 / 3.6e12,
            self.events,
            self.events as f64 / seconds * 60e-6,
            self.ios,
            self.errors,
            self.epochs,
            self.compared,
        );
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A failed assertion is reported as a breach with its seed; the bare panic would only drown it.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(most) = args.mutants {
        return hunt(most, args.from.unwrap_or(1));
    }
    if let Some(name) = &args.mutant
        && !activate(name)
    {
        return ExitCode::from(2);
    }
    if let Some(seed) = args.seed {
        return one(seed, &args);
    }
    let first = args.from.unwrap_or_else(|| fastrand::u64(..));
    let start = Instant::now();
    let most = args.seeds.unwrap_or(u64::MAX);
    let length = args.seeds.map_or(Duration::from_secs(args.seconds.unwrap_or(10)), |_| Duration::MAX);
    let mut totals = Totals::default();
    let mut seed = first;
    while start.elapsed() < length && totals.seeds < most {
        let outcome = run_seed(seed, false);
        if let Some(breach) = &outcome.breach {
            println!("seed {seed}: {breach}");
            return ExitCode::FAILURE;
        }
        totals.add(&outcome);
        seed = seed.wrapping_add(1);
    }
    totals.print(start.elapsed());
    ExitCode::SUCCESS
}

fn one(seed: u64, args: &Args) -> ExitCode {
    if args.minimise {
        return match rmr_sim::run::minimise(seed) {
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
    let outcome = run_seed(seed, args.trace);
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

/// Tries every mutant on seeds from `first` on; fails if one is not noticed.
#[cfg(feature = "mutants")]
fn hunt(most: u64, first: u64) -> ExitCode {
    use rmr_engine::mutant::Mutant;
    let mut survivors = 0;
    for mutant in Mutant::ALL {
        Mutant::activate(Some(*mutant));
        let start = Instant::now();
        let caught = (0..most).find_map(|n| run_seed(first + n, false).breach.map(|breach| (n + 1, breach)));
        match caught {
            Some((seeds, breach)) => {
                let text: String =
                    breach.to_string().lines().next().unwrap_or_default().chars().take(110).collect();
                println!("{mutant:?}: caught by seed {} ({seeds} seeds): {text}", first + seeds - 1);
            }
            None => {
                survivors += 1;
                println!("{mutant:?}: NOT caught by {most} seeds in {:.0} s", start.elapsed().as_secs_f64());
            }
        }
    }
    Mutant::activate(None);
    println!("{} of {} caught", Mutant::ALL.len() - survivors, Mutant::ALL.len());
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "mutants"))]
fn hunt(_: u64, _: u64) -> ExitCode {
    eprintln!("--mutants: this build has none, build with --features mutants");
    ExitCode::from(2)
}

#[cfg(feature = "mutants")]
fn activate(name: &str) -> bool {
    use rmr_engine::mutant::Mutant;
    let found = Mutant::ALL.iter().find(|m| format!("{m:?}") == name);
    if found.is_none() {
        eprintln!("no mutant is called {name}; there are {:?}", Mutant::ALL);
    }
    Mutant::activate(found.copied());
    found.is_some()
}

#[cfg(not(feature = "mutants"))]
fn activate(name: &str) -> bool {
    eprintln!("--mutant {name}: this build has no mutants, build with --features mutants");
    false
}
