//! The long lists of an assembly, piece by piece: suspect regions from every member, who missed what of them, and the
//! verdicts to every member. No message is long, whatever the size of the device.

use super::{Client, ClientAction, Phase};
use crate::event::Now;
use crate::mutant::Mutant;
use rmr_proto::{Epoch, MEMBERS_MAX, MemberId, Msg, Promise, RegionMisses, RegionNo, Report, SuspectRegion};

/// How far it has come.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Gather {
    /// Regions asked about now.
    batch: Vec<RegionNo>,
    /// What each member of the set being started said of exactly these.
    said: [Option<Vec<RegionMisses>>; MEMBERS_MAX],
    /// Verdicts so far, in parts.
    parts: Vec<Vec<RegionMisses>>,
    /// Parts that each member has acknowledged.
    acked: [usize; MEMBERS_MAX],
}

impl Client {
    /// Asks for what is missing: first more suspects, then who missed what of the next regions; proposes when all is
    /// known.
    pub(super) fn gather(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let mut more = false;
        for member in self.assembly.start.iter() {
            let Some(cursor) = self.report(member).and_then(|report| report.next) else { continue };
            if Mutant::FirstPieceOnly.on() {
                continue;
            }
            more = true;
            out.push(ClientAction::Send(member, Msg::SuspectPull { promise: self.promise, cursor }));
        }
        if more {
            return;
        }
        if self.assembly.gather.batch.is_empty() {
            self.assembly.gather.batch = self.next_batch(RegionNo(0));
        }
        if self.assembly.gather.batch.is_empty() {
            self.propose_start(now, out);
        } else {
            self.query(out);
        }
    }

    pub(super) fn on_suspects(
        &mut self,
        now: Now,
        from: MemberId,
        promise: Promise,
        (cursor, next): (RegionNo, Option<RegionNo>),
        suspects: Vec<SuspectRegion>,
        out: &mut Vec<ClientAction>,
    ) {
        let waiting = self.phase == Phase::Assembling && self.assembly.proposal.is_none();
        let regions = self.geometry.regions();
        let ends = next.map_or(regions, |next| next.0.min(regions));
        let here = suspects.iter().all(|s| (cursor.0..ends).contains(&s.region.0));
        let sound = here && is_ascending(&suspects) && next.is_none_or(|next| next > cursor);
        if promise != self.promise || !waiting || !sound {
            return;
        }
        let started = self.assembly.start.has(from);
        let asked = |report: &&mut Report| report.next == Some(cursor) && started;
        let report = self.assembly.reports[from.index()].as_mut();
        let Some(report) = report.filter(asked) else { return };
        report.suspects.extend(suspects);
        report.next = next;
        self.assembly.since = now;
        if let Some(cursor) = next {
            out.push(ClientAction::Send(from, Msg::SuspectPull { promise, cursor }));
        } else if self.assembly.start.iter().all(|m| self.report(m).is_some_and(|r| r.next.is_none())) {
            self.gather(now, out);
        }
    }

