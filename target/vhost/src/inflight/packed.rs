//! A packed ring's part: answers are written over the ring's descriptors, so copies of them are kept here.
//!
//! Entries are in one list of free ones, or in the chain of a request. Chains are taken from the front of the free list and
//! given back to it. What a batch changes exists twice, so that one which the guest has not seen can be undone.

use std::sync::atomic::Ordering::{Relaxed, Release};

use tgt_guest_memory::Window;

use super::{SIZE_AT, VERSION, VERSION_AT};
use crate::ring::{Desc, OWNER, Position, RingFault};

/// Bytes of the head and of an entry.
pub(super) const BYTES: (u64, u64) = (32, 32);

const FREE: usize = 12;
const OLD_FREE: usize = 14;
const USED: usize = 16;
const OLD_USED: usize = 18;
const WRAP: usize = 20;
const OLD_WRAP: usize = 21;

/// What an entry has, from its first byte.
const IN_FLIGHT: usize = 0;
const NEXT: usize = 2;
const LAST: usize = 4;
const COUNT: usize = 6;
const ORDER: usize = 8;
const ID: usize = 16;
const FLAGS: usize = 18;
const LEN: usize = 20;
const ADDRESS: usize = 24;

const NO_ROOM: RingFault = RingFault::Inflight("its list of free entries ends too early");
const BROKEN: RingFault = RingFault::Inflight("an entry names none that there is");

/// A chain that was in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    order: u64,
    /// Its first entry.
    pub(crate) entry: u16,
    /// Descriptors.
    pub(crate) slots: u16,
}

/// The part of a queue with a packed ring.
#[derive(Debug)]
pub(crate) struct PackedInflight {
    part: Window,
    size: u16,
    order: u64,
}

const fn entry(index: u16) -> usize {
    BYTES.0 as usize + index as usize * BYTES.1 as usize
}

impl PackedInflight {
    pub(super) fn new(part: Window, size: u16) -> PackedInflight {
        PackedInflight { part, size, order: 0 }
    }

    /// Makes the part right for a ring of `ring` descriptors, which `base` says where to begin if the part is fresh, and
    /// whose flags `flags` reads. Gives the place of the next used descriptor, and the chains in flight, the oldest last.
    pub(crate) fn recover(
        &mut self,
        ring: u16,
        base: Position,
        flags: impl Fn(u16) -> u16,
    ) -> Result<(Position, Vec<Again>), RingFault> {
        if ring > self.size {
            return Err(RingFault::Inflight("it is made for smaller rings"));
        }
        match self.half(VERSION_AT) {
            0 => {
                self.format(base);
                return Ok((base, Vec::new()));
            }
            VERSION if self.half(SIZE_AT) == self.size => {}
            _ => return Err(RingFault::Inflight("another version, or another number of descriptors")),
        }
        // What the front end believes is not asked: QEMU does not know where a packed ring stood when we died. It gives a
        // fresh region to a ring that is set up anew.
        let again = self.settle(ring, flags)?;
        let used = Position { index: self.half(USED), wrap: self.part.load_u8(WRAP, Relaxed) != 0 };
        if used.index >= ring {
            return Err(RingFault::Inflight("its used index is none of the ring"));
        }
        self.order = again.first().map_or(0, |youngest| youngest.order.wrapping_add(1));
        Ok((used, again))
    }

    fn format(&mut self, base: Position) {
        for index in 0..self.size {
            self.part.store_u8(entry(index) + IN_FLIGHT, 0, Relaxed);
            self.part.store_u16(entry(index) + NEXT, index + 1, Relaxed);
        }
        self.part.store_u16(SIZE_AT, self.size, Relaxed);
        for (free, used, wrap) in [(FREE, USED, WRAP), (OLD_FREE, OLD_USED, OLD_WRAP)] {
            self.part.store_u16(free, 0, Relaxed);
            self.part.store_u16(used, base.index, Relaxed);
            self.part.store_u8(wrap, u8::from(base.wrap), Relaxed);
        }
        self.part.store_u16(VERSION_AT, VERSION, Release);
    }

