//! What a store does for others: reads a chunk for a peer that copies it, takes a checksum for a scrub, notes what peers
//! call clean.

use super::Store;
use super::meta::CommitNo;
use crate::mutant::Mutant;
use crate::{DiskOp, Now, Party, StoreAction};
use rmr_proto::{BufId, ChunkBits, ChunkNo, Epoch, IoStatus, MemberId, Msg, NoCopy, RegionNo, Seq, Tag};

/// Most reads for peers, checksums, and peers' news to be acknowledged, at a time; whoever is turned away asks again.
const SOURCES_MAX: usize = 256;
const CHECKS_MAX: usize = 256;
const ACKS_MAX: usize = 4096;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct SourceRead {
    to: MemberId,
    epoch: Epoch,
    copy: u64,
    chunk: ChunkNo,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Check {
    to: Party,
    epoch: Epoch,
    tag: Tag,
    chunk: ChunkNo,
}

/// Reads and checksums under way, and what peers have still to be told.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Sources {
    reads: Vec<Option<SourceRead>>,
    checks: Vec<Option<Check>>,
    /// Peers to be told that their news is durable here, with the commit that makes it so.
    acks: Vec<(MemberId, Epoch, RegionNo, ChunkBits, CommitNo)>,
}

impl Sources {
    pub(super) fn new_epoch(&mut self) {
        self.acks.clear();
    }
}

/// Puts `value` into the first free place.
fn put<T>(slots: &mut Vec<Option<T>>, value: Option<T>) -> usize {
    let slot = slots.iter().position(Option::is_none).unwrap_or(slots.len());
    if slot == slots.len() {
        slots.push(value);
    } else {
        slots[slot] = value;
    }
    slot
}

fn refused(epoch: Epoch, copy: u64, why: NoCopy) -> Msg {
    Msg::CopyReply { epoch, copy, last: Seq(0), why, buf: None }
}

impl Store {
    /// A peer wants a chunk: only if it is clean here, in the same epoch.
    pub(super) fn on_copy_read(
        &mut self,
        to: MemberId,
        epoch: Epoch,
        copy: u64,
        chunk: ChunkNo,
        out: &mut Vec<StoreAction>,
    ) {
        let busy = self.sources.reads.iter().flatten().count() >= SOURCES_MAX;
        let why = if busy || chunk.0 >= self.geometry().chunks() || self.accepts(epoch).is_err() {
            Some(NoCopy::NotNow)
        } else {
            (self.is_dirty(chunk) && !Mutant::DirtySource.on()).then_some(NoCopy::Unclean)
        };
        if let Some(why) = why {
            out.push(StoreAction::Send(Party::Member(to), refused(epoch, copy, why)));
            return;
        }
        let read = Some(SourceRead { to, epoch, copy, chunk });
        let slot = put(&mut self.sources.reads, read);
        let range = self.chunk_range(chunk);
        out.push(StoreAction::Read { op: DiskOp::Source(slot as u32), range });
    }

    pub(super) fn on_source_read(
        &mut self,
        now: Now,
        slot: u32,
        ok: bool,
        buf: Option<BufId>,
        out: &mut Vec<StoreAction>,
    ) {
        let Some(read) = self.sources.reads.get_mut(slot as usize).and_then(Option::take) else { return };
        if !ok {
            self.note_unreadable(now, self.chunk_range(read.chunk));
        }
        let why = if !ok {
            Some(NoCopy::Unreadable)
        } else if self.accepts(read.epoch).is_err() {
            Some(NoCopy::NotNow)
        } else {
            (self.is_dirty(read.chunk) && !Mutant::DirtySource.on()).then_some(NoCopy::Unclean)
        };
        let buf = match (why, buf) {
            (None, buf) => buf,
            (Some(_), Some(buf)) => {
                out.push(StoreAction::Release(buf));
                None
            }
            (Some(_), None) => None,
        };
        let why = why.unwrap_or_default();
        let region = self.geometry().region_of(read.chunk);
        let last = self.entries.get(&region).map_or(Seq(0), |entry| entry.last);
        let msg = Msg::CopyReply { epoch: read.epoch, copy: read.copy, last, why, buf };
        out.push(StoreAction::Send(Party::Member(read.to), msg));
    }

