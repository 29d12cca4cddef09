//! A virtio driver's side of a ring, written from the standard and not from the device's side.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use tgt_guest_memory::Window;

use crate::guest::{GUEST, Guest, USER};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A piece of a request: guest address, length, whether the device writes it.
pub type Piece = (u64, u32, bool);

/// What kind of ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Packed rather than split.
    pub packed: bool,
    /// Descriptors.
    pub size: u16,
    /// Whether event indices were agreed on.
    pub event_idx: bool,
}

/// Where a ring lies, in the monitor's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Table or ring of descriptors.
    pub desc: u64,
    /// What the driver writes: available ring or event suppression.
    pub driver: u64,
    /// What the device writes: used ring or event suppression.
    pub device: u64,
}

/// What the device has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What [`Driver::offer`] gave.
    pub id: u16,
    /// Bytes that the device says it wrote.
    pub written: u32,
}

/// One ring, as its driver has it.
#[derive(Debug)]
pub struct Driver {
    shape: Shape,
    place: Place,
    table: Window,
    own: Window,
    device: Window,
    /// Split: free descriptors. Packed: free ids.
    free: Vec<u16>,
    /// Descriptors of each id.
    lengths: Vec<Vec<u16>>,
    /// Where the next descriptor or head goes, and the next answer comes. Packed: with the wrap counter.
    offered: u16,
    offered_wrap: bool,
    seen: u16,
    seen_wrap: bool,
    /// Descriptors of a packed ring that are not the device's.
    room: u16,
}

