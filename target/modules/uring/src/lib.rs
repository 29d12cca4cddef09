//! # The uring and aio bdevs
//!
//! **What it is.** A file or a block device as a bdev, through its reactor's io_uring, past the page cache (`O_DIRECT`)
//! where the file system can. SPDK has two modules for it, and control planes know both by their names: here `uring`
//! and `aio` are one engine that answers to both.
//!
//! **Words.** *backing*: the open file or device. *direct*: past the page cache. *bounce*: a buffer of our own, for
//! an IO whose memory is not aligned as the backing wants it. *holder*: whoever else uses a backing.
//!
//! **Who may call it.** [`create`], [`rescan`], [`delete`]: control threads. The channel: its reactor.
//!
//! **Invariants.** A backing belongs to one bdev of one process: a file by a lock (`flock`), a device by `O_EXCL`. Both
//! belong to the open file, which the kernel keeps until the last IO on it has ended, also after `kill -9`: nobody gets
//! the backing while a write of a dead process is still under way. A read of bytes that are not there fails, it never
//! gives zeroes. A write that a flush follows is on stable storage when the flush succeeds. A failing device gives
//! failing IO; the bdev stays until it is deleted, as SPDK's do.
//!
//! **Map.** Per IO: `channel.rs`, `step.rs` what an IO asks of the kernel. Control: `lib.rs` the device · `backing.rs`
//! open and refuse · `holder.rs` who uses it · `error.rs` · `rpc.rs` the methods.
//!
//! **Tests.** `tests.rs`; data against a model: `test/bdevs`; processes that die: `test/e2e`.

mod backing;
mod channel;
mod error;
mod holder;
pub mod rpc;
mod step;
#[cfg(test)]
mod tests;

pub use crate::error::{CreateError, RescanError};

use crate::backing::Backing;
use crate::channel::UringChannel;
use rpc_registry::ConfigEntry;
use serde_json::{Value, json};
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tgt_bdev::{Bdev, BdevSpec, Bdevs, Channel, Cx, Device, Limits, Op, OpSet, RemoveError};
use tgt_env::uring::SEGMENTS_MAX;
use uuid::Uuid;

/// Longest read or write; longer ones are split.
const RW_MAX_BYTES: u32 = 1 << 20;
/// Longest range that one request discards.
const UNMAP_MAX_BYTES: u32 = 1 << 30;
/// Longest range that one request zeroes: where the kernel has to write the zeroes, it cannot be stopped meanwhile.
const ZERO_MAX_BYTES: u32 = 8 << 20;

/// How long a deletion waits until the kernel has closed the backing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Under which of SPDK's names a bdev is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `bdev_uring_*`.
    Uring,
    /// `bdev_aio_*`.
    Aio {
        /// No writes.
        readonly: bool,
        /// Whether it discards; without it zeroes are written.
        fallocate: bool,
        /// Kept for the saved configuration: io_uring tries without blocking first in any case.
        nowait: bool,
    },
}

/// A bdev to make.
#[derive(Clone, Debug)]
pub struct UringSpec {
    /// Unique name.
    pub name: String,
    /// The file or block device.
    pub filename: PathBuf,
    /// Bytes per block; the least that the backing takes without it.
    pub block_size: Option<u32>,
    /// Identity; drawn at random if absent.
    pub uuid: Option<Uuid>,
    /// Which of the two.
    pub flavour: Flavour,
}

impl Flavour {
    /// What control planes switch on.
    #[must_use]
    pub const fn product_name(self) -> &'static str {
        match self {
            Flavour::Uring => "URING bdev",
            Flavour::Aio { .. } => "AIO disk",
        }
    }

    const fn readonly(self) -> bool {
        matches!(self, Flavour::Aio { readonly: true, .. })
    }

    const fn discards(self) -> bool {
        matches!(self, Flavour::Uring | Flavour::Aio { fallocate: true, .. })
    }
}

