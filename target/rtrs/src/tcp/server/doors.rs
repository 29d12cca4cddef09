//! The listeners of a port, each with a gate of its own, and connections that move to the reactor of their lane.

use super::{Conn, Outgoing, ServerPort};
use crate::codec::{Expect, Side};
use crate::frame::{Bye, ByeCause, Frame};
use crate::pace::{self, Pace};
use crate::server::{Admission, Event as Happened, Gate, GateConfig, GateEvent, LaneRef, ServedStats};
use crate::{ConnId, Fault, Id, Key, crc32c};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::SystemTime;
use tgt_reactor::Cx;
use tgt_sock::{Detached, ListenOn, ListenerId, Progress, SockError, SocketOptions, StreamId};

/// Turns in which a connection that is to move may be in the way of it; then it is closed, and the client tries again.
const MOVE_TRIES: u32 = 1000;

/// A listener; one number in the whole process, as its connections may be on any reactor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DoorNo(u32);

impl DoorNo {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// A listener and its gate.
pub(super) struct Door {
    no: DoorNo,
    pub(super) gate: Gate,
    listener: ListenerId,
    pub(super) address: SocketAddr,
    socket: SocketOptions,
    admitted: u64,
    refused: u64,
    last_refused: Option<(Fault, SocketAddr, SystemTime)>,
}

/// How a listener fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoorFigures {
    /// Connections that proved themselves, so far.
    pub admitted: u64,
    /// Connections that did not, so far.
    pub refused: u64,
    /// The last of those: why, from where, when.
    pub last_refused: Option<(Fault, SocketAddr, SystemTime)>,
}

/// Which of how many reactors a port is on, of those that lanes are spread over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spread {
    /// This one.
    pub own: u32,
    /// All.
    pub count: u32,
}

/// A connection that proved itself and belongs to a lane of another reactor.
pub struct Stray {
    /// Where to.
    pub reactor: u32,
    admission: Box<Admission>,
    detached: Detached,
    door: DoorNo,
    socket: SocketOptions,
    digest: bool,
}

/// One that is still here.
pub(super) struct Moving {
    conn: ConnId,
    reactor: u32,
    admission: Box<Admission>,
    tries: u32,
}

/// A path of a lane at its server: the connection that it has now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServedPath {
    /// Where it comes from.
    pub from: SocketAddr,
    /// The path's name, given by the client.
    pub path: Id,
    /// What was counted of this connection.
    pub stats: ServedStats,
}

impl ServerPort {
    /// Listens at one more address.
    ///
    /// # Errors
    /// What the listener cannot have.
    pub fn add_listener(&mut self, gate: GateConfig, listen: &ListenOn) -> Result<DoorNo, SockError> {
        let listener = self.group.listen(listen)?;
        let address = self.group.listener_address(listener).expect("it listens");
        let (no, gate, socket) = (DoorNo::new(), Gate::new(gate), listen.socket.clone());
        let (admitted, refused, last_refused) = (0, 0, None);
        self.doors.push(Door { no, gate, listener, address, socket, admitted, refused, last_refused });
        Ok(no)
    }

    /// Where a listener listens; `None` if it is not one of this port.
    pub fn listener_address(&self, door: DoorNo) -> Option<SocketAddr> {
        Some(self.doors.iter().find(|there| there.no == door)?.address)
    }

    /// From here on connections through a listener prove this key; those that are up stay.
    pub fn set_key(&mut self, door: DoorNo, key: Arc<Key>) {
        if let Some(door) = self.door(door) {
            door.gate.set_key(key);
        }
    }

    /// How a listener fares; `None` if it is not one of this port.
    pub fn door_figures(&self, door: DoorNo) -> Option<DoorFigures> {
        let door = self.doors.iter().find(|there| there.no == door)?;
        let Door { admitted, refused, last_refused, .. } = *door;
        Some(DoorFigures { admitted, refused, last_refused })
    }

    /// Connections of this port that came through a listener, of whichever port.
    pub fn came_through(&self, door: DoorNo) -> usize {
        self.conns.iter().flatten().filter(|conn| conn.door == door && conn.proved).count()
    }

    /// Ends a listener, if it is one of this port, and the connections here that came through it; the clients are told
    /// that it is by command. What a lane did is remembered for as long as ever, so one that has or finds another way in
    /// goes on.
    pub fn remove_listener(&mut self, cx: &mut Cx, door: DoorNo) {
        if let Some(gone) = self.doors.iter().find(|there| there.no == door) {
            self.group.close_listener(gone.listener);
        }
        let came_in: Vec<(ConnId, bool)> =
            self.conns.iter().flatten().filter(|c| c.door == door).map(|c| (c.id, c.proved)).collect();
        for (conn, proved) in came_in {
            if proved {
                let fault = Fault::Command;
                self.engine.on(cx.now().as_ns(), Happened::Lost { conn, fault }, &mut self.actions);
                let bye = Frame::Bye(Bye { life: false, why: ByeCause::Command });
                self.send(cx, conn, Outgoing::Frame(bye));
                self.send(cx, conn, Outgoing::End);
            } else {
                self.closed(cx, conn, Fault::Command);
            }
        }
        self.act(cx);
        self.doors.retain(|there| there.no != door);
    }

    /// The connections of a lane.
    pub fn connections_of(&mut self, lane: LaneRef) -> Vec<ServedPath> {
        let of_lane = self.conns.iter().flatten().filter(|conn| conn.lane == Some(lane));
        of_lane
            .filter_map(|conn| {
                let from = self.group.stream(conn.stream)?.peer();
                let (path, stats) = self.engine.connection(conn.id)?;
                Some(ServedPath { from, path, stats })
            })
            .collect()
    }

