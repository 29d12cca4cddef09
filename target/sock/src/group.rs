//! The turn of a group: what the kernel tells, what came, what goes out.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Work};

use crate::conn::{Conn, Phase};
use crate::event::Told;
use crate::listener::Listener;
use crate::shared::Shared;
use crate::socket::{self, Begun};
use crate::table::{ListenerId, StreamId, Subject, Table};
use crate::watch::{Watch, refusal};
use crate::{Cause, ConnectTo, Event, GroupOptions, ListenOn, Received, SockError, SocketOptions, Stream};

/// Streams and listeners of one user on one reactor.
pub struct Group {
    pub(crate) conns: Table<Conn>,
    pub(crate) listeners: Table<Listener>,
    pub(crate) shared: Shared,
    pub(crate) staging: DmaBuf,
    pub(crate) staged: Option<Staged>,
    /// Listeners that may have connections waiting.
    pub(crate) accepting: Vec<ListenerId>,
    /// Those for the next turn.
    pub(crate) accept_later: Vec<ListenerId>,
    /// Streams that are being sent on; empty between turns.
    pub(crate) flushing: Vec<StreamId>,
    /// Listeners that wait for a stream to go.
    pub(crate) starved: Vec<ListenerId>,
    /// Where the round over the hot streams is.
    pub(crate) cursor: usize,
    /// Something was done since the last `end`.
    pub(crate) busy: bool,
    /// It waits in the io_uring of one reactor, and must not go to another.
    pub(crate) thread_bound: PhantomData<*const ()>,
}

/// What came on one stream: these bytes of the staging buffer.
pub(crate) struct Staged {
    pub(crate) id: StreamId,
    /// First byte that is not consumed, end.
    pub(crate) at: usize,
    pub(crate) end: usize,
    /// The user has seen it.
    pub(crate) given: bool,
}

/// A stream on its way from one group to another. Dropped, it is closed.
#[derive(Debug)]
pub struct Detached {
    socket: OwnedFd,
    /// What its user did not consume.
    kept: Vec<u8>,
    user: u64,
}

impl From<OwnedFd> for Detached {
    fn from(socket: OwnedFd) -> Detached {
        Detached { socket, kept: Vec::new(), user: 0 }
    }
}

/// What a group did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    /// Attempts to read: system calls.
    pub reads: u64,
    /// Bytes that came.
    pub read_bytes: u64,
    /// Attempts to send: system calls.
    pub sends: u64,
    /// Bytes that the kernel took.
    pub sent_bytes: u64,
    /// Times a stream was parked.
    pub parked: u64,
    /// Reports of the kernel on what was parked or blocked.
    pub reports: u64,
}

impl Group {
    /// An empty group on this reactor.
    ///
    /// # Errors
    /// [`SockError::Bound`], [`SockError::Memory`], [`SockError::Watch`], [`SockError::Uring`].
    pub fn new(cx: &mut Cx, options: GroupOptions) -> Result<Group, SockError> {
        options.check()?;
        let staging = DmaBuf::alloc(options.staging())?;
        let watch = Watch::new(cx)?;
        Ok(Group {
            conns: Table::new(),
            listeners: Table::new(),
            shared: Shared::new(options, watch, cx.now()),
            staging,
            staged: None,
            accepting: Vec::new(),
            accept_later: Vec::new(),
            flushing: Vec::new(),
            starved: Vec::new(),
            cursor: 0,
            busy: false,
            thread_bound: PhantomData,
        })
    }

    /// Listens. Streams come by [`Event::Accepted`].
    ///
    /// # Errors
    /// What the kernel refused, with the remedy.
    pub fn listen(&mut self, on: &ListenOn) -> Result<ListenerId, SockError> {
        self.must_be_open()?;
        let (fd, local) = socket::listen(on)?;
        let id = ListenerId(self.listeners.add(Listener { fd, local }));
        let listener = self.listeners.get(id.0).expect("just added");
        if let Err(error) = self.shared.watch.add(&listener.fd, Subject::Listener(id), EventFlags::IN) {
            self.listeners.remove(id.0);
            return Err(refusal(error));
        }
        Ok(id)
    }

    /// Where a listener listens, with the port it got. `None` once it was closed.
    #[must_use]
    pub fn listener_address(&self, id: ListenerId) -> Option<SocketAddr> {
        self.listeners.get(id.0).map(|listener| listener.local)
    }

    /// Ends a listener at once; connections that wait are reset. False if there is none of that name.
    pub fn close_listener(&mut self, id: ListenerId) -> bool {
        self.listeners.remove(id.0).is_some()
    }

