//! Promises and epochs: who may write, and which members are up to date.

use crate::{ChunkBits, Incarnation, MEMBERS_MAX, MemberId, MemberSet, RegionNo};
use std::fmt;

/// What a node has promised: it serves nobody with a smaller one. Ordered by generation, then nonce.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Promise {
    /// Counts assemblies.
    pub generation: u64,
    /// Drawn at random by the client; tells two clients of one generation apart.
    pub nonce: u64,
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.generation, self.nonce & 0xffff)
    }
}

/// One version of the set, proposed once. Ordered by promise, then version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// Whose it is.
    pub promise: Promise,
    /// Counts the proposals of one generation.
    pub version: u64,
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:?},{})", self.promise, self.version)
    }
}

/// How a proposed set came to be; decides who may adopt it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Origin {
    /// First epoch of a new pool: `reference` holds the contents, everybody else has missed everything.
    Create {
        /// Whose contents count.
        reference: MemberId,
    },
    /// First epoch of a generation.
    #[default]
    Assembly,
    /// Contained in the one before.
    Shrink,
    /// The active set and one more.
    Join {
        /// Who comes in.
        member: MemberId,
    },
}

impl Origin {
    /// Who comes in, if somebody does.
    pub const fn joiner(self) -> Option<MemberId> {
        match self {
            Self::Join { member } => Some(member),
            _ => None,
        }
    }
}

/// What peers remember of a member's disk: proof that it did not go back in time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Stamp {
    /// Which disk.
    pub incarnation: Incarnation,
    /// Metadata writes so far.
    pub counter: u64,
}

/// The record that says who is up to date; one on each store, rewritten with every metadata commit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct EpochRecord {
    /// Highest promise given.
    pub promise: Promise,
    /// Epoch adopted last. Zero: none yet.
    pub adopted: Epoch,
    /// Last active epoch that `adopted` grew from.
    pub base: Epoch,
    /// How `set` came to be.
    pub origin: Origin,
    /// Members up to date in `adopted`.
    pub set: MemberSet,
    /// All members of the pool.
    pub members: MemberSet,
    /// Members in maintenance: not let in until that ends. Never in `set`.
    pub resting: MemberSet,
    /// Blocks of the device.
    pub blocks: u64,
    /// Boot of the host in which `adopted` was adopted; 0 = what the cache held then may be gone.
    pub boot: u64,
    /// Commits of metadata so far.
    pub counter: u64,
    /// What this store last heard of each member's disk.
    pub peers: [Stamp; MEMBERS_MAX],
    /// Last epoch in which this store executed a write; durable before the first write of an epoch executes.
    pub wrote: Epoch,
    /// By member: newest epoch of this history in whose set it was. Who wrote later did so in another history.
    pub last_in: [Epoch; MEMBERS_MAX],
    /// Last epoch in which this store took for clean what it had in doubt: adopted an assembly, or called a copied chunk
    /// clean; durable with that. If it is not of the history that the store comes to, the store has all of it to learn.
    pub decided: Epoch,
    /// The store has begun to learn the maps of a newer set: what it says others have missed is void. Should it be
    /// started by force as it is, the others count as having missed everything.
    pub learning: bool,
}

/// Which chunks of one region each member has missed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RegionMisses {
    /// Which region.
    pub region: RegionNo,
    /// By member: chunks proved stale.
    pub missed: [ChunkBits; MEMBERS_MAX],
    /// Chunks that may differ: of the store itself on disk and in a query, the settled ones in a verdict.
    pub suspect: ChunkBits,
    /// Of these, on disk and in a query: chunks whose newest contents the store may have lost with its cache.
    pub lost: ChunkBits,
}

impl RegionMisses {
    /// These chunks are not suspect any more.
    pub fn settle(&mut self, chunks: ChunkBits) {
        self.suspect = self.suspect.minus(chunks);
        self.lost = self.lost.minus(chunks);
    }

    /// Nothing missed, nothing suspect?
    pub fn is_empty(&self) -> bool {
        self.suspect.is_empty() && self.missed.iter().all(|bits| bits.is_empty())
    }
}
