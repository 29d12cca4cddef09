//! Descriptors, each read once and checked.

use std::sync::atomic::Ordering::Relaxed;

use tgt_guest_memory::{GuestMemory, Window};
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use super::{Chain, RingFault, Segment};

/// Bytes of a descriptor, in either kind of ring.
pub(super) const DESC_BYTES: u64 = 16;
/// Most descriptors of an indirect table.
const INDIRECT_MAX: u32 = 1024;

/// A descriptor of either kind of ring, as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Desc {
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    /// The next one of a split ring; in a packed ring the buffer id.
    pub(crate) next_or_id: u16,
}

impl Desc {
    /// Descriptor `index` of a split ring's table.
    #[inline]
    pub(super) fn of_table(table: &Window, index: u16) -> Desc {
        let place = usize::from(index) * DESC_BYTES as usize;
        Desc::split([table.load_u64(place, Relaxed), table.load_u64(place + 8, Relaxed)])
    }

    /// Descriptor `index` of a packed ring.
    #[inline]
    pub(super) fn of_ring(ring: &Window, index: u16) -> Desc {
        let place = usize::from(index) * DESC_BYTES as usize;
        Desc::packed([ring.load_u64(place, Relaxed), ring.load_u64(place + 8, Relaxed)])
    }

    /// `{ u64 addr; u32 len; u16 flags; u16 next; }`
    const fn split([at, rest]: [u64; 2]) -> Desc {
        Desc { at, len: rest as u32, flags: (rest >> 32) as u16, next_or_id: (rest >> 48) as u16 }
    }

    /// `{ u64 addr; u32 len; u16 id; u16 flags; }`
    const fn packed([at, rest]: [u64; 2]) -> Desc {
        Desc { at, len: rest as u32, flags: (rest >> 48) as u16, next_or_id: (rest >> 32) as u16 }
    }

    pub(super) const fn has_next(self) -> bool {
        self.flags & VRING_DESC_F_NEXT as u16 != 0
    }

    pub(super) const fn is_indirect(self) -> bool {
        self.flags & VRING_DESC_F_INDIRECT as u16 != 0
    }

    const fn is_writable(self) -> bool {
        self.flags & VRING_DESC_F_WRITE as u16 != 0
    }
}

impl Chain {
    /// With room for so many pieces of each kind.
    pub(crate) fn with_capacity(pieces: usize) -> Chain {
        Chain { readable: Vec::with_capacity(pieces), writable: Vec::with_capacity(pieces) }
    }

    pub(super) fn clear(&mut self) {
        self.readable.clear();
        self.writable.clear();
    }

    /// Adds the memory of a descriptor that is not indirect.
    #[inline]
    fn add(&mut self, memory: &GuestMemory, desc: Desc) -> Result<(), RingFault> {
        memory.check(desc.at, u64::from(desc.len))?;
        let segment = Segment { at: desc.at, len: desc.len };
        if desc.is_writable() {
            self.writable.push(segment);
        } else if self.writable.is_empty() {
            self.readable.push(segment);
        } else {
            return Err(RingFault::Order);
        }
        Ok(())
    }

    /// Adds a descriptor of a ring, or all that its indirect table has. `indirect`: tables were agreed on.
    #[inline]
    pub(super) fn add_any(
        &mut self,
        memory: &GuestMemory,
        desc: Desc,
        packed: bool,
        indirect: bool,
    ) -> Result<(), RingFault> {
        if !desc.is_indirect() {
            return self.add(memory, desc);
        }
        if !indirect || desc.has_next() {
            return Err(RingFault::Indirect);
        }
        let count = desc.len / DESC_BYTES as u32;
        if count == 0 || count > INDIRECT_MAX || !desc.len.is_multiple_of(DESC_BYTES as u32) {
            return Err(RingFault::Table(desc.len));
        }
        memory.check(desc.at, u64::from(desc.len))?;
        if packed {
            self.add_packed_table(memory, desc.at, count)
        } else {
            self.add_table(memory, desc.at, count)
        }
    }

    /// A table of a split ring: its descriptors are linked.
    fn add_table(&mut self, memory: &GuestMemory, at: u64, count: u32) -> Result<(), RingFault> {
        let mut index = 0;
        for _ in 0..count {
            let desc = Desc::split(entry(memory, at, index)?);
            if desc.is_indirect() {
                return Err(RingFault::Indirect);
            }
            self.add(memory, desc)?;
            if !desc.has_next() {
                return Ok(());
            }
            index = u32::from(desc.next_or_id);
            if index >= count {
                return Err(RingFault::Index { index: desc.next_or_id, size: count as u16 });
            }
        }
        Err(RingFault::Loop { limit: count as u16 })
    }

    /// A table of a packed ring: all of its descriptors, in order.
    fn add_packed_table(&mut self, memory: &GuestMemory, at: u64, count: u32) -> Result<(), RingFault> {
        for index in 0..count {
            let desc = Desc::packed(entry(memory, at, index)?);
            if desc.is_indirect() {
                return Err(RingFault::Indirect);
            }
            self.add(memory, desc)?;
        }
        Ok(())
    }
}

/// Entry `index` of the indirect table at `at`, as two words.
fn entry(memory: &GuestMemory, at: u64, index: u32) -> Result<[u64; 2], RingFault> {
    let mut bytes = [0; DESC_BYTES as usize];
    memory.read(at + u64::from(index) * DESC_BYTES, &mut bytes)?;
    let (first, second) = bytes.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    Ok([word(first), word(second)])
}
