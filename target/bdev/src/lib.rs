//! # The block layer
//!
//! **What it is.** Everything between those who want block IO (exports, the replicated device, the load generator)
//! and the modules that do it. One shape at every layer: [`Channel::submit`] takes an [`Io`], [`Channel::poll`] gives
//! a [`Done`] back. No callbacks, no locks, no allocation per IO.
//!
//! **Words.** *bdev*: a registered block device. *desc* ([`Desc`]): an open handle, which may hold a *claim*. *io
//! channel* ([`IoChannel`]): one opener's way to a bdev on one reactor, made by a desc. *module*: what implements
//! [`Device`] and [`Channel`]. *opener*: whoever holds a desc. *block*: the unit of addresses, `block_size` bytes.
//!
//! **Who may call it.** [`Bdevs`], [`Bdev`] and [`Desc`]: control threads (they take short locks and may wait).
//! [`IoChannel`]: the reactor it was opened on, only.
//!
//! **Invariants.** Every `Io` completes exactly once (its token panics when dropped). A completion never surfaces
//! inside the submit that caused it. "No slot" is not an error: the module hands the `Io` back and this layer queues
//! it. A module sees only IO that is in range, supported, allowed to its opener and within its limits. Nothing
//! succeeds on a removed bdev. While a range lock is held, nothing that it keeps out is in the device but its owner's. An
//! open channel is polled: one that is not holds locks and removals up.
//!
//! **Map.** Per IO: `io.rs` Io and Done · `channel.rs` the trait · `io_channel.rs` checks, queueing, accounts ·
//! `io_channel/` what happens seldom, range locks, compare-and-writes · `split.rs` · `emulate.rs` and `copy.rs` what devices cannot do ·
//! `qos.rs` rate limits · `timeouts.rs` · `stats.rs` · `histogram.rs` · `trace.rs` one IO of many. Control: `device.rs` what a module
//! provides · `bdev.rs` the registered object · `bdevs.rs` the list of them · `modules.rs` who hears of them · `stack/`
//! bdevs on a named base · `desc.rs` handles and claims · `range_lock.rs` locks on blocks · `notify.rs` what happened · `sampling.rs` queue depth over
//! time · `rpc/` the methods.
//!
//! **Tests.** `tests/` in this folder, with a scripted device; the shape is proved by the crate `test-bdevs`.

mod bdev;
mod bdevs;
mod channel;
mod copy;
mod desc;
mod device;
mod emulate;
mod histogram;
mod io;
mod io_channel;
mod modules;
mod notify;
mod qos;
mod range_lock;
pub mod rpc;
mod sampling;
mod split;
pub mod stack;
mod stats;
mod timeouts;
mod trace;

#[cfg(test)]
mod tests;

pub use bdev::{Bdev, ChannelInfo, ChannelTrace};
pub use bdevs::{Bdevs, RegisterError, RemoveError, check_geometry};
pub use channel::{Channel, DoneQueue};
pub use copy::CopyRange;
pub use desc::{Claim, ClaimError, Desc, DescInfo, Mode, OpenError};
pub use device::{BdevSpec, Device, Limits, OpSet};
pub use histogram::{Counts, GRANULARITY_MAX, HistogramSpec};
pub use io::{Done, Finished, Io, IoKey, Op, Tag};
pub use io_channel::{Event, IoChannel};
pub use modules::Module;
pub use notify::{Notification, NotificationKind, Notifications};
pub use qos::RateLimits;
pub use range_lock::{KeepsOut, LOCK_RANGES_MAX, LOCKS_MAX, LockError, RangeLock};
pub use sampling::QueueDepth;
pub use stats::{IoStats, OpStats, ResetMode};
pub use trace::{TRACED_MAX, TracedIo};

// What every module and every opener needs beside this crate.
pub use tgt_env::bufs::Bufs;
pub use tgt_env::clock::Ticks;
pub use tgt_env::memory::DmaBuf;
pub use tgt_reactor::{Cx, Work};
pub use tgt_status::IoStatus;
