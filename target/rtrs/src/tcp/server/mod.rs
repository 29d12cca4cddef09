//! Listeners and the lanes that come through them, over TCP.

mod doors;
mod intake;
mod late;
mod memory;

use super::{crc_of, fault_of, group_options, has_plenty, head_of, look, nonce};
use crate::client::Answer as Counts;
use crate::codec::{self, Expect};
use crate::frame::{Frame, Hand, Reply, Request};
use crate::pace::Pace;
use crate::server::{
    Action, Answered, Event as Happened, Execute, GateAction, GateConfig, GateEvent, LaneRef, Link, Server,
    ServerConfig,
};
use crate::{BufId, ConnId, Fault};
use doors::Door;
use doors::Moving;
pub use doors::{DoorFigures, DoorNo, ServedPath, Spread, Stray};
use intake::Intake;
use late::Late;
use memory::Memory;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tgt_env::bufs::Bufs;
use tgt_env::clock::Ticks;
use tgt_reactor::{Cx, Work};
use tgt_sock::{Event, Group, ListenOn, ListenerId, Payload, Progress, Refused, SockError, StreamId};

/// How long what was queued before a connection's end has to get out.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a port keeps to.
#[derive(Clone, Debug)]
pub struct ServerPortConfig {
    /// Who may come in.
    pub gate: GateConfig,
    /// What lanes are allowed.
    pub server: ServerConfig,
    /// Where it listens.
    pub listen: ListenOn,
    /// Most bytes of data memory that requests hold at a time; beyond that they wait.
    pub memory_max: u64,
}

/// A request for the port's owner, who ends it with [`ServerPort::answer`].
#[derive(Debug)]
pub struct Incoming {
    /// Which, whose, how much.
    pub execute: Execute,
    /// Its user header. Give it back with the answer.
    pub header: Vec<u8>,
    /// Its data, or where that of a read goes; empty if there is none.
    pub bufs: Bufs,
}

/// An answer.
#[derive(Debug)]
pub struct Answer<'a> {
    /// What was asked.
    pub incoming: Incoming,
    /// The user's status, or why it was not served.
    pub counts: Counts,
    /// The user header of the answer. Copied.
    pub header: &'a [u8],
}

/// What a port tells its owner.
#[derive(Debug)]
pub enum ServerEvent {
    /// Do this.
    Request(Incoming),
    /// A lane came or went.
    Link(Link),
}

/// What is kept of a slot's last use.
#[derive(Debug, Default)]
struct Kept {
    use_no: u32,
    header: Vec<u8>,
    answer: Vec<u8>,
    /// CRC32C of the answer's data, once a connection has asked for it.
    digest: Option<u32>,
    buf: Option<BufId>,
}

struct Conn {
    id: ConnId,
    stream: StreamId,
    expect: Expect,
    digest: bool,
    proved: bool,
    /// The listener it came through.
    door: DoorNo,
    lane: Option<LaneRef>,
    /// A request whose data is on its way: its buffer, or how much is to be read over.
    current: Option<Current>,
    /// How much data it has under way, and how far it had come when it was looked at last.
    pace: Pace,
    progress: Progress,
    /// Answers to beats: they do not wait behind data.
    urgent: VecDeque<Frame>,
    backlog: VecDeque<Outgoing>,
}

struct Current {
    request: Request,
    digest: Option<u32>,
    buf: Option<BufId>,
    skip: usize,
}

enum Outgoing {
    Frame(Frame),
    Reply(LaneRef, Reply),
    /// Everything before it that there is room for, then the end.
    End,
}

/// Listeners and the lanes that come through them: paths of one lane may end at different listeners.
pub struct ServerPort {
    doors: Vec<Door>,
    /// Lanes go to several reactors.
    spread: Option<Spread>,
    /// Connections on their way there.
    moving: Vec<Moving>,
    engine: Server,
    server: ServerConfig,
    group: Group,
    conns: Vec<Option<Conn>>,
    turns: Vec<u32>,
    /// By lane's place, by slot.
    kept: Vec<Vec<Kept>>,
    memory: Memory,
    spare: Vec<Vec<u8>>,
    gate_actions: Vec<GateAction>,
    actions: Vec<Action>,
    events: VecDeque<ServerEvent>,
    /// When the clock was read last.
    looked: Ticks,
    late: Late,
}

