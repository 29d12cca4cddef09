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

/// Sockets named at most.
const SHOWN_MAX: usize = 4;

/// Sockets that targets of this machine serve: those that are listened on and have a target's lock file beside them.
pub(crate) fn listening() -> Vec<String> {
    // Without the table there is nothing to suggest.
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut paths = listeners(&table);
    paths.retain(|path| Path::new(&format!("{path}.lock")).exists());
    paths.truncate(SHOWN_MAX);
    paths
}

/// Paths of `/proc/net/unix` whose flags say that somebody listens (`__SO_ACCEPTCON`, proc_pid_net(5)):
/// `address: count protocol flags type state inode path`.
fn listeners(table: &str) -> Vec<String> {
    let path = |line: &str| {
        let mut words = line.split_whitespace().skip(3);
        let listens = words.next()? == "00010000";
        let path = words.nth(3)?;
        (listens && path.starts_with('/')).then(|| path.to_owned())
    };
    let mut paths: Vec<String> = table.lines().filter_map(path).collect();
    paths.sort();
    paths.dedup();
    paths
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

    #[test]
    fn only_paths_that_are_listened_on_are_found() {
        let table = "Num RefCount Protocol Flags Type St Inode Path\n\
            a: 00000002 00000000 00010000 0001 01 77 /run/b.sock\n\
            a: 00000002 00000000 00010000 0001 01 78 @hidden\n\
            a: 00000003 00000000 00000000 0001 03 79 /run/client.sock\n\
            a: 00000002 00000000 00010000 0001 01 80 /run/a.sock\n\
            a: 00000002 00000000 00010000 0001 01 81\n";
        assert_eq!(listeners(table), ["/run/a.sock", "/run/b.sock"]);
    }

    #[test]
    fn a_socket_with_a_lock_beside_it_is_a_targets() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        let _listeners =
            [UnixListener::bind(&ours), UnixListener::bind(&other)].map(|l| l.expect("a socket"));
        std::fs::write(dir.path().join("ours.lock"), "").expect("a file");
        let table = std::fs::read_to_string("/proc/net/unix").expect("the kernel tells");
        let listened = listeners(&table);
        let found = |path: &Path| listened.contains(&path.display().to_string());
        assert!(found(&ours) && found(&other));
        assert!(!listening().contains(&other.display().to_string()));
    }
}
