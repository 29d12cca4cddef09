//! What can be wrong with what a control thread asks for.

use super::IO_SIZE_MAX;
use super::path::PathError;
use crate::frame::{DEPTH_MAX, KEY_NAME_MAX};
use crate::hub::HubError;
use std::net::SocketAddr;
use tgt_keyring::KeyringError;
use tgt_reactor::CallError;
use tgt_sock::SockError;

/// A call was refused; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// No path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// None at all.
    #[error("a session needs at least one path; accepted: {}", super::path::ACCEPTED)]
    NoPaths,
    /// The same one twice.
    #[error("the path {path} is named twice; each path must be another one")]
    PathTwice {
        /// Which.
        path: String,
    },
    /// More than a session can have.
    #[error("{count} paths; a session has at most {}", crate::client::PATHS_MAX)]
    TooManyPaths {
        /// As many as asked for.
        count: usize,
    },
    /// The session does not have it.
    #[error("session {session} has no path {path}; it has {have}")]
    NoSuchPath {
        /// Which session.
        session: String,
        /// As it was given.
        path: String,
        /// Those it has.
        have: String,
    },
    /// The last one.
    #[error(
        "{path} is the only path of session {session}: delete the session instead, or add another path first"
    )]
    LastPath {
        /// Which session.
        session: String,
        /// Which path.
        path: String,
    },
    /// No session of this name.
    #[error("no session {session:?}; {have}")]
    NoSuchSession {
        /// As it was given.
        session: String,
        /// Those there are, in words.
        have: String,
    },
    /// A path that several have.
    #[error("the path {path} belongs to {count} sessions: name one by its UUID")]
    Ambiguous {
        /// As it was given.
        path: String,
        /// How many.
        count: usize,
    },
    /// It is somebody else's.
    #[error("session {session} is used by others ({holders}): what uses it ends it, by going")]
    InUse {
        /// Which.
        session: String,
        /// How many hold it.
        holders: usize,
    },
    /// Made by a user, not by RPC.
    #[error("session {session} was not made by rtrs_create_session: it ends when nobody uses it any more")]
    NotOurs {
        /// Which.
        session: String,
    },
    /// The same paths with another key.
    #[error(
        "there is a session on these paths already, {session}, with {have}, not {wanted}: a peer has one key; name that \
         one, or close the session first"
    )]
    OtherKey {
        /// Which.
        session: String,
        /// Its key.
        have: String,
        /// The one asked for.
        wanted: String,
    },
    /// The same paths with another policy.
    #[error(
        "there is a session on these paths already, {session}, with the policy {have}, not {wanted}: leave the policy out, \
         or change it with rtrs_set_multipath_policy"
    )]
    OtherPolicy {
        /// Which.
        session: String,
        /// Its policy.
        have: &'static str,
        /// The one asked for.
        wanted: &'static str,
    },
    /// The keyring says no.
    #[error(transparent)]
    Key(#[from] KeyringError),
    /// Longer than a hand-shake takes.
    #[error("the key name {name:?} is {} bytes; names of keys for sessions have at most {KEY_NAME_MAX}", name.len())]
    KeyName {
        /// As it was given.
        name: String,
    },
    /// A way out of this host without a key.
    #[error(
        "{address} is not on this host, and there is no key: name one (keyring_file_add_key), or start both targets with \
         --insecure-sessions"
    )]
    KeyNeeded {
        /// Where it leads, or where it listens.
        address: SocketAddr,
    },
    /// A listener there already.
    #[error("there is a listener at {address} already; remove it first, or choose another address or port")]
    ListenerExists {
        /// Where.
        address: SocketAddr,
    },
    /// None there.
    #[error("no listener at {address}; {have}")]
    NoSuchListener {
        /// As it was given.
        address: SocketAddr,
        /// Those there are, in words.
        have: String,
    },
    /// Any port.
    #[error("port 0 is no port to listen at; accepted: 1 to 65535")]
    PortZero,
    /// Not that one.
    #[error("reactor {reactor}; accepted: {accepted}")]
    Reactor {
        /// As it was given.
        reactor: u32,
        /// In words.
        accepted: String,
    },
    /// Set once.
    #[error(
        "there is a TCP transport already, with {depth} slots and {bytes} bytes: it is made once, before the first listener"
    )]
    TransportExists {
        /// Its queue depth.
        depth: u16,
        /// Its largest IO.
        bytes: u32,
    },
    /// Too late.
    #[error(
        "listeners have begun with the usual limits: make the transport before the first listener, at best in the startup configuration"
    )]
    TransportLate,
    /// Out of range.
    #[error("max_queue_depth is {depth}; accepted: 1 to {DEPTH_MAX}")]
    Depth {
        /// As it was given.
        depth: u32,
    },
    /// Out of range.
    #[error("max_io_size is {bytes}; accepted: a multiple of 4096 from 4096 to {IO_SIZE_MAX}")]
    IoSize {
        /// As it was given.
        bytes: u64,
    },
    /// What the system did not let be had.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A reactor does not answer.
    #[error(transparent)]
    Reactors(#[from] CallError),
}

