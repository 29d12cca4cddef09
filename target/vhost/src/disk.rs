//! What a front end is told of the disk: features, and the configuration space (Virtual I/O Device 1.2, 5.2.3 and 5.2.4).

use tgt_bdev::{Bdev, Op};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::{VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::QUEUES_MAX;
use crate::request::{Geometry, SECTOR};

/// Bytes of the configuration space that mean something here.
const CONFIG_BYTES: usize = 60;
/// Bytes a front end may read of it; beyond what means something there are zeroes.
const CONFIG_MAX: usize = 256;
/// Most segments of data in a request: what a ring of 128 descriptors has room for.
const SEG_MAX: u32 = 126;
/// Most bytes of one segment; with `SEG_MAX` it bounds a request below what is accepted.
const SEG_BYTES: u32 = 128 << 10;
/// Most sectors of one discard or of one range of zeroes.
const RANGE_SECTORS: u32 = 1 << 22;

const _: () = assert!(SEG_MAX as u64 * SEG_BYTES as u64 <= crate::request::DATA_MAX);

pub(crate) const LOG_ALL: u64 = VhostUserVirtioFeatures::LOG_ALL.bits();
pub(crate) const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
pub(crate) const PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;
pub(crate) const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
pub(crate) const INDIRECT: u64 = 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// Protocol features that are offered.
pub(crate) fn protocol_features() -> VhostUserProtocolFeatures {
    type F = VhostUserProtocolFeatures;
    F::MQ
        | F::LOG_SHMFD
        | F::REPLY_ACK
        | F::CONFIG
        | F::BACKEND_REQ
        | F::INFLIGHT_SHMFD
        | F::CONFIGURE_MEM_SLOTS
        | F::RESET_DEVICE
}

/// The disk as it is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    pub(crate) geometry: Geometry,
    pub(crate) packed_ring: bool,
}

impl Disk {
    pub(crate) fn of(bdev: &Bdev, readonly: bool, packed_ring: bool) -> Disk {
        let ops = bdev.ops();
        let writes = |op| !readonly && ops.contains(op);
        let geometry = Geometry {
            block_size: bdev.block_size(),
            blocks: bdev.num_blocks(),
            flush: ops.contains(Op::Flush),
            discard: writes(Op::Unmap),
            write_zeroes: writes(Op::WriteZeroes),
            readonly: readonly || !ops.contains(Op::Write),
        };
        Disk { geometry, packed_ring }
    }

    /// Features of device and transport that are offered.
    pub(crate) fn features(&self) -> u64 {
        let disk = &self.geometry;
        let always = [
            VIRTIO_BLK_F_SIZE_MAX,
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_TOPOLOGY,
            VIRTIO_BLK_F_MQ,
            VIRTIO_F_VERSION_1,
        ];
        let sometimes = [
            (disk.readonly, VIRTIO_BLK_F_RO),
            (disk.flush, VIRTIO_BLK_F_FLUSH),
            (disk.discard, VIRTIO_BLK_F_DISCARD),
            (disk.write_zeroes, VIRTIO_BLK_F_WRITE_ZEROES),
            (self.packed_ring, VIRTIO_F_RING_PACKED),
        ];
        let sometimes = sometimes.into_iter().filter(|(there, _)| *there).map(|(_, bit)| bit);
        let bits = always.into_iter().chain(sometimes).fold(0, |bits, bit| bits | 1 << bit);
        bits | EVENT_IDX | INDIRECT | LOG_ALL | PROTOCOL_FEATURES
    }

    /// `size` bytes of the configuration space from `offset` on; none beyond what may be read.
    pub(crate) fn config(&self, offset: u32, size: u32) -> Option<Vec<u8>> {
        let end = offset.checked_add(size).filter(|end| *end as usize <= CONFIG_MAX)?;
        let mut space = self.space().to_vec();
        space.resize(CONFIG_MAX, 0);
        Some(space[offset as usize..end as usize].to_vec())
    }

