//! A reactor to try groups on: turn by turn on its thread, or as a poller of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Handle, Poller, Reactors, SleepPolicy, StartOptions, Stop, Work};
use tgt_sock::{Cause, Event, Group, GroupOptions, Payload, SocketOptions, StreamId};

/// The bound of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn reactors(count: u32) -> Reactors {
    let cores = (0..count).collect();
    let options = StartOptions { cores, sleep: SleepPolicy::ADAPTIVE, pin: false };
    Reactors::start(&options).expect("reactors start where tests run")
}

/// Runs `body` on a reactor's thread, which makes turns of groups itself.
pub(crate) fn on_reactor<A: Send + 'static>(body: impl FnOnce(&mut Cx) -> A + Send + 'static) -> A {
    let reactors = reactors(1);
    let answer = reactors.handles()[0].call_within(PATIENCE * 3, |reactor| body(reactor.cx()));
    let answer = answer.expect("the body has not panicked");
    assert_eq!(reactors.stop(), []);
    answer
}

/// What a reactor does before it polls.
pub(crate) fn pump(cx: &mut Cx) {
    cx.refresh_now();
    if cx.uring().has_work() {
        cx.uring().pump().expect("io_uring");
    }
}

/// One turn: every event goes to `each`.
pub(crate) fn turn(group: &mut Group, cx: &mut Cx, mut each: impl FnMut(Event<'_>)) -> Work {
    pump(cx);
    group.begin(cx);
    while let Some(event) = group.next() {
        each(event);
    }
    group.end(cx)
}

/// Turns until `each` says that it has what it wanted.
pub(crate) fn turn_until(
    what: &str,
    group: &mut Group,
    cx: &mut Cx,
    mut each: impl FnMut(Event<'_>) -> bool,
) {
    let mut done = false;
    wait_until(what, || {
        let _ = turn(group, cx, |event| done |= each(event));
        done
    });
}

/// Ends a group that was turned by hand; returns the events of its end.
pub(crate) fn leave(mut group: Group, cx: &mut Cx) -> Vec<Seen> {
    let mut seen = Vec::new();
    group.abort_all();
    wait_until("all streams end", || {
        let _ = turn(&mut group, cx, |event| seen.push(Seen::of(event)));
        group.stream_count() == 0
    });
    group.close(cx);
    seen
}

/// A connection over loopback: ours, the peer's.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let ours = TcpStream::connect(listener.local_addr().expect("its address")).expect("it listens");
    let (peer, _) = listener.accept().expect("the same connection");
    for stream in [&ours, &peer] {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
        stream.set_write_timeout(Some(PATIENCE)).expect("a bound");
    }
    (ours, peer)
}

/// A group's stream, and its peer.
pub(crate) fn adopted(group: &mut Group) -> (StreamId, TcpStream) {
    let (ours, peer) = pair();
    let id = group.adopt(OwnedFd::from(ours), &SocketOptions::default()).expect("a connected socket");
    (id, peer)
}

pub(crate) fn small_group(cx: &mut Cx) -> Group {
    let options = GroupOptions { turn_bytes: 1000, frame_max: 600, ..GroupOptions::default() };
    Group::new(cx, options).expect("a group")
}

pub(crate) fn payload(bytes: &[u8], tag: u64) -> Payload {
    let mut buf = DmaBuf::alloc(bytes.len() as u32).expect("memory");
    buf.as_mut_slice().copy_from_slice(bytes);
    Payload::whole(buf.into(), tag)
}

pub(crate) fn bytes_of(payload: &Payload) -> Vec<u8> {
    let mut bytes = vec![0; payload.len as usize];
    payload.bufs.copy_to_slice(payload.offset, &mut bytes);
    bytes
}

/// An event, as a test compares it. All bytes that came are consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Accepted(StreamId),
    Connected(StreamId),
    Bytes(StreamId, Vec<u8>),
    Filled(StreamId, u64),
    Sent(StreamId, u64),
    Room(StreamId),
    Unsent(StreamId, u64),
    Unfilled(StreamId, u64),
    Closed(StreamId, Cause),
    AcceptFailed(String),
}

