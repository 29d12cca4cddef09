//! The client's side of one lane.
//!
//! ```text
//!            first Welcome                      last path falls
//!   Down ───────────────────▶ Up ───────────────────────────────▶ Stalled
//!    ▲                        ▲ ◀─────────────────────────────────  │
//!    │                        │           a path comes up           │
//!    └────────────────────────┴──────── the life ends ──────────────┘
//! ```

mod event;
mod lane;
mod path;
mod permits;
mod requests;

pub use event::{
    Action, Answer, Ask, Event, Link, PathChange, PathState, Permit, SessionDead, Signs, SubmitError, Tag,
    UserNo,
};
pub use path::PathStats;
pub use requests::{Expected, SLOT_BYTES};

use crate::fault::{Death, Fault};
use crate::frame::{Bye, ByeCause, Frame, Hand, Limits};
use crate::hand::Key;
use crate::mutant::Mutant;
use crate::{ConnId, Id, Life, Now, PathNo, UserId};
use path::Path;
use permits::Permits;
use requests::Slot;

/// Most paths of a session.
pub const PATHS_MAX: usize = 64;

/// How a path is chosen for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests under way.
    #[default]
    MinInflight,
    /// The one whose beats come back soonest.
    MinLatency,
}

/// Who a lane is and what it keeps to. `docs/111-sessions.md` says why the numbers are what they are.
#[derive(Clone, Debug)]
pub struct Config {
    /// The session it belongs to.
    pub session: Id,
    /// The client's host.
    pub host: Id,
    /// Which lane of the session.
    pub lane: u16,
    /// How many it has.
    pub lanes: u16,
    /// Data digests wanted.
    pub digest: bool,
    /// Without a key, connect to where you like, and not to loopback only. The driver's to keep.
    pub insecure: bool,
    /// How a path is chosen.
    pub policy: Policy,
    /// Pause between beats with requests under way, ns.
    pub beat_busy_ns: Now,
    /// Without, ns.
    pub beat_idle_ns: Now,
    /// A ping without any byte in return for so long, ns: the connection is dead.
    pub detect_ns: Now,
    /// A hand-shake must end within, ns.
    pub hand_ns: Now,
    /// First pause before a path is tried again, ns.
    pub backoff_min_ns: Now,
    /// Longest, ns.
    pub backoff_max_ns: Now,
    /// Longest while requests may wait for it, no other path being up, ns.
    pub backoff_urgent_ns: Now,
    /// Then a path must be connected within this, or three round trips, ns.
    pub dial_urgent_ns: Now,
}

/// Tells the server that the life is to end.
fn goodbye(conn: ConnId) -> Action {
    Action::Send { conn, frame: Frame::Bye(Bye { life: true, why: ByeCause::Command }) }
}

impl Config {
    /// The usual numbers.
    pub fn new(session: Id, host: Id, lane: u16, lanes: u16) -> Self {
        const MS: Now = 1_000_000;
        Self {
            session,
            host,
            lane,
            lanes,
            digest: true,
            insecure: false,
            policy: Policy::default(),
            beat_busy_ns: 100 * MS,
            beat_idle_ns: 1_000 * MS,
            detect_ns: 650 * MS,
            hand_ns: 1_000 * MS,
            backoff_min_ns: 10 * MS,
            backoff_max_ns: 2_000 * MS,
            backoff_urgent_ns: 100 * MS,
            dial_urgent_ns: 250 * MS,
        }
    }
}

/// The life that a lane has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Living {
    life: Life,
    limits: Limits,
    /// The newest stamp of the server came then.
    stamped: Now,
    /// No path is up since, and what the last one fell to.
    stalled: Option<(Now, Fault)>,
    /// It is to end: nothing is sent any more, the server has been told or will be.
    ending: bool,
}

/// The client's side of one lane.
pub struct Client {
    config: Config,
    key: Key,
    now: Now,
    incarnation: u64,
    living: Option<Living>,
    /// The server's host, once proved.
    peer: Option<Id>,
    paths: Vec<Option<Path>>,
    /// Where round robin goes on.
    turn: usize,
    conns: u64,
    slots: Vec<Slot>,
    /// Requests that wait for a path.
    parked: u32,
    permits: Permits,
    retired: bool,
}

impl Client {
    /// A lane without paths.
    pub fn new(config: Config, key: Key) -> Self {
        let (paths, slots) = (Vec::new(), Vec::new());
        Self {
            config,
            key,
            now: 0,
            incarnation: 1,
            living: None,
            peer: None,
            paths,
            turn: 0,
            conns: 0,
            slots,
            parked: 0,
            permits: Permits::new(),
            retired: false,
        }
    }

