//! The lanes of a reactor over TCP, of all sessions: one group of streams, so that an idle lane costs little.

mod intake;
mod lane;
mod users;

use super::group_options;
use crate::client::{
    self, Action, Answer, Client, Config, Link, PathChange, Permit, SessionDead, SubmitError, UserNo,
};
use crate::codec::Expect;
use crate::frame::{Frame, Reply};
use crate::hand::Key;
use crate::pace::Pace;
use crate::{ConnId, Direction, Id, PathNo, SlotUse};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tgt_env::bufs::{Bufs, Lease};
use tgt_env::clock::Ticks;
use tgt_reactor::{Cx, Work};
use tgt_sock::{Event, Group, SockError, SocketOptions, StreamId};

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
    /// Whose.
    pub user: UserNo,
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
pub struct LaneNo(pub(crate) u16);

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
    user: UserNo,
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
    /// Beats, and what goes with them: they do not wait behind data.
    urgent: VecDeque<Frame>,
    /// How much data it has under way.
    pace: Pace,
    /// Answers received, as the last beat said: a request that it overtook says no less.
    seen: u32,
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
    /// It has a key, or may do without one.
    anywhere: bool,
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
        let anywhere = config.insecure || !key.name().is_none();
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
            anywhere,
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

    /// Ends a lane at once, whoever may still execute its requests: see [`Client::abandon`].
    pub fn abandon(&mut self, cx: &mut Cx, no: LaneNo) {
        self.with(cx, no, |lane, cx, _| lane.engine.abandon(cx.now().as_ns(), &mut lane.actions));
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

    /// Submits a request of `user`. It ends with [`ClientEvent::Done`], never in this call. Refused if the lane is gone.
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
        if !self.has_lane(no) {
            return Err((request.bufs, Refusal::Refused(SubmitError::Dead)));
        }
        self.with(cx, no, |lane, cx, io| lane.submit(cx, io, user, request))
    }

    /// Whether it is there: [`ClientEvent::Gone`] may wait to be taken.
    fn has_lane(&self, no: LaneNo) -> bool {
        self.lanes.get(usize::from(no.0)).is_some_and(Option::is_some)
    }

    /// Takes a header back for the next request.
    pub fn recycle(&mut self, header: Vec<u8>) {
        self.io.recycle(header);
    }

    /// Begins a turn: takes in all that came.
    pub fn begin(&mut self, cx: &mut Cx) {
        self.io.group.begin(cx);
        while let Some(mut event) = self.io.group.next() {
            // What came is judged by a time after it came: a stamp that is thought older than it is ends the life too soon.
            cx.refresh_now();
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
