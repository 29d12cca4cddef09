//! Where a process dies, for tests: from some store on, nothing of this thread's reaches shared memory any more.

/// Whether the next store still happens.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub(crate) const fn lives() -> bool {
    true
}

#[cfg(feature = "crash-points")]
mod points {
    use std::cell::Cell;

    thread_local! {
        static DONE: Cell<u32> = const { Cell::new(0) };
        static LAST: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    /// From now on this thread's stores are counted from zero, and after `stores` of them no more happen.
    pub fn die_after(stores: u32) {
        DONE.set(0);
        LAST.set(stores);
    }

    /// This thread lives for ever; how many stores it has made since [`die_after`], those included that did not happen.
    pub fn live() -> u32 {
        LAST.set(u32::MAX);
        DONE.get()
    }

    pub(crate) fn lives() -> bool {
        DONE.set(DONE.get().saturating_add(1));
        DONE.get() <= LAST.get()
    }
}

#[cfg(feature = "crash-points")]
pub(crate) use points::lives;
#[cfg(feature = "crash-points")]
pub use points::{die_after, live};