impl ServerPort {
    /// Listens, on this reactor.
    ///
    /// # Errors
    /// What the group of streams, or the listener, cannot have.
    ///
    /// # Panics
    /// If `memory_max` does not hold the largest request that is allowed: it would wait for ever.
    pub fn new(cx: &mut Cx, config: ServerPortConfig) -> Result<Self, SockError> {
        let mut port = Self::without_listener(cx, config.server, config.memory_max)?;
        port.add_listener(config.gate, &config.listen)?;
        Ok(port)
    }

    /// Listens nowhere yet: see [`Self::add_listener`].
    ///
    /// # Errors
    /// What the group of streams cannot have.
    ///
    /// # Panics
    /// If `memory_max` does not hold the largest request that is allowed: it would wait for ever.
    pub fn without_listener(cx: &mut Cx, server: ServerConfig, memory_max: u64) -> Result<Self, SockError> {
        let largest = u64::from(server.limits.data_max);
        assert!(memory_max >= largest, "memory_max of {memory_max} holds no request");
        let late = Late::new(server.limits.lease_ns);
        Ok(Self {
            doors: Vec::new(),
            spread: None,
            moving: Vec::new(),
            engine: Server::new(server.clone()),
            server,
            group: Group::new(cx, group_options())?,
            conns: Vec::new(),
            turns: Vec::new(),
            kept: Vec::new(),
            memory: Memory::new(memory_max),
            spare: Vec::new(),
            gate_actions: Vec::new(),
            actions: Vec::new(),
            events: VecDeque::new(),
            looked: cx.now(),
            late,
        })
    }

    /// Where its first listener listens.
    ///
    /// # Panics
    /// If it has none.
    pub fn address(&self) -> SocketAddr {
        self.doors.first().expect("a listener").address
    }

    /// Lanes, connections and bytes of data memory in use.
    pub fn figures(&self) -> (usize, usize, u64) {
        (self.engine.lanes(), self.engine.connections(), self.memory.used())
    }

    /// Begins a turn: takes in all that came.
    pub fn begin(&mut self, cx: &mut Cx) {
        self.group.begin(cx);
        loop {
            let Some(event) = self.group.next() else { break };
            // What came is judged by a time after it came.
            self.looked = cx.refresh_now();
            match event {
                Event::Accepted { listener, stream } => {
                    let (id, peer) = (stream.id(), stream.peer());
                    self.accepted(cx, listener, id, peer);
                }
                Event::Received(mut received) => {
                    let id = ConnId(received.stream().user());
                    let result = Intake {
                        doors: &mut self.doors,
                        engine: &mut self.engine,
                        kept: &mut self.kept,
                        memory: &mut self.memory,
                        gate_actions: &mut self.gate_actions,
                        actions: &mut self.actions,
                    }
                    .received(cx, &mut self.conns, received);
                    if let Err(fault) = result {
                        self.closed(cx, id, fault);
                    }
                }
                Event::Filled { stream, payload } => {
                    let id = ConnId(stream.user());
                    self.filled(cx, id, payload);
                }
                Event::Sent { payload, user, .. } | Event::Unsent { payload, user, .. } => {
                    cx.lender().give_back(payload.bufs);
                    self.memory.returned(cx, BufId(payload.tag as u32));
                    self.drain(cx, ConnId(user));
                }
                Event::Unfilled { payload, .. } => {
                    let id = BufId(payload.tag as u32);
                    self.memory.put(id, payload.bufs);
                    self.memory.release(cx, id);
                }
                Event::Room(stream) => {
                    let id = ConnId(stream.user());
                    self.drain(cx, id);
                }
                Event::Closed { user, cause, .. } => self.closed(cx, ConnId(user), fault_of(cause)),
                Event::AcceptFailed { error, .. } => {
                    tracing::warn!(%error, "a session's connection is not accepted")
                }
                Event::Connected(_) => unreachable!("a server does not connect"),
            }
            self.act(cx);
        }
        let now = cx.now().as_ns();
        for door in &mut self.doors {
            if door.gate.next_timeout().is_some_and(|at| now >= at) {
                door.gate.on(now, GateEvent::Tick, &mut self.gate_actions);
            }
        }
        if self.engine.next_timeout().is_some_and(|at| now >= at) {
            self.look_at_all(cx);
            self.engine.on(now, Happened::Tick, &mut self.actions);
        }
        self.act(cx);
        self.judge_late(cx);
        self.looked = cx.now();
    }

