//! Resync: this store fetches chunks that it missed from members of the same epoch that hold them.

use super::meta::CommitNo;
use super::{Service, Store};
use crate::mutant::Mutant;
use crate::{DiskOp, Now, Party, StoreAction};
use rmr_proto::{
    BlockRange, BufId, ChunkBits, ChunkNo, Continuity, Epoch, MemberId, MemberSet, Msg, RegionNo, Seq,
};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// Until every write executed here on the chunk was answered by all legs.
    Horizon(Seq),
    /// A peer reads.
    Reading(MemberId),
    /// The disk writes.
    Writing,
    /// The disk makes it durable.
    Flushing,
    /// Members of the set that have not yet said, durably, that this store holds the chunk. It calls itself clean last:
    /// else a peer that missed the news would, once this store has left, count the only good copy as stale.
    Telling(MemberSet),
    /// The clear becomes durable.
    Clearing(CommitNo),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Copy {
    chunk: ChunkNo,
    step: Step,
    tried: MemberSet,
    since: Now,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct SourceRead {
    to: MemberId,
    epoch: Epoch,
    copy: u64,
    chunk: ChunkNo,
}

/// Copies under way, and what peers have still to be told.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Copies {
    active: BTreeMap<u64, Copy>,
    next_id: u64,
    cursor: ChunkNo,
    preferred: Option<ChunkNo>,
    started_at: Now,
    not_before: Now,
    sources: Vec<Option<SourceRead>>,
    /// No member of the set had some suspect chunk clean.
    stuck: bool,
    /// Chunks that this store has called clean, ever.
    clears: u64,
    /// Peers to be told that their news is durable here, with the commit that makes it so.
    acks: Vec<(MemberId, Epoch, RegionNo, ChunkBits, CommitNo)>,
}

impl Copies {
    /// Chunks called clean so far; `None` while one of them is not durable.
    pub(super) fn clears(&self) -> Option<u64> {
        let clearing = self.active.values().any(|copy| matches!(copy.step, Step::Clearing(_)));
        (!clearing).then_some(self.clears)
    }

    /// Is `chunk` being copied?
    pub(super) fn locks(&self, chunk: ChunkNo) -> bool {
        self.active.values().any(|copy| copy.chunk == chunk)
    }

    pub(super) fn under_way(&self) -> usize {
        self.active.len()
    }

    /// A reader waits for `chunk`.
    pub(super) fn prefer(&mut self, chunk: ChunkNo) {
        self.preferred = Some(chunk);
    }

    /// The epoch ends: copies go. What the disk still has of them is waited for by the fence.
    pub(super) fn cancel_all(&mut self) {
        self.active.clear();
    }

    pub(super) fn new_epoch(&mut self) {
        self.active.clear();
        self.acks.clear();
        self.stuck = false;
    }

    /// Is a chunk suspect here and clean nowhere in the set?
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }
}

