//! Why connections and lives end.

use crate::FormatError;
use crate::frame::{ByeCause, RefuseCause};

/// Why a connection is gone, or could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The system says so.
    #[error("{}", system_words(*errno))]
    System {
        /// As the system numbers it.
        errno: i32,
    },
    /// The peer closed it without a word.
    #[error("the peer closed the connection")]
    EndOfStream,
    /// Bytes that no peer sends.
    #[error("broken frame: {0}")]
    Format(#[from] FormatError),
    /// Data and digest differ.
    #[error("the digest of a frame's data does not fit")]
    Digest,
    /// A frame that has no place here.
    #[error("protocol: {0}")]
    Protocol(&'static str),
    /// Nothing came.
    #[error("nothing was heard for {silent_ms} ms")]
    Silent {
        /// For how long.
        silent_ms: u64,
    },
    /// The hand-shake did not end in time.
    #[error("the hand-shake did not end in time")]
    HandShake,
    /// The server said no.
    #[error("refused: {0}")]
    Refused(RefuseCause),
    /// The peer does not have the key.
    #[error("the peer could not prove that it has the key: check the key's content on both hosts")]
    Proof,
    /// The server chose what it was not offered.
    #[error("the server chose version {version}, which was not offered")]
    Version {
        /// Chosen.
        version: u16,
    },
    /// The path leads to another host than the session's other paths.
    #[error("the path leads to another host than the session")]
    WrongHost,
    /// A server without a key, and insecure sessions are not allowed.
    #[error("no key: name one for this session, or allow insecure sessions on both hosts")]
    KeyNeeded,
    /// The peer said goodbye.
    #[error("{0}")]
    Peer(ByeCause),
    /// A newer one took its place.
    #[error("a newer connection took its place")]
    Replaced,
    /// Too many unproven connections.
    #[error("made room for a newer connection before it proved itself")]
    Crowded,
    /// By command.
    #[error("by command")]
    Command,
    /// The life it belonged to is over.
    #[error("the session's life is over")]
    LifeOver,
}

/// The system's own words; it has none for what it did not number.
fn system_words(errno: i32) -> String {
    match errno {
        0 => "refused by the system, which did not say why".to_owned(),
        errno => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

impl Fault {
    /// What to tell the peer, if anything.
    pub(crate) fn bye(&self) -> Option<ByeCause> {
        match self {
            Self::Format(_) | Self::Protocol(_) => Some(ByeCause::Protocol),
            Self::Digest => Some(ByeCause::Digest),
            Self::Silent { .. } => Some(ByeCause::Silent),
            Self::Replaced => Some(ByeCause::Replaced),
            Self::Command | Self::LifeOver => Some(ByeCause::Command),
            _ => None,
        }
    }

    /// Trying again soon will not help.
    pub(crate) fn lasting(&self) -> bool {
        match self {
            Self::Refused(
                RefuseCause::Draining | RefuseCause::Unknown | RefuseCause::Busy | RefuseCause::Stale,
            ) => false,
            Self::Refused(_) | Self::Proof | Self::Version { .. } | Self::WrongHost | Self::KeyNeeded => true,
            _ => false,
        }
    }
}

/// Why a life is over. Its requests that were under way may or may not have been executed; none is executed later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Death {
    /// Restarted, or the lane was away for too long.
    #[error(
        "the server does not know the session any more: it was restarted or was out of reach for too long"
    )]
    Forgotten,
    /// The server began another life.
    #[error("the server has lost its record of the session and began a new one")]
    OtherLife,
    /// Out of reach on all paths.
    #[error("no path to the server for {silent_ms} ms, last: {last}")]
    Unreachable {
        /// Since the last sign of it.
        silent_ms: u64,
        /// What the last path fell to.
        last: Fault,
    },
    /// The peer ended it.
    #[error("ended: {0}")]
    Peer(ByeCause),
    /// By command.
    #[error("by command")]
    Command,
    /// A newer life of the same lane.
    #[error("the client began a new life")]
    Replaced,
    /// No connection for longer than a server remembers.
    #[error("the client was away for {away_ms} ms")]
    Away {
        /// For how long.
        away_ms: u64,
    },
}
