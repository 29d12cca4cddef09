//! Promises and adoptions: stop, drain, flush, persist, answer.

use super::meta::CommitNo;
use super::{OutCause, Service, Store};
use crate::mutant::Mutant;
use crate::{DiskOp, Now, Party, StoreAction};
use rmr_proto::{
    ChunkBits, ChunkNo, Continuity, Epoch, MemberId, MemberSet, Msg, Origin, Promise, Proposal, RegionMisses,
    RegionNo, Report, Seq, SuspectRegion,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Goal {
    Promise(Promise),
    Adopt(Box<Proposal>),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// Until the disk has no write of an older epoch.
    Drain,
    /// Until what it has is durable.
    Flush,
    /// Until the record is durable.
    Commit(CommitNo),
}

/// A promise or an adoption being carried out. Nothing is admitted meanwhile.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Fence {
    goal: Goal,
    step: Step,
    from: Party,
}

/// Verdicts that have come ahead of their proposal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Ahead {
    epoch: Epoch,
    parts: u32,
    verdicts: Vec<RegionMisses>,
}

impl Fence {
    /// The promise that will stand when this is done.
    pub(super) fn promise(&self) -> Option<Promise> {
        match &self.goal {
            Goal::Promise(promise) => Some(*promise),
            Goal::Adopt(_) => None,
        }
    }
}

