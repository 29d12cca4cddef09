//! The compute side: replicated devices. Control threads, but for channels.

mod create;
mod legs;
pub mod rpc;
mod show;
mod whole;

use bdev_rmr::hail::Peer;
use bdev_rmr::pool::{self, PoolFigures};
use rpc_registry::ConfigEntry;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tgt_bdev::{Bdev, Bdevs, Channel, Cx, Device};
use tgt_reactor::Handle;
use tgt_rtrs::sessions::Sessions;
use uuid::Uuid;

/// What control planes switch on.
pub const PRODUCT_NAME: &str = "Replicated disk";

/// What devices are made from.
pub struct Devices {
    bdevs: Arc<Bdevs>,
    sessions: Arc<Sessions>,
    reactors: Arc<Vec<Handle>>,
}

impl Devices {
    /// None yet.
    #[must_use]
    pub fn new(bdevs: &Arc<Bdevs>, sessions: &Arc<Sessions>, reactors: &Arc<Vec<Handle>>) -> Arc<Self> {
        let (bdevs, sessions, reactors) = (bdevs.clone(), sessions.clone(), reactors.clone());
        Arc::new(Self { bdevs, sessions, reactors })
    }
}

impl Devices {
    /// All pools of this host in figures, for monitors. Control threads; waits `patience` at most for each reactor, and
    /// leaves out what it does not hear.
    #[must_use]
    pub fn figures(&self, patience: Duration) -> Vec<PoolFigures> {
        let of = |reactor: &Handle| pool::figures(reactor, patience).unwrap_or_default();
        // Pools live on the first one.
        self.reactors.first().map(of).unwrap_or_default()
    }
}

/// A replicated device, as the block layer has it.
struct Replicated {
    pool: Uuid,
    home: Handle,
    /// Where its members are; changes with legs.
    members: Mutex<Vec<Peer>>,
    /// A request that has not succeeded after this fails; none: it waits for ever.
    io_timeout: Option<Duration>,
    /// Takes no writes.
    readonly: bool,
    /// Held by whoever makes it larger, until the bdev has its new size.
    growing: Mutex<()>,
}

impl Replicated {
    fn members(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Replicated {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        pool::open_channel(cx, &self.home, self.pool)
    }

    fn driver_specific(&self, _bdev: &Bdev) -> serde_json::Value {
        json!({"brmr": {"pool": self.pool.to_string(), "reactor": self.home.id().0}})
    }

    fn config(&self, bdev: &Bdev) -> Option<ConfigEntry> {
        let members: Vec<_> = self.members().iter().map(show::member).collect();
        let mut params = json!({
            "name": bdev.name(),
            "pool": self.pool.to_string(),
            "members": members,
            "block_size": bdev.block_size(),
            "num_blocks": bdev.num_blocks(),
            "request_blocks": bdev.limits().max_rw_blocks,
        });
        if let Some(limit) = self.io_timeout {
            params["io_timeout_ms"] = json!(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        }
        if self.readonly {
            params["readonly"] = json!(true);
        }
        Some(ConfigEntry::new("bdev_brmr_create", params))
    }
}
