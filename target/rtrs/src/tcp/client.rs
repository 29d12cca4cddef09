//! The lanes of a reactor over TCP, of all sessions: one group of streams, so that an idle lane costs little.

use super::{crc_of, fault_of, group_options, head_of, nonce};
use crate::client::{
    self, Action, Answer, Ask, Client, Config, Link, PathChange, Permit, SessionDead, SubmitError, UserNo,
};
use crate::codec::{self, Expect, HEAD, Opened, Side};
use crate::frame::{Frame, Hand, Reply};
use crate::hand::Key;
use crate::{ConnId, Direction, Fault, Id, PathNo, SlotUse};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tgt_env::bufs::{Bufs, Lease};
use tgt_env::clock::Ticks;
use tgt_reactor::{Cx, Work};
use tgt_sock::{
    ConnectTo, Event, Group, Payload, Received, Refused, SockError, SocketOptions, Stream, StreamId,
};

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathAddress {
    /// The server's listener.
    pub to: SocketAddr,
    /// Own address; `None` = whichever the system takes.
    pub from: Option<SocketAddr>,
    /// Options of the socket.
    pub socket: SocketOptions,
}

impl PathAddress {
    /// From whichever own address. What the peer's host does not acknowledge for 1.3 s, twice the detection time, ends the
    /// connection even if the beats did not.
    pub fn new(to: SocketAddr) -> Self {
        let user_timeout = Some(Duration::from_millis(1300));
        Self { to, from: None, socket: SocketOptions { user_timeout, ..SocketOptions::default() } }
    }
}

/// A request.
#[derive(Debug)]
pub struct Submission<'a> {
    /// The caller's name for it.
    pub tag: u64,
    /// Which way its data goes.
    pub direction: Direction,
    /// Copied.
    pub header: &'a [u8],
    /// Write: its data, all of it; read: where data goes, as much as may come.
    pub bufs: Bufs,
}

/// Why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No permit: [`ClientEvent::Room`] tells when there is one.
    #[error("no permit is free: wait for room")]
    Wait,
    /// See there.
    #[error("{0}")]
    Refused(#[from] SubmitError),
}

/// A request that ended.
#[derive(Debug)]
pub struct Done {
    /// The caller's name for it.
    pub tag: u64,
    /// How.
    pub result: Result<Answer, SessionDead>,
    /// The answer's user header. Give it back with [`ClientPort::recycle`] and nothing is allocated for the next.
    pub header: Vec<u8>,
    /// The memory that was submitted.
    pub bufs: Bufs,
}

/// A lane of a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneNo(u16);

/// What a lane tells its owner.
#[derive(Debug)]
pub enum ClientEvent {
    /// A request ended.
    Done(Done),
    /// A user that was told to wait may submit once.
    Room(UserNo),
    /// The lane's life.
    Link(Link),
    /// A path's state.
    Path(PathChange),
    /// The lane was retired and is gone.
    Gone,
}

/// Where the memory of a request is.
#[derive(Debug)]
enum Memory {
    /// With us.
    Here(Bufs),
    /// Lent to streams that send it.
    Lent(Lease),
    /// With the stream that fills it.
    Filling,
}

/// What is kept of a request until it ends.
#[derive(Debug)]
struct Kept {
    at: SlotUse,
    tag: u64,
    header: Vec<u8>,
    answer: Vec<u8>,
    memory: Memory,
    /// CRC32C of its data, once a connection has asked for it.
    digest: Option<u32>,
}

struct Conn {
    id: ConnId,
    stream: StreamId,
    expect: Expect,
    digest: bool,
    /// An answer whose data is on its way, and what its digest must be.
    current: Option<(Reply, Option<u32>)>,
    backlog: VecDeque<Frame>,
}

