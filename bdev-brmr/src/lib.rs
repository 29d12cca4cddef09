//! # The replicated block device, as an operator sees it: docs/120
//!
//! **What it is and is not.** Names, methods and saved configuration of stores on bdevs (storage side) and of replicated
//! devices (compute side). It decides nothing about replication: `rmr-engine` does, driven by `bdev-rmr`.
//!
//! **Words.** *pool*, *member*, *set*: `docs/100-replication-contract.md`. *store*: what one member has on a bdev.
//! *label*: a name for a pool that this process remembers; the pool is its UUID.
//!
//! **Who may call it, on which thread.** Control threads.
//!
//! **Invariants.** Nothing on a disk has changed when a call fails, unless the error says what was written. A store is
//! claimed by nobody else while it is open. A saved configuration opens stores; it never makes one.
//!
//! **Map of files.** `store/` the storage side · `device/` the compute side.
//!
//! **Where the tests are.** `tests/`: the methods, on real reactors and bdevs.

pub mod device;
pub mod store;
