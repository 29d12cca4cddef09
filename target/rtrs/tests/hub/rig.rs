//! Two reactors: users and their lane on the first, a listener and the service on the second.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tgt_env::bufs::Bufs;
use tgt_env::clock::Ticks;
use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Handle, Poller, Reactor, Reactors, SleepPolicy, StartOptions, Work};
use tgt_rtrs::client::{Answer as Counts, Link, Policy};
use tgt_rtrs::frame::Refused;
use tgt_rtrs::hub::{
    ClientEvent, ClientLane, Hub, HubUser, Note, PathKey, PortSpec, ServerLane, Session, SessionKey,
    SessionRef, SessionSetup,
};
use tgt_rtrs::server::{GateConfig, ServerConfig};
use tgt_rtrs::tcp::{Answer, DoorNo, Incoming, PathAddress, Refusal, ServerEvent, Submission};
use tgt_rtrs::{Direction, Id, UserId};
use tgt_sock::ListenOn;

const PATIENCE: Duration = Duration::from_secs(30);
const BYTES: u32 = 4096;

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

pub(crate) struct Rig {
    reactors: Option<Reactors>,
    pub(crate) handles: Vec<Handle>,
    pub(crate) address: SocketAddr,
    notes: (Sender<Note>, Mutex<Receiver<Note>>),
    dropped: Mutex<Vec<Id>>,
}

impl Rig {
    pub(crate) fn start() -> Self {
        let options = StartOptions { cores: vec![0, 1], sleep: SleepPolicy::ADAPTIVE, pin: false };
        let reactors = Reactors::start(&options).expect("reactors start where tests run");
        let handles = reactors.handles().to_vec();
        let (tell, told) = channel();
        let notes = (tell, Mutex::new(told));
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let mut rig = Self { reactors: Some(reactors), handles, address, notes, dropped: Mutex::default() };
        rig.address = rig.listen().1;
        rig
    }

    pub(crate) fn listen(&self) -> (DoorNo, SocketAddr) {
        let listen = |reactor: &mut Reactor| {
            let gate = GateConfig::new(Id([9; 16]), Arc::new(SessionKey::None.get()));
            let on = ListenOn::new((Ipv4Addr::LOCALHOST, 0).into());
            let hub = Hub::of(reactor.cx());
            let config = ServerConfig::default();
            let spec = PortSpec { config, memory_max: 64 << 20, spread: false, notes: None };
            hub.listen(reactor.cx(), &spec, gate, &on).expect("it listens")
        };
        self.handles[1].call(listen).expect("an answer")
    }

    pub(crate) fn stop_listening(&self, door: DoorNo) {
        let stop = move |reactor: &mut Reactor| Hub::of(reactor.cx()).stop_listening(reactor.cx(), door);
        self.handles[1].call(stop).expect("an answer");
    }

    pub(crate) fn session(&self, paths: usize) -> SessionRef {
        self.session_to(&vec![self.address; paths])
    }

    pub(crate) fn session_to(&self, to: &[SocketAddr]) -> SessionRef {
        let paths = to.iter().enumerate().map(|(no, to)| (PathKey(no as u32), PathAddress::new(*to)));
        let setup = SessionSetup {
            host: Id([1; 16]),
            key: SessionKey::None,
            digest: true,
            insecure: false,
            policy: Policy::RoundRobin,
            paths: paths.collect(),
        };
        Session::new(Id(*uuid::Uuid::new_v4().as_bytes()), setup, Some(self.notes.0.clone()))
    }

    pub(crate) fn client_lanes(&self) -> Vec<ClientLane> {
        self.handles[0].call(|r| Hub::of(r.cx()).client_lanes(r.cx())).expect("an answer")
    }

    pub(crate) fn server_lanes(&self) -> Vec<ServerLane> {
        self.handles[1].call(|r| Hub::of(r.cx()).server_lanes(r.cx())).expect("an answer")
    }

    pub(crate) fn was_dropped(&self) -> bool {
        let mut dropped = self.dropped.lock().expect("dropped");
        dropped.extend(self.notes.1.lock().expect("notes").try_iter().filter_map(|note| match note {
            Note::Dropped { session } => Some(session),
            _ => None,
        }));
        !dropped.is_empty()
    }

