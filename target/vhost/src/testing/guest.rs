//! Memory of a guest, in a sealed file.

use std::os::fd::OwnedFd;

use tgt_guest_memory::{GuestMemory, RegionSpec, sealed_memfd};

/// Where the guest sees its memory, and where its monitor has it.
pub(crate) const GUEST: u64 = 0x10_0000;
pub(crate) const USER: u64 = 0x7f00_0000_0000;

/// A guest's memory: one region.
pub(crate) struct Guest {
    pub(crate) file: OwnedFd,
    pub(crate) memory: GuestMemory,
    pub(crate) spec: RegionSpec,
}

impl Guest {
    pub(crate) fn new(len: u64) -> Guest {
        let file = sealed_memfd("guest", len).expect("a file in memory");
        let spec = RegionSpec { guest: GUEST, len, user: USER, offset: 0 };
        let memory = GuestMemory::default().with(spec, &file).expect("a region");
        Guest { file, memory, spec }
    }

    pub(crate) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(at, &mut bytes).expect("memory of the guest");
        bytes
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write(at, bytes).expect("memory of the guest");
    }
}
