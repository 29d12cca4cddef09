//! The packed ring: one ring of descriptors, over which answers are written.
//!
//! ```text
//! ring    { u64 addr; u32 len; u16 id; u16 flags }[size]     bit 7 available, bit 15 used, against the wrap counter
//! events  u16 offset, wrap in bit 15; u16 flags: 0 every, 1 none, 2 at the offset
//! ```

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use tgt_guest_memory::{GuestMemory, Window};
use virtio_bindings::virtio_ring::{
    VRING_DESC_F_WRITE, VRING_PACKED_DESC_F_AVAIL, VRING_PACKED_DESC_F_USED, VRING_PACKED_EVENT_F_WRAP_CTR,
    VRING_PACKED_EVENT_FLAG_DESC, VRING_PACKED_EVENT_FLAG_DISABLE, VRING_PACKED_EVENT_FLAG_ENABLE,
};

use super::walk::DESC_BYTES;
use super::{Chain, Desc, RingFault, RingSpec, Taken, need_event};
use crate::inflight::{Again, PackedInflight};

const AVAILABLE: u16 = 1 << VRING_PACKED_DESC_F_AVAIL;
const USED: u16 = 1 << VRING_PACKED_DESC_F_USED;
const WRAP: u16 = 1 << VRING_PACKED_EVENT_F_WRAP_CTR;
const EVENT_BYTES: u64 = 4;

/// A place in a packed ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) index: u16,
    /// Flips each time the index starts again.
    pub(crate) wrap: bool,
}

impl Position {
    /// `slots` further on, in a ring of `size`.
    pub(crate) const fn plus(self, slots: u16, size: u16) -> Position {
        let index = self.index + slots;
        if index >= size {
            return Position { index: index - size, wrap: !self.wrap };
        }
        Position { index, wrap: self.wrap }
    }

    const fn of_bits(bits: u16) -> Position {
        Position { index: bits & !WRAP, wrap: bits & WRAP != 0 }
    }

    const fn to_bits(self) -> u16 {
        self.index | (self.wrap as u16) << VRING_PACKED_EVENT_F_WRAP_CTR
    }

    /// The two bits that a descriptor made available here has.
    pub(crate) const fn available(self) -> u16 {
        if self.wrap { AVAILABLE } else { USED }
    }

    /// The two bits that a used descriptor has here.
    const fn used(self) -> u16 {
        if self.wrap { AVAILABLE | USED } else { 0 }
    }
}

/// The bits that say whose a descriptor is.
pub(crate) const OWNER: u16 = AVAILABLE | USED;

#[derive(Debug)]
pub(crate) struct PackedRing {
    ring: Window,
    driver: Window,
    device: Window,
    size: u16,
    indirect: bool,
    event_idx: bool,
    /// Guest addresses of the ring and of the device's events, if their writes are noted in the log.
    log: Option<(u64, u64)>,
    next_available: Position,
    next_used: Position,
    called: u16,
    /// Something was answered since the guest was asked whether it wants a call.
    news: bool,
    /// Buffer ids that are in flight.
    taken: Vec<bool>,
    inflight: Option<PackedInflight>,
    again: Vec<Again>,
}

