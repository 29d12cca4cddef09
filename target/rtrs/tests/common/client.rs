//! A client under load that looks whether each request ends once and with the right bytes.

use super::{bytes_of, now_ns, pattern, reactors, wait_until};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_reactor::{Cx, Handle, Poller, Reactors, Stop, Work};
use tgt_rtrs::client::{Config, Link, PathState, UserNo};
use tgt_rtrs::tcp::{ClientEvent, ClientPort, LaneNo, PathAddress, Refusal, Submission};
use tgt_rtrs::{Direction, Id, Key, PathNo, UserId};

/// What happened at a client.
#[derive(Default, Debug)]
pub(crate) struct Log {
    pub(crate) submitted: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// The requests that were answered, and those that failed.
    pub(crate) done_tags: HashSet<u64>,
    pub(crate) failed_tags: HashSet<u64>,
    pub(crate) links: Vec<Link>,
    /// When the last death was told, by the clock of [`now_ns`].
    pub(crate) died_ns: Option<u64>,
    /// When the last life was told to be up.
    pub(crate) begun_ns: Option<u64>,
    pub(crate) faults: Vec<String>,
    /// Paths that are up.
    pub(crate) up: HashSet<PathNo>,
    /// Longest time between two completions under load.
    pub(crate) longest: Duration,
    /// Longest time from a request to its answer.
    pub(crate) slowest: Duration,
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
    /// Since when.
    under_way: HashMap<u64, Instant>,
    tag: u64,
    wait: bool,
    log: Arc<Mutex<Log>>,
    last: Option<Instant>,
    commands: Receiver<Command>,
}

type Command = Box<dyn FnOnce(&mut ClientPort, &mut Cx, LaneNo, &mut Load) + Send>;

impl ClientPoller {
    fn submit(&mut self, cx: &mut Cx) {
        while self.load.requests > 0 && (self.under_way.len() as u64) < self.load.depth && !self.wait {
            let tag = self.tag;
            let direction = if tag.is_multiple_of(2) { Direction::Read } else { Direction::Write };
            // Of all sizes, also if there are few.
            let drawn = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let bytes = (drawn % (u64::from(self.load.bytes_max) + 1)) as u32;
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
                    self.under_way.insert(tag, Instant::now());
                    self.log.lock().expect("a log").submitted += 1;
                    (self.tag, self.load.requests) = (tag + 1, self.load.requests - 1);
                }
                Err((_, Refusal::Wait)) => self.wait = true,
                // Told again by `Up`.
                Err((_, Refusal::Refused(_))) => return,
            }
        }
    }

    fn take(&mut self, lane: LaneNo, event: ClientEvent) {
        let mut log = self.log.lock().expect("a log");
        match event {
            ClientEvent::Done(done) => {
                let began = self.under_way.remove(&done.tag).expect("each ends once");
                match done.result {
                    Ok(answer) => {
                        log.done += 1;
                        log.done_tags.insert(done.tag);
                        log.slowest = log.slowest.max(began.elapsed());
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
                    Err(_) => {
                        log.failed += 1;
                        log.failed_tags.insert(done.tag);
                    }
                }
                let now = Instant::now();
                if let Some(last) = self.last.replace(now) {
                    log.longest = log.longest.max(now - last);
                }
                self.port.recycle(done.header);
            }
            ClientEvent::Room(_) => self.wait = false,
            ClientEvent::Link(link) => {
                match link {
                    Link::Dead { .. } => (self.wait, log.died_ns) = (false, Some(now_ns())),
                    Link::Up { .. } => log.begun_ns = Some(now_ns()),
                    Link::Stalled { .. } | Link::Resumed => {}
                }
                log.links.push(link);
            }
            ClientEvent::Path(change) => {
                // Paths of other lanes are not of interest.
                if lane != self.lane {
                    return;
                }
                log.up.remove(&change.path);
                match change.state {
                    PathState::Waiting { fault: Some(fault), .. } => log.faults.push(fault.to_string()),
                    PathState::Up => drop(log.up.insert(change.path)),
                    _ => {}
                }
            }
            ClientEvent::Gone => self.gone = true,
        }
    }
}

impl Poller for ClientPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        while let Ok(command) = self.commands.try_recv() {
            command(&mut self.port, cx, self.lane, &mut self.load);
        }
        self.port.begin(cx);
        while let Some((lane, event)) = self.port.next() {
            self.take(lane, event);
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
        assert!(self.under_way.is_empty(), "requests outlive their lane");
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
        Self::many(vec![key], paths)
    }

    /// A session for each key, of which the first is the one that is loaded.
    pub(crate) fn many(keys: Vec<Key>, paths: &[SocketAddr]) -> Self {
        let reactors = reactors();
        let handle = reactors.handles()[0].clone();
        let (commands, inbox) = channel();
        let log = Arc::new(Mutex::new(Log::default()));
        let (shared, paths) = (log.clone(), paths.to_vec());
        handle
            .spawn(move |reactor: &mut tgt_reactor::Reactor| {
                let cx = reactor.cx();
                let mut port = ClientPort::new(cx).expect("a port");
                let mut lane_of = |key| {
                    let config = Config::new(Id(uuid_bytes()), Id([1; 16]), 0, 1);
                    let lane = port.add_lane(config, key).expect("few");
                    for to in &paths {
                        port.add_path(cx, lane, Id(uuid_bytes()), PathAddress::new(*to)).expect("few");
                    }
                    lane
                };
                let lanes: Vec<LaneNo> = keys.into_iter().map(&mut lane_of).collect();
                let lane = lanes[0];
                let user = port.lane(lane).attach(UserId(5));
                let load = Load { requests: 0, depth: 0, bytes_max: 0 };
                // Drawn, so that no two clients of a server have the same; even, so that odd ones are odd from there.
                let tag = u64::from(fastrand::u32(..)) << 32;
                let (under_way, wait, last) = (HashMap::new(), false, None);
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

    pub(crate) fn with(
        &self,
        command: impl FnOnce(&mut ClientPort, &mut Cx, LaneNo, &mut Load) + Send + 'static,
    ) {
        self.commands.send(Box::new(command)).expect("the poller is there");
        self.handle.send(|_| ()).expect("room");
    }

    pub(crate) fn load(&self, load: Load) {
        self.with(move |_, _, _, current| *current = load);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.handle.stats().snapshot().asleep
    }

    /// What takes longest is measured from here on.
    pub(crate) fn measure(&self) {
        let mut log = self.log.lock().expect("a log");
        (log.longest, log.slowest) = (Duration::ZERO, Duration::ZERO);
    }

    /// Submits nothing any more, and waits until each request has ended.
    pub(crate) fn finish(&self) {
        let (ended, end) = channel();
        self.with(move |_, _, _, load| {
            load.requests = 0;
            // Nobody waits any more.
            let _ = ended.send(());
        });
        end.recv_timeout(super::PATIENCE).expect("the client's turn");
        self.wait_for("all requests end", |log| log.done + log.failed == log.submitted);
        let log = self.log.lock().expect("a log");
        let died = log.links.iter().any(|link| matches!(link, Link::Dead { .. }));
        assert!(log.failed == 0 || died, "a request failed in a session that lives: {:?}", log.links);
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
