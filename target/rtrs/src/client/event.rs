//! What goes into a client's lane and what comes out.

use crate::fault::{Death, Fault};
use crate::frame::{Frame, Limits, Refused};
use crate::{ConnId, Direction, Id, Life, Now, PathNo, SlotNo, SlotUse};

/// The caller's name for one of its requests.
pub type Tag = u64;

/// A user of the lane, by the number it got when it was attached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserNo(pub u16);

/// The right to have one request under way, in one life.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a permit is submitted with or given back"]
pub struct Permit {
    pub(crate) slot: SlotNo,
    pub(crate) user: UserNo,
    pub(crate) life: Life,
}

impl Permit {
    /// The slot it stands for: where the driver keeps what belongs to the request.
    pub fn slot(&self) -> SlotNo {
        self.slot
    }
}

/// A request, but for its user header and data, which the driver keeps until it is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The caller's name for it.
    pub tag: Tag,
    /// Which way its data goes.
    pub direction: Direction,
    /// Write: bytes sent; read: most bytes that may come back.
    pub bytes: u32,
    /// Bytes of its user header.
    pub user_len: u16,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The server's user's status, or why no user saw it.
    pub result: Result<u16, Refused>,
    /// Bytes of data that came.
    pub bytes: u32,
    /// Bytes of the answer's user header.
    pub user_len: u16,
}

/// The life it was sent in is over: it was executed or was not, and will not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the session died with this request under way; it may or may not have been executed")]
pub struct SessionDead;

/// Why a request was not taken. Nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubmitError {
    /// There is no life, or another than that of the permit.
    #[error("the session is not up; wait until it is")]
    Dead,
    /// Over the limits of the server.
    #[error("{what} is {got} bytes, the server of this session takes at most {max}")]
    TooLarge {
        /// Data or user header.
        what: &'static str,
        /// Given.
        got: u32,
        /// Accepted.
        max: u32,
    },
}

/// Something happened to a connection, or time has passed.
#[derive(Debug)]
pub enum Event {
    /// What [`Action::Connect`] asked for is there. The nonce is random and used once.
    Connected {
        /// Which.
        conn: ConnId,
        /// Random bytes.
        nonce: [u8; 32],
    },
    /// A frame came whole: its checksums fit, its data is where [`super::Client::expected`] said.
    Frame {
        /// On which.
        conn: ConnId,
        /// What.
        frame: Frame,
    },
    /// Bytes came that do not yet make a frame.
    Heard {
        /// On which.
        conn: ConnId,
    },
    /// What [`Action::Look`] asked for, at once.
    Looked {
        /// Of which.
        conn: ConnId,
        /// How far its stream has come.
        signs: Signs,
    },
    /// It is gone, or could not be made. Not for those that an action closed.
    Lost {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Fault,
    },
    /// Time has passed.
    Tick,
}

/// How far a connection's stream has come, in bytes from its start. A sign of life is that one of them has grown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Signs {
    /// Came from the peer, those of frames that are not complete included.
    pub came: u64,
    /// Were handed over to be sent, what the engine asked for before included.
    pub queued: u64,
    /// Of these, acknowledged by the peer's host. Its process may not have seen them.
    pub acknowledged: u64,
}

/// What a lane wants done.
#[derive(PartialEq, Eq, Debug)]
pub enum Action {
    /// Make a connection on this path.
    Connect {
        /// Its number from here on.
        conn: ConnId,
        /// Which path.
        path: PathNo,
    },
    /// Send this; a request goes with the user header and data that the driver keeps for its slot.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        frame: Frame,
    },
    /// Say how far its stream has come: [`Event::Looked`]. Until that is said the connection is not taken for dead.
    Look {
        /// Of which.
        conn: ConnId,
    },
    /// Close it, and deliver nothing of it from here on.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Fault,
    },
    /// A request has ended. Its slot is free; what the driver kept for it goes back to the caller.
    Complete {
        /// The caller's name for it.
        tag: Tag,
        /// Which use of which slot it had.
        at: SlotUse,
        /// How.
        result: Result<Answer, SessionDead>,
    },
    /// The turn of a user that waited has come. It submits with the permit or gives it back.
    Permit {
        /// Whose.
        user: UserNo,
        /// What it waited for.
        permit: Permit,
    },
    /// Tell the users.
    Link(Link),
    /// Tell who operates this.
    Path(PathChange),
}

/// What users are told of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// A life has begun.
    Up {
        /// Which.
        life: Life,
        /// The server's host.
        host: Id,
        /// What it allows.
        limits: Limits,
    },
    /// No path is up; requests wait.
    Stalled {
        /// What the last one fell to.
        fault: Fault,
    },
    /// A path is up again.
    Resumed,
    /// The life is over, all its requests have failed, its permits are void.
    Dead {
        /// Why.
        why: Death,
    },
}

/// Where a path stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathState {
    /// Tried again at some time.
    Waiting {
        /// When.
        until: Now,
        /// What it fell to; none before the first try.
        fault: Option<Fault>,
    },
    /// Being connected.
    Dialling,
    /// Connected; the server is to answer.
    Greeting,
    /// The server has asked for proof and got it.
    Proving,
    /// Carries requests.
    Up,
}

/// A path went from one state to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathChange {
    /// Which.
    pub path: PathNo,
    /// Its UUID.
    pub id: Id,
    /// Where it stands now.
    pub state: PathState,
}
