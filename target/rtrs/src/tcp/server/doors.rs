//! The listeners of a port, each with a gate of its own.

use super::{Outgoing, ServerPort};
use crate::frame::{Bye, ByeCause, Frame};
use crate::server::{Event as Happened, Gate, GateConfig, GateEvent, LaneRef};
use crate::{ConnId, Fault, Key};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tgt_reactor::Cx;
use tgt_sock::{ListenOn, ListenerId, SockError};

/// A listener of a port. Never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DoorNo(u32);

/// A listener and its gate.
pub(super) struct Door {
    pub(super) gate: Gate,
    listener: ListenerId,
    pub(super) address: SocketAddr,
    admitted: u64,
    refused: u64,
    last_refused: Option<(Fault, SocketAddr, SystemTime)>,
}

/// How a listener fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoorFigures {
    /// Connections that are up.
    pub connections: usize,
    /// Connections that proved themselves, so far.
    pub admitted: u64,
    /// Connections that did not, so far.
    pub refused: u64,
    /// The last of those: why, from where, when.
    pub last_refused: Option<(Fault, SocketAddr, SystemTime)>,
}

impl ServerPort {
    /// Listens at one more address.
    ///
    /// # Errors
    /// What the listener cannot have.
    pub fn add_listener(&mut self, gate: GateConfig, listen: &ListenOn) -> Result<DoorNo, SockError> {
        let listener = self.group.listen(listen)?;
        let address = self.group.listener_address(listener).expect("it listens");
        let gate = Gate::new(gate);
        self.doors.push(Some(Door { gate, listener, address, admitted: 0, refused: 0, last_refused: None }));
        Ok(DoorNo(self.doors.len() as u32 - 1))
    }

    /// Where a listener listens; `None` if it was removed.
    pub fn listener_address(&self, door: DoorNo) -> Option<SocketAddr> {
        Some(self.doors[door.0 as usize].as_ref()?.address)
    }

    /// From here on connections through a listener prove this key; those that are up stay.
    pub fn set_key(&mut self, door: DoorNo, key: Arc<Key>) {
        if let Some(door) = &mut self.doors[door.0 as usize] {
            door.gate.set_key(key);
        }
    }

    /// How a listener fares; `None` if it was removed.
    pub fn door_figures(&self, door: DoorNo) -> Option<DoorFigures> {
        let Door { admitted, refused, last_refused, .. } = *self.doors[door.0 as usize].as_ref()?;
        let connections = self.conns.iter().flatten().filter(|conn| conn.door == door && conn.proved).count();
        Some(DoorFigures { connections, admitted, refused, last_refused })
    }

    pub(super) fn count_admitted(&mut self, door: DoorNo) {
        if let Some(door) = &mut self.doors[door.0 as usize] {
            door.admitted += 1;
        }
    }

    pub(super) fn count_refused(&mut self, door: DoorNo, fault: Fault, peer: SocketAddr) {
        if let Some(door) = &mut self.doors[door.0 as usize] {
            door.refused += 1;
            door.last_refused = Some((fault, peer, SystemTime::now()));
        }
    }

    /// Ends a listener and the connections that came through it; the clients are told that it is by command. What a
    /// lane did is remembered for as long as ever, so one that has or finds another way in goes on.
    pub fn remove_listener(&mut self, cx: &mut Cx, door: DoorNo) {
        let Some(gone) = &self.doors[door.0 as usize] else { return };
        self.group.close_listener(gone.listener);
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
        self.doors[door.0 as usize] = None;
    }

    /// Where the connections of a lane come from.
    pub fn connections_of(&mut self, lane: LaneRef) -> Vec<SocketAddr> {
        let of_lane = self.conns.iter().flatten().filter(|conn| conn.lane == Some(lane));
        of_lane.filter_map(|conn| Some(self.group.stream(conn.stream)?.peer())).collect()
    }

    pub(super) fn door_of(&self, listener: ListenerId) -> Option<DoorNo> {
        let is_it = |door: &Option<Door>| door.as_ref().is_some_and(|door| door.listener == listener);
        self.doors.iter().position(is_it).map(|at| DoorNo(at as u32))
    }

    pub(super) fn gate_on(&mut self, cx: &Cx, door: DoorNo, event: GateEvent) {
        if let Some(door) = &mut self.doors[door.0 as usize] {
            door.gate.on(cx.now().as_ns(), event, &mut self.gate_actions);
        }
    }
}

/// The gate that a connection stands before; `None` if its listener was removed.
pub(super) fn gate(doors: &mut [Option<Door>], door: DoorNo) -> Option<&mut Gate> {
    Some(&mut doors[door.0 as usize].as_mut()?.gate)
}
