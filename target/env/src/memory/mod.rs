//! DMA memory of the process: buffers for IO, regions for memory disks, in hugepages where there are any.
//!
//! One range of addresses is reserved at start and divided into *granules* of 2 MiB. Memory is mapped into it on
//! demand from memory files (so that other processes can be given it), one NUMA node and page kind at a time; from
//! an address one subtraction and one shift lead to its granule's record: mapping, node, physical address.
//!
//! * [`DmaBuf`]: what IO is done with. Each granule is carved for one size class; every thread keeps a bounded
//!   cache of free buffers (`cache`), over a central store (`pool`) that grows by a granule and does not shrink.
//! * [`Region`]: whole granules, given back to the kernel when dropped.
//! * [`MemoryObserver`]: told of every mapping, for those who must register memory before using it.
//!
//! Locks, in the order in which they may nest: class store (`pool`) → `space`. Neither is taken while a thread's
//! cache can serve it.

mod advice;
mod backing;
mod buf;
mod cache;
mod class;
mod config;
mod error;
mod machine;
mod observer;
mod pool;
mod region;
mod runs;
mod space;
mod stats;
mod stream;
mod table;
#[cfg(test)]
mod tests;

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use buf::DmaBuf;
pub use config::{GRANULE_BYTES, MemoryConfig, Numa, PageKind, PageSize, Registration};
pub use error::MemoryError;
pub(crate) use machine::lock_limit;
pub use observer::{MappedRange, MemoryObserver, ObserverId};
pub use region::Region;
pub use stats::{ClassStats, MemoryStats, PageStats};

use advice::Findings;
use cache::Cache;
use class::Class;
use machine::Hugepages;
use pool::Pool;
use space::Space;
pub(crate) use table::NUMBERED_MAX;

/// The process's DMA memory: an allocator is global by nature. Any thread may call it.
pub struct Memory {
    space: Space,
    /// One per NUMA node.
    pools: Vec<Pool>,
    /// Every thread's cache, for statistics.
    caches: Mutex<Vec<Arc<Cache>>>,
}

static MEMORY: OnceLock<Memory> = OnceLock::new();

/// The process's DMA memory; ordinary pages without a limit if [`Memory::init`] was never called.
///
/// # Panics
/// If it was never called and not even 64 MiB of addresses can be reserved.
#[inline]
pub fn memory() -> &'static Memory {
    MEMORY.get_or_init(|| match Memory::new(MemoryConfig::ordinary()) {
        Ok(memory) => memory,
        Err(error) => panic!("{error}"),
    })
}

/// Where an address of DMA memory lies, as a device or the kernel needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Name of the mapping, as announced in [`MappedRange::mapping`].
    pub mapping: u32,
    /// Address for a device behind an IOMMU: the virtual address itself.
    pub iova: u64,
    /// Physical address, where the process may know it (hugepages, CAP_SYS_ADMIN).
    pub phys: Option<u64>,
    /// Bytes from here on that are physically contiguous and in the same mapping; at most 32 MiB are looked at.
    pub contiguous: u64,
}