/// One lane.
struct Lane {
    no: LaneNo,
    engine: Client,
    addresses: Vec<Option<PathAddress>>,
    conns: Vec<Option<Conn>>,
    kept: Vec<Option<Kept>>,
    /// Requests that ended while a stream still had their memory.
    leaving: Vec<(Kept, Result<Answer, SessionDead>)>,
    handed: Vec<(UserNo, Permit)>,
    actions: Vec<Action>,
    connect_within: Duration,
    /// When its engine wants to be told of the time.
    due: u64,
    /// Streams that did not have their end yet.
    streams: u32,
    /// A connection whose stream takes more again.
    room: Option<ConnId>,
}

/// What lanes share: the streams, and what the owner is to be told.
struct Io {
    group: Group,
    events: VecDeque<(LaneNo, ClientEvent)>,
    spare: Vec<Vec<u8>>,
}

/// The lanes of one reactor, of all sessions.
pub struct ClientPort {
    io: Io,
    lanes: Vec<Option<Lane>>,
    /// No lane is due before.
    due: u64,
}

impl ClientPort {
    /// No lanes yet, on this reactor.
    ///
    /// # Errors
    /// What the group of streams cannot have.
    pub fn new(cx: &mut Cx) -> Result<Self, SockError> {
        let group = Group::new(cx, group_options())?;
        let io = Io { group, events: VecDeque::new(), spare: Vec::new() };
        Ok(Self { io, lanes: Vec::new(), due: u64::MAX })
    }

    /// A lane without paths. `None` if there are as many as there may be.
    pub fn add_lane(&mut self, config: Config, key: Key) -> Option<LaneNo> {
        let at = self.lanes.iter().position(Option::is_none).unwrap_or(self.lanes.len());
        let no = LaneNo(u16::try_from(at).ok()?);
        if at == self.lanes.len() {
            self.lanes.push(None);
        }
        let connect_within = Duration::from_nanos(config.hand_ns);
        self.lanes[at] = Some(Lane {
            no,
            engine: Client::new(config, key),
            addresses: Vec::new(),
            conns: Vec::new(),
            kept: Vec::new(),
            leaving: Vec::new(),
            handed: Vec::new(),
            actions: Vec::new(),
            connect_within,
            due: u64::MAX,
            streams: 0,
            room: None,
        });
        Some(no)
    }

    /// Ends a lane: its life, then its paths. [`ClientEvent::Gone`] tells when nothing is left of it.
    pub fn retire(&mut self, cx: &mut Cx, no: LaneNo) {
        self.with(cx, no, |lane, cx, _| lane.engine.retire(cx.now().as_ns(), &mut lane.actions));
    }

