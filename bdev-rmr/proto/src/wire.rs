//! Messages to bytes and back. `decode` checks syntax; what a message means here and now is the engine's to judge.

use crate::convert::{origin_code, origin_of};
use crate::raw::{
    RawControl, RawEpochRecord, RawHeader, RawIo, RawIoReply, RawRegionChunks, RawRegionMisses, RawStamp,
};
use crate::raw::{RawEpoch, RawSuspect};
use crate::{
    BlockRange, BufId, ChunkBits, ChunkNo, Continuity, Epoch, EpochRecord, FormatError, Incarnation, IoOp,
    IoReply, IoRequest, IoStatus, MapSlice, MemberId, MemberSet, Msg, NoCopy, PoolId, Promise, Proposal,
    RegionMisses, RegionNo, Report, Seq, Stamp, SuspectRegion, Tag, crc32c,
};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Version of the protocol. A peer with another one is refused.
pub const VERSION: u16 = 1;
/// Most elements in one message's list.
pub const LIST_MAX: u32 = 16_384;
/// Most [`RegionMisses`] in one message.
pub const MISSES_MAX: usize = 4_096;
/// Most bytes of a message, without payload.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
const MAGIC: u32 = u32::from_le_bytes(*b"RMR1");
const FLAG: u32 = 1;
/// The message is followed by a payload.
const PAYLOAD: u32 = 2;

fn control(epoch: Epoch) -> RawControl {
    RawControl { epoch: epoch.into(), ..RawControl::new_zeroed() }
}

fn promised(promise: Promise) -> RawControl {
    RawControl { promise: promise.into(), ..RawControl::new_zeroed() }
}

/// Kind, flags, list length and body of a message being encoded.
struct Out<'a> {
    kind: u16,
    flags: u32,
    count: usize,
    body: &'a mut Vec<u8>,
}

impl<'a> Out<'a> {
    fn new<T: IntoBytes + Immutable>(body: &'a mut Vec<u8>, kind: u16, fixed: &T) -> Self {
        body.extend_from_slice(fixed.as_bytes());
        Self { kind, flags: 0, count: 0, body }
    }

    fn flag(mut self, flag: bool) -> Self {
        self.flags |= if flag { FLAG } else { 0 };
        self
    }

    fn payload(mut self, buf: Option<BufId>) -> Self {
        self.flags |= if buf.is_some() { PAYLOAD } else { 0 };
        self
    }

    fn list<T: IntoBytes + Immutable>(mut self, list: impl Iterator<Item = T>) -> Self {
        for element in list {
            self.body.extend_from_slice(element.as_bytes());
            self.count += 1;
        }
        self
    }
}

/// The bytes of `msg`, without its payload.
pub fn encode(pool: PoolId, msg: &Msg) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_to(pool, msg, &mut bytes);
    bytes
}

/// Appends the bytes of `msg`, without its payload. Allocates only what `bytes` has no room for.
pub fn encode_to(pool: PoolId, msg: &Msg, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; RawHeader::SIZE]);
    let Out { kind, flags, count, .. } = body_of(msg, bytes);
    let length = (bytes.len() - start - RawHeader::SIZE) as u32;
    let mut header = RawHeader {
        magic: MAGIC.into(),
        version: VERSION.into(),
        kind: kind.into(),
        length: length.into(),
        crc: 0.into(),
        pool: pool.0,
        count: (count as u32).into(),
        flags: flags.into(),
    };
    bytes[start..][..RawHeader::SIZE].copy_from_slice(header.as_bytes());
    header.crc = crc32c(&bytes[start..]).into();
    bytes[start..][..RawHeader::SIZE].copy_from_slice(header.as_bytes());
}

/// CRC32C of a message's bytes, its own field taken as zero.
fn crc_of(bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes[..12]);
    digest.update(&[0; 4]);
    digest.update(&bytes[16..]);
    digest.finalize() as u32
}

