//! Rule A: putting a new generation together from what the members promise and report.

use super::{Client, ClientAction, Phase};
use crate::event::Now;
use crate::mutant::Mutant;
use rmr_proto::{
    ChunkBits, Epoch, MEMBERS_MAX, MemberId, MemberSet, Msg, Origin, Promise, Proposal, RegionMisses,
    RegionNo, Report, Stamp, SuspectRegion,
};

/// No store can make a client wait longer than this for another's lease, ns.
const LEASE_MAX_NS: Now = 60_000_000_000;

/// What has come in for this generation.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Assembly {
    pub(super) reports: [Option<Report>; MEMBERS_MAX],
    pub(super) start: MemberSet,
    pub(super) gather: super::gather::Gather,
    pub(super) proposal: Option<Box<Proposal>>,
    adopted: MemberSet,
    asked_at: Now,
    /// Since when this stage waits.
    pub(super) since: Now,
    /// Nothing is asked before this.
    not_before: Now,
}

impl Client {
    pub(super) fn on_start(&mut self, now: Now, takeover: bool, out: &mut Vec<ClientAction>) {
        if matches!(self.phase, Phase::Idle | Phase::Fenced) {
            self.held = false;
            self.takeover = takeover;
            self.assemble(now, self.next_generation(), now, out);
        }
    }

    /// Starts a generation. Whatever was under way is settled by it.
    pub(super) fn assemble(
        &mut self,
        now: Now,
        generation: u64,
        not_before: Now,
        out: &mut Vec<ClientAction>,
    ) {
        self.superseded = false;
        self.set_phase(Phase::Assembling);
        self.promise = Promise { generation, nonce: self.nonce };
        self.change = None;
        self.join = None;
        self.assembly = Assembly { since: now, asked_at: now, not_before, ..Assembly::default() };
        if not_before > now {
            self.assembly.asked_at = 0;
            return;
        }
        for member in self.members.iter() {
            self.ask_promise(member, out);
        }
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.promise.generation.saturating_add(1)
    }

    pub(super) fn ask_promise(&self, member: MemberId, out: &mut Vec<ClientAction>) {
        if self.legs[member.index()].up {
            let takeover = self.takeover || self.held;
            out.push(ClientAction::Send(member, Msg::Promise { promise: self.promise, takeover }));
        }
    }

    pub(super) fn on_refused(
        &mut self,
        now: Now,
        from: MemberId,
        asked: Promise,
        stands: Promise,
        lease_ns: Now,
        out: &mut Vec<ClientAction>,
    ) {
        if asked != self.promise {
            return;
        }
        if self.phase == Phase::Assembling {
            if lease_ns > 0 {
                // It asks again then; nobody can make it wait for ever.
                self.assembly.not_before = now + lease_ns.min(LEASE_MAX_NS);
            } else if self.held {
                self.set_phase(Phase::Fenced);
                self.fail_all(out);
            } else {
                // Two clients that start together must not chase each other for ever.
                let pause = (self.nonce.rotate_left(stands.generation as u32)) % (4 * self.config.retry_ns);
                self.assemble(
                    now,
                    stands.generation.max(self.promise.generation).saturating_add(1),
                    now + pause,
                    out,
                );
            }
        } else if self.phase == Phase::Active && !self.set.has(from) && stands > self.promise {
            // An outsider promised more to somebody who never got the set: only a greater generation brings it back.
            self.join = None;
            let pause = self.back_off(now, from);
            if pause >= self.config.rejoin_max_ns / 2 {
                self.assemble(now, stands.generation.saturating_add(1), now, out);
            }
        }
    }

    pub(super) fn on_promised(
        &mut self,
        now: Now,
        from: MemberId,
        report: Report,
        out: &mut Vec<ClientAction>,
    ) {
        if report.promise != self.promise || !self.is_sound(&report) {
            return;
        }
        if self.phase != Phase::Assembling
            || self.assembly.proposal.is_some()
            || !self.assembly.start.is_empty()
        {
            return;
        }
        self.assembly.reports[from.index()] = Some(report);
        self.evaluate(now, out);
    }

    /// Can a store have said this? If not, it counts as not here.
    fn is_sound(&self, report: &Report) -> bool {
        let record = &report.record;
        let fresh = record.adopted == Epoch::default();
        let Ok(geometry) = self.geometry.with_blocks(record.blocks) else { return false };
        let regions = geometry.regions();
        (fresh || !record.set.is_empty())
            && record.set.within(self.members)
            && record.promise == self.promise
            && record.adopted.promise < self.promise
            && report.suspects.iter().all(|suspect| suspect.region.0 < regions)
            && super::gather::is_ascending(&report.suspects)
            && report.next.is_none_or(|next| report.suspects.last().is_some_and(|last| last.region < next))
    }

    pub(super) fn report(&self, member: MemberId) -> Option<&Report> {
        self.assembly.reports[member.index()].as_ref()
    }

