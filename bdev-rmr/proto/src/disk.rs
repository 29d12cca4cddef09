//! Metadata of a store: superblock, pages, journal record, and where they lie.
//!
//! A metadata area holds two copies of the superblock, two of the journal, two of every home page. `layout` gives the
//! places. What is written in which order, and why each crash is harmless: `docs/101-replication-protocol.md`.

use crate::raw::{RawEpochRecord, RawItem, RawPage, RawRegionMisses, RawSuperblock};
use crate::{
    EpochRecord, FormatError, Geometry, Incarnation, MemberId, PoolId, RegionMisses, RegionNo, convert,
    crc32c,
};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a home page.
pub const PAGE: usize = 4096;
/// Regions whose intent entries lie on one page, one bit each.
pub const INTENTS_PER_PAGE: u64 = ((PAGE - RawPage::SIZE) * 8) as u64;
/// Regions whose misses lie on one page.
pub const MISSES_PER_PAGE: u64 = ((PAGE - RawPage::SIZE) / RawRegionMisses::SIZE) as u64;
const VERSION: u16 = 1;
const SUPER_MAGIC: [u8; 8] = *b"RMRSTORE";
const PAGE_MAGIC: u32 = u32::from_le_bytes(*b"RMRP");

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum PageKind {
    /// The epoch record.
    Epoch = 1,
    /// Intent entries.
    Intent = 2,
    /// Misses.
    Map = 3,
    /// A journal record.
    Journal = 4,
}

/// Identity and shape of a store; written by `create`, never changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Superblock {
    /// Pool.
    pub pool: PoolId,
    /// Member.
    pub member: MemberId,
    /// Which disk.
    pub incarnation: Incarnation,
    /// Sizes, as the pool was made.
    pub geometry: Geometry,
    /// Blocks that the store has room for, data and metadata; not less than the device has.
    pub capacity: u64,
    /// `create` made the whole data area read zero.
    pub zeroed: bool,
}

impl Superblock {
    /// The geometry of all that there is room for: the metadata's places follow from it.
    pub fn room(&self) -> Geometry {
        self.geometry.with_blocks(self.capacity).unwrap_or(self.geometry)
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; RawSuperblock::SIZE] {
        let mut raw = RawSuperblock {
            magic: SUPER_MAGIC,
            version: u32::from(VERSION).into(),
            crc: 0.into(),
            pool: self.pool.0,
            incarnation: self.incarnation.0.into(),
            blocks: self.geometry.blocks().into(),
            block_shift: self.geometry.block_shift(),
            chunk_shift: self.geometry.chunk_shift(),
            region_shift: self.geometry.region_shift(),
            member: self.member.index() as u8,
            flags: self.zeroed.into(),
            reserved: [0; 3],
            capacity: self.capacity.into(),
            reserved_end: [0; 64],
        };
        raw.crc = crc32c(raw.as_bytes()).into();
        let mut bytes = [0; RawSuperblock::SIZE];
        bytes.copy_from_slice(raw.as_bytes());
        bytes
    }

    /// From bytes: syntax, checksum, version and ranges.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let what = "superblock";
        let short = FormatError::Short { what, got: bytes.len(), need: RawSuperblock::SIZE };
        let (raw, _) = RawSuperblock::read_from_prefix(bytes).map_err(|_| short)?;
        let bad = |field, value, accepted| Err(FormatError::Field { what, field, value, accepted });
        if raw.magic != SUPER_MAGIC {
            return bad("magic", u64::from_le_bytes(raw.magic), "RMRSTORE");
        }
        let mut plain = raw;
        plain.crc = 0.into();
        let want = crc32c(plain.as_bytes());
        if raw.crc.get() != want {
            return Err(FormatError::Checksum { what, got: raw.crc.get(), want });
        }
        if raw.version.get() != u32::from(VERSION) {
            return bad("version", raw.version.get().into(), "1");
        }
        if raw.flags > 1 {
            return bad("flags", raw.flags.into(), "0 or 1");
        }
        let geometry = Geometry::new(raw.blocks.get(), raw.block_shift, raw.chunk_shift, raw.region_shift)?;
        let capacity = raw.capacity.get();
        if capacity < geometry.blocks() || geometry.with_blocks(capacity).is_err() {
            return bad("capacity", capacity, "at least the blocks of the device, at most 1 PiB");
        }
        Ok(Self {
            capacity,
            zeroed: raw.flags == 1,
            pool: PoolId(raw.pool),
            member: convert::member(what, raw.member)?,
            incarnation: Incarnation(raw.incarnation.get()),
            geometry,
        })
    }

    /// The first copy that can be read.
    pub fn decode_either(first: &[u8], second: &[u8]) -> Result<Self, FormatError> {
        Self::decode(first).or_else(|error| Self::decode(second).map_err(|_| error))
    }
}

