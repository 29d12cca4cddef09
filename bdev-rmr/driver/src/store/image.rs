//! Making a store on a bdev, and opening one. Control threads.

use super::place::{self, SUPERBLOCKS_BYTES, area_bytes, data_offset};
use super::ranges::{RangeError, RangeJob};
use rmr_engine::store::{Store, format};
use rmr_engine::{OpenError, ResyncLimits, StoreConfig};
use rmr_proto::disk::{PAGE, Superblock};
use rmr_proto::{FormatError, Geometry, Incarnation, MemberId, MemberSet, PoolId};
use std::sync::Arc;
use tgt_bdev::{Bdev, Claim, ClaimError, Desc, Mode, Op};
use tgt_reactor::Handle;

/// Largest blocks of a bdev that can hold a store: metadata has pages of this size.
pub const BDEV_BLOCK_MAX: u32 = PAGE as u32;
/// Chunks of a pool if nothing else is said, bytes.
pub const CHUNK_BYTES_DEFAULT: u64 = 128 << 10;
const MAGIC: &[u8] = b"RMRSTORE";
/// Bytes looked at for what a bdev holds already.
const LOOKED_AT: u64 = 128 << 10;

/// Why a store was not made or opened. Unless it says otherwise, nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The bdev cannot be opened.
    #[error(transparent)]
    Desc(#[from] tgt_bdev::OpenError),
    /// It is somebody else's.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Its blocks do not do.
    #[error(
        "bdev {bdev:?} has blocks of {block_size} bytes; accepted: 512, 1024, 2048 or 4096, and not more than the pool's"
    )]
    Blocks {
        /// The bdev.
        bdev: String,
        /// Bytes.
        block_size: u32,
    },
    /// It cannot do what a store needs.
    #[error("bdev {bdev:?} does not do {op}; a store needs read, write, write_zeroes and flush")]
    Lacks {
        /// The bdev.
        bdev: String,
        /// What it lacks.
        op: &'static str,
    },
    /// Sizes that cannot be.
    #[error(transparent)]
    Geometry(FormatError),
    /// It is too small.
    #[error(
        "mapped_size is {mapped} bytes; accepted: a multiple of {block}, {block} to {room}: bdev {bdev:?} has {bytes} bytes, \
         the rest is for metadata"
    )]
    Room {
        /// The bdev.
        bdev: String,
        /// Its bytes.
        bytes: u64,
        /// Asked for.
        mapped: u64,
        /// The pool's blocks.
        block: u64,
        /// The most.
        room: u64,
    },
    /// Something is on it.
    #[error("bdev {bdev:?} is not empty: {found}; {hint}")]
    NotEmpty {
        /// The bdev.
        bdev: String,
        /// What was found.
        found: Found,
        /// What to do.
        hint: &'static str,
    },
    /// There is no store on it.
    #[error("bdev {bdev:?} holds no store ({found}); brmr_create_store makes one")]
    NoStore {
        /// The bdev.
        bdev: String,
        /// What is there.
        found: Found,
    },
    /// It holds a store of another pool.
    #[error("bdev {bdev:?} holds member {member} of pool {there}, not of {asked}")]
    OtherPool {
        /// The bdev.
        bdev: String,
        /// Which member.
        member: usize,
        /// Of this pool.
        there: uuid::Uuid,
        /// Asked for.
        asked: uuid::Uuid,
    },
    /// It is another disk than it was.
    #[error("bdev {bdev:?} is not the disk that the store was on ({found}); nothing on it was changed")]
    OtherStore {
        /// The bdev.
        bdev: String,
        /// What is there.
        found: Found,
    },
    /// The bdev has shrunk since.
    #[error("bdev {bdev:?} has {bytes} bytes, the store on it was made for {need}")]
    Shrunk {
        /// The bdev.
        bdev: String,
        /// Its bytes.
        bytes: u64,
        /// Needed.
        need: u64,
    },
    /// Its metadata cannot be used.
    #[error("the store on bdev {bdev:?} cannot be opened: {why}; it has to be replaced")]
    Unreadable {
        /// The bdev.
        bdev: String,
        /// Why.
        why: OpenError,
    },
    /// IO failed.
    #[error(transparent)]
    Io(#[from] RangeError),
}

