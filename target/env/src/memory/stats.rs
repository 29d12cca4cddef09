//! Accounting of DMA memory.

use std::sync::atomic::{AtomicU64, Ordering};

use super::config::PageKind;

/// A snapshot; sizes in bytes. Taken without stopping anyone, so figures of a busy moment may differ by what moved
/// while they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryStats {
    /// Addresses reserved (costs nothing).
    pub reserved_bytes: u64,
    /// Most that may be mapped.
    pub limit_bytes: Option<u64>,
    /// One entry per NUMA node and page kind in use.
    pub pages: Vec<PageStats>,
    /// One entry per buffer size in use.
    pub classes: Vec<ClassStats>,
    /// Granules the kernel would not take back; lost until the process ends. 0 on a healthy machine.
    pub lost_bytes: u64,
}

/// Memory of one page kind on one node, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageStats {
    /// NUMA node.
    pub node: u32,
    /// Page kind.
    pub kind: PageKind,
    /// Mapped now.
    pub mapped: u64,
    /// Of that: carved into buffers, in use or not.
    pub buffers: u64,
    /// Of that: in regions.
    pub regions: u64,
    /// Of that: pages that stay in place (hugepages, or locked).
    pub locked: u64,
}

/// Buffers of one size, over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassStats {
    /// Buffer size, bytes.
    pub bytes: u32,
    /// Buffers that exist.
    pub total: u64,
    /// Held by callers.
    pub in_use: u64,
    /// Kept by threads for their next allocation.
    pub cached: u64,
}

impl MemoryStats {
    /// Bytes mapped, all nodes and kinds.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        self.pages.iter().map(|page| page.mapped).sum()
    }

    /// Bytes mapped as hugepages.
    #[must_use]
    pub fn hugepage_bytes(&self) -> u64 {
        self.pages.iter().filter(|page| page.kind.is_huge()).map(|page| page.mapped).sum()
    }

    /// Bytes in buffers that callers hold.
    #[must_use]
    pub fn buffer_bytes_in_use(&self) -> u64 {
        self.classes.iter().map(|class| class.in_use * u64::from(class.bytes)).sum()
    }
}

/// A figure written under the lock of its owner and read by anyone.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicU64);

impl Gauge {
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
    pub(super) fn sub(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Live figures of one node and kind.
#[derive(Debug, Default)]
pub(super) struct PageGauges {
    pub(super) mapped: Gauge,
    pub(super) buffers: Gauge,
    pub(super) regions: Gauge,
    pub(super) locked: Gauge,
}

impl PageGauges {
    pub(super) fn snapshot(&self, node: u32, kind: PageKind) -> PageStats {
        PageStats {
            node,
            kind,
            mapped: self.mapped.get(),
            buffers: self.buffers.get(),
            regions: self.regions.get(),
            locked: self.locked.get(),
        }
    }
}
