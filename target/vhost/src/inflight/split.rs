//! A split ring's part.

use std::sync::atomic::Ordering::{Relaxed, Release};

use tgt_guest_memory::Window;

use super::{SIZE_AT, VERSION, VERSION_AT};
use crate::ring::RingFault;

/// Bytes of the head and of an entry.
pub(super) const BYTES: (u64, u64) = (16, 16);

const LAST_BATCH: usize = 12;
const USED: usize = 14;

/// What an entry has, from its first byte.
const IN_FLIGHT: usize = 0;
const NEXT: usize = 6;
const ORDER: usize = 8;

/// The part of a queue with a split ring. Stores are released one after the other: a process that dies leaves a front of
/// them.
#[derive(Debug)]
pub(crate) struct SplitInflight {
    part: Window,
    size: u16,
    /// The order of the next chain.
    order: u64,
    /// Chains answered since the last publication.
    batch: u16,
}

const fn entry(head: u16) -> usize {
    BYTES.0 as usize + head as usize * BYTES.1 as usize
}

impl SplitInflight {
    pub(super) fn new(part: Window, size: u16) -> SplitInflight {
        SplitInflight { part, size, order: 0, batch: 0 }
    }

    /// Makes the part right for a ring of `ring` descriptors whose used index is `used`, and gives the heads in flight, the
    /// oldest last.
    pub(crate) fn recover(&mut self, ring: u16, used: u16) -> Result<Vec<u16>, RingFault> {
        if ring > self.size {
            return Err(RingFault::Inflight("it is made for smaller rings"));
        }
        match self.part.load_u16(VERSION_AT, Relaxed) {
            0 => {
                self.part.store_u16(SIZE_AT, self.size, Relaxed);
                self.part.store_u16(USED, used, Relaxed);
                self.part.store_u16(VERSION_AT, VERSION, Release);
            }
            VERSION if self.part.load_u16(SIZE_AT, Relaxed) == self.size => self.end_batch(used)?,
            _ => return Err(RingFault::Inflight("another version, or another number of descriptors")),
        }
        let mut heads = Vec::new();
        for head in 0..self.size {
            if self.part.load_u8(entry(head) + IN_FLIGHT, Relaxed) == 0 {
                continue;
            }
            if head >= ring {
                return Err(RingFault::Index { index: head, size: ring });
            }
            heads.push((self.part.load_u64(entry(head) + ORDER, Relaxed), head));
        }
        heads.sort_unstable_by(|one, other| other.cmp(one));
        self.order = heads.first().map_or(0, |(order, _)| order.wrapping_add(1));
        Ok(heads.into_iter().map(|(_, head)| head).collect())
    }

    /// If the ring's used index is ahead, the guest has seen the last batch: nothing of it is in flight any more.
    fn end_batch(&mut self, used: u16) -> Result<(), RingFault> {
        let count = used.wrapping_sub(self.part.load_u16(USED, Relaxed));
        // More than can have been answered: the ring is another one, set up anew since.
        if count != 0 && count <= self.size {
            let mut head = self.part.load_u16(LAST_BATCH, Relaxed);
            for _ in 0..count {
                if head >= self.size {
                    return Err(RingFault::Inflight("its last batch names no descriptor"));
                }
                self.part.store_u8(entry(head) + IN_FLIGHT, 0, Release);
                head = self.part.load_u16(entry(head) + NEXT, Relaxed);
            }
        }
        self.part.store_u16(USED, used, Release);
        Ok(())
    }

    /// A chain was taken; call it before its request is submitted.
    #[inline]
    pub(crate) fn took(&mut self, head: u16) {
        self.part.store_u64(entry(head) + ORDER, self.order, Release);
        self.order = self.order.wrapping_add(1);
        self.part.store_u8(entry(head) + IN_FLIGHT, 1, Release);
    }

    /// Its used element was written; the guest does not see it yet.
    #[inline]
    pub(crate) fn answered(&mut self, head: u16) {
        self.part.store_u16(entry(head) + NEXT, self.part.load_u16(LAST_BATCH, Relaxed), Release);
        self.part.store_u16(LAST_BATCH, head, Release);
        self.batch += 1;
    }

    /// The guest sees all that was answered.
    #[inline]
    pub(crate) fn published(&mut self, used: u16) {
        let mut head = self.part.load_u16(LAST_BATCH, Relaxed);
        for _ in 0..std::mem::take(&mut self.batch) {
            // The front end could have changed it: then it is its own region that is wrong.
            if head >= self.size {
                break;
            }
            self.part.store_u8(entry(head) + IN_FLIGHT, 0, Release);
            head = self.part.load_u16(entry(head) + NEXT, Relaxed);
        }
        self.part.store_u16(USED, used, Release);
    }
}
