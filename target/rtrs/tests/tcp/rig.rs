//! A client and a server on real sockets, each on a reactor of its own, and a proxy between them that can be broken.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Handle, Poller, Reactors, SleepPolicy, StartOptions, Stop, Work};
use tgt_rtrs::client::{Answer as Counts, Config, Link, UserNo};
use tgt_rtrs::server::{GateConfig, ServerConfig};
use tgt_rtrs::tcp::{
    Answer, ClientEvent, ClientPort, LaneNo, PathAddress, Refusal, ServerEvent, ServerPort, ServerPortConfig,
    Submission,
};
use tgt_rtrs::{Direction, Id, Key, UserId};
use tgt_sock::ListenOn;

/// The bound of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn reactors() -> Reactors {
    let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
    Reactors::start(&options).expect("reactors start where tests run")
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// The bytes that belong to a request (`false`) or to its answer.
pub(crate) fn pattern(tag: u64, answer: bool, bytes: u32) -> Vec<u8> {
    let mut word = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(answer);
    let mut data = Vec::with_capacity(bytes as usize + 8);
    while data.len() < bytes as usize {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        data.extend_from_slice(&word.to_le_bytes());
    }
    data.truncate(bytes as usize);
    data
}

fn bytes_of(bufs: &Bufs, bytes: u32) -> Vec<u8> {
    let mut data = vec![0; bytes as usize];
    bufs.copy_to_slice(0, &mut data);
    data
}

/// A server that answers everything at once, and looks whether what came is what was sent.
pub(crate) struct ServerRig {
    reactors: Option<Reactors>,
    handle: Handle,
    pub(crate) address: SocketAddr,
    pub(crate) executed: Arc<AtomicU64>,
    pub(crate) figures: Arc<Mutex<(usize, usize, u64)>>,
}

struct ServerPoller {
    port: ServerPort,
    executed: Arc<AtomicU64>,
    figures: Arc<Mutex<(usize, usize, u64)>>,
}

impl Poller for ServerPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.port.begin(cx);
        while let Some(event) = self.port.next() {
            let ServerEvent::Request(mut incoming) = event else { continue };
            self.executed.fetch_add(1, SeqCst);
            let tag = u64::from_le_bytes(incoming.header[..].try_into().expect("a tag"));
            let execute = incoming.execute;
            let bytes = match execute.direction {
                Direction::Write => {
                    let came = bytes_of(&incoming.bufs, execute.bytes);
                    assert!(came == pattern(tag, false, execute.bytes), "the data of {tag}");
                    0
                }
                Direction::Read => {
                    incoming.bufs.copy_from_slice(0, &pattern(tag, true, execute.bytes));
                    execute.bytes
                }
            };
            let counts = Counts { result: Ok(tag as u16), bytes, user_len: 8 };
            self.port.answer(cx, Answer { incoming, counts, header: &tag.to_le_bytes() });
        }
        *self.figures.lock().expect("figures") = self.port.figures();
        self.port.end(cx)
    }

    fn name(&self) -> &str {
        "server"
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        if self.port.close(cx) { Stop::Done } else { Stop::Draining }
    }
}

impl ServerRig {
    pub(crate) fn start(key: Key, at: SocketAddr, memory_max: u64) -> Self {
        let reactors = reactors();
        let handle = reactors.handles()[0].clone();
        let (executed, figures) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new((0, 0, 0))));
        let (counted, shown) = (executed.clone(), figures.clone());
        let (tell, told) = channel();
        handle
            .spawn(move |reactor: &mut tgt_reactor::Reactor| {
                let gate = GateConfig::new(Id([9; 16]), Arc::new(key));
                let mut server = ServerConfig::default();
                server.limits.data_max = server.limits.data_max.min(memory_max as u32);
                let config = ServerPortConfig { gate, server, listen: ListenOn::new(at), memory_max };
                let port = ServerPort::new(reactor.cx(), config).expect("it listens");
                tell.send(port.address()).expect("it waits");
                ServerPoller { port, executed: counted, figures: shown }
            })
            .expect("an answer");
        let address = told.recv_timeout(PATIENCE).expect("an address");
        Self { reactors: Some(reactors), handle, address, executed, figures }
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.handle.stats().snapshot().asleep
    }
}

