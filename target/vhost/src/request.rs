//! virtio-blk requests, without IO: what a chain asks for, and what becomes of it (Virtual I/O Device 1.2, 5.2.6).

use tgt_bdev::{IoStatus, Op};
use tgt_guest_memory::GuestMemory;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};

use crate::ring::{Chain, RingFault, Segment};

/// The unit of addresses of virtio-blk, whatever the block size.
pub(crate) const SECTOR: u64 = 512;
/// Most data of one request. The configuration space allows less.
pub(crate) const DATA_MAX: u64 = 16 << 20;
/// Bytes of the answer to GET_ID.
pub(crate) const ID_BYTES: usize = 20;
/// `{ u32 type; u32 reserved; u64 sector; }`
const HEADER: u64 = 16;
/// `{ u64 sector; u32 sectors; u32 flags; }` of discards and of writing zeroes; one in a request.
const RANGE: u64 = 16;
/// What may be set in a range's flags: zeroes may be written by unmapping.
const RANGE_MAY_UNMAP: u32 = 1;

/// What of a bdev decides about requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) block_size: u32,
    pub(crate) blocks: u64,
    pub(crate) flush: bool,
    pub(crate) discard: bool,
    pub(crate) write_zeroes: bool,
    pub(crate) readonly: bool,
}

/// A chain's header, read once. What is left in the chain is its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    kind: u32,
    sector: u64,
    /// Where the status goes.
    pub(crate) status: u64,
    /// Data that the device reads, and data that it writes, in bytes.
    reads: u64,
    writes: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// IO of so many blocks, with so many bytes of data.
    Io { op: Op, lba: u64, blocks: u32, bytes: u32 },
    /// The disk's name is asked for.
    Name,
    /// Nothing but an answer.
    Answer(IoStatus),
}

impl Plan {
    /// Bytes of data that it moves.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Plan::Io { bytes, .. } => u64::from(*bytes),
            Plan::Name | Plan::Answer(_) => 0,
        }
    }
}

impl Request {
    /// Reads the header and takes it and the status out of `chain`, however they are cut into descriptors.
    #[inline]
    pub(crate) fn read(memory: &GuestMemory, chain: &mut Chain) -> Result<Request, RingFault> {
        let mut header = [0; HEADER as usize];
        take_front(memory, &mut chain.readable, &mut header)?;
        let status = take_last_byte(&mut chain.writable)?;
        let sum = |segments: &[Segment]| segments.iter().map(|segment| u64::from(segment.len)).sum();
        Ok(Request {
            kind: le32(&header[..4]),
            sector: le64(&header[8..]),
            status,
            reads: sum(&chain.readable),
            writes: sum(&chain.writable),
        })
    }

    /// What is to be done about it, on a disk like this.
    pub(crate) fn plan(
        &self,
        memory: &GuestMemory,
        chain: &Chain,
        disk: &Geometry,
    ) -> Result<Plan, RingFault> {
        let refused = Ok(Plan::Answer(IoStatus::WRITE_PROTECTED));
        match self.kind {
            VIRTIO_BLK_T_IN => Ok(self.transfer(Op::Read, self.writes, disk)),
            VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES if disk.readonly => refused,
            VIRTIO_BLK_T_OUT => Ok(self.transfer(Op::Write, self.reads, disk)),
            VIRTIO_BLK_T_FLUSH if disk.flush => Ok(Plan::Io { op: Op::Flush, lba: 0, blocks: 1, bytes: 0 }),
            // Without a cache there is nothing to flush: a driver that asks all the same is told so.
            VIRTIO_BLK_T_FLUSH => Ok(Plan::Answer(IoStatus::SUCCESS)),
            VIRTIO_BLK_T_GET_ID => Ok(Plan::Name),
            VIRTIO_BLK_T_DISCARD if disk.discard => self.range(memory, chain, Op::Unmap, disk),
            VIRTIO_BLK_T_WRITE_ZEROES if disk.write_zeroes => {
                self.range(memory, chain, Op::WriteZeroes, disk)
            }
            _ => Ok(Plan::Answer(IoStatus::INVALID_OPCODE)),
        }
    }

