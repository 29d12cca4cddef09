//! # The null bdev
//!
//! **What it is.** A bdev that completes every IO at once and stores nothing: what the layers above it cost, and
//! nothing else. Reads leave the buffers as they are, and compares find no difference.
//!
//! **Words.** As in the block layer.
//!
//! **Who may call it.** [`create`]: control threads. The channel: its reactor.
//!
//! **Invariants.** A completion surfaces at the poll after its submit, in the order of submission.
//!
//! **Map.** `lib.rs` the device · `channel.rs` per IO · `rpc.rs` the methods · `tests.rs`.
//!
//! **Tests.** `tests.rs`; its cost: `docs/figures.md`.

mod channel;
pub mod rpc;
#[cfg(test)]
mod tests;

use crate::channel::NullChannel;
use rpc_registry::ConfigEntry;
use serde_json::json;
use std::sync::Arc;
use tgt_bdev::{Bdev, BdevSpec, Bdevs, Channel, Cx, Device, Limits, OpSet, RegisterError};
use uuid::Uuid;

/// What control planes switch on.
pub const PRODUCT_NAME: &str = "Null disk";

/// A null bdev to make.
#[derive(Clone, Debug)]
pub struct NullSpec {
    /// Unique name.
    pub name: String,
    /// Identity; drawn at random if absent.
    pub uuid: Option<Uuid>,
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
}

/// Makes and registers a null bdev.
pub fn create(bdevs: &Bdevs, spec: NullSpec) -> Result<Arc<Bdev>, RegisterError> {
    let NullSpec { name, uuid, block_size, num_blocks } = spec;
    let uuid = uuid.unwrap_or_else(Uuid::new_v4);
    bdevs.register(BdevSpec {
        device: Arc::new(NullDevice),
        name,
        aliases: Vec::new(),
        product_name: PRODUCT_NAME,
        uuid,
        block_size,
        num_blocks,
        ops: OpSet::all(),
        limits: Limits::default(),
        numa_node: None,
    })
}

struct NullDevice;

impl Device for NullDevice {
    fn open_channel(&self, _cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        Ok(Box::new(NullChannel::new()))
    }

    fn config(&self, bdev: &Bdev) -> Option<ConfigEntry> {
        let params = json!({
            "name": bdev.name(),
            "num_blocks": bdev.num_blocks(),
            "block_size": bdev.block_size(),
            "uuid": bdev.uuid().to_string(),
        });
        Some(ConfigEntry::new("bdev_null_create", params))
    }
}