    /// A lane's engine: to attach users, to look at paths and limits.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn lane(&mut self, no: LaneNo) -> &mut Client {
        &mut self.lanes[usize::from(no.0)].as_mut().expect("a lane that is there").engine
    }

    /// Adds a path. Its UUID must be new each time.
    pub fn add_path(&mut self, cx: &mut Cx, no: LaneNo, id: Id, address: PathAddress) -> Option<PathNo> {
        self.with(cx, no, |lane, cx, _| {
            let path = lane.engine.add_path(cx.now().as_ns(), id)?;
            let at = usize::from(path.0);
            if lane.addresses.len() <= at {
                lane.addresses.resize_with(at + 1, || None);
                lane.conns.resize_with(at + 1, || None);
            }
            lane.addresses[at] = Some(address);
            Some(path)
        })
    }

    /// Takes a path away; what was under way on it goes to the others.
    pub fn remove_path(&mut self, cx: &mut Cx, no: LaneNo, path: PathNo) {
        self.with(cx, no, |lane, cx, _| lane.engine.remove_path(cx.now().as_ns(), path, &mut lane.actions));
    }

    /// Tries all paths that are not up at once.
    pub fn reconnect(&mut self, cx: &mut Cx, no: LaneNo) {
        self.with(cx, no, |lane, cx, _| lane.engine.reconnect(cx.now().as_ns()));
    }

    /// Ends the life: see [`Client::end_life`].
    pub fn end_life(&mut self, cx: &mut Cx, no: LaneNo) {
        self.with(cx, no, |lane, cx, _| lane.engine.end_life(cx.now().as_ns(), &mut lane.actions));
    }

    /// Submits a request of `user`. It ends with [`ClientEvent::Done`], never in this call.
    ///
    /// # Errors
    /// If it is not taken, with its memory.
    pub fn submit(
        &mut self,
        cx: &mut Cx,
        no: LaneNo,
        user: UserNo,
        request: Submission<'_>,
    ) -> Result<(), (Bufs, Refusal)> {
        self.with(cx, no, |lane, cx, io| lane.submit(cx, io, user, request))
    }

    /// Takes a header back for the next request.
    pub fn recycle(&mut self, header: Vec<u8>) {
        self.io.recycle(header);
    }

    /// Begins a turn: takes in all that came.
    pub fn begin(&mut self, cx: &mut Cx) {
        self.io.group.begin(cx);
        while let Some(mut event) = self.io.group.next() {
            let user = match &mut event {
                Event::Connected(stream) | Event::Room(stream) | Event::Filled { stream, .. } => {
                    stream.user()
                }
                Event::Received(received) => received.stream().user(),
                Event::Sent { user, .. }
                | Event::Unsent { user, .. }
                | Event::Unfilled { user, .. }
                | Event::Closed { user, .. } => *user,
                Event::Accepted { .. } | Event::AcceptFailed { .. } => {
                    unreachable!("a client does not listen")
                }
            };
            let lane =
                self.lanes[(user >> LANE_SHIFT) as usize].as_mut().expect("a lane outlives its streams");
            let conn = ConnId(user & ((1 << LANE_SHIFT) - 1));
            lane.on(cx, conn, event, &mut self.io.events, &mut self.io.spare);
            self.settle(cx, (user >> LANE_SHIFT) as usize);
        }
        let now = cx.now().as_ns();
        if now >= self.due {
            self.due = u64::MAX;
            for at in 0..self.lanes.len() {
                let Some(lane) = &mut self.lanes[at] else { continue };
                if now >= lane.due {
                    lane.engine.on(now, client::Event::Tick, &mut lane.actions);
                    self.settle(cx, at);
                } else {
                    self.due = self.due.min(lane.due);
                }
            }
        }
    }

    /// What the lanes have to tell.
    #[expect(clippy::should_implement_trait, reason = "as a group's, it goes on after it said None")]
    pub fn next(&mut self) -> Option<(LaneNo, ClientEvent)> {
        self.io.events.pop_front()
    }

    /// Ends a turn: everything queued goes out. Returns what the poller is to return.
    pub fn end(&mut self, cx: &mut Cx) -> Work {
        let work = self.io.group.end(cx);
        if self.due != u64::MAX {
            cx.wake_at(Ticks::from_duration(Duration::from_nanos(self.due)));
        }
        if self.io.events.is_empty() { work } else { Work::Busy }
    }

    /// Ends all streams; call turns until it is `true`, then drop.
    pub fn close(&mut self, cx: &mut Cx) -> bool {
        self.io.group.abort_all();
        if self.io.group.stream_count() > 0 {
            return false;
        }
        self.io.group.close(cx);
        true
    }

    fn with<A>(&mut self, cx: &mut Cx, no: LaneNo, body: impl FnOnce(&mut Lane, &mut Cx, &mut Io) -> A) -> A {
        let at = usize::from(no.0);
        let lane = self.lanes[at].as_mut().expect("a lane that is there");
        let answer = body(lane, cx, &mut self.io);
        self.settle(cx, at);
        answer
    }

    /// Does what a lane's engine wants done; afterwards it is known when it wants to be told of the time.
    fn settle(&mut self, cx: &mut Cx, at: usize) {
        let Some(lane) = &mut self.lanes[at] else { return };
        lane.act(cx, &mut self.io);
        lane.due = lane.engine.next_timeout().unwrap_or(u64::MAX);
        self.due = self.due.min(lane.due);
        if lane.engine.is_over() && lane.streams == 0 && lane.leaving.is_empty() {
            let no = lane.no;
            self.lanes[at] = None;
            self.io.events.push_back((no, ClientEvent::Gone));
        }
    }
}

