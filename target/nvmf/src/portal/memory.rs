//! Data buffers of one reactor's commands, bounded.

use tgt_bdev::{Bufs, DmaBuf};

/// Counts the bytes that commands hold.
#[derive(Debug)]
pub(super) struct Memory {
    used: u64,
    most: u64,
}

impl Memory {
    pub(super) fn new(most: u64) -> Memory {
        Memory { used: 0, most }
    }

    /// A buffer, or none for now. It holds old contents: whoever sends it has filled it.
    pub(super) fn take(&mut self, bytes: u32) -> Option<Bufs> {
        if self.used + u64::from(bytes) > self.most {
            return None;
        }
        let buf = DmaBuf::alloc(bytes).ok()?;
        self.used += u64::from(bytes);
        Some(buf.into())
    }

    /// A buffer comes back.
    pub(super) fn give(&mut self, bufs: Bufs) {
        self.used -= u64::from(bufs.len());
    }

    /// Bytes that are held.
    pub(super) fn used(&self) -> u64 {
        self.used
    }
}
