//! Why the target did not start.

use crate::exit;
use rpc_server::ServerError;
use tgt_config::ConfigError;
use tgt_env::core_lock::CoreLockError;
use tgt_env::cores::CoresError;
use tgt_env::memory::MemoryError;
use tgt_metrics::MetricsError;

/// Why the target did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// DMA memory cannot be set up.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A core cannot be used.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// A core is claimed by another target.
    #[error(transparent)]
    CoreLock(#[from] CoreLockError),
    /// The reactors did not start.
    #[error(transparent)]
    Reactors(#[from] tgt_reactor::StartError),
    /// The configuration could not be loaded.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The RPC socket cannot be had.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Figures cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The thread that watches the cores could not be made.
    #[error("cannot start the thread that watches the cores: {0}")]
    Watch(std::io::Error),
    /// The thread that hears of sessions could not be made.
    #[error("cannot start the thread that hears of sessions: {0}")]
    Sessions(std::io::Error),
}

impl StartError {
    /// The process's exit code for it: see [`exit`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Memory(_) => exit::MEMORY,
            Self::Cores(_) | Self::CoreLock(_) => exit::CORE,
            Self::Reactors(tgt_reactor::StartError::Uring { source, .. }) if source.is_refusal() => {
                exit::URING
            }
            Self::Reactors(tgt_reactor::StartError::Pin { .. }) => exit::CORE,
            Self::Reactors(_)
            | Self::Watch(_)
            | Self::Sessions(_)
            | Self::Metrics(MetricsError::Thread(_)) => exit::ERROR,
            Self::Config(_) => exit::CONFIG,
            Self::Server(_) | Self::Metrics(MetricsError::Bind { .. }) => exit::SOCKET,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};
    use tgt_env::uring::UringError;
    use tgt_reactor::{ReactorId, StartError as Reactor};

    #[test]
    fn every_kind_of_failure_has_its_exit_code() {
        let (id, denied) = (ReactorId(0), || Error::from(ErrorKind::PermissionDenied));
        let path = || std::path::PathBuf::from("/x");
        for (error, code) in [
            (StartError::Reactors(Reactor::Uring { id, source: UringError::Disabled { setting: 2 } }), 3),
            (
                StartError::Reactors(Reactor::Uring {
                    id,
                    source: UringError::Filtered { source: denied() },
                }),
                3,
            ),
            (StartError::Reactors(Reactor::Uring { id, source: UringError::UnknownSource }), 1),
            (StartError::Reactors(Reactor::Resource { id, what: "no thread", source: denied() }), 1),
            (StartError::Reactors(Reactor::Pin { id, source: CoresError::Affinity { source: denied() } }), 4),
            (StartError::CoreLock(CoreLockError::Taken { core: 0, path: path(), pid: None }), 4),
            (StartError::Cores(CoresError::NoCore { usable: Default::default() }), 4),
            (StartError::Config(ConfigError::Read { path: path(), source: denied() }), 5),
            (StartError::Server(ServerError::NotASocket { path: path() }), 6),
            (
                StartError::Metrics(MetricsError::Bind {
                    address: ([127, 0, 0, 1], 1).into(),
                    source: denied(),
                }),
                6,
            ),
            (StartError::Metrics(MetricsError::Thread(denied())), 1),
            (StartError::Memory(MemoryError::AlreadyInitialised), 7),
            (StartError::Watch(denied()), 1),
            (StartError::Sessions(denied()), 1),
        ] {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }
}