impl Store {
    /// Where a promise or an adoption stands, in words.
    pub fn fence_name(&self) -> &'static str {
        match self.fence.as_ref().map(|fence| (&fence.goal, fence.step)) {
            None => "no fence",
            Some((Goal::Promise(_), Step::Drain)) => "promise, drains",
            Some((Goal::Promise(_), Step::Flush)) => "promise, flushes",
            Some((Goal::Promise(_), Step::Commit(_))) => "promise, commits",
            Some((Goal::Adopt(_), Step::Drain)) => "adoption, drains",
            Some((Goal::Adopt(_), Step::Flush)) => "adoption, flushes",
            Some((Goal::Adopt(_), Step::Commit(_))) => "adoption, commits",
        }
    }

    pub(super) fn on_promise(
        &mut self,
        now: Now,
        from: Party,
        promise: Promise,
        takeover: bool,
        out: &mut Vec<StoreAction>,
    ) {
        let record = &self.meta.ram.record;
        let stands =
            self.fence.as_ref().and_then(Fence::promise).map_or(record.promise, |p| p.max(record.promise));
        let again = promise == record.promise && self.promised_here && self.fence.is_none();
        if again {
            self.send_report(from, out);
            return;
        }
        let newer = if Mutant::PromiseNotStrict.on() {
            promise.generation >= stands.generation
        } else {
            promise > stands || (promise == stands && !self.promised_here)
        };
        let leased = !takeover && now < self.lease_until && promise.nonce != record.promise.nonce;
        if !newer || leased {
            if promise != stands {
                let lease_ns = if newer { self.lease_until - now } else { 0 };
                out.push(StoreAction::Send(from, Msg::Refused { asked: promise, stands, lease_ns }));
            }
            return;
        }
        if matches!(&self.fence, Some(Fence { step: Step::Commit(_), .. })) {
            return; // The client asks again.
        }
        self.client = Some(from);
        self.joining = None;
        self.start_fence(Goal::Promise(promise), from, out);
    }

    /// Leaves the set under the promise that stands.
    pub(super) fn promise_again(&mut self, from: Party, out: &mut Vec<StoreAction>) {
        self.start_fence(Goal::Promise(self.meta.ram.record.promise), from, out);
    }

    fn start_fence(&mut self, goal: Goal, from: Party, out: &mut Vec<StoreAction>) {
        let step = self.fence.as_ref().map_or(Step::Drain, |fence| fence.step);
        self.fence = Some(Fence { goal, step, from });
        self.send_back_waiting(out);
        self.cancel_copies(out);
        self.step_fence(out);
    }

    /// Goes on once the disk is drained.
    pub(super) fn step_fence(&mut self, out: &mut Vec<StoreAction>) {
        let Some(fence) = &mut self.fence else { return };
        if fence.step != Step::Drain || (self.on_disk > 0 && !Mutant::NoDrain.on()) {
            return;
        }
        fence.step = Step::Flush;
        if Mutant::NoFenceFlush.on() {
            self.on_fence_flushed(true, out);
        } else {
            out.push(StoreAction::Flush { op: DiskOp::Fence });
        }
    }

    pub(super) fn on_fence_flushed(&mut self, ok: bool, out: &mut Vec<StoreAction>) {
        if self.fence.as_ref().is_none_or(|fence| fence.step != Step::Flush) {
            return;
        }
        let Some(Fence { goal, from, .. }) = self.fence.take() else { return };
        if !ok && !Mutant::FlushErrorIgnored.on() {
            // Counts as unreachable: no answer. What the cache held may be gone.
            self.fail_disk(true);
            return;
        }
        match &goal {
            Goal::Promise(promise) => {
                if self.service == Service::Serving {
                    self.set_service(Service::Out(OutCause::Promised));
                }
                self.meta.ram.record.promise = *promise;
                self.ahead = Ahead::default();
            }
            Goal::Adopt(proposal) => {
                if !self.may_adopt(proposal) {
                    let epoch = proposal.epoch;
                    out.push(StoreAction::Send(from, Msg::AdoptRefused { epoch }));
                    return;
                }
                self.apply(proposal);
            }
        }
        self.meta.touch_record();
        let step = Step::Commit(self.meta.want());
        self.fence = Some(Fence { goal, step, from });
        self.meta.pump(out);
    }

    pub(super) fn fence_committed(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        let Some(Fence { step: Step::Commit(commit), .. }) = &self.fence else { return };
        if !self.meta.done(*commit) {
            return;
        }
        let Some(fence) = self.fence.take() else { return };
        match fence.goal {
            Goal::Promise(_) => {
                self.promised_here = true;
                if let Service::Out(_) = self.service {
                    self.set_service(Service::Out(OutCause::Promised));
                }
                self.send_report(fence.from, out);
            }
            Goal::Adopt(proposal) => {
                self.set_service(Service::Serving);
                self.lease_until = now + self.config.lease_ns;
                self.send_adopted(fence.from, proposal.epoch, out);
            }
        }
    }

    fn send_adopted(&self, to: Party, epoch: Epoch, out: &mut Vec<StoreAction>) {
        let counter = self.meta.durable.record.counter;
        out.push(StoreAction::Send(to, Msg::Adopted { epoch, counter }));
    }

    /// Suspect regions from `cursor` on, as many as one message may hold, and where the list goes on. It stands still
    /// under a promise.
    fn suspects_from(&self, cursor: RegionNo) -> (Vec<SuspectRegion>, Option<RegionNo>) {
        let mut entries = self.entries.range(cursor..).peekable();
        let suspect = |(_, misses): &(&RegionNo, &RegionMisses)| !misses.suspect.is_empty();
        let mut maps = self.meta.ram.misses.range(cursor..).filter(suspect).peekable();
        let mut found = Vec::new();
        loop {
            let heads = [entries.peek().map(|(r, _)| **r), maps.peek().map(|(r, _)| **r)];
            let Some(region) = heads.into_iter().flatten().min() else { return (found, None) };
            if found.len() == self.config.report_suspects {
                return (found, Some(region));
            }
            let mut one = SuspectRegion { region, ..SuspectRegion::default() };
            if let Some((_, entry)) = entries.next_if(|(r, _)| **r == region) {
                (one.written, one.proved) = (entry.touched(), entry.since);
            }
            if let Some((_, misses)) = maps.next_if(|(r, _)| **r == region) {
                one.written = one.written.or(misses.suspect);
            }
            found.push(one);
        }
    }

    fn report(&self) -> Report {
        let (suspects, next) = self.suspects_from(RegionNo(0));
        Report {
            promise: self.meta.ram.record.promise,
            record: self.meta.ram.record,
            zeroed: self.superblock.zeroed,
            capacity: self.superblock.capacity,
            dirty_chunks: self.dirty_chunks(),
            incarnation: self.superblock.incarnation,
            continuity: self.continuity,
            suspects,
            next,
        }
    }

    fn send_report(&self, to: Party, out: &mut Vec<StoreAction>) {
        out.push(StoreAction::Send(to, Msg::Promised(Box::new(self.report()))));
    }

    pub(super) fn on_suspect_pull(
        &self,
        from: Party,
        promise: Promise,
        cursor: RegionNo,
        out: &mut Vec<StoreAction>,
    ) {
        if self.meta.ram.record.promise == promise && self.promised_here && self.fence.is_none() {
            let (suspects, next) = self.suspects_from(cursor);
            out.push(StoreAction::Send(from, Msg::Suspects { promise, cursor, next, suspects }));
        }
    }

    /// Verdicts that go ahead of the proposal they belong to: kept in RAM, in order, until it comes or another promise
    /// is given. They mean nothing before it names how many there are.
    pub(super) fn on_verdicts(
        &mut self,
        from: Party,
        epoch: Epoch,
        part: u32,
        verdicts: Vec<RegionMisses>,
        out: &mut Vec<StoreAction>,
    ) {
        let record = &self.meta.ram.record;
        let ours = record.promise == epoch.promise && self.promised_here && record.adopted < epoch;
        if !ours || self.fence.is_some() {
            return;
        }
        if self.ahead.epoch != epoch {
            self.ahead = Ahead { epoch, ..Ahead::default() };
        }
        let room = self.ahead.verdicts.len() + verdicts.len() <= self.geometry().regions() as usize;
        if part == self.ahead.parts && room && !verdicts.is_empty() {
            self.ahead.verdicts.extend(verdicts);
            self.ahead.parts += 1;
        }
        // One that was lost is sent again, one that comes twice is not taken twice.
        if part < self.ahead.parts {
            out.push(StoreAction::Send(from, Msg::VerdictsAck { epoch, part }));
        }
    }

    pub(super) fn on_query(
        &mut self,
        from: Party,
        promise: Promise,
        regions: &[RegionNo],
        out: &mut Vec<StoreAction>,
    ) {
        if self.meta.ram.record.promise != promise || !self.promised_here || self.fence.is_some() {
            return;
        }
        let me = self.member();
        let own = |region: &RegionNo| {
            let mut misses = self.meta.ram.misses.get(region).copied().unwrap_or_default();
            misses.region = *region;
            misses.missed[me.index()] = self.meta.ram.missed(*region, me);
            misses.suspect = self.meta.ram.unclean(*region, me).minus(misses.missed[me.index()]);
            misses.lost = misses.lost.or(self.lost_in(*region)).and(misses.suspect);
            misses
        };
        let here = |region: &&RegionNo| region.0 < self.geometry().regions();
        let misses = regions.iter().filter(here).map(own).collect();
        out.push(StoreAction::Send(from, Msg::QueryReply { promise, misses }));
    }

    pub(super) fn on_adopt(
        &mut self,
        now: Now,
        from: Party,
        proposal: Box<Proposal>,
        out: &mut Vec<StoreAction>,
    ) {
        let epoch = proposal.epoch;
        if self.fence.is_none() && self.meta.ram.record.adopted == epoch && self.service == Service::Serving {
            self.send_adopted(from, epoch, out);
            return;
        }
        if let Some(fence) = &self.fence {
            let same = matches!(&fence.goal, Goal::Adopt(p) if p.epoch >= epoch);
            if same || fence.promise().is_some() || matches!(fence.step, Step::Commit(_)) {
                return; // The client asks again.
            }
        }
        if !self.may_adopt(&proposal) {
            out.push(StoreAction::Send(from, Msg::AdoptRefused { epoch }));
            return;
        }
        let _ = now;
        self.start_fence(Goal::Adopt(proposal), from, out);
    }

    /// Rule E: who may adopt what.
    fn may_adopt(&self, proposal: &Proposal) -> bool {
        let record = &self.meta.ram.record;
        let me = self.member();
        let ours = record.promise == proposal.epoch.promise && self.promised_here;
        let ahead = if self.ahead.epoch == proposal.epoch { self.ahead.parts } else { 0 };
        if proposal.blocks == 0
            || proposal.blocks > self.superblock.capacity
            || !is_sound(proposal)
            || !ours
            || ahead != proposal.parts
            || proposal.epoch <= record.adopted
            || !proposal.set.has(me)
        {
            return false;
        }
        if proposal.keeper == Some(me) && self.dirty_chunks() > 0 {
            return false; // Rule L: who leaves may hold the last copy of one of them.
        }
        // A start was settled by what this member reported. If the client means another disk, or this one as it was later,
        // none of that is true here.
        let settled = matches!(proposal.origin, Origin::Create { .. } | Origin::Assembly);
        if settled && proposal.peers[me.index()] != self.stamp() && !Mutant::AnyDisk.on() {
            return false;
        }
        match proposal.origin {
            Origin::Create { .. } => {
                let true_of_this = !proposal.zeroed || self.superblock.zeroed || Mutant::ZeroedByOne.on();
                record.adopted == Epoch::default() && true_of_this
            }
            Origin::Assembly => record.adopted.promise < record.promise,
            Origin::Join { member } if member == me => self.join_ready(proposal.base),
            Origin::Join { member } if !Mutant::StaleLastWord.on() => {
                let holds = |(to, _, then)| to == member && self.copies.clears() == Some(then);
                self.service == Service::Serving && self.last_word.is_some_and(holds)
            }
            Origin::Shrink | Origin::Join { .. } => self.service == Service::Serving,
        }
    }

    /// Puts a proposal into the wanted metadata; one commit makes all of it durable.
    fn apply(&mut self, proposal: &Proposal) {
        let old = self.meta.ram.record.set;
        if matches!(proposal.origin, Origin::Shrink | Origin::Join { .. }) && !Mutant::ShrinkWithoutMarks.on()
        {
            let inside = self.service == Service::Serving;
            // The entries of who was not in the set are void for others.
            let only = |counts: bool, members| if counts { members } else { MemberSet::EMPTY };
            let outside = only(inside, proposal.members.minus(old));
            let leaving = only(inside || Mutant::JoinerSettlesEntries.on(), old.minus(proposal.set));
            self.settle_entries(outside, leaving);
        }
        let old_blocks = self.geometry().blocks();
        if let Ok(geometry) = self.geometry().with_blocks(proposal.blocks) {
            self.superblock.geometry = geometry;
        }
        match proposal.origin {
            Origin::Create { .. } if proposal.zeroed => {}
            Origin::Create { .. } if Mutant::FreshIsClean.on() => {}
            Origin::Create { reference } => self.all_missed_by(proposal.members.without(reference)),
            Origin::Assembly => {
                let ahead = std::mem::take(&mut self.ahead).verdicts;
                if proposal.forced {
                    self.forget_settled(proposal.set, &ahead);
                    self.forget_settled(proposal.set, &proposal.verdicts);
                }
                self.apply_verdicts(&ahead);
                self.apply_verdicts(&proposal.verdicts);
                self.note_lost();
                self.drop_entries();
                if self.meta.ram.record.learning && !Mutant::VoidIsKnown.on() {
                    // Started by force in the middle of a join: what the others missed is not known any more.
                    self.all_missed_by(proposal.members.minus(proposal.set));
                }
                if let Some(reference) = proposal.reference {
                    self.apply_growth(old_blocks, reference);
                }
            }
            Origin::Shrink => {}
            Origin::Join { member } if member == self.member() => self.apply_own_join(),
            Origin::Join { member } => self.mark_if_other_disk(member, proposal.peers[member.index()]),
        }
        let same_generation = self.meta.ram.record.adopted.promise == proposal.epoch.promise;
        if !same_generation {
            (self.answered, self.flushed) = (Seq(0), Seq(0));
        }
        self.forget_beyond();
        (self.last_word, self.quiet_until) = (None, 0);
        self.requests.new_epoch();
        self.copies.new_epoch();
        self.sources.new_epoch();
        self.joining = None;
        let record = &mut self.meta.ram.record;
        record.adopted = proposal.epoch;
        record.base = proposal.base;
        record.origin = proposal.origin;
        record.set = proposal.set;
        record.blocks = proposal.blocks;
        record.members = proposal.members;
        record.resting = proposal.resting;
        record.last_in = proposal.last_in;
        if matches!(proposal.origin, Origin::Assembly | Origin::Create { .. }) {
            record.decided = proposal.epoch;
        }
        record.boot = self.boot;
        record.peers = proposal.peers;
        record.learning = false;
        self.continuity = Continuity::Unbroken;
        self.meta.counts = true;
    }

    fn all_missed_by(&mut self, members: MemberSet) {
        let regions = self.geometry().regions();
        for region in (0..regions).map(RegionNo) {
            let all = self.geometry().all_of(region);
            for member in members.iter() {
                self.meta.add_missed(region, member, all);
            }
            self.changed(region);
        }
    }

    /// A start by force decides chunks that nobody holds: whom it makes the source has not missed them any more.
    fn forget_settled(&mut self, set: MemberSet, verdicts: &[RegionMisses]) {
        let regions = self.geometry().regions();
        for verdict in verdicts.iter().filter(|verdict| verdict.region.0 < regions) {
            for member in set.iter() {
                let stale = self.meta.ram.missed(verdict.region, member).and(verdict.suspect);
                if !stale.is_empty() {
                    let missed = &mut self.meta.misses_mut(verdict.region).missed[member.index()];
                    *missed = missed.minus(stale);
                }
            }
        }
    }

    /// The device is larger than it was: beyond its old end every disk holds something else. In new chunks, and in the
    /// last one if it was cut, only the contents of `reference` count.
    fn apply_growth(&mut self, old_blocks: u64, reference: MemberId) {
        let geometry = *self.geometry();
        if old_blocks >= geometry.blocks() || Mutant::GrowWithoutMarks.on() {
            return;
        }
        let cut =
            !old_blocks.is_multiple_of(1 << geometry.chunk_shift()) && !Mutant::GrowWithoutCutChunk.on();
        let first = ChunkNo(old_blocks.div_ceil(1 << geometry.chunk_shift()) - u64::from(cut));
        if first.0 >= geometry.chunks() {
            return;
        }
        let start = geometry.region_of(first);
        for region in (start.0..geometry.regions()).map(RegionNo) {
            let mut new = geometry.all_of(region);
            if region == start {
                new = new.minus(ChunkBits(ChunkBits::bit(geometry.index_in_region(first)).0 - 1));
            }
            for member in self.meta.ram.record.members.without(reference).iter() {
                self.meta.add_missed(region, member, new);
            }
            self.changed(region);
        }
    }

    /// Marks beyond the end of the device, of a growth that did not come to be: forgotten.
    fn forget_beyond(&mut self) {
        let geometry = *self.geometry();
        let last = RegionNo(geometry.regions() - 1);
        let regions: Vec<RegionNo> = self.meta.ram.misses.range(last..).map(|(region, _)| *region).collect();
        for region in regions {
            let all = geometry.all_of(region);
            let misses = self.meta.ram.misses.get(&region).copied().unwrap_or_default();
            let beyond =
                misses.missed.iter().chain([&misses.suspect]).any(|bits| !bits.minus(all).is_empty());
            if beyond {
                let misses = self.meta.misses_mut(region);
                misses.missed.iter_mut().for_each(|bits| *bits = bits.and(all));
                misses.settle(misses.suspect.minus(all));
            }
        }
    }

    fn apply_verdicts(&mut self, verdicts: &[RegionMisses]) {
        let me = self.member();
        let regions = self.geometry().regions();
        for verdict in verdicts.iter().filter(|verdict| verdict.region.0 < regions) {
            let all = self.geometry().all_of(verdict.region);
            for member in self.meta.ram.record.members.iter() {
                self.meta.add_missed(verdict.region, member, verdict.missed[member.index()].and(all));
            }
            if !self.meta.ram.unclean(verdict.region, me).and(verdict.suspect).is_empty() {
                let misses = self.meta.misses_mut(verdict.region);
                misses.settle(verdict.suspect);
            }
            self.changed(verdict.region);
        }
    }

    /// Marks everything as missed by a joiner whose disk is not the one that was known.
    pub(super) fn mark_if_other_disk(&mut self, member: rmr_proto::MemberId, stamp: rmr_proto::Stamp) {
        if !self.is_other_disk(member, stamp) {
            return;
        }
        for region in (0..self.geometry().regions()).map(RegionNo) {
            let all = self.geometry().all_of(region);
            if self.meta.add_missed(region, member, all) {
                self.changed(region);
            }
        }
    }

    /// The joiner: its own entries become suspect marks; then they go. They stay suspect even where nobody in the set is
    /// clean: who is may be outside.
    fn apply_own_join(&mut self) {
        let regions: Vec<(RegionNo, ChunkBits)> =
            self.entries.iter().map(|(r, e)| (*r, e.touched())).collect();
        for (region, written) in regions {
            let nobody_clean = self.missed_by_all_donors(region);
            let suspect = if Mutant::UnsuspectAtJoin.on() { written.minus(nobody_clean) } else { written };
            if !suspect.is_empty() && !Mutant::JoinerDropsEntries.on() {
                let misses = self.meta.misses_mut(region);
                misses.suspect = misses.suspect.or(suspect);
            }
        }
        self.note_lost();
        self.drop_entries();
    }

    /// Chunks of `region` written or copied to since what was in the cache is known to be durable, if the cache was lost.
    fn lost_in(&self, region: RegionNo) -> ChunkBits {
        let broken = self.continuity == Continuity::Broken;
        self.entries.get(&region).filter(|_| broken).map_or(ChunkBits::NONE, |entry| entry.touched())
    }

    /// The entries are about to go, and with the epoch it is forgotten that the cache was lost: where something is
    /// suspect, that stays with the mark.
    fn note_lost(&mut self) {
        let regions: Vec<RegionNo> = self.entries.keys().copied().collect();
        for region in regions {
            let suspect = self.meta.ram.misses.get(&region).map_or(ChunkBits::NONE, |misses| misses.suspect);
            let lost = self.lost_in(region).and(suspect);
            if !lost.is_empty() {
                let misses = self.meta.misses_mut(region);
                misses.lost = misses.lost.or(lost);
            }
        }
    }
}

/// Do the parts of a proposal fit each other?
fn is_sound(proposal: &Proposal) -> bool {
    let named = match proposal.origin {
        Origin::Create { reference: member } | Origin::Join { member } => proposal.set.has(member),
        _ => true,
    };
    named && proposal.set.within(proposal.members) && proposal.base < proposal.epoch
}
