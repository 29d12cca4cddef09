//! What a module provides.

use crate::bdev::Bdev;
use crate::channel::Channel;
use crate::io::Op;
use rpc_registry::ConfigEntry;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use tgt_reactor::Cx;
use uuid::Uuid;

/// A device as its module implements it. Shared by all reactors. Modules know their own again by downcasting.
pub trait Device: Any + Send + Sync {
    /// Opens this device on the reactor of `cx`. On an error nothing is left behind; the text says what and why.
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String>;

    /// `driver_specific` of `bdev_get_bdevs`.
    fn driver_specific(&self, _bdev: &Bdev) -> serde_json::Value {
        serde_json::json!({})
    }

    /// The call that makes this device again, for `save_config`. None: it is made by something else.
    fn config(&self, _bdev: &Bdev) -> Option<ConfigEntry> {
        None
    }
}

/// A set of operations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OpSet(u16);

impl OpSet {
    /// These operations.
    #[must_use]
    pub fn of(ops: &[Op]) -> OpSet {
        OpSet(ops.iter().fold(0, |bits, op| bits | 1 << *op as u16))
    }

    /// Every operation there is.
    #[must_use]
    pub fn all() -> OpSet {
        OpSet::of(&Op::ALL)
    }

    /// Whether `op` is one of them.
    #[inline]
    #[must_use]
    pub const fn contains(self, op: Op) -> bool {
        self.0 & 1 << op as u16 != 0
    }

    /// These, and what the block layer makes of reads and writes.
    #[must_use]
    pub(crate) const fn with_emulated(self) -> OpSet {
        match (self.contains(Op::Read), self.contains(Op::Write)) {
            (false, _) => self,
            (true, false) => self.with(Op::Compare),
            (true, true) => self.with(Op::Compare).with(Op::CompareAndWrite).with(Op::Copy),
        }
    }

    /// These and `op`.
    #[must_use]
    pub const fn with(self, op: Op) -> OpSet {
        OpSet(self.0 | 1 << op as u16)
    }

    /// These without `op`.
    #[must_use]
    pub const fn without(self, op: Op) -> OpSet {
        OpSet(self.0 & !(1 << op as u16))
    }
}

impl fmt::Debug for OpSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Op::ALL.iter().filter(|op| self.contains(**op))).finish()
    }
}

/// What a device can take in one IO, in blocks. Larger IO is split above it. Zero: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest read, write or compare; a longer compare-and-write is emulated.
    pub max_rw_blocks: u32,
    /// Longest unmap.
    pub max_unmap_blocks: u32,
    /// Longest write-zeroes.
    pub max_write_zeroes_blocks: u32,
    /// Longest copy; a longer one is emulated.
    pub max_copy_blocks: u32,
    /// Reads and writes do not cross multiples of this; a copy or compare-and-write that would is emulated.
    pub boundary_blocks: u32,
    /// Most memory segments of a read or write.
    pub max_segments: u16,
}

/// A bdev to register.
pub struct BdevSpec {
    /// Unique name.
    pub name: String,
    /// Further names it is found by, beside its UUID.
    pub aliases: Vec<String>,
    /// What control planes switch on: "Malloc disk", "Null disk", …
    pub product_name: &'static str,
    /// Identity.
    pub uuid: Uuid,
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// What it does itself. Compare, compare-and-write and copy are emulated if reads and writes are among them; a
    /// device that claims compare-and-write does it atomically against every IO of every reactor.
    pub ops: OpSet,
    /// What it takes in one IO.
    pub limits: Limits,
    /// NUMA node of its memory or hardware, if it has one.
    pub numa_node: Option<u32>,
    /// The implementation.
    pub device: Arc<dyn Device>,
}

impl fmt::Debug for BdevSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BdevSpec { name, product_name, block_size, num_blocks, .. } = self;
        write!(f, "{product_name} {name}, {num_blocks} blocks of {block_size} bytes")
    }
}
