//! Lending one buffer to several IOs: whole and read-only (a write mirrored to two legs), or cut into parts that do
//! not overlap (an IO split at a boundary). The buffer comes back once, when everything lent has come back.
//!
//! One lender per reactor, used by that reactor's thread alone; what it lends may travel to other reactors and is
//! given back here.

use super::{Bufs, Kind, List, Meta};
use std::ptr::NonNull;
use std::sync::Mutex;

/// Leases a lender can have at a time; `lend` refuses beyond that.
pub(super) const LEASES_MAX: usize = 1 << 16;

/// Leases and lists that a lender holds room for from the start, so that ordinary load never allocates.
const PREALLOCATED: usize = 256;

/// Pieces a list has room for from the start.
const LIST_CAPACITY: usize = 32;

/// The buffers a reactor has lent out, each with a plain count of the pieces that are still away.
#[derive(Debug)]
pub struct Lender {
    id: u8,
    slots: Vec<Slot>,
    free: Vec<u16>,
    // Boxed, so that a list becomes a Bufs without being moved.
    #[allow(clippy::vec_box)]
    spare_lists: Vec<Box<List>>,
}

/// One buffer that is lent out. Not Clone: it is handed to `end` exactly once.
#[derive(Debug)]
#[must_use]
pub struct Lease {
    lender: u8,
    slot: u16,
}

#[derive(Debug)]
struct Slot {
    owner: Bufs,
    away: u32,
    /// Bytes from the front that were cut off as parts; `SHARED` once a view was lent.
    cut: u32,
}

/// Marks a lease that lends views of the whole; parts cannot be cut from it any more.
const SHARED: u32 = u32::MAX;

impl Lender {
    /// A lender with nothing lent. At most 256 exist at a time in a process.
    #[must_use]
    pub fn new() -> Lender {
        Lender {
            id: take_id(),
            slots: Vec::with_capacity(PREALLOCATED),
            free: Vec::with_capacity(PREALLOCATED),
            spare_lists: (0..PREALLOCATED).map(|_| new_list()).collect(),
        }
    }

