//! Ways from a store to the other members of its pool: sessions to their nodes, a hail first, then letters.
//!
//! Nothing that is lost here is asked for again: the protocol does that.

use super::disk::memory;
use crate::hail::{Hail, Peer};
use rmr_proto::envelope::{Envelope, Kind, Status};
use rmr_proto::{MEMBERS_MAX, MemberId, PoolId};
use std::collections::VecDeque;
use tgt_bdev::{Bufs, Cx, Ticks};
use tgt_rtrs::client::Link as Life;
use tgt_rtrs::hub::{ClientEvent, Hub, HubUser, SessionRef};
use tgt_rtrs::tcp::{Done, Refusal, Submission};
use tgt_rtrs::{Direction, UserId};
use uuid::Uuid;

/// Most letters that wait for one member; then the oldest goes.
const LETTERS_MAX: usize = 64;
/// What failed is tried again after, ns.
const AGAIN: u64 = 1_000_000_000;
const HAIL: u64 = 0;
const LETTER: u64 = 1;

/// Where sessions to other nodes come from.
pub trait Peers: Send {
    /// The session to this peer's node. Called on the reactor of a store: returns at once. `None`: there is none yet, or
    /// there cannot be one; asked again a second later.
    fn session(&self, peer: &Peer) -> Option<SessionRef>;
}

/// Who sends, and in which pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub(super) pool: PoolId,
    pub(super) member: MemberId,
    pub(super) incarnation: u64,
}

/// A letter on its way to a member: envelope with or without message, and the payload or the message.
#[derive(Debug)]
struct Letter {
    header: Vec<u8>,
    bufs: Bufs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No session, or one without a life.
    Down,
    /// There is a life; nothing was said yet, or it is to be said again at this time.
    Mute(u64),
    Hailing,
    Up,
}

struct Link {
    peer: Peer,
    session: Option<SessionRef>,
    user: Option<HubUser>,
    state: State,
    /// A session is asked for not before.
    ask_at: u64,
    /// Told to wait for room.
    waits: bool,
    letters: VecDeque<Letter>,
    why: Option<String>,
}

/// How a member is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// Which.
    pub member: u8,
    /// Letters can go.
    pub up: bool,
    /// What stands in the way, or stood last.
    pub why: Option<String>,
}

/// The links of a store.
pub(super) struct Links {
    sender: Sender,
    links: [Option<Link>; MEMBERS_MAX],
    spare: Vec<Vec<u8>>,
    dropped: u64,
}

