//! Which bdev runs on which reactor.

use crate::args::BdevArgs;
use perf_load::JobSpec;
use std::path::PathBuf;
use tgt_bdev::{Bdevs, Claim};

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PlanError {
    /// The configuration makes none.
    #[error("the configuration makes no bdev to load: give one that does, for example with bdev_null_create")]
    NoBdevs,
    /// A bdev was asked for that is not there.
    #[error("-b {asked:?}: there is no such bdev; the configuration makes {}", .there.join(", "))]
    NotFound {
        /// As given.
        asked: String,
        /// Names of those that are there.
        there: Vec<String>,
    },
    /// A bdev was asked for twice.
    #[error("-b {asked:?}: bdev {name:?} is already chosen; to load one bdev from several cores use -C")]
    Twice {
        /// As given.
        asked: String,
        /// Its name.
        name: String,
    },
    /// One state file for several jobs.
    #[error(
        "--state {path:?} is for one bdev on one core, this run has {jobs} jobs: choose one bdev with -b, and leave out -C"
    )]
    States {
        /// As given.
        path: PathBuf,
        /// Jobs of the run.
        jobs: usize,
    },
}

/// Names of the bdevs to load: those asked for, or every one that nothing claims (what stacks on it is loaded).
pub(crate) fn choose(bdevs: &Bdevs, asked: &[String]) -> Result<Vec<String>, PlanError> {
    let all = bdevs.all();
    if asked.is_empty() {
        let free = all.iter().filter(|bdev| bdev.claim() == Claim::None);
        let names: Vec<String> = free.map(|bdev| bdev.name().to_owned()).collect();
        return if names.is_empty() { Err(PlanError::NoBdevs) } else { Ok(names) };
    }
    let mut names = Vec::new();
    for asked in asked {
        let not_found = || match all.as_slice() {
            [] => PlanError::NoBdevs,
            all => {
                let there = all.iter().map(|bdev| bdev.name().to_owned()).collect();
                PlanError::NotFound { asked: asked.clone(), there }
            }
        };
        let name = bdevs.get(asked).ok_or_else(not_found)?.name().to_owned();
        if names.contains(&name) {
            return Err(PlanError::Twice { asked: asked.clone(), name });
        }
        names.push(name);
    }
    Ok(names)
}

/// Pairs of bdev and reactor, both by index: each bdev on one reactor in turn, or every bdev on every reactor.
fn assign(bdevs: usize, reactors: usize, every_core: bool) -> Vec<(usize, u32)> {
    let all = |bdev| (0..reactors).map(move |reactor| (bdev, reactor as u32));
    if every_core {
        return (0..bdevs).flat_map(all).collect();
    }
    (0..bdevs).map(|bdev| (bdev, (bdev % reactors) as u32)).collect()
}

/// The jobs of a run. Each has its own seed, so that no two of them visit the same addresses in step.
pub(crate) fn jobs(args: &BdevArgs, bdevs: &[String], reactors: usize) -> Result<Vec<JobSpec>, PlanError> {
    let pairs = assign(bdevs.len(), reactors, args.every_core).into_iter().zip(0u64..);
    let job = |((bdev, reactor), number): ((usize, u32), u64)| JobSpec {
        bdev: bdevs[bdev].clone(),
        reactor,
        workload: args.workload,
        read_percent: args.read_percent().unwrap_or_default(),
        queue_depth: args.queue_depth,
        io_bytes: args.io_bytes,
        limit: args.limit(),
        latency: !args.no_latency,
        seed: args.seed.wrapping_add(number),
        go_on: args.continue_on_error,
        state: args.state.clone(),
    };
    let jobs: Vec<JobSpec> = pairs.map(job).collect();
    match &args.state {
        Some(path) if jobs.len() > 1 => Err(PlanError::States { path: path.clone(), jobs: jobs.len() }),
        _ => Ok(jobs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdev_null::NullSpec;
    use std::sync::Arc;
    use tgt_bdev::{Desc, Mode};

    fn bdevs(names: &[&str]) -> Arc<Bdevs> {
        let bdevs = Bdevs::new();
        for name in names {
            let spec = NullSpec { name: (*name).to_owned(), uuid: None, block_size: 512, num_blocks: 1024 };
            bdev_null::create(&bdevs, spec).expect("a null bdev");
        }
        bdevs
    }

    fn ask(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn bdevs_go_to_the_cores_in_turn() {
        assert_eq!(assign(1, 1, false), [(0, 0)]);
        assert_eq!(assign(1, 3, false), [(0, 0)], "two cores have nothing to do");
        assert_eq!(assign(5, 2, false), [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]);
    }

    #[test]
    fn with_every_core_each_runs_all() {
        assert_eq!(assign(2, 2, true), [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(assign(2, 1, true), assign(2, 1, false));
    }

    #[test]
    fn without_names_every_bdev_is_loaded_but_those_that_something_stands_on() {
        let bdevs = bdevs(&["A", "B", "C"]);
        assert_eq!(choose(&bdevs, &[]), Ok(ask(&["A", "B", "C"])));
        let held = Desc::open(&bdevs.get("B").expect("there"), "a module", Mode::Write).expect("open");
        held.claim(Claim::ExclusiveWrite).expect("a claim");
        assert_eq!(choose(&bdevs, &[]), Ok(ask(&["A", "C"])));
    }

    #[test]
    fn a_bdev_may_be_asked_for_by_any_of_its_names_but_once() {
        let bdevs = bdevs(&["A", "B"]);
        let uuid = bdevs.get("B").expect("there").uuid().to_string();
        assert_eq!(choose(&bdevs, &[uuid.clone(), "A".to_owned()]), Ok(ask(&["B", "A"])));
        let twice = choose(&bdevs, &["B".to_owned(), uuid]).expect_err("twice").to_string();
        assert!(twice.contains("\"B\"") && twice.contains("-C"), "{twice}");
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let error = choose(&bdevs(&["A", "B"]), &ask(&["A", "X"])).expect_err("no X").to_string();
        assert!(error.contains("\"X\"") && error.contains("A, B"), "{error}");
        for asked in [ask(&[]), ask(&["A"])] {
            assert_eq!(choose(&Bdevs::new(), &asked), Err(PlanError::NoBdevs));
        }
    }

    #[test]
    fn one_state_file_is_for_one_job() {
        use clap::Parser;
        let line = "rmr-perf bdev -c a -w verify --state s";
        let crate::args::Command::Bdev(args) = crate::args::Cli::parse_from(line.split(' ')).command else {
            panic!("another command")
        };
        assert!(jobs(&args, &ask(&["A"]), 2).is_ok());
        let error = jobs(&args, &ask(&["A", "B"]), 2).expect_err("two jobs").to_string();
        assert!(error.contains("2 jobs") && error.contains("-b"), "{error}");
    }

    #[test]
    fn jobs_differ_in_their_seeds() {
        use clap::Parser;
        let line = "rmr-perf bdev -c a -C --seed 7 --ios 3 -w rw";
        let crate::args::Command::Bdev(args) = crate::args::Cli::parse_from(line.split(' ')).command else {
            panic!("another command")
        };
        let jobs = jobs(&args, &ask(&["A", "B"]), 2).expect("a plan");
        let seeds: Vec<u64> = jobs.iter().map(|job| job.seed).collect();
        assert_eq!(seeds, [7, 8, 9, 10]);
        assert!(jobs.iter().all(|job| job.read_percent == 50 && job.latency));
    }
}
