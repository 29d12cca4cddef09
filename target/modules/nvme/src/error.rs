//! Why something was not done.

use tgt_bdev::RemoveError;
use tgt_reactor::CallError;

/// Why something was not done with a controller.
#[derive(Debug, thiserror::Error)]
pub enum NvmeError {
    /// A value that cannot be.
    #[error("{name} {value:?}; accepted: {accepted}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// As given.
        value: String,
        /// What would do.
        accepted: String,
    },
    /// The name is taken.
    #[error(
        "a controller named {0:?} is attached already; several paths to one controller are not supported"
    )]
    Exists(String),
    /// No controller of this name.
    #[error("there is no NVMe controller named {0:?}; bdev_nvme_get_controllers lists them")]
    NotFound(String),
    /// It could not be attached.
    #[error("controller {name:?} at {address} could not be attached: {why}")]
    Attach {
        /// Its name.
        name: String,
        /// Where it is said to be.
        address: std::net::SocketAddr,
        /// What happened.
        why: String,
    },
    /// It did not come back.
    #[error("controller {name:?} did not come back: {why}")]
    Reset {
        /// Its name.
        name: String,
        /// What happened.
        why: String,
    },
    /// A bdev of it is still in use; the controller stays.
    #[error(transparent)]
    InUse(RemoveError),
    /// A reactor does not answer, or has no place for it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A reactor cannot have its streams.
    #[error(transparent)]
    Streams(#[from] tgt_sock::SockError),
    /// The thread that follows namespaces could not be started.
    #[error("no thread for the namespaces of controllers: {0}")]
    Thread(std::io::Error),
}

impl NvmeError {
    /// The errno that says most of it.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            NvmeError::Value { .. } => 22,
            NvmeError::Exists(_) => 114,
            NvmeError::NotFound(_) => 19,
            NvmeError::InUse(_) => 16,
            _ => 5,
        }
    }
}
