//! The server's side: a [`Gate`] for each listener, a [`Server`] for each reactor.
//!
//! ```text
//!                 created                  ended, users still have requests
//!   (unknown) ──────────────▶ serving ──────────────────────────────────────▶ draining ─▶ (unknown)
//!                                └───────────── ended, nothing under way ───────────────▲
//! ```

mod event;
mod gate;
mod lane;
mod record;
mod requests;

pub use event::{
    Action, Admission, Answered, Event, Execute, GateAction, GateEvent, LaneRef, Link, Place, ServedStats,
    Waiter,
};
pub use gate::{Gate, GateConfig};
pub use record::SLOT_BYTES;

use crate::fault::{Death, Fault};
use crate::frame::{Bye, Frame, Limits, Ping};
use crate::{ConnId, Id, Incarnation, Life, Now, SlotNo, SlotUse};
use record::{Slot, Unconfirmed};
use std::collections::{HashMap, VecDeque};

/// What a reactor's server keeps to. `docs/111-sessions.md` says why the numbers are what they are.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// What it allows on a lane; `lease_ns` is also how long a silent connection lives.
    pub limits: Limits,
    /// A lane without connection is remembered for, ns; more than 1.5 leases.
    pub keep_ns: Now,
    /// Most lanes on this reactor.
    pub lanes_max: usize,
    /// Most connections of one lane.
    pub paths_max: usize,
    /// How often it wants to look at its connections, ns.
    pub tick_ns: Now,
}

impl Default for ServerConfig {
    fn default() -> Self {
        const S: Now = 1_000_000_000;
        let limits = Limits { lease_ns: 3 * S, data_max: 1 << 20, user_max: 512, depth: 256 };
        Self { limits, keep_ns: 12 * S, lanes_max: 4096, paths_max: 64, tick_ns: S / 10 }
    }
}

/// One life of one lane.
struct Lane {
    session: Id,
    number: u16,
    host: Id,
    incarnation: Incarnation,
    life: Life,
    /// Over, but users still have requests of it.
    draining: bool,
    slots: Vec<Slot>,
    conns: Vec<ConnId>,
    /// Of the connections that are gone.
    gone: ServedStats,
    /// Requests that users have.
    executing: u32,
    /// Requests that wait for the lease alone.
    unleased: u32,
    /// Requests are executed before this.
    lease_until: Now,
    /// It has had no connection since.
    alone_since: Now,
    /// Slots that wait for memory.
    queue: VecDeque<SlotNo>,
}

/// A connection that is up.
struct Conn {
    id: ConnId,
    lane: LaneRef,
    path: Id,
    /// How-manieth of its path.
    number: u32,
    heard: Now,
    unconfirmed: Unconfirmed,
    stats: ServedStats,
}

/// All lanes whose connections end on one reactor.
pub struct Server {
    config: ServerConfig,
    now: Now,
    ticked: Now,
    /// By place; with how often the place was used.
    lanes: Vec<(u32, Option<Lane>)>,
    by_name: HashMap<(Id, u16), LaneRef>,
    /// By the low half of their numbers.
    conns: Vec<Option<Conn>>,
    /// Lanes with slots that wait for memory, in turn.
    hungry: VecDeque<LaneRef>,
}

impl Server {
    /// Nobody there yet.
    pub fn new(config: ServerConfig) -> Self {
        let (lanes, conns) = (Vec::new(), Vec::new());
        Self { config, now: 0, ticked: 0, lanes, by_name: HashMap::new(), conns, hungry: VecDeque::new() }
    }

    /// Something happened.
    pub fn on(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        match event {
            Event::Admit { conn, admission } => self.on_admit(conn, &admission, out),
            Event::Request { conn, request, buf } => self.on_request(conn, request, buf, out),
            Event::Frame { conn, frame } => self.on_frame(conn, frame, out),
            Event::Heard { conn } => {
                let now = self.now;
                if let Some(conn) = self.conn_mut(conn) {
                    conn.heard = now;
                }
            }
            Event::Bound { waiter, buf } => self.on_bound(waiter, buf, out),
            Event::Answer(answered) => self.on_answer(answered, out),
            Event::Lost { conn, fault } => self.drop_conn(conn, fault, false, out),
            Event::Tick => self.on_tick(out),
        }
    }

    fn on_frame(&mut self, id: ConnId, frame: Frame, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(conn) = self.conn_mut(id) else { return };
        conn.heard = now;
        let lane = conn.lane;
        match frame {
            Frame::Ping(ping) => self.on_ping(id, lane, ping, out),
            Frame::Seen(at) => self.on_seen(id, at, out),
            Frame::Bye(Bye { life: true, why }) => {
                // The answer is the client's proof that nothing more is executed.
                out.push(Action::Send { conn: id, frame: Frame::Bye(Bye { life: true, why }) });
                self.end_life(lane, Death::Peer(why), out);
            }
            Frame::Bye(Bye { why, .. }) => self.drop_conn(id, Fault::Peer(why), true, out),
            _ => self.drop_conn(id, Fault::Protocol("a frame that has no place at this point"), true, out),
        }
    }

