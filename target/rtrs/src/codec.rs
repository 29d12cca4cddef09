//! Frames to bytes and back. [`open`] checks syntax and what the state of the connection allows; what a frame means
//! here and now is the engines' to judge.

use crate::error::field;
use crate::frame::{Bye, ByeCause, DATA_MAX, Frame, Hand, Ping, Refused, Reply, Request, USER_MAX};
use crate::hand;
use crate::raw::RawHead;
use crate::{Direction, FormatError, SlotNo, SlotUse, UserId, crc32c};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const MAGIC: u32 = u32::from_le_bytes(*b"RTS1");
/// Bytes of a frame's header.
pub const HEAD: usize = RawHead::SIZE;
/// Most bytes of a frame of the hand-shake.
pub const HAND_MAX: usize = 256;

/// The data has a digest.
const DIGEST: u8 = 1;
const READ: u8 = 2;
/// Refused by the session layer; the end of a life.
const LAYER: u8 = 4;

/// Who sent a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// What the state of a connection allows its peer to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expect {
    /// Who the peer is.
    pub from: Side,
    /// The hand-shake is not over: its frames and nothing else.
    pub hand: bool,
    /// Data must have a digest; if not, must not.
    pub digest: bool,
    /// Most bytes of a user header.
    pub user_max: u16,
    /// Most bytes of data.
    pub data_max: u32,
}

impl Expect {
    /// Before anything is agreed on.
    pub fn hand(from: Side) -> Self {
        Self { from, hand: true, digest: false, user_max: 0, data_max: 0 }
    }
}

/// What lies at the start of some bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opened {
    /// Not enough to say: at least so many bytes are needed in all.
    Short(usize),
    /// A frame; its user header lies at [`HEAD`], its data behind that.
    Frame {
        /// The frame.
        frame: Frame,
        /// Bytes of header and user header: where the data begins.
        head: usize,
        /// Bytes of data.
        data: usize,
        /// What the data's CRC32C must be.
        digest: Option<u32>,
    },
}

/// Reads the frame at the start of `bytes`, which need not hold its data.
///
/// # Errors
/// If no peer that keeps to the protocol sends this now: the connection is to be closed.
pub fn open(bytes: &[u8], expect: &Expect) -> Result<Opened, FormatError> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Ok(Opened::Short(HEAD)) };
    let raw = verified(head)?;
    check_allowed(&raw, expect)?;
    let user_len = usize::from(raw.user_len.get());
    let Some(user) = rest.get(..user_len) else { return Ok(Opened::Short(HEAD + user_len)) };
    let want = crc32c(user);
    if raw.user_crc.get() != want {
        return Err(FormatError::Checksum { what: "user header", got: raw.user_crc.get(), want });
    }
    let frame = typed(&raw, user)?;
    let digest = (raw.flags & DIGEST != 0).then_some(raw.data_crc.get());
    let own_len = if matches!(frame, Frame::Hand(_)) { raw.user_len.get() } else { told(&frame) };
    let mut again = raw_of(&frame, own_len);
    (again.crc, again.user_crc, again.data_crc) = (raw.crc, raw.user_crc, raw.data_crc);
    again.flags |= raw.flags & DIGEST;
    if again != raw {
        return field("frame", "a field that its kind does not use", u64::from(raw.kind), "zero");
    }
    Ok(Opened::Frame { frame, head: HEAD + user_len, data: raw.data_len.get() as usize, digest })
}

fn verified(head: &[u8]) -> Result<RawHead, FormatError> {
    let mut raw = RawHead::read_from_bytes(head).unwrap_or_else(|_| RawHead::new_zeroed());
    if raw.magic.get() != MAGIC {
        return field("frame", "magic", u64::from(raw.magic.get()), "RTS1");
    }
    let got = raw.crc.get();
    raw.crc = 0.into();
    let want = crc32c(raw.as_bytes());
    if got != want {
        return Err(FormatError::Checksum { what: "header", got, want });
    }
    raw.crc = got.into();
    Ok(raw)
}

