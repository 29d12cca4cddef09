//! The transport's limits, and listeners.

use super::IO_SIZE_MAX;
use super::keys::HeldKey;
use super::{Sessions, SessionsError};
use crate::frame::DEPTH_MAX;
use crate::hub::{Hub, PortSpec};
use crate::server::{GateConfig, ServerConfig};
use crate::tcp::{DoorFigures, DoorNo};
use std::net::SocketAddr;
use std::sync::Arc;
use tgt_sock::ListenOn;

/// Least memory for data that requests hold at a time; beyond it they wait.
const MEMORY: u64 = 64 << 20;

/// What a server allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportSpec {
    /// Requests that a lane may have under way.
    pub max_queue_depth: u16,
    /// Most bytes of data in one.
    pub max_io_size: u32,
}

impl Default for TransportSpec {
    fn default() -> Self {
        let limits = ServerConfig::default().limits;
        Self { max_queue_depth: limits.depth, max_io_size: limits.data_max }
    }
}

/// A listener to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerSpec {
    /// Where.
    pub address: SocketAddr,
    /// The name of the key that all who come must have.
    pub key: Option<String>,
    /// Digests of data, even if the client does not ask for them.
    pub digest: bool,
    /// Which reactor; `None`: the first.
    pub reactor: Option<u32>,
}

/// A listener.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) key: Option<HeldKey>,
    pub(super) reactor: u32,
    /// It was asked for by name.
    reactor_asked: Option<u32>,
    digest: bool,
    pub(super) door: DoorNo,
}

/// What is known of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerInfo {
    /// As it was asked for.
    pub spec: ListenerSpec,
    /// Where it is.
    pub reactor: u32,
    /// Why its key cannot be read now.
    pub key_fault: Option<String>,
    /// Connections that came through it and are up, on all reactors.
    pub connections: usize,
    /// How it fares; `None` if its reactor has none of it.
    pub figures: Option<DoorFigures>,
}

impl Sessions {
    /// Sets what the server allows; once, and before the first listener.
    ///
    /// # Errors
    /// Out of range; too late.
    pub fn create_transport(&self, depth: Option<u32>, io_size: Option<u64>) -> Result<(), SessionsError> {
        let usual = TransportSpec::default();
        let depth = depth.unwrap_or(usual.max_queue_depth.into());
        let bytes = io_size.unwrap_or(usual.max_io_size.into());
        let max_queue_depth = u16::try_from(depth)
            .ok()
            .filter(|depth| (1..=DEPTH_MAX).contains(depth))
            .ok_or(SessionsError::Depth { depth })?;
        let max_io_size = u32::try_from(bytes)
            .ok()
            .filter(|bytes| (4096..=IO_SIZE_MAX).contains(bytes) && bytes % 4096 == 0)
            .ok_or(SessionsError::IoSize { bytes })?;
        let mut state = self.state();
        if let Some(TransportSpec { max_queue_depth: depth, max_io_size: bytes }) = state.transport {
            return Err(SessionsError::TransportExists { depth, bytes });
        }
        if state.listened {
            return Err(SessionsError::TransportLate);
        }
        state.transport = Some(TransportSpec { max_queue_depth, max_io_size });
        Ok(())
    }

    /// What [`Self::create_transport`] has set, if it was called.
    #[must_use]
    pub fn transport(&self) -> Option<TransportSpec> {
        self.state().transport
    }

