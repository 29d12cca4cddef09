//! The central store of free buffers, per node and class; threads come here in batches only.

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::MemoryError;
use super::class::{CLASSES, Class};
use super::config::GRANULE_BYTES;
use super::space::{Purpose, Space};
use super::stats::Gauge;

/// A free buffer. Whoever holds it owns the memory behind it.
#[derive(Debug)]
struct Block(NonNull<u8>);

// SAFETY: a block owns its memory, which is not tied to any thread.
unsafe impl Send for Block {}

/// Free buffers of one class on one node.
#[derive(Debug, Default)]
struct Shelf {
    free: Mutex<Vec<Block>>,
    /// Buffers that exist, free or not.
    total: Gauge,
    /// Length of `free`, for statistics.
    available: Gauge,
}

/// All classes of one node.
#[derive(Debug, Default)]
pub(super) struct Pool {
    shelves: [Shelf; CLASSES],
}

impl Pool {
    /// Hands up to `most` buffers to `give`, at least one; grows by one granule when there are none.
    pub(super) fn take(
        &self,
        space: &Space,
        node: u8,
        class: Class,
        most: usize,
        mut give: impl FnMut(NonNull<u8>),
    ) -> Result<(), MemoryError> {
        let shelf = &self.shelves[class.index()];
        let mut free = shelf.lock();
        if free.is_empty() {
            shelf.grow(&mut free, space, node, class)?;
        }
        let keep = free.len().saturating_sub(most);
        free.drain(keep..).for_each(|block| give(block.0));
        shelf.available.set(keep as u64);
        Ok(())
    }

    /// Takes buffers back. The caller owns each and forgets it.
    pub(super) fn put(&self, class: Class, blocks: impl Iterator<Item = NonNull<u8>>) {
        let shelf = &self.shelves[class.index()];
        let mut free = shelf.lock();
        // Room for every buffer that exists was made when it was carved: this never allocates.
        free.extend(blocks.map(Block));
        debug_assert!(free.len() as u64 <= shelf.total.get(), "a buffer of {class:?} was given back twice");
        shelf.available.set(free.len() as u64);
    }

    /// (existing, free in this store) of a class.
    pub(super) fn counts(&self, class: Class) -> (u64, u64) {
        let shelf = &self.shelves[class.index()];
        (shelf.total.get(), shelf.available.get())
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Vec<Block>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grow(&self, free: &mut Vec<Block>, space: &Space, node: u8, class: Class) -> Result<(), MemoryError> {
        let grant = space.grant(1, node, Purpose::Buffers)?;
        let base = space.address(grant.run);
        let count = class.per_granule();
        self.total.add(count as u64);
        free.reserve(self.total.get() as usize);
        // Last first, so that buffers leave in the order of their addresses.
        free.extend((0..count).rev().map(|index| {
            debug_assert!((index + 1) * class.bytes() <= GRANULE_BYTES);
            // SAFETY: index < per_granule, so the buffer lies in the granule just granted.
            Block(unsafe { base.add(index * class.bytes()) })
        }));
        Ok(())
    }
}
