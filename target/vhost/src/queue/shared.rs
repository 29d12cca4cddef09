//! What a queue that runs and its home tell each other.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard};

use tgt_guest_memory::GuestMemory;
use tgt_reactor::Handle;

/// When calls may be held back, as `vhost_controller_set_coalescing` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coalescing {
    /// Longest time between two calls, µs; zero: none is held back.
    pub(crate) delay_base_us: u32,
    /// Requests a second from which on they are.
    pub(crate) iops_threshold: u32,
}

/// What may change under a queue that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tuning {
    pub(crate) memory: GuestMemory,
    /// None: the guest polls for answers.
    pub(crate) call: Option<Arc<OwnedFd>>,
    pub(crate) coalescing: Coalescing,
}

/// How a queue ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Where its ring stands, as `GET_VRING_BASE` has it.
    pub(crate) base: u32,
    /// What was wrong with it.
    pub(crate) fault: Option<String>,
}

/// One for each start of a queue. The home asks it to stop and changes its tuning; the queue tells of its end, once.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    version: AtomicU32,
    tuning: Mutex<Tuning>,
    ended: Mutex<Option<Ended>>,
    has_ended: AtomicBool,
    under_way: AtomicU32,
    /// Requests taken; one writer, the queue.
    requests: AtomicU64,
    /// Counts what the home has to look at.
    nudges: Arc<AtomicU32>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this lock")
}

impl Shared {
    pub(crate) fn new(tuning: Tuning, nudges: Arc<AtomicU32>) -> Arc<Shared> {
        Arc::new(Shared { tuning: Mutex::new(tuning), nudges, ..Shared::default() })
    }

    /// Home: changes the tuning.
    pub(crate) fn tune(&self, change: impl FnOnce(&mut Tuning)) {
        let mut tuning = locked(&self.tuning);
        change(&mut tuning);
        self.version.fetch_add(1, Release);
    }

    /// Home: asks for the end. It has to be woken to hear it.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Release);
    }

    /// Home: how it ended, if it has.
    pub(crate) fn take_end(&self) -> Option<Ended> {
        if !self.has_ended.load(Acquire) {
            return None;
        }
        locked(&self.ended).take()
    }

    /// Requests under way.
    pub(crate) fn under_way(&self) -> u32 {
        self.under_way.load(Relaxed)
    }

    /// Requests taken.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    #[inline]
    pub(super) fn is_to_stop(&self) -> bool {
        self.stop.load(Relaxed)
    }

    #[inline]
    pub(super) fn version(&self) -> u32 {
        self.version.load(Acquire)
    }

    pub(super) fn tuning(&self) -> (Tuning, u32) {
        let tuning = locked(&self.tuning);
        (tuning.clone(), self.version.load(Acquire))
    }

    #[inline]
    pub(super) fn count(&self) {
        self.requests.store(self.requests.load(Relaxed) + 1, Relaxed);
    }

    #[inline]
    pub(super) fn set_under_way(&self, count: u32) {
        self.under_way.store(count, Relaxed);
    }

    /// It has ended; or it could not be started.
    pub(crate) fn end(&self, home: &Handle, ended: Ended) {
        *locked(&self.ended) = Some(ended);
        self.has_ended.store(true, Release);
        self.nudges.fetch_add(1, Release);
        // A home whose inbox is full is awake; one that has stopped needs no news.
        let _woken = home.send(|_| ());
    }
}
