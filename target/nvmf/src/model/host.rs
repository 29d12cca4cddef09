//! Whether a queue lives, and whether its host has to wait for queues that no longer do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

/// Counts the dead queues of one host on one subsystem that still have commands in a bdev. While there is one, no command of
/// that host starts there.
#[derive(Debug, Default)]
pub struct Fence {
    dead: AtomicU32,
}

impl Fence {
    /// Whether commands may start.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.dead.load(SeqCst) == 0
    }
}

/// The life of one queue, which ends once. Whoever ends it counts it in the fence; its reactor takes it out when nothing of it is left.
#[derive(Debug)]
pub struct Life {
    fence: Arc<Fence>,
    dead: AtomicBool,
}

impl Life {
    /// A queue begins.
    #[must_use]
    pub fn new(fence: Arc<Fence>) -> Arc<Life> {
        Arc::new(Life { fence, dead: AtomicBool::new(false) })
    }

    /// No command of it may start.
    #[inline]
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.dead.load(SeqCst)
    }

    /// Ends it, if it has not ended: from here on its host waits.
    pub fn end(&self) {
        // Counted first: whoever sees it dead sees the fence closed.
        self.fence.dead.fetch_add(1, SeqCst);
        if self.dead.swap(true, SeqCst) {
            self.fence.dead.fetch_sub(1, SeqCst);
        }
    }

    /// Nothing of it is in any bdev any more. Once, after its end, by its reactor.
    pub fn drained(&self) {
        assert!(self.is_over(), "a queue drains after its end");
        let before = self.fence.dead.fetch_sub(1, SeqCst);
        assert!(before > 0, "a queue drains once");
    }

    /// What holds the host back.
    #[inline]
    #[must_use]
    pub fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_waits_from_the_end_of_a_queue_until_it_has_drained() {
        let fence = Arc::new(Fence::default());
        let (first, second) = (Life::new(fence.clone()), Life::new(fence.clone()));
        first.end();
        first.end();
        second.end();
        assert!(!fence.is_open() && first.is_over());
        first.drained();
        assert!(!fence.is_open());
        second.drained();
        assert!(fence.is_open());
    }
}
