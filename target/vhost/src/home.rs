//! A controller's home: a poller that listens, follows the protocol, and starts and stops queues.
//!
//! ```text
//!                accept                    the front end closes it, or breaks the protocol
//! listening ───────────────► connected ──────────────────────────────────────────────► ending
//!     ▲                                                                                   │
//!     └───────────────────────────── no queue runs any more ─────────────────────────────┘
//! ```
//! Connected, it lets one message after the other be handled; one that concerns queues that run is left in the socket until
//! they have stopped (docs/140-vhost.md). What control threads ask comes in between.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tgt_bdev::Desc;
use tgt_env::clock::Ticks;
use tgt_env::uring::{Interest, OpId, SourceId};
use tgt_reactor::{Cx, Handle, Poller, Stop, Work};
use vhost::vhost_user::message::FrontendReq;
use vhost::vhost_user::{BackendReqHandler, Error};

use crate::controller::{Ask, Controller, SessionStatus};
use crate::queue::{Ended, Errand, QueueStart, Shared, Tuning, ring_bell};
use crate::session::Session;
use crate::session::vring::Kick;
use crate::session::wire::{self, Concerns, Look, Next};

/// How long a listener rests that lacks descriptors or memory.
const REST: Duration = Duration::from_millis(100);
/// Messages handled in one poll.
const MESSAGES_PER_POLL: usize = 32;

const LISTENER: u64 = 0;
const LINK: u64 = 1;

/// A connection.
struct Link {
    handler: BackendReqHandler<Mutex<Session>>,
    session: Arc<Mutex<Session>>,
    /// The same socket, to look into it.
    socket: Arc<OwnedFd>,
    /// Where our own requests go.
    channel: Option<OwnedFd>,
    /// The configuration space has changed, and the front end was not told.
    tell_change: bool,
    /// Why it ends, if it does.
    ending: Option<String>,
    number: u64,
    watch: OpId,
}

/// The poller of a controller.
pub(crate) struct Home {
    controller: Arc<Controller>,
    own: Handle,
    /// Reactors of its queues.
    reactors: Vec<Handle>,
    listener: Arc<OwnedFd>,
    accepts: UnixListener,
    path: PathBuf,
    source: Option<SourceId>,
    desc: Option<Arc<Desc>>,
    link: Option<Link>,
    links: u64,
    /// Who waits for the bdev to be let go of.
    releasing: Vec<SyncSender<()>>,
    nudges_seen: u32,
    /// When a listener that rests is looked at again.
    rests_until: Ticks,
    /// Something may have to be done.
    attend: bool,
    /// The target stops.
    closing: bool,
}

impl Home {
    pub(crate) fn new(
        cx: &mut Cx,
        controller: Arc<Controller>,
        reactors: Vec<Handle>,
        accepts: UnixListener,
        path: PathBuf,
        desc: Desc,
    ) -> Result<Home, String> {
        let listener = accepts.as_fd().try_clone_to_owned().map_err(|why| why.to_string())?;
        let source = cx.uring().add_source().map_err(|why| why.to_string())?;
        let own = cx.peers()[cx.id().0 as usize].clone();
        let mut home = Home {
            controller,
            own,
            reactors,
            listener: Arc::new(listener),
            accepts,
            path,
            source: Some(source),
            desc: Some(Arc::new(desc)),
            link: None,
            links: 0,
            releasing: Vec::new(),
            nudges_seen: 0,
            rests_until: Ticks::NEVER,
            attend: true,
            closing: false,
        };
        if let Err(why) = home.watch(cx, home.listener.clone(), LISTENER) {
            home.unwatch(cx);
            return Err(why);
        }
        Ok(home)
    }

    fn watch(&mut self, cx: &mut Cx, fd: Arc<OwnedFd>, tag: u64) -> Result<OpId, String> {
        let source = self.source.ok_or("it is closed")?;
        cx.uring().poll_fd(source, fd, Interest::Readable, true, tag).map_err(|why| why.to_string())
    }

    fn unwatch(&mut self, cx: &mut Cx) {
        if let Some(source) = self.source.take()
            && let Err(error) = cx.uring().remove_source(source)
        {
            tracing::error!(controller = self.controller.name, %error, "its sockets stay in the io_uring");
        }
    }

    /// Takes in what the io_uring tells. A watch that the kernel has ended is renewed.
    #[inline]
    fn take_news(&mut self, cx: &mut Cx) {
        let Some(source) = self.source else { return };
        while let Some(completion) = cx.uring().next_completion(source) {
            self.attend = true;
            if !completion.more {
                self.watch_again(cx, completion.tag);
            }
        }
    }