    /// Listens. Blocks until it does.
    ///
    /// # Errors
    /// A wrong address, port or key; what the system refuses.
    pub fn add_listener(&self, spec: &ListenerSpec) -> Result<(), SessionsError> {
        let _change = self.change();
        let address = spec.address;
        if address.port() == 0 {
            return Err(SessionsError::PortZero);
        }
        if self.state().listeners.iter().any(|listener| listener.address == address) {
            return Err(SessionsError::ListenerExists { address });
        }
        if spec.key.is_none() && !self.insecure && !address.ip().to_canonical().is_loopback() {
            return Err(SessionsError::KeyNeeded { address });
        }
        let reactor = self.reactor_for(spec.reactor)?;
        let (key, secret) = self.key(spec.key.as_deref())?;
        let transport = self.state().transport.unwrap_or_default();
        let mut config = ServerConfig::default();
        config.limits.depth = transport.max_queue_depth;
        config.limits.data_max = transport.max_io_size;
        let memory_max = MEMORY.max(4 * u64::from(transport.max_io_size));
        let digest = spec.digest;
        let gate = GateConfig {
            insecure: self.insecure,
            digest,
            ..GateConfig::new(self.host, Arc::new(secret.get()))
        };
        let notes = Some(self.notes.clone());
        let port = PortSpec { config, memory_max, spread: true, notes };
        let listen = move |reactor: &mut tgt_reactor::Reactor| {
            let hub = Hub::of(reactor.cx());
            hub.listen(reactor.cx(), &port, gate, &ListenOn::new(address))
        };
        let (door, _) = self.reactors[reactor as usize].call(listen)??;
        let mut state = self.state();
        state.listened = true;
        state.listeners.push(Listener { address, key, reactor, reactor_asked: spec.reactor, digest, door });
        tracing::info!(%address, reactor, key = spec.key, "listening for sessions");
        Ok(())
    }

    /// Ends a listener and the connections that came through it.
    ///
    /// # Errors
    /// There is none.
    pub fn remove_listener(&self, address: SocketAddr) -> Result<(), SessionsError> {
        let _change = self.change();
        let (reactor, door) = {
            let state = self.state();
            let Some(listener) = state.listeners.iter().find(|listener| listener.address == address) else {
                let have: Vec<String> = state.listeners.iter().map(|l| l.address.to_string()).collect();
                let have = if have.is_empty() {
                    "there is none".to_owned()
                } else {
                    format!("there are {}", have.join(", "))
                };
                return Err(SessionsError::NoSuchListener { address, have });
            };
            (listener.reactor, listener.door)
        };
        // Its own reactor first: what that still sends to others is there before they are asked.
        self.reactors[reactor as usize].call(move |reactor| {
            let hub = Hub::of(reactor.cx());
            hub.stop_listening(reactor.cx(), door);
        })?;
        self.ask_hubs(move |hub, cx| hub.stop_listening(cx, door))?;
        self.state().listeners.retain(|listener| listener.address != address);
        tracing::info!(%address, "no longer listening for sessions");
        Ok(())
    }

    /// What listeners were asked for, in that order.
    #[must_use]
    pub fn listener_specs(&self) -> Vec<ListenerSpec> {
        self.state().listeners.iter().map(|listener| listener.info().spec).collect()
    }

    /// All listeners, in the order in which they were added.
    ///
    /// # Errors
    /// A reactor does not answer.
    pub fn listeners(&self) -> Result<Vec<ListenerInfo>, SessionsError> {
        let listed: Vec<(ListenerInfo, DoorNo)> = {
            let state = self.state();
            state.listeners.iter().map(|listener| (listener.info(), listener.door)).collect()
        };
        let fill = |(info, door): (ListenerInfo, DoorNo)| {
            let figures = self.reactors[info.reactor as usize].call(move |reactor| {
                let hub = reactor.cx().local::<Hub>()?;
                hub.listener_figures(door)
            })?;
            let connections = self.ask_hubs(move |hub, _| hub.came_through(door))?.into_iter().sum();
            Ok(ListenerInfo { figures, connections, ..info })
        };
        listed.into_iter().map(fill).collect()
    }

    /// Where a new listener goes; its connections go on to the reactors of their lanes.
    fn reactor_for(&self, asked: Option<u32>) -> Result<u32, SessionsError> {
        let (reactor, count) = (asked.unwrap_or(0), self.reactors.len() as u32);
        if reactor >= count {
            return Err(SessionsError::Reactor { reactor, accepted: format!("0 to {}", count - 1) });
        }
        Ok(reactor)
    }
}

impl Listener {
    fn info(&self) -> ListenerInfo {
        let key = self.key.as_ref().map(|key| key.name().to_owned());
        let key_fault = self.key.as_ref().and_then(|key| key.fault.clone());
        let (digest, reactor) = (self.digest, self.reactor_asked);
        let spec = ListenerSpec { address: self.address, key, digest, reactor };
        ListenerInfo { spec, reactor: self.reactor, key_fault, connections: 0, figures: None }
    }
}
