//! The seeds that once failed, and that a seed is a run for ever.

use rmr_sim::run::{older_options_of, options_of, run_caught};
use rmr_sim::run_seed;

#[test]
fn seeds_that_once_failed_pass() {
    let lines =
        include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let (swarm, seed) = line.split_once(' ').expect("a line is a swarm and a seed");
        let seed = seed.parse().expect("a seed is a number");
        let options = match swarm {
            "third" => options_of(seed),
            older => older_options_of(older, seed).expect("the swarms are first, second and third"),
        };
        let outcome = run_caught(options, seed, false);
        assert!(outcome.breach.is_none(), "{line}: {}", outcome.breach.expect("just seen"));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 7, 11, 400, 401] {
        let (first, second) = (run_seed(seed, false), run_seed(seed, false));
        assert_eq!((first.hash, first.stats.events), (second.hash, second.stats.events), "seed {seed}");
        assert_ne!(first.hash, run_seed(seed + 1_000_000, false).hash);
    }
}
