//! Where blocks, chunks and regions lie. Immutable for the life of a pool but for the number of blocks.

use crate::{BlockRange, ChunkBits, ChunkNo, FormatError, RegionNo};

/// Smallest chunk of a product pool, bytes.
pub const CHUNK_BYTES_MIN: u64 = 64 << 10;
/// Largest chunk of a product pool, bytes.
pub const CHUNK_BYTES_MAX: u64 = 4 << 20;
/// Largest device, bytes.
pub const DEVICE_BYTES_MAX: u64 = 1 << 50;
/// Regions are this large unless that would be more than 128 chunks.
pub const REGION_BYTES: u64 = 16 << 20;

/// Most bytes of map on the disk of one member per TiB of device, both copies.
pub const MAP_BYTES_PER_TIB_MAX: u64 = 64 << 20;

/// Sizes of a pool, all in powers of two but the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    blocks: u64,
    block_shift: u8,
    chunk_shift: u8,
    region_shift: u8,
}

impl Geometry {
    /// `blocks` of 2^`block_shift` bytes; 2^`chunk_shift` blocks a chunk; 2^`region_shift` chunks a region (at most
    /// 128). Small sizes are allowed here so that tests can be small; see [`Self::check_product`].
    pub fn new(blocks: u64, block_shift: u8, chunk_shift: u8, region_shift: u8) -> Result<Self, FormatError> {
        let bad = |field, value: u64, accepted| {
            Err(FormatError::Field { what: "geometry", field, value, accepted })
        };
        if !(9..=16).contains(&block_shift) {
            return bad("block_shift", block_shift.into(), "9..=16");
        }
        if chunk_shift > 13 {
            return bad("chunk_shift", chunk_shift.into(), "0..=13");
        }
        if region_shift > 7 {
            return bad("region_shift", region_shift.into(), "0..=7");
        }
        if blocks == 0 || blocks > DEVICE_BYTES_MAX >> block_shift {
            return bad("blocks", blocks, "1 block to 1 PiB");
        }
        Ok(Self { blocks, block_shift, chunk_shift, region_shift })
    }

    /// The same with another number of blocks.
    pub fn with_blocks(&self, blocks: u64) -> Result<Self, FormatError> {
        Self::new(blocks, self.block_shift, self.chunk_shift, self.region_shift)
    }

