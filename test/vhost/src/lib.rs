//! # A virtual machine without the machine
//!
//! **What it is.** The other side of `tgt-vhost`, for tests: a guest's memory in a file, a virtio driver's side of rings, and a
//! vhost-user front end that sets them up over a real socket. Written from the standards, not from the target's code, so that a
//! misunderstanding shows.
//!
//! **Words.** *driver*: the guest's side of a ring. *front*: the monitor's side of a connection. *piece*: what one descriptor names.
//!
//! **Who may call it.** Tests, on any thread but a reactor's: they wait, with a bound.
//!
//! **Invariants.** An answer to what was not asked panics, as does one that does not come within [`PATIENCE`].
//!
//! **Map.** `guest.rs` memory · `driver.rs` rings · `wire.rs` messages · `front.rs` connection, queues, requests of a disk.
//!
//! **Tests.** Those of `tgt-vhost` and `test-e2e`.

#![allow(clippy::missing_panics_doc)]

pub mod driver;
pub mod front;
pub mod guest;
pub mod wire;

/// How long a test waits for anything.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
