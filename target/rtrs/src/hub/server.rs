//! The port of a reactor, and the service that serves its requests.

use super::figures::ServerLane;
use super::session::{Note, SessionKey};
use super::{Hub, HubError, begin_turn, end_turn, soil};
use crate::client::Answer as Counts;
use crate::frame::Refused;
use crate::server::{GateConfig, LaneRef, Link, ServerConfig};
use crate::tcp::{Answer, DoorFigures, DoorNo, Incoming, ServerEvent, ServerPort, Spread, Stray};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::SystemTime;
use tgt_reactor::{Cx, Work};
use tgt_sock::ListenOn;

/// A lane that has a life: the link that told of it, and when.
struct Up {
    lane: LaneRef,
    link: Link,
    since: SystemTime,
}

/// What a reactor's port is made with; the same on all reactors that share lanes.
#[derive(Clone)]
pub struct PortSpec {
    /// What lanes are allowed.
    pub config: ServerConfig,
    /// Most bytes of data memory that requests hold at a time; beyond that they wait.
    pub memory_max: u64,
    /// Lanes are spread over all reactors; else all that come in on a reactor stay there.
    pub spread: bool,
    /// Told of lanes.
    pub notes: Option<Sender<Note>>,
}

/// The server's half of a hub.
#[derive(Default)]
pub(super) struct Servers {
    port: Option<ServerPort>,
    /// For the service.
    queue: VecDeque<ServerEvent>,
    served: bool,
    up: Vec<Up>,
    made: Option<PortSpec>,
    /// Something was answered and is not sent.
    dirty: bool,
    closed: bool,
}

/// The server's side.
impl Hub {
    /// The caller serves the requests of other hosts that come to this reactor, from here on. It is told of each lane
    /// that is up before the lane's requests.
    ///
    /// # Errors
    /// [`HubError::Served`].
    pub fn serve(&self, cx: &mut Cx) -> Result<(), HubError> {
        let servers = &mut *self.servers.borrow_mut();
        if std::mem::replace(&mut servers.served, true) {
            return Err(HubError::Served);
        }
        servers.queue.extend(servers.up.iter().map(|up| ServerEvent::Link(up.link)));
        soil(&mut servers.dirty, cx);
        Ok(())
    }

    /// The caller serves no longer: what it did not take is refused, as is what comes. What it took it still answers.
    pub fn unserve(&self, cx: &mut Cx) {
        let servers = &mut *self.servers.borrow_mut();
        servers.served = false;
        for event in std::mem::take(&mut servers.queue) {
            if let ServerEvent::Request(incoming) = event {
                servers.refuse(cx, incoming);
            }
        }
    }

    /// What the service is to do, or is told, next.
    #[inline]
    #[must_use]
    pub fn next_incoming(&self) -> Option<ServerEvent> {
        self.servers.borrow_mut().queue.pop_front()
    }

    /// Ends a request that [`Hub::next_incoming`] gave. It goes out when the hub is polled next. On a lane that has ended
    /// meanwhile nobody gets it.
    #[inline]
    pub fn answer(&self, cx: &mut Cx, answer: Answer<'_>) {
        self.servers.borrow_mut().answer(cx, answer);
    }
}

/// For control threads, by way of a message.
impl Hub {
    /// Listens. The first call makes the reactor's port as `spec` says.
    ///
    /// # Errors
    /// What the sockets cannot have.
    pub fn listen(
        &self,
        cx: &mut Cx,
        spec: &PortSpec,
        gate: GateConfig,
        on: &ListenOn,
    ) -> Result<(DoorNo, SocketAddr), HubError> {
        let servers = &mut *self.servers.borrow_mut();
        let port = servers.port_for(cx, spec)?;
        let door = port.add_listener(gate, on)?;
        let address = port.listener_address(door).expect("just added");
        soil(&mut servers.dirty, cx);
        Ok((door, address))
    }

    /// Takes a connection over that came in on another reactor.
    fn adopt(&self, cx: &mut Cx, spec: &PortSpec, stray: Stray) {
        let servers = &mut *self.servers.borrow_mut();
        let adopted = servers.port_for(cx, spec).and_then(|port| Ok(port.adopt(cx, stray)?));
        if let Err(error) = adopted {
            tracing::warn!(%error, "a session's connection cannot go to the reactor of its lane");
        }
        soil(&mut servers.dirty, cx);
    }

    /// Ends a listener, if it is on this reactor, and the connections here that came through it.
    pub fn stop_listening(&self, cx: &mut Cx, door: DoorNo) {
        let servers = &mut *self.servers.borrow_mut();
        if let Some(port) = &mut servers.port {
            port.remove_listener(cx, door);
            soil(&mut servers.dirty, cx);
        }
    }

