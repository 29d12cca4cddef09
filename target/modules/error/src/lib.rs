//! # The error bdev
//!
//! **What it is.** Another bdev that does what it is told to do wrong, for tests of what stands above it: fail with any
//! status, hold IO back, change data, run out of slots. Named `EE_` and its base's name.
//!
//! **Words.** *base*: the bdev below. *fault*: one thing to do wrong, so many times, for one kind of IO. *pending*: held
//! back until it is resumed, aborted or reset.
//!
//! **Who may call it.** [`ErrorLayer`], [`Faults`]: control threads; reactors take faults. The channel: its reactor.
//!
//! **Invariants.** Without a fault it is its base. A write whose data is changed changes what reaches the base, never
//! the writer's own memory, which others may be reading. It is there exactly while its base is, and claims it; faults
//! outlive the base.
//!
//! **Map.** `lib.rs` the device · `channel.rs` per IO · `corrupt.rs` changed data · `fault.rs` what to do wrong ·
//! `rpc.rs` the methods · `tests.rs`.
//!
//! **Tests.** `tests.rs`.

mod channel;
mod corrupt;
mod fault;
pub mod rpc;
#[cfg(test)]
mod tests;

pub use fault::{Fault, Faults, Kind, Target};

use crate::channel::ErrorChannel;
use rpc_registry::ConfigEntry;
use serde_json::{Value, json};
use std::sync::Arc;
use tgt_bdev::stack::{Layer, Stack};
use tgt_bdev::{Bdev, BdevSpec, Channel, Cx, Desc, Device, Limits};
use uuid::Uuid;

/// What control planes switch on.
pub const PRODUCT_NAME: &str = "Error Injection Disk";

/// Longest read or write that is taken as one: a write whose data is changed is copied into one buffer.
const RW_MAX_BYTES: u32 = 1 << 20;

/// All error bdevs, those included that wait for their base; by name.
pub type Errors = Stack<ErrorLayer>;

/// An error bdev to make.
#[derive(Clone, Debug)]
pub struct ErrorLayer {
    /// Name, alias or UUID of the base.
    pub base: String,
    /// Identity; derived from the base's if absent.
    pub uuid: Option<Uuid>,
    /// What to do wrong; may change at any time.
    pub faults: Arc<Faults>,
}

/// The name of the error bdev on `base`.
#[must_use]
pub fn name_on(base: &str) -> String {
    format!("EE_{base}")
}

impl Layer for ErrorLayer {
    fn build(&self, base: &Arc<Desc>) -> Result<Vec<BdevSpec>, String> {
        let below = base.bdev();
        let device = Arc::new(ErrorDevice { base: base.clone(), faults: self.faults.clone() });
        let limits = Limits { max_rw_blocks: RW_MAX_BYTES / below.block_size(), ..Limits::default() };
        let like_base = BdevSpec::over(below, name_on(&self.base), PRODUCT_NAME, self.uuid, device);
        Ok(vec![BdevSpec { limits, ..like_base }])
    }

    fn config(&self) -> ConfigEntry {
        let mut params = json!({"base_name": self.base});
        if let Some(uuid) = self.uuid {
            params["uuid"] = uuid.to_string().into();
        }
        ConfigEntry::new("bdev_error_create", params)
    }
}

struct ErrorDevice {
    base: Arc<Desc>,
    faults: Arc<Faults>,
}

impl Device for ErrorDevice {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        self.faults.remember_reactors(cx.peers());
        let base = self.base.open_channel(cx).map_err(|error| error.to_string())?;
        Ok(Box::new(ErrorChannel::new(base, self.faults.clone())))
    }

    fn driver_specific(&self, _bdev: &Bdev) -> Value {
        json!({"error_disk": {"base_bdev": self.base.bdev().name()}})
    }
}
