//! # Memory of a guest, which may change at any time
//!
//! **What it is, and is not.** File descriptors that another process handed over, mapped; and the only ways in which the
//! target reads and writes what is behind them. It knows addresses and lengths; rings and requests are `tgt-vhost`'s.
//!
//! **Words.** *mapping*: a range of a file in this process's address space. *region*: a mapping with the guest physical
//! address at which the guest sees it, and the address at which its virtual machine monitor has it (*user address*).
//! *window*: a checked, aligned part of a mapping that is read and written by whole words, as rings are. *dirty log*: one
//! bit a page of 4 KiB that was written, for a migration.
//!
//! **Who may call it.** Any thread. Mapping and unmapping are system calls; reading and writing are not.
//!
//! **Invariants.**
//! * No Rust reference to shared memory is ever made, but to atomics. Bytes are copied, by value, in or out.
//! * Every access is checked against the mapping it goes to: an address from outside cannot reach anything else.
//! * What is mapped lies within the file as it was when it was mapped. Who can shrink the file later (the process that
//!   made it, unless it is sealed) can end this process with a SIGBUS; a guest cannot.
//! * Everything written through [`GuestMemory`] is in its dirty log, if it has one, after it is in the memory.
//! * A mapping lives as long as anything that was made from it.
//!
//! **Map.** `mapping.rs` files in memory · `window.rs` words in them · `memory.rs` regions, addresses, copies ·
//! `dirty.rs` the log · `error.rs` · `crash.rs` where tests of others let a process die.
//!
//! **Tests.** `tests.rs`.

#[cfg_attr(feature = "crash-points", doc(hidden))]
#[cfg(feature = "crash-points")]
pub mod crash;
#[cfg(not(feature = "crash-points"))]
mod crash;
mod dirty;
mod error;
mod mapping;
mod memory;
#[cfg(test)]
mod tests;
mod window;

pub use dirty::{DirtyLog, LOG_PAGE};
pub use error::{Fault, MapError};
pub use mapping::{Mapping, is_sealed, sealed_memfd};
pub use memory::{GuestMemory, REGIONS_MAX, RegionSpec};
pub use window::Window;