    /// Starts a lease. Gives the buffers back if `LEASES_MAX` are out.
    pub fn lend(&mut self, owner: Bufs) -> Result<Lease, Bufs> {
        let fresh = Slot { owner, away: 0, cut: 0 };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[usize::from(slot)] = fresh;
                slot
            }
            None if self.slots.len() < LEASES_MAX => {
                self.slots.push(fresh);
                (self.slots.len() - 1) as u16
            }
            None => return Err(fresh.owner),
        };
        Ok(Lease { lender: self.id, slot })
    }

    /// All of the lent buffer, read-only, shared with the other views of this lease.
    pub fn view(&mut self, lease: &Lease) -> Bufs {
        let (id, slot) = (self.id, self.slot(lease));
        assert!(slot.cut == 0 || slot.cut == SHARED, "parts of this buffer are lent: it cannot be shared");
        let kind = match slot.owner.meta.kind {
            Kind::None => return Bufs::none(),
            Kind::Owned | Kind::Part | Kind::View => Kind::View,
            Kind::Vector | Kind::VectorReadOnly | Kind::VectorView => Kind::VectorView,
        };
        slot.cut = SHARED;
        slot.away += 1;
        Bufs { ptr: slot.owner.ptr, len: slot.owner.len, meta: Meta { kind, lender: id, lease: lease.slot } }
    }

    /// The next `len` bytes of the lent buffer, for this caller alone. Panics beyond its end.
    pub fn cut(&mut self, lease: &Lease, len: u32) -> Bufs {
        let id = self.id;
        let slot = self.slot(lease);
        assert!(slot.cut != SHARED, "views of this buffer are lent: it cannot be cut");
        if slot.owner.meta.kind == Kind::None || len == 0 {
            return Bufs::none();
        }
        let start = slot.cut;
        assert!(slot.owner.len - start >= len, "cut of {len} bytes at {start} of {:?}", slot.owner);
        slot.cut += len;
        if slot.owner.segment_count() == 1 {
            slot.away += 1;
            return piece(
                slot.owner.segments().next().expect("one segment"),
                start,
                len,
                &slot.owner,
                id,
                lease,
            );
        }
        let mut list = self.spare_lists.pop().unwrap_or_else(new_list);
        let slot = &mut self.slots[usize::from(lease.slot)];
        let (mut skip, mut left) = (start, len);
        for segment in slot.owner.segments() {
            if left == 0 {
                break;
            }
            if skip >= segment.len {
                skip -= segment.len;
                continue;
            }
            let take = left.min(segment.len - skip);
            list.0.push(piece(segment, skip, take, &slot.owner, id, lease));
            (skip, left) = (0, left - take);
        }
        slot.away += list.0.len() as u32;
        Bufs::from_list(list)
    }

    /// Takes a lent piece back. Panics if it was lent by another lender.
    pub fn give_back(&mut self, lent: Bufs) {
        if lent.is_list() {
            let mut list = lent.into_list();
            list.0.drain(..).for_each(|part| self.give_back(part));
            self.spare_lists.push(list);
            return;
        }
        if lent.meta.kind == Kind::None {
            return;
        }
        assert!(
            matches!(lent.meta.kind, Kind::Part | Kind::View | Kind::VectorView)
                && lent.meta.lender == self.id,
            "{lent:?} was not lent here"
        );
        self.slots[usize::from(lent.meta.lease)].away -= 1;
        std::mem::forget(lent);
    }

    /// The buffer that is lent out under this lease: to look at its segments, not at its bytes.
    #[must_use]
    pub fn lent(&self, lease: &Lease) -> &Bufs {
        assert_eq!(lease.lender, self.id, "a lease is used where it began");
        &self.slots[usize::from(lease.slot)].owner
    }

    /// Pieces of this lease that are still away.
    #[must_use]
    pub fn away(&self, lease: &Lease) -> u32 {
        assert_eq!(lease.lender, self.id, "a lease ends where it began");
        self.slots[usize::from(lease.slot)].away
    }

    /// Ends a lease and gives the buffer back. Panics if a piece is still away.
    pub fn end(&mut self, lease: Lease) -> Bufs {
        let slot = self.slot(&lease);
        assert_eq!(slot.away, 0, "a lease was ended with pieces still away");
        let owner = std::mem::replace(&mut slot.owner, Bufs::none());
        self.free.push(lease.slot);
        owner
    }

    /// Joins several contiguous buffers into one value, in order. Panics if one of them is itself a list.
    pub fn gather(&mut self, parts: impl IntoIterator<Item = Bufs>) -> Bufs {
        let mut list = self.spare_lists.pop().unwrap_or_else(new_list);
        for part in parts {
            assert!(part.segment_count() <= 1, "a list cannot hold a list");
            list.0.push(part);
        }
        Bufs::from_list(list)
    }

    /// Takes a list apart again, in order; anything else is handed out as it is.
    pub fn scatter(&mut self, bufs: Bufs, mut each: impl FnMut(Bufs)) {
        if !bufs.is_list() {
            return each(bufs);
        }
        let mut list = bufs.into_list();
        list.0.drain(..).for_each(&mut each);
        self.spare_lists.push(list);
    }

    /// Slots and spare lists there are: constant in steady use.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.slots.len(), self.spare_lists.len())
    }

    fn slot(&mut self, lease: &Lease) -> &mut Slot {
        assert_eq!(lease.lender, self.id, "a lease is used where it began");
        &mut self.slots[usize::from(lease.slot)]
    }
}

impl Default for Lender {
    fn default() -> Lender {
        Lender::new()
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        let mut all_back = true;
        for slot in self.slots.drain(..) {
            if slot.away > 0 {
                // Somebody still has a pointer into this buffer: leak it, and never use this lender's id again.
                all_back = false;
                std::mem::forget(slot.owner);
            }
        }
        if all_back {
            return_id(self.id);
        }
    }
}

/// A piece of one segment, lent under `lease`.
fn piece(from: super::Segment, start: u32, len: u32, owner: &Bufs, lender: u8, lease: &Lease) -> Bufs {
    debug_assert!(start + len <= from.len);
    let kind = if owner.is_read_only() { Kind::View } else { Kind::Part };
    // SAFETY: start < from.len, so the sum stays inside the segment.
    let ptr: NonNull<u8> = unsafe { from.ptr.add(start as usize) };
    Bufs { ptr, len, meta: Meta { kind, lender, lease: lease.slot } }
}

fn new_list() -> Box<List> {
    Box::new(List(Vec::with_capacity(LIST_CAPACITY)))
}

/// Identities in use: one bit each.
static IDS: Mutex<[u64; 4]> = Mutex::new([0; 4]);

fn take_id() -> u8 {
    let mut ids = IDS.lock().expect("no lender panics while it holds this");
    let word = ids.iter().position(|word| *word != u64::MAX).expect("at most 256 lenders at a time");
    let bit = ids[word].trailing_ones();
    ids[word] |= 1 << bit;
    (word as u32 * 64 + bit) as u8
}

fn return_id(id: u8) {
    let mut ids = IDS.lock().expect("no lender panics while it holds this");
    ids[usize::from(id) / 64] &= !(1 << (id % 64));
}
