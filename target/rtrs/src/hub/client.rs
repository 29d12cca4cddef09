//! The lanes of a reactor and their users.

use super::figures::ClientLane;
use super::paths::{PathKey, PathNotes};
use super::session::{Note, Session, SessionKey, SessionRef};
use super::{Hub, HubError, begin_turn, end_turn, soil};
use crate::client::{Config, Link, Policy, SubmitError, UserNo};
use crate::frame::Limits;
use crate::tcp::{self, ClientPort, Done, LaneNo, PathAddress, Refusal, Submission};
use crate::{Death, Fault, Id, Life, UserId};
use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::time::SystemTime;
use tgt_env::bufs::Bufs;
use tgt_reactor::{Cx, ReactorId, Work};

/// Who submits on a lane. Means nothing after [`Hub::detach`], and nothing on another reactor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HubUser {
    at: u32,
    turn: u32,
}

/// What a user is told.
#[derive(Debug)]
pub enum ClientEvent {
    /// A request ended. Give its header back with [`Hub::recycle`].
    Done(Done),
    /// He was told to wait, and may submit once; if he does not want to any more, [`Hub::forgo`].
    Room,
    /// The lane's life: `Up` comes first.
    Link(Link),
}

/// A lane that has a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneUp {
    /// Which.
    pub life: Life,
    /// The server's host, as it proved it.
    pub host: Id,
    /// What it allows.
    pub limits: Limits,
    /// No path is up, since it fell to this; requests wait.
    pub stalled: Option<Fault>,
}

/// One lane.
pub(super) struct Lane {
    session: Id,
    /// While there are users.
    held: Option<SessionRef>,
    notes: Option<Sender<Note>>,
    up: Option<LaneUp>,
    /// Its life began, or it has none, since then; and why the last one ended.
    since: SystemTime,
    died: Option<Death>,
    lives: u64,
    policy: Policy,
    paths: PathNotes,
    /// Where users stand in the hub's table, by their number in the lane.
    users: Vec<Option<u32>>,
    retiring: bool,
}

struct User {
    lane: LaneNo,
    no: UserNo,
    queue: VecDeque<ClientEvent>,
    /// Requests that did not end yet.
    under_way: u32,
    /// He has detached.
    leaving: bool,
}

/// The client's half of a hub.
#[derive(Default)]
pub(super) struct Clients {
    port: Option<ClientPort>,
    /// By the lane's number.
    lanes: Vec<Option<Lane>>,
    users: Vec<(u32, Option<User>)>,
    /// Events in the queues of all users.
    queued: usize,
    /// Something was submitted and is not sent.
    dirty: bool,
    closed: bool,
}

/// The client's side.
impl Hub {
    /// A user of `session` on this reactor, whose requests carry `id`. The first one makes the lane. What he is told
    /// begins with `Up`, as soon as there is a life.
    ///
    /// # Errors
    /// What sockets need and is not there; the reactor stops.
    pub fn attach(&self, cx: &mut Cx, session: &SessionRef, id: UserId) -> Result<HubUser, HubError> {
        self.clients.borrow_mut().attach(cx, session, id)
    }

    /// The user goes. What he has under way ends unseen, and its memory is freed; who wants it back waits for `Done` first.
    pub fn detach(&self, cx: &mut Cx, user: HubUser) {
        self.clients.borrow_mut().detach(cx, user);
    }

    /// Submits a request. It ends with `Done`, never in this call, and goes out when the hub is polled next.
    ///
    /// # Errors
    /// If it is not taken, with its memory: `Wait`: `Room` tells when; `Dead`: `Up` tells when.
    ///
    /// # Panics
    /// If the user has detached.
    #[inline]
    pub fn submit(&self, cx: &mut Cx, user: HubUser, request: Submission<'_>) -> Result<(), (Bufs, Refusal)> {
        self.clients.borrow_mut().submit(cx, user, request)
    }

    /// What a user is told next.
    ///
    /// # Panics
    /// If the user has detached.
    #[inline]
    pub fn next(&self, user: HubUser) -> Option<ClientEvent> {
        let mut clients = self.clients.borrow_mut();
        let event = clients.user(user).queue.pop_front()?;
        clients.queued -= 1;
        Some(event)
    }

    /// Gives back the right to submit that `Room` told of.
    pub fn forgo(&self, cx: &mut Cx, user: HubUser) {
        let clients = &mut *self.clients.borrow_mut();
        let (lane, no) = (clients.user(user).lane, clients.user(user).no);
        if clients.has(lane)
            && let Some(port) = &mut clients.port
        {
            port.forgo(cx, lane, no);
            soil(&mut clients.dirty, cx);
        }
    }

