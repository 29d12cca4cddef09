//! The command line: SPDK's common options, and ours.
//!
//! `args.rs` what is accepted · `help.rs` the text after the options · `choose.rs` arguments to what to start.

mod args;
mod choose;
mod help;

pub use args::Args;
pub use choose::UsageError;
