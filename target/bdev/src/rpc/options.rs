//! bdev_set_options, bdev_examine, bdev_wait_for_examine.

use super::find;
use crate::Bdevs;
use rpc_registry::{ConfigEntry, Method, Phase, Registry, RpcError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard};

const EINVAL: i32 = 22;

/// Options of the block layer, with SPDK's names and defaults.
///
/// They are kept, answered and saved. None has an effect: an IO is a value that is moved, so there is no pool of IOs
/// to size; buffers come from one pool that grows; and no module here looks at bdevs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BdevOptions {
    /// IOs in the shared pool.
    pub bdev_io_pool_size: u32,
    /// IOs kept per thread.
    pub bdev_io_cache_size: u32,
    /// Whether modules look at each new bdev by themselves.
    pub bdev_auto_examine: bool,
    /// Small buffers kept per thread.
    pub iobuf_small_cache_size: u32,
    /// Large buffers kept per thread.
    pub iobuf_large_cache_size: u32,
}

impl Default for BdevOptions {
    fn default() -> BdevOptions {
        BdevOptions {
            bdev_io_pool_size: 65535,
            bdev_io_cache_size: 256,
            bdev_auto_examine: true,
            iobuf_small_cache_size: 128,
            iobuf_large_cache_size: 16,
        }
    }
}

/// Parameters of `bdev_set_options`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetOptions {
    /// IOs in the shared pool; kept and saved, no effect: IOs are not pooled
    bdev_io_pool_size: Option<u32>,
    /// IOs kept per thread; kept and saved, no effect: IOs are not pooled
    bdev_io_cache_size: Option<u32>,
    /// Whether modules look at new bdevs by themselves; kept and saved
    bdev_auto_examine: Option<bool>,
    /// Small buffers kept per thread; kept and saved, no effect: caches are bounded by bytes
    iobuf_small_cache_size: Option<u32>,
    /// Large buffers kept per thread; kept and saved, no effect: caches are bounded by bytes
    iobuf_large_cache_size: Option<u32>,
}

/// Parameters of `bdev_examine`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Examine {
    /// Name, alias or UUID of the bdev
    name: String,
}

/// The options as methods and the config writer share them.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedOptions(Arc<Mutex<BdevOptions>>);

impl SharedOptions {
    pub(super) fn saved(&self) -> ConfigEntry {
        ConfigEntry::new("bdev_set_options", json!(*self.lock()))
    }

    fn lock(&self) -> MutexGuard<'_, BdevOptions> {
        self.0.lock().expect("no thread panics while it holds this lock")
    }

    fn set(&self, params: SetOptions) -> Result<bool, RpcError> {
        let mut options = self.lock();
        let old = options.clone();
        let new = BdevOptions {
            bdev_io_pool_size: params.bdev_io_pool_size.unwrap_or(old.bdev_io_pool_size),
            bdev_io_cache_size: params.bdev_io_cache_size.unwrap_or(old.bdev_io_cache_size),
            bdev_auto_examine: params.bdev_auto_examine.unwrap_or(old.bdev_auto_examine),
            iobuf_small_cache_size: params.iobuf_small_cache_size.unwrap_or(old.iobuf_small_cache_size),
            iobuf_large_cache_size: params.iobuf_large_cache_size.unwrap_or(old.iobuf_large_cache_size),
        };
        check(&new)?;
        *options = new;
        Ok(true)
    }
}

/// SPDK's rule: every thread of one application thread and one more must be able to fill its cache.
fn check(options: &BdevOptions) -> Result<(), RpcError> {
    let BdevOptions { bdev_io_pool_size: pool, bdev_io_cache_size: cache, .. } = options;
    let least = u64::from(*cache) * 2;
    if u64::from(*pool) >= least {
        return Ok(());
    }
    let text = format!("Pool size {pool} too small for cache size {cache}, accepted: {least} or more");
    let accepted = format!("integer {least}..{}", u32::MAX);
    Err(RpcError::invalid_params(text).parameter("bdev_io_pool_size", pool, accepted))
}

pub(super) fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>, options: &SharedOptions) {
    let options = options.clone();
    registry.add(
        Method::new(
            "bdev_set_options",
            "Set options of the block layer; they are kept and saved, none has an effect",
        )
        .spdk(true)
        .phase(Phase::Startup)
        .example(json!({"bdev_io_pool_size": 65535, "bdev_io_cache_size": 256}))
        .result_example(json!(true)),
        move |params: SetOptions| options.set(params),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new(
            "bdev_examine",
            "Let modules look at a bdev for what they find on it; no module here does",
        )
        .spdk(true)
        .example(json!({"name": "Malloc0"}))
        .result_example(json!(true)),
        move |params: Examine| examine(&of, &params.name),
    );
    registry.add_no_params(
        Method::new("bdev_wait_for_examine", "Wait until modules have looked at all bdevs")
            .spdk(true)
            .result_example(json!(true)),
        || Ok(true),
    );
}

/// An unknown name is refused here, where SPDK would remember it for ever.
fn examine(bdevs: &Bdevs, name: &str) -> Result<bool, RpcError> {
    if name.is_empty() {
        let error = RpcError::errno(EINVAL, "name is empty");
        return Err(error.parameter("name", name, "the name of a bdev"));
    }
    find(bdevs, name).map(|_| true)
}