/// What the start of a bdev holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing that is known.
    Nothing,
    /// A store.
    Store(Superblock),
    /// A superblock that cannot be read.
    DamagedStore,
    /// Something else, by name.
    Other(&'static str),
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing known is on it"),
            Self::Store(superblock) => {
                let pool = uuid::Uuid::from_bytes(superblock.pool.0);
                write!(f, "it holds member {} of pool {pool}", superblock.member.index())
            }
            Self::DamagedStore => f.write_str("it holds the damaged superblock of a store"),
            Self::Other(what) => write!(f, "it holds {what}"),
        }
    }
}

/// What stands in the first bytes of a bdev.
#[must_use]
pub fn found(start: &[u8]) -> Found {
    let at = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|bytes| bytes.starts_with(magic));
    if at(0, MAGIC) || at(PAGE, MAGIC) {
        let second = start.get(PAGE..).unwrap_or_default();
        return Superblock::decode_either(start, second).map_or(Found::DamagedStore, Found::Store);
    }
    let others: [(usize, &[u8], &str); 9] = [
        (512, b"EFI PART", "a GPT partition table"),
        (4096, b"EFI PART", "a GPT partition table"),
        (512, b"LABELONE", "an LVM physical volume"),
        (0, b"XFSB", "an XFS file system"),
        (0x438, &[0x53, 0xef], "an ext file system"),
        (0x10040, b"_BHRfS_M", "a btrfs file system"),
        (0, b"LUKS\xba\xbe", "a LUKS volume"),
        (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of an md array"),
        (510, &[0x55, 0xaa], "a partition table or boot sector"),
    ];
    let other = others.iter().find(|(offset, magic, _)| at(*offset, magic));
    other.map_or(Found::Nothing, |(_, _, what)| Found::Other(what))
}

/// A store to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewStore {
    /// Its pool.
    pub pool: PoolId,
    /// Which member it is.
    pub member: MemberId,
    /// Which disk: drawn at random, not 0.
    pub incarnation: Incarnation,
    /// Bytes per block of the device.
    pub block_bytes: u64,
    /// Bytes per chunk.
    pub chunk_bytes: u64,
    /// Bytes of the device; `None`: as many as there is room for.
    pub mapped: Option<u64>,
}

/// A store that was opened, on its way to a reactor.
#[derive(Debug)]
pub struct OpenedStore {
    pub(super) desc: Arc<Desc>,
    pub(super) store: Store,
    pub(super) superblock: Superblock,
    pub(super) data: u64,
    pub(super) options: OpenOptions,
}

impl OpenedStore {
    /// What it is.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Bytes of the device, as it is now: it may have grown since the store was made.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        let geometry = self.store.geometry();
        geometry.blocks() << geometry.block_shift()
    }
}

/// How a store is to work while it is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// How fast chunks are copied to it.
    pub limits: ResyncLimits,
    /// Every write is durable before it is answered.
    pub write_through: bool,
}

/// Opens a bdev for a store alone, if it does what a store needs.
fn take(bdev: &Arc<Bdev>, pool: PoolId) -> Result<Arc<Desc>, ImageError> {
    let name = || bdev.name().to_owned();
    let block_size = bdev.block_size();
    if !block_size.is_power_of_two() || block_size > BDEV_BLOCK_MAX {
        return Err(ImageError::Blocks { bdev: name(), block_size });
    }
    let needs = [Op::Read, Op::Write, Op::WriteZeroes, Op::Flush];
    if let Some(op) = needs.into_iter().find(|op| !bdev.ops().contains(*op)) {
        return Err(ImageError::Lacks { bdev: name(), op: op.name() });
    }
    let opener = format!("store of pool {}", uuid::Uuid::from_bytes(pool.0));
    let desc = Desc::open(bdev, &opener, Mode::Write)?;
    desc.claim(Claim::ExclusiveWrite)?;
    Ok(Arc::new(desc))
}

