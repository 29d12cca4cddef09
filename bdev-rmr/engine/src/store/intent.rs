//! Intent entries: durable before a write into their region, cleared when nothing can depend on them.

use super::Store;
use super::meta::CommitNo;
use crate::Now;
use crate::mutant::Mutant;
use rmr_proto::{BlockRange, ChunkBits, MemberSet, RegionNo, Seq};
use std::collections::{BTreeMap, BTreeSet};

/// This many times the soft bound on live entries, and writes that need another wait a little.
const FAR_OVER: usize = 4;
/// Entries looked at for clearing each time another is made: more than one, so that their number goes down.
const PER_NEW_ENTRY: usize = 8;

/// A live entry. While it lives the region is suspect at a start, and missed by every member outside the set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Entry {
    /// Chunks written since the entry was made; the whole region if an earlier opener made it.
    pub(super) written: ChunkBits,
    /// Chunks written since this epoch was adopted: who is outside the set has missed them, whoever holds them clean.
    pub(super) since: ChunkBits,
    /// Chunks copied from a peer since the entry was made: with what the peer had, a write may have come along that
    /// nobody else has. Says nothing of others: for all that is known, the peer has the same.
    copied: ChunkBits,
    /// Last write into the region, executed here or copied along.
    pub(super) last: Seq,
    /// Requests that wait for the entry or execute.
    pub(super) users: u32,
    /// Durable with this commit.
    commit: CommitNo,
    used_at: Now,
    /// Its key in [`Uses`]: not later than `used_at`.
    queued_at: Now,
}

impl Entry {
    /// An entry read from disk.
    pub(super) fn found(all: ChunkBits) -> Self {
        Self { written: all, ..Self::new(0, 0) }
    }

    fn new(commit: CommitNo, now: Now) -> Self {
        let none = ChunkBits::NONE;
        let (used_at, queued_at) = (now, now);
        Self { written: none, since: none, copied: none, last: Seq(0), users: 0, commit, used_at, queued_at }
    }

    /// Chunks that may differ here from what others hold.
    pub(super) fn touched(&self) -> ChunkBits {
        self.written.or(self.copied)
    }
}

/// Entries in the order of their last use, brought up to date when looked at and not when used: a write to a live
/// region does not touch it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Uses {
    order: BTreeSet<(Now, RegionNo)>,
    /// There were too many; the least recently used go until there are half as many as may be.
    shrinking: bool,
    /// The least recently used cannot go before a flush.
    blocked: bool,
}

impl Uses {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn of(entries: &BTreeMap<RegionNo, Entry>) -> Self {
        Self { order: entries.iter().map(|(r, e)| (e.queued_at, *r)).collect(), ..Self::default() }
    }
}

impl Store {
    /// Makes sure that every region of `range` has an entry, wanted or durable; the commit to wait for comes back.
    pub(super) fn enter(&mut self, now: Now, range: BlockRange) -> CommitNo {
        let mut wait = 0;
        for region in self.regions_of(range) {
            if !self.entries.contains_key(&region) {
                self.meta.set_intent(region, true);
                self.entries.insert(region, Entry::new(self.meta.want(), now));
                self.uses.order.insert((now, region));
                self.clear_entries(now, PER_NEW_ENTRY);
            }
            if let Some(entry) = self.entries.get_mut(&region) {
                entry.users += 1;
                entry.used_at = now;
                wait = wait.max(entry.commit);
            }
        }
        wait
    }

    /// The request leaves its regions.
    pub(super) fn leave(&mut self, range: BlockRange) {
        for region in self.regions_of(range) {
            if let Some(entry) = self.entries.get_mut(&region) {
                entry.users -= 1;
            }
        }
    }

    /// Notes in RAM what a write is about to touch.
    pub(super) fn note_write(&mut self, range: BlockRange, seq: Seq) {
        for region in self.regions_of(range) {
            let bits = self.geometry().bits_of(region, range);
            let Some(entry) = self.entries.get_mut(&region) else { continue };
            entry.last = entry.last.max(seq);
            entry.written = entry.written.or(bits);
            if !bits.minus(entry.since).is_empty() {
                entry.since = entry.since.or(bits);
                self.changed(region);
            }
        }
    }

    /// Notes in RAM that a chunk is about to be copied here, with writes up to `last` in it.
    pub(super) fn note_copy(&mut self, range: BlockRange, last: Seq) {
        for region in self.regions_of(range) {
            let bits = self.geometry().bits_of(region, range);
            let Some(entry) = self.entries.get_mut(&region) else { continue };
            entry.last = entry.last.max(last);
            entry.copied = entry.copied.or(bits);
        }
    }

    pub(super) fn regions_of(&self, range: BlockRange) -> impl Iterator<Item = RegionNo> + use<> {
        let (first, last) = self.geometry().chunks_of(range);
        (self.geometry().region_of(first).0..=self.geometry().region_of(last).0).map(RegionNo)
    }

