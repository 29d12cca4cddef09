//! What can go wrong with DMA memory, in words an operator can act on.

use std::io;

use super::config::PageKind;

/// Errors of [`super::Memory`], [`super::DmaBuf`] and [`super::Region`]. Sizes are bytes.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A buffer length outside the size classes.
    #[error("a DMA buffer of {asked} bytes was asked for; 1 to {max} bytes can be had", max = super::class::MAX_BYTES)]
    BufferSize {
        /// Length asked for.
        asked: u32,
    },
    /// A region length of zero.
    #[error("a memory region of 0 bytes was asked for; 1 byte or more is needed")]
    RegionEmpty,
    /// [`super::Memory::init`] came after the first use.
    #[error(
        "DMA memory is already set up; its page size and limit are chosen once, before the first allocation"
    )]
    AlreadyInitialised,
    /// Not even a small range of addresses could be reserved.
    #[error(
        "cannot reserve {bytes} bytes of address space for DMA memory ({source}); raise RLIMIT_AS (`ulimit -v`)"
    )]
    Reservation {
        /// Smallest size tried.
        bytes: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The reserved range has no gap large enough.
    #[error(
        "{asked} bytes of DMA memory were asked for, but no gap of that size is left in the {reserved} bytes of reserved addresses; raise RLIMIT_AS (`ulimit -v`) or use fewer, smaller memory disks"
    )]
    AddressSpace {
        /// Bytes asked for.
        asked: u64,
        /// Bytes of addresses reserved.
        reserved: u64,
    },
    /// The configured limit would be passed.
    #[error(
        "{asked} more bytes of DMA memory were asked for, but {mapped} of the {limit} bytes allowed are in use; raise the memory limit or free memory disks"
    )]
    Limit {
        /// Bytes asked for.
        asked: u64,
        /// Bytes mapped now.
        mapped: u64,
        /// The limit.
        limit: u64,
    },
    /// Hugepages were demanded and the kernel has too few.
    #[error(
        "{asked} bytes of {kind} were asked for, but {free} pages of {total} are free ({source}); {remedy}"
    )]
    Hugepages {
        /// Bytes asked for.
        asked: u64,
        /// The page kind demanded.
        kind: PageKind,
        /// Free pages of that size, reserved ones not counted.
        free: u64,
        /// All pages of that size.
        total: u64,
        /// The kernel's answer.
        source: io::Error,
        /// What to type.
        remedy: String,
    },
    /// The kernel refused ordinary memory.
    #[error(
        "the kernel refused {asked} bytes of ordinary memory ({source}); free memory, or raise the memory limit of the container or cgroup"
    )]
    Refused {
        /// Bytes asked for.
        asked: u64,
        /// The kernel's answer.
        source: io::Error,
    },
}