    #[cold]
    fn watch_again(&mut self, cx: &mut Cx, tag: u64) {
        let fd = match &self.link {
            _ if tag == LISTENER => self.listener.clone(),
            Some(link) if tag == LINK + link.number => link.socket.clone(),
            // That of an earlier connection, which was closed.
            _ => return,
        };
        match (self.watch(cx, fd, tag), &mut self.link) {
            (Ok(op), Some(link)) if tag != LISTENER => link.watch = op,
            (Ok(_), _) => {}
            (Err(why), _) => {
                tracing::error!(
                    controller = self.controller.name,
                    "deaf until something else happens: {why}"
                );
            }
        }
    }

    /// Does what there is to do. True if there is more that nothing will tell of.
    fn work(&mut self, cx: &mut Cx) -> Result<bool, Gone> {
        self.take_ends();
        self.take_asks()?;
        self.release_bdev();
        let mut more = false;
        if self.link.is_some() {
            more |= self.follow(cx);
        }
        if self.link.is_none() && !self.closing {
            more |= self.accept(cx);
        } else if self.link.as_ref().is_some_and(|link| link.ending.is_none()) {
            self.turn_away();
        }
        self.publish_status();
        Ok(more)
    }

    /// What control threads ask.
    fn take_asks(&mut self) -> Result<(), Gone> {
        for ask in self.controller.take_asks() {
            match ask {
                Ask::Delete(answer) => {
                    if self.link.is_none() {
                        return Err(Gone(answer));
                    }
                    // Who asked may have given up: then nobody wants the answer.
                    let _answered = answer.send(false);
                }
                Ask::Release(answer) => self.releasing.push(answer),
                Ask::Resized => self.resized(),
                Ask::Coalescing => {
                    let coalescing = self.controller.coalescing();
                    for shared in self.running() {
                        shared.tune(|tuning| tuning.coalescing = coalescing);
                    }
                }
            }
        }
        Ok(())
    }

    /// The bdev has another size.
    fn resized(&mut self) {
        let Some(desc) = &self.desc else { return };
        let disk = self.controller.disk_of(desc.bdev());
        if let Some(link) = &mut self.link {
            locked(&link.session).disk = disk;
            link.tell_change = true;
        }
        // Requests are checked against the size with which their queue was started: start them anew.
        self.stop(Concerns::All);
    }

    /// Lets go of a bdev that is removed, once no queue runs on it; requests fail from then on.
    fn release_bdev(&mut self) {
        if !self.releasing.is_empty() && self.stop(Concerns::All) {
            self.desc = None;
            self.controller.forget_bdev();
            for answer in self.releasing.drain(..) {
                let _answered = answer.send(());
            }
        }
    }

    /// Asks queues to stop. True if none of them runs.
    fn stop(&mut self, which: Concerns) -> bool {
        let Some(link) = &self.link else { return true };
        let mut session = locked(&link.session);
        let mut none_runs = true;
        for (index, vring) in session.vrings().iter_mut().enumerate() {
            let meant = match which {
                Concerns::All => true,
                Concerns::Queue(queue) => queue as usize == index,
                Concerns::Nothing => false,
            };
            if let Some(shared) = vring.running.as_ref().filter(|_| meant) {
                none_runs = false;
                shared.ask_to_stop();
                // One whose inbox is full is awake; one that has stopped has stopped its queues.
                let _woken = self.reactors[index % self.reactors.len()].send(|_| ());
            }
        }
        none_runs
    }

    fn running(&self) -> Vec<Arc<Shared>> {
        let Some(link) = &self.link else { return Vec::new() };
        let mut session = locked(&link.session);
        session.vrings().iter().filter_map(|vring| vring.running.clone()).collect()
    }

    /// Takes in which queues have ended, and where their rings stand.
    fn take_ends(&mut self) {
        let Some(link) = &self.link else { return };
        let mut session = locked(&link.session);
        let mut broken = false;
        for (index, vring) in session.vrings().iter_mut().enumerate() {
            let Some(Ended { base, fault }) = vring.running.as_ref().and_then(|shared| shared.take_end())
            else {
                continue;
            };
            (vring.running, vring.base) = (None, base);
            if let Some(fault) = fault {
                broken = true;
                ring_bell(vring.error.as_deref());
                tracing::error!(
                    controller = self.controller.name,
                    queue = index,
                    "the ring is broken, its disk stops until the driver resets it: {fault}"
                );
            }
        }
        if broken {
            session.vrings().iter_mut().for_each(|vring| vring.broken = true);
            drop(session);
            self.stop(Concerns::All);
        }
    }