fn bytes_of(bdev: &Bdev) -> u64 {
    bdev.num_blocks() * u64::from(bdev.block_size())
}

fn start_of(reactor: &Handle, desc: &Arc<Desc>) -> Result<Vec<u8>, RangeError> {
    let len = LOOKED_AT.min(bytes_of(desc.bdev()));
    RangeJob::Read { offset: 0, len }.run(reactor, desc)
}

/// Makes a store on a bdev that holds nothing known. The superblocks are written last: before that the disk is no store.
///
/// # Errors
/// See [`ImageError`]; nothing was written, unless IO failed: then the start of the bdev is not what it was, and it is
/// no store.
pub fn create(reactor: &Handle, bdev: &Arc<Bdev>, new: &NewStore) -> Result<Superblock, ImageError> {
    let config = StoreConfig::default();
    let desc = take(bdev, new.pool)?;
    let superblock = plan(bdev, new, &config)?;
    let start = start_of(reactor, &desc)?;
    match found(&start) {
        Found::Nothing => {}
        found @ (Found::Store(_) | Found::DamagedStore) => {
            let hint = "brmr_add_store opens the store that is there; wipe the bdev to make another";
            return Err(ImageError::NotEmpty { bdev: bdev.name().to_owned(), found, hint });
        }
        found @ Found::Other(_) => {
            let hint = "wipe the start of the bdev if what it holds is not needed";
            return Err(ImageError::NotEmpty { bdev: bdev.name().to_owned(), found, hint });
        }
    }
    write_image(reactor, &desc, &superblock, &config)?;
    Ok(superblock)
}

/// Sizes of a store to be made.
fn plan(bdev: &Bdev, new: &NewStore, config: &StoreConfig) -> Result<Superblock, ImageError> {
    let NewStore { pool, member, incarnation, block_bytes, chunk_bytes, mapped } = *new;
    // The size is not known yet; the shape is.
    let shape = Geometry::for_pool(chunk_bytes.max(block_bytes), block_bytes, chunk_bytes)
        .map_err(ImageError::Geometry)?;
    if u64::from(bdev.block_size()) > block_bytes {
        return Err(ImageError::Blocks { bdev: bdev.name().to_owned(), block_size: bdev.block_size() });
    }
    let capacity = place::capacity(bytes_of(bdev), &shape, config).unwrap_or(0);
    let room = capacity * block_bytes;
    let mapped = mapped.unwrap_or(room);
    let refused = || ImageError::Room {
        bdev: bdev.name().to_owned(),
        bytes: bytes_of(bdev),
        mapped,
        block: block_bytes,
        room,
    };
    if mapped == 0 || mapped > room || !mapped.is_multiple_of(block_bytes) {
        return Err(refused());
    }
    let geometry = shape.with_blocks(mapped / block_bytes).map_err(ImageError::Geometry)?;
    Ok(Superblock { pool, member, incarnation, geometry, capacity, zeroed: false })
}

fn write_image(
    reactor: &Handle,
    desc: &Arc<Desc>,
    superblock: &Superblock,
    config: &StoreConfig,
) -> Result<(), RangeError> {
    let members = MemberSet::only(superblock.member);
    let area = format(superblock, config, members);
    let (superblocks, rest) = area.split_at(SUPERBLOCKS_BYTES as usize);
    const PIECE: usize = 1 << 20;
    let mut pieces: Vec<_> = rest
        .chunks(PIECE)
        .enumerate()
        .map(|(at, bytes)| (SUPERBLOCKS_BYTES + (at * PIECE) as u64, bytes.to_vec()))
        .collect();
    pieces.reverse();
    RangeJob::Write(pieces).run(reactor, desc)?;
    RangeJob::Write(vec![(0, superblocks.to_vec())]).run(reactor, desc)?;
    Ok(())
}