fn body_of<'a>(msg: &Msg, body: &'a mut Vec<u8>) -> Out<'a> {
    match msg {
        Msg::Promise { promise, takeover } => Out::new(body, 1, &promised(*promise)).flag(*takeover),
        Msg::Promised(r) => {
            let small = (r.continuity as u32).into();
            let d = place(r.next);
            let (b, c) = (r.dirty_chunks.into(), r.capacity.into());
            let fixed = RawControl { a: r.incarnation.0.into(), b, c, d, small, ..promised(r.promise) };
            let out = Out::new(body, 2, &fixed);
            out.body.extend_from_slice(RawEpochRecord::from(&r.record).as_bytes());
            out.flag(r.zeroed).list(r.suspects.iter().map(raw_suspect))
        }
        Msg::Refused { asked, stands, lease_ns } => {
            let epoch = Epoch { promise: *stands, version: 0 }.into();
            Out::new(body, 3, &RawControl { epoch, a: (*lease_ns).into(), ..promised(*asked) })
        }
        Msg::Query { promise, regions } => {
            Out::new(body, 4, &promised(*promise)).list(regions.iter().map(|r| U64::from(r.0)))
        }
        Msg::QueryReply { promise, misses } => {
            Out::new(body, 5, &promised(*promise)).list(misses.iter().map(|r| RawRegionMisses::from(*r)))
        }
        Msg::Adopt(p) => adopt(p, body),
        Msg::Adopted { epoch, counter } => {
            Out::new(body, 7, &RawControl { a: (*counter).into(), ..control(*epoch) })
        }
        Msg::AdoptRefused { epoch } => Out::new(body, 8, &control(*epoch)),
        Msg::Join { epoch, set, attempt, last, anew, blocks } => {
            let (a, d, small) = ((*attempt).into(), (*blocks).into(), u32::from(*anew).into());
            Out::new(body, 9, &RawControl { set: set.0, a, d, small, ..control(*epoch) }).flag(*last)
        }
        Msg::JoinReady { epoch, attempt, last, stamp } => {
            let (b, c) = (stamp.incarnation.0.into(), stamp.counter.into());
            Out::new(body, 10, &RawControl { a: (*attempt).into(), b, c, ..control(*epoch) }).flag(*last)
        }
        Msg::Io(io, buf) => Out::new(body, 11, &raw_io(io)).payload(*buf),
        Msg::IoReply(reply, buf) => Out::new(body, 12, &raw_io_reply(reply)).payload(*buf),
        Msg::Beat { epoch, answered, flushed, counters } => {
            let counters = counters.map(U64::from);
            let fixed = RawControl { a: answered.0.into(), b: flushed.0.into(), counters, ..control(*epoch) };
            Out::new(body, 13, &fixed)
        }
        Msg::BeatReply { epoch, serving, dirty_chunks, pressure, stuck, counter } => {
            let small = (u32::from(*pressure) | u32::from(*stuck) << 1).into();
            let fixed =
                RawControl { a: (*dirty_chunks).into(), b: (*counter).into(), small, ..control(*epoch) };
            Out::new(body, 14, &fixed).flag(*serving)
        }
        Msg::MapPull { epoch, attempt, stamp, since, cursor } => {
            let mut fixed = RawControl { a: (*attempt).into(), b: (*since).into(), ..control(*epoch) };
            fixed.c = cursor.0.into();
            fixed.counters[0] = stamp.incarnation.0.into();
            fixed.counters[1] = stamp.counter.into();
            Out::new(body, 15, &fixed)
        }
        Msg::MapSlice(s) => {
            let d = place(s.next);
            let mut fixed = RawControl { a: s.attempt.into(), b: s.at.into(), d, ..control(s.epoch) };
            fixed.c = s.cursor.0.into();
            Out::new(body, 16, &fixed)
                .flag(s.all_missed)
                .list(s.regions.iter().map(|r| RawRegionMisses::from(*r)))
        }
        Msg::CopyRead { epoch, copy, chunk } => {
            Out::new(body, 17, &RawControl { a: (*copy).into(), b: chunk.0.into(), ..control(*epoch) })
        }
        Msg::CopyReply { epoch, copy, last, why, buf } => {
            let (a, b, small) = ((*copy).into(), last.0.into(), (*why as u32).into());
            Out::new(body, 18, &RawControl { a, b, small, ..control(*epoch) }).payload(*buf)
        }
        Msg::Check { epoch, tag, chunk } => {
            Out::new(body, 40, &RawControl { b: chunk.0.into(), ..tagged(*epoch, *tag) })
        }
        Msg::Checked { epoch, tag, status, crc } => {
            let b = u64::from(status_code(*status)).into();
            Out::new(body, 41, &RawControl { b, small: (*crc).into(), ..tagged(*epoch, *tag) })
        }
        Msg::Repair { epoch, tag, number, answered, chunk } => {
            let (b, c, d) = (chunk.0.into(), (*number).into(), answered.0.into());
            Out::new(body, 42, &RawControl { b, c, d, ..tagged(*epoch, *tag) })
        }
        Msg::Repaired { epoch, tag, status } => {
            let b = u64::from(status_code(*status)).into();
            Out::new(body, 43, &RawControl { b, ..tagged(*epoch, *tag) })
        }
        Msg::SuspectPull { promise, cursor } => {
            Out::new(body, 31, &RawControl { c: cursor.0.into(), ..promised(*promise) })
        }
        Msg::Suspects { promise, cursor, next, suspects } => {
            let fixed = RawControl { c: cursor.0.into(), d: place(*next), ..promised(*promise) };
            Out::new(body, 32, &fixed).list(suspects.iter().map(raw_suspect))
        }
        Msg::Verdicts { epoch, part, verdicts } => {
            Out::new(body, 33, &RawControl { small: (*part).into(), ..control(*epoch) })
                .list(verdicts.iter().map(|r| RawRegionMisses::from(*r)))
        }
        Msg::VerdictsAck { epoch, part } => {
            Out::new(body, 34, &RawControl { small: (*part).into(), ..control(*epoch) })
        }
        Msg::Cleared { epoch, region, chunks } => cleared(body, 19, *epoch, *region, *chunks),
        Msg::ClearedAck { epoch, region, chunks } => cleared(body, 20, *epoch, *region, *chunks),
    }
}

