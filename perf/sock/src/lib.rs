//! # Messages over TCP with nothing but system calls
//!
//! **What it is.** What a machine can give when messages are exchanged over one connection: the ceiling that figures of
//! anything that speaks over TCP are held against. The program beside it measures `tgt-sock` so, `rmr-perf rtrs` sessions.
//!
//! **Words.** As in the program: *payload*, *depth*, *waited*.
//!
//! **Who may call it.** Programs that measure; [`bare::serve`] and [`bare::drive`] block, on cores of their own, in two processes.
//!
//! **Invariants.** Both ends check the numbers of what they get, and panic if anything is missing.
//!
//! **Map.** `wire.rs` the messages · `bare.rs` both ends.
//!
//! **Tests.** `tests/smoke.rs`, through the program.

pub mod bare;
pub mod wire;
