//! Listeners: new streams, a bounded number per turn.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use tgt_env::clock::Ticks;

use crate::conn::{Conn, Phase};
use crate::error::remedy_of;
use crate::event::Told;
use crate::table::{ListenerId, Subject};
use crate::{Group, SockError, socket};

/// Connections accepted of one listener in one turn.
const ACCEPTS_PER_TURN: usize = 16;

/// How long a listener rests that lacks descriptors or memory.
const REST: Duration = Duration::from_millis(100);

pub(crate) struct Listener {
    pub(crate) fd: OwnedFd,
    pub(crate) local: SocketAddr,
}

/// What the next connection is.
enum Next {
    Taken,
    /// None waits.
    Nothing,
    /// It was given up before it was accepted.
    Lost,
}

impl Group {
    /// Accepts what waits at one listener, up to the bound.
    pub(crate) fn accept(&mut self, id: ListenerId) {
        self.busy = true;
        for _ in 0..ACCEPTS_PER_TURN {
            if self.conns.len() >= self.shared.options.streams_max as usize {
                self.starved.push(id);
                return;
            }
            match self.accept_one(id) {
                Ok(Next::Taken | Next::Lost) => {}
                Ok(Next::Nothing) => return self.listen_again(id),
                Err(error) => {
                    self.shared.told.push_back(Told::AcceptFailed(id, error));
                    let when = self.shared.now + Ticks::from_duration(REST);
                    self.shared.deadlines.push((when, Subject::Listener(id)));
                    return;
                }
            }
        }
        // There may be more, for the next turn.
        self.accept_later.push(id);
    }

    fn accept_one(&mut self, id: ListenerId) -> Result<Next, SockError> {
        let Some(listener) = self.listeners.get(id.0) else { return Ok(Next::Nothing) };
        match socket::accept(&listener.fd) {
            Ok((fd, peer)) => {
                let stream = self.add(Conn::new(fd, peer, Phase::Open), EventFlags::empty())?;
                self.shared.told.push_back(Told::Accepted(id, stream));
                Ok(Next::Taken)
            }
            Err(Errno::AGAIN) => Ok(Next::Nothing),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                let (address, source) = (listener.local, io::Error::from(errno));
                Err(SockError::Socket { address, remedy: remedy_of(&source), source })
            }
            // accept(2): errors of the connection that was to be taken; the next may be fine.
            Err(_) => Ok(Next::Lost),
        }
    }

    fn listen_again(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get(id.0) else { return };
        if let Err(source) = self.shared.watch.arm_again(&listener.fd, Subject::Listener(id), EventFlags::IN)
        {
            self.shared.told.push_back(Told::AcceptFailed(id, crate::watch::refusal(source)));
            let when = self.shared.now + Ticks::from_duration(REST);
            self.shared.deadlines.push((when, Subject::Listener(id)));
        }
    }
}
