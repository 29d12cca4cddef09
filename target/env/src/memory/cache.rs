//! Each thread's own free buffers: taking and giving is a few loads and stores, no lock, no atomic
//! read-modify-write, no allocation. Bounded per class; what is too much goes to the central pool by half a cache.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::class::{CACHE_OFFSETS, CLASSES, Class};
use super::{Memory, MemoryError, memory};

const SLOTS: usize = CACHE_OFFSETS[CLASSES];

/// One thread's buffers. `counts` are read by anyone (statistics); all else belongs to the owning thread.
pub(super) struct Cache {
    counts: [AtomicU32; CLASSES],
    /// Index of the node whose buffers are kept here.
    node: Cell<u8>,
    /// Whether buffers of other nodes exist at all.
    several_nodes: Cell<bool>,
    slots: [UnsafeCell<*mut u8>; SLOTS],
}

// SAFETY: `counts` are atomics; `node`, `several_nodes` and `slots` are touched only through the methods below,
// which are called only by the thread that made the cache (it finds it through its own thread-local).
unsafe impl Sync for Cache {}
// SAFETY: the pointers kept are owned buffers, not tied to a thread; the last `Arc` may go on any thread.
unsafe impl Send for Cache {}

thread_local! {
    /// The fast way to this thread's cache; null before the first use and after the thread's end.
    static CURRENT: Cell<*const Cache> = const { Cell::new(ptr::null()) };
    /// Keeps the cache alive, and empties it when the thread ends.
    static OWNER: RefCell<Option<Owner>> = const { RefCell::new(None) };
}

struct Owner(Arc<Cache>);

impl Drop for Owner {
    fn drop(&mut self) {
        CURRENT.set(ptr::null());
        let memory = memory();
        for class in Class::all() {
            self.0.flush(memory, class, usize::MAX);
        }
        memory.forget_cache(&self.0);
    }
}

/// A free buffer of `class`: uninitialised in the sense of "whatever was in it before".
#[inline]
pub(super) fn take(class: Class) -> Result<NonNull<u8>, MemoryError> {
    if let Some(cache) = current()
        && let Some(block) = cache.pop(class)
    {
        return Ok(block);
    }
    take_slowly(class)
}

/// Gives a buffer of `class` back. The caller owns it and forgets it.
#[inline]
pub(super) fn give(block: NonNull<u8>, class: Class) {
    match current() {
        Some(cache) if cache.wants(block) && cache.push(block, class) => {}
        _ => give_slowly(block, class),
    }
}

#[inline]
fn current() -> Option<&'static Cache> {
    // SAFETY: non-null only while `OWNER` of this thread keeps the cache alive; the reference is used within this
    // module's functions only, none of which outlives the thread or drops the owner.
    unsafe { CURRENT.get().as_ref() }
}

#[cold]
fn take_slowly(class: Class) -> Result<NonNull<u8>, MemoryError> {
    let memory = memory();
    let mut first = None;
    match current().or_else(|| adopt(memory)) {
        Some(cache) => {
            cache.settle(memory);
            memory.pool(cache.node.get()).take(
                memory.space(),
                cache.node.get(),
                class,
                class.batch(),
                |block| {
                    if let Some(block) = first.replace(block) {
                        let kept = cache.push(block, class);
                        debug_assert!(kept, "a batch fits an empty cache");
                    }
                },
            )?;
        }
        // The thread is ending and its cache is gone.
        None => {
            let node = memory.current_node();
            memory.pool(node).take(memory.space(), node, class, 1, |block| first = Some(block))?;
        }
    }
    let Some(block) = first else {
        unreachable!("the pool hands out at least one buffer or fails");
    };
    Ok(block)
}

#[cold]
fn give_slowly(block: NonNull<u8>, class: Class) {
    let memory = memory();
    match current().or_else(|| adopt(memory)) {
        Some(cache) if cache.wants(block) => {
            cache.flush(memory, class, class.batch());
            let kept = cache.push(block, class);
            debug_assert!(kept, "there is room after a flush");
        }
        _ => memory.pool(memory.node_of(block)).put(class, [block].into_iter()),
    }
}

/// Makes this thread's cache; `None` when the thread is ending.
fn adopt(memory: &Memory) -> Option<&'static Cache> {
    let made = OWNER.try_with(|owner| {
        let cache = Cache::new(memory);
        memory.remember_cache(Arc::clone(&cache));
        CURRENT.set(Arc::as_ptr(&cache));
        *owner.borrow_mut() = Some(Owner(cache));
    });
    made.ok().and_then(|()| current())
}

impl Cache {
    fn new(memory: &Memory) -> Arc<Self> {
        let cache = Arc::<Self>::new_zeroed();
        // SAFETY: all-zero is valid for every field: atomics 0, node 0, `false`, null pointers.
        let cache = unsafe { cache.assume_init() };
        cache.node.set(memory.current_node());
        cache.several_nodes.set(memory.nodes().len() > 1);
        cache
    }

    /// Buffers kept, for statistics.
    pub(super) fn count(&self, class: Class) -> u32 {
        self.counts[class.index()].load(Ordering::Relaxed)
    }

    #[inline]
    fn pop(&self, class: Class) -> Option<NonNull<u8>> {
        let count = self.count(class).checked_sub(1)?;
        self.counts[class.index()].store(count, Ordering::Relaxed);
        // SAFETY: only the owning thread comes here, and it has no other reference into the slots.
        NonNull::new(unsafe { *self.slot(class, count).get() })
    }

    #[inline]
    fn push(&self, block: NonNull<u8>, class: Class) -> bool {
        let count = self.count(class);
        if count as usize >= class.cache_limit() {
            return false;
        }
        // SAFETY: as in `pop`.
        unsafe { *self.slot(class, count).get() = block.as_ptr() };
        self.counts[class.index()].store(count + 1, Ordering::Relaxed);
        true
    }

    #[inline]
    fn slot(&self, class: Class, index: u32) -> &UnsafeCell<*mut u8> {
        &self.slots[CACHE_OFFSETS[class.index()] + index as usize]
    }

    /// Whether a buffer belongs to the node this cache serves.
    #[inline]
    fn wants(&self, block: NonNull<u8>) -> bool {
        !self.several_nodes.get() || memory().node_of(block) == self.node.get()
    }

    /// Follows the thread to another node: what was kept goes home first.
    fn settle(&self, memory: &Memory) {
        let here = memory.current_node();
        if here != self.node.get() {
            Class::all().for_each(|class| self.flush(memory, class, usize::MAX));
            self.node.set(here);
        }
    }

    /// Moves up to `most` buffers to the central pool of their node.
    fn flush(&self, memory: &Memory, class: Class, most: usize) {
        let pool = memory.pool(self.node.get());
        let blocks = std::iter::from_fn(|| self.pop(class)).take(most);
        pool.put(class, blocks);
    }
}
