//! Frames as the engines see them.

use crate::{Direction, Id, Incarnation, Life, SlotUse, UserId};

/// Version of the protocol spoken here.
pub const VERSION: u16 = 1;
/// Most bytes of a user header.
pub const USER_MAX: u16 = 512;
/// Most bytes of data in one request or answer.
pub const DATA_MAX: u32 = 8 << 20;
/// Most slots of a lane.
pub const DEPTH_MAX: u16 = 4096;
/// Most bytes of a key's name.
pub const KEY_NAME_MAX: usize = 64;

/// Name of a key: up to [`KEY_NAME_MAX`] bytes of UTF-8 without a zero; empty = none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyName([u8; KEY_NAME_MAX]);

impl KeyName {
    /// No key.
    pub const NONE: Self = Self([0; KEY_NAME_MAX]);

    /// `None` if `name` is too long or holds a zero.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; KEY_NAME_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        (!name.contains('\0')).then_some(Self(bytes))
    }

    /// From its place in a frame; `None` if it is not UTF-8 or has something after its end.
    pub(crate) fn from_bytes(bytes: [u8; KEY_NAME_MAX]) -> Option<Self> {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(KEY_NAME_MAX);
        let clean = bytes[end..].iter().all(|&byte| byte == 0) && std::str::from_utf8(&bytes[..end]).is_ok();
        clean.then_some(Self(bytes))
    }

    /// Its place in a frame.
    pub(crate) fn bytes(&self) -> [u8; KEY_NAME_MAX] {
        self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(KEY_NAME_MAX);
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }

    /// No key?
    pub fn is_none(&self) -> bool {
        self.0[0] == 0
    }
}

impl std::fmt::Debug for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What travels between two hosts. User headers and data travel behind it and are not in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Do this.
    Request(Request),
    /// It is done.
    Reply(Reply),
    /// No memory for it now; its data was dropped.
    Wait(SlotUse),
    /// Memory is there: send it again.
    Grant(SlotUse),
    /// The answer of this use was received, on a connection that is gone.
    Seen(SlotUse),
    /// A sign of life of the client.
    Ping(Ping),
    /// And of the server.
    Pong {
        /// The server's time.
        stamp: u64,
        /// The ping's stamp.
        echo: u64,
    },
    /// The end, said politely.
    Bye(Bye),
    /// One of the hand-shake.
    Hand(Box<Hand>),
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Which use of which slot.
    pub at: SlotUse,
    /// Which copy of it: a later one is greater.
    pub sending: u32,
    /// Whose it is.
    pub user: UserId,
    /// Which way its data goes.
    pub direction: Direction,
    /// Write: bytes that follow; read: most bytes that may come back.
    pub bytes: u32,
    /// Bytes of the user header that follows.
    pub user_len: u16,
    /// Answers received on this connection so far, wrapping.
    pub seen: u32,
}

impl Request {
    /// Bytes of data that follow it.
    pub fn data_len(&self) -> u32 {
        if self.direction == Direction::Write { self.bytes } else { 0 }
    }
}

/// Why the session layer of the server did not hand a request to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refused {
    /// Nobody there serves requests of this session.
    #[error("nobody serves this request at the peer")]
    NoService,
    /// Larger than the limits agreed on.
    #[error("the request is larger than the limits agreed on")]
    TooLarge,
}

/// An answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Which use of which slot.
    pub at: SlotUse,
    /// The user's word, or the session layer's.
    pub result: Result<u16, Refused>,
    /// Bytes of data that follow: those of a read.
    pub bytes: u32,
    /// Bytes of the user header that follows.
    pub user_len: u16,
}

/// A sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ping {
    /// Answers received on this connection so far, wrapping.
    pub seen: u32,
    /// The client's time; comes back.
    pub stamp: u64,
    /// Newest stamp of the server on this connection.
    pub echo: u64,
}

/// The end of a connection or of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bye {
    /// Not only this connection: the life of the lane.
    pub life: bool,
    /// Why.
    pub why: ByeCause,
}

