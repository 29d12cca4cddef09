//! # The split bdevs
//!
//! **What it is.** Equal parts of another bdev, one after the other: `Base` becomes `Basep0`, `Basep1`, ...
//!
//! **Words.** *base*: the bdev below. *part*: one of the bdevs on it.
//!
//! **Who may call it.** [`Split`]: control threads. The channel: its reactor.
//!
//! **Invariants.** Parts do not overlap. They are there exactly while their base is, which they claim together. They
//! stay where they are when the base grows; a part that the base no longer holds fails its IO there.
//!
//! **Map.** `lib.rs` the device; its channel is [`tgt_bdev::stack::Relay`] · `rpc.rs` the methods · `tests.rs`.
//!
//! **Tests.** `tests.rs`; its cost: `docs/figures.md`.

pub mod rpc;
#[cfg(test)]
mod tests;

use rpc_registry::ConfigEntry;
use serde_json::{Value, json};
use std::sync::Arc;
use tgt_bdev::stack::{Layer, Stack, derived_uuid, open_relay};
use tgt_bdev::{Bdev, BdevSpec, Channel, Cx, Desc, Device, Op, OpSet};

/// What control planes switch on.
pub const PRODUCT_NAME: &str = "Split Disk";

const MIB: u64 = 1 << 20;

/// All split bases, those included that are not there yet; by the base's name as it was given.
pub type Splits = Stack<Split>;

/// Parts to make.
#[derive(Clone, Debug)]
pub struct Split {
    /// Name, alias or UUID of the base.
    pub base: String,
    /// Parts; fewer if the base has no room for as many of the given size, as in SPDK.
    pub count: u32,
    /// MiB of each part; zero: the base's blocks, divided.
    pub size_mib: u64,
}

impl Split {
    /// Blocks of one part, and how many parts there are.
    fn geometry(&self, base: &Bdev) -> Result<(u64, u64), String> {
        let (blocks, block_size) = (base.num_blocks(), u64::from(base.block_size()));
        let (count, size_mib) = (u64::from(self.count), self.size_mib);
        if size_mib == 0 {
            let each = blocks.checked_div(count).unwrap_or(0);
            return if each > 0 {
                Ok((each, count))
            } else {
                Err(format!("its {blocks} blocks do not make {count} parts"))
            };
        }
        let bytes = size_mib.checked_mul(MIB).filter(|bytes| bytes.is_multiple_of(block_size));
        let each = bytes
            .ok_or_else(|| format!("{size_mib} MiB are not a number of its blocks of {block_size} bytes"))?
            / block_size;
        match (blocks / each).min(count) {
            0 => Err(format!(
                "its {blocks} blocks of {block_size} bytes do not hold one part of {size_mib} MiB"
            )),
            fit => Ok((each, fit)),
        }
    }
}

/// The name of a part.
#[must_use]
pub fn part_name(base: &str, index: u64) -> String {
    format!("{base}p{index}")
}

impl Layer for Split {
    fn build(&self, base: &Arc<Desc>) -> Result<Vec<BdevSpec>, String> {
        let below = base.bdev();
        let (each, count) = self.geometry(below)?;
        if count < u64::from(self.count) {
            tracing::warn!(
                base = below.name(),
                "room for {count} parts of {} MiB, not for {}",
                self.size_mib,
                self.count
            );
        }
        let part = |index: u64| {
            let uuid = derived_uuid(below, &format!("split {index}"));
            let device = Arc::new(Part { base: base.clone(), first_block: index * each });
            let like_base =
                BdevSpec::over(below, part_name(below.name(), index), PRODUCT_NAME, Some(uuid), device);
            BdevSpec { num_blocks: each, ops: ops(below), ..like_base }
        };
        Ok((0..count).map(part).collect())
    }

    fn config(&self) -> ConfigEntry {
        let params =
            json!({"base_bdev": self.base, "split_count": self.count, "split_size_mb": self.size_mib});
        ConfigEntry::new("bdev_split_create", params)
    }

    /// Parts keep their place.
    fn resized(&self, _base: &Bdev, _ours: &[Arc<Bdev>]) {}
}

/// What a part hands to its base as it is. A copy's source ranges would have to be shifted in a buffer of their own, kept
/// until the copy ends; the block layer makes reads and writes of it instead, which need nothing. What the base emulates
/// is emulated here: a compare-and-write then locks blocks of its part, and not of the others.
fn ops(base: &Bdev) -> OpSet {
    base.native_ops().without(Op::Copy)
}

struct Part {
    base: Arc<Desc>,
    first_block: u64,
}

impl Device for Part {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        Ok(Box::new(open_relay(&self.base, cx, self.first_block)?))
    }

    fn driver_specific(&self, _bdev: &Bdev) -> Value {
        json!({"split": {"base_bdev": self.base.bdev().name(), "offset_blocks": self.first_block}})
    }
}