/// A stream's number: its connection's below, its lane's above.
const LANE_SHIFT: u32 = 48;

impl Io {
    fn recycle(&mut self, mut header: Vec<u8>) {
        header.clear();
        self.spare.push(header);
    }
}

impl Lane {
    fn submit(
        &mut self,
        cx: &mut Cx,
        io: &mut Io,
        user: UserNo,
        request: Submission<'_>,
    ) -> Result<(), (Bufs, Refusal)> {
        let handed =
            self.handed.iter().position(|(no, _)| *no == user).map(|at| self.handed.swap_remove(at).1);
        let permit = match handed.map_or_else(|| self.engine.permit(user), |permit| Ok(Some(permit))) {
            Ok(Some(permit)) => permit,
            Ok(None) => return Err((request.bufs, Refusal::Wait)),
            Err(error) => return Err((request.bufs, error.into())),
        };
        let Submission { tag, direction, header, bufs } = request;
        let user_len = u16::try_from(header.len()).unwrap_or(u16::MAX);
        let ask = Ask { tag, direction, bytes: bufs.len(), user_len };
        let at = match self.engine.submit(cx.now().as_ns(), permit, ask, &mut self.actions) {
            Ok(at) => at,
            Err((permit, error)) => {
                self.engine.give_back(permit, &mut self.actions);
                return Err((bufs, error.into()));
            }
        };
        let memory = match direction {
            Direction::Write if !bufs.is_empty() => {
                Memory::Lent(cx.lender().lend(bufs).expect("fewer leases than permits and buffers"))
            }
            _ => Memory::Here(bufs),
        };
        let mut kept_header = io.spare.pop().unwrap_or_default();
        kept_header.extend_from_slice(header);
        let answer = io.spare.pop().unwrap_or_default();
        let place = usize::from(at.slot.0);
        if self.kept.len() <= place {
            self.kept.resize_with(place + 1, || None);
        }
        self.kept[place] = Some(Kept { at, tag, header: kept_header, answer, memory, digest: None });
        Ok(())
    }

