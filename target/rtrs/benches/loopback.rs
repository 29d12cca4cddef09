//! Requests a second of a session over loopback, one reactor and core a side: `cargo bench -p tgt-rtrs --bench loopback`.
//!
//! Lines of figures, each with allocations per request of either thread. `perf-sock` measures the same messages with bare
//! system calls.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use test_alloc_counter::{Counter, allocations};
use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Poller, Reactors, SleepPolicy, StartOptions, Stop, Work};
use tgt_rtrs::client::{Answer as Counts, Config, Link, UserNo};
use tgt_rtrs::server::{GateConfig, ServerConfig};
use tgt_rtrs::tcp::{
    Answer, ClientEvent, ClientPort, LaneNo, PathAddress, ServerEvent, ServerPort, ServerPortConfig,
    Submission,
};
use tgt_rtrs::{Direction, Id, Key, UserId};
use tgt_sock::{ListenOn, SocketOptions};

#[global_allocator]
static COUNTER: Counter = Counter;

const SECONDS: f64 = 1.0;

struct ServerPoller {
    port: ServerPort,
    served: u64,
    before: u64,
    allocated: Sender<f64>,
}

impl Poller for ServerPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.port.begin(cx);
        while let Some(event) = self.port.next() {
            let ServerEvent::Request(incoming) = event else { continue };
            self.served += 1;
            // The first fill queues and pools.
            if self.served == 2_000 {
                self.before = allocations();
            }
            let bytes =
                if incoming.execute.direction == Direction::Read { incoming.execute.bytes } else { 0 };
            let counts = Counts { result: Ok(0), bytes, user_len: 64 };
            self.port.answer(cx, Answer { incoming, counts, header: &[0; 64] });
        }
        self.port.end(cx)
    }

    fn name(&self) -> &str {
        "server"
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        if !self.port.close(cx) {
            return Stop::Draining;
        }
        let counted = self.served.saturating_sub(2_000).max(1);
        let _ = self.allocated.send((allocations() - self.before) as f64 / counted as f64);
        Stop::Done
    }
}

#[derive(Clone, Copy)]
struct Case {
    direction: Direction,
    bytes: u32,
    depth: usize,
    digest: bool,
}

struct ClientPoller {
    port: ClientPort,
    lane: LaneNo,
    user: UserNo,
    case: Case,
    ready: Vec<Bufs>,
    count: u64,
    /// Time, requests, allocations and processor time when measuring began; 0.3 s after the first request.
    began: Option<(u64, u64, u64, u64)>,
    first: Option<u64>,
    result: Option<Sender<(f64, f64, f64)>>,
}

impl Poller for ClientPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.port.begin(cx);
        while let Some((_, event)) = self.port.next() {
            match event {
                ClientEvent::Done(done) => {
                    self.count += 1;
                    self.ready.push(done.bufs);
                    self.port.recycle(done.header);
                }
                ClientEvent::Link(Link::Up { .. }) => self.first = Some(cx.now().as_ns()),
                _ => {}
            }
        }
        let now = cx.now().as_ns();
        match (self.first, self.began) {
            (Some(first), None) if now > first + 300_000_000 => {
                self.began = Some((now, self.count, allocations(), processor_ns()))
            }
            (_, Some((began, count, allocated, used))) if now as f64 > began as f64 + SECONDS * 1e9 => {
                if let Some(result) = self.result.take() {
                    let requests = (self.count - count) as f64;
                    let rate = requests * 1e9 / (now - began) as f64;
                    let each = (processor_ns() - used) as f64 / requests;
                    let figures = (rate, (allocations() - allocated) as f64 / requests, each);
                    let _ = result.send(figures);
                }
            }
            _ => {}
        }
        while self.first.is_some()
            && let Some(bufs) = self.ready.pop()
        {
            let Case { direction, .. } = self.case;
            let request = Submission { tag: 0, direction, header: &[0; 64], bufs };
            if let Err((bufs, _)) = self.port.submit(cx, self.lane, self.user, request) {
                self.ready.push(bufs);
                break;
            }
        }
        self.port.end(cx)
    }

    fn name(&self) -> &str {
        "client"
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        self.first = None;
        if self.port.close(cx) { Stop::Done } else { Stop::Draining }
    }
}

fn reactors(core: u32) -> Reactors {
    let options = StartOptions { cores: vec![core], sleep: SleepPolicy::ADAPTIVE, pin: true };
    Reactors::start(&options).expect("reactors start")
}

fn run(case: Case) {
    let (servers, clients) = (reactors(0), reactors(1));
    let (tell, told) = channel();
    let (allocated, server_allocations) = channel();
    servers.handles()[0]
        .spawn(move |reactor: &mut tgt_reactor::Reactor| {
            let gate = GateConfig { digest: false, ..GateConfig::new(Id([9; 16]), Arc::new(Key::NONE)) };
            let at: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
            let mut listen = ListenOn::new(at);
            listen.socket = socket();
            let config =
                ServerPortConfig { gate, server: ServerConfig::default(), listen, memory_max: 1 << 30 };
            let port = ServerPort::new(reactor.cx(), config).expect("it listens");
            tell.send(port.address()).expect("it waits");
            ServerPoller { port, served: 0, before: 0, allocated }
        })
        .expect("an answer");
    let to = told.recv().expect("an address");
    let (result, figures) = channel();
    clients.handles()[0]
        .spawn(move |reactor: &mut tgt_reactor::Reactor| {
            let cx = reactor.cx();
            let mut port = ClientPort::new(cx).expect("a port");
            let config = Config { digest: case.digest, ..Config::new(Id([1; 16]), Id([2; 16]), 0, 1) };
            let lane = port.add_lane(config, Key::NONE).expect("the first");
            let user = port.lane(lane).attach(UserId(0));
            port.add_path(cx, lane, Id([3; 16]), PathAddress { to, from: None, socket: socket() });
            let ready =
                (0..case.depth).map(|_| DmaBuf::alloc_zeroed(case.bytes).expect("memory").into()).collect();
            ClientPoller {
                port,
                lane,
                user,
                case,
                ready,
                count: 0,
                began: None,
                first: None,
                result: Some(result),
            }
        })
        .expect("an answer");
    let (rate, client_allocations, client_ns) =
        figures.recv_timeout(Duration::from_secs(20)).expect("figures");
    clients.stop();
    servers.stop();
    let server_allocations = server_allocations.recv().expect("figures");
    println!(
        "{:5} {:7} bytes, {:3} deep, digest {:3}: {:8.0} requests/s, {:6.2} GiB/s, {:7.2} µs each; a request takes the \
         client {:.0} ns of its processor, allocations: client {:.4}, server {:.4}",
        if case.direction == Direction::Read { "read" } else { "write" },
        case.bytes,
        case.depth,
        if case.digest { "on" } else { "off" },
        rate,
        rate * f64::from(case.bytes) / f64::from(1 << 30),
        case.depth as f64 * 1e6 / rate,
        client_ns,
        client_allocations,
        server_allocations,
    );
}

/// Processor time of this thread: what a busy machine does not change much.
fn processor_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn socket() -> SocketOptions {
    SocketOptions { congestion: Some("reno".to_owned()), ..SocketOptions::default() }
}

fn main() {
    for (bytes, depth) in [(4096, 1), (4096, 32), (4096, 128), (131_072, 32)] {
        for direction in [Direction::Read, Direction::Write] {
            for digest in [false, true] {
                run(Case { direction, bytes, depth, digest });
            }
        }
    }
}
