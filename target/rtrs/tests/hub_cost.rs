//! In steady state a request by way of two hubs allocates nothing, on either reactor.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use test_alloc_counter::{Counter, allocations};
use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Poller, Reactor, Reactors, SleepPolicy, StartOptions, Work};
use tgt_rtrs::client::{Answer as Counts, Link, Policy};
use tgt_rtrs::hub::{ClientEvent, Hub, HubUser, PathKey, PortSpec, Session, SessionKey, SessionSetup};
use tgt_rtrs::server::{GateConfig, ServerConfig};
use tgt_rtrs::tcp::{Answer, PathAddress, ServerEvent, Submission};
use tgt_rtrs::{Direction, Id, UserId};
use tgt_sock::ListenOn;

#[global_allocator]
static COUNTER: Counter = Counter;

const WARM: u64 = 5_000;
const COUNTED: u64 = 10_000;
const DEPTH: u64 = 32;

struct Load {
    hub: Rc<Hub>,
    user: HubUser,
    free: Vec<Bufs>,
    up: bool,
    sent: u64,
    done: u64,
    before: u64,
    tell: Sender<(&'static str, u64)>,
}

impl Poller for Load {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        while let Some(event) = self.hub.next(self.user) {
            work = Work::Busy;
            match event {
                ClientEvent::Done(done) => {
                    assert!(done.result.is_ok_and(|answer| answer.result == Ok(0)), "{:?}", done.result);
                    self.done += 1;
                    self.free.push(done.bufs);
                    self.hub.recycle(done.header);
                }
                ClientEvent::Link(Link::Up { .. }) => self.up = true,
                other => panic!("{other:?}"),
            }
            if self.done == WARM {
                self.before = allocations();
            }
            if self.done == WARM + COUNTED {
                self.tell.send(("client", allocations() - self.before)).expect("somebody waits");
                self.hub.detach(cx, self.user);
                return Work::Over;
            }
        }
        while self.up && self.sent < WARM + COUNTED {
            let Some(bufs) = self.free.pop() else { break };
            let direction = if self.sent.is_multiple_of(2) { Direction::Read } else { Direction::Write };
            let submission = Submission { tag: self.sent, direction, header: &[1; 24], bufs };
            self.hub.submit(cx, self.user, submission).expect("fewer than there are slots");
            self.sent += 1;
        }
        work
    }

    fn name(&self) -> &str {
        "load"
    }
}

struct Echo {
    hub: Rc<Hub>,
    served: u64,
    before: u64,
    tell: Sender<(&'static str, u64)>,
}

impl Poller for Echo {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        while let Some(event) = self.hub.next_incoming() {
            work = Work::Busy;
            let ServerEvent::Request(incoming) = event else { continue };
            let bytes =
                if incoming.execute.direction == Direction::Read { incoming.execute.bytes } else { 0 };
            let counts = Counts { result: Ok(0), bytes, user_len: 0 };
            self.hub.answer(cx, Answer { incoming, counts, header: &[2; 16] });
            self.served += 1;
            if self.served == WARM {
                self.before = allocations();
            }
            if self.served == WARM + COUNTED {
                self.tell.send(("server", allocations() - self.before)).expect("somebody waits");
            }
        }
        work
    }

    fn name(&self) -> &str {
        "echo"
    }
}

#[test]
fn a_request_allocates_nothing() {
    let options = StartOptions { cores: vec![0, 1], sleep: SleepPolicy::ADAPTIVE, pin: false };
    let reactors = Reactors::start(&options).expect("reactors start where tests run");
    let (tell, told) = channel();
    let to_server = tell.clone();
    let listen = |reactor: &mut Reactor| {
        let config = ServerConfig::default();
        let port = PortSpec { config, memory_max: 64 << 20, spread: false, notes: None };
        let gate = GateConfig::new(Id([9; 16]), Arc::new(SessionKey::None.get()));
        let on = ListenOn::new((Ipv4Addr::LOCALHOST, 0).into());
        Hub::of(reactor.cx()).listen(reactor.cx(), &port, gate, &on).expect("it listens").1
    };
    let address = reactors.handles()[1].call(listen).expect("an answer");
    let serve = move |reactor: &mut Reactor| {
        let hub = Hub::of(reactor.cx());
        hub.serve(reactor.cx()).expect("nobody else serves");
        Echo { hub, served: 0, before: 0, tell: to_server }
    };
    reactors.handles()[1].spawn(serve).expect("an answer");
    let setup = SessionSetup {
        host: Id([1; 16]),
        key: SessionKey::None,
        digest: true,
        insecure: false,
        policy: Policy::MinInflight,
        paths: vec![(PathKey(0), PathAddress::new(address))],
    };
    let session = Session::new(Id([3; 16]), setup, None);
    let load = move |reactor: &mut Reactor| {
        let hub = Hub::of(reactor.cx());
        let user = hub.attach(reactor.cx(), &session, UserId(1)).expect("a lane");
        let free = (0..DEPTH).map(|_| DmaBuf::alloc_zeroed(4096).expect("memory").into()).collect();
        Load { hub, user, free, up: false, sent: 0, done: 0, before: 0, tell }
    };
    reactors.handles()[0].spawn(load).expect("an answer");
    for _ in 0..2 {
        let (side, allocated) = told.recv_timeout(Duration::from_secs(60)).expect("the load ends");
        // Queues may still grow once; nothing grows with requests.
        assert!(allocated < COUNTED / 100, "{side}: {allocated} allocations in {COUNTED} requests");
    }
    assert_eq!(reactors.stop(), []);
}