    /// From here on connections through a listener prove this key; those that are up stay.
    pub fn set_listener_key(&self, door: DoorNo, key: &SessionKey) {
        if let Some(port) = &mut self.servers.borrow_mut().port {
            port.set_key(door, Arc::new(key.get()));
        }
    }

    /// Connections on this reactor that came through a listener, of whichever reactor.
    #[must_use]
    pub fn came_through(&self, door: DoorNo) -> usize {
        self.servers.borrow().port.as_ref().map_or(0, |port| port.came_through(door))
    }

    /// How a listener of this reactor fares; `None` if it was removed.
    #[must_use]
    pub fn listener_figures(&self, door: DoorNo) -> Option<DoorFigures> {
        self.servers.borrow().port.as_ref()?.door_figures(door)
    }

    /// The lanes that clients have here.
    pub fn server_lanes(&self, cx: &Cx) -> Vec<ServerLane> {
        let servers = &mut *self.servers.borrow_mut();
        let Some(port) = &mut servers.port else { return Vec::new() };
        let lanes = servers.up.iter().filter_map(|up| {
            let Link::Up { lane, session, number, host, .. } = up.link else { return None };
            let (connections, stats) = (port.connections_of(lane), port.stats_of(lane));
            let (reactor, since) = (cx.id(), up.since);
            Some(ServerLane { lane, session, reactor, number, host, since, connections, stats })
        });
        lanes.collect()
    }
}

impl Servers {
    pub(super) fn turn(&mut self, cx: &mut Cx) -> Work {
        let Some(port) = &mut self.port else { return Work::Idle };
        begin_turn(port, &mut self.dirty, cx);
        let mut routed = false;
        while let Some(event) = self.port.as_mut().and_then(ServerPort::next) {
            routed = true;
            self.route(cx, event);
        }
        let waiting = !self.queue.is_empty();
        let port = self.port.as_mut().expect("it was there");
        let work = end_turn(port, cx, routed, waiting);
        if port.is_moving() { self.send_away(cx).max(work) } else { work }
    }

    /// Sends connections to the reactors of their lanes.
    fn send_away(&mut self, cx: &mut Cx) -> Work {
        let (Some(port), Some(spec)) = (&mut self.port, &self.made) else { return Work::Idle };
        for stray in port.take_strays(cx) {
            let (to, spec) = (cx.peers()[stray.reactor as usize].clone(), spec.clone());
            let sent = to.send(move |reactor| {
                let hub = Hub::of(reactor.cx());
                hub.adopt(reactor.cx(), &spec, stray);
            });
            if let Err(error) = sent {
                // The connection is closed with the message; the client tries again.
                tracing::warn!(%error, "a session's connection cannot go to the reactor of its lane");
            }
        }
        Work::Busy
    }

    fn port_for(&mut self, cx: &mut Cx, spec: &PortSpec) -> Result<&mut ServerPort, HubError> {
        if self.closed {
            return Err(HubError::Stopping);
        }
        if self.port.is_none() {
            let mut port = ServerPort::without_listener(cx, spec.config.clone(), spec.memory_max)?;
            if spec.spread {
                port.set_spread(Spread { own: cx.id().0, count: cx.peers().len() as u32 });
            }
            (self.port, self.made) = (Some(port), Some(spec.clone()));
        }
        Ok(self.port.as_mut().expect("just made"))
    }

    fn route(&mut self, cx: &mut Cx, event: ServerEvent) {
        match event {
            ServerEvent::Request(incoming) if !self.served => self.refuse(cx, incoming),
            ServerEvent::Request(_) => self.queue.push_back(event),
            ServerEvent::Link(link) => {
                match link {
                    Link::Up { lane, .. } => self.up.push(Up { lane, link, since: SystemTime::now() }),
                    Link::Down { lane, .. } => self.up.retain(|up| up.lane != lane),
                }
                if let Some(notes) = self.made.as_ref().and_then(|made| made.notes.as_ref()) {
                    // Nobody listens any more: the process stops.
                    let _ = notes.send(Note::Served { reactor: cx.id(), link });
                }
                if self.served {
                    self.queue.push_back(event);
                }
            }
        }
    }

    fn refuse(&mut self, cx: &mut Cx, incoming: Incoming) {
        let counts = Counts { result: Err(Refused::NoService), bytes: 0, user_len: 0 };
        self.answer(cx, Answer { incoming, counts, header: &[] });
    }

    fn answer(&mut self, cx: &mut Cx, answer: Answer<'_>) {
        if let Some(port) = &mut self.port {
            port.answer(cx, answer);
            soil(&mut self.dirty, cx);
        }
    }

    /// Cuts all. `true`: nothing is left.
    pub(super) fn close(&mut self, cx: &mut Cx) -> bool {
        self.closed = true;
        self.queue.clear();
        if let Some(port) = &mut self.port
            && port.close(cx)
        {
            self.port = None;
        }
        self.port.is_none()
    }
}
