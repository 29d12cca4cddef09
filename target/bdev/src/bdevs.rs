//! The list of bdevs of a process.

use crate::bdev::Bdev;
use crate::desc::{Desc, DescInfo, Mode, OpenError};
use crate::device::BdevSpec;
use crate::modules::{Module, Modules};
use crate::notify::{NotificationKind, Notifications};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// Block sizes that a bdev may have.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=65536;

/// How long a removal waits for openers to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a wait for a bdev's appearance looks.
const APPEAR_INTERVAL: Duration = Duration::from_millis(2);

/// All registered bdevs, in the order they were made. Control threads.
#[derive(Debug, Default)]
pub struct Bdevs {
    list: RwLock<Vec<Arc<Bdev>>>,
    notifications: Arc<Notifications>,
    modules: Arc<Modules>,
}

/// Why a bdev could not be registered. Nothing has changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegisterError {
    /// The name, an alias or the UUID is taken.
    #[error("{0:?} is already the name, an alias or the UUID of bdev {1:?}")]
    Exists(String, String),
    /// The name is empty.
    #[error("a bdev needs a name")]
    NoName,
    /// The block size cannot be served.
    #[error("block size {0}: accepted are multiples of 512 from 512 to 65536")]
    BlockSize(u32),
    /// There are no blocks, or more bytes than 64 bits hold.
    #[error("{0} blocks of {1} bytes: accepted are 1 block to 2^63 bytes")]
    NumBlocks(u64, u32),
}

/// Why a bdev was not removed, or not wholly.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RemoveError {
    /// No bdev has this name.
    #[error("there is no bdev named {0:?}")]
    NotFound(String),
    /// It is gone and its IO fails, but somebody has not let go of it: its resources are held until they do.
    #[error("bdev {bdev:?} is removed, but still held by {}; its resources are freed when they close it", names(.holders))]
    StillOpen {
        /// The bdev.
        bdev: String,
        /// Who has it open.
        holders: Vec<DescInfo>,
    },
}

fn names(holders: &[DescInfo]) -> String {
    holders.iter().map(|desc| &*desc.opener).collect::<Vec<_>>().join(", ")
}

impl Bdevs {
    /// An empty list.
    #[must_use]
    pub fn new() -> Arc<Bdevs> {
        Arc::default()
    }

    /// Adds a bdev. Those that wait for it as their base are there when this returns.
    pub fn register(&self, spec: BdevSpec) -> Result<Arc<Bdev>, RegisterError> {
        validate(&spec)?;
        let mut list = self.list.write().expect("no thread panics while it holds this lock");
        let uuid = spec.uuid.to_string();
        for name in spec.aliases.iter().chain([&spec.name, &uuid]) {
            if let Some(other) = find(&list, name) {
                return Err(RegisterError::Exists(name.clone(), other.name().to_owned()));
            }
        }
        let bdev = Arc::new(Bdev::new(spec, self.notifications.clone(), self.modules.clone()));
        list.push(bdev.clone());
        self.notifications.push(NotificationKind::BdevRegister, bdev.name());
        drop(list);
        self.modules.all().iter().for_each(|module| module.appeared(self, &bdev));
        Ok(bdev)
    }

    /// Removes a bdev: its name is free at once, its IO fails, its openers get an event and are waited for.
    pub fn remove(&self, name: &str) -> Result<(), RemoveError> {
        let bdev = self.get(name).ok_or_else(|| RemoveError::NotFound(name.to_owned()))?;
        self.remove_this(&bdev)
    }

    /// As [`Bdevs::remove`], for this very bdev and not for another that took its name meanwhile.
    pub fn remove_this(&self, bdev: &Arc<Bdev>) -> Result<(), RemoveError> {
        if !self.unlist(bdev) {
            return Err(RemoveError::NotFound(bdev.name().to_owned()));
        }
        bdev.mark_removed();
        self.modules.all().iter().for_each(|module| module.removing(self, bdev));
        let holders = bdev.wait_closed(CLOSE_TIMEOUT);
        if holders.is_empty() {
            return Ok(());
        }
        Err(RemoveError::StillOpen { bdev: bdev.name().to_owned(), holders })
    }

    /// The bdev of this name, alias or UUID.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Bdev>> {
        find(&self.list.read().expect("no thread panics while it holds this lock"), name).cloned()
    }

    /// As [`Bdevs::get`], waiting up to `patience` for it to appear.
    #[must_use]
    pub fn get_within(&self, name: &str, patience: Duration) -> Option<Arc<Bdev>> {
        let deadline = Instant::now() + patience;
        loop {
            let bdev = self.get(name);
            if bdev.is_some() || Instant::now() >= deadline {
                return bdev;
            }
            std::thread::sleep(APPEAR_INTERVAL);
        }
    }

    /// All of them, in the order they were made.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Bdev>> {
        self.list.read().expect("no thread panics while it holds this lock").clone()
    }

    /// Opens a bdev by name.
    pub fn open(&self, name: &str, opener: &str, mode: Mode) -> Result<Desc, OpenError> {
        let bdev = self.get(name).ok_or_else(|| OpenError::NotFound(name.to_owned()))?;
        Desc::open(&bdev, opener, mode)
    }

    /// Adds a module that hears of every bdev from now on.
    pub fn add_module(&self, module: Arc<dyn Module>) {
        self.modules.add(module);
    }

    /// The modules that hear of every bdev.
    pub(crate) fn modules(&self) -> Vec<Arc<dyn Module>> {
        self.modules.all()
    }

    /// What happened to them.
    #[must_use]
    pub fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    /// Takes a bdev off the list. False if it is not on it: of two removals, one wins.
    fn unlist(&self, bdev: &Arc<Bdev>) -> bool {
        let mut list = self.list.write().expect("no thread panics while it holds this lock");
        let Some(index) = list.iter().position(|listed| Arc::ptr_eq(listed, bdev)) else { return false };
        list.remove(index);
        self.notifications.push(NotificationKind::BdevUnregister, bdev.name());
        true
    }
}

fn find<'l>(list: &'l [Arc<Bdev>], name: &str) -> Option<&'l Arc<Bdev>> {
    list.iter().find(|bdev| bdev.is_named(name))
}

fn validate(spec: &BdevSpec) -> Result<(), RegisterError> {
    let BdevSpec { name, block_size, num_blocks, .. } = spec;
    if name.is_empty() {
        return Err(RegisterError::NoName);
    }
    check_geometry(*num_blocks, *block_size).map(drop)
}

/// Checks what every bdev must have, and gives its size in bytes: for modules that need it before they register.
pub fn check_geometry(num_blocks: u64, block_size: u32) -> Result<u64, RegisterError> {
    if !BLOCK_SIZES.contains(&block_size) || !block_size.is_multiple_of(512) {
        return Err(RegisterError::BlockSize(block_size));
    }
    let bytes = num_blocks.checked_mul(u64::from(block_size));
    bytes
        .filter(|bytes| (1..=1 << 63).contains(bytes))
        .ok_or(RegisterError::NumBlocks(num_blocks, block_size))
}
