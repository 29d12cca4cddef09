//! The replication engine: pure state machines of both sides of RMR.
//!
//! # What it is and is not
//! [`client::Client`] is the compute client of one pool, [`store::Store`] one leg of one pool on a storage node. Both
//! are sans-IO: events go in, actions come out. No socket, file, thread, clock, random source or payload byte inside;
//! buffers are numbers of the driver. Only a store's metadata is bytes here, because its meaning is decided here.
//!
//! # Words
//! As in `docs/100-replication-contract.md`. *Fence*: a promise or a change of set being carried out at a store.
//! *Verdict*: what an assembly decided about a suspect chunk. *Outsider*: a member not in the set.
//!
//! # Who may call it, on which thread
//! One owner per value, by `&mut`. The owner passes the time in, nanoseconds from any fixed start, never going back.
//!
//! # Invariants
//! The rules of `docs/101-replication-protocol.md`; `check` of either side asserts what one side can see alone, the
//! simulator in `test/sim` checks the rest after every event.
//!
//! # Map of files
//! `event` what goes in and out · `store/`: `mod` admission and state, `fence` promise and adoption, `io` requests,
//! `intent` entries and their clearing, `copy` resync, `repair` what else is copied, `source` what it does for peers,
//! `pace` how fast, `join` handing maps over, `meta` metadata and its commits, `open` reading it back · `client/`: `mod`
//! state and timers, `ops` requests, `fanout` sending and answers, `reads` which leg serves, `deadlines`, `lanes` order of
//! overlapping IO, `horizon` answered writes, `assembly`, `outlook` what reports allow, `gather` its long
//! lists, `verdict` suspect chunks, `change` shrink and join, `command`
//! membership, `status` who is waited for and why, `resize` growth, `scrub` · `mutant` test-only switches.
//!
//! # Where the tests are
//! Beside the files for what is local; everything else in `test/sim`.

pub mod client;
mod event;
pub mod mutant;
pub mod store;

pub use event::{
    Completion, DiskOp, IoError, Now, OpenError, Party, ResyncLimits, StoreAction, StoreConfig, StoreEvent,
    UserTag,
};
