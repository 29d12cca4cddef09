//! What the replication engine itself costs: time, allocations, metadata writes; no IO.
//!
//! # What it is and is not
//! A client engine and its store engines in one thread, with nothing between them: a message is an argument, a disk is
//! a queue of completions due at once or after a fixed virtual time. No byte is copied, no socket or file is opened.
//! It proves nothing about correctness: that is `test/sim`.
//!
//! # Words
//! *Rig*: the client and its stores. *Pattern*: which block is written next. *Steady state*: after enough IO that
//! every table has grown to its size and every region in use has its intent entry.
//!
//! # Who may call it, on which thread
//! Benches and tests, one rig per thread.
//!
//! # Invariants
//! In steady state the rig itself allocates nothing, so what is counted is the engine's. Virtual time only: the same
//! calls give the same counts.
//!
//! # Map of files
//! `rig` · `pattern` · `../benches/cost.rs` ns and allocations per IO · `../benches/intents.rs` metadata writes.
//!
//! # Where the tests are
//! `tests/`: allocations per IO, metadata writes of the intent log; beside `pattern` its distribution.

mod pattern;
mod rig;

pub use pattern::Pattern;
pub use rig::{Counts, MS, Rig, Shape, TICK_NS, US};
