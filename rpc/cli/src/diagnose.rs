//! Why nobody answers on a socket.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Why a socket could not be connected to.
#[derive(Debug)]
pub enum Unreachable {
    /// There is no such file.
    NoFile,
    /// There is a file, and it is no socket.
    NotASocket,
    /// The socket is there, but whoever made it no longer listens.
    NobodyListens,
    /// This user may not.
    NotAllowed {
        /// Permission bits of the socket.
        mode: u32,
        /// Who owns it.
        uid: u32,
    },
    /// Something else.
    Other(io::Error),
}

impl Unreachable {
    /// What is behind an error of `connect`.
    pub(crate) fn find(path: &Path, error: io::Error) -> Self {
        match (error.kind(), std::fs::metadata(path)) {
            (ErrorKind::NotFound, _) => Self::NoFile,
            (ErrorKind::ConnectionRefused, Ok(meta)) if meta.file_type().is_socket() => Self::NobodyListens,
            (ErrorKind::ConnectionRefused, Ok(_)) => Self::NotASocket,
            (ErrorKind::PermissionDenied, Ok(meta)) => {
                Self::NotAllowed { mode: meta.mode() & 0o7777, uid: meta.uid() }
            }
            _ => Self::Other(error),
        }
    }

    /// Might it answer a moment later?
    pub(crate) fn may_come(&self) -> bool {
        matches!(self, Self::NoFile | Self::NobodyListens)
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("there is no such file"),
            Self::NotASocket => f.write_str("the file is there, but it is no socket"),
            Self::NobodyListens => f.write_str("the socket is there, but nobody listens: its target is gone"),
            Self::NotAllowed { mode, uid } => {
                write!(
                    f,
                    "a target may listen, but this user may not connect (mode {mode:04o}, owner uid {uid})"
                )
            }
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn why(path: &Path) -> Unreachable {
        Unreachable::find(path, UnixStream::connect(path).expect_err("nobody is there"))
    }

    #[test]
    fn a_missing_file_a_wrong_one_and_a_dead_socket_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let (missing, file, dead) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        std::fs::write(&file, "").expect("a file");
        drop(UnixListener::bind(&dead).expect("a socket"));
        assert!(matches!(why(&missing), Unreachable::NoFile));
        assert!(matches!(why(&file), Unreachable::NotASocket));
        assert!(matches!(why(&dead), Unreachable::NobodyListens));
        assert!(why(&dead).may_come() && why(&missing).may_come() && !why(&file).may_come());
    }
}