    /// The client compares this chunk among the legs: nothing is in flight there.
    pub(super) fn on_check(
        &mut self,
        to: Party,
        (epoch, tag): (Epoch, Tag),
        chunk: ChunkNo,
        out: &mut Vec<StoreAction>,
    ) {
        let refusal = match self.accepts(epoch) {
            Err(status) => Some(status),
            Ok(()) if chunk.0 >= self.geometry().chunks() => Some(IoStatus::DiskError),
            Ok(()) if self.is_dirty(chunk) => Some(IoStatus::NotClean),
            Ok(()) if self.sources.checks.iter().flatten().count() >= CHECKS_MAX => Some(IoStatus::NotClean),
            Ok(()) => None,
        };
        if let Some(status) = refusal {
            out.push(StoreAction::Send(to, Msg::Checked { epoch, tag, status, crc: 0 }));
            return;
        }
        let slot = put(&mut self.sources.checks, Some(Check { to, epoch, tag, chunk }));
        let range = self.chunk_range(chunk);
        out.push(StoreAction::Checksum { op: DiskOp::Check(slot as u32), range });
    }

    /// The disk's checksum; `None` = it could not be read.
    pub(super) fn on_checksum(&mut self, now: Now, slot: u32, crc: Option<u32>, out: &mut Vec<StoreAction>) {
        let Some(check) = self.sources.checks.get_mut(slot as usize).and_then(Option::take) else { return };
        let status = match (self.accepts(check.epoch), crc) {
            (Err(status), _) => status,
            (Ok(()), _) if self.is_dirty(check.chunk) => IoStatus::NotClean,
            (Ok(()), None) => IoStatus::DiskError,
            (Ok(()), Some(_)) => IoStatus::Done,
        };
        if crc.is_none() {
            self.note_unreadable(now, self.chunk_range(check.chunk));
        }
        let crc = crc.unwrap_or(0);
        let msg = Msg::Checked { epoch: check.epoch, tag: check.tag, status, crc };
        out.push(StoreAction::Send(check.to, msg));
    }

    pub(super) fn on_cleared(
        &mut self,
        peer: MemberId,
        epoch: Epoch,
        region: RegionNo,
        chunks: ChunkBits,
        out: &mut Vec<StoreAction>,
    ) {
        let current = self.accepts(epoch).is_ok() && self.meta.ram.record.set.has(peer);
        if !current && !Mutant::ClearFromAnyEpoch.on() {
            return;
        }
        if region.0 >= self.geometry().regions() || self.sources.acks.len() >= ACKS_MAX {
            return;
        }
        if !self.meta.ram.missed(region, peer).and(chunks).is_empty() {
            let missed = &mut self.meta.misses_mut(region).missed[peer.index()];
            *missed = missed.minus(chunks);
            self.changed(region);
        }
        let commit = self.meta.want();
        if self.meta.done(commit) {
            out.push(StoreAction::Send(Party::Member(peer), Msg::ClearedAck { epoch, region, chunks }));
        } else {
            self.sources.acks.push((peer, epoch, region, chunks, commit));
        }
    }

    /// News that have become durable are acknowledged.
    pub(super) fn send_acks(&mut self, out: &mut Vec<StoreAction>) {
        let meta = &self.meta;
        self.sources.acks.retain(|(peer, epoch, region, chunks, commit)| {
            let done = meta.done(*commit);
            if done {
                let msg = Msg::ClearedAck { epoch: *epoch, region: *region, chunks: *chunks };
                out.push(StoreAction::Send(Party::Member(*peer), msg));
            }
            !done
        });
    }
}
