//! What a leg is sent, and what waits for room on its session.

use super::Pool;
use super::leg::LegState;
use rmr_proto::envelope::{Envelope, Kind, Status};
use rmr_proto::{BufId, Epoch, IoOp, IoRequest, MemberId, Msg, Tag, wire};
use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::Cx;
use tgt_rtrs::Direction;
use tgt_rtrs::client::SubmitError;
use tgt_rtrs::frame::USER_MAX;
use tgt_rtrs::tcp::{Refusal, Submission};

/// What a collect offers at first.
pub(super) const LETTER_ROOM: u32 = 4096;

/// A read or write that a leg was asked for: what its answer has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The write's copy.
    pub(super) copy: Option<BufId>,
    /// Reads: the bytes that are due.
    pub(super) bytes: u32,
    pub(super) epoch: Epoch,
    pub(super) tag: Tag,
    /// [`super::leg::Leg::life`] when it was asked.
    pub(super) life: u32,
}

/// What was submitted.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Io(Asked),
    Letter,
    Collect,
    Hail,
}

impl What {
    /// The copy that its session is lent.
    pub(super) fn copy(&self) -> Option<BufId> {
        match self {
            What::Io(asked) => asked.copy,
            _ => None,
        }
    }
}

/// One that waits for room.
pub(super) struct Waiting {
    what: What,
    direction: Direction,
    header: Vec<u8>,
    bufs: Bufs,
}

impl Pool {
    /// Sends a message of the engine.
    pub(super) fn send(&mut self, cx: &mut Cx, member: MemberId, msg: &Msg) {
        let at = member.index();
        if self.legs[at].as_ref().is_none_or(|leg| leg.state != LegState::Up || leg.leaving) {
            return; // The engine asks again, or is told that the leg is down.
        }
        let mut header = self.spare_header();
        let envelope = self.envelope(at, if matches!(msg, Msg::Io(..)) { Kind::Io } else { Kind::Letter }, 0);
        envelope.encode_to(&mut header);
        wire::encode_to(self.id, msg, &mut header);
        Envelope::close(&mut header);
        match msg {
            Msg::Io(io, copy) => self.send_io(cx, at, header, (io, *copy)),
            _ => self.send_letter(cx, at, header),
        }
    }

    fn send_io(&mut self, cx: &mut Cx, at: usize, header: Vec<u8>, (io, copy): (&IoRequest, Option<BufId>)) {
        let bytes = if io.op == IoOp::Read { io.range.count << self.block_shift() } else { 0 };
        let bufs = match copy {
            Some(copy) => self.memory.view(cx, copy),
            None if bytes == 0 => Bufs::none(),
            None => match DmaBuf::alloc(bytes) {
                Ok(room) => room.into(),
                Err(_) => {
                    self.recycle(header);
                    return self.starving.push((at, bytes as usize));
                }
            },
        };
        let direction = if io.op == IoOp::Read { Direction::Read } else { Direction::Write };
        let asked = Asked { copy, bytes, epoch: io.epoch, tag: io.tag, life: self.leg(at).life };
        self.submit(cx, at, What::Io(asked), direction, header, bufs);
    }

    /// A letter goes in the header if it fits there, else as data.
    fn send_letter(&mut self, cx: &mut Cx, at: usize, mut header: Vec<u8>) {
        let user = self.leg(at).user;
        let user_max = self.hub.up(user).map_or(usize::from(USER_MAX), |up| usize::from(up.limits.user_max));
        let letter = &header[Envelope::SIZE..];
        let mut bufs = Bufs::none();
        if header.len() > user_max {
            let Ok(mut buf) = DmaBuf::alloc(letter.len() as u32) else {
                self.starving.push((at, letter.len()));
                return self.recycle(header);
            };
            buf.as_mut_slice().copy_from_slice(letter);
            bufs = buf.into();
            header.truncate(Envelope::SIZE);
        }
        self.submit(cx, at, What::Letter, Direction::Write, header, bufs);
    }

