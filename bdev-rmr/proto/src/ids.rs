//! Identities and units. An index, a count and a size are never the same type.

use std::fmt;

/// Most members a pool can have.
pub const MEMBERS_MAX: usize = 8;

/// A pool, by UUID: names are labels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PoolId(pub [u8; 16]);

/// One life of one store: a new or wiped disk is a new incarnation. Zero means "none known".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u64);

/// A member of a pool, 0..[`MEMBERS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId(u8);

impl MemberId {
    /// `None` unless `index` < [`MEMBERS_MAX`].
    pub const fn new(index: u8) -> Option<Self> {
        if (index as usize) < MEMBERS_MAX { Some(Self(index)) } else { None }
    }

    /// The member at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`MEMBERS_MAX`]: a bug of the caller, wire values go through [`Self::new`].
    pub const fn at(index: usize) -> Self {
        assert!(index < MEMBERS_MAX, "member index out of range");
        Self(index as u8)
    }

    /// Place in arrays of [`MEMBERS_MAX`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", (b'A' + self.0) as char)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A set of members, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberSet(pub u8);

impl MemberSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// Exactly `member`.
    pub const fn only(member: MemberId) -> Self {
        Self(1 << member.0)
    }

    /// The first `count` members.
    pub const fn first(count: usize) -> Self {
        assert!(count <= MEMBERS_MAX, "too many members");
        Self(((1u16 << count) - 1) as u8)
    }

    /// Is `member` in it?
    pub const fn has(self, member: MemberId) -> bool {
        self.0 & (1 << member.0) != 0
    }

    /// With `member`.
    #[must_use]
    pub const fn with(self, member: MemberId) -> Self {
        Self(self.0 | (1 << member.0))
    }

    /// Without `member`.
    #[must_use]
    pub const fn without(self, member: MemberId) -> Self {
        Self(self.0 & !(1 << member.0))
    }

    /// In both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// In either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Here and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Is everyone here also in `other`?
    pub const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Nobody here?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Members in order of id.
    pub fn iter(self) -> impl Iterator<Item = MemberId> {
        (0..MEMBERS_MAX as u8).filter(move |i| self.0 & (1 << i) != 0).map(MemberId)
    }
}

impl fmt::Debug for MemberSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for m in self.iter() {
            write!(f, "{m}")?;
        }
        f.write_str("}")
    }
}

/// Unit of miss tracking and resync, counted from the start of the device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ChunkNo(pub u64);

/// Unit of the write-intent log, counted from the start of the device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RegionNo(pub u64);

/// Order of a write within one generation; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u64);

/// A buffer of the driver. The engine moves the number and never sees the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BufId(pub u32);

/// Chunks of one region, one bit each, bit 0 the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkBits(pub u128);

impl ChunkBits {
    /// No chunk.
    pub const NONE: Self = Self(0);

    /// Only the chunk at `index` of the region.
    pub const fn bit(index: u32) -> Self {
        Self(1 << index)
    }

    /// Is the chunk at `index` in it?
    pub const fn has(self, index: u32) -> bool {
        self.0 & (1 << index) != 0
    }

    /// In either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// In both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Here and not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// No chunk?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many chunks.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Indices in order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros();
            (index < 128).then(|| {
                rest &= rest - 1;
                index
            })
        })
    }
}

impl fmt::Debug for ChunkBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Consecutive blocks of the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BlockRange {
    /// First block.
    pub first: u64,
    /// Number of blocks.
    pub count: u32,
}

impl BlockRange {
    /// The block after the last.
    pub const fn end(self) -> u64 {
        self.first + self.count as u64
    }

    /// Do the two share a block?
    pub const fn overlaps(self, other: Self) -> bool {
        self.first < other.end() && other.first < self.end()
    }
}