/// Places in the metadata area, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    journal: u64,
    journal_bytes: u64,
    intents: u64,
    maps: u64,
}

impl Layout {
    /// For a geometry; `journal_bytes` is the room for one record, a multiple of [`PAGE`].
    pub const fn new(geometry: &Geometry, journal_bytes: u64) -> Self {
        let intents = geometry.regions().div_ceil(INTENTS_PER_PAGE);
        let maps = geometry.regions().div_ceil(MISSES_PER_PAGE);
        Self { journal: 2 * PAGE as u64, journal_bytes, intents, maps }
    }

    /// Superblock copy 0 or 1.
    pub const fn superblock(&self, copy: usize) -> u64 {
        (copy * PAGE) as u64
    }

    /// Journal copy 0 or 1.
    pub const fn journal(&self, copy: usize) -> u64 {
        self.journal + copy as u64 * self.journal_bytes
    }

    /// Room for one record.
    pub const fn journal_bytes(&self) -> u64 {
        self.journal_bytes
    }

    /// Pages of a kind.
    pub const fn pages(&self, kind: PageKind) -> u64 {
        match kind {
            PageKind::Epoch => 1,
            PageKind::Intent => self.intents,
            PageKind::Map => self.maps,
            PageKind::Journal => 0,
        }
    }

    /// Home of a page, copy 0 or 1.
    pub const fn page(&self, kind: PageKind, number: u64, copy: usize) -> u64 {
        let index = match kind {
            PageKind::Epoch | PageKind::Journal => 0,
            PageKind::Intent => 1 + number,
            PageKind::Map => 1 + self.intents + number,
        };
        let copy_bytes = (1 + self.intents + self.maps) * PAGE as u64;
        self.journal + 2 * self.journal_bytes + copy as u64 * copy_bytes + index * PAGE as u64
    }

    /// Bytes of the whole area.
    pub const fn bytes(&self) -> u64 {
        self.page(PageKind::Map, self.maps, 1)
    }
}

/// Seals `body` under a page header, zero-padded to `size`.
fn seal(kind: PageKind, number: u64, commit: u64, body: &[u8], size: usize) -> Vec<u8> {
    let mut header = RawPage {
        magic: PAGE_MAGIC.into(),
        kind: (kind as u16).into(),
        version: VERSION.into(),
        crc: 0.into(),
        length: (body.len() as u32).into(),
        number: number.into(),
        commit: commit.into(),
    };
    let mut bytes = Vec::with_capacity(size.max(RawPage::SIZE + body.len()));
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    header.crc = crc32c(&bytes).into();
    bytes[..RawPage::SIZE].copy_from_slice(header.as_bytes());
    bytes.resize(size.max(bytes.len()), 0);
    bytes
}

/// A page that was read and passed its checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page<'a> {
    /// Commit that wrote it.
    pub commit: u64,
    /// Bytes after the header.
    pub body: &'a [u8],
}

