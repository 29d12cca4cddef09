//! What can go wrong in these commands.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Every way a command here fails; the message is all the user sees.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No `layers.toml` in the current directory or above it.
    #[error("{from}: neither this folder nor one above it holds layers.toml; run from inside the checkout")]
    NoProject {
        /// Where the search began.
        from: PathBuf,
    },
    /// A program could not be started at all.
    #[error("`{command}` could not be started: {source}")]
    Start {
        /// The command line as a person would type it.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` failed with {status}{}", indented(.said))]
    Status {
        /// The command line as a person would type it.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Its standard error, where that was not shown already.
        said: String,
    },
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file or an answer is not in the form it must have.
    #[error("{what}: {reason}")]
    Form {
        /// The file, or the command that answered.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A checker objects.
    #[error("{} complaint(s):{}", .0.len(), indented(&.0.join("\n")))]
    Complaints(Vec<String>),
    /// A name on the command line that means nothing here.
    #[error("there is no {kind} `{given}`; there are: {known}")]
    Unknown {
        /// What was asked for: a fuzz target, a job.
        kind: &'static str,
        /// The name given.
        given: String,
        /// The names accepted.
        known: String,
    },
    /// A program this command cannot do without.
    #[error("{what} is needed {why}; {remedy}")]
    Missing {
        /// The program.
        what: &'static str,
        /// For what.
        why: &'static str,
        /// How to get it.
        remedy: String,
    },
    /// Steps of `ci` failed; each has said why.
    #[error("failed: {}", .0.join(", "))]
    Steps(Vec<&'static str>),
    /// Fuzzing found inputs that break a target.
    #[error("inputs that break a target:{}", indented(&.0.join("\n")))]
    Findings(Vec<String>),
}

impl Error {
    /// An [`Error::File`] about `path`, to be used with `map_err`.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    }

    /// An [`Error::Form`] about `what`.
    pub(crate) fn form(what: impl ToString, reason: impl ToString) -> Error {
        Error::Form { what: what.to_string(), reason: reason.to_string() }
    }
}

/// `Ok` without complaints, [`Error::Complaints`] with.
pub(crate) fn verdict(complaints: Vec<String>) -> Result<(), Error> {
    if complaints.is_empty() { Ok(()) } else { Err(Error::Complaints(complaints)) }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("\n  {line}")).collect()
}