impl SessionsError {
    /// The system's number for it.
    #[must_use]
    pub fn errno(&self) -> i32 {
        const ENOENT: i32 = 2;
        const EAGAIN: i32 = 11;
        const EBUSY: i32 = 16;
        const EEXIST: i32 = 17;
        const ENODEV: i32 = 19;
        const EINVAL: i32 = 22;
        const ENOKEY: i32 = 126;
        match self {
            Self::NoSuchPath { .. } | Self::NoSuchListener { .. } => ENOENT,
            Self::NoSuchSession { .. } => ENODEV,
            Self::InUse { .. } | Self::NotOurs { .. } | Self::TransportLate => EBUSY,
            Self::PathTwice { .. }
            | Self::ListenerExists { .. }
            | Self::TransportExists { .. }
            | Self::OtherKey { .. }
            | Self::OtherPolicy { .. } => EEXIST,
            Self::Key(error) => error.errno(),
            Self::KeyNeeded { .. } => ENOKEY,
            Self::Hub(HubError::Sock(error)) => match crate::tcp::errno_of(error) {
                0 => EINVAL,
                errno => errno,
            },
            Self::Reactors(_) | Self::Hub(_) => EAGAIN,
            _ => EINVAL,
        }
    }

    /// The parameter that it is about, its value, and what would be accepted; none where no value of a parameter would
    /// have helped.
    #[must_use]
    pub fn parameter(&self) -> Option<(&'static str, String, String)> {
        let accepted = |text: &str| text.to_owned();
        Some(match self {
            Self::Path(error) => ("path", error.text.clone(), accepted(super::path::ACCEPTED)),
            Self::NoPaths => ("paths", "[]".to_owned(), accepted(super::path::ACCEPTED)),
            Self::PathTwice { path } => ("path", path.clone(), accepted("a path that is not there")),
            Self::TooManyPaths { count } => {
                ("paths", count.to_string(), format!("at most {}", crate::client::PATHS_MAX))
            }
            Self::NoSuchPath { path, have, .. } => ("path", path.clone(), have.clone()),
            Self::LastPath { path, .. } => ("path", path.clone(), accepted("one of several paths")),
            Self::NoSuchSession { session, have } => ("session", session.clone(), have.clone()),
            Self::Ambiguous { path, .. } => ("session", path.clone(), accepted("a UUID")),
            Self::OtherKey { have, wanted, .. } => ("key", wanted.clone(), have.clone()),
            Self::OtherPolicy { have, wanted, .. } => ("policy", accepted(wanted), accepted(have)),
            Self::KeyName { name } => ("key", name.clone(), format!("at most {KEY_NAME_MAX} bytes")),
            Self::Key(KeyringError::NotFound { name, have }) => ("key", name.clone(), have.clone()),
            Self::KeyNeeded { address } => {
                ("key", format!("none, for {address}"), accepted("the name of a key"))
            }
            Self::ListenerExists { address } => {
                ("traddr", address.to_string(), accepted("another address or port"))
            }
            Self::NoSuchListener { address, have } => ("traddr", address.to_string(), have.clone()),
            Self::PortZero => ("trsvcid", "0".to_owned(), accepted("1 to 65535")),
            Self::Reactor { reactor, accepted } => ("reactor", reactor.to_string(), accepted.clone()),
            Self::Depth { depth } => ("max_queue_depth", depth.to_string(), format!("1 to {DEPTH_MAX}")),
            Self::IoSize { bytes } => {
                ("max_io_size", bytes.to_string(), format!("a multiple of 4096 from 4096 to {IO_SIZE_MAX}"))
            }
            _ => return None,
        })
    }
}

impl From<SockError> for SessionsError {
    fn from(error: SockError) -> Self {
        Self::Hub(HubError::Sock(error))
    }
}
