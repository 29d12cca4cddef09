//! `rmr-model`: searches the small worlds. See the library's page.

use clap::Parser;
use rmr_model::search::memory_used;
use rmr_model::{Config, Limits, search};
use std::process::ExitCode;
use std::time::Duration;

/// Looks at every state of small worlds; exits 1 at the first broken promise and prints the steps that lead there.
#[derive(Parser)]
#[command(name = "rmr-model")]
struct Args {
    /// This world only; all of them if not given.
    #[arg(long)]
    world: Option<String>,
    /// Seconds for each world.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Distinct states for each world.
    #[arg(long, default_value_t = usize::MAX)]
    states: usize,
    /// Memory of the process, MiB.
    #[arg(long, default_value_t = 6144)]
    memory: u64,
    /// Bring an old mistake back (needs a build with the `mutants` feature).
    #[arg(long)]
    mutant: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|_| {}));
    if !args.mutant.as_deref().is_none_or(activate) {
        return ExitCode::from(2);
    }
    let worlds = match &args.world {
        None => Config::all(),
        Some(name) => match Config::named(name) {
            Some(config) => vec![config],
            None => {
                let names: Vec<_> = Config::all().iter().map(|config| config.name).collect();
                eprintln!("no world is called {name}; there are {}", names.join(", "));
                return ExitCode::from(2);
            }
        },
    };
    let limits =
        Limits { states: args.states, time: Duration::from_secs(args.seconds), memory: args.memory << 20 };
    for config in worlds {
        let outcome = search(&config, &limits);
        println!(
            "{:<12} {:>9} states, {:>9} steps, depth {:>3}, {}, {:.1} s, {} MiB",
            config.name,
            outcome.states,
            outcome.steps,
            outcome.depth,
            if outcome.exhausted { "exhausted" } else { "not exhausted" },
            outcome.took.as_secs_f64(),
            memory_used() >> 20,
        );
        if let Some((what, steps)) = outcome.breach {
            println!("{}: {what}", config.name);
            steps.iter().for_each(|step| println!("  {step}"));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
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