    fn space(&self) -> [u8; CONFIG_BYTES] {
        let disk = &self.geometry;
        let mut space = [0; CONFIG_BYTES];
        let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
        let sectors = disk.blocks.saturating_mul(u64::from(disk.block_size) / SECTOR);
        // Discards are counted in sectors, and end at blocks.
        let alignment = disk.block_size / SECTOR as u32;
        put(0, &sectors.to_le_bytes()); // capacity
        put(8, &SEG_BYTES.to_le_bytes()); // size_max
        put(12, &SEG_MAX.to_le_bytes()); // seg_max
        put(20, &disk.block_size.to_le_bytes()); // blk_size
        put(26, &1_u16.to_le_bytes()); // min_io_size, blocks; 24: physical blocks are logical ones, 25: aligned
        put(34, &QUEUES_MAX.to_le_bytes()); // num_queues
        if disk.discard {
            put(36, &RANGE_SECTORS.to_le_bytes()); // max_discard_sectors
            put(40, &1_u32.to_le_bytes()); // max_discard_seg
            put(44, &alignment.to_le_bytes()); // discard_sector_alignment
        }
        if disk.write_zeroes {
            put(48, &RANGE_SECTORS.to_le_bytes()); // max_write_zeroes_sectors
            put(52, &1_u32.to_le_bytes()); // max_write_zeroes_seg
        }
        space
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;
    use virtio_bindings::virtio_blk::virtio_blk_config as C;

    fn disk(readonly: bool) -> Disk {
        let writes = !readonly;
        let geometry = Geometry {
            block_size: 4096,
            blocks: 1 << 33,
            flush: true,
            discard: writes,
            write_zeroes: writes,
            readonly,
        };
        Disk { geometry, packed_ring: writes }
    }

    fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
        bytes[offset..offset + N].try_into().expect("the length")
    }

    #[test]
    fn the_configuration_space_is_where_the_standard_has_it() {
        let space = disk(false).config(0, 60).expect("readable");
        assert_eq!(u64::from_le_bytes(at(&space, offset_of!(C, capacity))), 1 << 36);
        let word = |offset| u32::from_le_bytes(at(&space, offset));
        assert_eq!(word(offset_of!(C, size_max)), SEG_BYTES);
        assert_eq!(word(offset_of!(C, seg_max)), SEG_MAX);
        assert_eq!(word(offset_of!(C, blk_size)), 4096);
        assert_eq!(u16::from_le_bytes(at(&space, offset_of!(C, min_io_size))), 1);
        assert_eq!(u16::from_le_bytes(at(&space, offset_of!(C, num_queues))), QUEUES_MAX);
        assert_eq!(word(offset_of!(C, max_discard_sectors)), RANGE_SECTORS);
        assert_eq!(word(offset_of!(C, max_discard_seg)), 1);
        assert_eq!(word(offset_of!(C, discard_sector_alignment)), 8);
        assert_eq!(word(offset_of!(C, max_write_zeroes_sectors)), RANGE_SECTORS);
        assert_eq!(word(offset_of!(C, max_write_zeroes_seg)), 1);
    }

    #[test]
    fn any_part_of_it_can_be_read_and_nothing_beyond() {
        let whole = disk(true).config(0, CONFIG_MAX as u32).expect("readable");
        assert_eq!(disk(true).config(20, 4).expect("readable"), whole[20..24]);
        assert!(whole[CONFIG_BYTES..].iter().all(|byte| *byte == 0));
        for (offset, size) in [(0, 257), (256, 1), (u32::MAX, 1), (1, u32::MAX)] {
            assert_eq!(disk(true).config(offset, size), None);
        }
    }

    #[test]
    fn a_disk_that_cannot_be_written_offers_nothing_that_writes() {
        let bit = |disk: Disk, bit: u32| disk.features() & 1 << bit != 0;
        for bit_of in [VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_F_RING_PACKED] {
            assert!(bit(disk(false), bit_of) && !bit(disk(true), bit_of));
        }
        assert!(bit(disk(true), VIRTIO_BLK_F_RO) && !bit(disk(false), VIRTIO_BLK_F_RO));
    }
}
