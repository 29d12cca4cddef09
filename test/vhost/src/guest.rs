//! Memory of a guest, in a sealed file.

use std::os::fd::OwnedFd;

use tgt_guest_memory::{GuestMemory, RegionSpec, sealed_memfd};

/// Where the guest sees its memory; [`USER`]: where its monitor has it.
pub const GUEST: u64 = 0x10_0000;
/// See [`GUEST`].
pub const USER: u64 = 0x7f00_0000_0000;

/// A guest's memory: one region.
#[derive(Debug)]
pub struct Guest {
    /// The file.
    pub file: OwnedFd,
    /// Mapped here as the target maps it.
    pub memory: GuestMemory,
    /// Where it lies.
    pub spec: RegionSpec,
}

impl Guest {
    /// `len` bytes, all zero.
    #[must_use]
    pub fn new(len: u64) -> Guest {
        let file = sealed_memfd("guest", len).expect("a file in memory");
        let spec = RegionSpec { guest: GUEST, len, user: USER, offset: 0 };
        let memory = GuestMemory::default().with(spec, &file).expect("a region");
        Guest { file, memory, spec }
    }

    /// `len` bytes at a guest address.
    #[must_use]
    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(at, &mut bytes).expect("memory of the guest");
        bytes
    }

    /// Writes bytes at a guest address.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write(at, bytes).expect("memory of the guest");
    }
}
