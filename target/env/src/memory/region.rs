//! `Region`: a big contiguous piece of memory, such as a memory disk.

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;

use super::config::GRANULE_BYTES;
use super::runs::Run;
use super::space::Purpose;
use super::stream::{CACHED_BYTES_MAX, LINE, copy_past_caches, prefetch};
use super::{MemoryError, memory};

/// Lines that [`Region::prefetch`] asks for: more keep the memory busy with what the processor would fetch anyway.
const PREFETCH_LINES: usize = 8;

/// Contiguous memory of any size, zero when new, in whole granules of 2 MiB.
///
/// Shared freely between threads and never seen as a slice: like a disk it is only copied to and from, and two
/// copies that overlap in place and time leave either's bytes, or a mixture, as on a disk. Bytes move by the C
/// library's `memcpy`, `memmove` and `memset` on memory that holds no Rust object.
///
/// Dropping it gives its pages back to the kernel.
pub struct Region {
    base: NonNull<u8>,
    len: u64,
    run: Run,
}

// SAFETY: a region owns its addresses until dropped; access through `&self` is by raw copies only (see above).
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// `bytes` of zeros on the calling thread's node.
    ///
    /// # Errors
    /// [`MemoryError::RegionEmpty`], or what [`super::Memory`] says when it cannot grow. Nothing is kept then.
    pub fn alloc(bytes: u64) -> Result<Self, MemoryError> {
        if bytes == 0 {
            return Err(MemoryError::RegionEmpty);
        }
        let memory = memory();
        let reserved = memory.space().table().bytes();
        let granules = bytes.div_ceil(GRANULE_BYTES as u64);
        let count = u32::try_from(granules)
            .ok()
            .filter(|_| bytes <= reserved)
            .ok_or(MemoryError::AddressSpace { asked: bytes, reserved })?;
        let grant = memory.space().grant(count, memory.current_node(), Purpose::Region)?;
        let region = Self { base: memory.space().address(grant.run), len: bytes, run: grant.run };
        if !grant.fresh {
            region.fill_zero(0, bytes);
        }
        Ok(region)
    }

    /// Length, bytes: what was asked for.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a region holds at least one byte")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// First byte; for look-up of its [`super::Segment`].
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// Begins to bring the first bytes at `offset` into the caches, for a copy that follows soon. The processor
    /// fetches the rest by itself once it sees the copy go on.
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        if offset < self.len {
            let first = self.base.as_ptr().wrapping_add(offset as usize);
            (0..PREFETCH_LINES).for_each(|line| prefetch(first.wrapping_add(line * LINE)));
        }
    }

    /// True if the region is too large to live in caches, so that writing past them is faster.
    #[inline]
    pub(crate) fn outgrows_caches(&self) -> bool {
        self.len > CACHED_BYTES_MAX
    }

    /// Copies `len` bytes from `from` to byte `offset` on.
    ///
    /// # Panics
    /// If the range passes the end.
    ///
    /// # Safety
    /// `from` is readable for `len` bytes and not part of this region.
    #[inline]
    pub(crate) unsafe fn copy_in(&self, offset: u64, from: *const u8, len: usize) {
        let to = self.ptr_at(offset, len as u64).as_ptr();
        if self.outgrows_caches() {
            // SAFETY: `ptr_at` checked the target; the caller vouches for the source.
            unsafe { copy_past_caches(from, to, len) };
        } else {
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
        }
    }

    /// Copies bytes from `offset` on out into `target`.
    #[cfg(test)]
    pub(super) fn read_at(&self, offset: u64, target: &mut [u8]) {
        let source = self.ptr_at(offset, target.len() as u64);
        // SAFETY: `ptr_at` checked the source; `target` is exclusively borrowed and no region is ever a slice.
        unsafe { std::ptr::copy_nonoverlapping(source.as_ptr(), target.as_mut_ptr(), target.len()) };
    }

    /// Copies all of `source` to byte `offset` on.
    #[cfg(test)]
    pub(super) fn write_at(&self, offset: u64, source: &[u8]) {
        // SAFETY: a slice is readable and no region is ever a slice.
        unsafe { self.copy_in(offset, source.as_ptr(), source.len()) };
    }

    /// Writes `len` zeros at byte `offset` on.
    ///
    /// # Panics
    /// If the range passes the end.
    pub fn fill_zero(&self, offset: u64, len: u64) {
        let target = self.ptr_at(offset, len);
        // SAFETY: `ptr_at` checked the range.
        unsafe { libc::memset(target.as_ptr().cast::<c_void>(), 0, len as usize) };
    }

    /// Copies `len` bytes from byte `from` on to byte `to` on; the two may overlap.
    ///
    /// # Panics
    /// If either range passes the end.
    pub fn move_within(&self, from: u64, to: u64, len: u64) {
        let (source, target) = (self.ptr_at(from, len), self.ptr_at(to, len));
        // SAFETY: `ptr_at` checked both ranges.
        unsafe { libc::memmove(target.as_ptr().cast(), source.as_ptr().cast(), len as usize) };
    }

    /// Address of `len` bytes at `offset`, for raw copies within this crate.
    ///
    /// # Panics
    /// If the range passes the end.
    #[inline]
    pub(crate) fn ptr_at(&self, offset: u64, len: u64) -> NonNull<u8> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "{len} bytes at {offset} of a region of {} bytes", self.len);
        // SAFETY: offset ≤ len of the region, which is mapped from `base` on.
        unsafe { self.base.add(offset as usize) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        memory().space().give_back(self.run);
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("base", &self.base).field("len", &self.len).finish()
    }
}
