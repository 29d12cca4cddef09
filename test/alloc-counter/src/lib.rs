//! # Counting heap allocations
//!
//! **What it is.** An allocator that counts, per thread, around the system's: for the tests and benches that prove
//! that an IO allocates nothing. A binary opts in:
//! `#[global_allocator] static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;`
//!
//! **Words.** *allocation*: a call of `alloc`, `alloc_zeroed` or `realloc`; frees are not counted.
//!
//! **Who may call it.** [`allocations`] counts the calling thread's own.
//!
//! **Invariants.** It never allocates itself.
//!
//! **Map.** This file.
//!
//! **Tests.** Below.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The counting allocator.
#[derive(Debug)]
pub struct Counter;

/// Allocations made by the calling thread so far.
#[must_use]
pub fn allocations() -> u64 {
    COUNT.with(Cell::get)
}

fn count() {
    // Gone while a thread ends; what it allocates then is not of interest.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is handed to the system's allocator unchanged, which keeps GlobalAlloc's contract; counting
// touches a const-initialised thread-local without a destructor, which neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.dealloc(ptr, layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, allocations};

    #[global_allocator]
    static COUNTER: Counter = Counter;

    #[test]
    fn an_allocation_is_counted_on_its_own_thread_only() {
        let before = allocations();
        let boxed = std::hint::black_box(Box::new(5));
        assert_eq!(allocations(), before + 1);
        drop(boxed);
        assert_eq!(allocations(), before + 1);
        let elsewhere = std::thread::spawn(|| {
            let before = allocations();
            let list = std::hint::black_box(Vec::<u8>::with_capacity(100));
            drop(list);
            allocations() - before
        });
        assert_eq!(elsewhere.join().expect("no panic"), 1);
    }
}
