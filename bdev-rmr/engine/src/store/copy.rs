//! Resync: this store fetches chunks from members of the same epoch that hold them: those that it missed, those that its
//! disk cannot read, those that a scrub found to differ.
//!
//! ```text
//!   missed       Horizon ─▶ Reading ─▶ Entering ─▶ Writing ─▶ Flushing ─▶ Telling ─▶ Clearing ─▶ clean
//!   unreadable   Horizon ─▶ Reading ─▶ Entering ─▶ Writing ─▶ Flushing ─▶ over: it was clean all the time
//!   stale        Horizon ─▶ Marking, then as missed
//!   overwritten                                               Flushing ─▶ Telling ─▶ Clearing ─▶ clean
//! ```
//! An unreadable chunk is not marked: what it holds is right wherever it can be read, what comes from the peer is the same,
//! and should the peer be lost the rest of the chunk must still be served. A stale one is marked, durably, but only after
//! every write it executed was answered by all legs: a mark says that others hold what this leg does not.

use super::meta::CommitNo;
use super::pace::Pace;
use super::{Service, Store};
use crate::mutant::Mutant;
use crate::{DiskOp, Now, Party, StoreAction};
use rmr_proto::{
    BlockRange, BufId, ChunkBits, ChunkNo, Continuity, Epoch, MemberId, MemberSet, Msg, NoCopy, RegionNo,
    Seq, Tag,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most chunks remembered as unreadable; more are found again by the next read.
pub(super) const UNREADABLE_MAX: usize = 256;
/// Most chunks that wait, each for its own time, after they could not be copied.
const LATER_MAX: usize = 1024;
/// So often a chunk that cannot be read is asked for in vain; then only the next failed read makes it be asked for again.
const REWRITES_MAX: u32 = 8;
/// Longest such wait, in times of `peer_timeout_ns`.
const LATER_LONGEST: u64 = 8;
/// Most chunks remembered that a request waits for.
const PREFERRED_MAX: usize = 16;

/// Why a chunk is copied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Why {
    /// Missed or suspect here.
    Missed,
    /// Clean here, and the disk cannot read all of it.
    Unreadable,
    /// Clean here, and the client says that it differs from what others hold; told when that is durable.
    Stale(Party, Tag),
    /// A write covered all of it: nothing to be copied, only to be called clean.
    Overwritten,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step {
    /// Until every write executed here on the chunk was answered by all legs.
    Horizon(Seq),
    /// Until the mark is durable.
    Marking(CommitNo),
    /// A peer reads.
    Reading(MemberId),
    /// The bytes are here; until the entry of the region is durable. They may hold a write that no other leg has, and
    /// then the chunk has to be suspect like any that is written.
    Entering(CommitNo, BufId),
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
pub(super) struct Copy {
    pub(super) chunk: ChunkNo,
    pub(super) why: Why,
    pub(super) step: Step,
    pub(super) tried: MemberSet,
    /// Of these, those that have said that it is not clean with them, or that they cannot read it.
    pub(super) without: MemberSet,
    pub(super) since: Now,
    pub(super) began: Now,
    /// Uses the entry of its region.
    pub(super) entered: bool,
}

/// Copies under way, and which come next.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Copies {
    pub(super) active: BTreeMap<u64, Copy>,
    next_id: u64,
    cursor: ChunkNo,
    preferred: VecDeque<ChunkNo>,
    pub(super) unreadable: BTreeSet<ChunkNo>,
    /// Not before then, and how often in a row it failed.
    later: BTreeMap<ChunkNo, (Now, u32)>,
    not_before: Now,
    pub(super) pace: Pace,
    /// A suspect chunk that no member of the set had clean when it was last asked for.
    stuck: Option<ChunkNo>,
    /// Chunks that this store has called clean, ever.
    clears: u64,
}

impl Copies {
    pub(super) fn new(limits: crate::ResyncLimits) -> Self {
        Self { pace: Pace::new(limits), ..Self::default() }
    }

    /// Chunks called clean so far; `None` while one of them is not durable.
    pub(super) fn clears(&self) -> Option<u64> {
        let clearing = self.active.values().any(|copy| matches!(copy.step, Step::Clearing(_)));
        (!clearing).then_some(self.clears)
    }

    /// Is `chunk` being copied?
    pub(super) fn has(&self, chunk: ChunkNo) -> bool {
        self.active.values().any(|copy| copy.chunk == chunk)
    }

    pub(super) fn under_way(&self) -> usize {
        self.active.len()
    }

    /// Must a write to `chunk` wait? Not one that the copy itself waits for: it would be for ever.
    pub(super) fn locks(&self, chunk: ChunkNo, seq: Seq) -> bool {
        let older = |copy: &Copy| matches!(copy.step, Step::Horizon(last) if seq <= last);
        self.active.values().any(|copy| copy.chunk == chunk && !older(copy))
    }

    /// A request waits for `chunk`.
    pub(super) fn prefer(&mut self, chunk: ChunkNo) {
        if self.preferred.len() < PREFERRED_MAX && !self.preferred.contains(&chunk) {
            self.preferred.push_back(chunk);
        }
    }

    pub(super) fn is_later(&self, now: Now, chunk: ChunkNo) -> bool {
        self.later.get(&chunk).is_some_and(|(at, _)| now < *at)
    }

    /// Copies that move data, which is what is limited.
    fn moving(&self) -> usize {
        self.active.values().filter(|copy| copy.why != Why::Overwritten).count()
    }

    /// Chunks that could not be copied when it was last tried.
    pub(super) fn waiting(&self) -> usize {
        self.later.len()
    }

    pub(super) fn new_epoch(&mut self) {
        self.later.clear();
        self.unreadable.clear();
        self.stuck = None;
    }
}

impl Store {
    /// The epoch ends: copies go. What the disk still has of them is waited for by the fence.
    pub(super) fn cancel_copies(&mut self, out: &mut Vec<StoreAction>) {
        for copy in std::mem::take(&mut self.copies.active).into_values() {
            if let Step::Entering(_, buf) = copy.step {
                out.push(StoreAction::Release(buf));
            }
            if copy.entered {
                self.leave(self.chunk_range(copy.chunk));
            }
        }
    }

    /// Steps at which copies to this store stand, in words.
    pub fn copy_names(&self) -> impl Iterator<Item = &'static str> {
        self.copies.active.values().map(|copy| match copy.step {
            Step::Horizon(_) => "waits for answers",
            Step::Marking(_) => "marks",
            Step::Reading(_) => "a peer reads",
            Step::Entering(..) => "waits for its entry",
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
        while self.copies.moving() < self.copies.pace.depth(now, self.config.resync_depth)
            && now >= self.copies.not_before
            && self.copies.pace.may_start(now)
        {
            let Some((chunk, why)) = self.next_copy(now) else { return };
            self.copies.pace.started(now, self.chunk_bytes(chunk), self.config.tick_ns);
            self.start_copy(now, chunk, why, out);
        }
    }

    pub(super) fn start_copy(&mut self, now: Now, chunk: ChunkNo, why: Why, out: &mut Vec<StoreAction>) {
        self.copies.next_id += 1;
        let id = self.copies.next_id;
        let last = self.entries.get(&self.geometry().region_of(chunk)).map_or(Seq(0), |entry| entry.last);
        let step = if why == Why::Overwritten { Step::Flushing } else { Step::Horizon(last) };
        let (tried, without) = (MemberSet::EMPTY, MemberSet::EMPTY);
        let copy = Copy { chunk, why, step, tried, without, since: now, began: now, entered: false };
        self.copies.active.insert(id, copy);
        if why == Why::Overwritten {
            out.push(StoreAction::Flush { op: DiskOp::CopyFlush(id) });
        }
        self.step_copy(now, id, out);
    }

    /// What comes next: what cannot be read, what a request waits for, then in order of place.
    fn next_copy(&mut self, now: Now) -> Option<(ChunkNo, Why)> {
        let copies = &self.copies;
        let unreadable = copies.unreadable.iter().copied().find(|chunk| !copies.is_later(now, *chunk));
        if let Some(chunk) = unreadable {
            self.copies.unreadable.remove(&chunk);
            if !self.is_dirty(chunk) && !self.copies.has(chunk) {
                return Some((chunk, Why::Unreadable));
            }
        }
        self.next_dirty(now).map(|chunk| (chunk, Why::Missed))
    }

    fn next_dirty(&mut self, now: Now) -> Option<ChunkNo> {
        while let Some(chunk) = self.copies.preferred.pop_front() {
            if self.is_dirty(chunk) && !self.copies.has(chunk) && !self.copies.is_later(now, chunk) {
                return Some(chunk);
            }
        }
        if self.dirty_chunks() == 0 {
            return None; // Spares the walk over what others have missed.
        }
        let geometry = *self.geometry();
        let me = self.member();
        let from = self.copies.cursor;
        let region = geometry.region_of(from);
        let in_region = |(region, misses): (&RegionNo, &rmr_proto::RegionMisses)| {
            let dirty = misses.missed[me.index()].or(misses.suspect);
            let mut chunks = dirty.iter().map(|index| geometry.chunk_at(*region, index));
            chunks.find(|chunk| {
                *chunk >= from && !self.copies.has(*chunk) && !self.copies.is_later(now, *chunk)
            })
        };
        let found = self.meta.ram.misses.range(region..).find_map(in_region);
        self.copies.cursor = found.map_or(ChunkNo(0), |chunk| ChunkNo(chunk.0 + 1));
        found
    }

    pub(super) fn is_dirty(&self, chunk: ChunkNo) -> bool {
        let (region, index) = (self.geometry().region_of(chunk), self.geometry().index_in_region(chunk));
        let me = self.member();
        self.meta.ram.unclean(region, me).has(index) || self.meta.durable.unclean(region, me).has(index)
    }

    /// Is a chunk suspect here, clean nowhere in the set, and missed by everybody else? A write may have made it clean
    /// since; and if it was missed after that, it is a missed chunk like any other.
    pub(super) fn is_stuck(&self) -> bool {
        let record = &self.meta.ram.record;
        self.copies.stuck.is_some_and(|chunk| {
            let (region, index) = (self.geometry().region_of(chunk), self.geometry().index_in_region(chunk));
            let missed = |m: MemberId| self.meta.ram.missed(region, m).has(index);
            let suspect = self.meta.ram.misses.get(&region).is_some_and(|m| m.suspect.has(index));
            let dirty = suspect || self.is_dirty(chunk) && Mutant::StuckForGood.on();
            dirty && record.members.minus(record.set).iter().all(missed)
        })
    }

    fn step_copy(&mut self, now: Now, id: u64, out: &mut Vec<StoreAction>) {
        let Some(copy) = self.copies.active.get(&id) else { return };
        let late = now > copy.since + self.config.peer_timeout_ns;
        match copy.step {
            Step::Horizon(last) if last <= self.answered || Mutant::NoHorizon.on() => {
                if matches!(copy.why, Why::Stale(..)) {
                    self.mark_stale(id, out)
                } else {
                    self.ask_source(now, id, out)
                }
            }
            Step::Horizon(last) if matches!(copy.why, Why::Stale(..)) && Mutant::MarkBeforeHorizon.on() => {
                let _ = last;
                self.mark_stale(id, out);
            }
            Step::Horizon(_) if late && !matches!(copy.why, Why::Stale(..)) => {
                self.end_copy(now, id, false, out)
            }
            Step::Reading(_) if late => self.ask_source(now, id, out),
            Step::Telling(left) if left.is_empty() || late => self.tell(now, id, left, out),
            _ => {}
        }
    }

    /// Asks the next member of the set that was not asked yet, those not known to miss the chunk first.
    pub(super) fn ask_source(&mut self, now: Now, id: u64, out: &mut Vec<StoreAction>) {
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
            // Who has not answered, or is not in this epoch yet, may well have it.
            let nowhere = copy.without == copy.tried || Mutant::SilenceIsUnclean.on();
            self.copies.stuck = if suspect && nowhere { Some(chunk) } else { self.copies.stuck };
            self.end_copy(now, id, false, out);
            return;
        };
        copy.tried = copy.tried.with(peer);
        copy.since = now;
        copy.step = Step::Reading(peer);
        let msg = Msg::CopyRead { epoch: record.adopted, copy: id, chunk };
        out.push(StoreAction::Send(Party::Member(peer), msg));
    }

    fn chunk_bytes(&self, chunk: ChunkNo) -> u64 {
        u64::from(self.chunk_range(chunk).count) << self.geometry().block_shift()
    }

    pub(super) fn chunk_range(&self, chunk: ChunkNo) -> BlockRange {
        self.geometry().chunk_range(chunk)
    }

    pub(super) fn on_copy_reply(
        &mut self,
        now: Now,
        peer: MemberId,
        (epoch, id, last): (Epoch, u64, Seq),
        answer: Result<BufId, NoCopy>,
        out: &mut Vec<StoreAction>,
    ) {
        let current = self.accepts(epoch).is_ok();
        let copy = self.copies.active.get_mut(&id).filter(|copy| current && copy.step == Step::Reading(peer));
        let Some(copy) = copy else {
            out.extend(answer.ok().map(StoreAction::Release));
            return;
        };
        let buf = match answer {
            Ok(buf) => buf,
            Err(why) => {
                self.copies.pace.sources_failed += u64::from(why == NoCopy::Unreadable);
                if why != NoCopy::NotNow {
                    copy.without = copy.without.with(peer);
                }
                self.ask_source(now, id, out);
                return;
            }
        };
        let chunk = copy.chunk;
        let range = self.chunk_range(chunk);
        let commit = if Mutant::CopyWithoutEntry.on() { 0 } else { self.enter(now, range) };
        self.note_copy(range, last);
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        copy.step = Step::Entering(commit, buf);
        copy.entered = !Mutant::CopyWithoutEntry.on();
        if self.meta.done(commit) {
            self.write_copy(id, out);
        }
    }

    fn write_copy(&mut self, id: u64, out: &mut Vec<StoreAction>) {
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        let Step::Entering(_, buf) = copy.step else { return };
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

    pub(super) fn on_copy_written(&mut self, now: Now, id: u64, ok: bool, out: &mut Vec<StoreAction>) {
        self.on_disk -= 1;
        if !ok {
            self.fail_disk(false);
        }
        self.leave_copy(id);
        let Some(copy) = self.copies.active.get_mut(&id).filter(|_| ok) else { return };
        copy.step = Step::Flushing;
        if Mutant::ClearBeforeFlush.on() {
            self.on_copy_flushed(now, id, true, out);
        } else {
            out.push(StoreAction::Flush { op: DiskOp::CopyFlush(id) });
        }
    }

    /// The copy's write is over: the entry of its region is its business no more.
    fn leave_copy(&mut self, id: u64) {
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        let (chunk, entered) = (copy.chunk, std::mem::take(&mut copy.entered));
        if entered {
            self.leave(self.chunk_range(chunk));
        }
    }

    pub(super) fn on_copy_flushed(&mut self, now: Now, id: u64, ok: bool, out: &mut Vec<StoreAction>) {
        if !ok {
            self.fail_disk(true);
            return;
        }
        if self.continuity != Continuity::Unbroken {
            return; // A flush failed meanwhile: this one may have succeeded with the data gone.
        }
        if self.copies.active.get(&id).is_some_and(|copy| copy.why == Why::Unreadable) {
            self.copies.pace.rewritten += 1;
            self.end_copy(now, id, true, out);
            return;
        }
        let peers = self.meta.ram.record.set.without(self.member());
        self.tell(now, id, peers, out);
    }

    /// Tells peers that the chunk is durable here; when nobody is left to be told, clears it, unless a joiner is being let
    /// in with what was said before.
    fn tell(&mut self, now: Now, id: u64, left: MemberSet, out: &mut Vec<StoreAction>) {
        let epoch = self.meta.ram.record.adopted;
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        let quiet = now < self.quiet_until;
        if (left.is_empty() || Mutant::ClearUntold.on()) && !quiet {
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
        now: Now,
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
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        copy.step = Step::Telling(left);
        self.step_copy(now, id, out);
    }

    fn clear(&mut self, id: u64, out: &mut Vec<StoreAction>) {
        let me = self.member();
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        let chunk = copy.chunk;
        let bit = ChunkBits::bit(self.superblock.geometry.index_in_region(chunk));
        let region = self.superblock.geometry.region_of(chunk);
        let misses = self.meta.misses_mut(region);
        misses.missed[me.index()] = misses.missed[me.index()].minus(bit);
        misses.settle(bit);
        self.meta.ram.record.decided = self.meta.ram.record.adopted;
        self.meta.touch_record();
        copy.step = Step::Clearing(self.meta.want());
        self.copies.clears += 1;
        self.changed(region);
        self.meta.pump(out);
    }

    pub(super) fn copies_committed(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        if self.service != Service::Serving {
            return; // The fence that ends this epoch cancels them.
        }
        let ids: Vec<u64> = self.copies.active.keys().copied().collect();
        for id in ids {
            match self.copies.active.get(&id).map(|copy| &copy.step) {
                Some(Step::Clearing(commit)) if self.meta.done(*commit) => self.end_copy(now, id, true, out),
                Some(Step::Marking(commit)) if self.meta.done(*commit) => self.marked(now, id, out),
                Some(Step::Entering(commit, _)) if self.meta.done(*commit) => self.write_copy(id, out),
                _ => {}
            }
        }
    }

    /// Nobody could deliver it now: longer each time, and others are tried meanwhile.
    fn try_later(&mut self, now: Now, chunk: ChunkNo) -> u32 {
        let timeout = self.config.peer_timeout_ns;
        let times = self.copies.later.get(&chunk).map_or(0, |(_, times)| *times);
        let pause = timeout * (1 << times.min(LATER_LONGEST.trailing_zeros()));
        if times > 0 || self.copies.later.len() < LATER_MAX {
            self.copies.later.insert(chunk, (now + pause, times + 1));
            self.copies.not_before = now + self.config.tick_ns;
        } else {
            self.copies.not_before = now + timeout;
        }
        times + 1
    }

    /// Ends a copy: the lock falls, the waiters go on.
    fn end_copy(&mut self, now: Now, id: u64, clean: bool, out: &mut Vec<StoreAction>) {
        let Some(copy) = self.copies.active.remove(&id) else { return };
        let bytes = self.chunk_bytes(copy.chunk);
        if clean {
            self.changed(self.geometry().region_of(copy.chunk));
            self.copies.later.remove(&copy.chunk);
            if copy.why == Why::Overwritten {
                self.copies.pace.overwritten_bytes += bytes;
            } else {
                self.copies.pace.copied(now, copy.began, bytes);
            }
        } else {
            let times = self.try_later(now, copy.chunk);
            if copy.why == Why::Unreadable && times < REWRITES_MAX {
                self.copies.unreadable.insert(copy.chunk);
            }
        }
        self.wake_copy(now, copy.chunk, out);
    }
}
