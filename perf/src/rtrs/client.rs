//! One load after the other on a session.

use super::{RtrsArgs, rtrs};
use crate::error::PerfError;
use hdrhistogram::Histogram;
use perf_load::Latency;
use perf_sock::wire::waited_ns;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tgt_env::bufs::Bufs;
use tgt_env::clock::Ticks;
use tgt_env::memory::DmaBuf;
use tgt_keyring::Keyring;
use tgt_reactor::{Cx, Poller, Reactors, StartOptions, Work};
use tgt_rtrs::client::Link;
use tgt_rtrs::hub::{ClientEvent, Hub, HubUser, SessionRef};
use tgt_rtrs::sessions::{PathSpec, PeerSpec, Sessions, SessionsOptions};
use tgt_rtrs::tcp::{Done, Refusal, Submission};
use tgt_rtrs::{Direction, Id, UserId};

/// Bytes of a request's user header, beside which the bare way has as many of its own.
const HEADER: usize = 8;

/// How long a session may take to come up, and a load beyond its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest latency that is told apart, in ticks: minutes.
const LONGEST: u64 = 1 << 40;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) direction: Direction,
    pub(super) bytes: u32,
    pub(super) depth: u32,
    pub(super) time: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) requests: u64,
    pub(super) seconds: f64,
    pub(super) latency: Option<Latency>,
    /// Share of the time for which the reactor's thread was ready and did not run.
    pub(super) waited: f64,
}

pub(super) struct Client {
    reactors: Reactors,
    sessions: Arc<Sessions>,
    session: SessionRef,
}

impl Client {
    pub(super) fn start(args: &RtrsArgs, core: u32, paths: &[PathSpec]) -> Result<Self, PerfError> {
        let options = StartOptions { cores: vec![core], sleep: args.sleep(), pin: true };
        let reactors = Reactors::start(&options).map_err(rtrs)?;
        let sessions = Sessions::start(SessionsOptions {
            reactors: reactors.handles().clone(),
            keyring: Keyring::new(),
            host: Id([1; 16]),
            insecure: true,
            tell: Box::new(drop),
        })
        .map_err(rtrs)?;
        let spec = PeerSpec { digest: !args.no_digest, ..PeerSpec::new(paths.to_vec()) };
        let session = sessions.open(&spec).map_err(rtrs)?;
        Ok(Self { reactors, sessions, session })
    }

    /// Runs one load to its end.
    pub(super) fn run(&self, load: Load) -> Result<Measured, PerfError> {
        let (tell, told) = channel();
        let session = self.session.clone();
        let make = move |reactor: &mut tgt_reactor::Reactor| {
            let hub = Hub::of(reactor.cx());
            let user =
                hub.attach(reactor.cx(), &session, UserId(1)).expect("the reactor has room for one lane");
            LoadPoller::new(hub, user, load, tell)
        };
        self.reactors.handles()[0].spawn(make).map_err(rtrs)?;
        match told.recv_timeout(load.time + PATIENCE) {
            Ok(result) => result.map_err(PerfError::Rtrs),
            Err(RecvTimeoutError::Timeout) => Err(PerfError::Rtrs(self.why_not())),
            Err(RecvTimeoutError::Disconnected) => Err(PerfError::Rtrs("the reactor has stopped".to_owned())),
        }
    }

    /// What the paths say.
    fn why_not(&self) -> String {
        let Ok(sessions) = self.sessions.sessions() else { return "a reactor does not answer".to_owned() };
        let paths = sessions.iter().flat_map(|session| &session.paths);
        let said: Vec<String> = paths
            .map(|path| match path.last_change().and_then(|(_, fault)| fault) {
                Some(fault) => format!("{}: {fault}", path.spec),
                None => format!("{}: no answer", path.spec),
            })
            .collect();
        format!("the load did not end in time; {}", said.join("; "))
    }

    pub(super) fn stop(self) {
        let Self { reactors, sessions, session } = self;
        drop(session);
        sessions.stop();
        let _ = reactors.stop();
    }
}

struct LoadPoller {
    hub: Rc<Hub>,
    user: HubUser,
    load: Load,
    tell: Sender<Result<Measured, String>>,
    /// By tag: the memory while it is not under way, and when the request was submitted.
    slots: Vec<(Option<Bufs>, Ticks)>,
    free: Vec<u32>,
    up: bool,
    waits: bool,
    begun: Option<(Ticks, u64)>,
    count: u64,
    ticks: Histogram<u64>,
}

