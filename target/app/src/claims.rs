//! The claims on our cores, which RPC may give up and take again.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use tgt_env::core_lock::{CoreLockError, CoreLocks, CoreUse};
use tgt_env::cores::CpuMask;

/// The claims of a target. Control threads.
#[derive(Debug)]
pub(crate) struct Claims {
    directory: PathBuf,
    mask: CpuMask,
    core_use: CoreUse,
    held: Mutex<Option<CoreLocks>>,
}

impl Claims {
    /// Nothing is claimed yet.
    pub(crate) fn new(directory: PathBuf, mask: CpuMask, core_use: CoreUse) -> Claims {
        Claims { directory, mask, core_use, held: Mutex::default() }
    }

    /// Claims every core, or none. Nothing happens if they are claimed already.
    pub(crate) fn take(&self) -> Result<(), CoreLockError> {
        let mut held = self.lock();
        if held.is_none() {
            let locks = CoreLocks::claim(&self.directory, &self.mask, self.core_use)?;
            locks.warnings().for_each(|warning| tracing::warn!("{warning}"));
            *held = Some(locks);
        }
        Ok(())
    }

    /// Gives all claims up.
    pub(crate) fn give_up(&self) {
        *self.lock() = None;
    }

    /// Whether another target uses this core now. Not known without a claim: false.
    pub(crate) fn is_shared(&self, core: u32) -> bool {
        self.lock().as_ref().is_some_and(|locks| locks.is_shared(core))
    }

    fn lock(&self) -> MutexGuard<'_, Option<CoreLocks>> {
        self.held.lock().expect("no thread panics while it holds this lock")
    }
}
