//! Many seeds, on several threads: one world per thread.

use crate::totals::Totals;
use rmr_sim::Options;
use rmr_sim::run::{Outcome, options_of, run_caught};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// When to stop, and on how many threads.
pub(crate) struct Plan {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) length: Duration,
    pub(crate) hours: f64,
    pub(crate) jobs: usize,
    /// Count which event meets which state, and print it.
    pub(crate) coverage: bool,
}

/// Runs seeds until the plan is fulfilled or one breaks a promise.
pub(crate) fn run(plan: &Plan) -> ExitCode {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let (sender, receiver) = channel();
    let breaches = std::thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            let (sender, next, stop) = (sender.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && start.elapsed() < plan.length {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= plan.seeds {
                        return;
                    }
                    let seed = plan.first.wrapping_add(nth);
                    let options = Options { coverage: plan.coverage, ..options_of(seed) };
                    if sender.send((seed, run_caught(options, seed, false))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        collect(plan, &receiver, &stop, start)
    });
    if breaches == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Adds up what comes in; prints every breach, and a line now and then where somebody looks on. How many breaches.
fn collect(plan: &Plan, outcomes: &Receiver<(u64, Outcome)>, stop: &AtomicBool, start: Instant) -> usize {
    let mut totals = Totals::default();
    let mut breaches = 0;
    let mut told = start;
    let watched = std::io::stderr().is_terminal();
    loop {
        match outcomes.recv_timeout(PROGRESS_EVERY) {
            Ok((seed, outcome)) => {
                totals.add(&outcome);
                if let Some(breach) = &outcome.breach {
                    println!("seed {seed}: {breach}");
                    breaches += 1;
                }
                if breaches > 0 || totals.hours() >= plan.hours {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if watched && told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            eprintln!("{}", totals.progress(start.elapsed()));
        }
    }
    if plan.coverage {
        print!("{}", rmr_sim::coverage::report(&totals.pairs));
    }
    totals.print(start.elapsed(), breaches);
    breaches
}