    /// Something happened.
    pub fn on(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        match event {
            Event::Connected { conn, nonce } => self.on_connected(conn, nonce, out),
            Event::Frame { conn, frame } => self.on_frame(conn, frame, out),
            Event::Heard { conn } => {
                let now = self.now;
                if let Some(conn) = self.path_mut(conn).and_then(|path| path.current(conn)) {
                    conn.hear(now);
                }
            }
            Event::Looked { conn, signs } => self.on_looked(conn, signs, out),
            Event::Lost { conn, fault } => {
                if self.path_mut(conn).is_some() {
                    self.fall(PathNo(conn.0 as u16), fault, out);
                }
            }
            Event::Tick => self.on_tick(out),
        }
    }

    fn on_frame(&mut self, conn: ConnId, frame: Frame, out: &mut Vec<Action>) {
        let (now, no) = (self.now, PathNo(conn.0 as u16));
        let Some(path) = self.path_mut(conn) else { return };
        if let Some(conn) = path.current(conn) {
            conn.hear(now);
        }
        let result = match (frame, path.is_up()) {
            (Frame::Reply(reply), true) => self.on_reply(conn, reply, out),
            (Frame::Wait(at), true) => self.on_wait(conn, at),
            (Frame::Grant(at), true) => self.on_grant(conn, at, out),
            (Frame::Pong { stamp, echo }, true) => {
                path.pong(now, stamp, echo);
                self.stamped();
                Ok(())
            }
            (Frame::Bye(Bye { life: true, why }), true) => {
                let by_us = self.living.is_some_and(|living| living.ending);
                self.die(if by_us { Death::Command } else { Death::Peer(why) }, Some(no), out);
                Ok(())
            }
            (Frame::Bye(Bye { why, .. }), _) => Err(Fault::Peer(why)),
            (Frame::Hand(hand), false) => self.on_hand(no, *hand, out),
            _ => Err(Fault::Protocol("a frame that has no place at this point")),
        };
        if let Err(fault) = result {
            self.hang_up(no, fault, out);
        }
    }

    fn on_looked(&mut self, id: ConnId, signs: Signs, out: &mut Vec<Action>) {
        let (now, no) = (self.now, PathNo(id.0 as u16));
        let Some(path) = self.paths.get_mut(usize::from(no.0)).and_then(Option::as_mut) else { return };
        let Some(conn) = path.current(id) else { return };
        let signs = if Mutant::NoProgress.on() { Signs::default() } else { signs };
        if let Err(fault) = conn.look(now, signs, &self.config) {
            self.hang_up(no, fault, out);
        }
    }

    fn on_hand(&mut self, no: PathNo, hand: Hand, out: &mut Vec<Action>) -> Result<(), Fault> {
        match hand {
            Hand::Challenge(challenge) => self.on_challenge(no, challenge, out),
            Hand::Welcome(welcome) => self.on_welcome(no, welcome, out),
            Hand::Refuse(refuse) => self.on_refuse(no, refuse, out),
            Hand::Hello(_) | Hand::Proof(_) => {
                Err(Fault::Protocol("a frame of the client's came from the server"))
            }
        }
    }

    /// Adds a path, which is connected at the next tick. `None` if there are as many as there may be.
    pub fn add_path(&mut self, now: Now, id: Id) -> Option<PathNo> {
        self.now = self.now.max(now);
        let at = self.paths.iter().position(Option::is_none).unwrap_or(self.paths.len());
        if at == PATHS_MAX || self.paths.iter().flatten().any(|path| path.id == id) {
            return None;
        }
        if at == self.paths.len() {
            self.paths.push(None);
        }
        let no = PathNo(at as u16);
        self.paths[at] = Some(Path::new(id, no, self.now));
        Some(no)
    }

    /// Takes a path away; what was under way on it goes to the others.
    pub fn remove_path(&mut self, now: Now, no: PathNo, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        if self.paths.get(usize::from(no.0)).is_some_and(Option::is_some) {
            self.hang_up(no, Fault::Command, out);
            self.paths[usize::from(no.0)] = None;
        }
    }

    /// Tries all paths that are not up at once, whatever they fell to.
    pub fn reconnect(&mut self, now: Now) {
        self.now = self.now.max(now);
        let now = self.now;
        self.paths.iter_mut().flatten().for_each(|path| path.hurry(now));
    }