/// Lengths, kind and digest against the state of the connection.
fn check_allowed(raw: &RawHead, expect: &Expect) -> Result<(), FormatError> {
    let sender = match raw.kind {
        1 | 3 | 16 | 20 | 23 => Some(Side::Client),
        2 | 4 | 5 | 17 | 18 | 19 | 21 => Some(Side::Server),
        22 => None,
        kind => return field("frame", "kind", u64::from(kind), "1 to 5, 16 to 23"),
    };
    if sender.is_some_and(|sender| sender != expect.from) {
        return field("frame", "kind", u64::from(raw.kind), "one that this side sends");
    }
    let user_len = raw.user_len.get();
    let data_len = raw.data_len.get();
    if (raw.flags & DIGEST != 0) != (expect.digest && data_len > 0) {
        return field("frame", "flags", u64::from(raw.flags), "a digest with data, if that was agreed on");
    }
    if raw.flags & DIGEST == 0 && raw.data_crc.get() != 0 {
        return field("frame", "data_crc", u64::from(raw.data_crc.get()), "zero without a digest");
    }
    if expect.hand {
        if raw.kind > 5 || HEAD + usize::from(user_len) > HAND_MAX || data_len != 0 {
            return field("frame", "kind", u64::from(raw.kind), "one of the hand-shake, at most 256 bytes");
        }
        return Ok(());
    }
    if raw.kind < 16 {
        return field("frame", "kind", u64::from(raw.kind), "16 to 23 after the hand-shake");
    }
    if user_len > expect.user_max {
        return field("frame", "user_len", u64::from(user_len), "at most what was agreed on");
    }
    if data_len > expect.data_max {
        return field("frame", "data_len", u64::from(data_len), "at most what was agreed on");
    }
    Ok(())
}

fn typed(raw: &RawHead, body: &[u8]) -> Result<Frame, FormatError> {
    let at = SlotUse { slot: SlotNo(raw.slot.get()), use_no: raw.use_no.get() };
    let (user_len, data_len) = (raw.user_len.get(), raw.data_len.get());
    Ok(match raw.kind {
        16 => {
            let read = raw.flags & READ != 0;
            Frame::Request(Request {
                at,
                sending: raw.sending.get(),
                user: UserId(raw.user.get()),
                direction: if read { Direction::Read } else { Direction::Write },
                bytes: if read { raw.asked.get() } else { data_len },
                user_len,
                seen: raw.seen.get(),
            })
        }
        17 => {
            let status = raw.status.get();
            let result = match (raw.flags & LAYER != 0, status) {
                (false, status) => Ok(status),
                (true, 1) => Err(Refused::NoService),
                (true, 2) => Err(Refused::TooLarge),
                _ => return field("Reply", "status", u64::from(status), "1 or 2 from the session layer"),
            };
            Frame::Reply(Reply { at, result, bytes: data_len, user_len })
        }
        18 => Frame::Wait(at),
        19 => Frame::Grant(at),
        20 => Frame::Ping(Ping { seen: raw.seen.get(), stamp: raw.stamp.get(), echo: raw.echo.get() }),
        21 => Frame::Pong { stamp: raw.stamp.get(), echo: raw.echo.get() },
        23 => Frame::Seen(at),
        22 => Frame::Bye(Bye { life: raw.flags & LAYER != 0, why: bye_cause(raw.status.get())? }),
        kind => Frame::Hand(Box::new(hand::decode(kind, body)?)),
    })
}

fn bye_cause(code: u16) -> Result<ByeCause, FormatError> {
    Ok(match code {
        1 => ByeCause::Command,
        2 => ByeCause::Shutdown,
        3 => ByeCause::Protocol,
        4 => ByeCause::Digest,
        5 => ByeCause::Silent,
        6 => ByeCause::Replaced,
        _ => return field("Bye", "status", u64::from(code), "1 to 6"),
    })
}

fn bye_code(why: ByeCause) -> u16 {
    match why {
        ByeCause::Command => 1,
        ByeCause::Shutdown => 2,
        ByeCause::Protocol => 3,
        ByeCause::Digest => 4,
        ByeCause::Silent => 5,
        ByeCause::Replaced => 6,
    }
}

