//! A namespace: a bdev under a number, with an identity.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use tgt_bdev::{Bdev, Desc};
use uuid::Uuid;

/// How hosts know a namespace, the same over all paths and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// UUID.
    pub uuid: Uuid,
    /// Globally unique id.
    pub nguid: [u8; 16],
    /// Extended unique id; zeroes: none.
    pub eui64: [u8; 8],
}

/// A namespace of a subsystem. Holds its bdev open until the last one who knows it has let it go.
#[derive(Debug)]
pub struct Namespace {
    /// Its number in the subsystem.
    pub nsid: u32,
    /// Its number in the process: another one each time a namespace is added.
    pub key: u64,
    /// Identity.
    pub identity: Identity,
    /// Group of asymmetric access.
    pub ana_group: AtomicU32,
    /// The open bdev.
    pub desc: Desc,
}

impl Namespace {
    /// Of an open and claimed bdev.
    #[must_use]
    pub fn new(nsid: u32, identity: Identity, ana_group: u32, desc: Desc) -> Arc<Namespace> {
        static KEYS: AtomicU64 = AtomicU64::new(1);
        let key = KEYS.fetch_add(1, Relaxed);
        Arc::new(Namespace { nsid, key, identity, ana_group: AtomicU32::new(ana_group), desc })
    }

    /// The bdev behind it.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        self.desc.bdev()
    }
}