/// Opens one sealed page: it must be of `kind` and `number`.
pub fn open_page(bytes: &[u8], kind: PageKind, number: u64) -> Result<Page<'_>, FormatError> {
    let what = match kind {
        PageKind::Epoch => "epoch page",
        PageKind::Intent => "intent page",
        PageKind::Map => "map page",
        PageKind::Journal => "journal record",
    };
    let short = |need| FormatError::Short { what, got: bytes.len(), need };
    let (raw, rest) = RawPage::read_from_prefix(bytes).map_err(|_| short(RawPage::SIZE))?;
    let bad = |field, value, accepted| Err(FormatError::Field { what, field, value, accepted });
    if raw.magic.get() != PAGE_MAGIC {
        return bad("magic", raw.magic.get().into(), "RMRP");
    }
    let length = raw.length.get() as usize;
    let body = rest.get(..length).ok_or_else(|| short(RawPage::SIZE.saturating_add(length)))?;
    let mut plain = raw;
    plain.crc = 0.into();
    let want = crc32c_two(plain.as_bytes(), body);
    if raw.crc.get() != want {
        return Err(FormatError::Checksum { what, got: raw.crc.get(), want });
    }
    if raw.version.get() != VERSION {
        return bad("version", raw.version.get().into(), "1");
    }
    if raw.kind.get() != kind as u16 {
        return bad("kind", raw.kind.get().into(), "the kind that belongs here");
    }
    if raw.number.get() != number {
        return bad("number", raw.number.get(), "the number that belongs here");
    }
    Ok(Page { commit: raw.commit.get(), body })
}

fn crc32c_two(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(first);
    digest.update(second);
    digest.finalize() as u32
}

/// The newer readable one of two copies.
pub fn open_either<'a>(copies: [&'a [u8]; 2], kind: PageKind, number: u64) -> Result<Page<'a>, FormatError> {
    match copies.map(|bytes| open_page(bytes, kind, number)) {
        [Ok(a), Ok(b)] => Ok(if a.commit >= b.commit { a } else { b }),
        [Ok(page), Err(_)] | [Err(_), Ok(page)] => Ok(page),
        [Err(error), Err(_)] => Err(error),
    }
}

/// The epoch page.
pub fn encode_epoch_page(commit: u64, record: &EpochRecord) -> Vec<u8> {
    seal(PageKind::Epoch, 0, commit, RawEpochRecord::from(record).as_bytes(), PAGE)
}

/// The record on an opened epoch page.
pub fn decode_epoch(body: &[u8]) -> Result<EpochRecord, FormatError> {
    let short = FormatError::Short { what: "epoch record", got: body.len(), need: RawEpochRecord::SIZE };
    let (raw, _) = RawEpochRecord::ref_from_prefix(body).map_err(|_| short)?;
    EpochRecord::try_from(raw)
}

/// An intent page: `live` gives the regions of this page that have an entry.
pub fn encode_intent_page(commit: u64, number: u64, live: impl Iterator<Item = RegionNo>) -> Vec<u8> {
    let mut body = [0u8; PAGE - RawPage::SIZE];
    for region in live {
        let index = (region.0 - number * INTENTS_PER_PAGE) as usize;
        body[index / 8] |= 1 << (index % 8);
    }
    encode_intent_bits(commit, number, &body)
}

/// An intent page from its body, [`INTENTS_PER_PAGE`] bits.
pub fn encode_intent_bits(commit: u64, number: u64, bits: &[u8]) -> Vec<u8> {
    seal(PageKind::Intent, number, commit, bits, PAGE)
}

/// Regions with an entry on an opened intent page.
pub fn decode_intents(number: u64, body: &[u8]) -> impl Iterator<Item = RegionNo> + '_ {
    let base = number * INTENTS_PER_PAGE;
    body.iter().enumerate().filter(|(_, byte)| **byte != 0).flat_map(move |(at, byte)| {
        let here = base + at as u64 * 8;
        (0..8u64).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| RegionNo(here + bit))
    })
}

/// A map page: the regions of this page that have misses.
pub fn encode_map_page(commit: u64, number: u64, regions: impl Iterator<Item = RegionMisses>) -> Vec<u8> {
    let mut body = [0u8; PAGE - RawPage::SIZE];
    for region in regions {
        let at = (region.region.0 - number * MISSES_PER_PAGE) as usize * RawRegionMisses::SIZE;
        body[at..at + RawRegionMisses::SIZE].copy_from_slice(RawRegionMisses::from(region).as_bytes());
    }
    seal(PageKind::Map, number, commit, &body, PAGE)
}

