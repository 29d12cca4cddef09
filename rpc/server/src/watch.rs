//! What the accepting thread waits for: somebody connects, or hangs up.
//!
//! Hanging up is closing the socket, or shutting down both its directions. A client that only says that nothing more
//! comes from it (`shutdown(SHUT_WR)`, which the kernel calls RDHUP) still waits for its answers.

use crate::connections::CONNECTIONS_MAX;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// Stands for the listener; connections count from 0.
const LISTENER: u64 = u64::MAX;
/// All that can happen at once: each connection tells once, and only those in the table have not told yet.
const EVENTS_MAX: usize = CONNECTIONS_MAX + 1;

/// An epoll of the listener and all connections. It wakes nobody while nothing happens.
pub(crate) struct Watch {
    epoll: OwnedFd,
}

impl Watch {
    /// Of the listener; it must not block.
    pub(crate) fn new(listener: &UnixListener) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { epoll })
    }

    /// Of a connection too, for as long as it is open. Its hanging up is told once.
    pub(crate) fn add(&self, stream: &UnixStream, id: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, stream, EventData::new_u64(id), EventFlags::HUP | EventFlags::ONESHOT)?)
    }

    /// Waits until something happens. Tells `hung_up` of all that hung up; returns whether somebody connects.
    pub(crate) fn wait(&self, mut hung_up: impl FnMut(u64)) -> io::Result<bool> {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS_MAX];
        let (events, _) = epoll::wait(&self.epoll, &mut events, None)?;
        let mut connects = false;
        for event in events {
            // Copied: the struct is packed.
            let data = event.data;
            match data.u64() {
                LISTENER => connects = true,
                id => hung_up(id),
            }
        }
        Ok(connects)
    }
}
