//! What can go wrong with a net.

/// Why there is no net, or why a fault could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine cannot do it: a reason to skip, not to fail.
    #[error("no test network: {what}; {remedy}")]
    Missing {
        /// What is not there.
        what: &'static str,
        /// What to do about it.
        remedy: &'static str,
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
    #[error("`{command}` failed: {said}\nits input was:\n{input}")]
    Tool {
        /// The command line.
        command: String,
        /// Its standard error.
        said: String,
        /// Its standard input.
        input: String,
    },
    /// A system call or a file failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the machine is at fault: then a test is skipped.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// An [`Error::System`], to be used with `map_err`.
    pub(crate) fn system<E: Into<std::io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error::System { what, source: source.into() }
    }
}