    fn reported(&self) -> MemberSet {
        self.members.iter().filter(|m| self.report(*m).is_some()).fold(MemberSet::EMPTY, MemberSet::with)
    }

    /// A disk that is older than what a holder of the newest epoch remembers went back in time: as good as absent.
    fn went_back(&self, member: MemberId, newest: Epoch) -> bool {
        let Some(mine) = self.report(member) else { return true };
        let holders = self.reported().without(member).iter().filter_map(|m| self.report(m));
        let known = holders.filter(|r| r.record.adopted == newest).map(|r| r.record.peers[member.index()]);
        let older =
            |stamp: Stamp| stamp.incarnation != mine.incarnation || stamp.counter > mine.record.counter;
        known.into_iter().any(older) && !Mutant::BelieveOldImage.on()
    }

    /// Is there enough to start from?
    fn evaluate(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let reported = self.reported();
        let records = reported.iter().filter_map(|m| self.report(m)).map(|r| r.record);
        let Some(newest) = records.max_by_key(|record| record.adopted) else { return };
        if let Ok(geometry) = self.geometry.with_blocks(newest.blocks) {
            // The pool knows its size better than whoever configured this client.
            self.geometry = geometry;
        }
        if newest.adopted == Epoch::default() {
            if reported == self.members {
                self.create(now, out);
            }
            return;
        }
        if !newest.set.within(reported) || newest.set.iter().any(|m| self.went_back(m, newest.adopted)) {
            return;
        }
        let holds = |m: &MemberId| self.report(*m).is_some_and(|r| r.record.adopted == newest.adopted);
        let holders = newest.set.iter().filter(holds).fold(MemberSet::EMPTY, MemberSet::with);
        self.assembly.start = start_set(newest.set, holders, newest.origin);
        self.assembly.since = now;
        self.gather(now, out);
    }

    fn create(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let Some(reference) = self.members.iter().next() else { return };
        self.assembly.start = self.members;
        self.propose(now, Origin::Create { reference }, (Vec::new(), 0), out);
    }

    /// Do all members read zero?
    fn all_zeroed(&self) -> bool {
        let zeroed = |member| self.report(member).is_some_and(|report| report.zeroed);
        self.members.iter().all(zeroed) || Mutant::ZeroedByOne.on() && self.members.iter().any(zeroed)
    }

    pub(super) fn propose_start(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let verdicts = self.verdicts_to_propose();
        self.propose(now, Origin::Assembly, verdicts, out);
    }

    /// Settles the suspect chunks of one region: one source each, everybody else in the set missed it; outsiders missed
    /// what the entries of the set say.
    pub(super) fn verdict(&self, region: RegionNo, entries: &[SuspectRegion; MEMBERS_MAX]) -> RegionMisses {
        let mut verdict = RegionMisses { region, ..RegionMisses::default() };
        let start = self.assembly.start;
        let all = entries.iter().fold(ChunkBits::NONE, |bits, entry| bits.or(entry.written));
        for index in all.iter() {
            let Some(source) = self.source(region, index) else { continue };
            verdict.suspect = verdict.suspect.or(ChunkBits::bit(index));
            if Mutant::NoVerdict.on() {
                continue;
            }
            for member in start.without(source).iter() {
                let missed = &mut verdict.missed[member.index()];
                *missed = missed.or(ChunkBits::bit(index));
            }
        }
        let proved = start.iter().fold(ChunkBits::NONE, |bits, m| {
            let own = self.own_misses(m, region);
            let entry = &entries[m.index()];
            bits.or(entry.proved).or(entry.written.minus(own.missed[m.index()].or(own.suspect)))
        });
        for outsider in self.members.minus(start).iter() {
            let said = |bits: ChunkBits, m| bits.or(self.own_misses(m, region).missed[outsider.index()]);
            let missed = start.iter().fold(proved, said);
            verdict.missed[outsider.index()] = if Mutant::NoVerdict.on() { ChunkBits::NONE } else { missed };
        }
        verdict
    }

    /// Who holds the contents of a suspect chunk: not missed before suspect, what lost nothing before what may have, the
    /// lowest id.
    fn source(&self, region: RegionNo, index: u32) -> Option<MemberId> {
        let rank = |member: &MemberId| {
            let own = self.own_misses(*member, region);
            let continuity = self.report(*member).map(|r| r.continuity).unwrap_or_default();
            let continuity = if Mutant::IgnoreContinuity.on() { Default::default() } else { continuity };
            (own.suspect.has(index), continuity, member.index())
        };
        let holds = |m: &MemberId| !self.own_misses(*m, region).missed[m.index()].has(index);
        let source = self.assembly.start.iter().filter(holds).min_by_key(rank)?;
        // Suspect marks outlive a join, so whoever settled the chunk may be outside: only when all are here is a suspect
        // copy as good as any.
        let suspect = self.own_misses(source, region).suspect.has(index);
        (!suspect || self.assembly.start == self.members).then_some(source)
    }

