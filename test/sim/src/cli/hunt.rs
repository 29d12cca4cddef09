//! Old mistakes, brought back: how many seeds each of them survives.

#[cfg(feature = "mutants")]
pub(crate) use with_mutants::{activate, hunt};
#[cfg(not(feature = "mutants"))]
pub(crate) use without::{activate, hunt};

#[cfg(feature = "mutants")]
mod with_mutants {
    use rmr_engine::mutant::Mutant;
    use rmr_sim::run::run_seed;
    use std::process::ExitCode;
    use std::time::Instant;

    /// Tries every mutant, or the one named, on seeds from `first` on; fails if one is not noticed.
    pub(crate) fn hunt(most: u64, first: u64, only: Option<&str>) -> ExitCode {
        let chosen: Vec<Mutant> = Mutant::ALL
            .iter()
            .copied()
            .filter(|m| only.is_none_or(|name| format!("{m:?}") == name))
            .collect();
        let survivors = chosen.iter().filter(|mutant| !is_caught(**mutant, most, first)).count();
        println!("{} of {} caught", chosen.len() - survivors, chosen.len());
        if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn is_caught(mutant: Mutant, most: u64, first: u64) -> bool {
        Mutant::activate(Some(mutant));
        let start = Instant::now();
        let caught = (0..most).find_map(|n| run_seed(first + n, false).breach.map(|breach| (n + 1, breach)));
        Mutant::activate(None);
        let Some((seeds, breach)) = caught else {
            println!("{mutant:?}: NOT caught by {most} seeds in {:.0} s", start.elapsed().as_secs_f64());
            return false;
        };
        let text: String = breach.to_string().lines().next().unwrap_or_default().chars().take(110).collect();
        if run_seed(first + seeds - 1, false).breach.is_some() {
            println!("{mutant:?}: seed {} fails without it, too: {text}", first + seeds - 1);
            return false;
        }
        println!("{mutant:?}: caught by seed {} ({seeds} seeds): {text}", first + seeds - 1);
        true
    }

    /// Switches the mutant of this name on, for this thread.
    pub(crate) fn activate(name: &str) -> bool {
        let found = Mutant::ALL.iter().find(|m| format!("{m:?}") == name);
        if found.is_none() {
            eprintln!("no mutant is called {name}; there are {:?}", Mutant::ALL);
        }
        Mutant::activate(found.copied());
        found.is_some()
    }
}

#[cfg(not(feature = "mutants"))]
mod without {
    use std::process::ExitCode;

    pub(crate) fn hunt(_: u64, _: u64, _: Option<&str>) -> ExitCode {
        eprintln!("--mutants: this build has none, build with --features mutants");
        ExitCode::from(2)
    }

    pub(crate) fn activate(name: &str) -> bool {
        eprintln!("--mutant {name}: this build has no mutants, build with --features mutants");
        false
    }
}
