//! Between raw structs and typed values.

use zerocopy::little_endian::U128;

use crate::raw::{RawEpoch, RawEpochRecord, RawPromise, RawRegionChunks, RawRegionMisses, RawStamp};
use crate::{
    ChunkBits, Epoch, EpochRecord, FormatError, Incarnation, MEMBERS_MAX, MemberId, MemberSet, Origin,
    Promise, RegionMisses, RegionNo, Stamp,
};

pub(crate) fn member(what: &'static str, value: u8) -> Result<MemberId, FormatError> {
    let error = FormatError::Field { what, field: "member", value: value.into(), accepted: "0..=7" };
    MemberId::new(value).ok_or(error)
}

impl From<Promise> for RawPromise {
    fn from(p: Promise) -> Self {
        Self { generation: p.generation.into(), nonce: p.nonce.into() }
    }
}

impl From<RawPromise> for Promise {
    fn from(p: RawPromise) -> Self {
        Self { generation: p.generation.get(), nonce: p.nonce.get() }
    }
}

impl From<Epoch> for RawEpoch {
    fn from(e: Epoch) -> Self {
        let (generation, nonce) = (e.promise.generation.into(), e.promise.nonce.into());
        Self { generation, nonce, version: e.version.into() }
    }
}

impl From<RawEpoch> for Epoch {
    fn from(e: RawEpoch) -> Self {
        let promise = Promise { generation: e.generation.get(), nonce: e.nonce.get() };
        Self { promise, version: e.version.get() }
    }
}

impl From<Stamp> for RawStamp {
    fn from(s: Stamp) -> Self {
        Self { incarnation: s.incarnation.0.into(), counter: s.counter.into() }
    }
}

impl From<RawStamp> for Stamp {
    fn from(s: RawStamp) -> Self {
        Self { incarnation: Incarnation(s.incarnation.get()), counter: s.counter.get() }
    }
}

impl From<RegionMisses> for RawRegionMisses {
    fn from(r: RegionMisses) -> Self {
        // A loop, as `map` of an array this large is not inlined: a map page is 24 of these.
        let mut missed = [U128::ZERO; MEMBERS_MAX];
        for (raw, bits) in missed.iter_mut().zip(&r.missed) {
            *raw = U128::new(bits.0);
        }
        Self { region: r.region.0.into(), missed, suspect: r.suspect.0.into(), lost: r.lost.0.into() }
    }
}

impl From<RawRegionMisses> for RegionMisses {
    fn from(r: RawRegionMisses) -> Self {
        let mut missed = [ChunkBits::NONE; MEMBERS_MAX];
        for (bits, raw) in missed.iter_mut().zip(&r.missed) {
            *bits = ChunkBits(raw.get());
        }
        let (suspect, lost) = (ChunkBits(r.suspect.get()), ChunkBits(r.lost.get()));
        Self { region: RegionNo(r.region.get()), missed, suspect, lost }
    }
}

impl From<(RegionNo, ChunkBits)> for RawRegionChunks {
    fn from((region, chunks): (RegionNo, ChunkBits)) -> Self {
        Self { region: region.0.into(), chunks: chunks.0.into() }
    }
}

impl From<RawRegionChunks> for (RegionNo, ChunkBits) {
    fn from(r: RawRegionChunks) -> Self {
        (RegionNo(r.region.get()), ChunkBits(r.chunks.get()))
    }
}

/// Code and member of an origin.
pub(crate) fn origin_code(origin: Origin) -> (u8, u8) {
    match origin {
        Origin::Create { reference } => (1, reference.index() as u8),
        Origin::Assembly => (2, 0),
        Origin::Shrink => (3, 0),
        Origin::Join { member } => (4, member.index() as u8),
    }
}

pub(crate) fn origin_of(what: &'static str, code: u8, id: u8) -> Result<Origin, FormatError> {
    match code {
        1 => Ok(Origin::Create { reference: member(what, id)? }),
        2 => Ok(Origin::Assembly),
        3 => Ok(Origin::Shrink),
        4 => Ok(Origin::Join { member: member(what, id)? }),
        value => Err(FormatError::Field { what, field: "origin", value: value.into(), accepted: "1..=4" }),
    }
}

impl From<&EpochRecord> for RawEpochRecord {
    fn from(r: &EpochRecord) -> Self {
        let (origin, origin_member) = origin_code(r.origin);
        Self {
            promise: r.promise.into(),
            adopted: r.adopted.into(),
            base: r.base.into(),
            boot: r.boot.into(),
            counter: r.counter.into(),
            origin,
            origin_member,
            set: r.set.0,
            members: r.members.0,
            resting: r.resting.0,
            learning: r.learning.into(),
            reserved: [0; 2],
            blocks: r.blocks.into(),
            peers: r.peers.map(RawStamp::from),
            wrote: r.wrote.into(),
            last_in: r.last_in.map(RawEpoch::from),
            decided: r.decided.into(),
        }
    }
}

impl TryFrom<&RawEpochRecord> for EpochRecord {
    type Error = FormatError;

    fn try_from(r: &RawEpochRecord) -> Result<Self, FormatError> {
        Ok(Self {
            promise: r.promise.into(),
            adopted: r.adopted.into(),
            base: r.base.into(),
            origin: origin_of("epoch record", r.origin, r.origin_member)?,
            set: MemberSet(r.set),
            members: MemberSet(r.members),
            blocks: r.blocks.get(),
            boot: r.boot.get(),
            counter: r.counter.get(),
            peers: r.peers.map(Stamp::from),
            resting: MemberSet(r.resting),
            wrote: r.wrote.into(),
            last_in: r.last_in.map(Epoch::from),
            decided: r.decided.into(),
            learning: match r.learning {
                0 => false,
                1 => true,
                value => {
                    let (what, field, accepted) = ("epoch record", "learning", "0 or 1");
                    return Err(FormatError::Field { what, field, value: value.into(), accepted });
                }
            },
        })
    }
}
