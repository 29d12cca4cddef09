//! A disk with a volatile cache, a queue that outlives the process, and a metadata area of 512-byte sectors.

use rmr_engine::DiskOp;
use rmr_proto::BlockRange;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Contents of blocks: one number stands for the bytes of a block.
pub(crate) type Blocks = Rc<[u64]>;

/// What the disk has been asked for.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Write { range: BlockRange, blocks: Blocks, fua: bool },
    Read { range: BlockRange },
    Checksum { range: BlockRange },
    Flush { issued: u64 },
    Meta { offset: usize, bytes: Vec<u8> },
}

/// An operation in the queue; its effect happens when it completes.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) op: DiskOp,
    pub(crate) work: Work,
    pub(crate) life: u64,
    pub(crate) fails: bool,
}

/// A copy of what is durable.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) data: Vec<u64>,
    pub(crate) meta: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) data: Vec<u64>,
    /// Done and not durable: by block, in order, each with the count of writes done before.
    cache: BTreeMap<u64, Vec<(u64, u64)>>,
    pub(crate) meta: Vec<u8>,
    pub(crate) queue: BTreeMap<u64, Queued>,
    /// Blocks of the medium that cannot be read until they are written again.
    pub(crate) bad: BTreeSet<u64>,
    writes: u64,
}

impl Disk {
    pub(crate) fn new(data: Vec<u64>) -> Self {
        Self { data, ..Self::default() }
    }

    pub(crate) fn writes_done(&self) -> u64 {
        self.writes
    }

    pub(crate) fn has_meta_queued(&self) -> bool {
        self.queue.values().any(|queued| matches!(queued.work, Work::Meta { .. }))
    }

    /// What a read would return.
    pub(crate) fn seen(&self, block: u64) -> u64 {
        let cached = self.cache.get(&block).and_then(|versions| versions.last());
        cached.map_or(self.data[block as usize], |(_, value)| *value)
    }

    /// `None`: some block cannot be read.
    pub(crate) fn read(&self, range: BlockRange) -> Option<Blocks> {
        let bad = |block| self.bad.contains(&block) && !self.cache.contains_key(&block);
        let readable = self.bad.is_empty() || !(range.first..range.end()).any(bad);
        readable.then(|| (range.first..range.end()).map(|block| self.seen(block)).collect())
    }

    /// What reaches the medium, right or wrong.
    fn put(&mut self, block: u64, value: u64) {
        self.data[block as usize] = value;
        self.bad.remove(&block);
    }

    /// The medium changes a block and says nothing.
    pub(crate) fn rot(&mut self, block: u64, value: u64) {
        self.cache.remove(&block);
        self.put(block, value);
    }

    pub(crate) fn write(&mut self, range: BlockRange, blocks: &[u64], durable: bool) {
        self.writes += 1;
        for (block, value) in (range.first..range.end()).zip(blocks) {
            if durable {
                self.cache.remove(&block);
                self.put(block, *value);
            } else {
                self.cache.entry(block).or_default().push((self.writes, *value));
            }
        }
    }

    /// Everything done when the flush was issued becomes durable.
    pub(crate) fn flush(&mut self, issued: u64) {
        let (data, bad) = (&mut self.data, &mut self.bad);
        self.cache.retain(|block, versions| {
            let covered = versions.iter().take_while(|(count, _)| *count <= issued).count();
            if let Some((_, value)) = versions[..covered].last() {
                data[*block as usize] = *value;
                bad.remove(block);
            }
            versions.drain(..covered);
            !versions.is_empty()
        });
    }

    pub(crate) fn write_meta(&mut self, offset: usize, bytes: &[u8]) {
        self.meta[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Some sectors of an interrupted metadata write land, others do not. True if it was torn.
    pub(crate) fn tear_meta(&mut self, offset: usize, bytes: &[u8], rng: &mut fastrand::Rng) -> bool {
        let mut landed = 0;
        let mut sectors = 0;
        for (at, sector) in bytes.chunks(512).enumerate() {
            sectors += 1;
            if rng.bool() {
                landed += 1;
                self.write_meta(offset + at * 512, sector);
            }
        }
        landed > 0 && landed < sectors
    }

    /// Each unflushed block survives or not. How many were lost comes back.
    pub(crate) fn lose_cache(&mut self, rng: &mut fastrand::Rng) -> u64 {
        let mut lost = 0;
        for (block, versions) in std::mem::take(&mut self.cache) {
            // Any version that was ever in the cache may be the one that reached the medium.
            let kept = rng.usize(0..=versions.len());
            lost += (versions.len() - kept) as u64;
            if let Some((_, value)) = versions[..kept].last() {
                self.put(block, *value);
            }
        }
        lost
    }

    /// Nothing that was not durable survives.
    pub(crate) fn lose_whole_cache(&mut self) {
        self.cache.clear();
    }

    pub(crate) fn image(&self) -> Image {
        Image { data: self.data.clone(), meta: self.meta.clone() }
    }

    pub(crate) fn restore(&mut self, image: &Image) {
        self.cache.clear();
        self.data.clone_from(&image.data);
        self.meta.clone_from(&image.meta);
    }
}