    /// Takes the header of a `Done` back, so that the next request allocates nothing.
    #[inline]
    pub fn recycle(&self, header: Vec<u8>) {
        if let Some(port) = &mut self.clients.borrow_mut().port {
            port.recycle(header);
        }
    }

    /// The life of a user's lane: the peer's host and its limits; `None` if there is none now.
    #[must_use]
    pub fn up(&self, user: HubUser) -> Option<LaneUp> {
        let mut clients = self.clients.borrow_mut();
        let lane = clients.user(user).lane;
        clients.lanes.get(usize::from(lane.0))?.as_ref()?.up
    }
}

/// For control threads, by way of a message.
impl Hub {
    /// Adds a path to a session's lane, if there is one.
    pub fn add_path(&self, cx: &mut Cx, session: Id, key: PathKey, address: PathAddress) {
        self.clients
            .borrow_mut()
            .with(cx, session, |lane, no, port, cx| lane.paths.add(cx, port, no, key, address));
    }

    /// Takes a path away from a session's lane, if there is one.
    pub fn remove_path(&self, cx: &mut Cx, session: Id, key: PathKey) {
        self.clients
            .borrow_mut()
            .with(cx, session, |lane, no, port, cx| lane.paths.remove(cx, port, no, key));
    }

    /// Tries all paths of a session that are not up at once.
    pub fn reconnect(&self, cx: &mut Cx, session: Id) {
        self.clients.borrow_mut().with(cx, session, |_, no, port, cx| port.reconnect(cx, no));
    }

    /// Changes how a path is chosen.
    pub fn set_policy(&self, cx: &mut Cx, session: Id, policy: Policy) {
        self.clients.borrow_mut().with(cx, session, |lane, no, port, _| {
            lane.policy = policy;
            port.lane(no).set_policy(policy);
        });
    }

    /// From here on a session's connections prove this key; those that are up stay.
    pub fn set_key(&self, cx: &mut Cx, session: Id, key: &SessionKey) {
        self.clients.borrow_mut().with(cx, session, |_, no, port, _| port.lane(no).set_key(key.get()));
    }

    /// Makes a session's lane without a user, so that its paths are up before one comes. Nothing if there is one.
    ///
    /// # Errors
    /// As [`Hub::attach`].
    pub fn open_lane(&self, cx: &mut Cx, session: &Session) -> Result<(), HubError> {
        self.clients.borrow_mut().lane_for(cx, session).map(drop)
    }

    /// Ends a session's lane.
    pub fn retire(&self, cx: &mut Cx, session: Id) {
        self.clients.borrow_mut().retire(cx, |lane| lane.session == session);
    }

    /// The lanes of this reactor and how they fare.
    pub fn client_lanes(&self, cx: &Cx) -> Vec<ClientLane> {
        let clients = &mut *self.clients.borrow_mut();
        let Some(port) = &mut clients.port else { return Vec::new() };
        let lanes = clients.lanes.iter().enumerate();
        lanes
            .filter_map(|(no, lane)| Some(lane.as_ref()?.figures(cx, port.lane(LaneNo(no as u16)))))
            .collect()
    }
}

impl Clients {
    fn attach(&mut self, cx: &mut Cx, session: &SessionRef, id: UserId) -> Result<HubUser, HubError> {
        let no = self.lane_for(cx, session)?;
        let port = self.port.as_mut().expect("a lane is of a port");
        let user = port.lane(no).attach(id);
        let at = self.users.iter().position(|(_, user)| user.is_none()).unwrap_or(self.users.len());
        if at == self.users.len() {
            self.users.push((0, None));
        }
        let lane = self.lanes[usize::from(no.0)].as_mut().expect("just found");
        lane.held = Some(session.clone());
        let place = usize::from(user.0);
        if lane.users.len() <= place {
            lane.users.resize(place + 1, None);
        }
        lane.users[place] = Some(at as u32);
        let mut queue = VecDeque::new();
        if let Some(LaneUp { life, host, limits, stalled }) = lane.up {
            queue.push_back(ClientEvent::Link(Link::Up { life, host, limits }));
            queue.extend(stalled.map(|fault| ClientEvent::Link(Link::Stalled { fault })));
        }
        self.queued += queue.len();
        let (turn, place) = &mut self.users[at];
        *place = Some(User { lane: no, no: user, queue, under_way: 0, leaving: false });
        let user = HubUser { at: at as u32, turn: *turn };
        soil(&mut self.dirty, cx);
        Ok(user)
    }

    fn detach(&mut self, cx: &mut Cx, user: HubUser) {
        let leaving = self.user(user);
        leaving.leaving = true;
        let queue = std::mem::take(&mut leaving.queue);
        self.queued -= queue.len();
        self.try_leave(cx, user.at);
        soil(&mut self.dirty, cx);
    }

