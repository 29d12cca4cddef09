//! Copying into memory that is too large to be in a cache.
//!
//! An ordinary store first fetches the line it is about to overwrite, and evicts something useful for it. Streaming
//! stores do neither: a 4 KiB write to a random place of a 512 MiB region takes about half the time (measured:
//! docs/figures.md). Where the memory would have stayed in a cache they lose, so small regions are copied as usual.

/// Regions up to this size are taken to live in caches.
pub(super) const CACHED_BYTES_MAX: u64 = 32 << 20;

/// Copies `len` bytes past the caches.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and the two do not overlap.
#[inline]
pub(super) unsafe fn copy_past_caches(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if (to as usize).is_multiple_of(LINE) && len.is_multiple_of(LINE) {
        // SAFETY: as the caller guarantees; alignment and length were just checked.
        return unsafe { stream_lines(from, to, len) };
    }
    // SAFETY: as the caller guarantees.
    unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
}

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// # Safety
/// As [`copy_past_caches`]; `to` is aligned to a line and `len` a multiple of it.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn stream_lines(from: *const u8, to: *mut u8, len: usize) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const PIECE: usize = size_of::<__m128i>();
    for line in (0..len).step_by(LINE) {
        for piece in (line..line + LINE).step_by(PIECE) {
            // SAFETY: piece + PIECE ≤ len, so both stay inside what the caller vouches for; the source needs no
            // alignment, the target is aligned to a line and `piece` is a multiple of 16.
            unsafe {
                let data = _mm_loadu_si128(from.add(piece).cast());
                _mm_stream_si128(to.add(piece).cast(), data);
            }
        }
    }
    // Streaming stores are not ordered with what follows: whoever is told that the copy is done must see it.
    // SAFETY: SSE is part of x86-64.
    unsafe { _mm_sfence() };
}

/// Begins to bring the line at `address` into the caches; any address will do, a bad one does nothing.
#[inline]
pub(super) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults and changes nothing but caches.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::copy_past_caches;

    #[test]
    fn any_length_and_alignment_is_copied_exactly() {
        let source: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        for offset in 0..70 {
            for len in [0, 1, 63, 64, 65, 128, 512, 900] {
                let mut target = vec![0xAA; 1100];
                // SAFETY: 3 + 900 ≤ 1000, 69 + 900 < 1100, and the two are separate allocations.
                unsafe { copy_past_caches(source.as_ptr().add(3), target.as_mut_ptr().add(offset), len) };
                assert_eq!(target[offset..offset + len], source[3..3 + len], "{len} bytes at {offset}");
                assert!(target[..offset].iter().chain(&target[offset + len..]).all(|byte| *byte == 0xAA));
            }
        }
    }
}
