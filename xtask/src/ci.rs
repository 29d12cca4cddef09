//! `cargo xtask ci`: the steps in order.

use clap::builder::PossibleValuesParser;

use crate::error::Error;
use crate::project::Project;
use crate::step::{self, Context, Part, Step};
use crate::steps::{build, cargo, deps, guest, layers, loom, miri, mutants, prepare, sim, test, tree};

/// Run what CI runs: checks, builds, tests, documentation
///
/// The steps run in order; each prints its name, its outcome and its time, and a table at the end sums up. The first
/// step that fails stops the run. What the machine cannot do (no huge pages, no Miri) is left out, each in one line
/// with the reason.
///
/// The step `prepare` lists what is missing on the machine before it installs anything, takes what is on PATH, and
/// uses apt-get only as root on Debian and Ubuntu; it never downgrades or removes a package.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Install nothing and change no setting of the machine; tests that need more say so and are left out
    #[arg(long)]
    no_install: bool,
    /// Run only these steps and those they need
    #[arg(long, value_name = "STEP", num_args = 1.., value_parser = names())]
    only: Vec<String>,
    /// Go on after a step that failed; the run fails all the same
    #[arg(long)]
    keep_going: bool,
    /// List the steps and run none
    #[arg(long)]
    list: bool,
}

/// In the order they run: first what fails fast.
const STEPS: &[Step] = &[
    Step { name: "prepare", about: "what the tests need of this machine", needs: &[], run: prepare::run },
    Step { name: "fmt", about: "every file is formatted by rustfmt", needs: &[], run: cargo::fmt },
    Step {
        name: "layers",
        about: "crates depend downwards, as layers.toml says",
        needs: &[],
        run: layers::run,
    },
    Step {
        name: "deps",
        about: "every dependency is explained in docs/dependencies.md",
        needs: &[],
        run: deps::run,
    },
    Step { name: "tree", about: "nothing is in the tree that must not be", needs: &[], run: tree::run },
    Step { name: "clippy", about: "lints of every target, warnings refused", needs: &[], run: cargo::clippy },
    Step { name: "build", about: "release build of the binaries", needs: &[], run: build::run },
    Step { name: "test", about: "all tests of all crates", needs: &["prepare", "build"], run: test::run },
    Step {
        name: "guest",
        about: "tests under a kernel of their own, in QEMU",
        needs: &["prepare", "build"],
        run: guest::run,
    },
    Step { name: "doc", about: "documentation, warnings refused", needs: &[], run: cargo::doc },
    Step {
        name: "loom",
        about: "every interleaving of the lock-free parts, within bounds",
        needs: &[],
        run: loom::run,
    },
    Step { name: "sim", about: "the simulator for a short while", needs: &["build"], run: sim::run },
    Step {
        name: "mutants",
        about: "old mistakes of the replication engine are noticed",
        needs: &[],
        run: mutants::run,
    },
    Step { name: "miri", about: "the pure crates under Miri", needs: &[], run: miri::run },
];

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.iter().map(|step| step.name))
}

pub(crate) fn run(project: &Project, args: &Args) -> Result<(), Error> {
    let steps = step::select(STEPS, &args.only);
    if args.list {
        for step in steps {
            println!("{:<8} {}", step.name, step.about);
        }
        return Ok(());
    }
    let steps: Vec<Part<'_>> = steps.into_iter().map(Part::from).collect();
    step::run_all(&Context::new(project, args.no_install), &steps, args.keep_going)
}

#[cfg(test)]
mod tests {
    use super::STEPS;

    #[test]
    fn a_step_needs_only_steps_that_run_before_it() {
        for (index, step) in STEPS.iter().enumerate() {
            for needed in step.needs {
                let before = STEPS[..index].iter().any(|earlier| earlier.name == *needed);
                assert!(before, "{} needs {needed}, which does not run before it", step.name);
            }
        }
    }
}