/// Opens the backing and registers its bdev.
pub fn create(bdevs: &Bdevs, spec: UringSpec) -> Result<Arc<Bdev>, CreateError> {
    let UringSpec { name, filename, block_size, uuid, flavour } = spec;
    let backing = Backing::open(&filename, &name, flavour)?;
    let given = block_size;
    let block_size = backing.block_size(given)?;
    let bytes = backing.bytes()?;
    if bytes == 0 || !bytes.is_multiple_of(u64::from(block_size)) {
        return Err(CreateError::Size { path: filename, bytes, block_size });
    }
    if !backing.direct() {
        tracing::warn!(
            bdev = name,
            "{} cannot be read and written directly (O_DIRECT): its IO goes through the page cache; a flush makes it durable",
            filename.display()
        );
    }
    let (ops, limits) = (ops(flavour, &backing), limits(block_size));
    let device = Arc::new(UringDevice { backing: Arc::new(backing), block_size, given, flavour });
    Ok(bdevs.register(BdevSpec {
        name,
        aliases: Vec::new(),
        product_name: flavour.product_name(),
        uuid: uuid.unwrap_or_else(Uuid::new_v4),
        block_size,
        num_blocks: bytes / u64::from(block_size),
        ops,
        limits,
        numa_node: None,
        device,
    })?)
}

/// Takes the backing's present size over. A bdev becomes smaller only while nobody has it open.
pub fn rescan(bdev: &Bdev) -> Result<(), RescanError> {
    let device = device_of(bdev).ok_or_else(|| RescanError::NotOurs(bdev.name().to_owned()))?;
    let bytes = device.backing.bytes().map_err(RescanError::Backing)?;
    let (now, then) = (bytes / u64::from(device.block_size), bdev.num_blocks());
    if now == 0 {
        return Err(RescanError::Empty {
            bdev: bdev.name().to_owned(),
            bytes,
            block_size: device.block_size,
        });
    }
    if now < then && !bdev.openers().is_empty() {
        return Err(RescanError::Shrunk { bdev: bdev.name().to_owned(), now, then });
    }
    if now != then {
        bdev.resize(now);
    }
    Ok(())
}

/// Removes a bdev. When this returns without an error its backing is closed and free for others.
pub fn delete(bdevs: &Bdevs, bdev: Arc<Bdev>) -> Result<(), RemoveError> {
    let backing = device_of(&bdev).map(|device| Arc::downgrade(&device.backing));
    bdevs.remove_this(&bdev)?;
    drop(bdev);
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    // The reactors' rings let go of it by message.
    while backing.as_ref().is_some_and(|backing| backing.strong_count() > 0) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn device_of(bdev: &Bdev) -> Option<&UringDevice> {
    let device: &dyn Any = bdev.device().as_ref();
    device.downcast_ref()
}

fn ops(flavour: Flavour, backing: &Backing) -> OpSet {
    let mut ops = OpSet::of(&[Op::Read, Op::Flush, Op::Reset, Op::Abort]);
    if !flavour.readonly() {
        ops = ops.with(Op::Write).with(Op::WriteZeroes);
        if flavour.discards() && backing.can_discard() {
            ops = ops.with(Op::Unmap);
        }
    }
    ops
}

fn limits(block_size: u32) -> Limits {
    Limits {
        max_copy_blocks: 0,
        max_rw_blocks: RW_MAX_BYTES / block_size,
        max_unmap_blocks: UNMAP_MAX_BYTES / block_size,
        max_write_zeroes_blocks: ZERO_MAX_BYTES / block_size,
        boundary_blocks: 0,
        max_segments: SEGMENTS_MAX as u16,
    }
}

struct UringDevice {
    backing: Arc<Backing>,
    block_size: u32,
    /// As the caller gave it.
    given: Option<u32>,
    flavour: Flavour,
}

impl Device for UringDevice {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        Ok(Box::new(UringChannel::open(cx, self.backing.clone(), self.block_size)?))
    }

    fn driver_specific(&self, _bdev: &Bdev) -> Value {
        let (filename, direct) = (self.backing.path(), self.backing.direct());
        match self.flavour {
            Flavour::Uring => json!({"uring": {"filename": filename, "direct": direct}}),
            Flavour::Aio { readonly, fallocate, nowait } => json!({"aio": {
                "filename": filename,
                "block_size_override": self.given.is_some(),
                "readonly": readonly,
                "fallocate": fallocate,
                "nowait": nowait,
                "direct": direct,
            }}),
        }
    }

    fn config(&self, bdev: &Bdev) -> Option<ConfigEntry> {
        let mut params = json!({
            "name": bdev.name(),
            "filename": self.backing.path(),
            "block_size": self.block_size,
            "uuid": bdev.uuid().to_string(),
        });
        let method = match self.flavour {
            Flavour::Uring => "bdev_uring_create",
            Flavour::Aio { readonly, fallocate, nowait } => {
                params["readonly"] = readonly.into();
                params["fallocate"] = fallocate.into();
                params["nowait"] = nowait.into();
                "bdev_aio_create"
            }
        };
        Some(ConfigEntry::new(method, params))
    }
}
