//! A controller as all threads share it.

use crate::options::AttachOptions;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tgt_reactor::{Handle, ReactorId};
use uuid::Uuid;

/// An association that is up, as IO queues need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Up {
    pub(crate) generation: u64,
    pub(crate) cntlid: u16,
    /// IO queues that the controller gives.
    pub(crate) io_queues: u16,
    /// Most data in a capsule, bytes.
    pub(crate) capsule: u32,
}

/// What a controller can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) serial: String,
    pub(crate) model: String,
    pub(crate) firmware: String,
    pub(crate) version: u32,
    /// Longest transfer, bytes.
    pub(crate) max_bytes: u32,
    /// Optional commands.
    pub(crate) oncs: u16,
    pub(crate) volatile_cache: bool,
    pub(crate) namespaces_max: u32,
}

/// A namespace as the controller lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) nsid: u32,
    pub(crate) uuid: Uuid,
    pub(crate) block_size: u32,
    pub(crate) blocks: u64,
}

/// A namespace that is a bdev.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) nsid: u32,
    pub(crate) uuid: Uuid,
    pub(crate) block_size: u32,
    pub(crate) blocks: AtomicU64,
    /// It is not there any more: nothing is sent to it.
    gone: AtomicBool,
}

impl Namespace {
    pub(crate) fn new(found: &Found) -> Namespace {
        Namespace {
            nsid: found.nsid,
            uuid: found.uuid,
            block_size: found.block_size,
            blocks: AtomicU64::new(found.blocks),
            gone: AtomicBool::new(false),
        }
    }

    /// Whether this is what the controller lists.
    pub(crate) fn is(&self, found: &Found) -> bool {
        (self.nsid, self.uuid, self.block_size) == (found.nsid, found.uuid, found.block_size)
            && found.blocks >= self.blocks.load(Acquire)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }
}

/// Where a controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Live,
    /// It waits to connect again.
    Waiting,
    /// It does not connect by itself any more.
    Failed,
    /// Nothing is left of it on the reactors.
    Ended,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) generation: u64,
    /// The controller's number for the last association.
    pub(crate) cntlid: u16,
    pub(crate) abilities: Abilities,
    pub(crate) known: Vec<Arc<Namespace>>,
    /// The newest list, and how many there were; how many of them the bdevs follow.
    pub(crate) found: Vec<Found>,
    pub(crate) listed: u64,
    pub(crate) applied: u64,
    pub(crate) last_error: Option<String>,
    /// It was lost for too long: to be detached.
    pub(crate) given_up: bool,
    /// Queue numbers by reactor.
    queues: Vec<ReactorId>,
    granted: u16,
}

pub(crate) struct Controller {
    pub(crate) no: usize,
    pub(crate) options: AttachOptions,
    pub(crate) host_id: [u8; 16],
    pub(crate) home: Handle,
    pub(crate) reactors: Arc<Vec<Handle>>,
    /// IO fails instead of waiting.
    pub(crate) failing: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    news: Mutex<Sender<Arc<Controller>>>,
}

impl Controller {
    pub(crate) fn new(
        no: usize,
        options: AttachOptions,
        reactors: &Arc<Vec<Handle>>,
        news: Sender<Arc<Controller>>,
    ) -> Controller {
        let home = reactors[no % reactors.len()].clone();
        let host_id = *Uuid::new_v5(&Uuid::NAMESPACE_OID, options.hostnqn.as_bytes()).as_bytes();
        let state = State {
            phase: Phase::Connecting,
            generation: 0,
            cntlid: 0,
            abilities: Abilities::default(),
            known: Vec::new(),
            found: Vec::new(),
            listed: 0,
            applied: 0,
            last_error: None,
            given_up: false,
            queues: Vec::new(),
            granted: 0,
        };
        Controller {
            no,
            options,
            host_id,
            home,
            reactors: reactors.clone(),
            failing: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: Condvar::new(),
            news: Mutex::new(news),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells who waits for it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `until` holds, `patience` at most; whether it does. Control threads.
    pub(crate) fn wait(&self, patience: Duration, mut until: impl FnMut(&State) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while !until(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Acquire)
    }

    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Release);
    }

    /// Takes a new list over. What is not on it as it was is gone before anybody sends to it again.
    pub(crate) fn list(self: &Arc<Self>, found: Vec<Found>) {
        self.change(|state| {
            for known in &state.known {
                if !found.iter().any(|found| known.is(found)) {
                    known.gone.store(true, Release);
                }
            }
            (state.found, state.listed) = (found, state.listed + 1);
        });
        self.tell();
    }

    /// Has the control side look at it.
    pub(crate) fn tell(self: &Arc<Self>) {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.send(self.clone()).is_err() {
            tracing::error!(
                controller = self.options.name,
                "nobody follows the namespaces of NVMe controllers any more"
            );
        }
    }

    /// The controller gives so many IO queues.
    pub(crate) fn grant(&self, queues: u16) {
        self.state().granted = queues.min(self.options.num_io_queues);
    }

    /// The number of a reactor's IO queue; `Err`: how many there are, all taken.
    pub(crate) fn queue_of(&self, reactor: ReactorId) -> Result<u16, u16> {
        let mut state = self.state();
        if let Some(at) = state.queues.iter().position(|other| *other == reactor) {
            return Ok(at as u16 + 1);
        }
        if state.queues.len() >= usize::from(state.granted) {
            return Err(state.granted);
        }
        state.queues.push(reactor);
        Ok(state.queues.len() as u16)
    }
}
