//! The reserved addresses and one record for each of their granules, readable from any thread without a lock.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::process::{Resource, getrlimit};

use super::MemoryError;
use super::config::{GRANULE_BYTES, GRANULE_SHIFT, PageKind};
use super::runs::Run;

/// Addresses wished for, and the least that is worth starting with.
const RESERVE_MAX: usize = 1 << 40;
const RESERVE_MIN: usize = 64 << 20;
/// The base is aligned for the largest page.
const BASE_ALIGN: usize = 1 << 30;
/// "No physical address known" (0 is a valid one).
const NO_PHYS: u64 = u64::MAX;
/// Granules of buffers that are told apart by number; all further ones share the last number.
pub(crate) const NUMBERED_MAX: u16 = 1 << 14;
/// "Carved into no buffers": what fresh records hold.
const NO_NUMBER: u16 = 0;

/// What a granule is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Use {
    /// Nothing mapped.
    Unmapped = 0,
    /// Mapped as part of a 1 GiB page, in use by nobody.
    Spare = 1,
    /// Carved into buffers.
    Buffers = 2,
    /// Part of a [`super::Region`].
    Region = 3,
}

/// One granule's record. Written under the lock of `Space` only; a reader who holds memory of the granule sees
/// steady values, since they were written before that memory was handed out.
#[derive(Debug)]
pub(super) struct Granule {
    phys: AtomicU64,
    /// First granule of the mapping this one came with: the name of the mapping.
    mapping: AtomicU32,
    mapping_end: AtomicU32,
    /// One more than its number among the granules of buffers, which stay mapped for ever.
    number: AtomicU16,
    used_as: AtomicU8,
    kind: AtomicU8,
    node: AtomicU8,
}

/// A consistent copy of a record, for granules that are held.
#[derive(Debug, Clone, Copy)]
pub(super) struct GranuleView {
    pub(super) phys: Option<u64>,
    pub(super) mapping: Run,
    pub(super) kind: PageKind,
    pub(super) node: u8,
}

impl Granule {
    pub(super) fn view(&self) -> Option<GranuleView> {
        if self.used_as.load(Ordering::Acquire) == Use::Unmapped as u8 {
            return None;
        }
        let phys = self.phys.load(Ordering::Relaxed);
        let first = self.mapping.load(Ordering::Relaxed);
        let end = self.mapping_end.load(Ordering::Relaxed);
        Some(GranuleView {
            phys: (phys != NO_PHYS).then_some(phys),
            mapping: Run { first, count: end.saturating_sub(first) },
            kind: PageKind::from_number(self.kind.load(Ordering::Relaxed)),
            node: self.node.load(Ordering::Relaxed),
        })
    }

    #[inline]
    pub(super) fn node(&self) -> u8 {
        self.node.load(Ordering::Relaxed)
    }

    /// Number among the granules of buffers; `None` for all other granules.
    #[inline]
    pub(super) fn number(&self) -> Option<u16> {
        self.number.load(Ordering::Relaxed).checked_sub(NO_NUMBER + 1)
    }

    pub(super) fn set_number(&self, number: u16) {
        self.number.store(number.min(NUMBERED_MAX) + 1, Ordering::Relaxed);
    }

    pub(super) fn set_mapped(&self, view: GranuleView) {
        self.phys.store(view.phys.unwrap_or(NO_PHYS), Ordering::Relaxed);
        self.mapping.store(view.mapping.first, Ordering::Relaxed);
        self.mapping_end.store(view.mapping.end(), Ordering::Relaxed);
        self.kind.store(view.kind as u8, Ordering::Relaxed);
        self.node.store(view.node, Ordering::Relaxed);
        self.set_use(Use::Spare);
    }

    pub(super) fn set_use(&self, used_as: Use) {
        self.used_as.store(used_as as u8, Ordering::Release);
    }
}

/// The reservation: `granules` × 2 MiB of inaccessible addresses, and their records.
#[derive(Debug)]
pub(super) struct AddressTable {
    base: NonNull<u8>,
    granules: u32,
    records: NonNull<Granule>,
    /// What `mmap` gave, before alignment.
    reserved: (NonNull<c_void>, usize),
}

