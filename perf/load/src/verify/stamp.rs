//! The stamp that every written block carries.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 8 | LBA |
//! | 16 | 8 | sequence number of the write |
//! | 24 | 8 | run: tells this load from any other |
//! | 32 | 4 | CRC32C of the block with this field zero |
//! | 36 | | filler made from LBA and sequence number |
//!
//! Little-endian.

use std::fmt;

const MAGIC: [u8; 8] = *b"rmrperf1";
const CRC_AT: usize = 32;
const FILLER_AT: usize = 36;

/// Why a block's contents cannot be one of this run's writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// Nothing but zeroes.
    Zeroes,
    /// Never stamped.
    NoStamp,
    /// Stamped for another place: a misdirected write or read.
    OtherLba { lba: u64, seq: u64 },
    /// Left by another run.
    OtherRun,
    /// Stamped, and damaged.
    Damaged { seq: u64 },
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stranger::Zeroes => write!(f, "zeroes"),
            Stranger::NoStamp => write!(f, "bytes that this load never wrote"),
            Stranger::OtherLba { lba, seq } => write!(f, "write {seq} of LBA {lba}"),
            Stranger::OtherRun => write!(f, "a write of another run"),
            Stranger::Damaged { seq } => write!(f, "write {seq}, damaged (its checksum is wrong)"),
        }
    }
}

/// Stamps a block, at least 512 bytes.
pub(super) fn stamp(block: &mut [u8], run: u64, lba: u64, seq: u64) {
    block[..8].copy_from_slice(&MAGIC);
    block[8..16].copy_from_slice(&lba.to_le_bytes());
    block[16..24].copy_from_slice(&seq.to_le_bytes());
    block[24..32].copy_from_slice(&run.to_le_bytes());
    block[CRC_AT..FILLER_AT].fill(0);
    let mut word = (lba ^ seq.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for bytes in block[FILLER_AT..].chunks_mut(8) {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
    let crc = crc(block);
    block[CRC_AT..FILLER_AT].copy_from_slice(&crc.to_le_bytes());
}

/// Which write of this run to `lba` a block holds. The bytes of `block` are not kept.
pub(super) fn read(block: &mut [u8], run: u64, lba: u64) -> Result<u64, Stranger> {
    if block[..8] != MAGIC {
        let zeroes = block.iter().all(|byte| *byte == 0);
        return Err(if zeroes { Stranger::Zeroes } else { Stranger::NoStamp });
    }
    let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("eight bytes"));
    let (its_lba, seq, its_run) = (word(8), word(16), word(24));
    let its_crc = u32::from_le_bytes(block[CRC_AT..FILLER_AT].try_into().expect("four bytes"));
    block[CRC_AT..FILLER_AT].fill(0);
    if crc(block) != its_crc {
        return Err(Stranger::Damaged { seq });
    }
    if its_run != run {
        return Err(Stranger::OtherRun);
    }
    if its_lba == lba { Ok(seq) } else { Err(Stranger::OtherLba { lba: its_lba, seq }) }
}

fn crc(block: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, block) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_everything_else_is_told_apart() {
        for size in [512, 520, 4096] {
            let mut block = vec![0; size];
            assert_eq!(read(&mut block.clone(), 1, 5), Err(Stranger::Zeroes));
            stamp(&mut block, 1, 5, 77);
            assert_eq!(read(&mut block.clone(), 1, 5), Ok(77));
            assert_eq!(read(&mut block.clone(), 1, 6), Err(Stranger::OtherLba { lba: 5, seq: 77 }));
            assert_eq!(read(&mut block.clone(), 2, 5), Err(Stranger::OtherRun));
            for at in [9, 17, 33, 40, size - 1] {
                let mut damaged = block.clone();
                damaged[at] ^= 1;
                assert!(matches!(read(&mut damaged, 1, 5), Err(Stranger::Damaged { .. })), "byte {at}");
            }
            block[0] ^= 1;
            assert_eq!(read(&mut block, 1, 5), Err(Stranger::NoStamp));
        }
    }
}