impl Memory {
    /// Chooses page size and limit for the process, before the first allocation. Maps nothing yet.
    ///
    /// # Errors
    /// [`MemoryError::AlreadyInitialised`] after the first use; [`MemoryError::Reservation`].
    pub fn init(config: MemoryConfig) -> Result<&'static Self, MemoryError> {
        if MEMORY.get().is_some() {
            return Err(MemoryError::AlreadyInitialised);
        }
        let made = Self::new(config)?;
        MEMORY.set(made).map_err(|_| MemoryError::AlreadyInitialised)?;
        Ok(memory())
    }

    fn new(config: MemoryConfig) -> Result<Self, MemoryError> {
        let space = Space::new(config)?;
        Ok(Self {
            pools: space.nodes().iter().map(|_| Pool::default()).collect(),
            space,
            caches: Mutex::default(),
        })
    }

    /// One line for the operator when something is lost: what was found, what is lost, how to get it. `None` when
    /// all is well. May change as memory grows and hugepages run out.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        advice::line(&Findings {
            page_size: self.space.config().page_size,
            huge_2m: Hugepages::read(PageKind::Huge2M),
            huge_mapped: self.stats().hugepage_bytes(),
            lock_limit: machine::lock_limit(),
            shortfall: self.space.shortfall(),
        })
    }

    /// Where `ptr` lies; `None` outside mapped DMA memory. Meaningful while the caller holds the buffer or region.
    #[must_use]
    pub fn lookup(&self, ptr: *const u8) -> Option<Segment> {
        const LOOK_AHEAD: u32 = 16;
        let table = self.space.table();
        let granule = table.index_of(ptr)?;
        let view = table.record(granule).view()?;
        let page = if view.kind.is_huge() { GRANULE_BYTES } else { rustix::param::page_size() };
        let into = ptr.addr() % page;
        let mut contiguous = (page - into) as u64;
        if let Some(phys) = view.phys {
            let ahead = (granule + 1..view.mapping.end()).take(LOOK_AHEAD as usize);
            contiguous += ahead
                .zip(1u64..)
                .take_while(|&(next, distance)| {
                    let expected = phys + distance * GRANULE_BYTES as u64;
                    table.record(next).view().is_some_and(|view| view.phys == Some(expected))
                })
                .count() as u64
                * GRANULE_BYTES as u64;
        }
        Some(Segment {
            mapping: view.mapping.first,
            iova: ptr.addr() as u64,
            phys: view.phys.map(|phys| phys + (ptr.addr() % GRANULE_BYTES) as u64),
            contiguous,
        })
    }

    /// Number of the granule of buffers in which all `len` bytes from `ptr` on lie: below [`NUMBERED_MAX`] its own, or
    /// [`NUMBERED_MAX`]. `None` outside such granules. What has a number stays mapped, with the same pages, for ever.
    #[inline]
    pub(crate) fn buffer_granule(&self, ptr: *const u8, len: usize) -> Option<u16> {
        let table = self.space.table();
        let granule = table.index_of(ptr)?;
        if ptr.addr() % GRANULE_BYTES + len > GRANULE_BYTES {
            return None;
        }
        table.record(granule).number()
    }

    /// Whether IO buffers are to be registered.
    pub(crate) fn registration(&self) -> Registration {
        self.space.config().registration
    }

    /// Registers an observer: it hears at once of every mapping there is, then of each change.
    pub fn register_observer(&self, observer: Arc<dyn MemoryObserver>) -> ObserverId {
        self.space.observe(observer)
    }

    /// Forgets an observer. Nothing is withdrawn from it: it undoes its registrations itself.
    pub fn unregister_observer(&self, id: ObserverId) {
        self.space.forget(id);
    }

    /// How much there is and where it went.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            reserved_bytes: self.space.table().bytes(),
            limit_bytes: self.space.config().limit_bytes,
            pages: self.space.page_stats(),
            classes: Class::all().filter_map(|class| self.class_stats(class)).collect(),
            lost_bytes: self.space.lost_bytes(),
        }
    }

    fn class_stats(&self, class: Class) -> Option<ClassStats> {
        let counts = self.pools.iter().map(|pool| pool.counts(class));
        let (total, available) = counts.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
        let cached = self.caches().iter().map(|cache| u64::from(cache.count(class))).sum();
        (total > 0).then(|| ClassStats {
            bytes: class.bytes() as u32,
            total,
            in_use: total.saturating_sub(available + cached),
            cached,
        })
    }

    fn space(&self) -> &Space {
        &self.space
    }

    fn pool(&self, node: u8) -> &Pool {
        &self.pools[usize::from(node)]
    }

    fn nodes(&self) -> &[u32] {
        self.space.nodes()
    }

    /// Index of the node the calling thread runs on.
    fn current_node(&self) -> u8 {
        if self.nodes().len() == 1 {
            return 0;
        }
        let here = crate::cores::numa_node_of(rustix::thread::sched_getcpu() as u32);
        let index = self.nodes().iter().position(|&node| Some(node) == here);
        // A node without memory of its own (or one that cannot be read) is served by the first.
        index.unwrap_or(0) as u8
    }

    /// Index of the node a buffer lies on.
    #[inline]
    fn node_of(&self, block: NonNull<u8>) -> u8 {
        let table = self.space.table();
        table.index_of(block.as_ptr()).map_or(0, |granule| table.record(granule).node())
    }

    fn caches(&self) -> MutexGuard<'_, Vec<Arc<Cache>>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_cache(&self, cache: Arc<Cache>) {
        self.caches().push(cache);
    }

    fn forget_cache(&self, cache: &Arc<Cache>) {
        self.caches().retain(|known| !Arc::ptr_eq(known, cache));
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("config", self.space.config()).field("stats", &self.stats()).finish()
    }
}
