//! Being told which memory there is: for registering it with an io_uring, VFIO or RDMA.

use super::config::PageKind;

/// One mapping of DMA memory: announced once, withdrawn once, never in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedRange {
    /// Name of the mapping, the same as in [`super::Segment::mapping`]. Reused after `removed`.
    pub mapping: u32,
    /// First byte.
    pub base: *const u8,
    /// Length, bytes.
    pub len: usize,
    /// Pages it stands on.
    pub page: PageKind,
    /// NUMA node it was asked for.
    pub node: u32,
    /// Whether its pages stay in place. `false` for ordinary pages beyond the lock limit: do not register them,
    /// copy through a registrable buffer instead.
    pub registrable: bool,
}

/// Told of growth and shrinkage, and on registration of everything there is. See
/// [`super::Memory::register_observer`].
///
/// Called on whichever thread allocates or frees, with the lock that orders these calls held: an observer
/// answers quickly and neither takes nor gives back DMA memory inside a call.
pub trait MemoryObserver: Send + Sync {
    /// `range` is mapped and will stay so until `removed`.
    fn added(&self, range: &MappedRange);
    /// `range` is about to be unmapped: nobody uses it any more, undo what `added` did.
    fn removed(&self, range: &MappedRange);
}

/// Name of a registered observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObserverId(pub(super) u64);