    /// Starts every queue that can run and does not.
    fn start_what_can_run(&mut self) {
        let Some(link) = self.link.as_ref().filter(|link| link.ending.is_none()) else { return };
        if !self.releasing.is_empty() || self.closing {
            return;
        }
        let mut session = locked(&link.session);
        for index in 0..session.vrings().len() {
            if session.vrings()[index].running.is_some() || !session.can_run(index) {
                continue;
            }
            let start = self.queue_start(&mut session, index);
            session.vrings()[index].running = Some(start.shared.clone());
            let errand = Errand::new(start);
            // One that is not taken tells its end itself.
            let reactor = &self.reactors[index % self.reactors.len()];
            let _sent = reactor.send(move |reactor| errand.arrive(reactor.cx()));
        }
    }

    fn queue_start(&self, session: &mut Session, index: usize) -> QueueStart {
        let memory = session.memory();
        let (spec, inflight) = (session.ring_spec(index), session.inflight_part(index));
        let geometry = session.disk.geometry;
        let vring = &session.vrings()[index];
        let tuning = Tuning { memory, call: vring.call.clone(), coalescing: self.controller.coalescing() };
        let kick = match &vring.kick {
            Kick::Eventfd(fd) => Some(fd.clone()),
            Kick::Polled | Kick::Stopped => None,
        };
        QueueStart {
            name: format!("vhost {} queue {index}", self.controller.name),
            spec,
            base: vring.base,
            inflight,
            kick,
            desc: self.desc.clone(),
            geometry,
            serial: self.controller.serial(),
            shared: Shared::new(tuning, self.controller.nudges.clone()),
            home: self.own.clone(),
        }
    }

    /// Lets messages be handled, as far as queues stand still for them. True if more can be done at once.
    fn follow(&mut self, cx: &mut Cx) -> bool {
        for _ in 0..MESSAGES_PER_POLL {
            let Some(link) = &mut self.link else { return false };
            if let Some(why) = &link.ending {
                let why = why.clone();
                self.end_link(cx, &why);
                return false;
            }
            if link.tell_change {
                tell_change(link, &self.controller.name);
            }
            let next = match wire::look(&link.socket) {
                Ok(Look::NotYet) => {
                    // Not before: a message that waits for a queue to stop would wait for ever.
                    self.start_what_can_run();
                    return false;
                }
                Ok(Look::Message(next)) => next,
                Ok(Look::End) => {
                    link.ending = Some("the front end has closed it".to_owned());
                    continue;
                }
                Err(why) => {
                    link.ending = Some(why.to_string());
                    continue;
                }
            };
            // Whoever asks and never listens would have us wait.
            if !wire::has_room(&link.socket) {
                link.ending = Some("the front end does not read its answers".to_owned());
                continue;
            }
            if !self.stop(next.concerns) {
                return false;
            }
            self.handle(next);
        }
        true
    }

    /// Lets the message that comes next be handled.
    fn handle(&mut self, next: Next) {
        let Some(link) = &mut self.link else { return };
        tracing::debug!(controller = self.controller.name, request = next.request, "message");
        if next.request == FrontendReq::SET_BACKEND_REQ_FD as u32 {
            let acknowledge = next.needs_reply && locked(&link.session).acknowledges();
            match wire::take_channel(&link.socket, acknowledge) {
                Ok(channel) => link.channel = Some(channel),
                Err(why) => link.ending = Some(why.to_string()),
            }
            return;
        }
        let Err(error) = link.handler.handle_request() else { return };
        let told = next.needs_reply && locked(&link.session).acknowledges();
        match error {
            // The front end has got a no, and may go on without.
            Error::ReqHandlerError(why) if told => {
                tracing::warn!(controller = self.controller.name, request = next.request, "refused: {why}");
            }
            why => link.ending = Some(format!("message {}: {why}", next.request)),
        }
    }

    /// Ends the connection once no queue runs.
    fn end_link(&mut self, cx: &mut Cx, why: &str) {
        if !self.stop(Concerns::All) {
            return;
        }
        let Some(link) = self.link.take() else { return };
        // The io_uring holds the socket until it has heard of the cancellation: the peer shall know at once. One that has
        // gone knows already.
        let _told = rustix::net::shutdown(&link.socket, rustix::net::Shutdown::Both);
        if let Err(error) = cx.uring().cancel(link.watch) {
            tracing::error!(controller = self.controller.name, %error, "a socket stays in the io_uring");
        }
        tracing::info!(controller = self.controller.name, "disconnected: {why}");
    }