/// Regions with misses on an opened map page.
pub fn decode_misses(number: u64, body: &[u8]) -> Result<Vec<RegionMisses>, FormatError> {
    let mut found = Vec::new();
    for (at, bytes) in body.chunks_exact(RawRegionMisses::SIZE).enumerate() {
        let Ok(raw) = RawRegionMisses::read_from_bytes(bytes) else {
            continue;
        };
        let misses = RegionMisses::from(raw);
        if misses.is_empty() {
            continue;
        }
        let value = misses.region.0;
        if value != number * MISSES_PER_PAGE + at as u64 {
            let accepted = "the region whose place this is";
            return Err(FormatError::Field { what: "map page", field: "region", value, accepted });
        }
        found.push(misses);
    }
    Ok(found)
}

/// One change in a journal record. Items say what holds afterwards, so replaying a record twice does no harm.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a record holds at most one of the large ones; a box would allocate in every commit"
)]
pub enum Item {
    /// The epoch record is now this.
    Epoch(EpochRecord),
    /// The region now has (or has not) a live entry.
    Intent {
        /// Which.
        region: RegionNo,
        /// Has it?
        live: bool,
    },
    /// The region's misses are now these.
    Misses(RegionMisses),
}

impl Item {
    /// Bytes of an entry in a journal record, and of what every item begins with.
    pub const INTENT_BYTES: usize = RawItem::SIZE;

    /// Bytes in a record.
    pub const fn size(&self) -> usize {
        Self::INTENT_BYTES
            + match self {
                Self::Epoch(_) => RawEpochRecord::SIZE,
                Self::Intent { .. } => 0,
                Self::Misses(_) => RawRegionMisses::SIZE,
            }
    }
}

/// A journal record of `items`, padded to whole sectors of 512 bytes.
pub fn encode_journal(commit: u64, items: &[Item]) -> Vec<u8> {
    let mut body = Vec::with_capacity(items.iter().map(Item::size).sum());
    for item in items {
        let (kind, region) = match item {
            Item::Epoch(_) => (1u32, 0),
            Item::Intent { region, live: true } => (2, region.0),
            Item::Intent { region, live: false } => (3, region.0),
            Item::Misses(misses) => (4, misses.region.0),
        };
        let head = RawItem { kind: kind.into(), reserved: 0.into(), region: region.into() };
        body.extend_from_slice(head.as_bytes());
        match item {
            Item::Epoch(record) => body.extend_from_slice(RawEpochRecord::from(record).as_bytes()),
            Item::Misses(misses) => body.extend_from_slice(RawRegionMisses::from(*misses).as_bytes()),
            Item::Intent { .. } => {}
        }
    }
    let size = (RawPage::SIZE + body.len()).next_multiple_of(512);
    seal(PageKind::Journal, 0, commit, &body, size)
}

/// The items of an opened journal record.
pub fn decode_journal(mut body: &[u8]) -> Result<Vec<Item>, FormatError> {
    let what = "journal item";
    let mut items = Vec::new();
    while !body.is_empty() {
        let short = |need| FormatError::Short { what, got: body.len(), need };
        let (head, rest) = RawItem::read_from_prefix(body).map_err(|_| short(RawItem::SIZE))?;
        let region = RegionNo(head.region.get());
        let (item, rest) = match head.kind.get() {
            1 => {
                let bytes = rest.get(..RawEpochRecord::SIZE).ok_or_else(|| short(RawEpochRecord::SIZE))?;
                (Item::Epoch(decode_epoch(bytes)?), &rest[RawEpochRecord::SIZE..])
            }
            2 => (Item::Intent { region, live: true }, rest),
            3 => (Item::Intent { region, live: false }, rest),
            4 => {
                let (raw, rest) =
                    RawRegionMisses::read_from_prefix(rest).map_err(|_| short(RawRegionMisses::SIZE))?;
                (Item::Misses(raw.into()), rest)
            }
            value => {
                let value = value.into();
                return Err(FormatError::Field { what, field: "kind", value, accepted: "1..=4" });
            }
        };
        items.push(item);
        body = rest;
    }
    Ok(items)
}
