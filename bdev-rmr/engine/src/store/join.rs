//! Handing the maps over to a member that comes back: the joiner pulls, the members of the set answer.

use super::meta::CommitNo;
use super::{Service, Store};
use crate::mutant::Mutant;
use crate::{Now, Party, StoreAction};
use rmr_proto::{
    ChunkBits, Epoch, MEMBERS_MAX, MapSlice, MemberId, MemberSet, Msg, RegionMisses, RegionNo, Stamp,
};

/// How long a donor calls nothing clean after it was asked for its last word, in times of `peer_timeout_ns`. Letting the
/// joiner in takes a few round trips; if it took longer, the proposal is refused and the joiner comes again.
const QUIET_TIMEOUTS: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Donor {
    done: bool,
    /// The donor's count when it cut the first slice: what changed later is fetched under the freeze.
    first_at: Option<u64>,
    since: u64,
    cursor: RegionNo,
    asked_at: Now,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// Until it is durable that what this store says of others is void.
    Voiding(CommitNo),
    Pulling,
    Committing(CommitNo),
    Ready,
}

/// A joiner's side of a join.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Joining {
    epoch: Epoch,
    set: MemberSet,
    attempt: u64,
    last: bool,
    client: Party,
    stage: Stage,
    /// A donor said that this disk has missed everything, and it is marked so.
    everything: bool,
    donors: [Donor; MEMBERS_MAX],
}

