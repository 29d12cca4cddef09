//! Lock files that keep two always-polling targets from one core, shared with SPDK: `/var/tmp/spdk_cpu_lock_NNN`.
//!
//! SPDK takes a POSIX write lock on the whole file of each core it polls on, and writes its process id (a native
//! `int`) into it. Here two bytes are told apart, so that targets that sleep may share a core:
//!
//! | who | takes | fails if | warns if |
//! |---|---|---|---|
//! | always polling | write lock on byte 0 | byte 0 is locked: another poller, or SPDK | byte 1 is locked: sleepers share the core |
//! | adaptive | read lock on byte 1 | never | byte 0 or 1 is locked by anyone else |
//!
//! SPDK's lock covers both bytes, and is refused while either is held. The locks are open-file-description locks:
//! they belong to the [`CoreLock`], not to the process, and the kernel drops them when a process dies.
//!
//! Any thread may claim, ask and drop; nothing here runs per IO.

mod error;
mod file;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use error::{CoreLockError, CoreLockWarning};

use crate::cores::CpuMask;
use file::{LockFile, POLLING_BYTE, SHARING_BYTE};

/// Where SPDK keeps its lock files.
pub const LOCK_DIRECTORY: &str = "/var/tmp";

/// How the target uses its cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreUse {
    /// Spins always: needs the core for itself.
    Polling,
    /// Sleeps when idle: can share it.
    Adaptive,
}

/// The locks of all cores of a target. Dropping it (`--disable-cpumask-locks` at run time) releases them.
#[derive(Debug)]
pub struct CoreLocks {
    locks: Vec<CoreLock>,
}

/// The lock of one core.
#[derive(Debug)]
pub struct CoreLock {
    core: u32,
    path: PathBuf,
    core_use: CoreUse,
    warning: Option<CoreLockWarning>,
    state: Mutex<Held>,
}

/// The file, and whether our lock on it is held. No file: it could not be opened.
#[derive(Debug)]
struct Held {
    file: Option<LockFile>,
    locked: bool,
}

impl CoreLocks {
    /// Claims every core of `mask`, or none. `directory`: [`LOCK_DIRECTORY`] but for tests.
    ///
    /// # Errors
    /// As [`CoreLock::claim`], for the first core that fails.
    pub fn claim(directory: &Path, mask: &CpuMask, core_use: CoreUse) -> Result<Self, CoreLockError> {
        let locks =
            mask.iter().map(|core| CoreLock::claim(directory, core, core_use)).collect::<Result<_, _>>()?;
        Ok(Self { locks })
    }

    /// What the operator should know about the claim.
    pub fn warnings(&self) -> impl Iterator<Item = &CoreLockWarning> {
        self.locks.iter().filter_map(CoreLock::warning)
    }

    /// As [`CoreLock::is_shared`]; `false` for a core that is not among these.
    #[must_use]
    pub fn is_shared(&self, core: u32) -> bool {
        self.locks.iter().any(|lock| lock.core == core && lock.is_shared())
    }
}

impl CoreLock {
    /// Claims one core.
    ///
    /// # Errors
    /// Only for [`CoreUse::Polling`]: [`CoreLockError::Taken`], [`CoreLockError::File`].
    pub fn claim(directory: &Path, core: u32, core_use: CoreUse) -> Result<Self, CoreLockError> {
        let path = directory.join(format!("spdk_cpu_lock_{core:03}"));
        let (held, warning) = match core_use {
            CoreUse::Polling => claim_polling(&path, core)?,
            CoreUse::Adaptive => claim_adaptive(&path, core),
        };
        Ok(Self { core, path, core_use, warning, state: Mutex::new(held) })
    }

    /// The core.
    #[must_use]
    pub fn core(&self) -> u32 {
        self.core
    }

    /// What the operator should know about the claim.
    #[must_use]
    pub fn warning(&self) -> Option<&CoreLockWarning> {
        self.warning.as_ref()
    }

    /// Whether another target, ours or SPDK, uses this core now: then spinning costs everybody latency. Two or three
    /// system calls. A file that could not be opened tells nothing: `false`.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let mut held = self.held();
        if self.core_use == CoreUse::Adaptive && !held.is_good(&self.path) {
            // SPDK held the whole file at our start, or the file was removed: take our place now if we can.
            *held = claim_adaptive(&self.path, self.core).0;
        }
        // The question itself cannot fail on an open file; should it, nothing is known, as above.
        held.file.as_ref().is_some_and(|file| file.others().is_ok_and(|holder| holder.is_some()))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is_good(&self, path: &Path) -> bool {
        self.locked && self.file.as_ref().is_some_and(|file| file.is_at(path))
    }
}

impl Drop for CoreLock {
    fn drop(&mut self) {
        if let Some(file) = &self.held().file {
            file.remove_if_last(&self.path);
        }
    }
}

/// A lock file can be removed by its last user between our opening and locking it; then we start over.
const TRIES: u32 = 16;

fn claim_polling(path: &Path, core: u32) -> Result<(Held, Option<CoreLockWarning>), CoreLockError> {
    let failed = |source| CoreLockError::File { core, path: path.to_owned(), source };
    let mut owner = None;
    for _ in 0..TRIES {
        let file = LockFile::open(path, CoreUse::Polling).map_err(failed)?;
        if !file.lock(POLLING_BYTE).map_err(failed)? {
            // Somebody who is just leaving holds the file for a moment: look again.
            owner = file.holder(POLLING_BYTE).map_err(failed)?.and_then(|holder| holder.pid).or(owner);
            std::thread::yield_now();
            continue;
        }
        if !file.is_at(path) {
            continue;
        }
        file.write_pid().map_err(failed)?;
        let sharing = file.holder(SHARING_BYTE).map_err(failed)?;
        let warning = sharing.map(|_| CoreLockWarning::PollingAmongSleepers { core });
        return Ok((Held { file: Some(file), locked: true }, warning));
    }
    Err(CoreLockError::Taken { core, path: path.to_owned(), pid: owner })
}

fn claim_adaptive(path: &Path, core: u32) -> (Held, Option<CoreLockWarning>) {
    match try_adaptive(path, core) {
        Ok(claimed) => claimed,
        Err(source) => {
            let warning = CoreLockWarning::Unlocked { core, path: path.to_owned(), source };
            (Held { file: None, locked: false }, Some(warning))
        }
    }
}

fn try_adaptive(path: &Path, core: u32) -> io::Result<(Held, Option<CoreLockWarning>)> {
    for _ in 0..TRIES {
        let file = LockFile::open(path, CoreUse::Adaptive)?;
        let locked = file.lock(SHARING_BYTE)?;
        if !file.is_at(path) {
            continue;
        }
        let warning = match (file.holder(POLLING_BYTE)?, file.holder(SHARING_BYTE)?) {
            (Some(holder), _) => Some(CoreLockWarning::SharedWithPoller { core, pid: holder.pid }),
            (None, Some(_)) => Some(CoreLockWarning::SharedWithSleeper { core }),
            (None, None) => None,
        };
        return Ok((Held { file: Some(file), locked }, warning));
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the file is removed again and again"))
}
