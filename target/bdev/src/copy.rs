//! The source ranges of a copy, in the format of NVMe: NVM Command Set, Copy, source range entries of format 0h.
//!
//! ```text
//! byte  0        8            16         18            32
//!       reserved first block  blocks - 1 reserved, tags
//! ```
//! Little-endian. What is reserved, and the tags of protection information, is not looked at.

use crate::io::Io;
use tgt_env::bufs::Bufs;
use tgt_status::IoStatus;

/// One source of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRange {
    /// First block.
    pub lba: u64,
    /// Blocks, 1 to 65536.
    pub blocks: u32,
}

impl CopyRange {
    /// Bytes of one entry.
    pub const BYTES: u32 = 32;

    /// Most entries of one copy.
    pub const COUNT_MAX: u32 = 256;

    /// The entries that `bufs` holds, in order; what is left at the end and is no whole entry is not looked at.
    pub fn all_of(bufs: &Bufs) -> impl Iterator<Item = CopyRange> + '_ {
        (0..bufs.len() / CopyRange::BYTES).map(|index| {
            let mut entry = [0; CopyRange::BYTES as usize];
            bufs.copy_to_slice(index * CopyRange::BYTES, &mut entry);
            CopyRange::decode(&entry)
        })
    }

    /// This entry as bytes. Panics if it has no blocks, or more than 65536.
    #[must_use]
    pub fn encode(self) -> [u8; CopyRange::BYTES as usize] {
        let blocks = self.blocks.checked_sub(1).and_then(|blocks| u16::try_from(blocks).ok());
        let mut entry = [0; CopyRange::BYTES as usize];
        entry[8..16].copy_from_slice(&self.lba.to_le_bytes());
        entry[16..18].copy_from_slice(&blocks.expect("1 to 65536 blocks").to_le_bytes());
        entry
    }

    fn decode(entry: &[u8; CopyRange::BYTES as usize]) -> CopyRange {
        let lba = entry[8..16].try_into().map(u64::from_le_bytes).expect("eight bytes");
        CopyRange { lba, blocks: u32::from(u16::from_le_bytes([entry[16], entry[17]])) + 1 }
    }
}

/// Whether a copy can be done: every source is there, together they are as long as the destination, and none overlaps
/// it. What a copy onto its own source leaves behind would depend on who does it; so it is refused.
pub(crate) fn check(io: &Io, num_blocks: u64) -> Result<(), IoStatus> {
    let entries = io.bufs.len() / CopyRange::BYTES;
    if !io.bufs.len().is_multiple_of(CopyRange::BYTES) || !(1..=CopyRange::COUNT_MAX).contains(&entries) {
        return Err(IoStatus::INVALID_FIELD);
    }
    let mut sum = 0;
    for CopyRange { lba, blocks } in CopyRange::all_of(&io.bufs) {
        let end = lba.checked_add(u64::from(blocks)).filter(|end| *end <= num_blocks);
        let end = end.ok_or(IoStatus::LBA_OUT_OF_RANGE)?;
        if lba < io.lba + u64::from(io.blocks) && io.lba < end {
            return Err(IoStatus::INVALID_FIELD);
        }
        sum += u64::from(blocks);
    }
    if sum == u64::from(io.blocks) { Ok(()) } else { Err(IoStatus::INVALID_FIELD) }
}

/// The source of the block that lies `at` blocks behind the start of the destination, and what follows it in the same
/// range.
pub(crate) fn source_of(bufs: &Bufs, at: u32) -> Option<CopyRange> {
    let mut skip = u64::from(at);
    CopyRange::all_of(bufs).find_map(|CopyRange { lba, blocks }| {
        if skip >= u64::from(blocks) {
            skip -= u64::from(blocks);
            return None;
        }
        Some(CopyRange { lba: lba + skip, blocks: blocks - skip as u32 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Op, Tag};
    use tgt_env::memory::DmaBuf;

    const RANGES: [CopyRange; 3] = [
        CopyRange { lba: 100, blocks: 3 },
        CopyRange { lba: 7, blocks: 1 },
        CopyRange { lba: 500, blocks: 65536 },
    ];

    fn bufs(ranges: &[CopyRange]) -> Bufs {
        let mut buffer = DmaBuf::alloc_zeroed(ranges.len() as u32 * CopyRange::BYTES).expect("memory");
        let entries: Vec<u8> = ranges.iter().flat_map(|range| range.encode()).collect();
        buffer.as_mut_slice().copy_from_slice(&entries);
        Bufs::from(buffer)
    }

    fn checked(lba: u64, blocks: u32, bufs: Bufs) -> Result<(), IoStatus> {
        let io = Io::new(Op::Copy, Tag(0), lba, blocks, bufs);
        let checked = check(&io, 100_000);
        let _ = io.complete(IoStatus::SUCCESS).finish();
        checked
    }

    /// The bytes of the specification, by hand.
    #[test]
    fn an_entry_has_its_fields_where_nvme_has_them() {
        let entry = CopyRange { lba: 0x0102_0304_0506_0708, blocks: 0x0a0c }.encode();
        assert_eq!(entry[8..18], [8, 7, 6, 5, 4, 3, 2, 1, 0x0b, 0x0a]);
        assert!(entry[..8].iter().chain(&entry[18..]).all(|byte| *byte == 0));
        assert!(CopyRange::all_of(&bufs(&RANGES)).eq(RANGES));
    }

    #[test]
    fn every_block_of_the_destination_has_its_source() {
        let bufs = bufs(&RANGES);
        for (at, lba, blocks) in [(0, 100, 3), (2, 102, 1), (3, 7, 1), (4, 500, 65536), (9, 505, 65531)] {
            assert_eq!(source_of(&bufs, at), Some(CopyRange { lba, blocks }), "block {at}");
        }
        assert_eq!(source_of(&bufs, 4 + 65536), None);
    }

    #[test]
    fn a_copy_that_cannot_be_done_is_refused() {
        let (field, range) = (Err(IoStatus::INVALID_FIELD), Err(IoStatus::LBA_OUT_OF_RANGE));
        let one = |lba, blocks| bufs(&[CopyRange { lba, blocks }]);
        assert_eq!(checked(80_000, 4, bufs(&RANGES[..2])), Ok(()));
        assert_eq!(checked(80_000, 5, bufs(&RANGES[..2])), field, "the lengths differ");
        assert_eq!(checked(50, 4, one(99_997, 4)), range);
        assert_eq!(checked(50, 4, one(u64::MAX, 4)), range);
        for (lba, allowed) in [(6, true), (7, false), (13, false), (14, true)] {
            assert_eq!(checked(10, 4, one(lba, 4)).is_ok(), allowed, "source at {lba}");
        }
        assert_eq!(checked(80_000, 1, Bufs::none()), field);
        assert_eq!(checked(80_000, 257, bufs(&vec![CopyRange { lba: 1, blocks: 1 }; 257])), field);
        assert_eq!(checked(80_000, 1, Bufs::from(DmaBuf::alloc_zeroed(33).expect("memory"))), field);
    }
}