    /// The geometry of a product pool: `chunk_bytes` a power of two, 64 KiB to 4 MiB.
    pub fn for_pool(device_bytes: u64, block_bytes: u64, chunk_bytes: u64) -> Result<Self, FormatError> {
        let bad =
            |field, value, accepted| Err(FormatError::Field { what: "geometry", field, value, accepted });
        if !block_bytes.is_power_of_two() || !(512..=4096).contains(&block_bytes) {
            return bad("block_bytes", block_bytes, "a power of two, 512 to 4096");
        }
        if !chunk_bytes.is_power_of_two() || !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk_bytes) {
            return bad("chunk_bytes", chunk_bytes, "a power of two, 64 KiB to 4 MiB");
        }
        let chunks_per_region = (REGION_BYTES / chunk_bytes).clamp(1, 128);
        let geometry = Self::new(
            device_bytes / block_bytes,
            block_bytes.trailing_zeros() as u8,
            (chunk_bytes / block_bytes).trailing_zeros() as u8,
            chunks_per_region.trailing_zeros() as u8,
        )?;
        geometry.check_product()?;
        Ok(geometry)
    }

    /// Refuses sizes that only tests may use.
    pub fn check_product(&self) -> Result<(), FormatError> {
        let chunk = 1u64 << (self.block_shift + self.chunk_shift);
        let bad =
            |field, value, accepted| Err(FormatError::Field { what: "geometry", field, value, accepted });
        if !(CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&chunk) {
            return bad("chunk bytes", chunk, "64 KiB to 4 MiB");
        }
        let maps = self.map_bytes_per_tib();
        if maps > MAP_BYTES_PER_TIB_MAX {
            return bad(
                "map bytes per TiB",
                maps,
                "at most 64 MiB: larger chunks, or more of them in a region",
            );
        }
        Ok(())
    }

    /// Bytes of map on the disk of one member per TiB of device, both copies.
    pub const fn map_bytes_per_tib(&self) -> u64 {
        let regions = (1u64 << 40) >> (self.block_shift + self.chunk_shift + self.region_shift);
        2 * regions.div_ceil(crate::disk::MISSES_PER_PAGE) * crate::disk::PAGE as u64
    }

    /// Blocks of the device.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// log2 of bytes per block.
    pub const fn block_shift(&self) -> u8 {
        self.block_shift
    }

    /// log2 of blocks per chunk.
    pub const fn chunk_shift(&self) -> u8 {
        self.chunk_shift
    }

    /// log2 of chunks per region.
    pub const fn region_shift(&self) -> u8 {
        self.region_shift
    }

    /// Chunks of the device; the last may be cut short by the end of the device.
    pub const fn chunks(&self) -> u64 {
        self.blocks.div_ceil(1 << self.chunk_shift)
    }

    /// Regions of the device; the last may be cut short.
    pub const fn regions(&self) -> u64 {
        self.chunks().div_ceil(1 << self.region_shift)
    }

    /// Is `range` inside the device and not empty?
    pub const fn holds(&self, range: BlockRange) -> bool {
        range.count > 0 && range.first < self.blocks && range.count as u64 <= self.blocks - range.first
    }

    /// Chunk of a block.
    pub const fn chunk_of(&self, block: u64) -> ChunkNo {
        ChunkNo(block >> self.chunk_shift)
    }

    /// Region of a chunk.
    pub const fn region_of(&self, chunk: ChunkNo) -> RegionNo {
        RegionNo(chunk.0 >> self.region_shift)
    }

    /// Place of a chunk within its region.
    pub const fn index_in_region(&self, chunk: ChunkNo) -> u32 {
        (chunk.0 & ((1 << self.region_shift) - 1)) as u32
    }

    /// The chunk at `index` of `region`.
    pub const fn chunk_at(&self, region: RegionNo, index: u32) -> ChunkNo {
        ChunkNo((region.0 << self.region_shift) + index as u64)
    }

    /// Blocks of a chunk, the last one clamped to the device.
    pub fn chunk_range(&self, chunk: ChunkNo) -> BlockRange {
        let first = chunk.0 << self.chunk_shift;
        let count = (1u64 << self.chunk_shift).min(self.blocks - first);
        BlockRange { first, count: count as u32 }
    }

    /// First and last chunk of a range that the device [holds](Self::holds).
    pub const fn chunks_of(&self, range: BlockRange) -> (ChunkNo, ChunkNo) {
        (self.chunk_of(range.first), self.chunk_of(range.end() - 1))
    }

    /// All chunks that `region` has.
    pub fn all_of(&self, region: RegionNo) -> ChunkBits {
        let first = region.0 << self.region_shift;
        let count = (1u64 << self.region_shift).min(self.chunks().saturating_sub(first));
        if count == 128 { ChunkBits(u128::MAX) } else { ChunkBits((1u128 << count) - 1) }
    }

    /// Chunks of `region` that `range` touches.
    pub fn bits_of(&self, region: RegionNo, range: BlockRange) -> ChunkBits {
        let (first, last) = self.chunks_of(range);
        let base = region.0 << self.region_shift;
        let end = base + (1 << self.region_shift);
        let low = first.0.clamp(base, end) - base;
        let high = (last.0 + 1).clamp(base, end) - base;
        let below = |n: u64| {
            if n >= 128 { u128::MAX } else { (1u128 << n) - 1 }
        };
        ChunkBits(below(high) & !below(low))
    }
}