/// Why somebody hangs up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum ByeCause {
    /// By command.
    #[error("by command at the peer")]
    Command,
    /// The process ends.
    #[error("the peer is shutting down")]
    Shutdown,
    /// What came was not as it must be.
    #[error("the peer found a broken frame")]
    Protocol,
    /// A digest did not fit.
    #[error("the peer found a digest that does not fit")]
    Digest,
    /// Nothing came for too long.
    #[error("the peer heard nothing for too long")]
    Silent,
    /// A newer connection or life took its place.
    #[error("a newer connection took the place of this one")]
    Replaced,
}

/// A frame of the hand-shake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hand {
    /// Who is there and what it speaks.
    Hello(Hello),
    /// Prove it.
    Challenge(Challenge),
    /// Here.
    Proof(Proof),
    /// Come in.
    Welcome(Welcome),
    /// No.
    Refuse(Refuse),
}

/// First frame of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Oldest version it speaks.
    pub version_min: u16,
    /// Newest.
    pub version_max: u16,
    /// Which lane of the session.
    pub lane: u16,
    /// How many it has.
    pub lanes: u16,
    /// How-manieth connection of its path, from 1.
    pub connection: u32,
    /// Data digests wanted.
    pub digest: bool,
    /// Which life of the client's.
    pub incarnation: Incarnation,
    /// The session.
    pub session: Id,
    /// The path.
    pub path: Id,
    /// The client's host.
    pub host: Id,
    /// Random.
    pub nonce: [u8; 32],
    /// Which key.
    pub key: KeyName,
}

/// First frame of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// The version spoken from here on.
    pub version: u16,
    /// Data digests are used.
    pub digest: bool,
    /// The server's host.
    pub host: Id,
    /// Random.
    pub nonce: [u8; 32],
    /// The server's time.
    pub stamp: u64,
}

/// The client has the key, and was alive after the challenge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The life to join; `None` = make one, or join the one of this incarnation.
    pub life: Option<Life>,
    /// Proves the key.
    pub mac: [u8; 32],
}

/// The connection is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The life it belongs to.
    pub life: Life,
    /// The server's time.
    pub stamp: u64,
    /// Limits of the lane.
    pub limits: Limits,
    /// Proves the key.
    pub mac: [u8; 32],
}

/// What a server allows on a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How long it executes requests after a proof of life, ns.
    pub lease_ns: u64,
    /// Most bytes of data in a request or answer, 1 to [`DATA_MAX`].
    pub data_max: u32,
    /// Most bytes of a user header, up to [`USER_MAX`].
    pub user_max: u16,
    /// Slots, 1 to [`DEPTH_MAX`].
    pub depth: u16,
}

/// The connection is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refuse {
    /// Why.
    pub why: RefuseCause,
    /// Proves the key; zero before the client proved it.
    pub mac: [u8; 32],
}

/// Why a server does not take a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum RefuseCause {
    /// No version in common.
    #[error(
        "the server speaks versions {low} to {high} of the session protocol, this host others; upgrade the older one"
    )]
    Version {
        /// Oldest.
        low: u16,
        /// Newest.
        high: u16,
    },
    /// Unknown name or wrong key.
    #[error("the server does not accept this key: check name and content of the key on both hosts")]
    Key,
    /// Without one only from loopback.
    #[error("the server wants a key from this address: name one, or allow insecure sessions on both hosts")]
    KeyNeeded,
    /// It does not know this life.
    #[error(
        "the server does not know this session any more: it was restarted or was out of reach for too long"
    )]
    Unknown,
    /// There is a newer one.
    #[error("the server has a newer connection in the place of this one")]
    Stale,
    /// An older life is not over yet.
    #[error("the server still works on requests of this session's last life")]
    Draining,
    /// Too many.
    #[error("the server has as many sessions as it takes")]
    Busy,
    /// Numbers out of range.
    #[error("the server does not take this lane or path number")]
    WrongLane,
}
