//! A controller, as far as its queues share it. What its host sees of it is the admin queue's (`crate::control`).

use super::{Life, Listener, Subsystem};
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tgt_nvme::log::ErrorEntry;
use tgt_reactor::ReactorId;

/// Entries of the error log.
pub(crate) const ERRORS_MAX: usize = 16;
/// Changed namespaces that are named; beyond that the list says "more than fit".
const CHANGED_MAX: usize = 1024;

/// What a controller is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerKind {
    /// IO.
    Io,
    /// Discovery.
    Discovery,
}

/// Where a queue is: its reactor, and its connection there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueAt {
    /// Reactor.
    pub reactor: ReactorId,
    /// The portal's number for the connection.
    pub conn: u64,
}

/// What a queue did, counted by its reactor alone.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Read commands.
    pub reads: AtomicU64,
    /// Write commands.
    pub writes: AtomicU64,
    /// Bytes read.
    pub read_bytes: AtomicU64,
    /// Bytes written.
    pub written_bytes: AtomicU64,
}

impl QueueStats {
    /// Adds to a counter that only the caller's thread writes.
    #[inline]
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.store(counter.load(Relaxed) + count, Relaxed);
    }
}

/// Sums over a controller's queues, those that are gone included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Read commands.
    pub reads: u64,
    /// Write commands.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Errors logged.
    pub errors: u64,
}

/// A queue of a controller.
#[derive(Clone, Debug)]
pub struct QueueInfo {
    /// 0: the admin queue.
    pub qid: u16,
    /// Where it is.
    pub at: QueueAt,
    /// Whether it lives.
    pub life: Arc<Life>,
    /// What it did.
    pub stats: Arc<QueueStats>,
    /// The host's end.
    pub peer: SocketAddr,
}

/// A controller: one host's view of one subsystem, over one listener.
#[derive(Debug)]
pub struct Controller {
    /// Its number in the subsystem.
    pub cntlid: u16,
    /// What it is for.
    pub kind: ControllerKind,
    /// Its subsystem.
    pub subsystem: Arc<Subsystem>,
    /// The host's name.
    pub host_nqn: String,
    /// Who the host is beside that.
    pub host_id: [u8; 16],
    /// Where the host came in; none for discovery.
    pub listener: Option<Arc<Listener>>,
    /// IO queues may connect.
    enabled: AtomicBool,
    dead: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queues: Vec<QueueInfo>,
    /// Sums of queues that are gone.
    gone: Totals,
    errors: VecDeque<ErrorEntry>,
    changed: BTreeSet<u32>,
    /// Events that the admin queue has not looked at.
    news: u32,
}

impl Controller {
    pub(super) fn new(
        cntlid: u16,
        kind: ControllerKind,
        subsystem: Arc<Subsystem>,
        host: (String, [u8; 16]),
        listener: Option<Arc<Listener>>,
    ) -> Controller {
        let (enabled, dead) = (AtomicBool::new(false), AtomicBool::new(false));
        let (host_nqn, host_id) = host;
        Controller {
            cntlid,
            kind,
            subsystem,
            host_nqn,
            host_id,
            listener,
            enabled,
            dead,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether IO queues may connect.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(SeqCst) && !self.is_dead()
    }

    /// The host enables or disables it.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, SeqCst);
    }

    /// It has ended.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead.load(SeqCst)
    }

    /// Adds a queue. False if it has a live one of this number, or has ended.
    pub fn add_queue(&self, queue: QueueInfo) -> bool {
        let mut state = self.state();
        // Looked at under the lock under which queues are ended: one that is added is ended with the others.
        if self.is_dead() || state.queues.iter().any(|other| other.qid == queue.qid && !other.life.is_over())
        {
            return false;
        }
        state.queues.push(queue);
        true
    }

    /// Takes a queue out of which nothing is left.
    pub fn remove_queue(&self, at: QueueAt) {
        let mut state = self.state();
        if let Some(index) = state.queues.iter().position(|queue| queue.at == at) {
            let queue = state.queues.remove(index);
            state.gone.add(&queue.stats);
        }
    }

    /// Ends the lives of all its queues at once, and its own. Where they are, for their reactors to be told; nothing the second time.
    #[must_use]
    pub fn end(&self) -> Vec<QueueAt> {
        let state = self.state();
        if self.dead.swap(true, SeqCst) {
            return Vec::new();
        }
        end_lives(state.queues.iter())
    }

    /// Ends the lives of its IO queues. Where they are.
    #[must_use]
    pub fn end_io_queues(&self) -> Vec<QueueAt> {
        end_lives(self.state().queues.iter().filter(|queue| queue.qid > 0))
    }

    /// Its queues, dead ones that have not drained included.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueInfo> {
        self.state().queues.clone()
    }

    /// Where its admin queue is.
    #[must_use]
    pub fn admin_queue(&self) -> Option<QueueAt> {
        self.state().queues.iter().find(|queue| queue.qid == 0).map(|queue| queue.at)
    }

    /// Something happened that the host may want to know: bits of [`tgt_nvme::feature::event`], and a namespace.
    pub fn note(&self, event: u32, nsid: Option<u32>) {
        let mut state = self.state();
        state.news |= event;
        if let Some(nsid) = nsid
            && state.changed.len() <= CHANGED_MAX
        {
            state.changed.insert(nsid);
        }
    }

    /// Takes the events since the last call.
    #[must_use]
    pub fn take_news(&self) -> u32 {
        std::mem::take(&mut self.state().news)
    }

    /// Takes the list of changed namespaces: 1024 at most; `[ffffffffh]` for more.
    #[must_use]
    pub fn take_changed(&self) -> Vec<u32> {
        let changed = std::mem::take(&mut self.state().changed);
        if changed.len() > CHANGED_MAX {
            return vec![u32::MAX];
        }
        changed.into_iter().collect()
    }

    /// Adds to the error log; its number is set here.
    pub fn log_error(&self, mut entry: ErrorEntry) {
        let mut state = self.state();
        state.gone.errors += 1;
        entry.count.set(state.gone.errors);
        if state.errors.len() == ERRORS_MAX {
            state.errors.pop_back();
        }
        state.errors.push_front(entry);
    }

    /// The error log, newest first.
    #[must_use]
    pub fn errors(&self) -> Vec<ErrorEntry> {
        self.state().errors.iter().copied().collect()
    }

    /// Sums over all its queues.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let state = self.state();
        let mut totals = state.gone;
        state.queues.iter().for_each(|queue| totals.add(&queue.stats));
        totals
    }
}

fn end_lives<'a>(queues: impl Iterator<Item = &'a QueueInfo>) -> Vec<QueueAt> {
    let live = queues.filter(|queue| !queue.life.is_over());
    live.inspect(|queue| queue.life.end()).map(|queue| queue.at).collect()
}

impl Totals {
    fn add(&mut self, stats: &QueueStats) {
        self.reads += stats.reads.load(Relaxed);
        self.writes += stats.writes.load(Relaxed);
        self.read_bytes += stats.read_bytes.load(Relaxed);
        self.written_bytes += stats.written_bytes.load(Relaxed);
    }
}