/// The header of `frame` without checksums.
fn raw_of(frame: &Frame, user_len: u16) -> RawHead {
    let mut raw = RawHead { magic: MAGIC.into(), user_len: user_len.into(), ..RawHead::new_zeroed() };
    let mut place = |at: &SlotUse| {
        raw.slot = at.slot.0.into();
        raw.use_no = at.use_no.into();
    };
    match frame {
        Frame::Request(Request { at, .. })
        | Frame::Reply(Reply { at, .. })
        | Frame::Wait(at)
        | Frame::Grant(at)
        | Frame::Seen(at) => place(at),
        Frame::Ping(_) | Frame::Pong { .. } | Frame::Bye(_) | Frame::Hand(_) => {}
    }
    match frame {
        Frame::Request(request) => {
            raw.kind = 16;
            raw.sending = request.sending.into();
            raw.user = request.user.0.into();
            raw.seen = request.seen.into();
            raw.data_len = request.data_len().into();
            if request.direction == Direction::Read {
                raw.flags = READ;
                raw.asked = request.bytes.into();
            }
        }
        Frame::Reply(reply) => {
            raw.kind = 17;
            raw.data_len = reply.bytes.into();
            let (flags, status) = match reply.result {
                Ok(status) => (0, status),
                Err(Refused::NoService) => (LAYER, 1),
                Err(Refused::TooLarge) => (LAYER, 2),
            };
            (raw.flags, raw.status) = (flags, status.into());
        }
        Frame::Wait(_) => raw.kind = 18,
        Frame::Grant(_) => raw.kind = 19,
        Frame::Seen(_) => raw.kind = 23,
        Frame::Ping(Ping { seen, stamp, echo }) => {
            raw.kind = 20;
            raw.seen = (*seen).into();
            (raw.stamp, raw.echo) = ((*stamp).into(), (*echo).into());
        }
        Frame::Pong { stamp, echo } => {
            raw.kind = 21;
            (raw.stamp, raw.echo) = ((*stamp).into(), (*echo).into());
        }
        Frame::Bye(Bye { life, why }) => {
            raw.kind = 22;
            raw.flags = if *life { LAYER } else { 0 };
            raw.status = bye_code(*why).into();
        }
        Frame::Hand(hand) => raw.kind = hand::kind(hand),
    }
    raw
}

/// Bytes of user header that a frame after the hand-shake has.
fn told(frame: &Frame) -> u16 {
    match frame {
        Frame::Request(request) => request.user_len,
        Frame::Reply(reply) => reply.user_len,
        _ => 0,
    }
}

/// The header of a frame after the hand-shake, with the user header's checksum and, if wanted, the data's digest.
/// Allocates nothing.
///
/// # Panics
/// If `user` is not as long as the frame says, or `frame` is one of the hand-shake: bugs of the caller.
pub fn head_of(frame: &Frame, user: &[u8], digest: Option<u32>) -> [u8; HEAD] {
    let told = told(frame);
    assert!(!matches!(frame, Frame::Hand(_)), "a frame of the hand-shake has a body: use encode_hand");
    assert!(
        user.len() == usize::from(told) && told <= USER_MAX,
        "user header is {} bytes, not {told}",
        user.len()
    );
    let mut raw = raw_of(frame, told);
    assert!(raw.data_len.get() <= DATA_MAX, "{} bytes of data", raw.data_len);
    raw.user_crc = crc32c(user).into();
    if let (Some(digest), true) = (digest, raw.data_len.get() > 0) {
        raw.flags |= DIGEST;
        raw.data_crc = digest.into();
    }
    sealed(raw)
}

fn sealed(mut raw: RawHead) -> [u8; HEAD] {
    raw.crc = crc32c(raw.as_bytes()).into();
    let mut bytes = [0; HEAD];
    bytes.copy_from_slice(raw.as_bytes());
    bytes
}

/// All bytes of a frame of the hand-shake.
pub fn encode_hand(hand: &Hand) -> Vec<u8> {
    let body = hand::encode(hand);
    let mut raw = RawHead { magic: MAGIC.into(), kind: hand::kind(hand), ..RawHead::new_zeroed() };
    raw.user_len = (body.len() as u16).into();
    raw.user_crc = crc32c(&body).into();
    let mut bytes = sealed(raw).to_vec();
    bytes.extend_from_slice(&body);
    bytes
}
