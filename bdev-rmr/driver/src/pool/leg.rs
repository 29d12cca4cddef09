//! One leg: the session to its node, what is said first, and what waits for room.

use super::Pool;
use crate::hail::Hail;
use rmr_engine::client::ClientEvent as Event;
use rmr_proto::disk::Superblock;
use rmr_proto::envelope::{Envelope, Kind, Status};
use rmr_proto::{BufId, MemberId, Msg, wire};
use std::collections::VecDeque;
use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::Cx;
use tgt_rtrs::Direction;
use tgt_rtrs::client::{Link, SubmitError};
use tgt_rtrs::hub::{ClientEvent, HubUser, SessionRef};
use tgt_rtrs::tcp::{Done, Refusal, Submission};

/// A refused hail is repeated after this, ns.
const HAIL_AGAIN_NS: u64 = 1_000_000_000;
/// What a collect offers at first.
const LETTER_ROOM: u32 = 4096;

/// Where a leg stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LegState {
    /// No path, or no session.
    NoSession(String),
    /// The store has been asked.
    Hailing,
    /// The store said no.
    Refused(String),
    /// Messages go.
    Up,
}

/// What was submitted.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Io(Option<BufId>),
    Letter,
    Collect,
    Hail,
}

/// One that waits for room.
struct Waiting {
    what: What,
    direction: Direction,
    header: Vec<u8>,
    bufs: Bufs,
}

/// One leg.
pub(super) struct Leg {
    pub(super) member: MemberId,
    pub(super) session: SessionRef,
    pub(super) user: HubUser,
    pub(super) state: LegState,
    pub(super) hail: Hail,
    /// Refused: asked again then.
    hail_at: u64,
    waiting: VecDeque<Waiting>,
    /// The collect that counts; an older one ends and says nothing.
    collect: Option<u32>,
    /// Copies of writes that its session has.
    pub(super) lent: u32,
    /// It goes as soon as it has none.
    pub(super) leaving: bool,
}

impl Leg {
    pub(super) fn new(member: MemberId, session: SessionRef, user: HubUser, hail: Hail) -> Self {
        let state = LegState::NoSession("not connected yet".into());
        Self {
            member,
            session,
            user,
            state,
            hail,
            hail_at: u64::MAX,
            waiting: VecDeque::new(),
            collect: None,
            lent: 0,
            leaving: false,
        }
    }
}

impl Pool {
    fn leg(&mut self, at: usize) -> &mut Leg {
        self.legs[at].as_mut().expect("a leg that is there")
    }

    /// Takes in what the session has to tell of a leg. True if there was anything.
    pub(super) fn poll_leg(&mut self, cx: &mut Cx, at: usize) -> bool {
        let mut any = false;
        loop {
            let Some(leg) = &self.legs[at] else { return any };
            let Some(event) = self.hub.next(leg.user) else { return any };
            any = true;
            match event {
                ClientEvent::Link(Link::Up { .. } | Link::Resumed) => self.hail(cx, at),
                ClientEvent::Link(Link::Stalled { fault }) => {
                    self.leg_down(cx, at, LegState::NoSession(format!("no path is up: {fault}")));
                }
                ClientEvent::Link(Link::Dead { why }) => {
                    self.leg_down(cx, at, LegState::NoSession(format!("the session ended: {why}")));
                    self.drop_waiting(cx, at);
                }
                ClientEvent::Room => self.send_waiting(cx, at),
                ClientEvent::Done(done) => self.leg_done(cx, at, done),
            }
        }
    }

    /// Asks again where the store said no.
    pub(super) fn hail_again(&mut self, cx: &mut Cx) {
        let now = cx.now().as_ns();
        for at in 0..self.legs.len() {
            let due = |leg: &Leg| now >= leg.hail_at && matches!(leg.state, LegState::Refused(_));
            if self.legs[at].as_ref().is_some_and(due) {
                self.hail(cx, at);
            }
        }
    }

    /// Says hello again, with what is known of the others by now.
    pub(super) fn hail(&mut self, cx: &mut Cx, at: usize) {
        let data = serde_json::to_vec(&self.leg(at).hail).expect("a hail is plain data");
        let Ok(mut buf) = DmaBuf::alloc(data.len() as u32) else { return };
        buf.as_mut_slice().copy_from_slice(&data);
        let mut header = self.spare_header();
        self.envelope(Kind::Hail, data.len() as u32).encode_to(&mut header);
        header.extend_from_slice(&self.id.0);
        let leg = self.leg(at);
        (leg.state, leg.hail_at) = (LegState::Hailing, u64::MAX);
        self.submit(cx, at, What::Hail, Direction::Write, header, buf.into());
    }

