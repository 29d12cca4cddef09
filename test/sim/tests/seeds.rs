//! The seeds that once failed, and that a seed is a run for ever.

use rmr_sim::run_seed;

#[test]
fn seeds_that_once_failed_pass() {
    let seeds =
        include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for seed in seeds.map(|line| line.parse().expect("a seed is a number")) {
        let outcome = run_seed(seed, false);
        assert!(outcome.breach.is_none(), "seed {seed}: {}", outcome.breach.expect("just seen"));
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