    /// A user that has detached goes, once nothing of his is under way.
    fn try_leave(&mut self, cx: &mut Cx, at: u32) {
        let (turn, place) = &mut self.users[at as usize];
        let Some(user) = place.as_ref().filter(|user| user.leaving) else { return };
        let (no, lane, under_way) = (user.no, user.lane, user.under_way);
        if !self.lanes.get(usize::from(lane.0)).is_some_and(Option::is_some) {
            // The reactor stops, and his lane has gone before him.
            (*turn, *place) = (turn.wrapping_add(1), None);
            return;
        }
        let port = self.port.as_mut().expect("a lane is of a port");
        // His permits come back in any case.
        port.forgo(cx, lane, no);
        if under_way > 0 || !port.detach(cx, lane, no) {
            return;
        }
        (*turn, *place) = (turn.wrapping_add(1), None);
        let lane = self.lanes[usize::from(lane.0)].as_mut().expect("a user's lane is there");
        lane.users[usize::from(no.0)] = None;
        if lane.users.iter().all(Option::is_none) {
            lane.held = None;
        }
    }

    fn submit(&mut self, cx: &mut Cx, user: HubUser, request: Submission<'_>) -> Result<(), (Bufs, Refusal)> {
        let (turn, place) = &mut self.users[user.at as usize];
        let Some(user) = place.as_mut().filter(|there| *turn == user.turn && !there.leaving) else {
            unreachable!("{user:?} has detached")
        };
        let Some(port) = self.port.as_mut().filter(|_| !self.closed) else {
            return Err((request.bufs, Refusal::Refused(SubmitError::Dead)));
        };
        port.submit(cx, user.lane, user.no, request)?;
        user.under_way += 1;
        soil(&mut self.dirty, cx);
        Ok(())
    }

    fn user(&mut self, user: HubUser) -> &mut User {
        let there = self.users.get_mut(user.at as usize).filter(|(turn, _)| *turn == user.turn);
        let there = there.and_then(|(_, there)| there.as_mut()).filter(|there| !there.leaving);
        there.unwrap_or_else(|| unreachable!("{user:?} has detached"))
    }

    fn lane_of(&self, session: Id) -> Option<LaneNo> {
        let is_it = |lane: &Option<Lane>| lane.as_ref().is_some_and(|l| l.session == session && !l.retiring);
        self.lanes.iter().position(is_it).map(|no| LaneNo(no as u16))
    }

    fn lane_for(&mut self, cx: &mut Cx, session: &Session) -> Result<LaneNo, HubError> {
        if self.closed {
            return Err(HubError::Stopping);
        }
        if let Some(no) = self.lane_of(session.id()) {
            return Ok(no);
        }
        let setup = session.setup();
        let (own, all) = (cx.id().0 as u16, cx.peers().len() as u16);
        if self.port.is_none() {
            self.port = Some(ClientPort::new(cx)?);
        }
        let port = self.port.as_mut().expect("just made");
        let config = Config {
            digest: setup.digest,
            insecure: setup.insecure,
            policy: setup.policy,
            ..Config::new(session.id(), setup.host, own, all)
        };
        let no = port.add_lane(config, setup.key.get()).ok_or(HubError::TooManyLanes)?;
        let mut paths = PathNotes::default();
        for (key, address) in &setup.paths {
            paths.add(cx, port, no, *key, address.clone());
        }
        if self.lanes.len() <= usize::from(no.0) {
            self.lanes.resize_with(usize::from(no.0) + 1, || None);
        }
        self.lanes[usize::from(no.0)] = Some(Lane {
            session: session.id(),
            held: None,
            notes: session.notes(),
            up: None,
            since: SystemTime::now(),
            died: None,
            lives: 0,
            policy: setup.policy,
            paths,
            users: Vec::new(),
            retiring: false,
        });
        soil(&mut self.dirty, cx);
        Ok(no)
    }

    fn with(
        &mut self,
        cx: &mut Cx,
        session: Id,
        body: impl FnOnce(&mut Lane, LaneNo, &mut ClientPort, &mut Cx),
    ) {
        let Some(no) = self.lane_of(session) else { return };
        let lane = self.lanes[usize::from(no.0)].as_mut().expect("just found");
        body(lane, no, self.port.as_mut().expect("a lane is of a port"), cx);
        soil(&mut self.dirty, cx);
    }

    fn retire(&mut self, cx: &mut Cx, which: impl Fn(&Lane) -> bool) {
        for (no, lane) in self.lanes.iter_mut().enumerate() {
            let Some(lane) = lane.as_mut().filter(|lane| !lane.retiring && which(lane)) else { continue };
            lane.retiring = true;
            self.port.as_mut().expect("a lane is of a port").retire(cx, LaneNo(no as u16));
        }
        soil(&mut self.dirty, cx);
    }

