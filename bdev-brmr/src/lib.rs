//! The replicated block device: what an operator sees of `bdev-rmr`.
//!
//! # What it is and is not
//! Stores on bdevs ([`store`]), replicated devices ([`device`]), and their methods. What they do while they serve is
//! `bdev-rmr`'s, and what is decided about replication the engine's.
//!
//! # Words
//! As in `docs/100-replication-contract.md` and `docs/120-replication-over-sessions.md`. *store*: what one member has on a bdev.
//! *label*: a name for a pool that this process remembers; the pool is its UUID.
//!
//! # Who may call it, on which thread
//! Control threads.
//!
//! # Invariants
//! A call that fails has changed nothing, unless its error says what was written. A store is claimed by nobody else while
//! it is open. A saved configuration opens stores; it never makes one.
//!
//! # Map of files
//! `device/` pools, legs and devices · `store/` stores · `peers` sessions of a storage node to the others.
//!
//! # Where the tests are
//! Beside the files and in `tests/`: the methods, on real reactors and bdevs; `test/e2e` drives whole processes.

pub mod device;
pub mod peers;
pub mod store;
