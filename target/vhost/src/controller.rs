//! A controller as control threads and its home see it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard};

use tgt_bdev::Bdev;
use tgt_reactor::Handle;

use crate::disk::Disk;
use crate::queue::{Coalescing, Shared};
use crate::request::ID_BYTES;

/// What control threads ask of a home.
#[derive(Debug)]
pub(crate) enum Ask {
    /// To go. The answer: whether it does; not while a front end is connected.
    Delete(SyncSender<bool>),
    /// To let go of its bdev.
    Release(SyncSender<()>),
    /// To look at its bdev's size.
    Resized,
    /// To look at its coalescing.
    Coalescing,
}

/// A connection, for listings.
#[derive(Clone, Debug)]
pub(crate) struct SessionStatus {
    /// The how many-th of its controller.
    pub(crate) number: u64,
    pub(crate) max_queues: usize,
    /// Queues that run.
    pub(crate) queues: Vec<Arc<Shared>>,
}

/// What a controller was made with, and what it tells.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bdev_name: String,
    /// None once it was removed: a bdev that somebody keeps would keep those below it open.
    bdev: Mutex<Option<Arc<Bdev>>>,
    pub(crate) readonly: bool,
    pub(crate) packed_ring: bool,
    /// Cores of its queues, as a mask.
    pub(crate) cpumask: String,
    /// The mask that it was made with, if one was given.
    pub(crate) asked_cpumask: Option<String>,
    pub(crate) home: Handle,
    /// Counts what the home has to look at.
    pub(crate) nudges: Arc<AtomicU32>,
    asks: Mutex<VecDeque<Ask>>,
    coalescing: Mutex<Coalescing>,
    status: Mutex<Option<SessionStatus>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this lock")
}

/// What a controller is made with.
pub(crate) struct ControllerSpec {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bdev: Arc<Bdev>,
    pub(crate) readonly: bool,
    pub(crate) packed_ring: bool,
    pub(crate) cpumask: String,
    pub(crate) asked_cpumask: Option<String>,
    pub(crate) home: Handle,
}

impl Controller {
    pub(crate) fn new(spec: ControllerSpec) -> Controller {
        let ControllerSpec { name, path, bdev, readonly, packed_ring, cpumask, asked_cpumask, home } = spec;
        Controller {
            name,
            path,
            bdev_name: bdev.name().to_owned(),
            bdev: Mutex::new(Some(bdev)),
            readonly,
            packed_ring,
            cpumask,
            asked_cpumask,
            home,
            nudges: Arc::default(),
            asks: Mutex::default(),
            coalescing: Mutex::default(),
            status: Mutex::default(),
        }
    }

    /// Asks something of the home; it looks soon.
    pub(crate) fn ask(&self, ask: Ask) {
        locked(&self.asks).push_back(ask);
        self.nudge();
    }

    pub(crate) fn take_asks(&self) -> VecDeque<Ask> {
        std::mem::take(&mut *locked(&self.asks))
    }

    /// Its bdev, until that is removed.
    pub(crate) fn bdev(&self) -> Option<Arc<Bdev>> {
        locked(&self.bdev).clone().filter(|bdev| !bdev.is_removed())
    }

    /// Whether it stands on this bdev, which may be on its way out.
    pub(crate) fn is_on(&self, bdev: &Bdev) -> bool {
        locked(&self.bdev).as_ref().is_some_and(|own| std::ptr::eq(&**own, bdev))
    }

    /// The bdev is gone.
    pub(crate) fn forget_bdev(&self) {
        *locked(&self.bdev) = None;
    }

    pub(crate) fn coalescing(&self) -> Coalescing {
        *locked(&self.coalescing)
    }

    pub(crate) fn set_coalescing(&self, coalescing: Coalescing) {
        *locked(&self.coalescing) = coalescing;
        self.ask(Ask::Coalescing);
    }

    pub(crate) fn status(&self) -> Option<SessionStatus> {
        locked(&self.status).clone()
    }

    pub(crate) fn set_status(&self, status: Option<SessionStatus>) {
        *locked(&self.status) = status;
    }

    pub(crate) fn disk_of(&self, bdev: &Bdev) -> Disk {
        Disk::of(bdev, self.readonly, self.packed_ring)
    }

    /// What GET_ID answers: the front of the bdev's name.
    pub(crate) fn serial(&self) -> [u8; ID_BYTES] {
        let mut serial = [0; ID_BYTES];
        let name = self.bdev_name.as_bytes();
        let len = name.len().min(ID_BYTES);
        serial[..len].copy_from_slice(&name[..len]);
        serial
    }
}
