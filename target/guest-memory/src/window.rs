//! Words of shared memory, read and written whole.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::{Fault, Mapping};

/// A part of a mapping whose words are read and written atomically. Offsets are in bytes from its start; one that is
/// misaligned or past the end panics, as it is a bug of the caller, who has checked what comes from outside.
///
/// Words are little-endian in memory, as virtio's are.
#[derive(Clone, Debug)]
pub struct Window {
    ptr: NonNull<u8>,
    len: usize,
    /// Keeps `ptr` valid.
    _mapping: Arc<Mapping>,
}

// SAFETY: the mapping it holds may be used from any thread, and it is used through atomics.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

macro_rules! word {
    ($load:ident, $store:ident, $word:ty, $atomic:ty) => {
        #[doc = concat!("The ", stringify!($word), " at byte `at`.")]
        #[inline]
        #[must_use]
        pub fn $load(&self, at: usize, order: Ordering) -> $word {
            // SAFETY: `place` checked that the whole word lies in the mapping and is aligned; other processes may
            // write it at any time, which atomics allow. The reference does not outlive the call.
            let word = unsafe { <$atomic>::from_ptr(self.place::<$word>(at)) };
            <$word>::from_le(word.load(order))
        }

        #[doc = concat!("Writes the ", stringify!($word), " at byte `at`.")]
        #[inline]
        pub fn $store(&self, at: usize, value: $word, order: Ordering) {
            // SAFETY: as for reading.
            let word = unsafe { <$atomic>::from_ptr(self.place::<$word>(at)) };
            if crate::crash::lives() {
                word.store(value.to_le(), order);
            }
        }
    };
}

impl Window {
    /// The bytes `at` to `at + len` of `mapping`; none if it does not hold all of them. Words are aligned if `at` is, to
    /// `align`, which is a power of two up to 64.
    ///
    /// # Errors
    /// [`Fault::Outside`], [`Fault::Misaligned`]; addresses in them are `at`.
    pub fn new(mapping: &Arc<Mapping>, at: u64, len: u64, align: u64) -> Result<Window, Fault> {
        debug_assert!(align.is_power_of_two() && align <= 64);
        let ptr = mapping.at(at, len).ok_or(Fault::Outside { at, len })?;
        if !(ptr.as_ptr().addr() as u64).is_multiple_of(align) {
            return Err(Fault::Misaligned { at, align });
        }
        Ok(Window { ptr, len: len as usize, _mapping: mapping.clone() })
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    word!(load_u8, store_u8, u8, AtomicU8);
    word!(load_u16, store_u16, u16, AtomicU16);
    word!(load_u32, store_u32, u32, AtomicU32);
    word!(load_u64, store_u64, u64, AtomicU64);

    /// Sets bits of the byte at `at`, leaving those alone that others set meanwhile.
    #[inline]
    pub fn set_bits(&self, at: usize, bits: u8) {
        // SAFETY: as for reading a word.
        let byte = unsafe { AtomicU8::from_ptr(self.place::<u8>(at)) };
        if crate::crash::lives() {
            byte.fetch_or(bits, Ordering::Relaxed);
        }
    }

    #[inline]
    fn place<W>(&self, at: usize) -> *mut W {
        let size = size_of::<W>();
        assert!(
            at.checked_add(size).is_some_and(|end| end <= self.len),
            "byte {at} of a window of {}",
            self.len
        );
        // SAFETY: at + size ≤ len, all of which lies in the mapping.
        let place = unsafe { self.ptr.as_ptr().add(at) };
        assert!(
            place.addr().is_multiple_of(size),
            "byte {at} of a window is no place for a word of {size} bytes"
        );
        place.cast()
    }
}
