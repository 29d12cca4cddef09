//! What can go wrong on the way into a guest and out of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no guest, or no outcome of one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine cannot run guests, or not yet: a reason to skip, not to fail.
    #[error("no guest: {what}; {remedy}")]
    Missing {
        /// What is not there.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("`{program}` could not be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` failed: {said}")]
    Tool {
        /// The command line.
        command: String,
        /// Its exit status and its standard error.
        said: String,
    },
    /// Another guest runs on this bed and does not end.
    #[error("{lock}: another guest has run for {waited:?}; end it, or choose another bed with RMR_VM_BED")]
    Busy {
        /// The lock it holds.
        lock: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The time limit passed; QEMU was killed.
    #[error("the guest was not done after {limit:?} and was ended\n{report}")]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// What it had said until then.
        report: String,
    },
    /// QEMU ended, and the guest had not said how its command ended.
    #[error("the guest ended ({status}) before its command did\n{report}")]
    Died {
        /// QEMU's exit status.
        status: String,
        /// What it had said until then.
        report: String,
    },
}

impl Error {
    /// Whether the machine is at fault: then a test is skipped.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    pub(crate) fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::Missing { what: what.into(), remedy: remedy.into() }
    }

    /// An [`Error::File`] about `path`, to be used with `map_err`.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    }
}
