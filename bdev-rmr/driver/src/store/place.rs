//! Where a store lies on its bdev: metadata first, then the data. All follows from the superblock.

use rmr_engine::StoreConfig;
use rmr_proto::disk::{Layout, PAGE, Superblock};
use rmr_proto::{DEVICE_BYTES_MAX, Geometry};

/// Data begins at a multiple of this, bytes.
pub const DATA_ALIGN: u64 = 1 << 20;
/// Bytes that both superblocks take: the first of a store.
pub(super) const SUPERBLOCKS_BYTES: u64 = 2 * PAGE as u64;

/// Bytes of the metadata area of a store that has room for all of `room`.
pub fn area_bytes(room: &Geometry, config: &StoreConfig) -> u64 {
    Layout::new(room, config.journal_bytes).bytes()
}

/// Bytes from the start of the bdev to block 0 of the device.
pub fn data_offset(superblock: &Superblock, config: &StoreConfig) -> u64 {
    area_bytes(&superblock.room(), config).next_multiple_of(DATA_ALIGN)
}

/// Blocks of `shape` that a bdev of `bytes` has room for, beside the metadata; `None`: not even one.
pub fn capacity(bytes: u64, shape: &Geometry, config: &StoreConfig) -> Option<u64> {
    let offset = |blocks: u64| {
        let room = shape.with_blocks(blocks).ok()?;
        Some(area_bytes(&room, config).next_multiple_of(DATA_ALIGN))
    };
    let most = bytes.min(DEVICE_BYTES_MAX) >> shape.block_shift();
    // Metadata of fewer blocks is not larger, so what is left beside that of the most blocks fits.
    let left = bytes.checked_sub(offset(most)?)? >> shape.block_shift();
    Some(left.min(most)).filter(|blocks| *blocks > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_fits_and_little_is_wasted() {
        let config = StoreConfig::default();
        for chunk in [64 << 10, 128 << 10, 1 << 20] {
            let shape = Geometry::for_pool(1 << 30, 4096, chunk).expect("a shape");
            for bytes in [16 << 20, (1 << 30) + 512, 1 << 40, (1 << 50) + (1 << 40)] {
                let blocks = capacity(bytes, &shape, &config).expect("room");
                let room = shape.with_blocks(blocks).expect("blocks");
                let data = area_bytes(&room, &config).next_multiple_of(DATA_ALIGN);
                let end = data + (blocks << 12);
                assert!(end <= bytes, "{bytes} bytes, chunks of {chunk}: ends at {end}");
                let wasted = bytes.min(DEVICE_BYTES_MAX + data) - end;
                assert!(wasted < 4096 + DATA_ALIGN, "{bytes} bytes, chunks of {chunk}: {wasted} wasted");
            }
        }
    }

    #[test]
    fn a_bdev_that_holds_no_more_than_metadata_has_no_room() {
        let shape = Geometry::for_pool(1 << 30, 4096, 128 << 10).expect("a shape");
        assert_eq!(capacity(2 << 20, &shape, &StoreConfig::default()), None);
        assert_eq!(capacity(3 << 20, &shape, &StoreConfig::default()), None);
        assert_eq!(capacity((3 << 20) + 4096, &shape, &StoreConfig::default()), Some(1));
    }
}