    fn verdicts(&mut self, batch: &[RegionNo]) -> Vec<RegionMisses> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for region in batch {
            let mut verdict = self.verdict(*region, &self.entries_of(*region));
            if self.assembly.forced {
                self.assembly.given_up.chunks += self.decide_lost(&mut verdict);
            }
            verdicts.push(verdict);
        }
        // By force every region was asked about; of most there is nothing to say.
        verdicts.retain(|verdict| !self.assembly.forced || !verdict.is_empty());
        verdicts
    }

    /// The next regions that a start depends on, from `cursor` on: where something is suspect on a member of the set being
    /// started; by force all.
    fn next_batch(&self, cursor: RegionNo) -> Vec<RegionNo> {
        if self.assembly.forced {
            let end = self.geometry.regions().min(cursor.0.saturating_add(self.config.batch_regions as u64));
            return (cursor.0..end).map(RegionNo).collect();
        }
        let lists = self.assembly.start.iter().filter_map(|member| self.report(member));
        let mut rest: Vec<&[SuspectRegion]> = lists
            .map(|report| &report.suspects[report.suspects.partition_point(|s| s.region < cursor)..])
            .collect();
        let mut batch = Vec::new();
        while batch.len() < self.config.batch_regions {
            let heads = rest.iter().filter_map(|list| list.first()).map(|suspect| suspect.region);
            let Some(region) = heads.min() else { break };
            batch.push(region);
            for list in &mut rest {
                if list.first().is_some_and(|suspect| suspect.region == region) {
                    *list = &list[1..];
                }
            }
        }
        batch
    }

    fn query(&self, out: &mut Vec<ClientAction>) {
        let gather = &self.assembly.gather;
        for member in self.assembly.start.iter().filter(|m| gather.said[m.index()].is_none()) {
            let msg = Msg::Query { promise: self.promise, regions: gather.batch.clone() };
            out.push(ClientAction::Send(member, msg));
        }
    }

    pub(super) fn on_query_reply(
        &mut self,
        now: Now,
        from: MemberId,
        promise: Promise,
        misses: Vec<RegionMisses>,
        out: &mut Vec<ClientAction>,
    ) {
        let waiting = self.phase == Phase::Assembling && self.assembly.proposal.is_none();
        let gather = &mut self.assembly.gather;
        // An answer of an earlier batch that comes late is of other regions.
        let asked =
            !gather.batch.is_empty() && misses.iter().map(|m| m.region).eq(gather.batch.iter().copied());
        let asked = asked || Mutant::AnyBatch.on();
        if promise != self.promise || !waiting || !self.assembly.start.has(from) || !asked {
            return;
        }
        gather.said[from.index()] = Some(misses);
        if !self.assembly.start.iter().all(|m| gather.said[m.index()].is_some()) {
            return;
        }
        let batch = std::mem::take(&mut gather.batch);
        let verdicts = self.verdicts(&batch);
        let gather = &mut self.assembly.gather;
        if !verdicts.is_empty() {
            gather.parts.push(verdicts);
        }
        gather.said = Default::default();
        self.assembly.since = now;
        let after = batch.last().map_or(RegionNo(0), |last| RegionNo(last.0 + 1));
        let next = self.next_batch(after);
        if next.is_empty() {
            self.propose_start(now, out);
        } else {
            self.assembly.gather.batch = next;
            self.query(out);
        }
    }

    /// What the members' live entries say of a region.
    fn entries_of(&self, region: RegionNo) -> [SuspectRegion; MEMBERS_MAX] {
        let mut entries = [SuspectRegion::default(); MEMBERS_MAX];
        for member in self.assembly.start.iter() {
            let Some(report) = self.report(member) else { continue };
            if let Ok(at) = report.suspects.binary_search_by_key(&region, |suspect| suspect.region) {
                entries[member.index()] = report.suspects[at];
            }
        }
        entries
    }

    pub(super) fn own_misses(&self, member: MemberId, region: RegionNo) -> RegionMisses {
        let said = self.assembly.gather.said[member.index()].as_ref();
        let at = |said: &Vec<RegionMisses>| said.binary_search_by_key(&region, |misses| misses.region).ok();
        said.and_then(|said| at(said).map(|at| said[at])).unwrap_or_default()
    }

    /// The verdicts, if all fit into the proposal; else none, and how many parts go ahead of it.
    pub(super) fn verdicts_to_propose(&mut self) -> (Vec<RegionMisses>, u32) {
        let parts = &mut self.assembly.gather.parts;
        if parts.len() > 1 { (Vec::new(), parts.len() as u32) } else { (parts.pop().unwrap_or_default(), 0) }
    }

    /// Verdicts that do not fit into the proposal.
    pub(super) fn verdicts_ahead(&self) -> impl Iterator<Item = &RegionMisses> {
        self.assembly.gather.parts.iter().flatten()
    }

    /// The next part of the verdicts for `member`; `None` when it has them all.
    pub(super) fn next_part(&self, member: MemberId, epoch: Epoch) -> Option<Msg> {
        let part = self.assembly.gather.acked[member.index()];
        let verdicts = self.assembly.gather.parts.get(part)?.clone();
        Some(Msg::Verdicts { epoch, part: part as u32, verdicts })
    }

    pub(super) fn on_verdicts_ack(
        &mut self,
        now: Now,
        from: MemberId,
        epoch: Epoch,
        part: u32,
        out: &mut Vec<ClientAction>,
    ) {
        let ours = self.assembly.proposal.as_ref().is_some_and(|p| p.epoch == epoch && p.set.has(from));
        let acked = &mut self.assembly.gather.acked[from.index()];
        if self.phase != Phase::Assembling || !ours || part as usize != *acked {
            return;
        }
        *acked += 1;
        self.assembly.since = now;
        self.send_start_to(from, out);
    }
}

/// Strictly ascending by region?
pub(super) fn is_ascending(suspects: &[SuspectRegion]) -> bool {
    suspects.is_sorted_by(|a, b| a.region < b.region)
}