    fn on_ping(&mut self, id: ConnId, lane: LaneRef, ping: Ping, out: &mut Vec<Action>) {
        if let Err(fault) = self.confirm(id, ping.seen, out) {
            return self.drop_conn(id, fault, true, out);
        }
        // A stamp from the future is nobody's: it proves no more than that the client is there now.
        self.renew(lane, ping.echo.min(self.now), out);
        let frame = Frame::Pong { stamp: self.now, echo: ping.stamp };
        out.push(Action::Send { conn: id, frame });
    }

    /// Ends a lane's life by command.
    pub fn end_by_command(&mut self, now: Now, lane: LaneRef, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        self.end_life(lane, Death::Command, out);
    }

    /// When [`Event::Tick`] is wanted next; `None` = not before something else happens.
    pub fn next_timeout(&self) -> Option<Now> {
        (!self.by_name.is_empty()).then_some(self.ticked + self.config.tick_ns)
    }

    /// Lanes there are, those that drain included.
    pub fn lanes(&self) -> usize {
        self.by_name.len()
    }

    /// Connections that are up.
    pub fn connections(&self) -> usize {
        self.conns.iter().flatten().count()
    }

    /// The lane that a connection belongs to.
    pub fn lane_of(&self, conn: ConnId) -> Option<LaneRef> {
        self.conn(conn).map(|conn| conn.lane)
    }

    /// The path that a connection is of, and what was counted of it.
    pub fn connection(&self, conn: ConnId) -> Option<(Id, ServedStats)> {
        self.conn(conn).map(|conn| (conn.path, conn.stats))
    }

    /// What was counted of a life so far, on all connections that it had.
    pub fn stats(&self, lane: LaneRef) -> ServedStats {
        let Some(lane) = self.lane(lane) else { return ServedStats::default() };
        let mut all = lane.gone;
        lane.conns.iter().filter_map(|&id| self.conn(id)).for_each(|conn| all.add(conn.stats));
        all
    }

    /// Is anything of this life left, be it only requests that users have?
    pub fn knows(&self, lane: LaneRef) -> bool {
        self.lane(lane).is_some()
    }

    /// Requests of this lane may begin before this; `None` = never, its life is over.
    pub fn lease_until(&self, lane: LaneRef) -> Option<Now> {
        self.lane(lane).filter(|lane| !lane.draining).map(|lane| lane.lease_until)
    }

    /// Is the answer of this use kept?
    pub fn is_answered(&self, lane: LaneRef, at: SlotUse) -> bool {
        let slot = self.lane(lane).and_then(|lane| lane.slots.get(usize::from(at.slot.0)));
        slot.is_some_and(|slot| slot.use_no == at.use_no && matches!(slot.state, record::State::Answered(..)))
    }

    fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id.0 as u32 as usize)?.as_ref().filter(|conn| conn.id == id)
    }

    fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.0 as u32 as usize)?.as_mut().filter(|conn| conn.id == id)
    }

    fn lane(&self, at: LaneRef) -> Option<&Lane> {
        self.lanes.get(at.at as usize).filter(|(turn, _)| *turn == at.turn)?.1.as_ref()
    }

    fn lane_mut(&mut self, at: LaneRef) -> Option<&mut Lane> {
        self.lanes.get_mut(at.at as usize).filter(|(turn, _)| *turn == at.turn)?.1.as_mut()
    }

    /// # Panics
    /// If what one side can see alone is not as it must be.
    pub fn check(&self) {
        assert_eq!(
            self.lanes.iter().filter(|(_, lane)| lane.is_some()).count(),
            self.by_name.len(),
            "lanes by name"
        );
        for (&(session, number), &at) in &self.by_name {
            let lane = self.lane(at).expect("a lane that is named is there");
            assert_eq!((lane.session, lane.number), (session, number), "a lane under its name");
            lane.check();
            for &id in &lane.conns {
                assert_eq!(self.conn(id).map(|conn| conn.lane), Some(at), "a lane's connection");
            }
        }
        for conn in self.conns.iter().flatten() {
            let lane = self.lane(conn.lane).expect("a connection has a lane");
            assert!(lane.conns.contains(&conn.id), "a connection is known to its lane");
            assert!(conn.unconfirmed.len() <= lane.slots.len(), "more answers than slots");
        }
    }
}