fn tagged(epoch: Epoch, tag: Tag) -> RawControl {
    RawControl { a: (u64::from(tag.slot) << 32 | u64::from(tag.sending)).into(), ..control(epoch) }
}

fn tag_of(a: u64) -> Tag {
    Tag { slot: (a >> 32) as u32, sending: a as u32 }
}

/// Where a list goes on; all ones = it has ended.
fn place(next: Option<RegionNo>) -> U64 {
    next.map_or(u64::MAX, |region| region.0).into()
}

fn place_of(raw: U64) -> Option<RegionNo> {
    Some(raw.get()).filter(|next| *next != u64::MAX).map(RegionNo)
}

fn raw_suspect(s: &SuspectRegion) -> RawSuspect {
    RawSuspect { region: s.region.0.into(), written: s.written.0.into(), proved: s.proved.0.into() }
}

fn adopt<'a>(p: &Proposal, body: &'a mut Vec<u8>) -> Out<'a> {
    let (origin, origin_member) = origin_code(p.origin);
    let base = p.base;
    let mut fixed = RawControl { promise: base.promise.into(), a: base.version.into(), ..control(p.epoch) };
    (fixed.c, fixed.d) = (u64::from(p.parts).into(), p.blocks.into());
    fixed.b = p.reference.map_or(0, |member| member.index() as u64 + 1).into();
    (fixed.set, fixed.members) = (p.set.0, p.members.0);
    (fixed.origin, fixed.origin_member) = (origin, origin_member);
    let keeper = p.keeper.map_or(0, |member| member.index() as u32 + 1);
    fixed.small = (u32::from(p.resting.0) | keeper << 8 | u32::from(p.zeroed) << 12).into();
    let out = Out::new(body, 6, &fixed).flag(p.forced);
    out.body.extend_from_slice(p.peers.map(RawStamp::from).as_bytes());
    out.body.extend_from_slice(p.last_in.map(RawEpoch::from).as_bytes());
    out.list(p.verdicts.iter().map(|r| RawRegionMisses::from(*r)))
}

fn cleared(body: &mut Vec<u8>, kind: u16, epoch: Epoch, region: RegionNo, chunks: ChunkBits) -> Out<'_> {
    Out::new(body, kind, &control(epoch)).list(std::iter::once(RawRegionChunks::from((region, chunks))))
}

fn raw_io(io: &IoRequest) -> RawIo {
    let op = match io.op {
        IoOp::Read => 1,
        IoOp::Write => 2,
        IoOp::WriteFua => 3,
        IoOp::Zero { unmap: false } => 4,
        IoOp::Zero { unmap: true } => 5,
        IoOp::Flush => 6,
    };
    RawIo {
        epoch: io.epoch.into(),
        slot: io.tag.slot.into(),
        sending: io.tag.sending.into(),
        number: io.number.into(),
        first: io.range.first.into(),
        seq: io.seq.0.into(),
        answered: io.answered.0.into(),
        flushed: io.flushed.0.into(),
        count: io.range.count.into(),
        op,
        proved: io.proved.into(),
        reserved: [0; 10],
    }
}

