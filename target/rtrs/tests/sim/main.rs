//! Both engines, joined by a network that loses, delays and cuts, from one seed.
//!
//! `RTRS_SIM_SECONDS=n` runs fresh seeds for n seconds; `RTRS_SIM_SEED=n` runs one and prints its trace.

mod client_host;
mod net;
mod pacing;
mod server_host;
mod stream;
mod world;

use std::time::{Duration, Instant};
use world::{Options, Stats, World};

fn run(seed: u64, trace: bool) -> Result<Stats, String> {
    run_with(Options::swarm(seed), seed, trace)
}

fn run_with(options: Options, seed: u64, trace: bool) -> Result<Stats, String> {
    let shown = options.clone();
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(options, seed, trace);
        world.run();
        world.stats
    });
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("RTRS_SIM_SEED={seed}: {}\n{shown:?}", text.unwrap_or_default())
    })
}

#[test]
fn two_hundred_seeds_keep_every_promise() {
    let mut all = Stats::default();
    for seed in 0..200 {
        all.add(&run(seed, false).unwrap_or_else(|breach| panic!("{breach}")));
    }
    println!("{all:?}");
    // A network that does nothing to its connections would prove nothing.
    for (what, count) in all.rare() {
        assert!(count > 0, "no seed had any: {what}");
    }
}

/// As slow as a path may be: the largest request takes up to six times the detection time, and longer than the lease.
#[test]
fn a_slow_path_is_not_taken_for_dead_and_loses_nothing() {
    for seed in 0..60 {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let options = Options {
            clients: 1,
            paths: 1,
            buffers: 64,
            bytes_max: 5000,
            requests: 60,
            delay_ns: 1_000_000,
            byte_ns: rng.u64(100_000..800_000),
            faults: Vec::new(),
            ..Options::swarm(seed)
        };
        let stats = run_with(options, seed, false).unwrap_or_else(|breach| panic!("{breach}"));
        let told = (stats.answered, stats.path_faults, stats.stalls, stats.deaths);
        assert_eq!(told, (60, 0, 0, 0), "seed {seed}: answered, faults, stalls, deaths");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (one, two) = (run(7, false).expect("a sound run"), run(7, false).expect("a sound run"));
    assert_eq!(one, two);
}

#[test]
fn fresh_seeds_keep_every_promise() {
    if let Some(seed) = number("RTRS_SIM_SEED") {
        println!("{:?}", run(seed, true).unwrap_or_else(|breach| panic!("{breach}")));
        return;
    }
    let Some(seconds) = number("RTRS_SIM_SECONDS") else {
        println!("skipped: RTRS_SIM_SECONDS is not set, so no fresh seeds are run");
        return;
    };
    let (end, mut all, mut runs) = (Instant::now() + Duration::from_secs(seconds), Stats::default(), 0);
    while Instant::now() < end {
        all.add(&run(fastrand::u64(1000..), false).unwrap_or_else(|breach| panic!("{breach}")));
        runs += 1;
    }
    println!("{runs} fresh seeds: {all:?}");
}

/// Each mistake that can be brought back is noticed by some of the first seeds.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_noticed() {
    use tgt_rtrs::mutant::Mutant;
    std::panic::set_hook(Box::new(|_| ()));
    let mut unnoticed = Vec::new();
    // The others need a coincidence that chance seldom brings, which `rules` scripts, or reactors, which `hub` has.
    let elsewhere = [Mutant::SCRIPTED, Mutant::WAKES].concat();
    for &mutant in Mutant::ALL.iter().filter(|mutant| !elsewhere.contains(mutant)) {
        Mutant::set(Some(mutant));
        // Some need a coincidence that one in a hundred seeds has.
        let noticed = (0..2000).find_map(|seed| run(seed, false).err().map(|breach| (seed, breach)));
        match noticed {
            Some((seed, breach)) => {
                println!("{mutant:?}: {seed}: {}", breach.lines().next().unwrap_or_default())
            }
            None => unnoticed.push(mutant),
        }
    }
    Mutant::set(None);
    drop(std::panic::take_hook());
    assert!(unnoticed.is_empty(), "nobody notices {unnoticed:?}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