impl Driver {
    /// A ring in `guest` from guest address `at` on, which takes up to 64 KiB.
    #[must_use]
    pub fn new(guest: &Guest, at: u64, shape: Shape) -> Driver {
        let user = |at: u64| at - GUEST + USER;
        let size = u64::from(shape.size);
        let (own, device) = (at + 16 * size, (at + 16 * size + 6 + 2 * size).next_multiple_of(64));
        let place = Place { desc: user(at), driver: user(own), device: user(device) };
        let window = |at, len, align| guest.memory.user_window(at, len, align).expect("a ring in memory");
        Driver {
            table: window(place.desc, 16 * size, 16),
            own: window(place.driver, 6 + 2 * size, 2),
            device: window(place.device, 6 + 8 * size, 4),
            free: (0..shape.size).rev().collect(),
            lengths: vec![Vec::new(); usize::from(shape.size)],
            offered: 0,
            offered_wrap: true,
            seen: 0,
            seen_wrap: true,
            room: shape.size,
            shape,
            place,
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn at(&self) -> Place {
        self.place
    }

    /// The base with which a packed ring begins; that of a split ring is 0.
    #[must_use]
    pub fn base(&self) -> u32 {
        if self.shape.packed { 0x8000_8000 } else { 0 }
    }

    /// Makes a request of these pieces available; none if there is no room for it. What gave it is its id.
    pub fn offer(&mut self, pieces: &[Piece]) -> Option<u16> {
        if self.shape.packed { self.offer_packed(pieces) } else { self.offer_split(pieces) }
    }

    /// As [`Driver::offer`], with the descriptors in a table at `table` in guest memory.
    pub fn offer_indirect(&mut self, guest: &Guest, table: u64, pieces: &[Piece]) -> Option<u16> {
        for (index, (at, len, writes)) in pieces.iter().enumerate() {
            let last = index + 1 == pieces.len();
            let mut flags = if *writes { WRITE } else { 0 };
            flags |= if last || self.shape.packed { 0 } else { NEXT };
            let mut desc = at.to_le_bytes().to_vec();
            desc.extend(len.to_le_bytes());
            let next = if last { 0 } else { index as u16 + 1 };
            let (third, fourth) = if self.shape.packed { (0, flags) } else { (flags, next) };
            desc.extend(third.to_le_bytes());
            desc.extend(fourth.to_le_bytes());
            guest.write(table + 16 * index as u64, &desc);
        }
        let len = 16 * pieces.len() as u32;
        if self.shape.packed {
            self.put_packed(&[(table, len, INDIRECT)])
        } else {
            self.put_split(&[(table, len, INDIRECT)])
        }
    }

    fn offer_split(&mut self, pieces: &[Piece]) -> Option<u16> {
        self.put_split(&pieces.iter().map(|p| (p.0, p.1, if p.2 { WRITE } else { 0 })).collect::<Vec<_>>())
    }

    fn put_split(&mut self, descs: &[(u64, u32, u16)]) -> Option<u16> {
        if self.free.len() < descs.len() {
            return None;
        }
        let taken: Vec<u16> = descs.iter().map(|_| self.free.pop().expect("counted")).collect();
        for (position, (at, len, flags)) in descs.iter().enumerate() {
            let place = usize::from(taken[position]) * 16;
            let next = taken.get(position + 1).copied();
            let flags = flags | if next.is_some() { NEXT } else { 0 };
            self.table.store_u64(place, *at, Relaxed);
            self.table.store_u32(place + 8, *len, Relaxed);
            self.table.store_u16(place + 12, flags, Relaxed);
            self.table.store_u16(place + 14, next.unwrap_or(0xdead), Relaxed);
        }
        let head = taken[0];
        self.lengths[usize::from(head)] = taken;
        self.own.store_u16(4 + 2 * usize::from(self.offered % self.shape.size), head, Relaxed);
        self.offered = self.offered.wrapping_add(1);
        self.own.store_u16(2, self.offered, Release);
        Some(head)
    }

    fn offer_packed(&mut self, pieces: &[Piece]) -> Option<u16> {
        self.put_packed(&pieces.iter().map(|p| (p.0, p.1, if p.2 { WRITE } else { 0 })).collect::<Vec<_>>())
    }

    fn put_packed(&mut self, descs: &[(u64, u32, u16)]) -> Option<u16> {
        if usize::from(self.room) < descs.len() {
            return None;
        }
        let id = self.free.pop()?;
        self.room -= descs.len() as u16;
        self.lengths[usize::from(id)] = vec![0; descs.len()];
        let first = (self.offered, self.offered_wrap);
        let mut first_flags = 0;
        for (position, (at, len, flags)) in descs.iter().enumerate() {
            let place = usize::from(self.offered) * 16;
            let next = if position + 1 < descs.len() { NEXT } else { 0 };
            let owner = if self.offered_wrap { 1 << 7 } else { 1 << 15 };
            self.table.store_u64(place, *at, Relaxed);
            self.table.store_u32(place + 8, *len, Relaxed);
            self.table.store_u16(place + 12, id, Relaxed);
            if position == 0 {
                first_flags = flags | next | owner;
            } else {
                self.table.store_u16(place + 14, flags | next | owner, Relaxed);
            }
            self.offered += 1;
            if self.offered == self.shape.size {
                (self.offered, self.offered_wrap) = (0, !self.offered_wrap);
            }
        }
        self.table.store_u16(usize::from(first.0) * 16 + 14, first_flags, Release);
        Some(id)
    }

    /// Whether the device wants to be kicked for what was offered last.
    #[must_use]
    pub fn must_kick(&self) -> bool {
        fence(SeqCst);
        let size = usize::from(self.shape.size);
        match (self.shape.packed, self.shape.event_idx) {
            (false, false) => self.device.load_u16(0, Relaxed) & 1 == 0,
            (false, true) => self.device.load_u16(4 + 8 * size, Relaxed) == self.offered.wrapping_sub(1),
            // Asked for at some place: kicked too often rather than not.
            (true, _) => self.device.load_u16(2, Relaxed) & 3 != 1,
        }
    }

    /// Asks to be called for the next answer, or not.
    pub fn ask_for_calls(&self, wanted: bool) {
        if self.shape.packed {
            let at = self.seen | u16::from(self.seen_wrap) << 15;
            self.own.store_u16(0, at, Relaxed);
            let desc = if self.shape.event_idx { 2 } else { 0 };
            self.own.store_u16(2, if wanted { desc } else { 1 }, Release);
        } else if self.shape.event_idx {
            let at = if wanted { self.seen } else { self.seen.wrapping_sub(1) };
            self.own.store_u16(4 + 2 * usize::from(self.shape.size), at, Relaxed);
        } else {
            self.own.store_u16(0, u16::from(!wanted), Relaxed);
        }
        fence(SeqCst);
    }

    /// The next answer, if there is one.
    pub fn next_answer(&mut self) -> Option<Answered> {
        if self.shape.packed { self.next_packed() } else { self.next_split() }
    }

    fn next_split(&mut self) -> Option<Answered> {
        if self.device.load_u16(2, Acquire) == self.seen {
            return None;
        }
        let place = 4 + 8 * usize::from(self.seen % self.shape.size);
        let id = self.device.load_u32(place, Relaxed);
        let written = self.device.load_u32(place + 4, Relaxed);
        let id = u16::try_from(id).expect("a head");
        self.seen = self.seen.wrapping_add(1);
        let taken = std::mem::take(&mut self.lengths[usize::from(id)]);
        assert!(!taken.is_empty(), "{id} was answered twice");
        self.free.extend(taken);
        Some(Answered { id, written })
    }

    fn next_packed(&mut self) -> Option<Answered> {
        let place = usize::from(self.seen) * 16;
        let flags = self.table.load_u16(place + 14, Acquire);
        let (available, used) = (flags & 1 << 7 != 0, flags & 1 << 15 != 0);
        if available != used || used != self.seen_wrap {
            return None;
        }
        let written = self.table.load_u32(place + 8, Relaxed);
        let id = self.table.load_u16(place + 12, Relaxed);
        let length = std::mem::take(&mut self.lengths[usize::from(id)]).len() as u16;
        assert!(length > 0, "{id} was answered twice");
        self.seen += length;
        if self.seen >= self.shape.size {
            (self.seen, self.seen_wrap) = (self.seen - self.shape.size, !self.seen_wrap);
        }
        self.room += length;
        self.free.push(id);
        Some(Answered { id, written })
    }
}
