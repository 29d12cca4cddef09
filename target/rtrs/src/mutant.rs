//! Test-only switches that bring mistakes back, one at a time. In a build without the `mutants` feature [`Mutant::on`]
//! is constant false and the switches are gone.

/// A mistake that can be brought back. Named for what is left out or done wrongly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// A client calls a life dead before the server's lease is over.
    DeadEarly,
    /// A client ends a life by command without waiting for the server.
    EndAtOnce,
    /// Copies of a request cannot be told apart by age.
    SameSending,
    /// Answers received on a connection that fell are not named again.
    NoSeen,
    /// A server takes requests after its lease.
    NoLease,
    /// A server hands out requests that waited for memory after its lease.
    NoLeaseAtBound,
    /// A copy of a request that is with its user, or was answered, is executed.
    ExecuteAgain,
    /// An answer is let go when it is sent.
    ReleaseWhenSent,
    /// Any copy takes the answer, a late one too.
    AnyCopyAnswered,
    /// A granted buffer is given to every stream that brings its data.
    GrantToAll,
    /// A new life begins while users still work on the old one.
    NoDrain,
    /// A proof is not looked at.
    AnyProof,
    /// A life that is another than the one known passes for it.
    AnyLife,
    /// A request that waited is not sent when a path comes up.
    NoUnpark,
    /// Data that gets on is no sign of life: a slow path is taken for a dead one.
    NoProgress,
    /// What waits for the lease is not executed when the client has shown that it lives.
    NoRenewal,
    /// A hub does not say that something is to be sent: the reactor sleeps over it.
    NoWakeToSend,
    /// A hub does not say that events wait to be taken: the reactor sleeps over them.
    NoWakeToTake,
}

impl Mutant {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::DeadEarly,
        Self::EndAtOnce,
        Self::SameSending,
        Self::NoSeen,
        Self::NoLease,
        Self::NoLeaseAtBound,
        Self::ExecuteAgain,
        Self::ReleaseWhenSent,
        Self::AnyCopyAnswered,
        Self::GrantToAll,
        Self::NoDrain,
        Self::AnyProof,
        Self::AnyLife,
        Self::NoUnpark,
        Self::NoProgress,
        Self::NoRenewal,
        Self::NoWakeToSend,
        Self::NoWakeToTake,
    ];

    /// Those that need a script to be noticed.
    pub const SCRIPTED: &'static [Self] = &[Self::AnyCopyAnswered, Self::AnyLife];

    /// Those that lose a wake-up: they need reactors that sleep.
    pub const WAKES: &'static [Self] = &[Self::NoWakeToSend, Self::NoWakeToTake];
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    impl Mutant {
        /// Is it brought back on this thread?
        pub fn on(self) -> bool {
            ON.get() == Some(self)
        }

        /// Brings `mutant` back on this thread, and no other; `None` = none.
        pub fn set(mutant: Option<Self>) {
            ON.set(mutant);
        }
    }
}

#[cfg(not(feature = "mutants"))]
impl Mutant {
    /// Never.
    pub const fn on(self) -> bool {
        false
    }
}