// SAFETY: the table owns its two mappings; through `&self` only atomics and plain integers are read.
unsafe impl Send for AddressTable {}
// SAFETY: as above.
unsafe impl Sync for AddressTable {}

impl AddressTable {
    pub(super) fn reserve() -> Result<Self, MemoryError> {
        // The memory files are as long as the reservation (offset = address - base), and a file longer than
        // RLIMIT_FSIZE would end the process by SIGXFSZ.
        let file_limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        let mut bytes = RESERVE_MAX.min(usize::try_from(file_limit).unwrap_or(usize::MAX));
        bytes -= bytes % GRANULE_BYTES;
        loop {
            match Self::try_reserve(bytes) {
                Ok(table) => return Ok(table),
                Err(source) if bytes / 2 < RESERVE_MIN => {
                    return Err(MemoryError::Reservation { bytes: bytes as u64, source });
                }
                Err(_) => bytes = bytes / 2 / GRANULE_BYTES * GRANULE_BYTES,
            }
        }
    }

    fn try_reserve(bytes: usize) -> io::Result<Self> {
        let total = bytes + BASE_ALIGN;
        let start = map_nothing(total, ProtFlags::empty())?;
        let granules = (bytes >> GRANULE_SHIFT) as u32;
        let records = match map_nothing(records_bytes(granules), ProtFlags::READ | ProtFlags::WRITE) {
            Ok(records) => records.cast(),
            Err(error) => {
                // SAFETY: just mapped above with this length; nothing points into it.
                unsafe { munmap(start.as_ptr(), total)? };
                return Err(error);
            }
        };
        let pad = start.as_ptr().align_offset(BASE_ALIGN);
        // SAFETY: `pad` < BASE_ALIGN, so base and the `bytes` after it lie inside the mapping.
        let base = unsafe { start.cast::<u8>().add(pad) };
        Ok(Self { base, granules, records, reserved: (start, total) })
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn granules(&self) -> u32 {
        self.granules
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.granules) << GRANULE_SHIFT
    }

    /// Address of a granule.
    pub(super) fn address(&self, granule: u32) -> NonNull<u8> {
        assert!(granule <= self.granules, "granule {granule} of {}", self.granules);
        // SAFETY: at most one past the end of the reservation.
        unsafe { self.base.add((granule as usize) << GRANULE_SHIFT) }
    }

    /// Granule in which `ptr` lies, if it lies in the reservation: one subtraction and one shift.
    #[inline]
    pub(super) fn index_of(&self, ptr: *const u8) -> Option<u32> {
        let index = ptr.addr().wrapping_sub(self.base.as_ptr().addr()) >> GRANULE_SHIFT;
        (index < self.granules as usize).then_some(index as u32)
    }

    /// Record of a granule.
    #[inline]
    pub(super) fn record(&self, granule: u32) -> &Granule {
        assert!(granule < self.granules, "granule {granule} of {}", self.granules);
        // SAFETY: in bounds; the records are a zero-filled mapping, and all-zero is a valid `Granule` (atomics)
        // that says "unmapped". They live as long as the table.
        unsafe { self.records.add(granule as usize).as_ref() }
    }

    pub(super) fn records(&self, run: Run) -> impl Iterator<Item = &Granule> {
        (run.first..run.end()).map(|granule| self.record(granule))
    }
}

impl Drop for AddressTable {
    fn drop(&mut self) {
        let (start, bytes) = self.reserved;
        // SAFETY: both ranges were mapped by `try_reserve`; the owner (`Space`) has gone, so nothing uses them.
        let (space, records) = unsafe {
            (
                munmap(start.as_ptr(), bytes),
                munmap(self.records.as_ptr().cast(), records_bytes(self.granules)),
            )
        };
        debug_assert!(space.is_ok() && records.is_ok(), "{space:?} {records:?}");
    }
}

fn records_bytes(granules: u32) -> usize {
    granules as usize * size_of::<Granule>()
}

/// Fresh private addresses that take no memory until touched.
fn map_nothing(bytes: usize, prot: ProtFlags) -> io::Result<NonNull<c_void>> {
    // SAFETY: no fixed address, so no existing mapping is touched.
    let start =
        unsafe { mmap_anonymous(ptr::null_mut(), bytes, prot, MapFlags::PRIVATE | MapFlags::NORESERVE)? };
    NonNull::new(start).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}