    pub(super) fn retire_all(&mut self, cx: &mut Cx) {
        self.closed = true;
        self.retire(cx, |_| true);
    }

    /// Ends what could not end in order: its requests fail, so that their memory comes back.
    pub(super) fn abandon_all(&mut self, cx: &mut Cx) {
        let Some(port) = &mut self.port else { return };
        for (no, _) in self.lanes.iter().enumerate().filter(|(_, lane)| lane.is_some()) {
            port.abandon(cx, LaneNo(no as u16));
        }
        soil(&mut self.dirty, cx);
    }

    fn has(&self, lane: LaneNo) -> bool {
        self.lanes.get(usize::from(lane.0)).is_some_and(Option::is_some)
    }

    pub(super) fn has_lanes(&self) -> bool {
        self.lanes.iter().any(Option::is_some)
    }

    /// Cuts what is left. `true`: nothing is.
    pub(super) fn close(&mut self, cx: &mut Cx) -> bool {
        if let Some(port) = &mut self.port
            && port.close(cx)
        {
            self.port = None;
            self.lanes.clear();
        }
        self.port.is_none()
    }

    pub(super) fn turn(&mut self, cx: &mut Cx) -> Work {
        let Some(mut port) = self.port.take() else { return Work::Idle };
        begin_turn(&mut port, &mut self.dirty, cx);
        let mut routed = false;
        self.port = Some(port);
        while let Some((no, event)) = self.port.as_mut().and_then(ClientPort::next) {
            routed = true;
            self.route(cx, no, event);
        }
        let waiting = self.queued > 0;
        end_turn(self.port.as_mut().expect("put back above"), cx, routed, waiting)
    }

    fn route(&mut self, cx: &mut Cx, no: LaneNo, event: tcp::ClientEvent) {
        let Some(lane) = &mut self.lanes[usize::from(no.0)] else { return };
        match event {
            tcp::ClientEvent::Done(done) => {
                let at =
                    lane.users[usize::from(done.user.0)].expect("a user stays until his requests have ended");
                let user = self.users[at as usize].1.as_mut().expect("as the lane says");
                user.under_way -= 1;
                if user.leaving {
                    self.try_leave(cx, at);
                } else {
                    user.queue.push_back(ClientEvent::Done(done));
                    self.queued += 1;
                }
            }
            tcp::ClientEvent::Room(user) => {
                let Some(at) = lane.users[usize::from(user.0)] else { return };
                let user = self.users[at as usize].1.as_mut().expect("as the lane says");
                if user.leaving {
                    self.try_leave(cx, at);
                } else {
                    user.queue.push_back(ClientEvent::Room);
                    self.queued += 1;
                }
            }
            tcp::ClientEvent::Link(link) => {
                lane.on_link(cx.id(), link);
                for at in lane.users.iter().flatten() {
                    let user = self.users[*at as usize].1.as_mut().expect("as the lane says");
                    if !user.leaving {
                        user.queue.push_back(ClientEvent::Link(link));
                        self.queued += 1;
                    }
                }
            }
            tcp::ClientEvent::Path(change) => lane.on_path(cx.id(), change),
            // Users that are still attached (the reactor stops) have no lane any more.
            tcp::ClientEvent::Gone => self.lanes[usize::from(no.0)] = None,
        }
    }
}

impl Lane {
    fn on_link(&mut self, reactor: ReactorId, link: Link) {
        match link {
            Link::Up { life, host, limits } => {
                self.up = Some(LaneUp { life, host, limits, stalled: None });
                self.lives += 1;
                self.since = SystemTime::now();
            }
            Link::Stalled { fault } => self.up.iter_mut().for_each(|up| up.stalled = Some(fault)),
            Link::Resumed => self.up.iter_mut().for_each(|up| up.stalled = None),
            Link::Dead { why } => (self.up, self.died, self.since) = (None, Some(why), SystemTime::now()),
        }
        self.tell(Note::Link { session: self.session, reactor, link });
    }

    fn on_path(&mut self, reactor: ReactorId, change: crate::client::PathChange) {
        if let Some((path, fault)) = self.paths.on(change) {
            self.tell(Note::Path { session: self.session, reactor, path, fault });
        }
    }

    fn tell(&self, note: Note) {
        if let Some(notes) = &self.notes {
            // Nobody listens any more: the process stops.
            let _ = notes.send(note);
        }
    }

    fn figures(&self, cx: &Cx, engine: &crate::client::Client) -> ClientLane {
        ClientLane::of(cx, self.session, engine, &self.paths).with(
            self.up,
            self.since,
            self.died,
            self.lives,
            self.policy,
        )
    }
}
