//! What can be wrong with memory that comes from outside.

use std::io;

/// Why something was not mapped. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Nothing to map, or more than addresses can say.
    #[error("{len} bytes from byte {offset} of a file cannot be mapped: accepted are 1 to 2^47 bytes")]
    Length {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// The file ends before what was to be mapped: touching it would end this process.
    #[error("bytes {offset} to {end} of a file of {size} bytes cannot be mapped: share the whole of it")]
    BeyondFile {
        /// First byte.
        offset: u64,
        /// One past the last byte.
        end: u64,
        /// The file's size.
        size: u64,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Two regions would have one address.
    #[error("a region of {len} bytes at guest address {at:#x} overlaps the one at {other:#x}")]
    Overlap {
        /// Its first guest address.
        at: u64,
        /// Its length.
        len: u64,
        /// The other's first guest address.
        other: u64,
    },
    /// The region's addresses wrap around.
    #[error("a region of {len} bytes at guest address {at:#x}, user address {user:#x} has no end")]
    Wraps {
        /// First guest address.
        at: u64,
        /// First user address.
        user: u64,
        /// Bytes.
        len: u64,
    },
    /// More regions than are kept.
    #[error("{0} regions of guest memory: accepted are up to {max}", max = crate::REGIONS_MAX)]
    TooMany(usize),
    /// There is no such region.
    #[error("no region of {len} bytes is mapped at guest address {at:#x}")]
    NoRegion {
        /// First guest address.
        at: u64,
        /// Bytes.
        len: u64,
    },
}

/// An address from outside that cannot be used. Nothing was read or written beyond what is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not all of it is in the guest's memory.
    #[error("{len} bytes at guest address {at:#x} are not all in the guest's memory")]
    Outside {
        /// First guest address.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// Not all of it is in the monitor's mapping of the guest's memory.
    #[error("{len} bytes at user address {at:#x} are not all in one region of the guest's memory")]
    UserOutside {
        /// First user address.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// Not where whole words can be.
    #[error("address {at:#x} is not a multiple of {align}")]
    Misaligned {
        /// The address.
        at: u64,
        /// What it must be a multiple of.
        align: u64,
    },
    /// The dirty log has no bit for what was written: the migration would lose it.
    #[error("guest address {at:#x} was written, but the dirty log ends at {end:#x}")]
    BeyondLog {
        /// The last address that was written.
        at: u64,
        /// One past the last address that the log covers.
        end: u64,
    },
}
