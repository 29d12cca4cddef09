//! Sessions between hosts: several paths, requests executed at most once, and a clear end.
//!
//! # What it is and is not
//! Frames and their bytes, and the state machines of both sides: [`client::Client`], [`server::Gate`] and
//! [`server::Server`]. They are sans-IO: events go in, actions come out; no socket, clock, thread, random number or
//! payload byte inside. [`tcp`] drives them on real sockets; [`hub`] makes a service of that for all pollers of a
//! reactor, [`sessions`] one of the process. What users say to each other is not looked into.
//!
//! # Words
//! As in `docs/111-sessions.md`: *session*, *lane*, *path*, *connection*, *permit*, *slot*, *use*, *life*,
//! *incarnation*, *lease*, *stamp*.
//!
//! # Who may call it, on which thread
//! One owner per engine, by `&mut`, on any thread. The owner passes the time in, nanoseconds from any fixed start, never
//! going back.
//!
//! # Invariants
//! Those of `docs/111-sessions.md`; `check` of either side asserts what it can see alone.
//!
//! # Map of files
//! `frame` frames as the engines see them · `raw` structs byte for byte · `codec` frames to bytes and back · `hand` the
//! same for the hand-shake, and its proofs · `pace` how much data a slow path gets · `ids` · `error` · `fault` why connections and lives end · `client/`: `mod`
//! the lane, `event` what goes in and out, `path` one connection and its beats, `lane` paths and lives coming and going,
//! `permits`, `requests` · `server/`: `gate` connections that have not proved themselves, `mod` lanes and connections of
//! one reactor, `event`, `lane` joining and ending, `record` what is remembered of a request, `requests` executed at most
//! once · `tcp/`: the same on real sockets: `client/` the lanes of a reactor, `server/` listeners and their lanes, `intake`
//! of either takes frames in, `users` those who go, `doors` a server's listeners and connections that move, `memory` its
//! buffers, `late` requests that came too late to be handed out · `hub/`: one for each
//! reactor, with its users and its service · `sessions/` for control threads: listeners, peers, keys, news · `rpc/` the methods
//! · `fuzz` · `mutant` test-only switches.
//!
//! # Where the tests are
//! `tests/`: `formats` bytes; `rules` one scenario each; `events` anything in any order; `sim` both engines joined by a
//! simulated network, from seeds; `tcp` real sockets under real reactors; `hub` the same with users who share; `sessions` the
//! service, over several reactors; `net` between two hosts on a network that breaks; `cost` nothing is allocated; `test/e2e`:
//! two targets. With the feature `mutants`, `rules` and `sim`
//! show that they notice each mistake of `mutant`. Figures: `benches/loopback.rs`, and
//! `idle` for what idle sessions cost.

pub mod client;
pub mod codec;
mod error;
mod fault;
pub mod frame;
pub mod fuzz;
mod hand;
pub mod hub;
mod ids;
pub mod mutant;
pub mod pace;
pub mod raw;
pub mod rpc;
pub mod server;
pub mod sessions;
pub mod tcp;

pub use error::FormatError;
pub use fault::{Death, Fault};
pub use hand::{Key, Secret};
pub use ids::{BufId, ConnId, Direction, Id, Incarnation, Life, Now, PathNo, SlotNo, SlotUse, UserId};

/// CRC32C (Castagnoli).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
