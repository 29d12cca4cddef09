//! A bounded search that must find nothing, and old mistakes that it must find.

use rmr_model::{Config, Limits, search};
use std::time::Duration;

/// The same number of states on every machine; the time is only a bound for a machine that hangs.
const QUICK: Limits = Limits { states: 25_000, time: Duration::from_secs(120), memory: 0 };

#[test]
fn no_interleaving_of_a_small_world_breaks_a_promise() {
    for config in Config::all() {
        let outcome = search(&config, &QUICK);
        assert!(outcome.breach.is_none(), "{}: {:#?}", config.name, outcome.breach);
        assert!(outcome.exhausted || outcome.states >= QUICK.states, "{}: {outcome:?}", config.name);
    }
}

#[test]
fn a_search_looks_at_the_same_states_every_time() {
    let config = Config::named("slow-disks").expect("a world of that name");
    let (first, second) = (search(&config, &QUICK), search(&config, &QUICK));
    assert_eq!((first.states, first.steps, first.depth), (second.states, second.steps, second.depth));
    assert!(first.exhausted && first.states > 1_000, "{first:?}");
}
