//! What every request of the replication service begins with: docs/120.

use crate::raw::RawEnvelope;
use crate::{FormatError, MemberId, PoolId};
use zerocopy::FromBytes;

const MAGIC: u32 = u32::from_le_bytes(*b"RMRL");
/// No member, but a client.
const CLIENT: u8 = 0xff;

/// What a request is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A read or a write; its answer is the store's.
    Io = 1,
    /// Any other message, one way.
    Letter = 2,
    /// Asks for a letter, and waits for it.
    Collect = 3,
    /// Who speaks to whom, and where the others are.
    Hail = 4,
}

/// How a request ended, besides what its message says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[repr(u16)]
pub enum Status {
    /// Taken.
    #[error("done")]
    Done = 0,
    /// No store of the pool is open there.
    #[error("no store of this pool is open there")]
    NoPool = 1,
    /// More room is needed for the letter that waits.
    #[error("the letter is larger than the room offered")]
    Larger = 2,
    /// The store is of another member.
    #[error("the store there is of another member of the pool")]
    OtherMember = 3,
    /// Bytes that docs/120 does not know.
    #[error("the request was not understood")]
    NotUnderstood = 4,
    /// The store's disk takes no metadata.
    #[error("the store's disk takes no metadata: it has to be opened again")]
    Latched = 5,
}

impl Status {
    /// From an answer.
    pub const fn of(code: u16) -> Option<Self> {
        Some(match code {
            0 => Self::Done,
            1 => Self::NoPool,
            2 => Self::Larger,
            3 => Self::OtherMember,
            4 => Self::NotUnderstood,
            5 => Self::Latched,
            _ => return None,
        })
    }
}

/// An envelope.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Envelope {
    /// What it is.
    pub kind: Kind,
    /// The member that sends; `None`: a client, or a node that has no store to answer.
    pub from: Option<MemberId>,
    /// Requests: the member that is meant; nobody else answers it. `None` in answers.
    pub to: Option<MemberId>,
    /// Answers: how it ended.
    pub status: Status,
    /// Bytes of the message, or room for one.
    pub length: u32,
    /// The client's nonce, or the member's incarnation.
    pub sender: u64,
}

impl Envelope {
    /// Bytes.
    pub const SIZE: usize = RawEnvelope::SIZE;

    /// Appends its bytes.
    pub fn encode_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.encode());
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let raw = RawEnvelope {
            magic: MAGIC.into(),
            kind: self.kind as u8,
            from: byte_of(self.from),
            to: byte_of(self.to),
            status: (self.status as u16).into(),
            length: self.length.into(),
            reserved: [0; 3],
            sender: self.sender.into(),
            reserved_end: [0; 8],
        };
        zerocopy::transmute!(raw)
    }

    /// Says, in an envelope's bytes and what was appended to them, how much that is.
    pub fn close(bytes: &mut [u8]) {
        let length = (bytes.len() - Self::SIZE) as u32;
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
    }

    /// From the front of a header, and what follows.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        let what = "envelope";
        let short = FormatError::Short { what, got: bytes.len(), need: Self::SIZE };
        let (raw, rest) = RawEnvelope::read_from_prefix(bytes).map_err(|_| short)?;
        let bad = |field, value: u64, accepted| Err(FormatError::Field { what, field, value, accepted });
        if raw.magic.get() != MAGIC {
            return bad("magic", raw.magic.get().into(), "RMRL");
        }
        let kind = match raw.kind {
            1 => Kind::Io,
            2 => Kind::Letter,
            3 => Kind::Collect,
            4 => Kind::Hail,
            value => return bad("kind", value.into(), "1..=4"),
        };
        let Some(from) = member_of(raw.from) else {
            return bad("from", raw.from.into(), "0..=7 or 255");
        };
        let Some(to) = member_of(raw.to) else {
            return bad("to", raw.to.into(), "0..=7 or 255");
        };
        let Some(status) = Status::of(raw.status.get()) else {
            return bad("status", raw.status.get().into(), "0..=5");
        };
        if raw.reserved != [0; 3] || raw.reserved_end != [0; 8] {
            return bad("reserved", 1, "0");
        }
        let (length, sender) = (raw.length.get(), raw.sender.get());
        Ok((Self { kind, from, to, status, length, sender }, rest))
    }

    /// The pool that stands after the envelope of a collect or hail.
    pub fn pool_of(rest: &[u8]) -> Result<PoolId, FormatError> {
        let short = FormatError::Short { what: "pool after the envelope", got: rest.len(), need: 16 };
        rest.first_chunk::<16>().map(|pool| PoolId(*pool)).ok_or(short)
    }
}

fn byte_of(member: Option<MemberId>) -> u8 {
    member.map_or(CLIENT, |member| member.index() as u8)
}

/// Inner `None`: nobody. Outer `None`: no member.
fn member_of(byte: u8) -> Option<Option<MemberId>> {
    if byte == CLIENT { Some(None) } else { MemberId::new(byte).map(Some) }
}