    fn on(
        &mut self,
        cx: &mut Cx,
        conn: ConnId,
        event: Event<'_>,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        match event {
            Event::Connected(_) => {
                let nonce = nonce();
                self.engine.on(cx.now().as_ns(), client::Event::Connected { conn, nonce }, &mut self.actions);
            }
            Event::Received(received) => self.received(cx, conn, received),
            Event::Filled { payload, .. } => {
                if let Some(payload) = self.filled(cx, conn, payload) {
                    self.unfilled(payload, events, spare);
                }
            }
            Event::Sent { payload, .. } | Event::Unsent { payload, .. } => {
                cx.lender().give_back(payload.bufs);
                self.leave(cx, payload.tag, events, spare);
            }
            Event::Unfilled { payload, .. } => self.unfilled(payload, events, spare),
            Event::Room(_) => self.room = Some(conn),
            Event::Closed { cause, .. } => {
                self.streams -= 1;
                self.closed(cx, conn, cause);
            }
            Event::Accepted { .. } | Event::AcceptFailed { .. } => unreachable!("a client does not listen"),
        }
    }

    fn closed(&mut self, cx: &mut Cx, id: ConnId, cause: tgt_sock::Cause) {
        let place = id.0 as usize & 0xffff;
        if self.conns.get(place).and_then(Option::as_ref).is_some_and(|conn| conn.id == id) {
            self.conns[place] = None;
            let fault = fault_of(cause);
            self.engine.on(cx.now().as_ns(), client::Event::Lost { conn: id, fault }, &mut self.actions);
        }
    }

    /// A stream ended before it had filled a request's memory.
    fn unfilled(
        &mut self,
        payload: Payload,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        let (bufs, tag) = (payload.bufs, payload.tag);
        if let Some(kept) = self.kept.iter_mut().flatten().find(|kept| kept_tag(kept.at) == tag) {
            kept.memory = Memory::Here(bufs);
            return;
        }
        let at =
            self.leaving.iter().position(|(kept, _)| kept_tag(kept.at) == tag).expect("memory has an owner");
        let (mut kept, result) = self.leaving.swap_remove(at);
        kept.memory = Memory::Here(bufs);
        self.done(kept, result, events, spare);
    }

    /// A stream has given memory back that it had been lent.
    fn leave(
        &mut self,
        cx: &mut Cx,
        tag: u64,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        let Some(at) = self.leaving.iter().position(|(kept, _)| kept_tag(kept.at) == tag) else { return };
        let (kept, result) = self.leaving.swap_remove(at);
        self.complete(cx, kept, result, events, spare);
    }

    fn complete(
        &mut self,
        cx: &mut Cx,
        mut kept: Kept,
        result: Result<Answer, SessionDead>,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        kept.memory = match kept.memory {
            Memory::Lent(lease) if cx.lender().away(&lease) == 0 => Memory::Here(cx.lender().end(lease)),
            memory => memory,
        };
        if matches!(kept.memory, Memory::Here(_)) {
            self.done(kept, result, events, spare);
        } else {
            self.leaving.push((kept, result));
        }
    }

    fn done(
        &mut self,
        kept: Kept,
        result: Result<Answer, SessionDead>,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        let Memory::Here(bufs) = kept.memory else { unreachable!("its memory is back") };
        let mut header = kept.header;
        header.clear();
        spare.push(header);
        let done = Done { tag: kept.tag, result, header: kept.answer, bufs };
        events.push_back((self.no, ClientEvent::Done(done)));
    }

    fn act(&mut self, cx: &mut Cx, io: &mut Io) {
        if let Some(conn) = self.room.take() {
            self.drain(cx, io, conn);
        }
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            actions.drain(..).for_each(|action| self.act_on(cx, io, action));
            if self.actions.is_empty() {
                self.actions = actions;
            }
        }
    }

    fn act_on(&mut self, cx: &mut Cx, io: &mut Io, action: Action) {
        match action {
            Action::Connect { conn, path } => self.connect(cx, io, conn, path),
            Action::Send { conn, frame } => {
                let Some(to) = self.conns.get_mut(conn.0 as usize & 0xffff).and_then(Option::as_mut) else {
                    return;
                };
                if to.id == conn {
                    to.backlog.push_back(frame);
                    self.drain(cx, io, conn);
                }
            }
            Action::Close { conn, .. } => {
                let place = &mut self.conns[conn.0 as usize & 0xffff];
                if let Some(closed) = place.take_if(|there| there.id == conn)
                    && let Some(mut stream) = io.group.stream(closed.stream)
                {
                    stream.abort();
                }
            }
            Action::Complete { at, result, .. } => {
                let kept = self.kept[usize::from(at.slot.0)].take().expect("a request is kept until it ends");
                self.complete(cx, kept, result, &mut io.events, &mut io.spare);
            }
            Action::Permit { user, permit } => {
                self.handed.push((user, permit));
                io.events.push_back((self.no, ClientEvent::Room(user)));
            }
            Action::Link(link) => {
                if matches!(link, Link::Dead { .. }) {
                    self.handed.clear();
                }
                io.events.push_back((self.no, ClientEvent::Link(link)));
            }
            Action::Path(change) => io.events.push_back((self.no, ClientEvent::Path(change))),
        }
    }

    fn connect(&mut self, cx: &mut Cx, io: &mut Io, id: ConnId, path: PathNo) {
        let place = usize::from(path.0);
        let address = self.addresses[place].clone().expect("a path has an address");
        let (source, timeout) = (address.from, self.connect_within);
        let to = ConnectTo { address: address.to, source, timeout, socket: address.socket };
        match io.group.connect(&to) {
            Ok(stream) => {
                self.streams += 1;
                if let Some(mut stream) = io.group.stream(stream) {
                    stream.set_user(u64::from(self.no.0) << LANE_SHIFT | id.0);
                }
                let (expect, backlog) = (Expect::hand(Side::Server), VecDeque::new());
                self.conns[place] = Some(Conn { id, stream, expect, digest: false, current: None, backlog });
            }
            Err(error) => {
                tracing::warn!(%error, to = %address.to, "a path of a session cannot be connected");
                let fault = Fault::System { errno: super::errno_of(&error) };
                self.engine.on(cx.now().as_ns(), client::Event::Lost { conn: id, fault }, &mut self.actions);
            }
        }
    }

    /// Moves what waits to be sent on a connection into its stream's queue, as much as that takes.
    fn drain(&mut self, cx: &mut Cx, io: &mut Io, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0 as usize & 0xffff).and_then(Option::as_mut) else { return };
        let Some(mut stream) = io.group.stream(conn.stream).filter(|_| conn.id == id) else { return };
        while let Some(frame) = conn.backlog.front() {
            let sent = match frame {
                Frame::Hand(hand) => stream.send(&codec::encode_hand(hand)),
                Frame::Request(request) => {
                    let kept = self.kept.get_mut(usize::from(request.at.slot.0)).and_then(Option::as_mut);
                    // What has ended meanwhile is not sent: it was answered on another connection.
                    match kept.filter(|kept| kept.at == request.at) {
                        Some(kept) => send_request(cx, &mut stream, conn.digest, frame, kept),
                        None => Ok(()),
                    }
                }
                frame => stream.send(&codec::head_of(frame, &[], None)),
            };
            match sent {
                Ok(()) => drop(conn.backlog.pop_front()),
                Err(Refused::Full) => return,
                // Its end is told by `Closed`.
                Err(Refused::Ending) => return conn.backlog.clear(),
            }
        }
    }
}

