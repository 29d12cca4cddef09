//! # vhost-user-blk: bdevs as disks of virtual machines
//!
//! **What it is, and is not.** An export: a unix socket per controller, to which a virtual machine monitor connects; rings in
//! the guest's memory, polled by reactors. Any bdev. It knows no module, and starts no thread. docs/140-vhost.md says why it is
//! as it is.
//!
//! **Words.** *controller*: a socket with a bdev behind it. *front end*: who connects, a monitor. *session*: one connection.
//! *home*: the poller that follows a controller's protocol. *queue*: a virtqueue, and the poller that serves it. *chain*: the
//! descriptors of one request. *kick*, *call*: eventfds by which the guest tells us of requests, and we it of answers. *inflight
//! region*: memory of ours that the front end keeps over our death.
//!
//! **Who may call it.** [`Controllers`] and [`rpc`]: control threads. Everything else is on reactors: a home on the first of its
//! controller's mask, queue i on the i-th.
//!
//! **Invariants.**
//! * A ring is touched by one poller on one reactor. What it stands on changes only while it does not run.
//! * Everything from guest or front end is read once and checked. A broken ring stops its controller's queues, a broken protocol
//!   ends its session; nothing else notices either.
//! * A chain that was taken is answered once, or stands in the inflight region.
//! * The guest sees an answer only after its data and status are in its memory, and in the dirty log.
//! * `Idle` means that a kick will come and wake the reactor.
//!
//! **Map.** Per request: `queue/` the poller, data, bells · `request.rs` virtio-blk · `ring/` split and packed rings · `inflight/` the
//! region. Per message: `home.rs` the poller · `session/` what a front end has told · `disk.rs` features and configuration space. Per
//! call: `controllers.rs` the list · `controller.rs` one of them · `rpc.rs` methods · `error.rs`. `fuzz.rs` entry points for the
//! fuzzer.
//!
//! **Tests.** `ring/tests/` against a driver of our own, dying at every store; `tests/` with a front end of our own on a real socket;
//! with QEMU in `test/e2e/tests/vhost_guest.rs`.

mod controller;
mod controllers;
mod disk;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod home;
mod inflight;
mod queue;
mod request;
mod ring;
pub mod rpc;
mod session;
#[cfg(test)]
mod tests;

pub use controllers::{BlkSpec, Controllers};
pub use error::VhostError;

/// Most queues of a controller.
pub(crate) const QUEUES_MAX: u16 = 64;
