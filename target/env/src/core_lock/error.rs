//! What the operator is told about claimed cores.

use std::io;
use std::path::PathBuf;

/// Why an always-polling target may not start on a core.
#[derive(Debug, thiserror::Error)]
pub enum CoreLockError {
    /// Another always-polling target, ours or SPDK, is there.
    #[error(
        "core {core} is claimed by {owner} ({path}); choose other cores with -m, or start with --disable-cpumask-locks",
        owner = owner(*.pid), path = .path.display()
    )]
    Taken {
        /// The core.
        core: u32,
        /// Its lock file.
        path: PathBuf,
        /// Process id of the owner, if it left one.
        pid: Option<i32>,
    },
    /// The lock file cannot be used.
    #[error(
        "cannot lock core {core} with {path} ({source}); remove the file if no target runs, start as its owner, or start with --disable-cpumask-locks",
        path = .path.display()
    )]
    File {
        /// The core.
        core: u32,
        /// Its lock file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What does not keep a target from starting, but should be known.
#[derive(Debug, thiserror::Error)]
pub enum CoreLockWarning {
    /// We poll where others sleep and wake.
    #[error(
        "core {core} is shared with a target that sleeps when idle: it will be slow while this one polls"
    )]
    PollingAmongSleepers {
        /// The core.
        core: u32,
    },
    /// We sleep and wake where another polls.
    #[error(
        "core {core} is shared with an always-polling target, {owner}: this one sleeps at once when idle, and every answer waits for the other",
        owner = owner(*.pid)
    )]
    SharedWithPoller {
        /// The core.
        core: u32,
        /// Process id of the other, if it left one.
        pid: Option<i32>,
    },
    /// Both sleep when idle.
    #[error(
        "core {core} is shared with another target: both sleep at once when idle instead of polling for a while"
    )]
    SharedWithSleeper {
        /// The core.
        core: u32,
    },
    /// The lock file cannot be used; we go on without.
    #[error(
        "core {core} is used without a lock: {path} cannot be opened or locked ({source}); whether others use the core is not known",
        path = .path.display()
    )]
    Unlocked {
        /// The core.
        core: u32,
        /// Its lock file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn owner(pid: Option<i32>) -> String {
    pid.map_or_else(|| "a process that did not leave its number".to_owned(), |pid| format!("process {pid}"))
}