fn send_request(
    cx: &mut Cx,
    stream: &mut Stream<'_>,
    digest: bool,
    frame: &Frame,
    kept: &mut Kept,
) -> Result<(), Refused> {
    let Memory::Lent(lease) = &kept.memory else {
        let (head, len) = head_of(frame, &kept.header, None);
        return stream.send(&head[..len]);
    };
    let bufs = cx.lender().view(lease);
    let digest = digest.then(|| *kept.digest.get_or_insert_with(|| crc_of(&bufs, bufs.len())));
    let (head, len) = head_of(frame, &kept.header, digest);
    stream.send_with(&head[..len], Payload::whole(bufs, kept_tag(kept.at))).map_err(|(refused, payload)| {
        cx.lender().give_back(payload.bufs);
        refused
    })
}

fn kept_tag(at: SlotUse) -> u64 {
    u64::from(at.slot.0) << 32 | u64::from(at.use_no)
}

/// Frames on their way in.
impl Lane {
    fn received(&mut self, cx: &mut Cx, id: ConnId, mut received: Received<'_>) {
        let place = id.0 as usize & 0xffff;
        let Some(mut conn) = self.conns.get_mut(place).and_then(|conn| conn.take_if(|conn| conn.id == id))
        else {
            // Closed here; its end is on its way.
            let len = received.bytes().len();
            return received.consume(len);
        };
        self.engine.on(cx.now().as_ns(), client::Event::Heard { conn: id }, &mut self.actions);
        let result = self.take_frames(cx, &mut conn, &mut received);
        self.conns[place] = Some(conn);
        if let Err(fault) = result {
            // Closed by the action that the engine answers with.
            self.engine.distrust(cx.now().as_ns(), id, fault, &mut self.actions);
        }
    }

