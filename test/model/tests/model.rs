//! A bounded search that must find nothing, and old mistakes that it must find.

use rmr_model::{Config, Limits, search};
use std::time::Duration;

/// The same number of states on every machine; the time is only a bound for a machine that hangs.
const QUICK: Limits = Limits { states: 12_000, time: Duration::from_secs(120), memory: 0 };

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
    let config = Config::named("ghost").expect("a world of that name");
    let (first, second) = (search(&config, &QUICK), search(&config, &QUICK));
    assert_eq!((first.states, first.steps, first.depth), (second.states, second.steps, second.depth));
    assert!(first.exhausted && first.states > 1_000, "{first:?}");
}

#[cfg(feature = "mutants")]
mod old_mistakes {
    use super::*;
    use rmr_engine::mutant::Mutant::{self, *};

    /// Each with the smallest world that shows it.
    const FOUND_IN: &[(Mutant, &str)] = &[
        (AckOnFirst, "any-order"),
        (NoDedup, "any-order"),
        (AnySendingAnswers, "any-order"),
        (NoOverlapOrder, "ghost"),
        (AnyEpoch, "drop"),
        (NoVerdict, "kill"),
        (NoFreeze, "kill"),
        (ServeAfterOpen, "power"),
        (IgnoreContinuity, "power"),
        (ClearUnflushed, "power"),
        (ClearWithoutMarks, "clear"),
        (NoDrain, "slow-disks"),
        (OnlyLeaversMarked, "three"),
    ];

    #[test]
    fn the_search_finds_old_mistakes() {
        let limits = Limits { states: 150_000, time: Duration::from_secs(300), memory: 0 };
        for (mutant, world) in FOUND_IN {
            let config = Config::named(world).expect("a world of that name");
            Mutant::activate(Some(*mutant));
            let outcome = search(&config, &limits);
            Mutant::activate(None);
            // Not a world that fails before its first step: that shows nothing.
            let found = outcome.breach.as_ref().is_some_and(|(_, steps)| !steps.is_empty());
            assert!(found, "{mutant:?} is not found in {world}: {outcome:?}");
            println!("{mutant:?}: {world}, depth {}, {} states", outcome.depth, outcome.states);
        }
    }
}
