//! `DmaBuf`: one uniquely owned buffer.

use std::fmt;
use std::ptr::NonNull;
use std::slice;

use super::class::{self, Class};
use super::{MemoryError, cache};

/// A buffer of DMA memory, 512 B to 2 MiB, in hugepages where there are any.
///
/// Owned by one place at a time; dropping it gives it to the dropping thread's cache. Aligned to its size class
/// (the next power of two of the length, 512 B at least), hence to 4 KiB from 4 KiB on.
///
/// Any thread may allocate, send and drop one. In steady state neither costs a lock or a heap allocation.
pub struct DmaBuf {
    ptr: NonNull<u8>,
    len: u32,
}

// SAFETY: the buffer owns its memory, which is tied to no thread.
unsafe impl Send for DmaBuf {}
// SAFETY: through `&DmaBuf` the memory can only be read.
unsafe impl Sync for DmaBuf {}

impl DmaBuf {
    /// Longest buffer, bytes.
    pub const MAX_LEN: u32 = class::MAX_BYTES;

    /// A buffer of `len` bytes (1 to [`Self::MAX_LEN`]) with *old contents*: possibly those of somebody else's IO.
    /// Overwrite before sending anywhere, or use [`Self::alloc_zeroed`].
    ///
    /// # Errors
    /// [`MemoryError::BufferSize`], or what [`super::Memory`] says when it cannot grow.
    #[inline]
    pub fn alloc(len: u32) -> Result<Self, MemoryError> {
        let Some(class) = Class::for_len(len) else {
            return Err(MemoryError::BufferSize { asked: len });
        };
        let ptr = cache::take(class)?;
        Ok(Self { ptr, len })
    }

    /// As [`Self::alloc`], all bytes zero.
    ///
    /// # Errors
    /// As [`Self::alloc`].
    pub fn alloc_zeroed(len: u32) -> Result<Self, MemoryError> {
        let mut buf = Self::alloc(len)?;
        buf.as_mut_slice().fill(0);
        Ok(buf)
    }

    /// Length, bytes: what was asked for.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a buffer holds at least one byte")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// First byte; for look-up of its [`super::Segment`].
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `ptr` is valid for the class size ≥ `len`, initialised (the kernel gives zeros), and owned by
        // `self`: no `&mut` exists while `&self` is borrowed.
        unsafe { slice::from_raw_parts(self.ptr.as_ptr(), self.len as usize) }
    }

    /// The bytes, to write.
    #[inline]
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len as usize) }
    }

    /// Gives up ownership; [`Self::from_raw`] takes it back.
    #[inline]
    pub(crate) fn into_raw(self) -> (NonNull<u8>, u32) {
        let parts = (self.ptr, self.len);
        std::mem::forget(self);
        parts
    }

    /// Takes back what [`Self::into_raw`] gave.
    ///
    /// # Safety
    /// `ptr` and `len` are the unchanged result of one `into_raw`, used here for the first time since, and nobody
    /// else (thread, device, kernel) still uses the memory.
    #[inline]
    pub(crate) unsafe fn from_raw(ptr: NonNull<u8>, len: u32) -> Self {
        debug_assert!(
            Class::for_len(len).is_some_and(|class| ptr.as_ptr().addr().is_multiple_of(class.bytes()))
        );
        Self { ptr, len }
    }
}

impl Drop for DmaBuf {
    #[inline]
    fn drop(&mut self) {
        if let Some(class) = Class::for_len(self.len) {
            cache::give(self.ptr, class);
        }
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the contents: they are users' data.
        f.debug_struct("DmaBuf").field("ptr", &self.ptr).field("len", &self.len).finish()
    }
}

const _: () = assert!(size_of::<DmaBuf>() == 16 && size_of::<Option<DmaBuf>>() == 16);
