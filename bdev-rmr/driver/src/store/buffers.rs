//! Buffers as the engine knows them: by number, from the event that names one to the action that gives it back.

use super::asks::AskNo;
use rmr_proto::BufId;
use tgt_bdev::Bufs;

/// What a number stands for.
#[derive(Debug)]
pub(super) enum Memory {
    /// That of a request that came in: the session's own.
    Ask(AskNo),
    /// Ours.
    Own(Bufs),
}

/// Buffers by number.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    slots: Vec<Option<Memory>>,
    free: Vec<u32>,
}

impl Buffers {
    pub(super) fn put(&mut self, memory: Memory) -> BufId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(memory);
        BufId(slot)
    }

    /// The number means nothing from here on.
    pub(super) fn take(&mut self, buf: BufId) -> Option<Memory> {
        let memory = self.slots.get_mut(buf.0 as usize)?.take()?;
        self.free.push(buf.0);
        Some(memory)
    }

    /// Numbers that mean something.
    pub(super) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