impl Drop for ServerRig {
    fn drop(&mut self) {
        if let Some(reactors) = self.reactors.take()
            && !std::thread::panicking()
        {
            assert_eq!(reactors.stop(), []);
        }
    }
}

/// What happened at a client.
#[derive(Default, Debug)]
pub(crate) struct Log {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) links: Vec<Link>,
    pub(crate) faults: Vec<String>,
    /// Longest time between two completions under load.
    pub(crate) longest: Duration,
}

/// Requests that are to be made, at most `depth` at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) depth: u64,
    pub(crate) bytes_max: u32,
}

struct ClientPoller {
    port: ClientPort,
    lane: LaneNo,
    retiring: bool,
    gone: bool,
    user: UserNo,
    load: Load,
    under_way: u64,
    tag: u64,
    wait: bool,
    log: Arc<Mutex<Log>>,
    last: Option<Instant>,
    commands: Receiver<Command>,
}

type Command = Box<dyn FnOnce(&mut ClientPort, &mut Cx, &mut Load) + Send>;

impl ClientPoller {
    fn submit(&mut self, cx: &mut Cx) {
        while self.load.requests > 0 && self.under_way < self.load.depth && !self.wait {
            let tag = self.tag;
            let direction = if tag.is_multiple_of(2) { Direction::Read } else { Direction::Write };
            let bytes = (tag.wrapping_mul(7919) % (u64::from(self.load.bytes_max) + 1)) as u32;
            let bufs = match bytes {
                0 => Bufs::none(),
                bytes => {
                    let mut buf = DmaBuf::alloc(bytes).expect("memory");
                    buf.as_mut_slice().copy_from_slice(&pattern(tag, false, bytes));
                    buf.into()
                }
            };
            let header = tag.to_le_bytes();
            match self.port.submit(
                cx,
                self.lane,
                self.user,
                Submission { tag, direction, header: &header, bufs },
            ) {
                Ok(()) => {
                    (self.tag, self.load.requests, self.under_way) =
                        (tag + 1, self.load.requests - 1, self.under_way + 1)
                }
                Err((_, Refusal::Wait)) => self.wait = true,
                // Told again by `Up`.
                Err((_, Refusal::Refused(_))) => return,
            }
        }
    }

    fn take(&mut self, event: ClientEvent) {
        let mut log = self.log.lock().expect("a log");
        match event {
            ClientEvent::Done(done) => {
                self.under_way -= 1;
                match done.result {
                    Ok(answer) => {
                        log.done += 1;
                        assert_eq!(answer.result, Ok(done.tag as u16));
                        assert_eq!(done.header, done.tag.to_le_bytes());
                        let is_read = done.tag.is_multiple_of(2);
                        assert_eq!(answer.bytes, if is_read { done.bufs.len() } else { 0 });
                        let data = bytes_of(&done.bufs, done.bufs.len());
                        assert!(
                            data == pattern(done.tag, is_read, done.bufs.len()),
                            "the data of {}",
                            done.tag
                        );
                    }
                    Err(_) => log.failed += 1,
                }
                let now = Instant::now();
                if let Some(last) = self.last.replace(now) {
                    log.longest = log.longest.max(now - last);
                }
                self.port.recycle(done.header);
            }
            ClientEvent::Room(_) => self.wait = false,
            ClientEvent::Link(link) => {
                if matches!(link, Link::Dead { .. }) {
                    self.wait = false;
                }
                log.links.push(link);
            }
            ClientEvent::Path(change) => {
                if let tgt_rtrs::client::PathState::Waiting { fault: Some(fault), .. } = change.state {
                    log.faults.push(fault.to_string());
                }
            }
            ClientEvent::Gone => self.gone = true,
        }
    }
}

impl Poller for ClientPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        while let Ok(command) = self.commands.try_recv() {
            command(&mut self.port, cx, &mut self.load);
        }
        self.port.begin(cx);
        while let Some((_, event)) = self.port.next() {
            self.take(event);
        }
        self.submit(cx);
        self.port.end(cx)
    }

    fn name(&self) -> &str {
        "client"
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        // Everything ends in order: the life, its requests, the paths.
        self.load.requests = 0;
        if !self.gone {
            if !self.retiring {
                self.retiring = true;
                self.port.retire(cx, self.lane);
            }
            return Stop::Draining;
        }
        assert_eq!(self.under_way, 0, "requests outlive their lane");
        if self.port.close(cx) { Stop::Done } else { Stop::Draining }
    }
}