    /// Begins to connect. [`Event::Connected`] or [`Event::Closed`] tells what came of it, never before the next turn
    /// of events. What is sent before waits.
    ///
    /// # Errors
    /// What is wrong on this side, with the remedy; no event follows then.
    pub fn connect(&mut self, to: &ConnectTo) -> Result<StreamId, SockError> {
        self.must_have_room()?;
        let within = to.timeout;
        let (fd, begun) = match socket::connect(to)? {
            Begun::Connected(fd) => (fd, None),
            Begun::Trying(fd) => (fd, Some(EventFlags::OUT)),
            Begun::Failed(fd, cause) => {
                let conn = Conn::new(fd, to.address, Phase::Connecting { within });
                let id = StreamId(self.conns.add(conn));
                self.end_stream(id, cause);
                return Ok(id);
            }
        };
        let conn = Conn::new(fd, to.address, Phase::Connecting { within });
        let id = self.add(conn, begun.unwrap_or(EventFlags::empty()))?;
        self.shared.set_deadline(id, within);
        if begun.is_none() {
            self.connected(id);
        }
        Ok(id)
    }

    /// Takes over a TCP socket that is connected: one that another group let go ([`Group::detach`]), or any. What the
    /// other group had kept is handed out first; it is not held any more.
    ///
    /// # Errors
    /// [`SockError::NotConnected`], [`SockError::Bound`] if more was kept than this group's `frame_max`, or what the
    /// kernel refused. The connection is closed then.
    pub fn adopt(
        &mut self,
        socket: impl Into<Detached>,
        options: &SocketOptions,
    ) -> Result<StreamId, SockError> {
        self.must_have_room()?;
        let Detached { socket, kept, user } = socket.into();
        let (value, most) = (kept.len() as u32, self.shared.options.frame_max);
        if value > most {
            return Err(SockError::Bound { name: "what was kept of the stream", value, least: 0, most });
        }
        let peer = socket::peer(&socket)?;
        socket::set_options(&socket, peer, options)?;
        let mut conn = Conn::new(socket, peer, Phase::Open);
        (conn.user, conn.input.again, conn.input.kept) = (user, !kept.is_empty(), kept);
        self.add(conn, EventFlags::empty())
    }

    /// Lets a stream go, to be adopted by a group of another reactor; it has no more events here. `None` if it is not
    /// open, sends, awaits a payload or has events to be taken: try again in a later turn.
    pub fn detach(&mut self, id: StreamId) -> Option<Detached> {
        self.settle();
        let conn = self.conns.get(id.0)?;
        let at_rest = conn.phase() == Phase::Open
            && conn.output.is_none()
            && conn.broken.is_none()
            && conn.input.awaited.is_none()
            && self.staged.as_ref().is_none_or(|staged| staged.id != id)
            && !self.shared.told.iter().any(|told| told.is_about(id));
        if !at_rest || self.shared.watch.forget(conn.fd.as_ref()?).is_err() {
            return None;
        }
        let conn = self.conns.remove(id.0)?;
        self.accepting.append(&mut self.starved);
        Some(Detached { socket: conn.fd?, kept: conn.input.kept, user: conn.user })
    }

