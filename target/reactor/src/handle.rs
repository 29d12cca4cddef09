//! Messages to a reactor from any thread.

use crate::poller::{Poller, PollerId};
use crate::stats::ReactorStats;
use crate::{Reactor, ReactorId};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use tgt_env::clock::Ticks;
use tgt_ring::{Doorbell, Outbox};

/// A closure that a reactor runs on itself, once, between two turns. Must not block.
pub(crate) type Message = Box<dyn FnOnce(&mut Reactor) + Send>;

/// A reactor as other threads see it. Clone freely.
#[derive(Clone)]
pub struct Handle {
    pub(crate) id: ReactorId,
    pub(crate) core: u32,
    pub(crate) outbox: Outbox<Message>,
    pub(crate) stats: Arc<ReactorStats>,
}

/// Why a reactor did not answer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CallError {
    /// Its inbox is full: it is far behind, or stuck.
    #[error("{0} has {1} messages waiting and takes no more; is its core starved?")]
    Full(ReactorId, usize),
    /// It did not answer in time. The message may still run.
    #[error("{0} did not answer within {1:?}; is its core starved?")]
    TimedOut(ReactorId, Duration),
    /// It has stopped.
    #[error("{0} has stopped")]
    Stopped(ReactorId),
}

impl Handle {
    /// Messages an inbox holds.
    pub const INBOX_CAPACITY: usize = 1024;

    /// How long control threads wait for a reactor's answer before they report it.
    pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

    /// Which reactor this is.
    #[must_use]
    pub fn id(&self) -> ReactorId {
        self.id
    }

    /// The core it is pinned to.
    #[must_use]
    pub fn core(&self) -> u32 {
        self.core
    }

    /// Its counters.
    #[must_use]
    pub fn stats(&self) -> &ReactorStats {
        &self.stats
    }

    /// Its bell, for links towards it.
    #[must_use]
    pub fn bell(&self) -> &Arc<Doorbell> {
        self.outbox.bell()
    }

    /// Sets how long it stays idle before it sleeps; none: it never sleeps.
    pub fn set_spin(&self, spin: Option<Duration>) {
        self.stats.spin.store(spin.map_or(Ticks::NEVER, Ticks::from_duration).0, Relaxed);
        // So that one that sleeps for ever notices.
        let _ = self.send(|_| ());
    }

    /// Runs `message` on the reactor, some time soon. Never blocks.
    pub fn send(&self, message: impl FnOnce(&mut Reactor) + Send + 'static) -> Result<(), CallError> {
        if self.stats.is_stopped() {
            return Err(CallError::Stopped(self.id));
        }
        let full = |_| CallError::Full(self.id, Handle::INBOX_CAPACITY);
        self.outbox.send(Box::new(message)).map_err(full)
    }

    /// Runs `question` on the reactor and waits for its answer, `CALL_TIMEOUT` at most. Control threads only:
    /// panics on a reactor's thread, because two reactors waiting for each other would never end.
    pub fn call<A: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Reactor) -> A + Send + 'static,
    ) -> Result<A, CallError> {
        self.call_within(Handle::CALL_TIMEOUT, question)
    }

    /// As [`Handle::call`], with a bound of the caller's.
    pub fn call_within<A: Send + 'static>(
        &self,
        timeout: Duration,
        question: impl FnOnce(&mut Reactor) -> A + Send + 'static,
    ) -> Result<A, CallError> {
        assert!(!crate::start::on_reactor_thread(), "a reactor must not wait for a reactor");
        let (reply, answer) = sync_channel(1);
        self.send(move |reactor| {
            // The asker may have given up: then nobody wants the answer.
            let _ = reply.send(question(reactor));
        })?;
        answer.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => CallError::TimedOut(self.id, timeout),
            RecvTimeoutError::Disconnected => CallError::Stopped(self.id),
        })
    }

    /// Adds a poller that `make` builds on the reactor's thread.
    pub fn spawn<P: Poller + 'static>(
        &self,
        make: impl FnOnce(&mut Reactor) -> P + Send + 'static,
    ) -> Result<PollerId, CallError> {
        self.call(move |reactor| {
            let poller = make(reactor);
            reactor.cx().spawn(Box::new(poller), None)
        })
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on core {}", self.id, self.core)
    }
}
