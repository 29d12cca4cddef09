//! End-to-end tests: real processes, real sockets, SPDK's own client.
//!
//! # What it is and is not
//! What the tests in `tests/` share: starting a target and ending it, talking to it in three ways, deriving calls
//! from the schema, and making the files that are generated from it. It tests nothing by itself.
//!
//! # Words
//! * *place*: where a program is: named by a variable (`RMR_TGT`, `RMR_PERF`, `RMR_RPC`, `RMR_VENV`), else found in
//!   the build folder. What is missing is skipped in one line.
//! * *shape*: the members and JSON kinds of a value, without the values.
//! * *fault*: one way to get a call wrong.
//!
//! # Who may call it, on which thread
//! Tests, on any thread. They may run at once: each target has a directory and a socket of its own.
//!
//! # Invariants
//! * A process that was started is ended by its id when its handle is dropped, also when a test panics.
//! * Nothing waits without a bound ([`PATIENCE`]).
//!
//! # Map of files
//! `places` programs · `target` a target's process · `pool` storage and compute nodes · `load` checked load on their
//! device · `spdk` SPDK's client, through `py/` · `raw` bytes on the socket ·
//! `shape` compare shapes · `calls` the examples in a sensible order · `faults` every wrong call · `state` what must
//! not change · `generate/` schema, reference, plugin · `data/` shapes recorded from SPDK · `py/` fixtures in Python.
//!
//! # Where the tests are
//! `tests/`, one file a subject; small ones beside the code.

pub mod calls;
pub mod faults;
pub mod generate;
pub mod load;
pub mod places;
pub mod pool;
pub mod raw;
pub mod shape;
pub mod spdk;
pub mod state;
pub mod target;

use std::time::Duration;

/// The bound of every wait. Nothing that works comes near it; it only keeps a broken test from hanging.
pub const PATIENCE: Duration = Duration::from_secs(30);