impl Store {
    /// Steps at which copies to this store stand, in words.
    pub fn copy_names(&self) -> impl Iterator<Item = &'static str> {
        self.copies.active.values().map(|copy| match copy.step {
            Step::Horizon(_) => "waits for answers",
            Step::Reading(_) => "a peer reads",
            Step::Writing => "writes",
            Step::Flushing => "flushes",
            Step::Telling(_) => "tells",
            Step::Clearing(_) => "clears",
        })
    }

    pub(super) fn step_copies(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        if self.service != Service::Serving || self.fence.is_some() {
            return;
        }
        let ids: Vec<u64> = self.copies.active.keys().copied().collect();
        for id in ids {
            self.step_copy(now, id, out);
        }
        while self.copies.active.len() < self.config.resync_depth
            && now >= self.copies.not_before
            && (self.copies.started_at == 0 || now >= self.copies.started_at + self.config.resync_gap_ns)
        {
            let Some(chunk) = self.next_dirty() else { return };
            self.copies.started_at = now;
            self.copies.next_id += 1;
            let id = self.copies.next_id;
            let last = self.entries.get(&self.geometry().region_of(chunk)).map_or(Seq(0), |entry| entry.last);
            let step = Step::Horizon(last);
            self.copies.active.insert(id, Copy { chunk, step, tried: MemberSet::EMPTY, since: now });
            self.step_copy(now, id, out);
        }
    }

    fn next_dirty(&mut self) -> Option<ChunkNo> {
        if let Some(chunk) = self.copies.preferred.take()
            && self.is_dirty(chunk)
            && !self.copies.locks(chunk)
        {
            return Some(chunk);
        }
        let geometry = *self.geometry();
        let me = self.member();
        let from = self.copies.cursor;
        let region = geometry.region_of(from);
        let in_region = |(region, misses): (&RegionNo, &rmr_proto::RegionMisses)| {
            let dirty = misses.missed[me.index()].or(misses.suspect);
            let mut chunks = dirty.iter().map(|index| geometry.chunk_at(*region, index));
            chunks.find(|chunk| *chunk >= from && !self.copies.locks(*chunk))
        };
        let found = self.meta.ram.misses.range(region..).find_map(in_region);
        self.copies.cursor = found.map_or(ChunkNo(0), |chunk| ChunkNo(chunk.0 + 1));
        found
    }

    fn is_dirty(&self, chunk: ChunkNo) -> bool {
        let (region, index) = (self.geometry().region_of(chunk), self.geometry().index_in_region(chunk));
        let me = self.member();
        self.meta.ram.unclean(region, me).has(index) || self.meta.durable.unclean(region, me).has(index)
    }

    fn step_copy(&mut self, now: Now, id: u64, out: &mut Vec<StoreAction>) {
        let Some(copy) = self.copies.active.get(&id) else { return };
        let late = now > copy.since + self.config.peer_timeout_ns;
        match copy.step {
            Step::Horizon(last) if last <= self.answered || Mutant::NoHorizon.on() => {
                self.ask_source(now, id, out)
            }
            Step::Horizon(_) if late => self.end_copy(now, id, false, out),
            Step::Reading(_) if late => self.ask_source(now, id, out),
            Step::Telling(left) if late => self.tell(now, id, left, out),
            _ => {}
        }
    }

    /// Asks the next member of the set that was not asked yet, those not known to miss the chunk first.
    fn ask_source(&mut self, now: Now, id: u64, out: &mut Vec<StoreAction>) {
        let record = self.meta.ram.record;
        let me = self.member();
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        let chunk = copy.chunk;
        let (region, index) =
            (self.superblock.geometry.region_of(chunk), self.superblock.geometry.index_in_region(chunk));
        let left = record.set.without(me).minus(copy.tried);
        let clean = |m: &MemberId| !self.meta.ram.missed(region, *m).has(index);
        let Some(peer) = left.iter().find(clean).or_else(|| left.iter().next()) else {
            let suspect = self.meta.ram.misses.get(&region).is_some_and(|m| m.suspect.has(index));
            self.copies.stuck |= suspect;
            self.end_copy(now, id, false, out);
            return;
        };
        copy.tried = copy.tried.with(peer);
        copy.since = now;
        copy.step = Step::Reading(peer);
        let msg = Msg::CopyRead { epoch: record.adopted, copy: id, chunk };
        out.push(StoreAction::Send(Party::Member(peer), msg));
    }

    /// A peer wants a chunk: only if it is clean here, in the same epoch.
    pub(super) fn on_copy_read(
        &mut self,
        to: MemberId,
        epoch: Epoch,
        copy: u64,
        chunk: ChunkNo,
        out: &mut Vec<StoreAction>,
    ) {
        let bad = chunk.0 >= self.geometry().chunks();
        let dirty = !bad && self.is_dirty(chunk) && !Mutant::DirtySource.on();
        if bad || dirty || self.accepts(epoch).is_err() {
            out.push(StoreAction::Send(Party::Member(to), Msg::CopyReply { epoch, copy, buf: None }));
            return;
        }
        let read = Some(SourceRead { to, epoch, copy, chunk });
        let slot = self.copies.sources.iter().position(Option::is_none).unwrap_or(self.copies.sources.len());
        if slot == self.copies.sources.len() {
            self.copies.sources.push(read);
        } else {
            self.copies.sources[slot] = read;
        }
        let range = self.chunk_range(chunk);
        out.push(StoreAction::Read { op: DiskOp::Source(slot as u32), range });
    }

    fn chunk_range(&self, chunk: ChunkNo) -> BlockRange {
        self.geometry().chunk_range(chunk)
    }

    pub(super) fn on_source_read(
        &mut self,
        slot: u32,
        ok: bool,
        buf: Option<BufId>,
        out: &mut Vec<StoreAction>,
    ) {
        let Some(read) = self.copies.sources.get_mut(slot as usize).and_then(Option::take) else { return };
        let good = ok
            && self.accepts(read.epoch).is_ok()
            && (!self.is_dirty(read.chunk) || Mutant::DirtySource.on());
        let buf = match (good, buf) {
            (true, buf) => buf,
            (false, Some(buf)) => {
                out.push(StoreAction::Release(buf));
                None
            }
            (false, None) => None,
        };
        let msg = Msg::CopyReply { epoch: read.epoch, copy: read.copy, buf };
        out.push(StoreAction::Send(Party::Member(read.to), msg));
    }

    pub(super) fn on_copy_reply(
        &mut self,
        now: Now,
        peer: MemberId,
        epoch: Epoch,
        id: u64,
        buf: Option<BufId>,
        out: &mut Vec<StoreAction>,
    ) {
        let current = self.accepts(epoch).is_ok();
        let copy = self.copies.active.get_mut(&id).filter(|copy| current && copy.step == Step::Reading(peer));
        let Some(copy) = copy else {
            if let Some(buf) = buf {
                out.push(StoreAction::Release(buf));
            }
            return;
        };
        let Some(buf) = buf else {
            self.ask_source(now, id, out);
            return;
        };
        copy.step = Step::Writing;
        let chunk = copy.chunk;
        self.on_disk += 1;
        let mut range = self.chunk_range(chunk);
        if Mutant::NoClamp.on() {
            range.count = 1 << self.geometry().chunk_shift();
        }
        out.push(StoreAction::Write {
            op: DiskOp::Copy(id),
            range,
            buf: Some(buf),
            fua: false,
            unmap: false,
        });
    }

    pub(super) fn on_copy_written(&mut self, id: u64, ok: bool, out: &mut Vec<StoreAction>) {
        self.on_disk -= 1;
        if !ok {
            self.fail_disk(false);
        }
        let Some(copy) = self.copies.active.get_mut(&id).filter(|_| ok) else { return };
        copy.step = Step::Flushing;
        if Mutant::ClearBeforeFlush.on() {
            self.on_copy_flushed(id, true, out);
        } else {
            out.push(StoreAction::Flush { op: DiskOp::CopyFlush(id) });
        }
    }

    pub(super) fn on_copy_flushed(&mut self, id: u64, ok: bool, out: &mut Vec<StoreAction>) {
        if !ok {
            self.fail_disk(true);
            return;
        }
        if self.continuity != Continuity::Unbroken {
            return; // A flush failed meanwhile: this one may have succeeded with the data gone.
        }
        let peers = self.meta.ram.record.set.without(self.member());
        self.tell(0, id, peers, out);
    }

    /// Tells peers that the chunk is durable here; when nobody is left to be told, clears it.
    fn tell(&mut self, now: Now, id: u64, left: MemberSet, out: &mut Vec<StoreAction>) {
        let epoch = self.meta.ram.record.adopted;
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        if left.is_empty() || Mutant::ClearUntold.on() {
            self.clear(id, out);
            return;
        }
        copy.step = Step::Telling(left);
        copy.since = copy.since.max(now);
        let region = self.superblock.geometry.region_of(copy.chunk);
        let chunks = ChunkBits::bit(self.superblock.geometry.index_in_region(copy.chunk));
        for member in left.iter() {
            out.push(StoreAction::Send(Party::Member(member), Msg::Cleared { epoch, region, chunks }));
        }
    }

    pub(super) fn on_cleared_ack(
        &mut self,
        peer: MemberId,
        epoch: Epoch,
        region: RegionNo,
        chunks: ChunkBits,
        out: &mut Vec<StoreAction>,
    ) {
        if self.accepts(epoch).is_err() {
            return;
        }
        let geometry = self.superblock.geometry;
        let told = |copy: &Copy| {
            geometry.region_of(copy.chunk) == region && chunks.has(geometry.index_in_region(copy.chunk))
        };
        let found = self.copies.active.iter().find_map(|(id, copy)| match copy.step {
            Step::Telling(left) if told(copy) => Some((*id, left.without(peer))),
            _ => None,
        });
        let Some((id, left)) = found else { return };
        if left.is_empty() {
            self.clear(id, out);
        } else if let Some(copy) = self.copies.active.get_mut(&id) {
            copy.step = Step::Telling(left);
        }
    }

    fn clear(&mut self, id: u64, out: &mut Vec<StoreAction>) {
        let me = self.member();
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        let chunk = copy.chunk;
        let bit = ChunkBits::bit(self.superblock.geometry.index_in_region(chunk));
        let region = self.superblock.geometry.region_of(chunk);
        let misses = self.meta.misses_mut(region);
        misses.missed[me.index()] = misses.missed[me.index()].minus(bit);
        misses.suspect = misses.suspect.minus(bit);
        copy.step = Step::Clearing(self.meta.want());
        self.copies.clears += 1;
        self.changed(region);
        self.meta.pump(out);
    }

    pub(super) fn copies_committed(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        self.send_acks(out);
        let meta = &self.meta;
        let done = |copy: &Copy| matches!(copy.step, Step::Clearing(commit) if meta.done(commit));
        let ids: Vec<u64> = self.copies.active.iter().filter(|(_, c)| done(c)).map(|(id, _)| *id).collect();
        for id in ids {
            self.end_copy(now, id, true, out);
        }
    }

    /// Ends a copy: the lock falls, the waiters go on.
    fn end_copy(&mut self, now: Now, id: u64, clean: bool, out: &mut Vec<StoreAction>) {
        let Some(copy) = self.copies.active.remove(&id) else { return };
        if clean {
            self.changed(self.geometry().region_of(copy.chunk));
        } else {
            self.copies.not_before = now + self.config.peer_timeout_ns;
        }
        self.wake_copy(now, copy.chunk, out);
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
        if !self.meta.ram.missed(region, peer).and(chunks).is_empty() {
            let missed = &mut self.meta.misses_mut(region).missed[peer.index()];
            *missed = missed.minus(chunks);
            self.changed(region);
        }
        let commit = self.meta.want();
        if self.meta.done(commit) {
            out.push(StoreAction::Send(Party::Member(peer), Msg::ClearedAck { epoch, region, chunks }));
        } else {
            self.copies.acks.push((peer, epoch, region, chunks, commit));
        }
    }

    /// News that have become durable are acknowledged.
    fn send_acks(&mut self, out: &mut Vec<StoreAction>) {
        let meta = &self.meta;
        self.copies.acks.retain(|(peer, epoch, region, chunks, commit)| {
            let done = meta.done(*commit);
            if done {
                let msg = Msg::ClearedAck { epoch: *epoch, region: *region, chunks: *chunks };
                out.push(StoreAction::Send(Party::Member(*peer), msg));
            }
            !done
        });
    }
}
