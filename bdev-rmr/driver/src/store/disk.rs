//! A store's bdev, as the engine's actions need it: ranges of the device, ranges of metadata, one table of what is under
//! way.

use super::asks::AskNo;
use rmr_engine::DiskOp;
use rmr_proto::BlockRange;
use std::collections::VecDeque;
use tgt_bdev::{Bufs, Cx, DmaBuf, DoneQueue, Event, Io, IoChannel, IoStatus, Op, Tag, Work};
use tgt_env::memory::MemoryError;

/// Whose memory an operation has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Home {
    /// A request's that came in.
    Ask(AskNo),
    /// Ours, or none.
    Own,
}

/// What the engine is to be told when it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// That it is done.
    Done(DiskOp),
    /// And the bytes.
    Read(DiskOp),
    /// The checksum of the bytes.
    Checksum(DiskOp),
}

impl What {
    pub(super) const fn op(self) -> DiskOp {
        match self {
            Self::Done(op) | Self::Read(op) | Self::Checksum(op) => op,
        }
    }
}

/// An operation that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) what: What,
    pub(super) home: Home,
    pub(super) bufs: Bufs,
    pub(super) status: IoStatus,
    /// It was a flush.
    pub(super) flush: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    what: What,
    home: Home,
    flush: bool,
}

/// Memory of `bytes` bytes, old contents and all.
pub(super) fn memory(cx: &mut Cx, bytes: u32) -> Result<Bufs, MemoryError> {
    if bytes <= DmaBuf::MAX_LEN {
        return Ok(DmaBuf::alloc(bytes)?.into());
    }
    let mut parts = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let part = left.min(DmaBuf::MAX_LEN);
        parts.push(Bufs::from(DmaBuf::alloc(part)?));
        left -= part;
    }
    Ok(cx.lender().gather(parts))
}

pub(super) struct Disk {
    channel: IoChannel,
    done: DoneQueue,
    ops: Vec<Option<Pending>>,
    free: Vec<u32>,
    /// Did not find room in the channel.
    waiting: VecDeque<Io>,
    /// Could not even be asked for.
    stillborn: VecDeque<Ended>,
    /// Blocks of the bdev before block 0 of the device.
    data: u64,
    /// log2 of bytes per block of the bdev, and of its blocks per block of the device.
    shifts: (u32, u32),
}

impl Disk {
    /// The device begins `data` bytes after the start of the bdev, and has blocks of 2^`block_shift` bytes.
    pub(super) fn new(channel: IoChannel, data: u64, block_shift: u8) -> Self {
        let shift = channel.bdev().block_size().trailing_zeros();
        Self {
            channel,
            done: DoneQueue::default(),
            ops: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            stillborn: VecDeque::new(),
            data: data >> shift,
            shifts: (shift, u32::from(block_shift) - shift),
        }
    }

    /// Bytes of a range of the device.
    pub(super) fn bytes(&self, range: BlockRange) -> u64 {
        u64::from(range.count) << (self.shifts.0 + self.shifts.1)
    }

    /// Operations that have not ended.
    pub(super) fn under_way(&self) -> usize {
        self.ops.len() - self.free.len() + self.stillborn.len()
    }

    pub(super) fn take_event(&mut self) -> Option<Event> {
        self.channel.take_event()
    }

    /// Reads a range into `bufs`, which are of its length; without them into memory of ours.
    pub(super) fn read(&mut self, cx: &mut Cx, what: What, range: BlockRange, into: Option<(Bufs, AskNo)>) {
        let bytes = self.bytes(range) as u32;
        match into {
            Some((bufs, ask)) => self.data(cx, (what, Home::Ask(ask)), Op::Read, range, bufs, false),
            None => match memory(cx, bytes) {
                Ok(bufs) => self.data(cx, (what, Home::Own), Op::Read, range, bufs, false),
                Err(error) => self.still(what, Home::Own, Bufs::none(), &error),
            },
        }
    }