    pub(super) fn collect(&mut self, cx: &mut Cx, at: usize, room: u32) {
        let Ok(buf) = DmaBuf::alloc(room) else { return self.no_memory(cx, at, room as usize) };
        let mut header = self.spare_header();
        self.envelope(at, Kind::Collect, room).encode_to(&mut header);
        header.extend_from_slice(&self.id.0);
        let tag = self.submit(cx, at, What::Collect, Direction::Read, header, buf.into());
        self.leg(at).collect = tag;
    }

    /// To the leg at `at`.
    pub(super) fn envelope(&self, at: usize, kind: Kind, length: u32) -> Envelope {
        let to = Some(MemberId::at(at));
        Envelope { kind, from: None, to, status: Status::Done, length, sender: self.nonce }
    }

    /// Submits, or lets it wait for room. The tag, if it went.
    pub(super) fn submit(
        &mut self,
        cx: &mut Cx,
        at: usize,
        what: What,
        direction: Direction,
        header: Vec<u8>,
        bufs: Bufs,
    ) -> Option<u32> {
        let waiting = Waiting { what, direction, header, bufs };
        if !self.leg(at).waiting.is_empty() {
            self.leg(at).waiting.push_back(waiting);
            return None;
        }
        match self.try_submit(cx, at, waiting) {
            Ok(tag) => tag,
            Err(waiting) => {
                self.leg(at).waiting.push_back(waiting);
                None
            }
        }
    }

    /// `Err`: there is no room, and `Room` will tell. What cannot be sent at all is dropped, as if lost on the way.
    fn try_submit(&mut self, cx: &mut Cx, at: usize, waiting: Waiting) -> Result<Option<u32>, Waiting> {
        let Waiting { what, direction, header, bufs } = waiting;
        let tag = self.sent.put((MemberId::at(at), what));
        let user = self.leg(at).user;
        let submission = Submission { tag: u64::from(tag), direction, header: &header, bufs };
        let refused = self.hub.submit(cx, user, submission);
        match refused {
            Ok(()) => {
                self.leg(at).lent += u32::from(what.copy().is_some());
                if matches!(what, What::Collect) {
                    self.leg(at).collect = Some(tag);
                }
                self.recycle(header);
                Ok(Some(tag))
            }
            Err((bufs, Refusal::Wait)) => {
                self.sent.take(tag);
                Err(Waiting { what, direction, header, bufs })
            }
            Err((bufs, Refusal::Refused(error))) => {
                self.sent.take(tag);
                if !matches!(error, SubmitError::Dead) {
                    tracing::warn!(member = %MemberId::at(at), %error, "a message to a leg is too large");
                }
                self.unsent(cx, what, bufs);
                self.recycle(header);
                Ok(None)
            }
        }
    }

    pub(super) fn send_waiting(&mut self, cx: &mut Cx, at: usize) {
        let user = self.leg(at).user;
        if self.leg(at).waiting.is_empty() {
            return self.hub.forgo(cx, user);
        }
        while let Some(waiting) = self.leg(at).waiting.pop_front() {
            if let Err(waiting) = self.try_submit(cx, at, waiting) {
                return self.leg(at).waiting.push_front(waiting);
            }
        }
    }

    pub(super) fn drop_waiting(&mut self, cx: &mut Cx, at: usize) {
        while let Some(waiting) = self.leg(at).waiting.pop_front() {
            self.unsent(cx, waiting.what, waiting.bufs);
            self.recycle(waiting.header);
        }
    }

    /// Memory of what was not sent, or will not be answered, goes where it came from.
    pub(super) fn unsent(&mut self, cx: &mut Cx, what: What, bufs: Bufs) {
        match what.copy() {
            Some(copy) => self.memory.give_back(cx, copy, bufs),
            None => drop(bufs),
        }
    }

    /// Legs that a message could not be sent to for want of memory are down. Not on the spot: the engine is in the middle
    /// of saying what it wants, and what it wants then must not overtake that.
    pub(super) fn drop_starving(&mut self, cx: &mut Cx) {
        while let Some((at, bytes)) = self.starving.pop() {
            if self.legs[at].as_ref().is_some_and(|leg| leg.state == LegState::Up) {
                self.no_memory(cx, at, bytes);
            }
        }
    }
}
