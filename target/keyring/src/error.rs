//! What can be wrong with a key, its name or its file. No message holds a byte of a key.

use crate::keyring::MAX_KEYS;
use crate::material::{KeyFault, MAX_BYTES, MIN_BYTES};
use rustix::io::Errno;

/// A call of the keyring was refused; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No such name can be.
    #[error(
        "the key name {name:?} {why}; accepted: 1 to 255 bytes without control characters and without \":\""
    )]
    Name {
        /// The name as it was given, cut to what can be shown.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name is taken.
    #[error(
        "there is a key {name:?} already, from the file {path:?}; remove it first, or choose another name"
    )]
    Exists {
        /// The name.
        name: String,
        /// The file of the key that has it.
        path: String,
    },
    /// There is no key of this name.
    #[error("there is no key {name:?}; {have}")]
    NotFound {
        /// The name.
        name: String,
        /// The names that there are, in words.
        have: String,
    },
    /// The key was removed from the keyring after this reference to it was taken.
    #[error("the key {name:?} was removed from the keyring: it cannot be read any more; add it again")]
    Removed {
        /// The name.
        name: String,
    },
    /// The keyring holds as many keys as it can.
    #[error("the keyring holds {MAX_KEYS} keys, more cannot be; remove those that are not needed")]
    Full,
    /// The path says nothing without a directory to start from.
    #[error("the path {path:?} is relative; accepted: one that starts with \"/\"")]
    Relative {
        /// The path.
        path: String,
    },
    /// The system did not let the file be read.
    #[error("cannot {what} the key file {path:?}: {}", system_words(*errno))]
    Io {
        /// What was tried.
        what: &'static str,
        /// The path.
        path: String,
        /// Why not.
        errno: Errno,
    },
    /// A directory, a device, a pipe or a socket.
    #[error("the key file {path:?} is {kind}; accepted: a regular file, or a symbolic link to one")]
    Kind {
        /// The path.
        path: String,
        /// What it is, in words.
        kind: &'static str,
    },
    /// Others than the owner may do something with the file.
    #[error(
        "the key file {path:?} has mode {mode:04o}, which lets others than its owner at it; accepted: no bits for group \
         and others, as `chmod 600 {path:?}` sets them"
    )]
    Mode {
        /// The path.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user could change the file at any time.
    #[error(
        "the key file {path:?} belongs to uid {owner}, the target runs as uid {user}; accepted: a file of its own, as \
         `chown {user} {path:?}` makes it"
    )]
    Owner {
        /// The path.
        path: String,
        /// Whose it is.
        owner: u32,
        /// Whose it must be.
        user: u32,
    },
    /// What was read is no one state of the file.
    #[error(
        "the key file {path:?} changed while it was read; try again, and replace key files whole: write another file \
         beside it and `mv` that over it"
    )]
    Changed {
        /// The path.
        path: String,
    },
    /// The bytes are no key.
    #[error("the key file {path:?} {fault}")]
    Fault {
        /// The path.
        path: String,
        /// What is wrong with them.
        fault: KeyFault,
    },
}

impl KeyringError {
    /// As SPDK answers it, where SPDK has such an error; of ours: wrong kinds of files and bytes are `EINVAL`, a full
    /// keyring is `ENOSPC`.
    #[must_use]
    pub fn errno(&self) -> i32 {
        let errno = match self {
            Self::Name { .. } | Self::Kind { .. } | Self::Fault { .. } => Errno::INVAL,
            Self::Exists { .. } => Errno::EXIST,
            Self::NotFound { .. } | Self::Removed { .. } => Errno::NOKEY,
            Self::Full => Errno::NOSPC,
            Self::Relative { .. } | Self::Mode { .. } | Self::Owner { .. } => Errno::PERM,
            Self::Io { errno, .. } => *errno,
            Self::Changed { .. } => Errno::IO,
        };
        errno.raw_os_error()
    }

    /// The parameter that it is about, its value, and what would be accepted; none where no value of a parameter would
    /// have helped.
    pub(crate) fn parameter(&self) -> Option<(&'static str, &str, String)> {
        Some(match self {
            Self::Name { name, .. } => {
                ("name", name, "1 to 255 bytes without control characters and \":\"".to_owned())
            }
            Self::Exists { name, .. } => ("name", name, "a name that no key has".to_owned()),
            Self::NotFound { name, have } => ("name", name, have.clone()),
            Self::Relative { path } => ("path", path, "an absolute path".to_owned()),
            Self::Io { path, .. } => ("path", path, "a file that the target may read".to_owned()),
            Self::Kind { path, .. } => ("path", path, "a regular file, or a link to one".to_owned()),
            Self::Mode { path, .. } => ("path", path, "a file of mode 0600 or 0400".to_owned()),
            Self::Owner { path, user, .. } => ("path", path, format!("a file of uid {user}")),
            Self::Fault { path, .. } => {
                ("path", path, format!("a file of {MIN_BYTES} to {MAX_BYTES} bytes of key"))
            }
            Self::Removed { .. } | Self::Full | Self::Changed { .. } => return None,
        })
    }
}

/// The system's own words, without the number that Rust puts behind them.
fn system_words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