    /// What the entry of `region` proves that everybody outside the set of this epoch missed.
    pub(super) fn outsiders_missed(&self, region: RegionNo) -> ChunkBits {
        self.entries.get(&region).map_or(ChunkBits::NONE, |entry| entry.since)
    }

    /// What it proves against a member that leaves the set now: chunks written, but for those this store missed itself,
    /// for which the leaver may be the one that holds them.
    fn leavers_missed(&self, region: RegionNo) -> ChunkBits {
        let Some(entry) = self.entries.get(&region) else { return ChunkBits::NONE };
        if Mutant::EntryAgainstClean.on() {
            return self.geometry().all_of(region);
        }
        let me = self.member();
        entry.written.minus(self.meta.ram.unclean(region, me)).minus(self.meta.durable.unclean(region, me))
    }

    /// The set changes: turns what every live entry says into marks against who was outside and who leaves; the entries
    /// stay.
    pub(super) fn settle_entries(&mut self, outside: MemberSet, leaving: MemberSet) {
        let regions: Vec<_> = self.entries.keys().copied().collect();
        for region in regions {
            if !Mutant::OnlyLeaversMarked.on() {
                self.mark_region(region, outside, self.outsiders_missed(region));
            }
            self.mark_region(region, leaving, self.leavers_missed(region));
            if let Some(entry) = self.entries.get_mut(&region) {
                entry.since = ChunkBits::NONE;
            }
        }
    }

    fn mark_region(&mut self, region: RegionNo, outsiders: MemberSet, missed: ChunkBits) {
        for member in outsiders.iter() {
            if self.meta.add_missed(region, member, missed) {
                self.changed(region);
            }
        }
    }

    /// Live entries beyond the bound, and writes wait for a flush of the client: it is asked for one in time, at three
    /// quarters of the bound.
    pub(super) fn pressure(&self) -> bool {
        self.uses.blocked
    }

    /// So many live entries that a write which needs another should wait a little.
    pub(super) fn is_far_over(&self) -> bool {
        self.entries.len() >= FAR_OVER * self.config.intents_soft_max.max(1)
    }

    /// Has every region of `range` an entry?
    pub(super) fn has_entries(&self, range: BlockRange) -> bool {
        self.regions_of(range).all(|region| self.entries.contains_key(&region))
    }

    /// The client has flushed more: what could not go may go now.
    pub(super) fn flushed_further(&mut self) {
        self.uses.blocked = false;
    }

    /// Clears entries that are not in use and flushed everywhere, in the order of their last use: those idle for long,
    /// and, if there are too many, others until half the bound is left. Looks at no more than `most`. What they say of
    /// outsiders becomes marks in the same commit.
    pub(super) fn clear_entries(&mut self, now: Now, most: usize) {
        if self.service != super::Service::Serving || self.fence.is_some() {
            return;
        }
        let soft = self.config.intents_soft_max;
        self.uses.shrinking |= self.entries.len() > soft - soft / 4;
        self.uses.blocked = false;
        let horizon = if Mutant::ClearUnflushed.on() { self.answered } else { self.flushed };
        let mut at = (0, RegionNo(0));
        for _ in 0..most {
            self.uses.shrinking &= self.entries.len() > soft / 2;
            let Some(key) = self.uses.order.range(at..).next().copied() else { return };
            let Some(entry) = self.entries.get_mut(&key.1) else { return };
            if entry.used_at > key.0 {
                entry.queued_at = entry.used_at;
                self.uses.order.remove(&key);
                self.uses.order.insert((entry.used_at, key.1));
                continue;
            }
            if !self.uses.shrinking && now < key.0 + self.config.intent_idle_ns {
                return;
            }
            if entry.last > horizon {
                // Those used later were written later: they cannot go either.
                self.uses.blocked = self.uses.shrinking;
                return;
            }
            if entry.users == 0 && self.meta.done(entry.commit) {
                self.clear_entry(key);
            }
            at = (key.0, RegionNo(key.1.0 + 1));
        }
    }

    fn clear_entry(&mut self, key: (Now, RegionNo)) {
        let region = key.1;
        let outsiders = self.meta.ram.record.members.minus(self.meta.ram.record.set);
        if !Mutant::ClearWithoutMarks.on() {
            self.mark_region(region, outsiders, self.outsiders_missed(region));
        }
        self.uses.order.remove(&key);
        self.entries.remove(&region);
        self.meta.set_intent(region, false);
    }

    /// Removes all entries: their meaning has been written elsewhere in the same commit.
    pub(super) fn drop_entries(&mut self) {
        self.uses = Uses::default();
        for region in std::mem::take(&mut self.entries).into_keys() {
            self.meta.set_intent(region, false);
        }
    }
}
