//! Model check of the replication engine: every interleaving of a small world.
//!
//! # What it is and is not
//! A breadth-first search over the engine's own states ([`rmr_engine::client::Client`] and [`rmr_engine::store::Store`],
//! cloned at every step): two or three legs, one or two blocks, one or two clients. Each step is one thing that can
//! happen next: a message arrives, a disk finishes, a process dies. What happens seldom (crashes, writes, losses) has a
//! budget; everything else happens in any order. It says nothing about liveness or speed, and nothing about torn
//! metadata: a commit is one step here, the simulator tears it.
//!
//! # Words
//! *World*: one state. *Action*: one step. *Budget*: how often something may still happen. *Ghost*: a message that left
//! its place in the order: it arrives at any time, or never. *Fingerprint*: 128 bits that stand for a state.
//!
//! # Who may call it
//! Its tests and the `rmr-model` binary, one search per thread.
//!
//! # Invariants
//! What is checked in every state stands in `check`. Two states with one fingerprint count as one: the parts of a world
//! that hold the same make the same fingerprint, in whatever order they came to be. Counters of the engine are not
//! renamed, so two states that differ in a counter alone count as two: slower, never wrong.
//!
//! # Map of files
//! `world` states · `action` what can happen, and its effect · `node` a store and its disk · `oracle` what a block may
//! hold · `check` properties · `search` breadth first · `fingerprint` · `config` small worlds by name.
//!
//! # Where the tests are
//! `tests/model.rs`: a bounded search that must find nothing, and, with the feature `mutants`, old mistakes that it must
//! find.

mod action;
mod check;
pub mod config;
mod fingerprint;
mod node;
mod oracle;
pub mod search;
mod world;

pub use config::Config;
pub use search::{Limits, Outcome, search};