    fn propose(
        &mut self,
        now: Now,
        origin: Origin,
        (verdicts, parts): (Vec<RegionMisses>, u32),
        out: &mut Vec<ClientAction>,
    ) {
        let records = self.reported().iter().filter_map(|m| self.report(m)).map(|r| r.record);
        let base = records.map(|r| r.adopted).max().unwrap_or_default();
        let (blocks, reference) = self.growth(&verdicts, out);
        let proposal = Proposal {
            epoch: Epoch { promise: self.promise, version: 0 },
            origin,
            zeroed: matches!(origin, Origin::Create { .. }) && self.all_zeroed(),
            set: self.assembly.start,
            members: self.members,
            blocks,
            reference,
            base,
            peers: self.stamps_known(),
            verdicts,
            parts,
        };
        self.assembly.proposal = Some(Box::new(proposal));
        self.assembly.since = now;
        self.send_start(out);
    }

    /// For members of the set their own stamp, for the others the newest that a member of the set remembers.
    fn stamps_known(&self) -> [Stamp; MEMBERS_MAX] {
        std::array::from_fn(|index| {
            let member = MemberId::at(index);
            if let Some(report) = self.report(member).filter(|_| self.assembly.start.has(member)) {
                return Stamp { incarnation: report.incarnation, counter: report.record.counter };
            }
            let holders = self.assembly.start.iter().filter_map(|m| self.report(m));
            let known =
                holders.map(|r| (r.record.adopted, r.record.peers[index].counter, r.record.peers[index]));
            known
                .max_by_key(|(adopted, counter, _)| (*adopted, *counter))
                .map(|(_, _, stamp)| stamp)
                .unwrap_or_default()
        })
    }

    fn send_start(&self, out: &mut Vec<ClientAction>) {
        let Some(proposal) = &self.assembly.proposal else { return };
        for member in proposal.set.minus(self.assembly.adopted).iter() {
            self.send_start_to(member, out);
        }
    }

    /// The next part of the verdicts, or the proposal when they are all there.
    pub(super) fn send_start_to(&self, member: MemberId, out: &mut Vec<ClientAction>) {
        let Some(proposal) = &self.assembly.proposal else { return };
        let part = self.next_part(member, proposal.epoch);
        out.push(ClientAction::Send(member, part.unwrap_or_else(|| Msg::Adopt(proposal.clone()))));
    }

    pub(super) fn start_adopted(
        &mut self,
        now: Now,
        from: MemberId,
        epoch: Epoch,
        out: &mut Vec<ClientAction>,
    ) {
        let Some(proposal) = self.assembly.proposal.as_ref().filter(|p| p.epoch == epoch) else { return };
        self.assembly.adopted = self.assembly.adopted.with(from);
        if !proposal.set.within(self.assembly.adopted) {
            return;
        }
        let (set, blocks) = (proposal.set, proposal.blocks);
        for (leg, stamp) in self.legs.iter_mut().zip(proposal.peers) {
            leg.stamp = stamp;
        }
        self.assembly = Assembly::default();
        self.held = true;
        self.next_version = 1;
        for member in self.members.minus(set).iter() {
            self.legs[member.index()].rejoin_at = now;
        }
        self.settle_size(blocks, out);
        self.activate(now, epoch, set, true, out);
    }

    /// Asks again; starts over when a stage hangs.
    pub(super) fn step_assembly(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        if now < self.assembly.not_before {
            return;
        }
        let settled = !self.assembly.start.is_empty();
        if settled && now > self.assembly.since + 4 * self.config.leg_timeout_ns {
            self.assemble(now, self.next_generation(), now, out);
            return;
        }
        if now < self.assembly.asked_at + self.config.retry_ns {
            return;
        }
        self.assembly.asked_at = now;
        if self.assembly.proposal.is_some() {
            self.send_start(out);
        } else if settled {
            self.gather(now, out);
        } else {
            for member in self.members.iter() {
                self.ask_promise(member, out);
            }
        }
    }
}

/// Whom to start with: all of the newest set if all hold its epoch. Else that epoch was never active, and those who hold
/// it start alone (each was in the last active set and has every acknowledged write), but never a joiner that the others
/// had not let in.
fn start_set(set: MemberSet, holders: MemberSet, origin: Origin) -> MemberSet {
    if holders == set {
        return set;
    }
    let Origin::Join { member } = origin else { return holders };
    let old = holders.without(member);
    if old.is_empty() { set.without(member) } else { old }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joiner_that_was_never_let_in_does_not_start_alone() {
        let [a, b, c] = [0, 1, 2].map(MemberId::at);
        let abc = MemberSet::first(3);
        let join = Origin::Join { member: c };
        assert_eq!(start_set(abc, abc, join), abc);
        assert_eq!(start_set(abc, MemberSet::only(c), join), MemberSet::only(a).with(b));
        assert_eq!(start_set(abc, MemberSet::only(c).with(b), join), MemberSet::only(b));
        assert_eq!(start_set(abc, MemberSet::only(c), Origin::Shrink), MemberSet::only(c));
    }
}
