//! Why the server did not start.

use std::io;
use std::path::PathBuf;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The lock file could not be made or locked.
    #[error("RPC socket: cannot lock {path}: {source}; another path is given with -r")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process serves this socket.
    #[error("RPC socket {path} is in use by {owner}; stop it, or give another path with -r")]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who holds the lock, as far as the lock file says.
        owner: String,
    },
    /// Something that is no socket lies at the path; it is left alone.
    #[error(
        "RPC socket {path}: a file that is not a socket is in the way; remove it, or give another path with -r"
    )]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error(
        "RPC socket {path}: the path has {bytes} bytes, accepted: at most 107; give a shorter one with -r"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The socket could not be made.
    #[error("RPC socket {path}: cannot {step}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The thread that accepts connections could not be made.
    #[error("RPC socket {path}: cannot start its thread: {source}")]
    Thread {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
