//! Virtqueues, without IO: what a guest has made available, and what is answered.
//!
//! Virtual I/O Device 1.2, sections 2.7 (split) and 2.8 (packed). `mod` what both have in common · `walk` descriptors ·
//! `split` · `packed` · `tests`.

mod packed;
mod split;
#[cfg(test)]
mod tests;
mod walk;

use tgt_guest_memory::{Fault, GuestMemory};

use crate::inflight::Inflight;
use packed::PackedRing;
pub(crate) use packed::{OWNER, Position};
use split::SplitRing;
pub(crate) use walk::Desc;

/// Most descriptors of a ring: QEMU's limit.
pub(crate) const SIZE_MAX: u16 = 1024;

/// Where a ring lies, and how it is used. Addresses are the monitor's, but for the log's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RingSpec {
    pub(crate) size: u16,
    /// Descriptor table, or descriptor ring.
    pub(crate) desc: u64,
    /// Available ring, or driver's event suppression.
    pub(crate) driver: u64,
    /// Used ring, or device's event suppression.
    pub(crate) device: u64,
    /// Guest address of the used ring, for the dirty log; none if its writes need not be noted.
    pub(crate) log: Option<u64>,
    pub(crate) packed: bool,
    pub(crate) event_idx: bool,
    pub(crate) indirect: bool,
}

/// What is wrong with a ring: nothing more is taken from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RingFault {
    #[error("a ring of {0} descriptors: accepted are 1 to {SIZE_MAX}, for split rings powers of two")]
    Size(u16),
    #[error("the available index is {index}, {waiting} ahead of what was taken, in a ring of {size}")]
    TooFar { index: u16, waiting: u16, size: u16 },
    #[error("descriptor {index} of {size}")]
    Index { index: u16, size: u16 },
    #[error("a chain of more than {limit} descriptors: it has a loop, or is too long")]
    Loop { limit: u16 },
    #[error("an indirect table that was not agreed on, lies in another, or has a next descriptor")]
    Indirect,
    #[error("an indirect table of {0} bytes: accepted are 16 to 16384, a multiple of 16")]
    Table(u32),
    #[error("a descriptor to read after one to write")]
    Order,
    #[error("chain {id} was made available while it is in flight, or is none of {size}")]
    Twice { id: u16, size: u16 },
    #[error("a request of {0} bytes to read: its header has 16")]
    Header(u64),
    #[error("a request without a byte for its status")]
    NoStatus,
    #[error("the inflight region: {0}")]
    Inflight(&'static str),
    #[error("{0}")]
    Memory(#[from] Fault),
}

/// A piece of guest memory that a descriptor names; it was all there when the chain was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) at: u64,
    pub(crate) len: u32,
}

/// The memory of one chain, in order. Used again for each chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// What the device reads.
    pub(crate) readable: Vec<Segment>,
    /// What the device writes.
    pub(crate) writable: Vec<Segment>,
}

/// A chain that was taken, by which it is answered. Not Copy: it is answered once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Its head, or the buffer id: below the ring's size, and nobody else's while it is in flight.
    pub(crate) id: u16,
    /// Descriptors it takes of a packed ring.
    slots: u16,
    /// Its first entry in a packed ring's inflight region.
    entry: u16,
}

/// One ring.
#[derive(Debug)]
pub(crate) enum Ring {
    Split(SplitRing),
    Packed(PackedRing),
}

impl Ring {
    /// The ring that `spec` says. `base` is where it goes on, as `SET_VRING_BASE` has it; with an inflight region that is
    /// found in it instead, and the chains that were in flight are taken first.
    pub(crate) fn new(
        memory: &GuestMemory,
        spec: &RingSpec,
        base: u32,
        inflight: Option<Inflight>,
    ) -> Result<Ring, RingFault> {
        if spec.size == 0 || spec.size > SIZE_MAX {
            return Err(RingFault::Size(spec.size));
        }
        Ok(match (spec.packed, inflight) {
            (false, None) => Ring::Split(SplitRing::new(memory, spec, base, None)?),
            (false, Some(Inflight::Split(region))) => {
                Ring::Split(SplitRing::new(memory, spec, base, Some(region))?)
            }
            (true, None) => Ring::Packed(PackedRing::new(memory, spec, base, None)?),
            (true, Some(Inflight::Packed(region))) => {
                Ring::Packed(PackedRing::new(memory, spec, base, Some(region))?)
            }
            _ => return Err(RingFault::Inflight("it was made for another kind of ring")),
        })
    }

    /// Takes the next chain, into `chain`.
    #[inline]
    pub(crate) fn take(
        &mut self,
        memory: &GuestMemory,
        chain: &mut Chain,
    ) -> Result<Option<Taken>, RingFault> {
        match self {
            Ring::Split(ring) => ring.take(memory, chain),
            Ring::Packed(ring) => ring.take(memory, chain),
        }
    }

    /// Answers a chain of which `written` bytes were written. The guest sees it after [`Ring::publish`], or at once.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        memory: &GuestMemory,
        taken: Taken,
        written: u32,
    ) -> Result<(), RingFault> {
        match self {
            Ring::Split(ring) => ring.answer(memory, taken, written),
            Ring::Packed(ring) => ring.answer(memory, taken, written),
        }
    }

    /// Lets the guest see all that was answered.
    #[inline]
    pub(crate) fn publish(&mut self, memory: &GuestMemory) -> Result<(), RingFault> {
        match self {
            Ring::Split(ring) => ring.publish(memory),
            Ring::Packed(_) => Ok(()),
        }
    }

    /// Whether the guest wants to be called for what was published since it was asked last.
    #[inline]
    pub(crate) fn wants_call(&mut self) -> bool {
        match self {
            Ring::Split(ring) => ring.wants_call(),
            Ring::Packed(ring) => ring.wants_call(),
        }
    }

    /// Asks the guest to kick for the next chain, or not to. True if there is one already: its kick will not come.
    pub(crate) fn ask_for_kicks(&mut self, memory: &GuestMemory, wanted: bool) -> Result<bool, RingFault> {
        match self {
            Ring::Split(ring) => ring.ask_for_kicks(memory, wanted),
            Ring::Packed(ring) => ring.ask_for_kicks(memory, wanted),
        }
    }

    /// Whether there are chains that an earlier process took and did not answer: they are taken before anything else, and
    /// before a ring stops.
    pub(crate) fn owes(&self) -> bool {
        match self {
            Ring::Split(ring) => ring.owes(),
            Ring::Packed(ring) => ring.owes(),
        }
    }

    /// Where it stands, as `GET_VRING_BASE` has it. Nothing may be in flight.
    pub(crate) fn base(&self) -> u32 {
        match self {
            Ring::Split(ring) => ring.base(),
            Ring::Packed(ring) => ring.base(),
        }
    }
}

/// Whether an event index lies in what was done since `old`, up to `new` (Virtual I/O Device 1.2, 2.7.7.1).
const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
