//! # The malloc bdev
//!
//! **What it is.** A disk in DMA memory: a copy per IO, and gone with the process.
//!
//! **Words.** As in the block layer.
//!
//! **Who may call it.** [`create`]: control threads. The channel: its reactor.
//!
//! **Invariants.** Every block reads zero until it is written. A write is visible to every reactor when its
//! completion surfaces. Two IOs in flight on the same blocks may give a mixture of both, as on any disk.
//!
//! **Map.** `lib.rs` the device · `channel.rs` per IO · `rpc.rs` the methods · `tests.rs`.
//!
//! **Tests.** `tests.rs`; its cost: `docs/figures.md`.

mod channel;
pub mod rpc;
#[cfg(test)]
mod tests;

use crate::channel::MallocChannel;
use rpc_registry::ConfigEntry;
use serde_json::json;
use std::sync::Arc;
use tgt_bdev::{
    Bdev, BdevSpec, Bdevs, Channel, Cx, Device, Limits, Op, OpSet, RegisterError, check_geometry,
};
use tgt_env::memory::{MemoryError, Region};
use uuid::Uuid;

/// What control planes switch on.
pub const PRODUCT_NAME: &str = "Malloc disk";

/// Bytes cleared or copied in one piece by unmap, write-zeroes and copy.
const PIECE_MAX_BYTES: u32 = 256 * 1024;

/// A malloc bdev to make.
#[derive(Clone, Debug)]
pub struct MallocSpec {
    /// Unique name.
    pub name: String,
    /// Identity; drawn at random if absent.
    pub uuid: Option<Uuid>,
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Reads and writes are split at multiples of this many blocks; zero: never.
    pub optimal_io_boundary: u32,
}

/// Why a malloc bdev was not made. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The block layer refused it.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// There is not enough memory.
    #[error("{0}")]
    Memory(#[from] MemoryError),
}

/// Makes and registers a malloc bdev.
pub fn create(bdevs: &Bdevs, spec: MallocSpec) -> Result<Arc<Bdev>, CreateError> {
    let MallocSpec { name, uuid, block_size, num_blocks, optimal_io_boundary } = spec;
    let bytes = check_geometry(num_blocks, block_size)?;
    let memory = Arc::new(Region::alloc(bytes)?);
    let bdev = bdevs.register(BdevSpec {
        name,
        aliases: Vec::new(),
        product_name: PRODUCT_NAME,
        uuid: uuid.unwrap_or_else(Uuid::new_v4),
        block_size,
        num_blocks,
        // Channels share the memory without a lock: only the block layer can keep the others out of a compare-and-write.
        ops: OpSet::all().without(Op::CompareAndWrite),
        limits: limits(block_size, optimal_io_boundary),
        numa_node: None,
        device: Arc::new(MallocDevice { memory, block_size, optimal_io_boundary }),
    })?;
    Ok(bdev)
}

/// Clearing or copying a large range is done in pieces, so that a poll stays short.
fn limits(block_size: u32, optimal_io_boundary: u32) -> Limits {
    let piece = (PIECE_MAX_BYTES / block_size).max(1);
    let boundary_blocks = optimal_io_boundary;
    Limits {
        max_unmap_blocks: piece,
        max_write_zeroes_blocks: piece,
        max_copy_blocks: piece,
        boundary_blocks,
        ..Limits::default()
    }
}

struct MallocDevice {
    memory: Arc<Region>,
    block_size: u32,
    optimal_io_boundary: u32,
}

impl Device for MallocDevice {
    fn open_channel(&self, _cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        Ok(Box::new(MallocChannel::new(self.memory.clone(), self.block_size)))
    }

    fn config(&self, bdev: &Bdev) -> Option<ConfigEntry> {
        let params = json!({
            "name": bdev.name(),
            "num_blocks": bdev.num_blocks(),
            "block_size": self.block_size,
            "uuid": bdev.uuid().to_string(),
            "optimal_io_boundary": self.optimal_io_boundary,
        });
        Some(ConfigEntry::new("bdev_malloc_create", params))
    }
}