    /// What the port has to tell.
    #[expect(clippy::should_implement_trait, reason = "as a group's, it goes on after it said None")]
    pub fn next(&mut self) -> Option<ServerEvent> {
        loop {
            match self.events.pop_front()? {
                ServerEvent::Request(incoming) if !self.may_begin(&incoming) => self.late.put(incoming),
                event => return Some(event),
            }
        }
    }

    /// Ends a turn: everything queued goes out. Returns what the poller is to return.
    pub fn end(&mut self, cx: &mut Cx) -> Work {
        let work = self.group.end(cx);
        let gates = self.doors.iter().filter_map(|door| door.gate.next_timeout());
        for at in gates.chain(self.engine.next_timeout()) {
            cx.wake_at(Ticks::from_duration(Duration::from_nanos(at)));
        }
        if self.events.is_empty() { work } else { Work::Busy }
    }

    /// Ends all streams; call turns until it is `true`, then drop.
    pub fn close(&mut self, cx: &mut Cx) -> bool {
        self.group.abort_all();
        if self.group.stream_count() > 0 {
            return false;
        }
        self.group.close(cx);
        true
    }

    /// Ends a request that was handed out.
    pub fn answer(&mut self, cx: &mut Cx, answer: Answer<'_>) {
        let Answer { incoming: Incoming { execute, mut header, bufs }, counts, header: told } = answer;
        header.clear();
        self.spare.push(header);
        let (lane, at) = (execute.lane, execute.at);
        let kept = &mut self.kept[lane.at as usize][usize::from(at.slot.0)];
        kept.answer.clear();
        kept.answer.extend_from_slice(told);
        kept.digest = None;
        kept.buf = execute.buf;
        if let Some(id) = execute.buf {
            self.memory.put(id, bufs);
        }
        let (result, bytes, buf) = (counts.result, counts.bytes, execute.buf);
        let answered = Answered { lane, at, result, bytes, user_len: told.len() as u16, buf };
        self.engine.on(cx.now().as_ns(), Happened::Answer(answered), &mut self.actions);
        // Before another life may take its place.
        self.forget(lane);
        self.act(cx);
    }

    /// Lets go what was kept for the slots of a life, if nothing of it is left.
    fn forget(&mut self, lane: LaneRef) {
        if !self.engine.knows(lane) {
            self.kept[lane.at as usize] = Vec::new();
        }
    }

    fn accepted(&mut self, cx: &mut Cx, listener: ListenerId, stream: StreamId, peer: SocketAddr) {
        let Some(door) = self.door_of(listener) else {
            // Removed since the connection came.
            if let Some(mut stream) = self.group.stream(stream) {
                stream.abort();
            }
            return;
        };
        let id = self.place_conn(stream, door);
        let source = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let (loopback, nonce) = (peer.ip().to_canonical().is_loopback(), nonce());
        let accepted = GateEvent::Accepted { conn: id, source, loopback, nonce };
        self.gate_on(cx, door, accepted);
    }

    fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.0 as u32 as usize)?.as_mut().filter(|conn| conn.id == id)
    }

    /// A connection is gone, or goes now.
    fn closed(&mut self, cx: &mut Cx, id: ConnId, fault: Fault) {
        let now = cx.now().as_ns();
        let Some(conn) =
            self.conns.get_mut(id.0 as u32 as usize).and_then(|conn| conn.take_if(|conn| conn.id == id))
        else {
            return;
        };
        match conn.proved {
            true => self.engine.on(now, Happened::Lost { conn: id, fault }, &mut self.actions),
            false => self.gate_on(cx, conn.door, GateEvent::Lost { conn: id }),
        }
        if let Some(mut stream) = self.group.stream(conn.stream) {
            tracing::debug!(%fault, peer = %stream.peer(), "a session's connection is closed");
            stream.abort();
        }
    }

    fn filled(&mut self, cx: &mut Cx, id: ConnId, payload: Payload) {
        let buf = BufId(payload.tag as u32);
        let (bytes, bufs) = (payload.len, payload.bufs);
        let digest =
            self.conn_mut(id).and_then(|conn| conn.current.as_ref()).and_then(|current| current.digest);
        let fits = digest.is_none_or(|digest| digest == crc_of(&bufs, bytes));
        self.memory.put(buf, bufs);
        let now = cx.now().as_ns();
        match self.conn_mut(id).and_then(|conn| conn.current.take()) {
            Some(current) if fits => {
                let event = Happened::Request { conn: id, request: current.request, buf: Some(buf) };
                self.engine.on(now, event, &mut self.actions);
            }
            Some(_) => {
                self.memory.release(cx, buf);
                self.closed(cx, id, Fault::Digest);
            }
            None => self.memory.release(cx, buf),
        }
    }

    /// Looks at how far the connections have come: those that get on are not silent, and may have room.
    fn look_at_all(&mut self, cx: &mut Cx) {
        let now = cx.now().as_ns();
        for place in 0..self.conns.len() {
            let Some(conn) = self.conns[place].as_mut().filter(|conn| conn.proved) else { continue };
            let Some(mut stream) = self.group.stream(conn.stream) else { continue };
            let (id, before, after) = (conn.id, conn.progress, look(&mut stream));
            conn.progress = after;
            conn.pace.look(now, after.queued, after.acknowledged);
            if after.received > before.received || after.acknowledged > before.acknowledged {
                self.engine.on(now, Happened::Heard { conn: id }, &mut self.actions);
                self.drain(cx, id);
            }
        }
    }

    fn act(&mut self, cx: &mut Cx) {
        loop {
            let mut actions = std::mem::take(&mut self.gate_actions);
            actions.drain(..).for_each(|action| self.act_on_gate(cx, action));
            if self.gate_actions.is_empty() {
                self.gate_actions = actions;
            }
            let mut actions = std::mem::take(&mut self.actions);
            actions.drain(..).for_each(|action| self.act_on(cx, action));
            if self.actions.is_empty() {
                self.actions = actions;
            }
            if let Some(waiter) = self.engine.waiting()
                && let Some(buf) = self.memory.bind(waiter.bytes)
            {
                self.engine.on(cx.now().as_ns(), Happened::Bound { waiter, buf }, &mut self.actions);
            }
            if self.gate_actions.is_empty() && self.actions.is_empty() {
                return;
            }
        }
    }

    fn act_on_gate(&mut self, cx: &mut Cx, action: GateAction) {
        match action {
            GateAction::Send { conn, hand } => {
                if let (Hand::Challenge(challenge), Some(to)) = (&hand, self.conn_mut(conn)) {
                    to.digest = challenge.digest;
                }
                self.send(cx, conn, Outgoing::Frame(Frame::Hand(Box::new(hand))));
            }
            GateAction::Close { conn, fault } => {
                let ends = self.conn_mut(conn).map(|conn| (conn.door, conn.stream));
                let ends = ends.and_then(|(door, stream)| Some((door, self.group.stream(stream)?.peer())));
                if let Some((door, peer)) = ends {
                    tracing::info!(%fault, %peer, "a session's connection is not let in");
                    self.count_refused(door, fault, peer);
                }
                self.send(cx, conn, Outgoing::End);
            }
            GateAction::Admit { conn, admission } => self.admitted(cx, conn, admission),
        }
    }

    fn act_on(&mut self, cx: &mut Cx, action: Action) {
        match action {
            Action::Send { conn, frame } => self.send(cx, conn, Outgoing::Frame(frame)),
            Action::Reply { conn, lane, reply } => self.send(cx, conn, Outgoing::Reply(lane, reply)),
            Action::Close { conn, .. } => self.send(cx, conn, Outgoing::End),
            Action::Execute(execute) => {
                let kept = &mut self.kept[execute.lane.at as usize][usize::from(execute.at.slot.0)];
                let header = std::mem::replace(&mut kept.header, self.spare.pop().unwrap_or_default());
                let bufs = execute.buf.map_or(Bufs::none(), |buf| self.memory.take(buf));
                self.events.push_back(ServerEvent::Request(Incoming { execute, header, bufs }));
            }
            Action::Release { buf, .. } => {
                if let Some(buf) = buf {
                    self.memory.release(cx, buf);
                }
            }
            Action::Free(buf) => self.memory.release(cx, buf),
            Action::Link(link) => {
                if let Link::Up { lane, .. } = link {
                    let at = lane.at as usize;
                    if self.kept.len() <= at {
                        self.kept.resize_with(at + 1, Vec::new);
                    }
                    self.kept[at].resize_with(usize::from(self.server.limits.depth), Kept::default);
                }
                self.events.push_back(ServerEvent::Link(link));
                if let Link::Down { lane, .. } = link {
                    self.forget(lane);
                }
            }
        }
    }

    fn send(&mut self, cx: &mut Cx, id: ConnId, what: Outgoing) {
        if let Some(conn) = self.conn_mut(id) {
            match what {
                Outgoing::Frame(frame @ Frame::Pong { .. }) => conn.urgent.push_back(frame),
                what => conn.backlog.push_back(what),
            }
            self.drain(cx, id);
        }
    }

    /// Moves what waits to be sent on a connection into its stream's queue, as much as that takes.
    fn drain(&mut self, cx: &mut Cx, id: ConnId) {
        let place = id.0 as u32 as usize;
        let Some(conn) = self.conns.get_mut(place).and_then(Option::as_mut).filter(|conn| conn.id == id)
        else {
            return;
        };
        let Some(mut stream) = self.group.stream(conn.stream) else { return };
        while let Some(frame) = conn.urgent.front() {
            match stream.send(&codec::head_of(frame, &[], None)) {
                Ok(()) => drop(conn.urgent.pop_front()),
                Err(_) => break,
            }
        }
        while let Some(what) = conn.backlog.front() {
            let sent = match what {
                Outgoing::Frame(Frame::Hand(hand)) => stream.send(&codec::encode_hand(hand)),
                Outgoing::Frame(frame) => stream.send(&codec::head_of(frame, &[], None)),
                Outgoing::End => {
                    stream.finish(LAST_WORDS);
                    self.conns[place] = None;
                    return;
                }
                Outgoing::Reply(..) if has_plenty(&stream, &conn.pace) => Err(Refused::Full),
                Outgoing::Reply(lane, reply) => {
                    let kept = self.kept[lane.at as usize].get_mut(usize::from(reply.at.slot.0));
                    let kept = kept.filter(|kept| kept.use_no == reply.at.use_no);
                    // What the client has meanwhile said it has is not kept any more, nor is anything of a life that is over.
                    match kept.filter(|_| self.engine.is_answered(*lane, reply.at)) {
                        Some(kept) => send_reply(cx, &mut stream, conn.digest, kept, &mut self.memory, reply),
                        None => Ok(()),
                    }
                }
            };
            match sent {
                Ok(()) => drop(conn.backlog.pop_front()),
                Err(Refused::Full) => {
                    // A peer that reads nothing any more makes no room for the end, and holds memory until it comes.
                    if matches!(conn.backlog.back(), Some(Outgoing::End)) {
                        stream.finish(LAST_WORDS);
                        self.conns[place] = None;
                    }
                    return;
                }
                // Its end is told by `Closed`.
                Err(Refused::Ending) => return conn.backlog.clear(),
            }
        }
    }
}

fn send_reply(
    cx: &mut Cx,
    stream: &mut tgt_sock::Stream<'_>,
    digest: bool,
    kept: &mut Kept,
    memory: &mut Memory,
    reply: &Reply,
) -> Result<(), Refused> {
    let frame = Frame::Reply(*reply);
    let Some(buf) = kept.buf.filter(|_| reply.bytes > 0) else {
        let (head, len) = head_of(&frame, &kept.answer, None);
        return stream.send(&head[..len]);
    };
    let bufs = memory.view(cx, buf);
    let digest = digest.then(|| *kept.digest.get_or_insert_with(|| crc_of(&bufs, reply.bytes)));
    let (head, len) = head_of(&frame, &kept.answer, digest);
    let payload = Payload { bufs, offset: 0, len: reply.bytes, tag: u64::from(buf.0) };
    stream.send_with(&head[..len], payload).map_err(|(refused, payload)| {
        cx.lender().give_back(payload.bufs);
        refused
    })
}
