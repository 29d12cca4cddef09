//! What a request costs besides time: no allocation at either side, once queues have grown to their load.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use test_alloc_counter::{Counter, allocations};
use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Reactor, Reactors, SleepPolicy, StartOptions};
use tgt_rtrs::client::{Answer as Counts, Config, Link, UserNo};
use tgt_rtrs::server::{GateConfig, ServerConfig};
use tgt_rtrs::tcp::{
    Answer, ClientEvent, ClientPort, LaneNo, PathAddress, ServerEvent, ServerPort, ServerPortConfig,
    Submission,
};
use tgt_rtrs::{Direction, Id, Key, UserId};
use tgt_sock::ListenOn;

#[global_allocator]
static COUNTER: Counter = Counter;

const HEADER: [u8; 64] = [7; 64];
const WINDOW: u64 = 1000;
/// Windows in a row that must allocate nothing.
const QUIET: u32 = 5;
const WINDOWS_MAX: u32 = 100;
const PLENTY: u64 = 64 << 20;

#[derive(Clone, Copy, Debug)]
struct Case {
    direction: Direction,
    bytes: u32,
    digest: bool,
    /// Data memory of the server: for all requests, or for a third of them.
    memory_max: u64,
}

/// Both sides on one reactor, turn about, so that what is counted does not depend on chance between threads.
struct Both {
    case: Case,
    client: ClientPort,
    lane: LaneNo,
    user: UserNo,
    server: ServerPort,
    /// Memory of requests that are not under way.
    ready: Vec<Bufs>,
    up: bool,
    done: u64,
    /// Allocations of the client's side and the server's.
    allocated: (u64, u64),
}

impl Both {
    fn new(cx: &mut Cx, case: Case) -> Self {
        let Case { digest, bytes, memory_max, .. } = case;
        let gate = GateConfig { digest, ..GateConfig::new(Id([9; 16]), Arc::new(Key::NONE)) };
        let at: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let server = ServerConfig::default();
        let config = ServerPortConfig { gate, server, listen: ListenOn::new(at), memory_max };
        let server = ServerPort::new(cx, config).expect("it listens");
        let mut client = ClientPort::new(cx).expect("a port");
        let config = Config { digest, ..Config::new(Id([1; 16]), Id([2; 16]), 0, 1) };
        let lane = client.add_lane(config, Key::NONE).expect("the first");
        let user = client.lane(lane).attach(UserId(0));
        for path in [3, 4] {
            client.add_path(cx, lane, Id([path; 16]), PathAddress::new(server.address())).expect("few");
        }
        let buf = || if bytes == 0 { Bufs::none() } else { DmaBuf::alloc(bytes).expect("memory").into() };
        let ready = (0..32).map(|_| buf()).collect();
        Self { case, client, lane, user, server, ready, up: false, done: 0, allocated: (0, 0) }
    }

    fn turn(&mut self, cx: &mut Cx) {
        cx.refresh_now();
        if cx.uring().has_work() {
            cx.uring().pump().expect("io_uring");
        }
        let began = allocations();
        self.client_turn(cx);
        let between = allocations();
        self.server_turn(cx);
        self.allocated.0 += between - began;
        self.allocated.1 += allocations() - between;
    }

    fn client_turn(&mut self, cx: &mut Cx) {
        self.client.begin(cx);
        while let Some((_, event)) = self.client.next() {
            match event {
                ClientEvent::Done(done) => {
                    let answer = done.result.expect("the session lives");
                    assert_eq!((answer.result, &done.header[..]), (Ok(5), &HEADER[..]));
                    self.done += 1;
                    self.ready.push(done.bufs);
                    self.client.recycle(done.header);
                }
                ClientEvent::Link(link) => self.up = matches!(link, Link::Up { .. }),
                _ => {}
            }
        }
        while self.up
            && let Some(bufs) = self.ready.pop()
        {
            let request = Submission { tag: 0, direction: self.case.direction, header: &HEADER, bufs };
            let taken = self.client.submit(cx, self.lane, self.user, request);
            taken.map_err(|(_, why)| why).expect("fewer than there are permits");
        }
        let _ = self.client.end(cx);
    }

    fn server_turn(&mut self, cx: &mut Cx) {
        self.server.begin(cx);
        while let Some(event) = self.server.next() {
            let ServerEvent::Request(incoming) = event else { continue };
            let is_read = incoming.execute.direction == Direction::Read;
            let bytes = if is_read { incoming.execute.bytes } else { 0 };
            let counts = Counts { result: Ok(5), bytes, user_len: HEADER.len() as u16 };
            self.server.answer(cx, Answer { incoming, counts, header: &HEADER });
        }
        let _ = self.server.end(cx);
    }

    fn serve(&mut self, cx: &mut Cx, requests: u64) {
        let (until, deadline) = (self.done + requests, Instant::now() + Duration::from_secs(30));
        while self.done < until {
            self.turn(cx);
            assert!(Instant::now() < deadline, "{} requests are done", self.done);
        }
    }

    fn close(mut self, cx: &mut Cx) {
        within_patience(cx, |cx| {
            self.client.begin(cx);
            self.client.close(cx)
        });
        within_patience(cx, |cx| {
            self.server.begin(cx);
            self.server.close(cx)
        });
    }
}

fn within_patience(cx: &mut Cx, mut ended: impl FnMut(&mut Cx) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ended(cx) {
        cx.refresh_now();
        cx.uring().pump().expect("io_uring");
        assert!(Instant::now() < deadline, "streams end");
    }
}

/// Serves windows of requests until so many in a row allocated nothing; what the last window allocated at either side.
fn allocated(reactor: &mut Reactor, case: Case) -> (u64, u64) {
    let cx = reactor.cx();
    let mut both = Both::new(cx, case);
    both.serve(cx, WINDOW);
    assert!(both.allocated.0 > 0 && both.allocated.1 > 0, "nothing is counted at all");
    let mut quiet = 0;
    // A piece of a frame, or of what waits to be sent, may be longer than any before it: buffers grow for a while.
    for _ in 0..WINDOWS_MAX {
        both.allocated = (0, 0);
        both.serve(cx, WINDOW);
        quiet = if both.allocated == (0, 0) { quiet + 1 } else { 0 };
        if quiet == QUIET {
            break;
        }
    }
    let allocated = both.allocated;
    both.close(cx);
    assert_eq!(quiet, QUIET, "it allocates again and again, last {allocated:?}: {case:?}");
    allocated
}

#[test]
fn requests_allocate_nothing_at_client_and_server() {
    let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
    let reactors = Reactors::start(&options).expect("reactors start where tests run");
    for direction in [Direction::Read, Direction::Write] {
        for digest in [false, true] {
            for (bytes, memory_max) in [(0, PLENTY), (4096, PLENTY), (100_000, PLENTY), (100_000, 1 << 20)] {
                let case = Case { direction, bytes, digest, memory_max };
                let body = move |reactor: &mut Reactor| allocated(reactor, case);
                let counted = reactors.handles()[0].call_within(Duration::from_secs(60), body);
                assert_eq!(counted.expect("an answer"), (0, 0), "{case:?}");
            }
        }
    }
    assert_eq!(reactors.stop(), []);
}