    pub(crate) fn retire_dropped(&self) {
        for session in self.dropped.lock().expect("dropped").drain(..) {
            let retire = move |r: &mut Reactor| Hub::of(r.cx()).retire(r.cx(), session);
            self.handles[0].call(retire).expect("an answer");
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let stuck = self.reactors.take().map(Reactors::stop);
        if !std::thread::panicking() {
            assert_eq!(stuck, Some(vec![]), "all pollers have drained");
        }
    }
}

/// Answers with the tag and the user that came; holds back what a user asks, while told to.
pub(crate) struct Server {
    pub(crate) served: Arc<AtomicU64>,
    pub(crate) ups: Arc<AtomicU64>,
    pub(crate) held: Arc<AtomicU64>,
    holds: Arc<AtomicU64>,
    leave: Arc<AtomicBool>,
}

struct ServerPoller {
    hub: Rc<Hub>,
    served: Arc<AtomicU64>,
    ups: Arc<AtomicU64>,
    held: Arc<AtomicU64>,
    holds: Arc<AtomicU64>,
    leave: Arc<AtomicBool>,
    back: VecDeque<Incoming>,
}

impl Server {
    pub(crate) fn spawn(rig: &Rig) -> Self {
        let new = Arc::<AtomicU64>::default;
        let (served, ups, held, holds, leave) = (new(), new(), new(), new(), Arc::<AtomicBool>::default());
        let server = Self {
            served: served.clone(),
            ups: ups.clone(),
            held: held.clone(),
            holds: holds.clone(),
            leave: leave.clone(),
        };
        let make = move |reactor: &mut Reactor| {
            let hub = Hub::of(reactor.cx());
            hub.serve(reactor.cx()).expect("nobody else serves");
            ServerPoller { hub, served, ups, held, holds, leave, back: VecDeque::new() }
        };
        rig.handles[1].spawn(make).expect("an answer");
        server
    }

    /// Holds requests of this user back.
    pub(crate) fn hold(&self, user: u64, hold: bool) {
        self.holds.store(if hold { user } else { 0 }, SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.leave.store(true, SeqCst);
        wait_until("it leaves", || !self.leave.load(SeqCst));
    }
}

impl ServerPoller {
    fn answer(&mut self, cx: &mut Cx, incoming: Incoming) {
        self.served.fetch_add(1, SeqCst);
        let mut header = incoming.header.clone();
        header.extend_from_slice(&incoming.execute.user.0.to_le_bytes());
        let bytes = match incoming.execute.direction {
            Direction::Read => incoming.execute.bytes,
            Direction::Write => 0,
        };
        let counts = Counts { result: Ok(7), bytes, user_len: 0 };
        self.hub.answer(cx, Answer { incoming, counts, header: &header });
    }
}

impl Poller for ServerPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let held_user = self.holds.load(SeqCst);
        if held_user == 0 {
            while let Some(incoming) = self.back.pop_front() {
                self.answer(cx, incoming);
            }
        }
        while let Some(event) = self.hub.next_incoming() {
            match event {
                ServerEvent::Request(incoming) if u64::from(incoming.execute.user.0) == held_user => {
                    self.held.fetch_add(1, SeqCst);
                    self.back.push_back(incoming);
                }
                ServerEvent::Request(incoming) => self.answer(cx, incoming),
                ServerEvent::Link(tgt_rtrs::server::Link::Up { .. }) => {
                    self.ups.fetch_add(1, SeqCst);
                }
                ServerEvent::Link(_) => {}
            }
        }
        if self.leave.load(SeqCst) {
            self.hub.unserve(cx);
            self.leave.store(false, SeqCst);
            return Work::Over;
        }
        // The tests turn switches without a message: somebody has to look.
        if self.back.is_empty() { Work::Idle } else { Work::Spin }
    }

    fn name(&self) -> &str {
        "server"
    }
}

#[derive(Default, Debug)]
pub(crate) struct Log {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// By the session layer.
    pub(crate) refused: u64,
    pub(crate) why: Option<Refused>,
    /// Answers to what this user did not ask.
    pub(crate) foreign: u64,
    pub(crate) waits: u64,
    pub(crate) under_way: u64,
    pub(crate) links: Vec<Link>,
}

/// A user with a load. Control is by messages, so that the reactor may sleep.
pub(crate) struct User {
    handle: Handle,
    state: Arc<Mutex<Log>>,
    id: u32,
}

/// What a reactor has of its users.
struct Loads {
    hub: Rc<Hub>,
    users: std::cell::RefCell<Vec<(u32, Load)>>,
}

struct Load {
    user: HubUser,
    left: u64,
    depth: u64,
    next: u64,
    waits: bool,
    up: bool,
    /// Submits a while after its last request ended, woken by the clock alone.
    paced: bool,
    /// Takes no events.
    deaf: bool,
    due: Ticks,
    log: Arc<Mutex<Log>>,
}

struct UserPoller(Rc<Loads>, u32);

impl User {
    pub(crate) fn spawn(rig: &Rig, session: &SessionRef, id: u32) -> Self {
        let state = Arc::<Mutex<Log>>::default();
        let (log, session) = (state.clone(), session.clone());
        let make = move |reactor: &mut Reactor| {
            let cx = reactor.cx();
            let hub = Hub::of(cx);
            let user = hub.attach(cx, &session, UserId(id)).expect("a lane");
            let loads = cx.local::<Loads>().unwrap_or_else(|| {
                let loads = Rc::new(Loads { hub, users: Default::default() });
                cx.set_local(loads.clone());
                loads
            });
            let load = Load {
                user,
                left: 0,
                depth: 0,
                next: 0,
                waits: false,
                up: false,
                paced: false,
                deaf: false,
                due: Ticks::ZERO,
                log,
            };
            loads.users.borrow_mut().push((id, load));
            UserPoller(loads, id)
        };
        let handle = rig.handles[0].clone();
        handle.spawn(make).expect("an answer");
        Self { handle, state, id }
    }

