//! Modules that want to hear of bdevs other than their own: those that stack bdevs on others.

use crate::{Bdev, Bdevs};
use rpc_registry::ConfigEntry;
use std::sync::{Arc, RwLock};

/// A module that hears of every bdev. Control threads; several may call at once.
pub trait Module: Send + Sync {
    /// A bdev was registered: it can be opened.
    fn appeared(&self, _bdevs: &Bdevs, _bdev: &Arc<Bdev>) {}

    /// A bdev is being removed: its IO fails and nobody can open it any more. Let go of it before this returns; the
    /// removal waits for those who have not.
    fn removing(&self, _bdevs: &Bdevs, _bdev: &Arc<Bdev>) {}

    /// A bdev has another size.
    fn resized(&self, _bdev: &Bdev) {}

    /// The calls that make what this module has made, for `save_config`; [`crate::Device::config`] of its bdevs says
    /// nothing then.
    fn config(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// The modules of a process that want to hear.
#[derive(Default)]
pub(crate) struct Modules {
    list: RwLock<Vec<Arc<dyn Module>>>,
}

impl Modules {
    pub(crate) fn add(&self, module: Arc<dyn Module>) {
        self.list.write().expect("no thread panics while it holds this lock").push(module);
    }

    /// All of them, in the order they were added; they are called without a lock held.
    pub(crate) fn all(&self) -> Vec<Arc<dyn Module>> {
        self.list.read().expect("no thread panics while it holds this lock").clone()
    }
}

impl std::fmt::Debug for Modules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} modules", self.all().len())
    }
}
