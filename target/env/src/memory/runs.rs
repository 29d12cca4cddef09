//! A set of granule runs: lowest-first placement, neighbours merge.

use std::collections::BTreeMap;

/// Consecutive granules: index of the first (from the base of the reservation) and count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) count: u32,
}

impl Run {
    pub(super) fn end(self) -> u32 {
        self.first + self.count
    }
}

/// Disjoint, never touching runs, by first granule.
#[derive(Debug, Default)]
pub(super) struct RunSet {
    runs: BTreeMap<u32, u32>,
}

impl RunSet {
    /// Adds a run that must not overlap what is there.
    pub(super) fn insert(&mut self, run: Run) {
        let mut merged = run;
        if let Some((&first, &count)) = self.runs.range(..=run.first).next_back() {
            assert!(first + count <= run.first, "granules {run:?} given back twice");
            if first + count == run.first {
                merged = Run { first, count: count + run.count };
            }
        }
        if let Some((&first, &count)) = self.runs.range(run.first + 1..).next() {
            assert!(run.end() <= first, "granules {run:?} given back twice");
            if run.end() == first {
                self.runs.remove(&first);
                merged.count += count;
            }
        }
        self.runs.insert(merged.first, merged.count);
    }

    /// Takes `count` granules from the lowest place where they fit with `first` a multiple of `align`.
    pub(super) fn take_lowest(&mut self, count: u32, align: u32) -> Option<Run> {
        let place = self.runs.iter().find_map(|(&first, &have)| {
            let start = first.next_multiple_of(align);
            (start - first + count <= have).then_some(Run { first: start, count })
        })?;
        assert!(self.take(place), "the place just found is free");
        Some(place)
    }

    /// Takes exactly `run` if all of it is there.
    pub(super) fn take(&mut self, run: Run) -> bool {
        let Some((&first, &count)) = self.runs.range(..=run.first).next_back() else {
            return false;
        };
        let end = first + count;
        if run.end() > end {
            return false;
        }
        self.runs.remove(&first);
        if first < run.first {
            self.runs.insert(first, run.first - first);
        }
        if run.end() < end {
            self.runs.insert(run.end(), end - run.end());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPACE: u32 = 64;

    /// The slow, obvious version: one flag a granule.
    #[derive(Clone)]
    struct Oracle([bool; SPACE as usize]);

    impl Oracle {
        fn all_free(&self, run: Run) -> bool {
            run.end() <= SPACE && (run.first..run.end()).all(|g| self.0[g as usize])
        }
        fn set(&mut self, run: Run, free: bool) {
            (run.first..run.end()).for_each(|g| self.0[g as usize] = free);
        }
        fn lowest(&self, count: u32, align: u32) -> Option<Run> {
            (0..SPACE)
                .step_by(align as usize)
                .map(|first| Run { first, count })
                .find(|&run| self.all_free(run))
        }
        fn runs(&self) -> Vec<(u32, u32)> {
            let mut runs: Vec<(u32, u32)> = Vec::new();
            for granule in (0..SPACE).filter(|&g| self.0[g as usize]) {
                match runs.last_mut() {
                    Some((first, count)) if *first + *count == granule => *count += 1,
                    _ => runs.push((granule, 1)),
                }
            }
            runs
        }
    }

    proptest! {
        #[test]
        fn placement_and_merging_agree_with_a_bitmap(
            steps in prop::collection::vec((any::<bool>(), 1u32..12, 0u32..3, any::<prop::sample::Index>()), 1..120),
        ) {
            let mut set = RunSet::default();
            let mut oracle = Oracle([true; SPACE as usize]);
            let mut held: Vec<Run> = Vec::new();
            set.insert(Run { first: 0, count: SPACE });
            for (give_back, count, align_shift, which) in steps {
                if give_back && !held.is_empty() {
                    let run = held.swap_remove(which.index(held.len()));
                    set.insert(run);
                    oracle.set(run, true);
                } else {
                    let expected = oracle.lowest(count, 1 << align_shift);
                    prop_assert_eq!(set.take_lowest(count, 1 << align_shift), expected);
                    if let Some(run) = expected {
                        oracle.set(run, false);
                        held.push(run);
                    }
                }
                let runs: Vec<_> = set.runs.iter().map(|(&first, &count)| (first, count)).collect();
                prop_assert_eq!(runs, oracle.runs());
            }
        }
    }

    #[test]
    fn an_exact_run_is_taken_only_when_all_of_it_is_free() {
        let mut set = RunSet::default();
        set.insert(Run { first: 4, count: 4 });
        assert!(!set.take(Run { first: 3, count: 2 }));
        assert!(!set.take(Run { first: 6, count: 3 }));
        assert!(set.take(Run { first: 5, count: 2 }));
        assert_eq!(set.runs.into_iter().collect::<Vec<_>>(), [(4, 1), (7, 1)]);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn a_run_given_back_twice_is_a_bug_that_stops_the_process() {
        let mut set = RunSet::default();
        set.insert(Run { first: 0, count: 4 });
        set.insert(Run { first: 2, count: 1 });
    }
}
