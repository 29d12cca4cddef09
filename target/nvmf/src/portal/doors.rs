//! Listeners, and connections on their way to the reactor where they stay.

use super::conn::{Conn, Next, Phase};
use super::{Core, Inner, Portal};
use crate::codec::Expect;
use crate::codec::encode::Agreed;
use std::collections::VecDeque;
use std::net::SocketAddr;
use tgt_bdev::Cx;
use tgt_sock::{Cause, Detached, Group, ListenOn, ListenerId, SockError, SocketOptions, Stream, StreamId};

/// Turns in which a connection that is to move may be in the way of it; then it is closed, and the host tries again.
const MOVE_TRIES: u32 = 1000;

/// A listener.
pub(super) struct Door {
    pub(super) listener: ListenerId,
    /// As it was asked for.
    address: SocketAddr,
}

/// A connection that was accepted here and is to live elsewhere.
pub(super) struct Moving {
    stream: StreamId,
    pub(super) reactor: usize,
    door: SocketAddr,
    peer: SocketAddr,
    local: SocketAddr,
    tries: u32,
}

impl Inner {
    pub(super) fn listen(&mut self, address: SocketAddr) -> Result<SocketAddr, SockError> {
        let listener = self.group.listen(&ListenOn::new(address))?;
        let bound = self.group.listener_address(listener).unwrap_or(address);
        self.core.doors.push(Door { listener, address: bound });
        Ok(bound)
    }

    pub(super) fn unlisten(&mut self, address: SocketAddr) {
        let Inner { group, core } = self;
        core.doors.retain(|door| {
            let stays = door.address != address;
            if !stays {
                group.close_listener(door.listener);
            }
            stays
        });
    }

    /// A connection that another reactor accepted.
    fn adopt(&mut self, detached: Detached, from: &Moving) {
        match self.group.adopt(detached, &SocketOptions::default()) {
            Ok(stream) if !self.core.leaving => {
                let no = self.core.add_conn(stream, from.door, from.peer, from.local);
                if let Some(mut stream) = self.group.stream(stream) {
                    stream.set_user(no);
                }
            }
            Ok(stream) => {
                self.core.tables.leave(self.core.own.0 as usize);
                if let Some(mut stream) = self.group.stream(stream) {
                    stream.abort();
                }
            }
            Err(error) => {
                // It is closed; the host tries again.
                self.core.tables.leave(self.core.own.0 as usize);
                tracing::warn!("a host's connection could not be taken over: {error}");
            }
        }
    }
}

impl Core {
    pub(super) fn accepted(&mut self, listener: ListenerId, mut stream: Stream<'_>) {
        let door = self.doors.iter().find(|door| door.listener == listener).map(|door| door.address);
        let (Some(door), Ok(local)) = (door, stream.local()) else {
            // Its listener has gone, or it has gone itself.
            stream.abort();
            return;
        };
        let (id, peer) = (stream.id(), stream.peer());
        let reactor = self.tables.place(self.own.0 as usize);
        if reactor == self.own.0 as usize {
            let no = self.add_conn(id, door, peer, local);
            stream.set_user(no);
        } else {
            self.moving.push(Moving { stream: id, reactor, door, peer, local, tries: 0 });
        }
    }

    /// Gives connections to their reactors.
    pub(super) fn move_on(&mut self, group: &mut Group) {
        for mut moving in std::mem::take(&mut self.moving) {
            match group.detach(moving.stream) {
                Some(detached) => self.hand_over(detached, moving),
                None if moving.tries < MOVE_TRIES && group.stream(moving.stream).is_some() => {
                    moving.tries += 1;
                    self.moving.push(moving);
                }
                None => {
                    self.tables.leave(moving.reactor);
                    if let Some(mut stream) = group.stream(moving.stream) {
                        stream.abort();
                    }
                }
            }
        }
    }

    fn hand_over(&mut self, detached: Detached, moving: Moving) {
        let reactor = moving.reactor;
        let sent = self.peers[reactor].send(move |reactor| {
            // Without a portal there it is dropped, which closes it.
            let _ = Portal::on(reactor.cx(), |portal, _: &mut Cx| {
                portal.inner.borrow_mut().adopt(detached, &moving);
            });
        });
        if let Err(error) = sent {
            self.tables.leave(reactor);
            tracing::warn!("a host's connection is closed, it will try again: {error}");
        }
    }

    pub(super) fn add_conn(
        &mut self,
        stream: StreamId,
        door: SocketAddr,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> u64 {
        let no = self.conns.reserve();
        self.conns.put(Box::new(Conn {
            no,
            stream,
            door,
            peer,
            local,
            phase: Phase::Fresh,
            expect: Expect::fresh(self.options.max_io_size),
            agreed: Agreed::default(),
            next: Next::Unit,
            queue: None,
            slots: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            listed: false,
            in_bdev: 0,
            closed: false,
        }));
        no
    }

    /// A stream has ended.
    pub(super) fn closed(&mut self, stream: StreamId, user: u64, cause: Cause) {
        if let Some(index) = self.moving.iter().position(|moving| moving.stream == stream) {
            let moving = self.moving.swap_remove(index);
            self.tables.leave(moving.reactor);
            return;
        }
        let Some(mut conn) = self.conns.take(user) else { return };
        if conn.phase != Phase::Dead {
            tracing::debug!("connection of {} has ended: {cause}", conn.peer);
        }
        conn.closed = true;
        self.conns.put(conn);
        self.doomed.push(user);
    }
}