    fn with<A: Send + 'static>(
        &self,
        body: impl FnOnce(&Hub, &mut Load, &mut Cx) -> A + Send + 'static,
    ) -> A {
        let id = self.id;
        let run = move |reactor: &mut Reactor| {
            let loads = reactor.cx().local::<Loads>().expect("users");
            let mut users = loads.users.borrow_mut();
            let load = &mut users.iter_mut().find(|(there, _)| *there == id).expect("attached").1;
            body(&loads.hub, load, reactor.cx())
        };
        self.handle.call(run).expect("an answer")
    }

    /// So many more requests, so many at a time.
    pub(crate) fn load(&self, requests: u64, depth: u64) {
        self.with(move |_, load, _| (load.left, load.depth) = (requests, depth));
    }

    /// As [`Self::load`], one at a time, each begun by the clock and by nothing else.
    pub(crate) fn load_by_clock(&self, requests: u64) {
        self.with(move |_, load, _| (load.left, load.depth, load.paced) = (requests, 1, true));
    }

    /// Takes no events, or does again.
    pub(crate) fn be_deaf(&self, deaf: bool) {
        self.with(move |_, load, _| load.deaf = deaf);
    }

    pub(crate) fn submit_now(&self) -> Option<Refusal> {
        self.with(|hub, load, cx| {
            let request = Submission { tag: 0, direction: Direction::Write, header: &[], bufs: Bufs::none() };
            hub.submit(cx, load.user, request).err().map(|(_, refusal)| refusal)
        })
    }

    pub(crate) fn detach(&self) {
        let id = self.id;
        let detach = move |reactor: &mut Reactor| {
            let loads = reactor.cx().local::<Loads>().expect("users");
            let mut users = loads.users.borrow_mut();
            let at = users.iter().position(|(there, _)| *there == id).expect("attached");
            let (_, load) = users.swap_remove(at);
            loads.hub.detach(reactor.cx(), load.user);
        };
        self.handle.call(detach).expect("an answer");
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.state.lock().expect("a log")
    }

    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Log) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.log()) {
            assert!(Instant::now() < deadline, "waited in vain: {what}: {:?}", self.log());
            std::thread::yield_now();
        }
    }
}

impl Load {
    /// `true`: there were any.
    fn take_events(&mut self, hub: &Hub, id: u32) -> bool {
        let mut any = false;
        while let Some(event) = hub.next(self.user) {
            any = true;
            let mut log = self.log.lock().expect("a log");
            match event {
                ClientEvent::Done(done) => {
                    log.under_way -= 1;
                    match done.result.map(|answer| answer.result) {
                        Ok(Ok(_)) => log.done += 1,
                        Ok(Err(why)) => (log.refused, log.why) = (log.refused + 1, Some(why)),
                        Err(_) => log.failed += 1,
                    }
                    let ours = [&done.tag.to_le_bytes()[..], &id.to_le_bytes()].concat();
                    if done.result.is_ok_and(|answer| answer.result.is_ok()) && done.header != ours {
                        log.foreign += 1;
                    }
                    hub.recycle(done.header);
                }
                ClientEvent::Room => self.waits = false,
                ClientEvent::Link(link) => {
                    match link {
                        Link::Up { .. } => (self.up, self.waits) = (true, false),
                        Link::Dead { .. } => self.up = false,
                        _ => {}
                    }
                    assert_eq!(hub.up(self.user).is_some(), !matches!(link, Link::Dead { .. }), "{link:?}");
                    log.links.push(link);
                }
            }
        }
        any
    }

    fn submit(&mut self, hub: &Hub, cx: &mut Cx) {
        while self.up
            && !self.waits
            && self.left > 0
            && self.log.lock().expect("a log").under_way < self.depth
        {
            let (tag, direction) = (self.next, [Direction::Read, Direction::Write][self.next as usize % 2]);
            let bufs = Bufs::from(DmaBuf::alloc(BYTES).expect("memory"));
            let header = tag.to_le_bytes();
            match hub.submit(cx, self.user, Submission { tag, direction, header: &header, bufs }) {
                Ok(()) => {
                    (self.left, self.next) = (self.left - 1, self.next + 1);
                    self.log.lock().expect("a log").under_way += 1;
                }
                Err((_, Refusal::Wait)) => {
                    self.waits = true;
                    self.log.lock().expect("a log").waits += 1;
                }
                Err((_, Refusal::Refused(_))) => self.up = false,
            }
        }
    }
}

impl Poller for UserPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let UserPoller(loads, id) = self;
        let mut users = loads.users.borrow_mut();
        let Some((_, load)) = users.iter_mut().find(|(there, _)| there == id) else { return Work::Over };
        if load.deaf {
            return Work::Idle;
        }
        if load.take_events(&loads.hub, *id) {
            load.due = cx.now() + Ticks::from_duration(Duration::from_millis(2));
        }
        if !load.paced || cx.now() >= load.due {
            load.submit(&loads.hub, cx);
        } else {
            cx.wake_at(load.due);
        }
        // Whatever it did.
        Work::Idle
    }

    fn name(&self) -> &str {
        "user"
    }
}