    /// Sends a message of the engine.
    pub(super) fn send(&mut self, cx: &mut Cx, member: MemberId, msg: &Msg) {
        let at = member.index();
        if self.legs[at].as_ref().is_none_or(|leg| leg.state != LegState::Up || leg.leaving) {
            return; // The engine asks again, or is told that the leg is down.
        }
        let mut header = self.spare_header();
        let envelope = self.envelope(if matches!(msg, Msg::Io(..)) { Kind::Io } else { Kind::Letter }, 0);
        envelope.encode_to(&mut header);
        wire::encode_to(self.id, msg, &mut header);
        Envelope::close(&mut header);
        match msg {
            Msg::Io(io, Some(buf)) => {
                debug_assert!(io.op.is_write());
                let view = self.memory.view(cx, *buf);
                let _tag = self.submit(cx, at, What::Io(Some(*buf)), Direction::Write, header, view);
            }
            Msg::Io(io, None) if io.op == rmr_proto::IoOp::Read => {
                let bytes = io.range.count << self.block_shift();
                let Ok(room) = DmaBuf::alloc(bytes) else {
                    // As if it were lost on the way: the leg is asked again, or left out.
                    tracing::warn!(%member, bytes, "no memory for a read");
                    return self.recycle(header);
                };
                let _tag = self.submit(cx, at, What::Io(None), Direction::Read, header, room.into());
            }
            Msg::Io(..) => {
                let _tag = self.submit(cx, at, What::Io(None), Direction::Write, header, Bufs::none());
            }
            _ => self.send_letter(cx, at, header),
        }
    }

    /// A letter goes in the header if it fits there, else as data.
    fn send_letter(&mut self, cx: &mut Cx, at: usize, mut header: Vec<u8>) {
        let leg = self.legs[at].as_ref().expect("looked at");
        let user_max = self.hub.up(leg.user).map_or(512, |up| usize::from(up.limits.user_max));
        let length = (header.len() - Envelope::SIZE) as u32;
        let mut bufs = Bufs::none();
        if header.len() > user_max {
            let Ok(mut buf) = DmaBuf::alloc(length) else { return self.recycle(header) };
            buf.as_mut_slice().copy_from_slice(&header[Envelope::SIZE..]);
            bufs = buf.into();
            header.clear();
            self.envelope(Kind::Letter, length).encode_to(&mut header);
        }
        self.submit(cx, at, What::Letter, Direction::Write, header, bufs);
    }

    fn collect(&mut self, cx: &mut Cx, at: usize, room: u32) {
        let Ok(buf) = DmaBuf::alloc(room) else { return };
        let mut header = self.spare_header();
        self.envelope(Kind::Collect, room).encode_to(&mut header);
        header.extend_from_slice(&self.id.0);
        let tag = self.submit(cx, at, What::Collect, Direction::Read, header, buf.into());
        self.leg(at).collect = tag;
    }

    fn envelope(&self, kind: Kind, length: u32) -> Envelope {
        Envelope { kind, from: None, status: Status::Done, length, sender: self.nonce }
    }

