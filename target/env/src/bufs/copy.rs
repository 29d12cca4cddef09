//! Moving bytes into and out of an IO's memory.
//!
//! Offsets and lengths are in bytes from the first byte of the first segment; going past the end panics, as it is
//! a bug of the caller, who knows both lengths.

use super::{Bufs, Segment};
use crate::memory::Region;
use std::ptr;

/// Bytes that [`Bufs::by_window`] shows at a time.
const WINDOW: usize = 4096;

impl Bufs {
    /// Copies `data` into the buffers at `offset`. Panics if they are read-only or too short.
    pub fn copy_from_slice(&mut self, offset: u32, data: &[u8]) {
        let mut data = data;
        self.for_range_mut(offset, data.len(), |ptr, len| {
            let (now, later) = data.split_at(len);
            data = later;
            // SAFETY: `ptr` has `len` bytes that only this value may touch (not read-only, checked), and a Rust
            // slice never overlaps memory owned by a Bufs.
            unsafe { ptr::copy_nonoverlapping(now.as_ptr(), ptr, len) };
        });
    }

    /// Copies bytes at `offset` out into `data`. Panics if the buffers are too short.
    pub fn copy_to_slice(&self, offset: u32, data: &mut [u8]) {
        let mut at = 0;
        self.for_range(offset, data.len(), |ptr, len| {
            // SAFETY: `ptr` has `len` readable bytes that nobody writes (they are this value's, or shared by views
            // that are all read-only), and a Rust slice never overlaps memory owned by a Bufs.
            unsafe { ptr::copy_nonoverlapping(ptr, data[at..at + len].as_mut_ptr(), len) };
            at += len;
        });
    }

    /// Shows the first `len` bytes in order, as copies in the first-level cache: memory that others may write meanwhile is
    /// never looked at in place.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn by_window(&self, len: u32, mut each: impl FnMut(&[u8])) {
        let (mut window, mut at) = ([0; WINDOW], 0);
        while at < len {
            let now = (len - at).min(WINDOW as u32);
            let seen = &mut window[..now as usize];
            self.copy_to_slice(at, seen);
            each(seen);
            at += now;
        }
    }

    /// Fills all the buffers with one byte. Panics if they are read-only.
    pub fn fill(&mut self, byte: u8) {
        self.for_range_mut(0, self.len as usize, |ptr, len| {
            // SAFETY: `ptr` has `len` bytes that only this value may touch.
            unsafe { ptr::write_bytes(ptr, byte, len) };
        });
    }

    /// Reads all the buffers' bytes from `region` at `at`. Panics if either is too short or the buffers read-only.
    pub fn copy_from_region(&mut self, region: &Region, at: u64) {
        let from = region.ptr_at(at, u64::from(self.len));
        let mut done = 0;
        self.for_range_mut(0, self.len as usize, |ptr, len| {
            // SAFETY: `ptr_at` checked that the region has all the bytes from `from` on. Regions are reached only
            // through raw copies like this one; two at once on the same bytes give torn data, as on any disk.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr().add(done), ptr, len) };
            done += len;
        });
    }

    /// Writes all the buffers' bytes into `region` at `at`. Panics if the region is too short.
    pub fn copy_to_region(&self, region: &Region, at: u64) {
        let mut at = at;
        self.for_range(0, self.len as usize, |ptr, len| {
            // SAFETY: `ptr` has `len` readable bytes of a buffer, which is never part of a region.
            unsafe { region.copy_in(at, ptr, len) };
            at += len as u64;
        });
    }

    /// Copies `len` bytes of `from` at `at` into the buffers at `offset`. Panics if these are read-only or either is too
    /// short.
    pub fn copy_from_bufs(&mut self, offset: u32, from: &Bufs, at: u32, len: u32) {
        let mut at = at;
        self.for_range_mut(offset, len as usize, |to, len| {
            let mut done = 0;
            from.for_range(at, len, |from, len| {
                // SAFETY: both have these `len` bytes; `to` is this value's alone, so the two do not overlap.
                unsafe { ptr::copy_nonoverlapping(from, to.add(done), len) };
                done += len;
            });
            at += len as u32;
        });
    }

    /// True if `len` bytes at `offset` are those of `other` at `at`. Panics if either is too short.
    #[must_use]
    pub fn equals(&self, offset: u32, other: &Bufs, at: u32, len: u32) -> bool {
        let (mut at, mut equal) = (at, true);
        self.for_range(offset, len as usize, |ours, len| {
            let mut done = 0;
            other.for_range(at, len, |theirs, len| {
                // SAFETY: both have these `len` readable bytes, `done + len` of them from `ours` on.
                equal &= unsafe { libc::memcmp(ours.add(done).cast(), theirs.cast(), len) } == 0;
                done += len;
            });
            at += len as u32;
        });
        equal
    }

    /// True if the buffers' bytes are those of `region` at `at`. Panics if the region is too short.
    #[must_use]
    pub fn equals_region(&self, region: &Region, at: u64) -> bool {
        let theirs = region.ptr_at(at, u64::from(self.len));
        let (mut done, mut equal) = (0, true);
        self.for_range(0, self.len as usize, |ours, len| {
            // SAFETY: `ptr_at` checked that the region has all the bytes from `theirs` on, and `ours` has `len`. A
            // region is reached through raw accesses like this one only; one that is written meanwhile compares as a
            // mixture of old and new, as on any disk.
            equal &= unsafe { libc::memcmp(ours.cast(), theirs.as_ptr().add(done).cast(), len) } == 0;
            done += len;
        });
        equal
    }

    #[inline]
    pub(super) fn for_range_mut(&mut self, offset: u32, len: usize, mut each: impl FnMut(*mut u8, usize)) {
        assert!(!self.is_read_only(), "a read-only view must not be written");
        self.for_range(offset, len, |ptr, len| each(ptr.cast_mut(), len));
    }

    /// Calls `each` with the pieces that make up `len` bytes from `offset`.
    #[inline]
    pub(super) fn for_range(&self, offset: u32, len: usize, mut each: impl FnMut(*const u8, usize)) {
        let end = offset as usize + len;
        assert!(end <= self.len as usize, "bytes {offset}..{end} of a buffer of {}", self.len);
        let (mut skip, mut left) = (offset as usize, len);
        for Segment { ptr, len } in self.segments() {
            if left == 0 {
                return;
            }
            let whole = len as usize;
            if skip >= whole {
                skip -= whole;
                continue;
            }
            let take = left.min(whole - skip);
            // SAFETY: skip < whole, so the sum stays inside the segment.
            each(unsafe { ptr.as_ptr().add(skip) }, take);
            (skip, left) = (0, left - take);
        }
    }
}
