//! Size classes of DMA buffers: powers of two from 512 B to 2 MiB, each granule carved for one class.

use super::config::GRANULE_BYTES;

const MIN_SHIFT: u32 = 9;
const MAX_SHIFT: u32 = 21;

/// Longest buffer, bytes.
pub(super) const MAX_BYTES: u32 = 1 << MAX_SHIFT;
/// Number of classes.
pub(super) const CLASSES: usize = (MAX_SHIFT - MIN_SHIFT + 1) as usize;

/// Bounds of what one thread keeps of a class, so that idle threads do not hoard memory.
const CACHE_BYTES: usize = 4 << 20;
const CACHE_BUFFERS_MAX: usize = 512;

/// Index of a size class, 0 = 512 B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// The smallest class that holds `len` bytes; `None` for 0 and for more than 2 MiB.
    #[inline]
    pub(super) fn for_len(len: u32) -> Option<Self> {
        // 0 wraps to the largest number, so one comparison refuses both ends.
        let last = len.wrapping_sub(1);
        if last >= MAX_BYTES {
            return None;
        }
        let shift = u32::BITS - last.leading_zeros();
        Some(Self(shift.saturating_sub(MIN_SHIFT) as u8))
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES as u8).map(Self)
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Buffer size, bytes.
    #[inline]
    pub(super) const fn bytes(self) -> usize {
        1 << (self.0 as u32 + MIN_SHIFT)
    }

    /// Buffers in one granule.
    pub(super) const fn per_granule(self) -> usize {
        GRANULE_BYTES / self.bytes()
    }

    /// Most buffers one thread keeps.
    pub(super) const fn cache_limit(self) -> usize {
        let by_bytes = CACHE_BYTES / self.bytes();
        if by_bytes < CACHE_BUFFERS_MAX { by_bytes } else { CACHE_BUFFERS_MAX }
    }

    /// Buffers moved between a thread's cache and the central pool at once.
    pub(super) const fn batch(self) -> usize {
        self.cache_limit() / 2
    }
}

/// Where each class's slots start in a thread's cache, and the number of slots in all.
pub(super) const CACHE_OFFSETS: [usize; CLASSES + 1] = {
    let mut offsets = [0; CLASSES + 1];
    let mut class = 0;
    while class < CLASSES {
        offsets[class + 1] = offsets[class] + Class(class as u8).cache_limit();
        class += 1;
    }
    offsets
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_gets_the_smallest_class_that_holds_it() {
        for len in 1..=MAX_BYTES {
            let class = Class::for_len(len).expect("within range");
            assert!(class.bytes() >= len as usize);
            assert!(class.index() == 0 || class.bytes() / 2 < len as usize, "{len}");
        }
        assert_eq!(Class::for_len(0), None);
        assert_eq!(Class::for_len(MAX_BYTES + 1), None);
        assert_eq!(Class::for_len(u32::MAX), None);
    }

    #[test]
    fn every_class_moves_at_least_one_buffer_and_keeps_at_most_4_mib() {
        for class in Class::all() {
            assert!(class.batch() >= 1, "{class:?}");
            assert!(class.cache_limit() * class.bytes() <= CACHE_BYTES);
        }
    }
}