    /// Finishes a batch that the guest has seen, undoes any other, and gives what is in flight then.
    fn settle(&mut self, ring: u16, flags: impl Fn(u16) -> u16) -> Result<Vec<Again>, RingFault> {
        let old = Position { index: self.half(OLD_USED), wrap: self.part.load_u8(OLD_WRAP, Relaxed) != 0 };
        let new = Position { index: self.half(USED), wrap: self.part.load_u8(WRAP, Relaxed) != 0 };
        // A descriptor not answered stands there as the driver made it available. Where the positions differ by the wrap counter
        // alone, a chain fills the ring, or the death was between two stores of an end; this tells them apart as well.
        let seen = new != old && old.index < ring && flags(old.index) & OWNER != old.available();
        let (from, to) =
            if seen { ([FREE, USED], [OLD_FREE, OLD_USED]) } else { ([OLD_FREE, OLD_USED], [FREE, USED]) };
        for (from, to) in from.into_iter().zip(to) {
            self.part.store_u16(to, self.half(from), Release);
        }
        let (from, to) = if seen { (WRAP, OLD_WRAP) } else { (OLD_WRAP, WRAP) };
        self.part.store_u8(to, self.part.load_u8(from, Relaxed), Release);
        let mut free = self.half(FREE);
        let mut visited = 0;
        while free < self.size {
            if visited == self.size {
                return Err(RingFault::Inflight("its list of free entries has a loop"));
            }
            visited += 1;
            self.part.store_u8(entry(free) + IN_FLIGHT, 0, Release);
            free = self.half(entry(free) + NEXT);
        }
        let of = |index: u16| Again {
            order: self.part.load_u64(entry(index) + ORDER, Relaxed),
            entry: index,
            slots: self.half(entry(index) + COUNT),
        };
        let busy = |index: &u16| self.part.load_u8(entry(*index) + IN_FLIGHT, Relaxed) != 0;
        let mut again: Vec<Again> = (0..self.size).filter(busy).map(of).collect();
        if again.iter().any(|chain| chain.slots == 0 || chain.slots > ring) {
            return Err(RingFault::Inflight("a chain of no descriptors, or of more than the ring has"));
        }
        again.sort_unstable_by_key(|chain| std::cmp::Reverse(chain.order));
        Ok(again)
    }

    /// The entry with which the next chain begins; all of it goes before it is submitted: begin, copy each, took.
    #[inline]
    pub(crate) fn begin(&mut self) -> u16 {
        let first = self.half(OLD_FREE);
        if first < self.size {
            self.part.store_u16(entry(first) + COUNT, 0, Release);
            self.part.store_u64(entry(first) + ORDER, self.order, Release);
            self.order = self.order.wrapping_add(1);
            self.part.store_u8(entry(first) + IN_FLIGHT, 1, Release);
        }
        first
    }

    /// Keeps a descriptor of the chain that begins with `first`.
    #[inline]
    pub(crate) fn copy(&mut self, first: u16, desc: Desc) -> Result<(), RingFault> {
        let free = self.half(FREE);
        if first >= self.size || free >= self.size {
            return Err(NO_ROOM);
        }
        let at = entry(free);
        self.part.store_u16(entry(first) + LAST, free, Release);
        let count = self.half(entry(first) + COUNT).wrapping_add(1);
        self.part.store_u16(entry(first) + COUNT, count, Release);
        self.part.store_u64(at + ADDRESS, desc.at, Relaxed);
        self.part.store_u32(at + LEN, desc.len, Relaxed);
        self.part.store_u16(at + FLAGS, desc.flags, Relaxed);
        self.part.store_u16(at + ID, desc.next_or_id, Relaxed);
        self.part.store_u16(FREE, self.half(at + NEXT), Release);
        Ok(())
    }

    /// All descriptors of a chain were kept: from here on it is in flight.
    #[inline]
    pub(crate) fn took(&mut self) {
        self.part.store_u16(OLD_FREE, self.half(FREE), Release);
    }

    /// The descriptor kept in `index`, and the entry after it.
    pub(crate) fn copied(&self, index: u16) -> Result<(Desc, u16), RingFault> {
        if index >= self.size {
            return Err(BROKEN);
        }
        let at = entry(index);
        let desc = Desc {
            at: self.part.load_u64(at + ADDRESS, Relaxed),
            len: self.part.load_u32(at + LEN, Relaxed),
            flags: self.half(at + FLAGS),
            next_or_id: self.half(at + ID),
        };
        Ok((desc, self.half(at + NEXT)))
    }

    /// The chain that begins with `first` is about to be answered; `used` is where the next answer goes.
    #[inline]
    pub(crate) fn answering(&mut self, first: u16, used: Position) {
        if first >= self.size {
            return;
        }
        let last = self.half(entry(first) + LAST);
        // The front end could have changed it: then it is its own region that is wrong.
        if last < self.size {
            self.part.store_u16(entry(last) + NEXT, self.half(FREE), Release);
        }
        self.part.store_u16(FREE, first, Release);
        self.part.store_u16(USED, used.index, Release);
        self.part.store_u8(WRAP, u8::from(used.wrap), Release);
    }

    /// The guest sees the answer.
    #[inline]
    pub(crate) fn answered(&mut self, first: u16) {
        if first < self.size {
            self.part.store_u8(entry(first) + IN_FLIGHT, 0, Release);
        }
        self.part.store_u16(OLD_FREE, self.half(FREE), Release);
        self.part.store_u16(OLD_USED, self.half(USED), Release);
        self.part.store_u8(OLD_WRAP, self.part.load_u8(WRAP, Relaxed), Release);
    }

    #[inline]
    fn half(&self, at: usize) -> u16 {
        self.part.load_u16(at, Relaxed)
    }
}
