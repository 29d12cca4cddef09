//! What can be wrong with what an operator asks.

use std::io;
use std::path::PathBuf;

use tgt_bdev::OpenError;

use crate::controllers::DELAY_MAX_US;

/// Why a controller was not made, changed or deleted. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// There is one of this name.
    #[error("there is already a vhost controller named {0:?}: choose another name, or delete it")]
    Exists(String),
    /// There is none of this name.
    #[error("there is no vhost controller named {0:?}: vhost_get_controllers lists them")]
    NotFound(String),
    /// A front end is connected.
    #[error(
        "a front end is connected to vhost controller {0:?}: end the virtual machine or unplug its disk first"
    )]
    Busy(String),
    /// A name that cannot be that of a socket.
    #[error("ctrlr {name:?}: its socket would be {}; accepted: a file name without /, the path up to 107 bytes long (-S sets the directory)", path.display())]
    Name {
        /// What was given.
        name: String,
        /// Where the socket would be.
        path: PathBuf,
    },
    /// Cores that are not this target's.
    #[error("cpumask {mask:?}: accepted: cores of this target, {ours}, or some of them; or none for all")]
    Mask {
        /// What was given.
        mask: String,
        /// The target's cores.
        ours: String,
    },
    /// Calls would come too late.
    #[error("delay_base_us {0}: accepted: 0 to {DELAY_MAX_US}")]
    Delay(u32),
    /// The bdev cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The socket cannot be made.
    #[error("{}: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A reactor did not do what it had to.
    #[error("vhost controller {name:?}: {why}")]
    Reactor {
        /// Which controller.
        name: String,
        /// What it said.
        why: String,
    },
}

impl VhostError {
    /// The errno that SPDK's clients look for.
    #[must_use]
    pub fn errno(&self) -> i32 {
        const ENOENT: i32 = 2;
        const EIO: i32 = 5;
        const EBUSY: i32 = 16;
        const EEXIST: i32 = 17;
        const ENODEV: i32 = 19;
        const EINVAL: i32 = 22;
        const EPERM: i32 = 1;
        match self {
            VhostError::Exists(_) => EEXIST,
            VhostError::NotFound(_) => ENODEV,
            VhostError::Busy(_) => EBUSY,
            VhostError::Name { .. } | VhostError::Mask { .. } | VhostError::Delay(_) => EINVAL,
            VhostError::Open(OpenError::Claimed { .. }) => EPERM,
            VhostError::Open(_) => ENODEV,
            VhostError::Socket { source, .. } => source.raw_os_error().unwrap_or(ENOENT),
            VhostError::Reactor { .. } => EIO,
        }
    }
}