    fn transfer(&self, op: Op, bytes: u64, disk: &Geometry) -> Plan {
        if bytes > DATA_MAX {
            return Plan::Answer(IoStatus::INVALID_FIELD);
        }
        match blocks(self.sector, bytes, disk) {
            Ok((lba, blocks)) => Plan::Io { op, lba, blocks, bytes: bytes as u32 },
            Err(status) => Plan::Answer(status),
        }
    }

    fn range(&self, memory: &GuestMemory, chain: &Chain, op: Op, disk: &Geometry) -> Result<Plan, RingFault> {
        if self.reads != RANGE {
            return Ok(Plan::Answer(IoStatus::INVALID_FIELD));
        }
        let mut range = [0; RANGE as usize];
        copy_out(memory, &chain.readable, 0, &mut range)?;
        let (sector, sectors, flags) = (le64(&range[..8]), le32(&range[8..12]), le32(&range[12..]));
        let allowed = if op == Op::WriteZeroes { RANGE_MAY_UNMAP } else { 0 };
        if flags & !allowed != 0 {
            return Ok(Plan::Answer(IoStatus::INVALID_OPCODE));
        }
        Ok(match blocks(sector, u64::from(sectors) * SECTOR, disk) {
            Ok((lba, blocks)) => Plan::Io { op, lba, blocks, bytes: 0 },
            Err(status) => Plan::Answer(status),
        })
    }
}

/// First block and number of blocks of `bytes` bytes from `sector` on.
fn blocks(sector: u64, bytes: u64, disk: &Geometry) -> Result<(u64, u32), IoStatus> {
    let size = u64::from(disk.block_size);
    let at = sector.checked_mul(SECTOR).ok_or(IoStatus::LBA_OUT_OF_RANGE)?;
    if bytes == 0 || !bytes.is_multiple_of(size) || !at.is_multiple_of(size) {
        return Err(IoStatus::INVALID_FIELD);
    }
    let (lba, count) = (at / size, bytes / size);
    if lba.checked_add(count).is_none_or(|end| end > disk.blocks) {
        return Err(IoStatus::LBA_OUT_OF_RANGE);
    }
    let count = u32::try_from(count).map_err(|_| IoStatus::INVALID_FIELD)?;
    Ok((lba, count))
}

/// Copies what `segments` hold from their byte `skip` on into `into`, in order: no more than is there.
#[inline]
pub(crate) fn copy_out(
    memory: &GuestMemory,
    segments: &[Segment],
    skip: u64,
    into: &mut [u8],
) -> Result<(), RingFault> {
    let (mut skip, mut rest) = (skip, into);
    for segment in segments {
        let len = u64::from(segment.len);
        if rest.is_empty() || skip >= len {
            skip -= len.min(skip);
            continue;
        }
        let (now, later) = rest.split_at_mut(rest.len().min((len - skip) as usize));
        memory.read(segment.at + skip, now)?;
        (skip, rest) = (0, later);
    }
    Ok(())
}

/// Reads the front of `segments` into `into`, and takes it away from them.
fn take_front(memory: &GuestMemory, segments: &mut Vec<Segment>, into: &mut [u8]) -> Result<(), RingFault> {
    let mut done = 0;
    let mut whole = 0;
    for segment in segments.iter_mut() {
        let take = (into.len() - done).min(segment.len as usize);
        memory.read(segment.at, &mut into[done..done + take])?;
        done += take;
        segment.at += take as u64;
        segment.len -= take as u32;
        if segment.len > 0 {
            break;
        }
        whole += 1;
    }
    if done < into.len() {
        return Err(RingFault::Header(done as u64));
    }
    segments.drain(..whole);
    Ok(())
}

/// The address of the last byte, which is taken away.
fn take_last_byte(segments: &mut Vec<Segment>) -> Result<u64, RingFault> {
    while let Some(last) = segments.last_mut() {
        if last.len == 0 {
            segments.pop();
            continue;
        }
        last.len -= 1;
        let at = last.at + u64::from(last.len);
        if last.len == 0 {
            segments.pop();
        }
        return Ok(at);
    }
    Err(RingFault::NoStatus)
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn le64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}