    /// Writes a range, or zeroes it if there are no bytes.
    pub(super) fn write(
        &mut self,
        cx: &mut Cx,
        op: DiskOp,
        range: BlockRange,
        (bufs, home): (Bufs, Home),
        fua: bool,
    ) {
        let io = if bufs.is_empty() { Op::WriteZeroes } else { Op::Write };
        self.data(cx, (What::Done(op), home), io, range, bufs, fua);
    }

    /// Makes durable what is done.
    pub(super) fn flush(&mut self, cx: &mut Cx, op: DiskOp) {
        let pending = Pending { what: What::Done(op), home: Home::Own, flush: true };
        let tag = self.tag(pending);
        self.submit(cx, Io::new(Op::Flush, tag, 0, 0, Bufs::none()));
    }

    /// Writes metadata, durable before it is done. What it lacks to whole blocks of the bdev is written as zeroes: only
    /// the journal has such lengths, and behind a record there is nothing.
    pub(super) fn meta(&mut self, cx: &mut Cx, offset: u64, bytes: &[u8]) {
        let what = What::Done(DiskOp::Meta);
        let shift = self.shifts.0;
        let padded = bytes.len().next_multiple_of(1 << shift);
        let mut bufs = match memory(cx, padded as u32) {
            Ok(bufs) => bufs,
            Err(error) => return self.still(what, Home::Own, Bufs::none(), &error),
        };
        bufs.copy_from_slice(0, bytes);
        const ZEROES: [u8; 4096] = [0; 4096];
        bufs.copy_from_slice(bytes.len() as u32, &ZEROES[..padded - bytes.len()]);
        let tag = self.tag(Pending { what, home: Home::Own, flush: false });
        let mut io = Io::new(Op::Write, tag, offset >> shift, (padded >> shift) as u32, bufs);
        io.fua = true;
        self.submit(cx, io);
    }

    /// Takes in what ended; [`Self::next`] tells it.
    pub(super) fn poll(&mut self, cx: &mut Cx) -> Work {
        let work = self.channel.poll(cx, &mut self.done);
        while let Some(io) = self.waiting.pop_front() {
            if let Err(io) = self.channel.submit(cx, io) {
                self.waiting.push_front(io);
                break;
            }
        }
        if self.stillborn.is_empty() { work } else { Work::Busy }
    }

    /// An operation that ended.
    pub(super) fn next(&mut self) -> Option<Ended> {
        if let Some(ended) = self.stillborn.pop_front() {
            return Some(ended);
        }
        let done = self.done.pop()?.finish();
        let place = done.tag.0 as usize;
        let Pending { what, home, flush } = self.ops[place].take().expect("each operation ends once");
        self.free.push(place as u32);
        Some(Ended { what, home, bufs: done.bufs, status: done.status, flush })
    }

    fn data(
        &mut self,
        cx: &mut Cx,
        (what, home): (What, Home),
        op: Op,
        range: BlockRange,
        bufs: Bufs,
        fua: bool,
    ) {
        let tag = self.tag(Pending { what, home, flush: false });
        let lba = self.data + (range.first << self.shifts.1);
        let mut io = Io::new(op, tag, lba, range.count << self.shifts.1, bufs);
        io.fua = fua;
        self.submit(cx, io);
    }

    fn tag(&mut self, pending: Pending) -> Tag {
        let place = self.free.pop().unwrap_or_else(|| {
            self.ops.push(None);
            self.ops.len() as u32 - 1
        });
        self.ops[place as usize] = Some(pending);
        Tag(place.into())
    }

    fn submit(&mut self, cx: &mut Cx, io: Io) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(io);
        }
        if let Err(io) = self.channel.submit(cx, io) {
            self.waiting.push_back(io);
        }
    }

    #[cold]
    fn still(&mut self, what: What, home: Home, bufs: Bufs, error: &MemoryError) {
        tracing::warn!(%error, ?what, "a store finds no memory for an operation");
        let status = IoStatus::INTERNAL;
        self.stillborn.push_back(Ended { what, home, bufs, status, flush: false });
    }
}
