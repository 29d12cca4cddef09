//! # Between threads: bounded queues and the bell that wakes a sleeping reactor
//!
//! **What it is.** The only ways in which threads of the target hand things to each other on the data path:
//! [`link`], one sender to one receiver, for what flows per IO; [`Inbox`], many senders to one reactor, for control.
//! Both are bounded; a full queue hands the item back. The queues are the crates `rtrb` and `crossbeam-queue`; what
//! is ours is the bell: [`Doorbell`].
//!
//! **Words.** *ring*: tell a receiver that something was queued. *asleep*: the receiver waits in the kernel and has
//! to be woken with an eventfd write, which costs the sender some 7 µs; awake, ringing costs a few nanoseconds.
//!
//! **Who may call it.** Senders on any thread; the receiving half on the one thread that owns it.
//!
//! **Invariants.** Nothing queued and rung is left lying by a receiver that goes to sleep (`flags.rs`, checked
//! over all interleavings by loom). A batch is rung once. One eventfd write per sleep, whoever rings.
//!
//! **Map.** `flags.rs` the protocol of the bell · `doorbell.rs` flags and eventfd · `link.rs` · `inbox.rs`.
//!
//! **Tests.** Beside each; loom by `RUSTFLAGS="--cfg loom" cargo test -p tgt-ring --release --lib`.

mod flags;

#[cfg(not(loom))]
mod doorbell;
#[cfg(not(loom))]
mod inbox;
#[cfg(not(loom))]
mod link;

#[cfg(not(loom))]
pub use {
    doorbell::Doorbell,
    inbox::{Inbox, Outbox},
    link::{Receiver, Sender, link},
};
