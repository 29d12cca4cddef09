//! # The storage target
//!
//! **What it is.** Where everything meets: [`Target::start`] puts memory, cores, reactors, methods, configuration and
//! RPC socket together; the binary `rmr_tgt` is a command line around it, the load tool and the tests use it too. It
//! holds no logic of a device or a protocol.
//!
//! **Words.** *startup*: options may be set, nothing runs yet; *run time*: everything may be called. *claim*: the
//! lock on a core. *thread*, in RPC: a reactor, numbered from 1.
//!
//! **Who may call it.** Ordinary threads that may block; nothing here runs per IO, or on a reactor but the few
//! questions that RPC asks it.
//!
//! **Invariants.** A start that fails leaves nothing running, and its [`StartError`] has an exit code of its own
//! ([`exit`]). The socket answers before the configuration is loaded, and `framework_wait_init` says when it is. A
//! stop takes 20 seconds at most.
//!
//! **Map.** `main.rs` the process · `cli/` its arguments · `exit.rs` exit codes · `signals.rs` · `options.rs` what to
//! start · `target.rs` start and stop · `init.rs` startup to run time · `claims.rs` core locks · `watch.rs` cores that
//! become shared · `demo/` four targets to try things on · `supervisor.rs` what systemd is told · `log.rs` · `error.rs` · `figures.rs` what metrics are told of replication · `rpc/` the methods that belong to no other crate, one family a file.
//!
//! **Tests.** `tests/`: the binary and the library as a whole; small ones beside the code.

mod claims;
pub mod cli;
pub mod demo;
mod error;
pub mod exit;
mod figures;
mod init;
pub mod log;
mod options;
mod rpc;
pub mod signals;
pub mod supervisor;
mod target;
mod watch;

pub use error::StartError;
pub use options::Options;
pub use target::{StopReport, Target};

/// Version of this target.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