pub(crate) struct ClientRig {
    reactors: Option<Reactors>,
    handle: Handle,
    commands: Sender<Command>,
    pub(crate) log: Arc<Mutex<Log>>,
}

impl ClientRig {
    pub(crate) fn start(key: Key, paths: &[SocketAddr]) -> Self {
        Self::with_others(key, paths, 0)
    }

    /// So many sessions, of which the first is the one that is loaded.
    pub(crate) fn many(to: SocketAddr, count: usize) -> Self {
        Self::with_others(Key::NONE, &[to], count - 1)
    }

    fn with_others(key: Key, paths: &[SocketAddr], others: usize) -> Self {
        let reactors = reactors();
        let handle = reactors.handles()[0].clone();
        let (commands, inbox) = channel();
        let log = Arc::new(Mutex::new(Log::default()));
        let (shared, paths) = (log.clone(), paths.to_vec());
        handle
            .spawn(move |reactor: &mut tgt_reactor::Reactor| {
                let other = PathAddress::new(paths[0]);
                let session = Id(uuid_bytes());
                let config = Config::new(session, Id([1; 16]), 0, 1);
                let cx = reactor.cx();
                let mut port = ClientPort::new(cx).expect("a port");
                let lane = port.add_lane(config, key).expect("the first");
                let user = port.lane(lane).attach(UserId(5));
                for to in paths {
                    let address = PathAddress::new(to);
                    port.add_path(cx, lane, Id(uuid_bytes()), address).expect("few");
                }
                for _ in 0..others {
                    let config = Config::new(Id(uuid_bytes()), Id([1; 16]), 0, 1);
                    let lane = port.add_lane(config, Key::NONE).expect("few");
                    port.add_path(cx, lane, Id(uuid_bytes()), other.clone()).expect("one");
                }
                let load = Load { requests: 0, depth: 0, bytes_max: 0 };
                let (under_way, tag, wait, last) = (0, 0, false, None);
                ClientPoller {
                    port,
                    lane,
                    retiring: false,
                    gone: false,
                    user,
                    load,
                    under_way,
                    tag,
                    wait,
                    log: shared,
                    last,
                    commands: inbox,
                }
            })
            .expect("an answer");
        Self { reactors: Some(reactors), handle, commands, log }
    }

    pub(crate) fn with(&self, command: impl FnOnce(&mut ClientPort, &mut Cx, &mut Load) + Send + 'static) {
        self.commands.send(Box::new(command)).expect("the poller is there");
        self.handle.send(|_| ()).expect("room");
    }

    pub(crate) fn load(&self, load: Load) {
        self.with(move |_, _, current| *current = load);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.handle.stats().snapshot().asleep
    }

    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Log) -> bool) {
        wait_until(what, || wanted(&self.log.lock().expect("a log")));
    }
}

fn uuid_bytes() -> [u8; 16] {
    fastrand::u128(..).to_le_bytes()
}

impl Drop for ClientRig {
    fn drop(&mut self) {
        if let Some(reactors) = self.reactors.take()
            && !std::thread::panicking()
        {
            assert_eq!(reactors.stop(), []);
        }
    }
}

/// A proxy that passes bytes on until it is told not to.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    mute: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback()).expect("loopback");
        let address = listener.local_addr().expect("its address");
        let (sockets, mute) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (all, muted) = (sockets.clone(), mute.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    all.lock().expect("sockets").push(from.try_clone().expect("a socket"));
                    let muted = muted.clone();
                    std::thread::spawn(move || pass(from, to, &muted));
                }
            }
        });
        Self { address, sockets, mute }
    }

    /// Breaks all connections.
    pub(crate) fn kill(&self) {
        for socket in self.sockets.lock().expect("sockets").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Swallows bytes and says nothing, or passes what comes from then on.
    pub(crate) fn mute(&self, mute: bool) {
        self.mute.store(mute, SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, muted: &AtomicBool) {
    let mut bytes = [0; 65536];
    loop {
        match from.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(_) if muted.load(SeqCst) => {}
            Ok(count) => {
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