impl Seen {
    pub(crate) fn of(event: Event<'_>) -> Seen {
        match event {
            Event::Accepted { stream, .. } => Seen::Accepted(stream.id()),
            Event::Connected(stream) => Seen::Connected(stream.id()),
            Event::Received(mut received) => {
                let bytes = received.bytes();
                received.consume(bytes.len());
                Seen::Bytes(received.stream().id(), bytes.to_vec())
            }
            Event::Filled { stream, payload } => Seen::Filled(stream.id(), payload.tag),
            Event::Sent { stream, payload, .. } => Seen::Sent(stream, payload.tag),
            Event::Room(stream) => Seen::Room(stream.id()),
            Event::Unsent { stream, payload, .. } => Seen::Unsent(stream, payload.tag),
            Event::Unfilled { stream, payload, .. } => Seen::Unfilled(stream, payload.tag),
            Event::Closed { stream, cause, .. } => Seen::Closed(stream, cause),
            Event::AcceptFailed { error, .. } => Seen::AcceptFailed(error.to_string()),
        }
    }
}

type Command = Box<dyn FnOnce(&mut Group, &mut Cx) + Send>;
type OnEvent = Box<dyn FnMut(Event<'_>) + Send>;

/// A group with a poller of its own, on a reactor that sleeps when it may.
pub(crate) struct Rig {
    reactors: Option<Reactors>,
    handle: Handle,
    commands: Sender<Command>,
    pub(crate) polls: Arc<AtomicU64>,
}

struct Driver {
    group: Group,
    commands: Receiver<Command>,
    on: OnEvent,
    polls: Arc<AtomicU64>,
}

impl Poller for Driver {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.polls.fetch_add(1, SeqCst);
        while let Ok(command) = self.commands.try_recv() {
            command(&mut self.group, cx);
        }
        self.group.begin(cx);
        while let Some(event) = self.group.next() {
            (self.on)(event);
        }
        self.group.end(cx)
    }

    fn name(&self) -> &str {
        "driver"
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        self.group.abort_all();
        if self.group.stream_count() > 0 {
            return Stop::Draining;
        }
        self.group.close(cx);
        Stop::Done
    }
}

impl Rig {
    pub(crate) fn start(options: GroupOptions, on: impl FnMut(Event<'_>) + Send + 'static) -> Rig {
        let reactors = reactors(1);
        let handle = reactors.handles()[0].clone();
        let (commands, inbox) = channel();
        let polls = Arc::new(AtomicU64::new(0));
        let polled = polls.clone();
        let make = move |reactor: &mut tgt_reactor::Reactor| {
            let group = Group::new(reactor.cx(), options).expect("a group");
            Driver { group, commands: inbox, on: Box::new(on), polls: polled }
        };
        handle.spawn(make).expect("an answer");
        Rig { reactors: Some(reactors), handle, commands, polls }
    }

    /// As `start`; what happens is written down.
    pub(crate) fn logging(options: GroupOptions) -> (Rig, Log) {
        let log = Log::default();
        let entries = log.clone();
        let rig = Rig::start(options, move |event| entries.0.lock().expect("a log").push(Seen::of(event)));
        (rig, log)
    }

    /// Runs `body` between two turns.
    pub(crate) fn with<A: Send + 'static>(
        &self,
        body: impl FnOnce(&mut Group, &mut Cx) -> A + Send + 'static,
    ) -> A {
        let (reply, answer) = channel();
        let command = move |group: &mut Group, cx: &mut Cx| reply.send(body(group, cx)).expect("it waits");
        self.commands.send(Box::new(command)).expect("the poller is there");
        self.handle.send(|_| ()).expect("room");
        answer.recv_timeout(PATIENCE).expect("the body has not panicked")
    }

    pub(crate) fn adopt(&self) -> (StreamId, TcpStream) {
        self.with(|group, _| adopted(group))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn wait_asleep(&self) {
        wait_until("the reactor sleeps", || self.handle.stats().snapshot().asleep);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(reactors) = self.reactors.take()
            && !std::thread::panicking()
        {
            assert_eq!(reactors.stop(), []);
        }
    }
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().expect("a log").clone()
    }

    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let mut found = None;
        wait_until(what, || {
            found = self.all().into_iter().find(&wanted);
            found.is_some()
        });
        found.expect("waited for")
    }

    pub(crate) fn causes(&self, id: StreamId) -> Vec<Cause> {
        let all = self.all();
        all.into_iter()
            .filter_map(|seen| match seen {
                Seen::Closed(of, cause) if of == id => Some(cause),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn bytes(&self, id: StreamId) -> Vec<u8> {
        let all = self.all();
        all.into_iter()
            .filter_map(|seen| match seen {
                Seen::Bytes(of, bytes) if of == id => Some(bytes),
                _ => None,
            })
            .flatten()
            .collect()
    }
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn write_all(peer: &TcpStream, bytes: &[u8]) {
    (&*peer).write_all(bytes).expect("the peer may write");
}

pub(crate) fn read_exact(peer: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    (&*peer).read_exact(&mut bytes).expect("the peer is sent to");
    bytes
}