    /// Takes a front end that waits. True if there was one.
    fn accept(&mut self, cx: &mut Cx) -> bool {
        let stream = match self.accepts.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                tracing::warn!(controller = self.controller.name, %error, "a front end could not be accepted");
                self.rests_until = cx.now() + Ticks::from_duration(REST);
                return false;
            }
        };
        match self.connect(cx, stream) {
            Ok(()) => tracing::info!(controller = self.controller.name, "connected"),
            Err(why) => {
                tracing::error!(controller = self.controller.name, "a front end was turned away: {why}")
            }
        }
        true
    }

    /// Nothing tells when there are descriptors again.
    #[cold]
    fn rest(&mut self, cx: &mut Cx) {
        if cx.now() >= self.rests_until {
            self.rests_until = Ticks::NEVER;
            self.attend = true;
        } else {
            cx.wake_at(self.rests_until);
        }
    }

    fn connect(&mut self, cx: &mut Cx, stream: UnixStream) -> Result<(), String> {
        stream.set_nonblocking(true).map_err(|why| why.to_string())?;
        let socket = Arc::new(stream.as_fd().try_clone_to_owned().map_err(|why| why.to_string())?);
        let disk = match &self.desc {
            Some(desc) => self.controller.disk_of(desc.bdev()),
            None => return Err("its bdev is gone".to_owned()),
        };
        self.links += 1;
        let watch = self.watch(cx, socket.clone(), LINK + self.links)?;
        let session = Arc::new(Mutex::new(Session::new(&self.controller.name, disk)));
        let handler = BackendReqHandler::from_stream(stream, session.clone());
        self.link = Some(Link {
            handler,
            session,
            socket,
            channel: None,
            tell_change: false,
            ending: None,
            number: self.links,
            watch,
        });
        Ok(())
    }

    /// One front end at a time: others are told so by the end of their connection.
    fn turn_away(&mut self) {
        while let Ok((stream, _)) = self.accepts.accept() {
            drop(stream);
            tracing::warn!(
                controller = self.controller.name,
                "a second front end was turned away: one is connected"
            );
        }
    }

    fn publish_status(&self) {
        let status = self.link.as_ref().map(|link| {
            let mut session = locked(&link.session);
            let queues = session.vrings().iter().filter_map(|vring| vring.running.clone()).collect();
            SessionStatus { number: link.number, max_queues: session.vrings().len(), queues }
        });
        self.controller.set_status(status);
    }

    /// Lets go of everything. No queue runs.
    fn close(&mut self, cx: &mut Cx) {
        self.link = None;
        self.publish_status();
        self.desc = None;
        self.unwatch(cx);
        // Somebody else may have put another file there, or have taken it away.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(controller = self.controller.name, %error, "its socket's file");
        }
    }
}

/// The controller is deleted; who waits for it.
struct Gone(SyncSender<bool>);

impl Poller for Home {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.take_news(cx);
        let nudges = self.controller.nudges.load(Acquire);
        if nudges != self.nudges_seen {
            self.nudges_seen = nudges;
            self.attend = true;
        }
        if self.rests_until != Ticks::NEVER {
            self.rest(cx);
        }
        if !self.attend {
            return Work::Idle;
        }
        match self.work(cx) {
            Ok(more) => {
                self.attend = more;
                Work::Busy
            }
            Err(Gone(answer)) => {
                self.close(cx);
                let _answered = answer.send(true);
                Work::Over
            }
        }
    }

    fn name(&self) -> &str {
        &self.controller.name
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        self.closing = true;
        self.attend = true;
        if let Some(link) = &mut self.link {
            link.ending.get_or_insert_with(|| "the target stops".to_owned());
            return Stop::Draining;
        }
        self.close(cx);
        Stop::Done
    }
}

fn tell_change(link: &mut Link, controller: &str) {
    let Some(channel) = &link.channel else { return };
    match wire::tell_config_change(channel) {
        Ok(told) => link.tell_change = !told,
        Err(error) => {
            link.tell_change = false;
            tracing::warn!(controller, %error, "the front end could not be told of the new size");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this lock")
}

impl Controller {
    /// Makes the home look. Control threads, and queues at their end.
    pub(crate) fn nudge(&self) {
        self.nudges.fetch_add(1, Release);
        // One whose inbox is full is awake; one that has stopped does nothing more.
        let _woken = self.home.send(|_| ());
    }
}
