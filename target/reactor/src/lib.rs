//! # Reactors: one pinned thread per core, and all that runs on it
//!
//! **What it is.** A reactor turns for ever: it reads the clock once, takes messages, reaps its io_uring, lets each
//! poller do a bounded amount of work, fires timed pollers, and when nothing has happened for a while sleeps on the
//! io_uring until something does. It knows nothing of block devices.
//!
//! **Words.** *poller*: a state machine that a reactor owns and polls. *turn*: one pass over everything. *Cx*: what a
//! poller may use during a turn: time, io_uring, lender, the other reactors. *message*: a closure run by a reactor on
//! itself. *busy*: a turn in which something was done. *local*: what pollers of one reactor share, found by its type
//! ([`Cx::local`]).
//!
//! **Who may call it.** [`Handle`] from any thread; [`Reactor`], [`Cx`] and pollers only on the reactor's own
//! thread, where the type system keeps them (they are not Send). Control threads wait for reactors
//! ([`Handle::call`]); a reactor never waits for anybody.
//!
//! **Invariants.** A poller never blocks. Everything a poller owns is dropped on its reactor's thread. A reactor
//! sleeps only when every poller said [`Work::Idle`] since the last work and its inbox is empty; what a turn started on
//! the io_uring is with the kernel when the next turn ends; a poller that
//! says so has armed what will wake it (a file descriptor in the io_uring, a deadline by [`Cx::wake_at`], or the
//! bell of a link).
//!
//! **Map.** `cx.rs` what a poller sees · `poller.rs` the trait and the reactor's list of them · `reactor.rs` the turn
//! and the sleep · `patience.rs` how long to poll before it · `handle.rs` messages from other threads · `start.rs` threads, pinning, stop · `stats.rs`.
//!
//! **Tests.** `tests.rs`.

mod cx;
mod handle;
mod patience;
mod poller;
mod reactor;
mod start;
mod stats;
#[cfg(test)]
mod tests;

pub use cx::Cx;
pub use handle::{CallError, Handle};
pub use poller::{Poller, PollerId, PollerStats, Stop, Work};
pub use reactor::Reactor;
pub use start::{Reactors, SleepPolicy, StartError, StartOptions, abort_when_a_reactor_panics};
pub use stats::{ReactorStats, StatsSnapshot};

/// Index of a reactor in its process, counted from 0 in the order of its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReactorId(pub u32);

impl std::fmt::Display for ReactorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "reactor_{}", self.0)
    }
}
