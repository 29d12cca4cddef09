//! Start and stop.

use crate::claims::Claims;
use crate::error::StartError;
use crate::figures;
use crate::init::Init;
use crate::options::Options;
use crate::rpc::{self, Parts};
use crate::watch::Watch;
use bdev_brmr::device::Devices;
use bdev_brmr::peers::StorageNode;
use bdev_brmr::store::Stores;
use rpc_registry::Registry;
use rpc_server::Server;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tgt_bdev::{Bdevs, NotificationKind};
use tgt_config::Config;
use tgt_env::clock;
use tgt_env::cores::{self, CpuMask};
use tgt_env::memory::{Memory, memory};
use tgt_keyring::Keyring;
use tgt_metrics::replication::ReplicationSource;
use tgt_reactor::{Handle, ReactorId, Reactors, SleepPolicy};
use tgt_rtrs::sessions::{News, NewsKind, Sessions, SessionsOptions};

/// A running target. [`Target::stop`] ends it in order; dropping it does the same and says nothing.
pub struct Target {
    registry: Arc<Registry>,
    bdevs: Arc<Bdevs>,
    init: Arc<Init>,
    handles: Arc<Vec<Handle>>,
    /// In the order in which they end.
    server: Option<Server>,
    metrics: Option<tgt_metrics::Server>,
    watch: Option<Watch>,
    sessions: Arc<Sessions>,
    reactors: Option<Reactors>,
    claims: Arc<Claims>,
}

/// What a stop left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct StopReport {
    /// RPC calls that were cut off.
    pub calls_cut: usize,
    /// Reactors that did not stop in time.
    pub stuck: Vec<ReactorId>,
}

impl Target {
    /// Starts everything and loads the configuration. Blocks until that is done; with `wait_for_rpc`, until the socket
    /// answers. The socket answers early: the configuration is loaded behind it.
    pub fn start(options: Options) -> Result<Target, StartError> {
        // What can be wrong without anything being started comes first.
        let config = options.config.as_deref().map(read_config).transpose()?;
        let mask: CpuMask = options.cores.iter().copied().collect();
        if options.pin {
            cores::check_usable(&mask)?;
        }
        if let Some(config) = options.memory {
            Memory::init(config)?;
        }
        let claims = Arc::new(Claims::new(options.lock_directory.clone(), mask, options.core_use()));
        if options.core_locks {
            claims.take()?;
        }
        let target = Target::assemble(&options, claims)?;
        target.advise();
        if !options.wait_for_rpc {
            let nothing = Config { subsystems: Vec::new(), warnings: Vec::new() };
            let loaded = target.load(&config.unwrap_or(nothing), options.ignore_config_errors);
            if let Err(error) = loaded {
                target.init.end(&error.to_string());
                return Err(error);
            }
            target.init.ready();
        }
        Ok(target)
    }

    /// Starts reactors, methods, the watch on the cores, and the socket.
    fn assemble(options: &Options, claims: Arc<Claims>) -> Result<Target, StartError> {
        let (cores, sleep, pin) = (options.cores.clone(), options.sleep, options.pin);
        let reactors = Reactors::start(&tgt_reactor::StartOptions { cores, sleep, pin })?;
        let handles = reactors.handles().clone();
        let (bdevs, init) = (Bdevs::new(), Arc::new(Init::new(options.wait_for_rpc)));
        let keyring = Keyring::new();
        let sessions = sessions(options, &handles, &keyring, &bdevs)?;
        let devices = Devices::new(&bdevs, &sessions, &handles);
        let stores = Stores::new(&bdevs, Box::new(StorageNode::new(&handles, &sessions)));
        let replication = figures::source(&devices, &stores);
        let registry = Arc::new(rpc::registry(&Parts {
            devices,
            stores,
            bdevs: bdevs.clone(),
            keyring,
            sessions: sessions.clone(),
            reactors: handles.clone(),
            init: init.clone(),
            claims: claims.clone(),
            log: options.log.clone(),
            allow_load: options.allow_load,
            vhost_directory: options.vhost_directory.clone(),
        }));
        let mut target = Target {
            registry: registry.clone(),
            bdevs,
            init,
            handles: handles.clone(),
            server: None,
            metrics: None,
            watch: None,
            sessions,
            reactors: Some(reactors),
            claims: claims.clone(),
        };
        // On an error the target is dropped, and with it what was started.
        if let SleepPolicy::After(spin) = sleep {
            target.watch = Some(Watch::start(handles, claims, spin).map_err(StartError::Watch)?);
        }
        if let Some(address) = options.metrics {
            target.metrics = Some(target.serve_metrics(address, replication)?);
        }
        if let Some(config) = &options.rpc {
            target.server = Some(Server::start(config.clone(), registry)?);
        }
        Ok(target)
    }

