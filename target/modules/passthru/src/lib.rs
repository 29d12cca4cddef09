//! # The passthru bdev
//!
//! **What it is.** Another bdev under a second name: every IO goes down and up untouched. What a layer costs, and an
//! example of one.
//!
//! **Words.** *base*: the bdev below.
//!
//! **Who may call it.** [`Passthru`]: control threads. The channel: its reactor.
//!
//! **Invariants.** It is there exactly while its base is, and claims it. Its size is the base's.
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
use tgt_bdev::stack::{Layer, Stack, open_relay};
use tgt_bdev::{Bdev, BdevSpec, Channel, Cx, Desc, Device};
use uuid::Uuid;

/// What control planes switch on.
pub const PRODUCT_NAME: &str = "passthru";

/// All passthru bdevs, those included that wait for their base; by name.
pub type Passthrus = Stack<Passthru>;

/// A passthru bdev to make.
#[derive(Clone, Debug)]
pub struct Passthru {
    /// Unique name.
    pub name: String,
    /// Name, alias or UUID of the base.
    pub base: String,
    /// Identity; derived from the base's if absent.
    pub uuid: Option<Uuid>,
}

impl Layer for Passthru {
    fn build(&self, base: &Arc<Desc>) -> Result<Vec<BdevSpec>, String> {
        let device = Arc::new(PassthruDevice { base: base.clone() });
        Ok(vec![BdevSpec::over(base.bdev(), self.name.clone(), PRODUCT_NAME, self.uuid, device)])
    }

    fn config(&self) -> ConfigEntry {
        let mut params = json!({"name": self.name, "base_bdev_name": self.base});
        if let Some(uuid) = self.uuid {
            params["uuid"] = uuid.to_string().into();
        }
        ConfigEntry::new("bdev_passthru_create", params)
    }
}

struct PassthruDevice {
    base: Arc<Desc>,
}

impl Device for PassthruDevice {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        Ok(Box::new(open_relay(&self.base, cx, 0)?))
    }

    fn driver_specific(&self, bdev: &Bdev) -> Value {
        json!({"passthru": {"name": bdev.name(), "base_bdev_name": self.base.bdev().name()}})
    }
}