impl Store {
    /// Where a join stands at the joiner, in words.
    pub fn joining_name(&self) -> &'static str {
        match self.joining.as_ref().map(|joining| (joining.stage, joining.last)) {
            None => "not joining",
            Some((Stage::Voiding(_), _)) => "gives its own account of others up",
            Some((Stage::Pulling, false)) => "pulls maps",
            Some((Stage::Committing(_), false)) => "commits maps",
            Some((Stage::Ready, false)) => "has maps",
            Some((Stage::Pulling, true)) => "pulls changes",
            Some((Stage::Committing(_), true)) => "commits changes",
            Some((Stage::Ready, true)) => "ready",
        }
    }

    /// The client asks this outsider to fetch maps.
    pub(super) fn on_join(
        &mut self,
        now: Now,
        from: Party,
        (epoch, set, attempt, last, anew): (Epoch, MemberSet, u64, bool, bool),
        out: &mut Vec<StoreAction>,
    ) {
        let record = &self.meta.ram.record;
        let ours = record.promise == epoch.promise && self.promised_here && record.adopted < epoch;
        if !ours || self.fence.is_some() || set.has(self.member()) || set.is_empty() {
            return;
        }
        if self.service == Service::Serving {
            // It was left out and did not know: it stops, drains and flushes before it learns what it missed.
            self.promise_again(from, out);
            return;
        }
        match &mut self.joining {
            Some(joining) if joining.attempt == attempt && joining.epoch == epoch && joining.last == last => {
            }
            Some(joining) if joining.attempt == attempt && joining.epoch == epoch && last => {
                if joining.stage != Stage::Ready {
                    return;
                }
                joining.last = true;
                joining.stage = Stage::Pulling;
                for donor in &mut joining.donors {
                    let since = donor.first_at.unwrap_or(0);
                    *donor = Donor { since, done: Mutant::NoDelta.on(), ..Donor::default() };
                }
            }
            _ if last => return,
            _ => {
                self.start_joining(from, epoch, set, attempt);
                if anew {
                    self.miss_everything();
                }
            }
        }
        self.step_join(now, out);
        self.answer_join(out);
    }

    /// What an outsider says of others is void: it learns anew. But as long as it is not let in it may be started by
    /// force as it was, so first it says, durably, that it does not know any more what others missed.
    fn start_joining(&mut self, client: Party, epoch: Epoch, set: MemberSet, attempt: u64) {
        let stage = if self.regions_of_others().is_empty() || self.meta.durable.record.learning {
            self.forget_others();
            Stage::Pulling
        } else {
            self.meta.ram.record.learning = true;
            self.meta.touch_record();
            Stage::Voiding(self.meta.want())
        };
        let donors = [Donor::default(); MEMBERS_MAX];
        self.joining =
            Some(Joining { epoch, set, attempt, last: false, client, stage, everything: false, donors });
    }

    /// Regions of which this store says that others missed something.
    fn regions_of_others(&self) -> Vec<RegionNo> {
        let others = MemberSet(u8::MAX).without(self.member());
        let said = |m: &RegionMisses| others.iter().any(|member| !m.missed[member.index()].is_empty());
        let all = self.meta.ram.misses.iter();
        all.filter(|(_, m)| said(m) || Mutant::JoinerForgetsOwn.on()).map(|(region, _)| *region).collect()
    }

    fn forget_others(&mut self) {
        let me = self.member();
        for region in self.regions_of_others() {
            let misses = self.meta.misses_mut(region);
            let own = misses.missed[me.index()];
            misses.missed = [ChunkBits::NONE; MEMBERS_MAX];
            misses.missed[me.index()] = own;
            if Mutant::JoinerForgetsOwn.on() {
                *misses = RegionMisses { region, ..RegionMisses::default() };
            }
        }
    }

    /// Asks donors that owe a slice, again if they are late; commits when all have given theirs.
    pub(super) fn step_join(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        let (stamp, timeout) = (self.stamp(), self.config.peer_timeout_ns);
        let Some(joining) = &mut self.joining else { return };
        if joining.stage != Stage::Pulling {
            return;
        }
        let (epoch, attempt, set) = (joining.epoch, joining.attempt, joining.set);
        let mut all = true;
        for member in set.iter() {
            let donor = &mut joining.donors[member.index()];
            all &= donor.done;
            if donor.done || (donor.asked_at != 0 && now < donor.asked_at + timeout) {
                continue;
            }
            donor.asked_at = now.max(1);
            let (since, cursor) = (donor.since, donor.cursor);
            let msg =
                Msg::MapPull { epoch, attempt: attempt << 1 | u64::from(joining.last), stamp, since, cursor };
            out.push(StoreAction::Send(Party::Member(member), msg));
        }
        if all {
            self.meta.touch_record();
            joining.stage = Stage::Committing(self.meta.want());
        }
    }

    pub(super) fn join_committed(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        let Some(joining) = &mut self.joining else { return };
        if matches!(joining.stage, Stage::Voiding(commit) if self.meta.done(commit)) {
            joining.stage = Stage::Pulling;
            self.forget_others();
            self.step_join(now, out);
        } else if matches!(joining.stage, Stage::Committing(commit) if self.meta.done(commit)) {
            joining.stage = Stage::Ready;
            self.answer_join(out);
        }
    }

    fn answer_join(&self, out: &mut Vec<StoreAction>) {
        let Some(joining) = self.joining.as_ref().filter(|j| j.stage == Stage::Ready) else { return };
        let (epoch, attempt, last) = (joining.epoch, joining.attempt, joining.last);
        let msg = Msg::JoinReady { epoch, attempt, last, stamp: self.stamp() };
        out.push(StoreAction::Send(joining.client, msg));
    }

    /// Has this joiner the maps of `base`, with the delta under the freeze?
    pub(super) fn join_ready(&self, base: Epoch) -> bool {
        self.joining.as_ref().is_some_and(|j| j.epoch == base && j.last && j.stage == Stage::Ready)
    }

    /// Chunks of `region` that every donor missed.
    pub(super) fn missed_by_all_donors(&self, region: RegionNo) -> ChunkBits {
        let Some(joining) = &self.joining else { return ChunkBits::NONE };
        let all = self.geometry().all_of(region);
        joining.set.iter().fold(all, |bits, donor| bits.and(self.meta.ram.missed(region, donor)))
    }

    /// Is the disk of `member` another one than was known, or older?
    pub(super) fn is_other_disk(&self, member: MemberId, stamp: Stamp) -> bool {
        let known = self.meta.ram.record.peers[member.index()];
        let older = stamp.counter < known.counter && !Mutant::BelieveOldImage.on();
        known.incarnation != stamp.incarnation || older
    }

    /// A joiner asks for a slice of the maps.
    pub(super) fn on_pull(
        &mut self,
        now: Now,
        from: Party,
        (epoch, attempt): (Epoch, u64),
        stamp: Stamp,
        (since, cursor): (u64, RegionNo),
        out: &mut Vec<StoreAction>,
    ) {
        let Party::Member(joiner) = from else { return };
        if self.accepts(epoch).is_err() || self.meta.ram.record.set.has(joiner) {
            return;
        }
        // Marked now and not only when it is let in: IO goes on meanwhile, and these marks are many.
        if since == 0 && cursor == RegionNo(0) {
            self.mark_if_other_disk(joiner, stamp);
        }
        if attempt & 1 == 1 {
            // The last word before the joiner is let in: what is called clean after it would not reach the joiner.
            self.quiet_until = now + QUIET_TIMEOUTS * self.config.peer_timeout_ns;
            let Some(clears) = self.copies.clears() else { return };
            // The first counts: the joiner may have taken that one, and not what it asked for again.
            if self.last_word.is_none_or(|(to, asked, _)| (to, asked) != (joiner, attempt)) {
                self.last_word = Some((joiner, attempt, clears));
            }
        }
        let mut regions = self.regions_to_tell(since, cursor);
        let next = regions.get(self.config.slice_regions).copied();
        regions.truncate(self.config.slice_regions);
        let slice = MapSlice {
            epoch,
            attempt,
            at: self.change,
            cursor,
            next,
            all_missed: self.is_other_disk(joiner, stamp),
            regions: regions.into_iter().map(|region| self.told_to(joiner, region)).collect(),
        };
        out.push(StoreAction::Send(from, Msg::MapSlice(Box::new(slice))));
    }

    /// Regions from `cursor` on that a joiner has to know of, one more than fits in a slice: so all slices together walk
    /// the maps once. With `since`, only those that changed after it.
    fn regions_to_tell(&self, since: u64, cursor: RegionNo) -> Vec<RegionNo> {
        let most = self.config.slice_regions + 1;
        let changed = self.changes.range(cursor..);
        if since != 0 {
            return changed.filter(|(_, at)| **at > since).map(|(region, _)| *region).take(most).collect();
        }
        let mut maps = self.meta.ram.misses.range(cursor..).map(|(region, _)| *region).peekable();
        let mut entries = self.entries.range(cursor..).map(|(region, _)| *region).peekable();
        let mut changed = changed.map(|(region, _)| *region).peekable();
        let mut found = Vec::new();
        while found.len() < most {
            let heads = [maps.peek(), entries.peek(), changed.peek()];
            let Some(first) = heads.into_iter().flatten().min().copied() else { break };
            maps.next_if_eq(&first);
            entries.next_if_eq(&first);
            changed.next_if_eq(&first);
            found.push(first);
        }
        found
    }

    /// What this member of the set says of `region`: its own state, and what outsiders missed.
    fn told_to(&self, joiner: MemberId, region: RegionNo) -> RegionMisses {
        let mut misses = self.meta.ram.misses.get(&region).copied().unwrap_or_default();
        misses.region = region;
        let me = self.member();
        // Not what is suspect here: that is this store's own affair, and may be the only copy there is.
        misses.missed[me.index()] = self.meta.ram.missed(region, me).or(self.meta.durable.missed(region, me));
        misses.settle(misses.suspect);
        let record = &self.meta.ram.record;
        let entry = self.outsiders_missed(region);
        for outsider in record.members.minus(record.set).with(joiner).iter() {
            let missed = &mut misses.missed[outsider.index()];
            *missed = missed.or(entry);
        }
        misses
    }

    /// A donor's slice arrived.
    pub(super) fn on_slice(
        &mut self,
        now: Now,
        donor: MemberId,
        slice: &MapSlice,
        out: &mut Vec<StoreAction>,
    ) {
        let Some(joining) = &mut self.joining else { return };
        let mine = joining.epoch == slice.epoch
            && slice.attempt == (joining.attempt << 1 | u64::from(joining.last))
            && joining.set.has(donor)
            && joining.stage == Stage::Pulling;
        let state = &mut joining.donors[donor.index()];
        if !mine || state.done || state.cursor != slice.cursor {
            return;
        }
        if !joining.last {
            state.first_at.get_or_insert(slice.at);
        }
        state.asked_at = 0;
        match slice.next {
            Some(next) => state.cursor = next,
            None => state.done = true,
        }
        let set = joining.set;
        let everything = slice.all_missed && !std::mem::replace(&mut joining.everything, slice.all_missed);
        for misses in &slice.regions {
            self.learn(donor, set, misses);
        }
        if everything {
            self.miss_everything();
        }
        self.step_join(now, out);
    }

    fn miss_everything(&mut self) {
        let me = self.member();
        let room = self.superblock.room();
        for region in (0..room.regions()).map(RegionNo) {
            self.meta.add_missed(region, me, room.all_of(region));
        }
    }

    /// Own misses only grow; a member of the set speaks for itself; of outsiders, all that any donor says holds.
    fn learn(&mut self, donor: MemberId, set: MemberSet, told: &RegionMisses) {
        let me = self.member();
        // The device may have grown while this member was away: it learns of all that it has room for.
        let room = self.superblock.room();
        if told.region.0 >= room.regions() {
            return;
        }
        let all = room.all_of(told.region);
        for member in MemberSet(u8::MAX).iter() {
            let bits = told.missed[member.index()].and(all);
            if member == donor {
                if self.meta.ram.missed(told.region, member) != bits {
                    self.meta.misses_mut(told.region).missed[member.index()] = bits;
                }
            } else if member == me || !set.has(member) {
                self.meta.add_missed(told.region, member, bits);
            }
        }
    }
}
