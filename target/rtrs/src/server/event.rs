//! What goes into a server's engines and what comes out.

use crate::fault::{Death, Fault};
use crate::frame::{Challenge, Frame, Hand, Hello, Proof, Refused, Reply, Request};
use crate::hand::{Key, Transcript};
use crate::{BufId, ConnId, Direction, Id, Life, SlotUse, UserId};
use std::sync::Arc;

/// A life of a lane at the server: place and how-manieth there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneRef {
    pub(crate) at: u32,
    pub(crate) turn: u32,
}

/// A connection that proved itself, on its way from the gate to the reactor of its lane.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Who it is.
    pub hello: Hello,
    pub(crate) challenge: Challenge,
    pub(crate) proof: Proof,
    pub(crate) transcript: Transcript,
    pub(crate) key: Arc<Key>,
}

/// Something happened to a connection that has not proved itself.
#[derive(Debug)]
pub enum GateEvent {
    /// It was accepted. The nonce is random and used once.
    Accepted {
        /// Its number.
        conn: ConnId,
        /// Where it came from: an address, as a number.
        source: u128,
        /// From this very host.
        loopback: bool,
        /// Random bytes.
        nonce: [u8; 32],
    },
    /// A frame came.
    Hand {
        /// On which.
        conn: ConnId,
        /// What.
        hand: Hand,
    },
    /// It is gone.
    Lost {
        /// Which.
        conn: ConnId,
    },
    /// Time has passed.
    Tick,
}

/// What a gate wants done.
#[derive(Debug)]
pub enum GateAction {
    /// Send this.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        hand: Hand,
    },
    /// Close it, when what was to be sent is sent.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Fault,
    },
    /// Take it to the reactor of its lane.
    Admit {
        /// Which.
        conn: ConnId,
        /// With what.
        admission: Box<Admission>,
    },
}

/// Something happened on a reactor.
#[derive(Debug)]
pub enum Event {
    /// A connection came from the gate. Its number's low half is its place in a table: small, and one at a time has it.
    Admit {
        /// Its number.
        conn: ConnId,
        /// With what.
        admission: Box<Admission>,
    },
    /// A request came whole: checksums fit; `buf` holds its data, or is where that of a read goes; what
    /// [`super::Server::place`] said was done.
    Request {
        /// On which connection.
        conn: ConnId,
        /// What.
        request: Request,
        /// Its buffer, if one was bound.
        buf: Option<BufId>,
    },
    /// Any other frame came.
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
    /// There is memory for [`super::Server::waiting`].
    Bound {
        /// Who waited.
        waiter: Waiter,
        /// With what.
        buf: BufId,
    },
    /// A user has done what [`Action::Execute`] asked for.
    Answer(Answered),
    /// A connection is gone, or not to be trusted any more. Not for those that an action closed.
    Lost {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Fault,
    },
    /// Time has passed.
    Tick,
}

/// How a request ended at the server's user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Whose.
    pub lane: LaneRef,
    /// Which.
    pub at: SlotUse,
    /// The user's status, or why nobody saw it.
    pub result: Result<u16, Refused>,
    /// Bytes of data that go back; at most what was asked for.
    pub bytes: u32,
    /// Bytes of the answer's user header, which the driver keeps for the slot until [`Action::Release`].
    pub user_len: u16,
    /// The buffer that came with [`Action::Execute`].
    pub buf: Option<BufId>,
}

/// A request that waits for memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// Whose.
    pub lane: LaneRef,
    /// Which.
    pub at: SlotUse,
    /// How much.
    pub bytes: u32,
}

/// What to do with the bytes of a request whose header came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nothing of it is needed: read over its data and keep nothing.
    Drop,
    /// It has no data: keep its user header for the slot.
    Bare,
    /// Bind a buffer if there is one, and keep the user header; without a buffer read over the data.
    Bind,
    /// Others wait for memory: keep the user header, read over the data.
    Queue,
    /// A buffer is bound already: put the data there, and keep the user header.
    Bound(BufId),
}

/// What a reactor wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send this; never an answer.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        frame: Frame,
    },
    /// Send an answer, with the user header and data that the driver keeps for it.
    Reply {
        /// On which connection.
        conn: ConnId,
        /// Whose.
        lane: LaneRef,
        /// What.
        reply: Reply,
    },
    /// Close it, when what was to be sent is sent; deliver nothing of it from here on.
    Close {
        /// Which.
        conn: ConnId,
        /// Why.
        fault: Fault,
    },
    /// Hand a request to its user, who ends it with [`Event::Answer`].
    Execute(Execute),
    /// The answer of this use is not needed any more, or the request will not be executed: let go what is kept for it.
    Release {
        /// Whose.
        lane: LaneRef,
        /// Which.
        at: SlotUse,
        /// Its buffer, if it has one.
        buf: Option<BufId>,
    },
    /// A buffer that is not needed.
    Free(BufId),
    /// Tell the users.
    Link(Link),
}

/// A request for a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Execute {
    /// Whose.
    pub lane: LaneRef,
    /// Which.
    pub at: SlotUse,
    /// The client's user.
    pub user: UserId,
    /// Which way its data goes.
    pub direction: Direction,
    /// Bytes that came, or at most go back.
    pub bytes: u32,
    /// Bytes of its user header.
    pub user_len: u16,
    /// Its data, or where that goes.
    pub buf: Option<BufId>,
}

/// What is counted of a connection at its server, or of all of a life's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServedStats {
    /// Requests that came, repeated ones included.
    pub requests: u64,
    /// Answers given, repeated ones included.
    pub answers: u64,
    /// Bytes of data that came with requests.
    pub bytes_in: u64,
    /// Bytes of data that went with answers.
    pub bytes_out: u64,
}

impl ServedStats {
    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.answers += other.answers;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// What a server's users are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// A client's lane began a life.
    Up {
        /// Which.
        lane: LaneRef,
        /// Its session.
        session: Id,
        /// The number of the lane in it.
        number: u16,
        /// The client's host.
        host: Id,
        /// The life.
        life: Life,
    },
    /// It is over: nothing of it is handed out any more. What users still have of it they end as usual.
    Down {
        /// Which.
        lane: LaneRef,
        /// Why.
        why: Death,
    },
}
