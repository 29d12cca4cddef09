//! JSON startup configurations in SPDK's format: loader and saver.
//!
//! # What it is and is not
//! A configuration is a list of method calls per subsystem. This crate reads one (with comments, batches, and errors
//! that name file, line and column), makes its calls through the registry, and writes the present state back. It knows
//! no method by name. Examples to start from lie beside this crate's sources.
//!
//! # Words
//! * *call*: `{"method", "params"}`; *batch*: an array of calls, made one after the other.
//! * *pass*: the startup pass makes the calls that are legal before the subsystems run, the runtime pass the others.
//!
//! # Who may call it, on which thread
//! Ordinary threads that may block; handlers run on the caller's thread.
//!
//! # Invariants
//! * A call is made at most once: in the startup pass if its method is legal there, else in the runtime pass.
//! * A call from a file and the same call from the socket are decoded by the same code.
//! * `save` → restart → load → `save` gives the same text.
//!
//! # Map of files
//! `text` comments and places · `parse` text to calls · `apply` calls to the registry · `save` the way back · `error`
//! why not · `fuzz` entry point for the fuzzer.
//!
//! # Where the tests are
//! Beside `text`; `tests/config.rs` formats, passes, errors, round trip; the corpus
//! `test/fuzz/corpus/config`, which `test/corpus` replays.

mod apply;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod parse;
mod save;
mod text;

pub use apply::{ApplyReport, apply};
pub use error::ConfigError;
pub use parse::{Config, ConfigCall, SubsystemConfig, load, parse};
pub use save::save;
pub use text::Place;