    /// Ends the life by command: no more requests are taken, and when the server has agreed, or its lease has run out,
    /// those under way fail and the life is dead. Paths are then connected for a new one.
    pub fn end_life(&mut self, now: Now, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        let Some(living) = &mut self.living else { return };
        if Mutant::EndAtOnce.on() {
            return self.die(Death::Command, None, out);
        }
        living.ending = true;
        for conn in self.ups().filter_map(|path| path.conn.as_ref()) {
            out.push(goodbye(conn.id));
        }
    }

    /// Ends the lane: its life as [`Self::end_life`] does, then its paths, which are not connected again.
    pub fn retire(&mut self, now: Now, out: &mut Vec<Action>) {
        self.retired = true;
        match self.living {
            Some(_) => self.end_life(now, out),
            None => self.drop_paths(out),
        }
    }

    /// Ends the lane at once, though a server that cannot be reached may still execute what it was sent: for a process that
    /// goes, and tells nobody how its requests ended.
    pub fn abandon(&mut self, now: Now, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        self.retired = true;
        self.die(Death::Command, None, out);
        self.drop_paths(out);
    }

    /// It was retired, and its life is over.
    pub fn is_over(&self) -> bool {
        self.retired && self.living.is_none()
    }

    /// What came on a connection cannot be believed: it is closed.
    pub fn distrust(&mut self, now: Now, conn: ConnId, fault: Fault, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        if self.path_mut(conn).is_some() {
            self.hang_up(PathNo(conn.0 as u16), fault, out);
        }
    }

    /// From here on connections prove this key; those that are up stay.
    pub fn set_key(&mut self, key: Key) {
        self.key = key;
    }

    /// Changes how a path is chosen.
    pub fn set_policy(&mut self, policy: Policy) {
        self.config.policy = policy;
    }

    /// Adds a user; `id` travels with its requests.
    pub fn attach(&mut self, id: UserId) -> UserNo {
        self.permits.attach(id)
    }

    /// Takes a user away; `false` if it still has permits or requests under way.
    pub fn detach(&mut self, user: UserNo) -> bool {
        self.permits.detach(user)
    }

    /// The life there is, if any and if it is not about to end.
    pub fn life(&self) -> Option<(Life, Limits)> {
        self.living.filter(|living| !living.ending).map(|living| (living.life, living.limits))
    }

    /// Lives there were, the present one included, and one more if there is none: what a hand-shake names.
    pub fn incarnation(&self) -> crate::Incarnation {
        crate::Incarnation(self.incarnation)
    }

    /// The server's host, as it proved it.
    pub fn peer(&self) -> Option<Id> {
        self.peer
    }

    /// State and figures of each path.
    pub fn paths(&self) -> impl Iterator<Item = (PathNo, Id, PathState, PathStats)> {
        self.paths.iter().flatten().map(|path| (path.no, path.id, path.state, path.stats))
    }

    /// Users attached, and requests and permits they hold.
    pub fn users(&self) -> (u32, u32) {
        (self.permits.attached(), self.permits.held())
    }

    /// Users that wait for a permit.
    pub fn waiting_users(&self) -> u32 {
        self.permits.waiting()
    }

    fn ups(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().flatten().filter(|path| path.is_up())
    }

    fn path(&mut self, no: PathNo) -> &mut Path {
        self.paths[usize::from(no.0)].as_mut().expect("a path that is there")
    }

    /// The path whose connection is `conn`; `None` for one that was closed.
    fn path_mut(&mut self, conn: ConnId) -> Option<&mut Path> {
        let path = self.paths.get_mut(conn.0 as usize & 0xffff)?.as_mut()?;
        path.current(conn).is_some().then_some(path)
    }

    /// # Panics
    /// If what one side can see alone is not as it must be.
    pub fn check(&self) {
        self.permits.check();
        let depth = self.living.map_or(0, |living| usize::from(living.limits.depth));
        assert_eq!(depth, self.slots.len(), "slots of the life");
        self.check_slots();
        for path in self.paths.iter().flatten() {
            assert_eq!(
                path.conn.is_none(),
                matches!(path.state, PathState::Waiting { .. }),
                "{:?}",
                path.state
            );
            assert!(!path.is_up() || self.living.is_some(), "a path is up without a life");
        }
        if let Some(living) = self.living {
            assert_eq!(living.stalled.is_some(), self.ups().next().is_none(), "stalled without an up path");
        }
    }
}
