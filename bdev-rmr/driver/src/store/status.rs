//! How a store fares, as control threads are told.

use super::links::LinkStatus;
use super::node::StoreKey;
use rmr_engine::ResyncLimits;
use rmr_engine::store::{Resync, Service};
use rmr_proto::EpochRecord;
use rmr_proto::disk::Superblock;
use std::time::SystemTime;

/// Where a store stands with its bdev.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Its engine runs.
    Open,
    /// Its disk took no metadata: it serves nothing until it is opened again.
    Latched,
    /// It waits for what the disk has.
    Closing,
    /// It has let go of its bdev by itself.
    Closed,
}

impl Phase {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Latched => "latched",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// A store as of now.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// What it is.
    pub superblock: Superblock,
    /// Name of its bdev.
    pub bdev: String,
    /// Where it stands with it.
    pub phase: Phase,
    /// Why, if it is not open; since when.
    pub why: Option<String>,
    /// The last change of phase.
    pub since: SystemTime,
    /// What the engine says, while there is one.
    pub engine: Option<EngineStatus>,
    /// Requests that came in and are not answered.
    pub requests: usize,
    /// Operations that the disk has.
    pub on_disk: usize,
    /// Buffers that the engine has by number.
    pub buffers: usize,
    /// Clients that spoke.
    pub clients: usize,
    /// Letters that nobody came for, or that had no way.
    pub letters_dropped: u64,
    /// The other members.
    pub links: Vec<LinkStatus>,
}

/// What the engine of a store says.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// May it serve, and if not why.
    pub service: Service,
    /// A promise or adoption is being carried out.
    pub fencing: bool,
    /// What is durable.
    pub record: EpochRecord,
    /// Chunks of the device not clean here.
    pub dirty_chunks: u64,
    /// Live intent entries.
    pub entries: usize,
    /// Chunks that are being copied to it.
    pub copying: usize,
    /// How resync stands.
    pub resync: Resync,
    /// How fast it may go.
    pub limits: ResyncLimits,
}

impl StoreStatus {
    /// Which store it is.
    #[must_use]
    pub fn key(&self) -> StoreKey {
        StoreKey { pool: self.superblock.pool, member: self.superblock.member }
    }
}