/// Opens the store on a bdev. `boot` says for which number [`Store::open`] is to take this boot.
///
/// # Errors
/// See [`ImageError`]; nothing was written.
pub fn open(
    reactor: &Handle,
    bdev: &Arc<Bdev>,
    pool: PoolId,
    boot: impl FnOnce(Incarnation) -> u64,
    options: OpenOptions,
) -> Result<OpenedStore, ImageError> {
    let config = StoreConfig { resync: options.limits, ..StoreConfig::default() };
    let name = || bdev.name().to_owned();
    let desc = take(bdev, pool)?;
    let superblock = match found(&start_of(reactor, &desc)?) {
        Found::Store(superblock) => superblock,
        found => return Err(ImageError::NoStore { bdev: name(), found }),
    };
    if superblock.pool != pool {
        return Err(ImageError::OtherPool {
            bdev: name(),
            member: superblock.member.index(),
            there: uuid::Uuid::from_bytes(superblock.pool.0),
            asked: uuid::Uuid::from_bytes(pool.0),
        });
    }
    if bdev.block_size().trailing_zeros() > superblock.geometry.block_shift().into() {
        return Err(ImageError::Blocks { bdev: name(), block_size: bdev.block_size() });
    }
    let (data, bytes) = (data_offset(&superblock, &config), bytes_of(bdev));
    let need = data + (superblock.capacity << superblock.geometry.block_shift());
    if bytes < need {
        return Err(ImageError::Shrunk { bdev: name(), bytes, need });
    }
    let len = area_bytes(&superblock.room(), &config);
    let area = RangeJob::Read { offset: 0, len }.run(reactor, &desc)?;
    let store = Store::open(&area, config, boot(superblock.incarnation))
        .map_err(|why| ImageError::Unreadable { bdev: name(), why })?;
    Ok(OpenedStore { desc, store, superblock, data, options })
}

/// Makes a bdev no store any more: zeroes both superblocks, durably. It must hold this very store, closed.
///
/// # Errors
/// See [`ImageError`]; [`ImageError::OtherStore`] if it is another disk by the same name.
pub fn wipe(reactor: &Handle, bdev: &Arc<Bdev>, store: &Superblock) -> Result<(), ImageError> {
    let desc = take(bdev, store.pool)?;
    let found = found(&start_of(reactor, &desc)?);
    let same = matches!(found, Found::Store(there) if there.incarnation == store.incarnation && there.pool == store.pool);
    if !same {
        return Err(ImageError::OtherStore { bdev: bdev.name().to_owned(), found });
    }
    RangeJob::Write(vec![(0, vec![0; SUPERBLOCKS_BYTES as usize])]).run(reactor, &desc)?;
    Ok(())
}

/// The number of this boot of the host; one drawn at random, which is no other boot's, if the host does not say.
#[must_use]
pub fn boot_number() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = uuid::Uuid::parse_str(text.trim()).unwrap_or_else(|_| uuid::Uuid::new_v4());
    let (high, low) = id.as_u64_pair();
    (high ^ low).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_bdev_is_known_by_its_marks() {
        let with = |offset: usize, bytes: &[u8]| {
            let mut start = vec![0; LOOKED_AT as usize];
            start[offset..offset + bytes.len()].copy_from_slice(bytes);
            found(&start)
        };
        assert_eq!(found(&[]), Found::Nothing);
        assert_eq!(with(0, &[]), Found::Nothing);
        assert_eq!(with(0x438, &[0x53, 0xef]), Found::Other("an ext file system"));
        assert_eq!(with(510, &[0x55, 0xaa]), Found::Other("a partition table or boot sector"));
        assert_eq!(with(0x10040, b"_BHRfS_M"), Found::Other("a btrfs file system"));
        assert_eq!(with(PAGE, MAGIC), Found::DamagedStore);
        let geometry = Geometry::for_pool(1 << 30, 4096, 128 << 10).expect("a shape");
        let superblock = Superblock {
            pool: PoolId([7; 16]),
            member: MemberId::at(2),
            incarnation: Incarnation(9),
            geometry,
            capacity: geometry.blocks(),
            zeroed: false,
        };
        assert_eq!(with(PAGE, &superblock.encode()), Found::Store(superblock), "the second copy counts");
    }
}
