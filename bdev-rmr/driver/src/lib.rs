//! The replication engine, driven: docs/120.
//!
//! # What it is and is not
//! Both sides of the engine on reactors: [`pool`] drives a client of it over sessions, [`store`] a store of it over a bdev
//! and the same sessions. It decides nothing about replication (that is the engine's) and nothing about names, commands and
//! configurations (those are `bdev-brmr`'s).
//!
//! # Words
//! As in `docs/100-replication-contract.md` and `docs/120-replication-over-sessions.md`: *letter*, *hail*, *collect*.
//!
//! # Who may call it, on which thread
//! What drives: its own reactor, by `&mut Cx`. What control threads use says so.
//!
//! # Invariants
//! Those of `docs/120-replication-over-sessions.md`.
//!
//! # Map of files
//! `hail` what is said first · `pool/` the compute side · `store/` the storage side.
//!
//! # Where the tests are
//! Beside the files for what is local; `tests/` drives both sides over real sockets.

pub mod hail;
pub mod pool;
pub mod store;
