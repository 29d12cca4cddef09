//! One leg: the session to its node, and what is said first. What it is sent is in `sending`, what it says in `hearing`.

use super::Pool;
use super::sending::{LETTER_ROOM, Waiting, What};
use crate::hail::Hail;
use rmr_engine::client::ClientEvent as Event;
use rmr_proto::MemberId;
use rmr_proto::disk::Superblock;
use rmr_proto::envelope::{Kind, Status};
use rmr_proto::wire::MESSAGE_BYTES_MAX;
use std::collections::VecDeque;
use tgt_env::memory::DmaBuf;
use tgt_reactor::Cx;
use tgt_rtrs::Direction;
use tgt_rtrs::client::Link;
use tgt_rtrs::hub::{ClientEvent, HubUser, SessionRef};

/// A refused hail is repeated after this, ns.
const HAIL_AGAIN_NS: u64 = 1_000_000_000;

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

/// One leg.
pub(super) struct Leg {
    pub(super) member: MemberId,
    pub(super) session: SessionRef,
    pub(super) user: HubUser,
    pub(super) state: LegState,
    pub(super) hail: Hail,
    /// Refused: asked again then.
    hail_at: u64,
    /// Counts how often it went down: answers to what was sent before that say nothing any more.
    pub(super) life: u32,
    pub(super) waiting: VecDeque<Waiting>,
    /// The collect that counts; an older one ends and says nothing.
    pub(super) collect: Option<u32>,
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
            life: 0,
            waiting: VecDeque::new(),
            collect: None,
            lent: 0,
            leaving: false,
        }
    }
}

impl Pool {
    pub(super) fn leg(&mut self, at: usize) -> &mut Leg {
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
        let Ok(mut buf) = DmaBuf::alloc(data.len() as u32) else { return self.no_memory(cx, at, data.len()) };
        buf.as_mut_slice().copy_from_slice(&data);
        let mut header = self.spare_header();
        self.envelope(at, Kind::Hail, data.len() as u32).encode_to(&mut header);
        header.extend_from_slice(&self.id.0);
        let leg = self.leg(at);
        (leg.state, leg.hail_at) = (LegState::Hailing, u64::MAX);
        self.submit(cx, at, What::Hail, Direction::Write, header, buf.into());
    }

    /// Memory that a leg cannot do without is not to be had: it is asked for again later.
    pub(super) fn no_memory(&mut self, cx: &mut Cx, at: usize, bytes: usize) {
        self.leg_down(cx, at, LegState::Refused(format!("no memory here for {bytes} bytes; tried again")));
    }

    /// The leg cannot be spoken to: what waits for room is dropped, as if lost on the way.
    pub(super) fn leg_down(&mut self, cx: &mut Cx, at: usize, state: LegState) {
        self.drop_waiting(cx, at);
        let leg = self.leg(at);
        let was = std::mem::replace(&mut leg.state, state);
        leg.collect = None;
        leg.life = leg.life.wrapping_add(1);
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

    /// The store has answered.
    pub(super) fn hailed(&mut self, cx: &mut Cx, at: usize, member: MemberId, status: Status, rest: &[u8]) {
        if status != Status::Done {
            return self.leg_down(cx, at, LegState::Refused(status.to_string()));
        }
        let fits = Superblock::decode(rest).map_err(|error| error.to_string());
        let fits = fits.and_then(|superblock| self.accept(superblock, member));
        match fits.and_then(|()| self.carries_enough(at)) {
            Err(why) => self.leg_down(cx, at, LegState::Refused(why)),
            Ok(()) => {
                self.leg(at).state = LegState::Up;
                tracing::info!(pool = %self.name, %member, "leg up");
                self.collect(cx, at, LETTER_ROOM);
                self.leg_is_up(cx, member);
            }
        }
    }

    /// Does its session take the longest message, and the longest request that the device takes?
    fn carries_enough(&self, at: usize) -> Result<(), String> {
        let Some(leg) = &self.legs[at] else { return Ok(()) };
        let Some(up) = self.hub.up(leg.user) else { return Ok(()) };
        let need = self.request_bytes_max().max(MESSAGE_BYTES_MAX as u64);
        let takes = u64::from(up.limits.data_max);
        if takes < need {
            return Err(format!(
                "its node takes {takes} bytes in a request, and the pool needs {need}: set max_io_size of \
                 rtrs_create_transport there to at least that"
            ));
        }
        Ok(())
    }
}
