//! A storage node: its disk, and the store engine while the process lives.

use crate::disk::{Blocks, Disk, Image};
use rmr_engine::store::Store;
use rmr_proto::BufId;

/// Buffers of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    slots: Vec<Option<Blocks>>,
    free: Vec<u32>,
}

impl Buffers {
    pub(crate) fn put(&mut self, blocks: Blocks) -> BufId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(blocks);
        BufId(slot)
    }

    pub(crate) fn get(&self, buf: BufId) -> Option<Blocks> {
        self.slots.get(buf.0 as usize)?.clone()
    }

    pub(crate) fn take(&mut self, buf: BufId) -> Option<Blocks> {
        let blocks = self.slots.get_mut(buf.0 as usize)?.take();
        if blocks.is_some() {
            self.free.push(buf.0);
        }
        blocks
    }

    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) store: Option<Store>,
    pub(crate) disk: Disk,
    pub(crate) life: u64,
    pub(crate) boot: u64,
    pub(crate) buffers: Buffers,
    pub(crate) image: Option<Image>,
    pub(crate) restart_at: Option<u64>,
    /// Power fails while the disk is busy with what it is asked for next.
    pub(crate) power_at_next_work: bool,
}