    /// Submits, or lets it wait for room. The tag, if it went.
    fn submit(
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
                match what {
                    What::Collect => self.leg(at).collect = Some(tag),
                    What::Io(Some(_)) => self.leg(at).lent += 1,
                    _ => {}
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

    fn send_waiting(&mut self, cx: &mut Cx, at: usize) {
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

    fn unsent(&mut self, cx: &mut Cx, what: What, bufs: Bufs) {
        match what {
            What::Io(Some(copy)) => self.memory.give_back(cx, copy, bufs),
            _ => drop(bufs),
        }
    }

    /// The leg cannot be spoken to.
    fn leg_down(&mut self, cx: &mut Cx, at: usize, state: LegState) {
        let leg = self.leg(at);
        let was = std::mem::replace(&mut leg.state, state);
        leg.collect = None;
        if matches!(leg.state, LegState::Refused(_)) {
            leg.hail_at = cx.now().as_ns() + HAIL_AGAIN_NS;
        }
        if was == LegState::Up {
            let why = format!("{:?}", leg.state);
            tracing::info!(pool = %self.name, member = %MemberId::at(at), why, "leg down");
            self.tell(cx, Event::Down(MemberId::at(at)));
        }
    }

    /// The leg is to go: it is not spoken to any more, and let go when its session has given all memory back.
    pub(super) fn leave(&mut self, cx: &mut Cx, at: usize) {
        self.leg_down(cx, at, LegState::NoSession("it leaves the pool".into()));
        self.drop_waiting(cx, at);
        self.leg(at).leaving = true;
    }

    /// Lets go whoever may go.
    pub(super) fn let_go(&mut self, cx: &mut Cx) {
        for at in 0..self.legs.len() {
            let Some(leg) = self.legs[at].take_if(|leg| leg.leaving && leg.lent == 0) else { continue };
            self.hub.detach(cx, leg.user);
            // What is under way without memory of ours ends unseen.
            self.sent.retain(|(member, _)| *member != leg.member);
        }
    }

    /// A request to a leg has ended.
    fn leg_done(&mut self, cx: &mut Cx, at: usize, done: Done) {
        let Done { tag, result, header, bufs, .. } = done;
        let tag = tag as u32;
        let (member, what) = self.sent.take(tag);
        self.leg(at).lent -= u32::from(matches!(what, What::Io(Some(_))));
        let answer = match result {
            Ok(answer) => answer,
            Err(_) => {
                self.unsent(cx, what, bufs);
                return self.hub.recycle(header);
            }
        };
        let decoded = match (answer.result, Envelope::decode(&header)) {
            (Ok(_), Ok((envelope, rest))) => Ok((envelope, rest)),
            (Ok(_), Err(error)) => Err(format!("its answer is not understood: {error}")),
            (Err(refused), _) => Err(format!("the session layer refuses: {refused:?}")),
        };
        match (what, decoded) {
            (What::Collect, _) if self.leg(at).collect != Some(tag) => {}
            (What::Io(Some(copy)), Ok((envelope, rest))) => {
                self.memory.give_back(cx, copy, bufs);
                self.heard(cx, at, envelope.status, rest, None);
            }
            (What::Io(Some(copy)), Err(why)) => {
                self.memory.give_back(cx, copy, bufs);
                self.leg_down(cx, at, LegState::Refused(why));
            }
            (What::Io(None), Ok((envelope, rest))) => {
                let read = (answer.bytes > 0).then_some(bufs);
                self.heard(cx, at, envelope.status, rest, read);
            }
            (What::Letter, Ok((envelope, _))) if envelope.status == Status::Done => {}
            (What::Letter, Ok((envelope, _))) => {
                self.leg_down(cx, at, LegState::Refused(envelope.status.to_string()));
            }
            (What::Collect, Ok((envelope, rest))) => {
                let data = (answer.bytes > 0).then(|| {
                    let mut bytes = vec![0; answer.bytes as usize];
                    bufs.copy_to_slice(0, &mut bytes);
                    bytes
                });
                self.collected(cx, at, envelope, data.as_deref().unwrap_or(rest));
            }
            (What::Hail, Ok((envelope, rest))) => self.hailed(cx, at, member, envelope.status, rest),
            (_, Err(why)) => self.leg_down(cx, at, LegState::Refused(why)),
        }
        self.hub.recycle(header);
    }

    /// A letter for us, or room for it wanted.
    fn collected(&mut self, cx: &mut Cx, at: usize, envelope: Envelope, bytes: &[u8]) {
        match envelope.status {
            Status::Done => {
                if envelope.length > 0 {
                    self.heard(cx, at, Status::Done, bytes, None);
                }
                if self.legs[at].as_ref().is_some_and(|leg| leg.state == LegState::Up) {
                    self.collect(cx, at, LETTER_ROOM);
                }
            }
            Status::Larger if envelope.length as usize <= wire::MESSAGE_BYTES_MAX => {
                self.collect(cx, at, envelope.length.next_multiple_of(LETTER_ROOM));
            }
            status => self.leg_down(cx, at, LegState::Refused(status.to_string())),
        }
    }

    /// A message from a leg. `read`: the bytes that came with it.
    fn heard(&mut self, cx: &mut Cx, at: usize, status: Status, bytes: &[u8], read: Option<Bufs>) {
        if status != Status::Done {
            return self.leg_down(cx, at, LegState::Refused(status.to_string()));
        }
        let buf = read.map(|bufs| self.memory.keep(bufs));
        let msg = match wire::decode(bytes, buf) {
            Ok((pool, msg)) if pool == self.id => msg,
            Ok((pool, _)) => {
                buf.map(|buf| self.memory.take(buf));
                return self.leg_down(cx, at, LegState::Refused(format!("it speaks of pool {pool:?}")));
            }
            Err(error) => {
                buf.map(|buf| self.memory.take(buf));
                return self.leg_down(
                    cx,
                    at,
                    LegState::Refused(format!("its message is not understood: {error}")),
                );
            }
        };
        if !matches!(msg, Msg::IoReply(_, Some(_)))
            && let Some(buf) = buf
        {
            self.memory.take(buf);
        }
        self.tell(cx, Event::Msg(MemberId::at(at), msg));
    }

    /// The store has answered.
    fn hailed(&mut self, cx: &mut Cx, at: usize, member: MemberId, status: Status, rest: &[u8]) {
        if status != Status::Done {
            return self.leg_down(cx, at, LegState::Refused(status.to_string()));
        }
        let fits = Superblock::decode(rest).map_err(|error| error.to_string());
        match fits.and_then(|superblock| self.accept(superblock, member)) {
            Err(why) => self.leg_down(cx, at, LegState::Refused(why)),
            Ok(()) => {
                self.leg(at).state = LegState::Up;
                tracing::info!(pool = %self.name, %member, "leg up");
                self.collect(cx, at, LETTER_ROOM);
                self.leg_is_up(cx, member);
            }
        }
    }
}
