//! The split ring: a table of descriptors, a ring of heads made available, a ring of heads used.
//!
//! ```text
//! table      16 × size                       { u64 addr; u32 len; u16 flags; u16 next }
//! available  u16 flags; u16 index; u16 heads[size]; u16 used_event
//! used       u16 flags; u16 index; { u32 head; u32 written }[size]; u16 available_event
//! ```

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use tgt_guest_memory::{GuestMemory, Window};
use virtio_bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY};

use super::walk::DESC_BYTES;
use super::{Chain, Desc, RingFault, RingSpec, Taken, need_event};
use crate::inflight::SplitInflight;

const FLAGS: usize = 0;
const INDEX: usize = 2;
const ENTRIES: usize = 4;
const USED_BYTES: usize = 8;

#[derive(Debug)]
pub(crate) struct SplitRing {
    table: Window,
    available: Window,
    used: Window,
    size: u16,
    indirect: bool,
    event_idx: bool,
    /// Guest address of the used ring, if its writes are noted in the log.
    log: Option<u64>,
    /// Where the next head stands.
    next_available: u16,
    /// Where the next used element goes.
    next_used: u16,
    /// The used index that the guest has seen.
    published: u16,
    /// The used index when the guest was last called, or would have been.
    called: u16,
    /// Heads that are in flight.
    taken: Vec<bool>,
    inflight: Option<SplitInflight>,
    /// Heads that were in flight when a process before this one died; the next one last.
    again: Vec<u16>,
}

impl SplitRing {
    pub(super) fn new(
        memory: &GuestMemory,
        spec: &RingSpec,
        base: u32,
        mut inflight: Option<SplitInflight>,
    ) -> Result<SplitRing, RingFault> {
        let size = spec.size;
        if !size.is_power_of_two() {
            return Err(RingFault::Size(size));
        }
        let n = u64::from(size);
        let table = memory.user_window(spec.desc, n * DESC_BYTES, 16)?;
        let available = memory.user_window(spec.driver, 6 + n * 2, 2)?;
        let used = memory.user_window(spec.device, 6 + n * USED_BYTES as u64, 4)?;
        let used_index = used.load_u16(INDEX, Acquire);
        let again = match &mut inflight {
            Some(region) => region.recover(size, used_index)?,
            None => Vec::new(),
        };
        let next_available =
            if inflight.is_some() { used_index.wrapping_add(again.len() as u16) } else { base as u16 };
        Ok(SplitRing {
            table,
            available,
            used,
            size,
            indirect: spec.indirect,
            event_idx: spec.event_idx,
            log: spec.log,
            next_available,
            next_used: used_index,
            published: used_index,
            called: used_index,
            taken: vec![false; usize::from(size)],
            inflight,
            again,
        })
    }

    #[inline]
    pub(super) fn take(
        &mut self,
        memory: &GuestMemory,
        chain: &mut Chain,
    ) -> Result<Option<Taken>, RingFault> {
        if let Some(head) = self.again.pop() {
            // Its in-flight byte stands already.
            self.walk(memory, chain, head)?;
            self.taken[usize::from(head)] = true;
            return Ok(Some(Taken { id: head, slots: 0, entry: 0 }));
        }
        if self.waiting()? == 0 {
            return Ok(None);
        }
        let size = self.size;
        let place = usize::from(self.next_available & (size - 1));
        let head = self.available.load_u16(ENTRIES + place * 2, Relaxed);
        if head >= size {
            return Err(RingFault::Index { index: head, size });
        }
        if self.taken[usize::from(head)] {
            return Err(RingFault::Twice { id: head, size });
        }
        self.walk(memory, chain, head)?;
        if let Some(inflight) = &mut self.inflight {
            inflight.took(head);
        }
        self.taken[usize::from(head)] = true;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(Taken { id: head, slots: 0, entry: 0 }))
    }

    /// Heads that were made available and not taken.
    #[inline]
    fn waiting(&self) -> Result<u16, RingFault> {
        let index = self.available.load_u16(INDEX, Acquire);
        let waiting = index.wrapping_sub(self.next_available);
        if waiting > self.size {
            return Err(RingFault::TooFar { index, waiting, size: self.size });
        }
        Ok(waiting)
    }

    fn walk(&self, memory: &GuestMemory, chain: &mut Chain, head: u16) -> Result<(), RingFault> {
        chain.clear();
        let size = self.size;
        let mut index = head;
        for _ in 0..size {
            let desc = Desc::of_table(&self.table, index);
            chain.add_any(memory, desc, false, self.indirect)?;
            if !desc.has_next() {
                return Ok(());
            }
            index = desc.next_or_id;
            if index >= size {
                return Err(RingFault::Index { index, size });
            }
        }
        Err(RingFault::Loop { limit: size })
    }

    #[inline]
    pub(super) fn answer(
        &mut self,
        memory: &GuestMemory,
        taken: Taken,
        written: u32,
    ) -> Result<(), RingFault> {
        let place = ENTRIES + usize::from(self.next_used & (self.size - 1)) * USED_BYTES;
        self.used.store_u32(place, u32::from(taken.id), Relaxed);
        self.used.store_u32(place + 4, written, Relaxed);
        self.note(memory, place, USED_BYTES)?;
        if let Some(inflight) = &mut self.inflight {
            inflight.answered(taken.id);
        }
        self.taken[usize::from(taken.id)] = false;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    #[inline]
    pub(super) fn publish(&mut self, memory: &GuestMemory) -> Result<(), RingFault> {
        if self.published == self.next_used {
            return Ok(());
        }
        // What it covers is in memory before it: elements, status, data.
        self.used.store_u16(INDEX, self.next_used, Release);
        self.note(memory, INDEX, 2)?;
        if let Some(inflight) = &mut self.inflight {
            inflight.published(self.next_used);
        }
        self.published = self.next_used;
        Ok(())
    }

    #[inline]
    pub(super) fn wants_call(&mut self) -> bool {
        let (old, new) = (self.called, self.published);
        if old == new {
            return false;
        }
        // The guest writes what it wants and then looks at the index; we the other way round. One of us sees the other.
        fence(SeqCst);
        self.called = new;
        if self.event_idx {
            let event = self.available.load_u16(ENTRIES + usize::from(self.size) * 2, Relaxed);
            return need_event(event, new, old);
        }
        self.available.load_u16(FLAGS, Relaxed) & VRING_AVAIL_F_NO_INTERRUPT as u16 == 0
    }

    pub(super) fn ask_for_kicks(&mut self, memory: &GuestMemory, wanted: bool) -> Result<bool, RingFault> {
        if !self.event_idx {
            let flags = if wanted { 0 } else { VRING_USED_F_NO_NOTIFY as u16 };
            self.used.store_u16(FLAGS, flags, Relaxed);
            self.note(memory, FLAGS, 2)?;
        } else if wanted {
            let place = ENTRIES + usize::from(self.size) * USED_BYTES;
            self.used.store_u16(place, self.next_available, Relaxed);
            self.note(memory, place, 2)?;
        }
        fence(SeqCst);
        Ok(wanted && (self.owes() || self.waiting()? > 0))
    }

    pub(super) fn owes(&self) -> bool {
        !self.again.is_empty()
    }

    pub(super) fn base(&self) -> u32 {
        u32::from(self.next_available)
    }

    #[inline]
    fn note(&self, memory: &GuestMemory, place: usize, len: usize) -> Result<(), RingFault> {
        match (self.log, memory.log()) {
            (Some(at), Some(log)) => Ok(log.mark(at.saturating_add(place as u64), len as u64)?),
            _ => Ok(()),
        }
    }
}
