//! What to start.

use crate::log::LogControl;
use rpc_server::ServerConfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tgt_env::core_lock::{CoreUse, LOCK_DIRECTORY};
use tgt_env::memory::MemoryConfig;
use tgt_reactor::SleepPolicy;

/// Where SPDK's clients look for the socket.
pub(crate) const RPC_SOCKET: &str = "/var/tmp/spdk.sock";

/// What to start. [`Options::default`] is the target without arguments, but for memory and configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cores, one reactor each, in this order.
    pub cores: Vec<u32>,
    /// When reactors sleep.
    pub sleep: SleepPolicy,
    /// Whether to pin each reactor to its core. Tests with more reactors than cores do not.
    pub pin: bool,
    /// DMA memory; none: as the process has set it up, or ordinary pages.
    pub memory: Option<MemoryConfig>,
    /// Whether to claim the cores with lock files.
    pub core_locks: bool,
    /// Where the lock files are.
    pub lock_directory: PathBuf,
    /// The RPC socket; none: no server.
    pub rpc: Option<ServerConfig>,
    /// Where figures for Prometheus are served; none: nowhere.
    pub metrics: Option<SocketAddr>,
    /// This host, as peers of sessions know it; none: made of the machine's id and the path of the RPC socket.
    pub host: Option<uuid::Uuid>,
    /// Sessions without a key also to and from other hosts.
    pub insecure_sessions: bool,
    /// Whether clients may run load on bdevs, which overwrites them.
    pub allow_load: bool,
    /// The configuration file to load.
    pub config: Option<PathBuf>,
    /// Go on when a call of the configuration fails.
    pub ignore_config_errors: bool,
    /// Stay in startup until `framework_start_init` is called.
    pub wait_for_rpc: bool,
    /// Where sockets of vhost controllers are made.
    pub vhost_directory: PathBuf,
    /// Log levels, as RPC sets them.
    pub log: Arc<LogControl>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cores: vec![0],
            sleep: SleepPolicy::ADAPTIVE,
            pin: true,
            memory: None,
            core_locks: true,
            lock_directory: PathBuf::from(LOCK_DIRECTORY),
            rpc: Some(ServerConfig::new(RPC_SOCKET)),
            metrics: None,
            host: None,
            insecure_sessions: false,
            allow_load: false,
            config: None,
            ignore_config_errors: false,
            wait_for_rpc: false,
            vhost_directory: PathBuf::from("."),
            log: Arc::default(),
        }
    }
}

impl Options {
    /// How the reactors use their cores.
    pub(crate) fn core_use(&self) -> CoreUse {
        match self.sleep {
            SleepPolicy::After(_) => CoreUse::Adaptive,
            SleepPolicy::Never => CoreUse::Polling,
        }
    }
}
