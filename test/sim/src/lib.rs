//! The simulator that proves the replication engine.
//!
//! # What it is and is not
//! A whole cluster in one thread from one seed: the engines of production on a virtual network, virtual disks and a
//! virtual clock, a load, faults, and checkers after every event. It measures nothing.
//!
//! # Words
//! *World*: everything. *Life*: one run of one process, from start to crash. *Oracle*: what each block may hold.
//! *Breach*: a promise broken; the run ends with it. *Swarm*: each seed switches on a random subset of the faults.
//!
//! # Who may call it
//! Tests and the `rmr-sim` binary, one world per thread.
//!
//! # Invariants
//! The same seed gives the same trace, hash for hash: no clock, no hash map order, no thread.
//!
//! # Map of files
//! `world` events, time, messages · `stores`, `clients` driving the engines · `node` a storage node · `host` a compute node and its load · `disk` ·
//! `net` · `oracle` what blocks may hold · `check` what is compared across engines · `coverage` which
//! event met which state · `faults` the swarm's hand · `operations` commands · `forks` starts by force · `media` rot and scrub ·
//! `options` what a seed switches on · `run` a seed from start to verdict · `script` the scenario
//! language, `hand` what it can do that chance cannot.
//!
//! # Where the tests are
//! `tests/`: hazards by name, review traces by name, the seeds of `seeds.txt`, determinism.

mod check;
mod clients;
pub mod coverage;
mod disk;
mod faults;
mod forks;
mod hand;
mod host;
mod media;
mod net;
mod node;
mod operations;
pub mod options;
mod oracle;
pub mod run;
pub mod script;
mod stores;
pub mod world;

pub use options::Options;
pub use run::{Outcome, run_seed};
pub use world::World;

/// A promise of the contract was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Virtual time, ns.
    pub at: u64,
    /// Which checker, and what it saw.
    pub what: String,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {:.6} s: {}", self.at as f64 / 1e9, self.what)
    }
}
