//! Sessions as a service of a reactor: what stands between the ports of `tcp` and those who use sessions.
//!
//! # What it is and is not
//! One [`Hub`] per reactor, found with [`Hub::of`]. It owns the reactor's [`ClientPort`] with the lanes of all sessions, and
//! its [`ServerPort`] with all lanes that clients have there, and polls both. Users, which are pollers of other crates on
//! the same reactor, submit requests and drain a queue each. It looks into no request and keeps none: what is to be sent
//! again after a life's end is its user's to know.
//!
//! # Words
//! *spread*: a lane that comes in lives on the reactor that its session's name and its number say, so that all its
//! connections meet there, whichever listener they came through. *user*: who submits on a lane, by the [`HubUser`] that
//! [`Hub::attach`] gave him. *service*: who serves the requests of other hosts; one per process, and it serves on every
//! reactor, as lanes are spread over all. *turn*: as in `tgt-reactor`.
//!
//! # A turn
//! Users submit and answer at any point of a turn; nothing is sent then. When the hub is polled it
//! 1. sends what was submitted since it was last polled: one system call a stream, all users together;
//! 2. takes in what came, and puts it into the queues of those it is for;
//! 3. sends what that has brought about (beats, grants) and says whether it may sleep.
//!
//! So whichever comes first in the reactor's list, a user or the hub, a request goes out in the turn it was submitted in or
//! in the next, and an answer is seen in the turn it came in or in the next; no system call is made for a request alone if
//! others wait as well.
//!
//! # Who may call it, on which thread
//! Everything here: the reactor's own thread. Calls return at once and call nobody back, so a user may call from wherever
//! he has a [`Cx`]. Control threads go by way of `tgt_reactor::Handle`; the service of sessions does.
//!
//! # Invariants
//! 1. The reactor does not sleep over anything that was submitted or answered and is not sent: each such call says so by
//!    [`Cx::wake_at`], whatever its caller's poller returns.
//! 2. The reactor does not sleep while an event waits in a queue: the hub is `Busy` in the turn it came, `Spin` until it is
//!    taken.
//! 3. Each request that was taken ends with one `Done` in the queue of the user who submitted it, and of no other; a user
//!    who has detached has none, and what he had under way ends unseen.
//! 4. A user is told `Up` before he can submit, also if the lane was up before he came; the service the same of lanes.
//! 5. A request that came while there is no service is answered as refused by the session layer.
//! 6. In steady state nothing is allocated, and nothing is locked.
//!
//! # Map of files
//! `mod` the hub and its poller · `client` lanes and their users · `paths` what is known of the paths of lanes · `server`
//! the port, the service · `session` what lanes are made of · `figures` what control threads ask for.
//!
//! # Where the tests are
//! `tests/hub`: two reactors, two users of a lane, real sockets.

mod client;
mod figures;
mod paths;
mod server;
mod session;

pub use client::{ClientEvent, HubUser, LaneUp};
pub use figures::{ClientLane, PathFigures, ServerLane};
pub use paths::PathKey;
pub use server::PortSpec;
pub use session::{Note, Session, SessionKey, SessionRef, SessionSetup};

use crate::mutant::Mutant;
use crate::tcp::{ClientPort, ServerPort};
use client::Clients;
use server::Servers;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tgt_env::clock::Ticks;
use tgt_reactor::{Cx, Poller, Stop, Work};
use tgt_sock::SockError;

/// How long lives may take to end in order when the reactor stops; then they are abandoned, and after the same time again
/// connections are cut.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a hub cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The reactor stops.
    #[error("the reactor stops: no session can be used on it any more")]
    Stopping,
    /// What sockets need.
    #[error("sessions cannot be had on this reactor: {0}")]
    Sock(#[from] SockError),
    /// 65536.
    #[error(
        "a reactor has at most 65536 lanes of sessions, and has them; close sessions that are not needed"
    )]
    TooManyLanes,
    /// There is one already.
    #[error("requests of other hosts are served by somebody else on this reactor")]
    Served,
}

/// The sessions of a reactor.
pub struct Hub {
    clients: RefCell<Clients>,
    servers: RefCell<Servers>,
}

impl Hub {
    /// This reactor's hub, made on first use. Keep it: it is found by a look-up in a map.
    #[must_use]
    pub fn of(cx: &mut Cx) -> Rc<Hub> {
        if let Some(hub) = cx.local::<Hub>() {
            return hub;
        }
        let hub = Rc::new(Hub { clients: RefCell::default(), servers: RefCell::default() });
        cx.set_local(hub.clone());
        cx.spawn(Box::new(HubPoller { hub: hub.clone(), stop_by: None, abandoned: false }), None);
        hub
    }
}

struct HubPoller {
    hub: Rc<Hub>,
    /// The reactor stops; lives end in order until then.
    stop_by: Option<Ticks>,
    abandoned: bool,
}

impl Poller for HubPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let work = self.hub.clients.borrow_mut().turn(cx);
        work.max(self.hub.servers.borrow_mut().turn(cx))
    }

    fn name(&self) -> &str {
        "sessions"
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        let mut clients = self.hub.clients.borrow_mut();
        let now = cx.now();
        let stop_by = *self.stop_by.get_or_insert_with(|| {
            clients.retire_all(cx);
            now + Ticks::from_duration(FAREWELL)
        });
        if clients.has_lanes() && now < stop_by {
            return Stop::Draining;
        }
        // Who cannot be reached says no farewell. Whoever waits for an answer from there is told that there is none.
        if clients.has_lanes() && !std::mem::replace(&mut self.abandoned, true) {
            clients.abandon_all(cx);
        }
        if clients.has_lanes() && now < stop_by + Ticks::from_duration(FAREWELL) {
            return Stop::Draining;
        }
        let clients_gone = clients.close(cx);
        let servers_gone = self.hub.servers.borrow_mut().close(cx);
        if clients_gone && servers_gone { Stop::Done } else { Stop::Draining }
    }
}

/// A port as the hub drives it.
trait Port {
    fn begin(&mut self, cx: &mut Cx);
    fn end(&mut self, cx: &mut Cx) -> Work;
}

impl Port for ClientPort {
    fn begin(&mut self, cx: &mut Cx) {
        ClientPort::begin(self, cx);
    }

    fn end(&mut self, cx: &mut Cx) -> Work {
        ClientPort::end(self, cx)
    }
}

impl Port for ServerPort {
    fn begin(&mut self, cx: &mut Cx) {
        ServerPort::begin(self, cx);
    }

    fn end(&mut self, cx: &mut Cx) -> Work {
        ServerPort::end(self, cx)
    }
}

/// Sends what was submitted since the last turn, then takes in what came.
fn begin_turn(port: &mut impl Port, dirty: &mut bool, cx: &mut Cx) {
    if std::mem::take(dirty) {
        // What it returns is asked again at the end of this turn.
        let _ = port.end(cx);
    }
    port.begin(cx);
}

/// Sends what the turn has brought about; `routed`: events were queued, `waiting`: some are not taken.
fn end_turn(port: &mut impl Port, cx: &mut Cx, routed: bool, waiting: bool) -> Work {
    let work = port.end(cx);
    match (routed, waiting) {
        (true, _) => Work::Busy,
        (false, true) if !Mutant::NoWakeToTake.on() => work.max(Work::Spin),
        (false, _) => work,
    }
}

/// Something is to be sent: the reactor must not sleep over it.
fn soil(dirty: &mut bool, cx: &mut Cx) {
    *dirty = true;
    if !Mutant::NoWakeToSend.on() {
        let now = cx.now();
        cx.wake_at(now);
    }
}