fn io_of(raw: &RawIo) -> Result<IoRequest, FormatError> {
    let op = match raw.op {
        1 => IoOp::Read,
        2 => IoOp::Write,
        3 => IoOp::WriteFua,
        4 => IoOp::Zero { unmap: false },
        5 => IoOp::Zero { unmap: true },
        6 => IoOp::Flush,
        value => return Err(field("request", "op", value.into(), "1..=6")),
    };
    Ok(IoRequest {
        epoch: raw.epoch.into(),
        tag: Tag { slot: raw.slot.get(), sending: raw.sending.get() },
        number: raw.number.get(),
        op,
        range: BlockRange { first: raw.first.get(), count: raw.count.get() },
        seq: Seq(raw.seq.get()),
        answered: Seq(raw.answered.get()),
        flushed: Seq(raw.flushed.get()),
        proved: raw.proved != 0,
    })
}

fn status_code(status: IoStatus) -> u8 {
    match status {
        IoStatus::Done => 1,
        IoStatus::NotClean => 2,
        IoStatus::DiskError => 3,
        IoStatus::WrongEpoch => 4,
        IoStatus::Fenced => 5,
        IoStatus::NotServing => 6,
    }
}

fn status_of(code: u64) -> Result<IoStatus, FormatError> {
    Ok(match code {
        1 => IoStatus::Done,
        2 => IoStatus::NotClean,
        3 => IoStatus::DiskError,
        4 => IoStatus::WrongEpoch,
        5 => IoStatus::Fenced,
        6 => IoStatus::NotServing,
        value => return Err(field("answer", "status", value, "1..=6")),
    })
}

fn raw_io_reply(reply: &IoReply) -> RawIoReply {
    RawIoReply {
        epoch: reply.epoch.into(),
        slot: reply.tag.slot.into(),
        sending: reply.tag.sending.into(),
        missed: reply.missed.into(),
        dirty_chunks: reply.dirty_chunks.into(),
        counter: reply.counter.into(),
        status: status_code(reply.status),
        pressure: reply.pressure.into(),
        reserved: [0; 6],
    }
}

fn io_reply_of(raw: &RawIoReply) -> Result<IoReply, FormatError> {
    Ok(IoReply {
        epoch: raw.epoch.into(),
        tag: Tag { slot: raw.slot.get(), sending: raw.sending.get() },
        status: status_of(raw.status.into())?,
        missed: raw.missed.get(),
        dirty_chunks: raw.dirty_chunks.get(),
        pressure: raw.pressure != 0,
        counter: raw.counter.get(),
    })
}

fn field(what: &'static str, field: &'static str, value: u64, accepted: &'static str) -> FormatError {
    FormatError::Field { what, field, value, accepted }
}

/// Reads the body of a message piece by piece.
struct Body<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Body<'a> {
    fn fixed<T: FromBytes + KnownLayout + Immutable>(
        &mut self,
        what: &'static str,
    ) -> Result<T, FormatError> {
        let short = FormatError::Short { what, got: self.rest.len(), need: size_of::<T>() };
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| short)?;
        self.rest = rest;
        Ok(value)
    }

    fn list<T: FromBytes + KnownLayout + Immutable>(
        &mut self,
        what: &'static str,
    ) -> Result<Vec<T>, FormatError> {
        let need = self.count.saturating_mul(size_of::<T>());
        if self.rest.len() != need {
            return Err(FormatError::Short { what, got: self.rest.len(), need });
        }
        (0..self.count).map(|_| self.fixed(what)).collect()
    }

    fn end(&self, what: &'static str) -> Result<(), FormatError> {
        let value = self.rest.len() as u64;
        if value == 0 { Ok(()) } else { Err(field(what, "bytes left over", value, "0")) }
    }
}

