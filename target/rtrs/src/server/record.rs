//! What a lane remembers of its requests: enough to execute each at most once, and no more.

use crate::frame::{Reply, Request};
use crate::{BufId, ConnId, Direction, SlotUse, UserId};
use std::collections::VecDeque;

/// What became of the last use of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Nothing is owed: it was never used, or the client has its answer.
    Done,
    /// Not executed: it waits for memory, or for a copy with its data.
    Waiting,
    /// Memory is bound; the client was asked for the data.
    Granted(BufId),
    /// All of it is here, and its client must show that it lives before it is executed.
    Unleased(Option<BufId>),
    /// A user has it.
    Executing,
    /// Answered; kept until the client has said that it has the answer.
    Answered(Reply, Option<BufId>),
}

/// One slot of a life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Its last use.
    pub(super) use_no: u32,
    /// Newest copy of it, and where that came from.
    pub(super) sending: u32,
    pub(super) conn: ConnId,
    pub(super) state: State,
    /// Stands in the lane's queue for memory.
    pub(super) queued: bool,
    pub(super) user: UserId,
    pub(super) direction: Direction,
    pub(super) bytes: u32,
    pub(super) user_len: u16,
}

/// No connection.
const NOWHERE: ConnId = ConnId(u64::MAX);

/// Bytes that a lane keeps for each slot: the record, the queue for memory, and answers unconfirmed on one path.
pub const SLOT_BYTES: usize = size_of::<Slot>() + size_of::<crate::SlotNo>() + size_of::<SlotUse>();
// A lane of 256 slots without requests stays below 32 KiB.
const _: () = assert!(SLOT_BYTES * 256 <= 32 << 10);

impl Slot {
    pub(super) const NEW: Self = Self {
        use_no: 0,
        sending: 0,
        conn: NOWHERE,
        state: State::Done,
        queued: false,
        user: UserId(0),
        direction: Direction::Read,
        bytes: 0,
        user_len: 0,
    };
}

/// What a copy of a request is to its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Copy {
    /// The next use.
    Next,
    /// The last use again.
    Same,
    /// An older use: a late copy.
    Old,
    /// What no client sends.
    Broken,
}

impl Slot {
    /// Whether a copy of the slot's last use asks for what was asked for first.
    pub(super) fn is_same(&self, copy: &Request) -> bool {
        (self.user, self.direction, self.bytes, self.user_len)
            == (copy.user, copy.direction, copy.bytes, copy.user_len)
    }

    /// Sorts a copy of use `use_no`.
    pub(super) fn sort(&self, use_no: u32) -> Copy {
        match use_no.wrapping_sub(self.use_no) as i32 {
            0 if self.use_no == 0 && self.sending == 0 => Copy::Broken,
            0 => Copy::Same,
            // The next comes only after the last was answered.
            1 if matches!(self.state, State::Done | State::Answered(..)) => Copy::Next,
            ..0 => Copy::Old,
            _ => Copy::Broken,
        }
    }
}

/// Answers sent on one connection that the client has not said it has.
pub(super) struct Unconfirmed {
    sent: VecDeque<SlotUse>,
    /// Answers confirmed on this connection, wrapping.
    confirmed: u32,
}

impl Unconfirmed {
    pub(super) fn new(depth: u16) -> Self {
        Self { sent: VecDeque::with_capacity(usize::from(depth)), confirmed: 0 }
    }

    pub(super) fn push(&mut self, at: SlotUse) {
        self.sent.push_back(at);
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// The client has seen this many in all. How many of those are news; `None` if there are not so many.
    pub(super) fn news(&self, seen: u32) -> Option<usize> {
        let news = seen.wrapping_sub(self.confirmed) as usize;
        (news <= self.sent.len()).then_some(news)
    }

    pub(super) fn pop(&mut self) -> Option<SlotUse> {
        self.confirmed = self.confirmed.wrapping_add(1);
        self.sent.pop_front()
    }
}