    fn take_frames(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        received: &mut Received<'_>,
    ) -> Result<(), Fault> {
        while let Opened::Frame { frame, head, data, digest } = codec::open(received.bytes(), &conn.expect)? {
            let Frame::Reply(reply) = frame else {
                received.consume(head);
                enter(conn, &frame);
                self.engine.on(
                    cx.now().as_ns(),
                    client::Event::Frame { conn: conn.id, frame },
                    &mut self.actions,
                );
                continue;
            };
            let expected =
                self.engine.expected(conn.id, reply.at).filter(|expected| reply.bytes <= expected.bytes);
            let kept = self.kept.get_mut(usize::from(reply.at.slot.0)).and_then(Option::as_mut);
            let (Some(_), Some(kept)) = (expected, kept) else {
                return Err(Fault::Protocol("an answer to what was not asked"));
            };
            kept.answer.clear();
            kept.answer.extend_from_slice(&received.bytes()[HEAD..head]);
            received.consume(head);
            if data > 0 {
                let Memory::Here(bufs) = std::mem::replace(&mut kept.memory, Memory::Filling) else {
                    return Err(Fault::Protocol("two answers to one request at a time"));
                };
                conn.current = Some((reply, digest));
                let payload = Payload { bufs, offset: 0, len: data as u32, tag: kept_tag(reply.at) };
                let Some(payload) = received.payload(payload) else { return Ok(()) };
                self.answered(cx, conn, payload)?;
            } else {
                self.engine.on(
                    cx.now().as_ns(),
                    client::Event::Frame { conn: conn.id, frame },
                    &mut self.actions,
                );
            }
        }
        Ok(())
    }

    /// All data of an answer is there.
    fn answered(&mut self, cx: &mut Cx, conn: &mut Conn, payload: Payload) -> Result<(), Fault> {
        let (reply, digest) = conn.current.take().expect("an answer was awaited");
        let kept = self.kept[usize::from(reply.at.slot.0)].as_mut().expect("kept while its memory is filled");
        let fits = digest.is_none_or(|digest| digest == crc_of(&payload.bufs, payload.len));
        kept.memory = Memory::Here(payload.bufs);
        if !fits {
            return Err(Fault::Digest);
        }
        let frame = Frame::Reply(reply);
        self.engine.on(cx.now().as_ns(), client::Event::Frame { conn: conn.id, frame }, &mut self.actions);
        Ok(())
    }

    /// `Some` = the connection is not ours any more: the memory goes back to its request.
    fn filled(&mut self, cx: &mut Cx, id: ConnId, payload: Payload) -> Option<Payload> {
        let place = id.0 as usize & 0xffff;
        let Some(mut conn) = self.conns.get_mut(place).and_then(|conn| conn.take_if(|conn| conn.id == id))
        else {
            return Some(payload);
        };
        self.engine.on(cx.now().as_ns(), client::Event::Heard { conn: id }, &mut self.actions);
        let result = self.answered(cx, &mut conn, payload);
        self.conns[place] = Some(conn);
        if let Err(fault) = result {
            // Closed by the action that the engine answers with.
            self.engine.distrust(cx.now().as_ns(), id, fault, &mut self.actions);
        }
        None
    }
}

/// After the challenge both sides know whether data has digests; after the welcome, the limits.
fn enter(conn: &mut Conn, frame: &Frame) {
    let Frame::Hand(hand) = frame else { return };
    match &**hand {
        Hand::Challenge(challenge) => conn.digest = challenge.digest,
        Hand::Welcome(welcome) => {
            let (from, digest) = (Side::Server, conn.digest);
            let (user_max, data_max) = (welcome.limits.user_max, welcome.limits.data_max);
            conn.expect = Expect { from, hand: false, digest, user_max, data_max };
        }
        _ => {}
    }
}