    /// A stream, to be sent on, held or ended. `None` after its [`Event::Closed`].
    #[inline]
    pub fn stream(&mut self, id: StreamId) -> Option<Stream<'_>> {
        let conn = self.conns.get_mut(id.0)?;
        Some(Stream { id, conn, shared: &mut self.shared })
    }

    /// Streams that did not have their [`Event::Closed`] yet.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.conns.len()
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        self.shared.stats
    }

    /// Aborts all streams and closes all listeners. The events of the streams still come.
    pub fn abort_all(&mut self) {
        let listeners: Vec<_> = self.listeners.names().collect();
        listeners.into_iter().for_each(|name| drop(self.listeners.remove(name)));
        let streams: Vec<_> = self.conns.names().collect();
        streams.into_iter().for_each(|name| self.end_stream(StreamId(name), Cause::Aborted));
    }

    /// Leaves the reactor: before the group is dropped, after the last event was taken. Nothing can be opened after it.
    pub fn close(&mut self, cx: &mut Cx) {
        self.abort_all();
        self.shared.watch.close(cx);
    }

    /// Begins a turn: takes in what the kernel has to tell. Without news it costs a few loads.
    pub fn begin(&mut self, cx: &mut Cx) {
        self.settle();
        self.shared.now = cx.now();
        self.shared.watch.take(cx);
        for index in 0..self.shared.watch.news_count() {
            let news = self.shared.watch.news(index);
            self.take_news(news);
        }
        self.look_at_deadlines();
        self.accepting.append(&mut self.accept_later);
        self.cursor = 0;
    }

    /// The next event of this turn. What it borrows ends before the next call. A turn's events are bounded: each stream
    /// is read once.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "its items borrow from the group, an iterator's cannot"
    )]
    pub fn next(&mut self) -> Option<Event<'_>> {
        self.settle();
        loop {
            if let Some(told) = self.shared.told.pop_front() {
                self.busy = true;
                return Some(self.tell(told));
            }
            if self.has_staged() {
                return self.hand_out();
            }
            if !self.advance() {
                return None;
            }
        }
    }

    /// Ends a turn: everything that was queued goes out. Returns what the poller is to return: [`Work::Idle`] if and
    /// only if whatever comes next wakes the reactor.
    pub fn end(&mut self, cx: &mut Cx) -> Work {
        self.settle();
        self.flush();
        let next = self.shared.deadlines.iter().map(|(when, _)| *when).min();
        if let Some(deadline) = next {
            cx.wake_at(deadline);
        }
        let waiting = !self.shared.told.is_empty()
            || self.staged.is_some()
            || !self.accepting.is_empty()
            || !self.accept_later.is_empty()
            || self.cursor < self.shared.hot.len();
        if std::mem::take(&mut self.busy) || waiting {
            Work::Busy
        } else if self.shared.dirty.is_empty() && self.shared.watch.wakes() && self.all_armed() {
            Work::Idle
        } else {
            Work::Spin
        }
    }

    /// Takes back what the user left of the last [`Received`].
    #[inline]
    pub(crate) fn settle(&mut self) {
        if !self.staged.as_ref().is_some_and(|staged| staged.given) {
            return;
        }
        let Some(Staged { id, at, end, .. }) = self.staged.take() else { return };
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        if conn.phase() != Phase::Ended {
            self.shared.keep(id, conn, &self.staging.as_slice()[at..end]);
        }
    }

    /// Whether there is something to hand out. What came on a stream that its user has ended meanwhile is forgotten.
    #[inline]
    fn has_staged(&mut self) -> bool {
        let Some(staged) = self.staged.as_ref() else { return false };
        let goes_on = self.conns.get(staged.id.0).is_some_and(|conn| conn.phase() != Phase::Ended);
        if !goes_on {
            self.staged = None;
        }
        goes_on
    }

    fn hand_out(&mut self) -> Option<Event<'_>> {
        self.busy = true;
        let staged = self.staged.as_mut()?;
        staged.given = true;
        let (id, at, end) = (staged.id, &mut staged.at, staged.end);
        let conn = self.conns.get_mut(id.0).expect("a stream that has bytes is there");
        let stream = Stream { id, conn, shared: &mut self.shared };
        Some(Event::Received(Received { stream, staged: &self.staging.as_slice()[..end], at }))
    }

    fn tell(&mut self, told: Told) -> Event<'_> {
        let user = |conns: &Table<Conn>, id: StreamId| conns.get(id.0).map_or(0, |conn| conn.user);
        match told {
            Told::Accepted(listener, id) => Event::Accepted { listener, stream: self.known(id) },
            Told::Connected(id) => Event::Connected(self.known(id)),
            Told::Filled(id, payload) => Event::Filled { stream: self.known(id), payload },
            Told::Room(id) => Event::Room(self.known(id)),
            Told::Sent(id, payload) => Event::Sent { stream: id, user: user(&self.conns, id), payload },
            Told::Unsent(id, payload) => Event::Unsent { stream: id, user: user(&self.conns, id), payload },
            Told::Unfilled(id, payload) => {
                Event::Unfilled { stream: id, user: user(&self.conns, id), payload }
            }
            Told::AcceptFailed(listener, error) => Event::AcceptFailed { listener, error },
            Told::Closed(stream, cause) => {
                let conn = self.conns.remove(stream.0).expect("a stream closes once");
                self.accepting.append(&mut self.starved);
                Event::Closed { stream, user: conn.user, peer: conn.peer, cause }
            }
        }
    }

    /// A stream of which an event tells: it is there until `Closed`, its last.
    fn known(&mut self, id: StreamId) -> Stream<'_> {
        self.stream(id).expect("a stream's last event is its end")
    }

    pub(crate) fn add(&mut self, conn: Conn, flags: EventFlags) -> Result<StreamId, SockError> {
        let id = StreamId(self.conns.add(conn));
        let conn = self.conns.get_mut(id.0).expect("just added");
        let fd = conn.fd.as_ref().expect("a new stream has a socket");
        if let Err(error) = self.shared.watch.add(fd, Subject::Stream(id), flags) {
            self.conns.remove(id.0);
            return Err(refusal(error));
        }
        conn.armed = Some(flags);
        if conn.phase() == Phase::Open {
            self.shared.heat(id, conn);
        }
        Ok(id)
    }

    pub(crate) fn end_stream(&mut self, id: StreamId, cause: Cause) {
        if let Some(conn) = self.conns.get_mut(id.0) {
            self.shared.end(id, conn, cause);
        }
    }
}
