//! # The delay bdev
//!
//! **What it is.** Another bdev whose reads and writes are answered later, for tests of what stands above it: an
//! ordinary latency, and a longer one for one IO in a hundred, in each direction.
//!
//! **Words.** *base*: the bdev below. *latency*: from the submission to the answer, the base's own time included; an IO
//! that takes the base longer is not delayed further.
//!
//! **Who may call it.** [`Delay`]: control threads. The channel: its reactor.
//!
//! **Invariants.** An answer is held back, never the IO: data is on the base when the base says so. It is there exactly
//! while its base is, and claims it. Only reads and writes are delayed, as in SPDK; flush, unmap, write-zeroes are not.
//!
//! **Map.** `lib.rs` the device · `channel.rs` per IO · `latency.rs` the four latencies · `rpc.rs` · `tests.rs`.
//!
//! **Tests.** `tests.rs`.

mod channel;
mod latency;
pub mod rpc;
#[cfg(test)]
mod tests;

pub use latency::{Bucket, Latencies};

use crate::channel::DelayChannel;
use rpc_registry::ConfigEntry;
use serde_json::{Value, json};
use std::sync::Arc;
use tgt_bdev::stack::{Layer, Stack};
use tgt_bdev::{Bdev, BdevSpec, Channel, Cx, Desc, Device};
use uuid::Uuid;

/// What control planes switch on.
pub const PRODUCT_NAME: &str = "delay";

/// All delay bdevs, those included that wait for their base; by name.
pub type Delays = Stack<Delay>;

/// A delay bdev to make.
#[derive(Clone, Debug)]
pub struct Delay {
    /// Unique name.
    pub name: String,
    /// Name, alias or UUID of the base.
    pub base: String,
    /// Identity; derived from the base's if absent.
    pub uuid: Option<Uuid>,
    /// How long IO takes; may change at any time.
    pub latencies: Arc<Latencies>,
}

impl Layer for Delay {
    fn build(&self, base: &Arc<Desc>) -> Result<Vec<BdevSpec>, String> {
        let device = Arc::new(DelayDevice { base: base.clone(), latencies: self.latencies.clone() });
        Ok(vec![BdevSpec::over(base.bdev(), self.name.clone(), PRODUCT_NAME, self.uuid, device)])
    }

    fn config(&self) -> ConfigEntry {
        let mut params = json!({"name": self.name, "base_bdev_name": self.base});
        self.latencies.write_to(&mut params);
        if let Some(uuid) = self.uuid {
            params["uuid"] = uuid.to_string().into();
        }
        ConfigEntry::new("bdev_delay_create", params)
    }
}

struct DelayDevice {
    base: Arc<Desc>,
    latencies: Arc<Latencies>,
}

impl Device for DelayDevice {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        let base = self.base.open_channel(cx).map_err(|error| error.to_string())?;
        Ok(Box::new(DelayChannel::new(base, self.latencies.clone())))
    }

    fn driver_specific(&self, bdev: &Bdev) -> Value {
        let mut told = json!({"name": bdev.name(), "base_bdev_name": self.base.bdev().name()});
        self.latencies.write_to(&mut told);
        json!({"delay": told})
    }
}