impl PackedRing {
    pub(super) fn new(
        memory: &GuestMemory,
        spec: &RingSpec,
        base: u32,
        mut inflight: Option<PackedInflight>,
    ) -> Result<PackedRing, RingFault> {
        let size = spec.size;
        let ring = memory.user_window(spec.desc, u64::from(size) * DESC_BYTES, 16)?;
        let driver = memory.user_window(spec.driver, EVENT_BYTES, 2)?;
        let device = memory.user_window(spec.device, EVENT_BYTES, 4)?;
        let mut available = Position::of_bits(base as u16);
        let mut used = Position::of_bits((base >> 16) as u16);
        let mut again = Vec::new();
        if let Some(region) = &mut inflight {
            (used, again) = region.recover(size, used, |at| ring.load_u16(flags_of(at), Acquire))?;
            let slots: u32 = again.iter().map(|chain| u32::from(chain.slots)).sum();
            let slots = u16::try_from(slots).ok().filter(|slots| *slots <= size);
            available =
                used.plus(slots.ok_or(RingFault::Inflight("more descriptors than the ring has"))?, size);
        }
        for position in [available, used] {
            if position.index >= size {
                return Err(RingFault::Index { index: position.index, size });
            }
        }
        let log = spec.log.and_then(|at| Some((guest_address(memory, spec.desc)?, at)));
        Ok(PackedRing {
            ring,
            driver,
            device,
            size,
            indirect: spec.indirect,
            event_idx: spec.event_idx,
            log,
            next_available: available,
            next_used: used,
            called: used.index,
            news: false,
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
        if !self.again.is_empty() {
            return self.take_again(memory, chain).map(Some);
        }
        if !self.is_waiting() {
            return Ok(None);
        }
        chain.clear();
        let size = self.size;
        let mut at = self.next_available;
        let entry = self.inflight.as_mut().map_or(0, PackedInflight::begin);
        for slots in 1..=size {
            let desc = Desc::of_ring(&self.ring, at.index);
            chain.add_any(memory, desc, true, self.indirect)?;
            if let Some(inflight) = &mut self.inflight {
                inflight.copy(entry, desc)?;
            }
            at = at.plus(1, size);
            if desc.has_next() {
                continue;
            }
            let id = desc.next_or_id;
            let free = self.taken.get_mut(usize::from(id)).filter(|taken| !**taken);
            *free.ok_or(RingFault::Twice { id, size })? = true;
            if let Some(inflight) = &mut self.inflight {
                inflight.took();
            }
            self.next_available = at;
            return Ok(Some(Taken { id, slots, entry }));
        }
        Err(RingFault::Loop { limit: size })
    }

    /// Takes a chain of which the region has the descriptors.
    fn take_again(&mut self, memory: &GuestMemory, chain: &mut Chain) -> Result<Taken, RingFault> {
        let Some(Again { entry, slots, .. }) = self.again.pop() else {
            return Err(RingFault::Inflight("nothing to take again"));
        };
        chain.clear();
        let region = self.inflight.as_ref().ok_or(RingFault::Inflight("there is none"))?;
        let (mut at, mut id) = (entry, 0);
        for _ in 0..slots {
            let (desc, next) = region.copied(at)?;
            chain.add_any(memory, desc, true, self.indirect)?;
            (at, id) = (next, desc.next_or_id);
        }
        let size = self.size;
        let free = self.taken.get_mut(usize::from(id)).filter(|taken| !**taken);
        *free.ok_or(RingFault::Twice { id, size })? = true;
        Ok(Taken { id, slots, entry })
    }

    #[inline]
    fn is_waiting(&self) -> bool {
        let flags = self.ring.load_u16(flags_of(self.next_available.index), Acquire);
        flags & OWNER == self.next_available.available()
    }

    #[inline]
    pub(super) fn answer(
        &mut self,
        memory: &GuestMemory,
        taken: Taken,
        written: u32,
    ) -> Result<(), RingFault> {
        let at = self.next_used;
        let place = usize::from(at.index) * DESC_BYTES as usize;
        self.ring.store_u32(place + 8, written, Relaxed);
        self.ring.store_u16(place + 12, taken.id, Relaxed);
        self.next_used = at.plus(taken.slots, self.size);
        if let Some(inflight) = &mut self.inflight {
            inflight.answering(taken.entry, self.next_used);
        }
        let wrote = if written > 0 { VRING_DESC_F_WRITE as u16 } else { 0 };
        self.ring.store_u16(flags_of(at.index), at.used() | wrote, Release);
        if let Some(inflight) = &mut self.inflight {
            inflight.answered(taken.entry);
        }
        self.taken[usize::from(taken.id)] = false;
        self.news = true;
        match (self.log, memory.log()) {
            (Some((ring, _)), Some(log)) => Ok(log.mark(ring.saturating_add(place as u64), DESC_BYTES)?),
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn wants_call(&mut self) -> bool {
        if !std::mem::take(&mut self.news) {
            return false;
        }
        // As in the split ring: one of us sees what the other wrote.
        fence(SeqCst);
        let (old, new) = (self.called, self.next_used);
        self.called = new.index;
        let flags = u32::from(self.driver.load_u16(2, Relaxed)) & 3;
        if flags != VRING_PACKED_EVENT_FLAG_DESC || !self.event_idx {
            return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
        }
        let event = Position::of_bits(self.driver.load_u16(0, Relaxed));
        let behind = |yes: bool| if yes { self.size } else { 0 };
        let old = old.wrapping_sub(behind(new.index <= old));
        need_event(event.index.wrapping_sub(behind(event.wrap != new.wrap)), new.index, old)
    }

    pub(super) fn ask_for_kicks(&mut self, memory: &GuestMemory, wanted: bool) -> Result<bool, RingFault> {
        let flags = match (wanted, self.event_idx) {
            (false, _) => VRING_PACKED_EVENT_FLAG_DISABLE,
            (true, false) => VRING_PACKED_EVENT_FLAG_ENABLE,
            (true, true) => VRING_PACKED_EVENT_FLAG_DESC,
        };
        self.device.store_u16(0, self.next_available.to_bits(), Relaxed);
        self.device.store_u16(2, flags as u16, Release);
        if let (Some((_, at)), Some(log)) = (self.log, memory.log()) {
            log.mark(at, EVENT_BYTES)?;
        }
        fence(SeqCst);
        Ok(wanted && (self.owes() || self.is_waiting()))
    }

    pub(super) fn owes(&self) -> bool {
        !self.again.is_empty()
    }

    pub(super) fn base(&self) -> u32 {
        u32::from(self.next_available.to_bits()) | u32::from(self.next_used.to_bits()) << 16
    }
}

/// Where the flags of descriptor `index` are.
const fn flags_of(index: u16) -> usize {
    index as usize * DESC_BYTES as usize + 14
}

/// The guest's address of what the monitor has at `user`.
fn guest_address(memory: &GuestMemory, user: u64) -> Option<u64> {
    let holds = |r: &tgt_guest_memory::RegionSpec| user >= r.user && user - r.user < r.len;
    memory.regions().find(holds).map(|region| region.guest + (user - region.user))
}
