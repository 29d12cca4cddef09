//! # Bdevs that prove the shape of the block layer
//!
//! **What it is.** Two stacked devices that do what the real ones above will have to do: [`mirror2`] lends one write
//! to two children and takes it back once; [`hop`] serves a bdev of another reactor through two queues. They are for
//! tests and benches, no product registers them. Also here: [`world`], reactors and bdevs for a test, and
//! [`rig`], the methods of one module.
//!
//! **Words.** *base*: the bdev below.
//!
//! **Who may call it.** `create` of each: control threads.
//!
//! **Invariants.** As every channel's: one completion per IO, none inside a submit.
//!
//! **Map.** `mirror2.rs` · `hop.rs` · `world.rs` · `rig.rs`.
//!
//! **Tests.** `tests/` beside `src`: data through both, teardown, allocations and latencies; cost: the bench `io_path`.

pub mod hop;
pub mod mirror2;
pub mod rig;
pub mod world;
