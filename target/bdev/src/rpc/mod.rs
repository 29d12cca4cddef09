//! The methods of the block layer, and what modules need for theirs. Control threads.
//!
//! `list.rs` bdev_get_bdevs · `iostat.rs` statistics · `limits.rs` rate limits ·
//! `latency.rs` histograms · `options.rs` options and examine · `notifications.rs` · `trace.rs` sampled IO ·
//! `refuse.rs` errors of the block layer as answers.

mod iostat;
mod latency;
mod limits;
mod list;
mod notifications;
mod options;
mod refuse;
#[cfg(test)]
mod tests;
mod trace;

pub use options::BdevOptions;
pub use refuse::{no_such_bdev, only_zero, owned_by, physical_block_size, removal_refused, stacked};

use crate::{Bdev, Bdevs};
use options::SharedOptions;
use rpc_registry::{ConfigEntry, Registry, RpcError, Subsystem};
use std::sync::Arc;
use tgt_reactor::ReactorId;

/// Adds the methods of the block layer to `registry`. The subsystem `bdev` is given back: the caller says what it
/// depends on, and adds it.
pub fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) -> Subsystem {
    let options = SharedOptions::default();
    list::register(registry, bdevs);
    iostat::register(registry, bdevs);
    limits::register(registry, bdevs);
    latency::register(registry, bdevs);
    options::register(registry, bdevs, &options);
    notifications::register(registry, bdevs);
    trace::register(registry, bdevs);
    let bdevs = bdevs.clone();
    Subsystem::new("bdev").config(move || saved(&bdevs, &options))
}

/// The number by which RPC knows a reactor as a thread: from 1, as SPDK counts its threads.
#[must_use]
pub fn thread_id(reactor: ReactorId) -> u64 {
    u64::from(reactor.0) + 1
}

/// The bdev of this name, alias or UUID, or the answer that there is none.
pub fn find(bdevs: &Bdevs, name: &str) -> Result<Arc<Bdev>, RpcError> {
    bdevs.get(name).ok_or_else(|| no_such_bdev(bdevs, name))
}

/// The calls that make the block layer what it is now, in SPDK's order.
fn saved(bdevs: &Bdevs, options: &SharedOptions) -> Vec<ConfigEntry> {
    let all = bdevs.all();
    let made = all.iter().filter_map(|bdev| bdev.device().config(bdev));
    // Those that stand on others come after all that do not; each waits for its base if it is still missing.
    let stacked = bdevs.modules().into_iter().flat_map(|module| module.config());
    let limits = all.iter().filter_map(|bdev| limits::saved(bdev));
    let last = ConfigEntry::bare("bdev_wait_for_examine");
    std::iter::once(options.saved()).chain(made).chain(stacked).chain(limits).chain([last]).collect()
}