impl Links {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, links: [const { None }; MEMBERS_MAX], spare: Vec::new(), dropped: 0 }
    }

    /// Where the others are, as a client says. Links to those that are where they were stay.
    pub(super) fn set_peers(&mut self, cx: &mut Cx, hub: &Hub, peers: Vec<Peer>) {
        let mut peers = peers;
        for (member, link) in self.links.iter_mut().enumerate() {
            let at = peers.iter().position(|peer| usize::from(peer.member) == member);
            let peer = at.map(|at| peers.swap_remove(at)).filter(|_| member != self.sender.member.index());
            if link.as_ref().map(|link| &link.peer) == peer.as_ref() {
                continue;
            }
            if let Some(gone) = link.take() {
                gone.end(cx, hub);
            }
            *link = peer.map(Link::new);
        }
    }

    /// An empty header, to be written.
    pub(super) fn blank(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// A letter; to a member whose place nobody told it goes nowhere.
    pub(super) fn post(&mut self, to: MemberId, header: Vec<u8>, bufs: Bufs) {
        let Some(link) = &mut self.links[to.index()] else {
            self.dropped += 1;
            return self.recycle(header);
        };
        link.letters.push_back(Letter { header, bufs });
        if link.letters.len() > LETTERS_MAX {
            let oldest = link.letters.pop_front();
            self.dropped += 1;
            oldest.into_iter().for_each(|letter| self.recycle(letter.header));
        }
    }

    fn recycle(&mut self, mut header: Vec<u8>) {
        if self.spare.len() < LETTERS_MAX {
            header.clear();
            self.spare.push(header);
        }
    }

    /// Does what can be done now. `true`: something was.
    pub(super) fn poll(&mut self, cx: &mut Cx, hub: &Hub, peers: &dyn Peers) -> bool {
        let now = cx.now().as_ns();
        let mut any = false;
        for at in 0..MEMBERS_MAX {
            let Some(link) = &mut self.links[at] else { continue };
            if link.user.is_none() && now >= link.ask_at {
                link.open(cx, hub, peers, now);
                any = true;
            }
            any |= link.take_events(cx, hub, now);
            if let State::Mute(from) = link.state
                && now >= from
            {
                link.hail(cx, hub, self.sender, now);
                any = true;
            }
            any |= self.send(cx, hub, at);
            self.wake(cx, at);
        }
        any
    }

    fn send(&mut self, cx: &mut Cx, hub: &Hub, at: usize) -> bool {
        let mut any = false;
        while let Some(link) = &mut self.links[at]
            && link.state == State::Up
            && !link.waits
            && let Some(user) = link.user
            && let Some(Letter { header, bufs }) = link.letters.pop_front()
        {
            any = true;
            let request = Submission { tag: LETTER, direction: Direction::Write, header: &header, bufs };
            match hub.submit(cx, user, request) {
                Ok(()) => self.recycle(header),
                Err((bufs, Refusal::Wait)) => {
                    link.waits = true;
                    link.letters.push_front(Letter { header, bufs });
                }
                Err((_, Refusal::Refused(error))) => {
                    link.why = Some(error.to_string());
                    self.dropped += 1;
                    self.recycle(header);
                }
            }
        }
        any
    }

    /// Asks to be polled when something is to be tried again.
    fn wake(&self, cx: &mut Cx, at: usize) {
        let Some(link) = &self.links[at] else { return };
        let due = match link.state {
            _ if link.user.is_none() => link.ask_at,
            State::Mute(from) => from,
            _ => return,
        };
        cx.wake_at(Ticks::from_duration(std::time::Duration::from_nanos(due)));
    }

    /// Nothing is sent any more; what is under way ends unseen.
    pub(super) fn end(&mut self, cx: &mut Cx, hub: &Hub) {
        self.links.iter_mut().filter_map(Option::take).for_each(|link| link.end(cx, hub));
    }

    pub(super) fn status(&self) -> Vec<LinkStatus> {
        let status = |link: &Link| LinkStatus {
            member: link.peer.member,
            up: link.state == State::Up,
            why: link.why.clone(),
        };
        self.links.iter().flatten().map(status).collect()
    }

    /// Letters that went nowhere.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Link {
    fn new(peer: Peer) -> Self {
        Self {
            peer,
            session: None,
            user: None,
            state: State::Down,
            ask_at: 0,
            waits: false,
            letters: VecDeque::new(),
            why: None,
        }
    }

    fn open(&mut self, cx: &mut Cx, hub: &Hub, peers: &dyn Peers, now: u64) {
        self.ask_at = now + AGAIN;
        let Some(session) = peers.session(&self.peer) else {
            self.why = Some(format!("there is no session to {:?} yet", self.peer.paths));
            return;
        };
        match hub.attach(cx, &session, UserId(0)) {
            Ok(user) => (self.user, self.session) = (Some(user), Some(session)),
            Err(error) => self.why = Some(error.to_string()),
        }
    }

    fn take_events(&mut self, cx: &mut Cx, hub: &Hub, now: u64) -> bool {
        let mut any = false;
        while let Some(event) = self.user.and_then(|user| hub.next(user)) {
            any = true;
            match event {
                ClientEvent::Link(Life::Up { .. }) => (self.state, self.waits) = (State::Mute(now), false),
                ClientEvent::Link(Life::Dead { why }) => {
                    self.state = State::Down;
                    self.why = Some(why.to_string());
                }
                ClientEvent::Link(Life::Stalled { .. } | Life::Resumed) => {}
                ClientEvent::Room => self.room(cx, hub, now),
                ClientEvent::Done(done) => self.done(hub, now, done),
            }
        }
        any
    }

    /// It may submit once: a letter if it is up, else the hail that was told to wait.
    fn room(&mut self, cx: &mut Cx, hub: &Hub, now: u64) {
        self.waits = false;
        match (self.state, self.user) {
            (State::Up, _) if !self.letters.is_empty() => {}
            (State::Mute(_), _) => self.state = State::Mute(now),
            (_, user) => user.into_iter().for_each(|user| hub.forgo(cx, user)),
        }
    }

    /// A hail or letter was answered, or its life ended.
    fn done(&mut self, hub: &Hub, now: u64, done: Done) {
        let refused = match done.result.map(|answer| answer.result) {
            Ok(Ok(_)) => match Envelope::decode(&done.header) {
                Ok((Envelope { status: Status::Done, .. }, _)) => None,
                Ok((Envelope { status, .. }, _)) => Some(status.to_string()),
                Err(error) => Some(error.to_string()),
            },
            Ok(Err(refused)) => Some(refused.to_string()),
            // That is told by the end of the life, too.
            Err(_) => return hub.recycle(done.header),
        };
        hub.recycle(done.header);
        match refused {
            None if done.tag == HAIL && self.state == State::Hailing => {
                (self.state, self.why) = (State::Up, None);
            }
            None => {}
            Some(why) => {
                self.why = Some(why);
                if self.state != State::Down {
                    self.state = State::Mute(now + AGAIN);
                }
            }
        }
    }

    fn hail(&mut self, cx: &mut Cx, hub: &Hub, sender: Sender, now: u64) {
        let hail =
            Hail { pool: Uuid::from_bytes(sender.pool.0), member: self.peer.member, peers: Vec::new() };
        let text = serde_json::to_vec(&hail).expect("a hail has a form in JSON");
        let Some(user) = self.user else { return };
        self.state = State::Mute(now + AGAIN);
        let mut bufs = match memory(cx, text.len() as u32) {
            Ok(bufs) => bufs,
            Err(error) => return self.why = Some(error.to_string()),
        };
        bufs.copy_from_slice(0, &text);
        let mut header = Vec::new();
        sender.envelope(MemberId::new(self.peer.member), Kind::Hail, text.len()).encode_to(&mut header);
        header.extend_from_slice(&sender.pool.0);
        let request = Submission { tag: HAIL, direction: Direction::Write, header: &header, bufs };
        match hub.submit(cx, user, request) {
            Ok(()) => self.state = State::Hailing,
            Err((_, Refusal::Wait)) => {}
            Err((_, refused)) => self.why = Some(refused.to_string()),
        }
    }

    fn end(self, cx: &mut Cx, hub: &Hub) {
        if let Some(user) = self.user {
            hub.detach(cx, user);
        }
    }
}

impl Sender {
    /// An envelope of this store: a request to a member, or an answer to nobody in particular.
    pub(super) fn envelope(&self, to: Option<MemberId>, kind: Kind, length: usize) -> Envelope {
        let (from, sender) = (Some(self.member), self.incarnation);
        Envelope { kind, from, to, status: Status::Done, length: length as u32, sender }
    }
}