impl LoadPoller {
    fn new(hub: Rc<Hub>, user: HubUser, load: Load, tell: Sender<Result<Measured, String>>) -> Self {
        let buf = |_| (Some(Bufs::from(DmaBuf::alloc_zeroed(load.bytes).expect("memory"))), Ticks::ZERO);
        Self {
            hub,
            user,
            load,
            tell,
            slots: (0..load.depth).map(buf).collect(),
            free: (0..load.depth).rev().collect(),
            up: false,
            waits: false,
            begun: None,
            count: 0,
            ticks: Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that are in order"),
        }
    }

    fn done(&mut self, now: Ticks, done: Done) -> Result<(), String> {
        let want = if self.load.direction == Direction::Read { self.load.bytes } else { 0 };
        match done.result {
            Ok(answer) if answer.result == Ok(0) && answer.bytes == want => {}
            Ok(answer) => return Err(format!("an answer that is none: {answer:?}")),
            Err(dead) => return Err(dead.to_string()),
        }
        let (bufs, since) = &mut self.slots[done.tag as usize];
        *bufs = Some(done.bufs);
        // Longer than the histogram's range counts as its longest.
        self.ticks.saturating_record((now - *since).0);
        self.count += 1;
        self.free.push(done.tag as u32);
        self.hub.recycle(done.header);
        Ok(())
    }

    /// Takes events in; `true` if there were any.
    fn take_events(&mut self, cx: &mut Cx) -> Result<bool, String> {
        let mut any = false;
        while let Some(event) = self.hub.next(self.user) {
            any = true;
            match event {
                ClientEvent::Done(done) => self.done(cx.now(), done)?,
                ClientEvent::Room => self.waits = false,
                ClientEvent::Link(Link::Up { limits, .. }) => {
                    if self.load.bytes > limits.data_max {
                        return Err(format!(
                            "the server takes {} bytes at most in a request",
                            limits.data_max
                        ));
                    }
                    self.up = true;
                }
                ClientEvent::Link(Link::Dead { why }) => return Err(format!("the session died: {why}")),
                ClientEvent::Link(_) => {}
            }
        }
        Ok(any)
    }

    fn submit(&mut self, cx: &mut Cx) -> Result<(), String> {
        let header = [0; HEADER];
        while let Some(tag) = self.free.pop() {
            let (bufs, since) = &mut self.slots[tag as usize];
            let bufs = bufs.take().expect("free");
            *since = cx.now();
            let submission =
                Submission { tag: tag.into(), direction: self.load.direction, header: &header, bufs };
            let Err((bufs, refusal)) = self.hub.submit(cx, self.user, submission) else { continue };
            self.slots[tag as usize].0 = Some(bufs);
            self.free.push(tag);
            self.waits = true;
            return match refusal {
                Refusal::Wait => Ok(()),
                Refusal::Refused(why) => Err(why.to_string()),
            };
        }
        Ok(())
    }

    fn step(&mut self, cx: &mut Cx) -> Result<Work, String> {
        let any = self.take_events(cx)?;
        if !self.up {
            return Ok(if any { Work::Busy } else { Work::Idle });
        }
        let (since, waited) = *self.begun.get_or_insert_with(|| (cx.now(), waited_ns()));
        let spent = cx.now() - since;
        if spent < Ticks::from_duration(self.load.time) {
            if !self.waits {
                self.submit(cx)?;
            }
        } else if self.free.len() == self.slots.len() {
            let seconds = spent.as_duration().as_secs_f64();
            let waited = (waited_ns() - waited) as f64 / 1e9 / seconds;
            let latency = Latency::of_ticks(&self.ticks);
            self.end(cx, Ok(Measured { requests: self.count, seconds, latency, waited }));
            return Ok(Work::Over);
        }
        Ok(if any { Work::Busy } else { Work::Idle })
    }

    fn end(&mut self, cx: &mut Cx, result: Result<Measured, String>) {
        self.hub.detach(cx, self.user);
        // Whoever waits for it may have given up.
        let _ = self.tell.send(result);
    }
}

impl Poller for LoadPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.step(cx).unwrap_or_else(|why| {
            self.end(cx, Err(why));
            Work::Over
        })
    }

    fn name(&self) -> &str {
        "load"
    }
}
