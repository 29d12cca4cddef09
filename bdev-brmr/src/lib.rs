//! The replicated block device: what an operator sees of `bdev-rmr`.
//!
//! # What it is and is not
//! Stores on bdevs ([`store`]), replicated devices ([`device`]), and their methods. What they do while they serve is
//! `bdev-rmr`'s, and what is decided about replication the engine's.
//!
//! # Words
//! As in `docs/100-replication-contract.md` and `docs/120-replication-over-sessions.md`.
//!
//! # Who may call it, on which thread
//! Control threads.
//!
//! # Invariants
//! A call that fails has changed nothing: no bdev, no session, no pool and no byte on a disk is left of it.
//!
//! # Map of files
//! `device/` pools, legs and devices · `store/` stores · `peers` sessions of a storage node to the others.
//!
//! # Where the tests are
//! Beside the files; `test/e2e` drives whole processes.

pub mod device;
pub mod peers;
pub mod store;