    /// What was counted of a lane's life, on all connections that it had.
    pub fn stats_of(&self, lane: LaneRef) -> ServedStats {
        self.engine.stats(lane)
    }

    /// Lanes go to all of these reactors' ports from here on, each to the one that its session's name and its number
    /// say; [`Self::take_strays`] has the connections of others.
    pub fn set_spread(&mut self, spread: Spread) {
        self.spread = Some(spread);
    }

    /// Connections for other reactors' ports: asked for after each [`Self::end`], handed to [`Self::adopt`] there.
    pub fn take_strays(&mut self, cx: &mut Cx) -> Vec<Stray> {
        let mut strays = Vec::new();
        for mut moving in std::mem::take(&mut self.moving) {
            // It may have closed meanwhile.
            let Some(conn) = self.conn_mut(moving.conn) else { continue };
            let (stream, door, digest) = (conn.stream, conn.door, conn.digest);
            match self.group.detach(stream) {
                Some(detached) => {
                    let socket = self.door(door).map(|door| door.socket.clone()).unwrap_or_default();
                    self.conns[moving.conn.0 as u32 as usize] = None;
                    let Moving { reactor, admission, .. } = moving;
                    strays.push(Stray { reactor, admission, detached, door, socket, digest });
                }
                None if moving.tries < MOVE_TRIES => {
                    moving.tries += 1;
                    self.moving.push(moving);
                }
                None => self.closed(cx, moving.conn, Fault::HandShake),
            }
        }
        strays
    }

    /// Some are still here: another turn is needed.
    pub fn is_moving(&self) -> bool {
        !self.moving.is_empty()
    }

    /// Takes a connection over that another port let go.
    ///
    /// # Errors
    /// What its stream cannot have here. It is closed then, and the client tries again.
    pub fn adopt(&mut self, cx: &mut Cx, stray: Stray) -> Result<(), SockError> {
        let Stray { admission, detached, door, socket, digest, .. } = stray;
        let stream = self.group.adopt(detached, &socket)?;
        let id = self.place_conn(stream, door);
        let conn = self.conn_mut(id).expect("just placed");
        conn.digest = digest;
        self.admit(cx, id, admission);
        self.act(cx);
        Ok(())
    }

    /// The hand-shake of a connection is over: it is its lane's, here or on another reactor.
    pub(super) fn admitted(&mut self, cx: &mut Cx, conn: ConnId, admission: Box<Admission>) {
        let Some(door) = self.conn_mut(conn).map(|conn| conn.door) else { return };
        if let Some(door) = self.door(door) {
            door.admitted += 1;
        }
        let hello = &admission.hello;
        let name = crc32c(&hello.session.0).wrapping_add(hello.lane.into());
        match self.spread {
            Some(Spread { own, count }) if name % count != own => {
                self.moving.push(Moving { conn, reactor: name % count, admission, tries: 0 });
            }
            _ => self.admit(cx, conn, admission),
        }
    }

    fn admit(&mut self, cx: &mut Cx, conn: ConnId, admission: Box<Admission>) {
        let limits = self.server.limits;
        let Some(to) = self.conn_mut(conn) else { return };
        to.proved = true;
        let (digest, user_max, data_max) = (to.digest, limits.user_max, limits.data_max);
        to.expect = Expect { from: Side::Client, hand: false, digest, user_max, data_max };
        self.engine.on(cx.now().as_ns(), Happened::Admit { conn, admission }, &mut self.actions);
        let lane = self.engine.lane_of(conn);
        if let Some(to) = self.conn_mut(conn) {
            to.lane = lane;
        }
    }

    /// A place for a connection.
    pub(super) fn place_conn(&mut self, stream: StreamId, door: DoorNo) -> ConnId {
        let place = self.conns.iter().position(Option::is_none).unwrap_or(self.conns.len());
        if place == self.conns.len() {
            self.conns.push(None);
            self.turns.push(0);
        }
        self.turns[place] = self.turns[place].wrapping_add(1);
        let id = ConnId(u64::from(self.turns[place]) << 32 | place as u64);
        let expect = Expect::hand(Side::Client);
        let conn = Conn {
            id,
            stream,
            expect,
            digest: false,
            proved: false,
            door,
            lane: None,
            current: None,
            pace: Pace::new(pace::FLOOR),
            progress: Progress::default(),
            urgent: VecDeque::new(),
            backlog: VecDeque::new(),
        };
        self.conns[place] = Some(conn);
        if let Some(mut stream) = self.group.stream(stream) {
            stream.set_user(id.0);
        }
        id
    }

    pub(super) fn count_refused(&mut self, door: DoorNo, fault: Fault, peer: SocketAddr) {
        if let Some(door) = self.door(door) {
            door.refused += 1;
            door.last_refused = Some((fault, peer, SystemTime::now()));
        }
    }

    pub(super) fn door_of(&self, listener: ListenerId) -> Option<DoorNo> {
        Some(self.doors.iter().find(|door| door.listener == listener)?.no)
    }

    pub(super) fn gate_on(&mut self, cx: &Cx, door: DoorNo, event: GateEvent) {
        if let Some(door) = self.doors.iter_mut().find(|there| there.no == door) {
            door.gate.on(cx.now().as_ns(), event, &mut self.gate_actions);
        }
    }

    fn door(&mut self, door: DoorNo) -> Option<&mut Door> {
        self.doors.iter_mut().find(|there| there.no == door)
    }
}

/// The gate that a connection stands before; `None` if its listener was removed.
pub(super) fn gate(doors: &mut [Door], door: DoorNo) -> Option<&mut Gate> {
    Some(&mut doors.iter_mut().find(|there| there.no == door)?.gate)
}