/// Parses one message. `payload` is the driver's buffer with the bytes that followed it, if any did.
pub fn decode(bytes: &[u8], payload: Option<BufId>) -> Result<(PoolId, Msg), FormatError> {
    let what = "message header";
    let short = FormatError::Short { what, got: bytes.len(), need: RawHeader::SIZE };
    let (header, body) = RawHeader::read_from_prefix(bytes).map_err(|_| short)?;
    if header.magic.get() != MAGIC {
        return Err(field(what, "magic", header.magic.get().into(), "RMR1"));
    }
    if header.version.get() != VERSION {
        return Err(field(what, "version", header.version.get().into(), "1"));
    }
    if header.length.get() as usize != body.len() {
        return Err(field(
            what,
            "length",
            header.length.get().into(),
            "the number of bytes after the header",
        ));
    }
    if header.count.get() > LIST_MAX {
        return Err(field(what, "count", header.count.get().into(), "0..=16384"));
    }
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(field(what, "length", header.length.get().into(), "at most 1 MiB with the header"));
    }
    let want = crc_of(bytes);
    if header.crc.get() != want {
        return Err(FormatError::Checksum { what: "message", got: header.crc.get(), want });
    }
    let flag = header.flags.get() & FLAG != 0;
    let buf = if header.flags.get() & PAYLOAD != 0 { payload } else { None };
    let mut body = Body { rest: body, count: header.count.get() as usize };
    let msg = match header.kind.get() {
        11 => Msg::Io(io_of(&body.fixed("request")?)?, buf),
        12 => Msg::IoReply(io_reply_of(&body.fixed("answer")?)?, buf),
        kind => control_of(kind, flag, buf, &mut body)?,
    };
    body.end("message")?;
    Ok((PoolId(header.pool), msg))
}

fn control_of(kind: u16, flag: bool, buf: Option<BufId>, body: &mut Body<'_>) -> Result<Msg, FormatError> {
    let raw: RawControl = body.fixed("control message")?;
    let (epoch, promise) = (Epoch::from(raw.epoch), Promise::from(raw.promise));
    let (a, b) = (raw.a.get(), raw.b.get());
    Ok(match kind {
        1 => Msg::Promise { promise, takeover: flag },
        2 => Msg::Promised(Box::new(Report { zeroed: flag, ..report_of(&raw, body)? })),
        3 => Msg::Refused { asked: promise, stands: epoch.promise, lease_ns: a },
        4 => {
            let regions = body.list::<U64>("query")?.iter().map(|r| RegionNo(r.get())).collect();
            Msg::Query { promise, regions }
        }
        5 => Msg::QueryReply { promise, misses: misses(body, "query answer")? },
        6 => Msg::Adopt(Box::new(proposal_of(&raw, flag, body)?)),
        7 => Msg::Adopted { epoch, counter: a },
        8 => Msg::AdoptRefused { epoch },
        9 => {
            let (set, blocks, anew) = (MemberSet(raw.set), raw.d.get(), raw.small.get() & 1 != 0);
            Msg::Join { epoch, set, attempt: a, last: flag, anew, blocks }
        }
        10 => {
            let stamp = Stamp { incarnation: Incarnation(b), counter: raw.c.get() };
            Msg::JoinReady { epoch, attempt: a, last: flag, stamp }
        }
        13 => {
            let counters = raw.counters.map(|c| c.get());
            Msg::Beat { epoch, answered: Seq(a), flushed: Seq(b), counters }
        }
        14 => {
            let (pressure, stuck) = (raw.small.get() & 1 != 0, raw.small.get() & 2 != 0);
            Msg::BeatReply { epoch, serving: flag, dirty_chunks: a, pressure, stuck, counter: b }
        }
        15 => {
            let stamp =
                Stamp { incarnation: Incarnation(raw.counters[0].get()), counter: raw.counters[1].get() };
            Msg::MapPull { epoch, attempt: a, stamp, since: b, cursor: RegionNo(raw.c.get()) }
        }
        16 => {
            let next = place_of(raw.d);
            let regions = misses(body, "map slice")?;
            let cursor = RegionNo(raw.c.get());
            Msg::MapSlice(Box::new(MapSlice {
                epoch,
                attempt: a,
                at: b,
                cursor,
                next,
                all_missed: flag,
                regions,
            }))
        }
        17 => Msg::CopyRead { epoch, copy: a, chunk: ChunkNo(b) },
        18 => {
            let why = match raw.small.get() {
                0 => NoCopy::NotNow,
                1 => NoCopy::Unclean,
                2 => NoCopy::Unreadable,
                value => return Err(field("copy reply", "why", value.into(), "0..=2")),
            };
            Msg::CopyReply { epoch, copy: a, last: Seq(b), why, buf }
        }
        19 | 20 => {
            let raw: RawRegionChunks = body.fixed("cleared")?;
            let (region, chunks) = raw.into();
            if kind == 19 {
                Msg::Cleared { epoch, region, chunks }
            } else {
                Msg::ClearedAck { epoch, region, chunks }
            }
        }
        31 => Msg::SuspectPull { promise, cursor: RegionNo(raw.c.get()) },
        32 => {
            let (cursor, next) = (RegionNo(raw.c.get()), place_of(raw.d));
            Msg::Suspects { promise, cursor, next, suspects: suspects(body, "suspects")? }
        }
        33 => {
            let part = raw.small.get();
            Msg::Verdicts { epoch, part, verdicts: misses(body, "verdicts")? }
        }
        34 => Msg::VerdictsAck { epoch, part: raw.small.get() },
        40 => Msg::Check { epoch, tag: tag_of(a), chunk: ChunkNo(b) },
        41 => Msg::Checked { epoch, tag: tag_of(a), status: status_of(b)?, crc: raw.small.get() },
        42 => {
            let (number, answered) = (raw.c.get(), Seq(raw.d.get()));
            Msg::Repair { epoch, tag: tag_of(a), number, answered, chunk: ChunkNo(b) }
        }
        43 => Msg::Repaired { epoch, tag: tag_of(a), status: status_of(b)? },
        value => return Err(field("message header", "kind", value.into(), "1..=20, 31..=34 or 40..=43")),
    })
}