    fn serve_metrics(
        &self,
        address: SocketAddr,
        replication: ReplicationSource,
    ) -> Result<tgt_metrics::Server, StartError> {
        let sources = tgt_metrics::Sources {
            bdevs: self.bdevs.clone(),
            sessions: self.sessions.clone(),
            reactors: self.handles.clone(),
            replication: Some(replication),
            version: crate::VERSION,
            spdk_version: rpc::version::spdk(),
            started: Instant::now(),
        };
        let server = tgt_metrics::Server::start(address, sources)?;
        tracing::info!("figures for Prometheus on http://{}/metrics", server.address());
        if !address.ip().is_loopback() {
            tracing::warn!(
                "metrics: whoever reaches {} may read them, there is no password",
                server.address()
            );
        }
        Ok(server)
    }

    /// Both passes of a configuration, and the step to run time between them.
    fn load(&self, config: &Config, ignore_errors: bool) -> Result<(), StartError> {
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let _ = tgt_config::apply(config, &self.registry, ignore_errors)?;
        self.registry.enter_runtime();
        let _ = tgt_config::apply(config, &self.registry, ignore_errors)?;
        Ok(())
    }

    /// What the operator should know about this machine.
    fn advise(&self) {
        for advice in [memory().advice(), clock::advice()].into_iter().flatten() {
            tracing::warn!("{advice}");
        }
    }

    /// The methods.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The bdevs.
    #[must_use]
    pub fn bdevs(&self) -> &Arc<Bdevs> {
        &self.bdevs
    }

    /// The reactors, in the order of their ids.
    #[must_use]
    pub fn reactors(&self) -> &Arc<Vec<Handle>> {
        &self.handles
    }

    /// The service of sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Where figures for Prometheus are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(tgt_metrics::Server::address)
    }

    /// Ends it: the socket, the reactors with what they do, the claims on cores. Takes 20 seconds at most.
    pub fn stop(mut self) -> StopReport {
        self.shut_down()
    }

    fn shut_down(&mut self) -> StopReport {
        self.init.end("the target stops");
        let calls_cut = self.server.take().map_or(0, Server::stop);
        self.metrics = None;
        self.watch = None;
        self.sessions.stop();
        let stuck = self.reactors.take().map_or_else(Vec::new, Reactors::stop);
        self.claims.give_up();
        StopReport { calls_cut, stuck }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.shut_down();
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("bdevs", &self.bdevs).field("reactors", &self.handles).finish()
    }
}

/// Who this host is unless it is said: the same after each start, so that sessions to it come back, and another for each
/// target on it. Drawn at random where the machine has no id.
fn usual_host(options: &Options) -> uuid::Uuid {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    if machine.trim().is_empty() {
        tracing::info!(
            "/etc/machine-id says nothing: to peers this host is another after each start; --host-id"
        );
        return uuid::Uuid::new_v4();
    }
    let socket = options.rpc.as_ref().map(|rpc| rpc.path.display().to_string()).unwrap_or_default();
    let name = format!("{} {socket}", machine.trim());
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes())
}

/// The service of sessions; what happens to them is told as notifications.
fn sessions(
    options: &Options,
    reactors: &Arc<Vec<Handle>>,
    keyring: &Arc<Keyring>,
    bdevs: &Arc<Bdevs>,
) -> Result<Arc<Sessions>, StartError> {
    let host = options.host.unwrap_or_else(|| usual_host(options));
    let bdevs = bdevs.clone();
    let tell = move |news: News| {
        let kind = match news.kind {
            NewsKind::SessionUp => NotificationKind::RtrsSessionUp,
            NewsKind::SessionDown => NotificationKind::RtrsSessionDown,
            NewsKind::PathUp => NotificationKind::RtrsPathUp,
            NewsKind::PathDown => NotificationKind::RtrsPathDown,
        };
        bdevs.notifications().push(kind, &news.about);
    };
    Sessions::start(SessionsOptions {
        reactors: reactors.clone(),
        keyring: keyring.clone(),
        host: tgt_rtrs::Id(*host.as_bytes()),
        insecure: options.insecure_sessions,
        tell: Box::new(tell),
    })
    .map_err(StartError::Sessions)
}

fn read_config(path: &Path) -> Result<Config, StartError> {
    Ok(tgt_config::load(path)?)
}
