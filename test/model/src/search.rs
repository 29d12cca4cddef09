//! Breadth first: every state that can be reached, the nearest first.

use crate::action::Action;
use crate::config::Config;
use crate::world::World;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a search stops.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Distinct states.
    pub states: usize,
    /// Time.
    pub time: Duration,
    /// Memory of the process, bytes, as the system counts it; 0 = no limit.
    pub memory: u64,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Distinct states.
    pub states: usize,
    /// Steps tried.
    pub steps: u64,
    /// Every state within so many steps of the start was looked at.
    pub depth: usize,
    /// Nothing was left to look at.
    pub exhausted: bool,
    /// How long it took.
    pub took: Duration,
    /// The promise broken, and the steps that lead there.
    pub breach: Option<(String, Vec<String>)>,
}

/// The fingerprint is its own hash.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u128(&mut self, i: u128) {
        self.0 = i as u64;
    }
}

/// How a state was reached.
struct Step {
    action: Action,
    before: Option<Arc<Step>>,
}

struct Reached {
    world: World,
    path: Option<Arc<Step>>,
}

/// Looks at every state of `config`, nearest first, until a limit or a broken promise.
pub fn search(config: &Config, limits: &Limits) -> Outcome {
    let start = Instant::now();
    let mut outcome =
        Outcome { states: 1, steps: 0, depth: 0, exhausted: false, took: Duration::ZERO, breach: None };
    let first = match caught(|| World::whole(config)) {
        Ok(first) => first,
        Err(what) => {
            outcome.breach = Some((what, Vec::new()));
            return outcome;
        }
    };
    let mut seen: HashSet<u128, BuildHasherDefault<AsIs>> = HashSet::default();
    seen.insert(first.print(config));
    let mut layer = vec![Reached { world: first, path: None }];
    'search: while !layer.is_empty() {
        let mut next = Vec::new();
        for Reached { world, path } in layer.drain(..) {
            for action in world.actions(config) {
                outcome.steps += 1;
                let path = Some(Arc::new(Step { action, before: path.clone() }));
                match caught(|| world.apply(config, action)) {
                    Ok(world) => {
                        if seen.insert(world.print(config)) {
                            next.push(Reached { world, path });
                        }
                    }
                    Err(what) => {
                        outcome.breach = Some((what, told(config, path)));
                        break 'search;
                    }
                }
            }
            if outcome.steps % 64 < 8 && over(limits, seen.len(), start) {
                break 'search;
            }
        }
        layer = next;
        outcome.depth += 1;
        outcome.exhausted = layer.is_empty();
    }
    outcome.states = seen.len();
    outcome.took = start.elapsed();
    outcome
}

fn over(limits: &Limits, states: usize, start: Instant) -> bool {
    states >= limits.states
        || start.elapsed() >= limits.time
        || (limits.memory > 0 && states.is_multiple_of(16) && memory_used() >= limits.memory)
}

/// Resident memory of this process, bytes; 0 where the system does not say.
pub fn memory_used() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// A failed assertion of an engine is a breach like any other.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("assertion failed: {}", text.unwrap_or_default()))
    })
}

/// The steps in words: replayed from the start, so that each message is named.
fn told(config: &Config, mut path: Option<Arc<Step>>) -> Vec<String> {
    let mut actions = Vec::new();
    while let Some(step) = path {
        actions.push(step.action);
        path = step.before.clone();
    }
    let Ok(mut world) = World::whole(config) else { return Vec::new() };
    let mut lines = Vec::new();
    for action in actions.into_iter().rev() {
        let parcel = match action {
            Action::Deliver(nth) | Action::Stray(nth) | Action::Double(nth) => world.net.get(nth),
            Action::Ghost(nth) => world.ghosts.get(nth),
            _ => None,
        };
        lines.push(match parcel {
            Some(p) => format!("{action:?} {} to {}: {:?}", p.from, p.to, p.msg),
            None => format!("{action:?}"),
        });
        match caught(|| world.apply(config, action)) {
            Ok(next) => world = next,
            Err(_) => break,
        }
    }
    lines
}