fn misses(body: &mut Body<'_>, what: &'static str) -> Result<Vec<RegionMisses>, FormatError> {
    Ok(body.list::<RawRegionMisses>(what)?.into_iter().map(Into::into).collect())
}

fn suspects(body: &mut Body<'_>, what: &'static str) -> Result<Vec<SuspectRegion>, FormatError> {
    let one = |s: RawSuspect| SuspectRegion {
        region: RegionNo(s.region.get()),
        written: ChunkBits(s.written.get()),
        proved: ChunkBits(s.proved.get()),
    };
    Ok(body.list::<RawSuspect>(what)?.into_iter().map(one).collect())
}

fn report_of(raw: &RawControl, body: &mut Body<'_>) -> Result<Report, FormatError> {
    let record = EpochRecord::try_from(&body.fixed::<RawEpochRecord>("report")?)?;
    let continuity = match raw.small.get() {
        0 => Continuity::Unbroken,
        1 => Continuity::SameBoot,
        2 => Continuity::Broken,
        value => return Err(field("report", "continuity", value.into(), "0..=2")),
    };
    Ok(Report {
        promise: raw.promise.into(),
        record,
        zeroed: false,
        capacity: raw.c.get(),
        dirty_chunks: raw.b.get(),
        incarnation: Incarnation(raw.a.get()),
        continuity,
        suspects: suspects(body, "report")?,
        next: place_of(raw.d),
    })
}

fn proposal_of(raw: &RawControl, forced: bool, body: &mut Body<'_>) -> Result<Proposal, FormatError> {
    let peers = body.fixed::<[RawStamp; 8]>("proposal")?.map(Stamp::from);
    let last_in = body.fixed::<[RawEpoch; 8]>("proposal")?.map(Epoch::from);
    let small = raw.small.get();
    let keeper = match small >> 8 & 0xf {
        0 => None,
        value @ 1..=8 => Some(crate::convert::member("proposal", value as u8 - 1)?),
        value => return Err(field("proposal", "keeper", value.into(), "0..=8")),
    };
    if small >> 13 != 0 {
        return Err(field("proposal", "small", small.into(), "bits 0 to 12"));
    }
    let parts = raw.c.get();
    let parts = u32::try_from(parts).map_err(|_| field("proposal", "parts", parts, "32 bits"))?;
    Ok(Proposal {
        epoch: raw.epoch.into(),
        origin: origin_of("proposal", raw.origin, raw.origin_member)?,
        zeroed: small & 1 << 12 != 0,
        set: MemberSet(raw.set),
        members: MemberSet(raw.members),
        blocks: raw.d.get(),
        reference: match raw.b.get() {
            0 => None,
            member @ 1..=8 => MemberId::new(member as u8 - 1),
            value => return Err(field("proposal", "reference", value, "0 = none, or 1..=8")),
        },
        base: Epoch { promise: raw.promise.into(), version: raw.a.get() },
        peers,
        resting: MemberSet(small as u8),
        last_in,
        keeper,
        forced,
        verdicts: misses(body, "proposal")?,
        parts,
    })
}
