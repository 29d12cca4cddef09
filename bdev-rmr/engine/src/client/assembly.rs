//! Rule A: putting a new generation together from what the members promise and report.

use super::{Client, ClientAction, Phase, StartOptions, Why};
use crate::event::Now;
use crate::mutant::Mutant;
use rmr_proto::{
    ChunkBits, Epoch, EpochRecord, MEMBERS_MAX, MemberId, MemberSet, Msg, Origin, Promise, Proposal,
    RegionMisses, RegionNo, Report, Stamp, SuspectRegion,
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
    /// On a side that the caller gave up.
    discarded: MemberSet,
    /// Others of the newest set are not here, and the caller does without them.
    pub(super) forced: bool,
    pub(super) given_up: GivenUp,
    asked_at: Now,
    /// Since when this stage waits.
    pub(super) since: Now,
    /// Nothing is asked before this.
    not_before: Now,
}

impl Assembly {
    pub(super) fn state_name(&self) -> &'static str {
        match (&self.proposal, self.start.is_empty()) {
            (Some(_), _) => "assembling, a set is proposed",
            (None, false) => "assembling, suspects are asked for",
            (None, true) => "assembling, promises are asked for",
        }
    }
}

impl Client {
    pub(super) fn on_start(&mut self, now: Now, options: StartOptions, out: &mut Vec<ClientAction>) {
        if matches!(self.phase, Phase::Idle | Phase::Fenced) {
            self.held = false;
            self.options = options;
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
        self.assembly =
            Assembly { since: now.max(not_before), asked_at: now, not_before, ..Assembly::default() };
        for leg in &mut self.legs {
            leg.why = None;
        }
        if not_before > now {
            self.assembly.asked_at = 0;
            return;
        }
        for member in self.contacts().iter() {
            self.ask_promise(member, out);
        }
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.promise.generation.saturating_add(1)
    }

    pub(super) fn ask_promise(&self, member: MemberId, out: &mut Vec<ClientAction>) {
        if self.legs[member.index()].up {
            let takeover = self.options.takeover || self.held;
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
        self.legs[from.index()].why = Some(if lease_ns > 0 { Why::Leased(lease_ns) } else { Why::Promised });
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
        if self.phase == Phase::Active {
            self.judge_joiner(now, from, &report, out);
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
        let regions = self.geometry.regions();
        // A joiner may have adopted an epoch of this very promise; whoever an assembly starts with cannot have.
        let newer = self.phase == Phase::Assembling && record.adopted.promise >= self.promise;
        (fresh || !record.set.is_empty())
            && record.set.within(record.members)
            && record.promise == self.promise
            && !newer
            && report.suspects.iter().all(|suspect| suspect.region.0 < regions)
            && super::gather::is_ascending(&report.suspects)
            && report.next.is_none_or(|next| report.suspects.last().is_some_and(|last| last.region < next))
    }

    pub(super) fn report(&self, member: MemberId) -> Option<&Report> {
        self.assembly.reports[member.index()].as_ref()
    }

    fn reported(&self) -> MemberSet {
        let here = |index: &usize| self.assembly.reports[*index].is_some();
        (0..MEMBERS_MAX).filter(here).map(MemberId::at).fold(MemberSet::EMPTY, MemberSet::with)
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

    /// Does a newer record lack the epoch that was last active here? Every record of its history names it, so this one is of
    /// another, made by force: a client that serves goes on with its own, and judges the member when it is to join.
    fn is_elsewhere(&self, record: &EpochRecord) -> bool {
        let lacks = |m: MemberId| record.members.has(m) && record.last_in[m.index()] < self.epoch;
        self.held && record.adopted > self.epoch && self.set.iter().any(lacks) && !Mutant::SwitchSides.on()
    }

    /// What the reports that are here allow.
    fn outlook(&self) -> Outlook {
        let mut base = Base { reported: self.reported(), ..Base::default() };
        if let Some(accepted) = self.options.accept {
            let Some(chosen) = self.report(accepted) else {
                return Outlook::Wait(base, MemberSet::only(accepted));
            };
            let other = |m: &MemberId| self.report(*m).is_some_and(|r| conflict(chosen, accepted, r, *m));
            base.discarded = base.reported.iter().filter(other).fold(MemberSet::EMPTY, MemberSet::with);
        }
        let elsewhere = |m: &MemberId| self.report(*m).is_some_and(|r| self.is_elsewhere(&r.record));
        let elsewhere = base.reported.iter().filter(elsewhere).fold(MemberSet::EMPTY, MemberSet::with);
        let here = base.reported.minus(base.discarded.or(elsewhere));
        let records = here.iter().filter_map(|m| self.report(m)).map(|r| r.record);
        let Some(newest) = records.max_by_key(|record| record.adopted) else { return Outlook::Nobody };
        base.newest = newest;
        if newest.adopted == Epoch::default() {
            let named = here.iter().filter_map(|m| self.report(m)).map(|r| r.record.members);
            // Whoever is known of, by whomever: an empty store alone must not pass for a new pool.
            let all = named.fold(self.configured.or(self.members), MemberSet::or);
            return if all.within(here) {
                Outlook::Create(all)
            } else {
                Outlook::Wait(base, all.minus(here))
            };
        }
        let foreign = |m: &MemberId| {
            let wrote = self.report(*m).map_or(Epoch::default(), |r| r.record.wrote);
            newest.members.has(*m) && wrote > newest.last_in[m.index()]
        };
        let foreign = here.iter().filter(foreign).fold(MemberSet::EMPTY, MemberSet::with);
        if self.options.accept.is_some() {
            base.discarded = base.discarded.or(foreign);
        } else if !foreign.is_empty() && !Mutant::JoinForeign.on() {
            base.foreign = foreign;
            return Outlook::Wait(base, foreign);
        }
        if !self.options.force.is_empty() {
            return self.forced_outlook(base, here);
        }
        let absent = |m: &MemberId| !here.has(*m) || self.went_back(*m, newest.adopted);
        let absent = newest.set.iter().filter(absent).fold(MemberSet::EMPTY, MemberSet::with);
        if absent.is_empty() { Outlook::Start(base) } else { Outlook::Wait(base, absent) }
    }

    /// Starts if there is enough to start from.
    fn evaluate(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let base = match self.outlook() {
            Outlook::Create(members) => return self.create(now, members, out),
            Outlook::Start(base) if self.should_wait(now, base.newest.members) => return,
            Outlook::Start(base) => base,
            Outlook::Wait(base, _) if base.newest.adopted > Epoch::default() => {
                self.members = base.newest.members; // Whom else to ask.
                return;
            }
            Outlook::Nobody | Outlook::Wait(..) => return,
        };
        let newest = base.newest;
        let holders = self.holders(&newest);
        self.assembly.start = start_set(newest.set, holders, newest.origin);
        self.assembly.discarded = base.discarded;
        self.assembly.given_up.members = base.discarded;
        if !self.options.force.is_empty() {
            self.assembly.start = self.forced_start(&newest);
            self.assembly.forced = true;
            let lost = newest.set.minus(self.assembly.start);
            self.assembly.given_up.members = base.discarded.or(lost);
        }
        (self.members, self.last_in) = (newest.members, newest.last_in);
        self.resting = if Mutant::RestForgotten.on() { MemberSet::EMPTY } else { newest.resting };
        if Mutant::ForgetLastIn.on() {
            self.last_in = [Epoch::default(); MEMBERS_MAX];
        }
        self.assembly.since = now;
        self.gather(now, out);
    }

    /// The first start of a client gives members that are connected a moment to answer: who starts without having heard
    /// them learns of another history only when it serves.
    fn should_wait(&self, now: Now, members: MemberSet) -> bool {
        let silent = |m: &MemberId| self.legs[m.index()].up && self.report(*m).is_none();
        let patience = 2 * self.config.retry_ns;
        !self.held && now < self.assembly.since + patience && members.iter().any(|m| silent(&m))
    }

    fn holders(&self, newest: &EpochRecord) -> MemberSet {
        let holds = |m: &MemberId| self.report(*m).is_some_and(|r| r.record.adopted == newest.adopted);
        newest.set.iter().filter(holds).fold(MemberSet::EMPTY, MemberSet::with)
    }

    /// By force: all that were named are here, and one of them holds the newest epoch that is here.
    fn forced_outlook(&self, mut base: Base, here: MemberSet) -> Outlook {
        let force = self.options.force;
        if !force.within(here) {
            return Outlook::Wait(base, force.minus(here));
        }
        if self.forced_start(&base.newest).is_empty() && !Mutant::ForceStale.on() {
            base.newer = self.holders(&base.newest);
            return Outlook::Wait(base, base.newer);
        }
        Outlook::Start(base)
    }

    /// Of those named by force: who would be up to date if all others were here; who went back in time only if there is
    /// nobody else.
    fn forced_start(&self, newest: &EpochRecord) -> MemberSet {
        let (force, holders) = (self.options.force, self.holders(newest));
        if Mutant::ForceStale.on() {
            return force;
        }
        let named = match start_set(newest.set, holders, newest.origin).and(force) {
            MemberSet::EMPTY => holders.and(force),
            named => named,
        };
        let sound = |m: &MemberId| !self.went_back(*m, newest.adopted);
        match named.iter().filter(sound).fold(MemberSet::EMPTY, MemberSet::with) {
            MemberSet::EMPTY => named,
            sound => sound,
        }
    }

    /// Whom this assembly waits for.
    pub(super) fn waits_for(&self) -> MemberSet {
        let settled = self.assembly.start.minus(self.assembly.adopted);
        match self.outlook() {
            _ if !settled.is_empty() => settled,
            Outlook::Nobody => self.contacts(),
            Outlook::Wait(_, absent) => absent,
            Outlook::Create(_) | Outlook::Start(_) => MemberSet::EMPTY,
        }
    }

    /// What the report of a member says against starting with it; `None` without a report.
    pub(super) fn fault_of_report(&self, member: MemberId) -> Option<Why> {
        let report = self.report(member)?;
        Some(match self.outlook() {
            Outlook::Wait(base, _) | Outlook::Start(base) => {
                let stamp = self.remembered(member, base.newest.adopted);
                match stamp {
                    _ if base.newer.has(member) => Why::HoldsNewer,
                    _ if base.foreign.has(member) || base.discarded.has(member) => Why::SplitBrain,
                    _ if !base.newest.members.has(member) => Why::Stranger,
                    Some(stamp) if stamp.incarnation != report.incarnation => Why::OtherDisk,
                    _ if self.went_back(member, base.newest.adopted) => Why::WentBack,
                    _ if base.newest.resting.has(member) => Why::Resting,
                    _ => Why::Here,
                }
            }
            Outlook::Nobody | Outlook::Create(_) => Why::Here,
        })
    }

    /// Do the reports show two histories?
    pub(super) fn is_split(&self) -> bool {
        matches!(self.outlook(), Outlook::Wait(base, _) if !base.foreign.is_empty())
    }

    /// What another holder of `newest` remembers of a member's disk.
    fn remembered(&self, member: MemberId, newest: Epoch) -> Option<Stamp> {
        let holders = self.reported().without(member).iter().filter_map(|m| self.report(m));
        holders.filter(|r| r.record.adopted == newest).map(|r| r.record.peers[member.index()]).next()
    }

    fn create(&mut self, now: Now, members: MemberSet, out: &mut Vec<ClientAction>) {
        let Some(reference) = members.iter().next() else { return };
        self.members = members;
        self.assembly.start = members;
        self.propose_assembly(now, Origin::Create { reference }, (Vec::new(), 0), out);
    }

    /// Do all members read zero?
    fn all_zeroed(&self) -> bool {
        let zeroed = |member| self.report(member).is_some_and(|report| report.zeroed);
        self.members.iter().all(zeroed) || Mutant::ZeroedByOne.on() && self.members.iter().any(zeroed)
    }

    pub(super) fn propose_start(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let verdicts = self.verdicts_to_propose();
        self.propose_assembly(now, Origin::Assembly, verdicts, out);
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

    /// By force: of chunks that nobody who starts holds clean, what the first of them has counts; all others, wherever
    /// they are, missed it. Returns how many chunks that are.
    pub(super) fn decide_lost(&self, verdict: &mut RegionMisses) -> u64 {
        let (region, start) = (verdict.region, self.assembly.start);
        let all = self.geometry.all_of(region);
        let missed = start.iter().fold(all, |bits, m| bits.and(self.own_misses(m, region).missed[m.index()]));
        let unsure = start.iter().fold(all, |bits, m| {
            let own = self.own_misses(m, region);
            bits.and(own.missed[m.index()].or(own.suspect))
        });
        let first = start.iter().next();
        for member in MemberSet(u8::MAX).iter().filter(|m| Some(*m) != first) {
            let lost = match (start.has(member), Mutant::GivenUpElsewhere.on()) {
                (true, _) => missed,
                (false, false) => unsure,
                (false, true) => ChunkBits::NONE,
            };
            let bits = &mut verdict.missed[member.index()];
            *bits = bits.or(lost);
        }
        verdict.suspect = verdict.suspect.or(missed);
        u64::from(unsure.len())
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
        let all = self.assembly.start == self.members || self.assembly.forced;
        (!suspect || all).then_some(source)
    }

    fn propose_assembly(
        &mut self,
        now: Now,
        origin: Origin,
        (verdicts, parts): (Vec<RegionMisses>, u32),
        out: &mut Vec<ClientAction>,
    ) {
        let records = self.reported().iter().filter_map(|m| self.report(m)).map(|r| r.record);
        let base = records.map(|r| r.adopted).max().unwrap_or_default();
        let epoch = Epoch { promise: self.promise, version: 0 };
        let (set, discarded) = (self.assembly.start, self.assembly.discarded);
        let (mut last_in, mut peers) = (self.last_in, self.stamps_known());
        for member in set.or(discarded).iter() {
            last_in[member.index()] = epoch;
        }
        for member in discarded.iter().filter(|_| !Mutant::AcceptBoth.on()) {
            peers[member.index()] = Stamp::default();
        }
        let resting = self.resting.minus(set);
        let members = self.members;
        let (keeper, forced) = (None, self.assembly.forced);
        let zeroed = matches!(origin, Origin::Create { .. }) && self.all_zeroed();
        let proposal = Proposal {
            epoch,
            origin,
            zeroed,
            set,
            members,
            base,
            peers,
            resting,
            last_in,
            keeper,
            forced,
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
        let set = proposal.set;
        (self.members, self.resting, self.last_in) = (proposal.members, proposal.resting, proposal.last_in);
        // Force and a choice of sides are good for one start: not again when a generation follows by itself.
        if self.assembly.forced || !self.assembly.given_up.members.is_empty() {
            self.given_up = self.assembly.given_up;
        }
        (self.options.force, self.options.accept) = (MemberSet::EMPTY, None);
        for (leg, stamp) in self.legs.iter_mut().zip(proposal.peers) {
            leg.stamp = stamp;
        }
        self.assembly = Assembly::default();
        self.held = true;
        self.next_version = 1;
        for member in self.members.minus(set).iter() {
            self.legs[member.index()].rejoin_at = now;
        }
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
        if !settled {
            self.evaluate(now, out);
        }
        let settled = !self.assembly.start.is_empty();
        if self.assembly.proposal.is_some() {
            self.send_start(out);
        } else if settled {
            self.gather(now, out);
        } else {
            for member in self.contacts().iter() {
                self.ask_promise(member, out);
            }
        }
    }
}

/// What an assembly would start from.
#[derive(Clone, Copy, Default)]
struct Base {
    reported: MemberSet,
    /// The newest epoch record of the history that counts.
    newest: EpochRecord,
    /// Wrote in a history that is not an ancestor of `newest`.
    foreign: MemberSet,
    /// On a side that the caller gave up.
    discarded: MemberSet,
    /// Hold a newer epoch than all that are to start by force.
    newer: MemberSet,
}

/// What a start by force, or a choice of sides, did without.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GivenUp {
    /// Members whose newer writes, if there are any, are lost.
    pub members: MemberSet,
    /// Chunks of which nobody who started was known to hold the newest contents: what the first of them held counts.
    pub chunks: u64,
}

enum Outlook {
    Nobody,
    /// A new pool of these.
    Create(MemberSet),
    Start(Base),
    /// Not yet: for these.
    Wait(Base, MemberSet),
}

/// Has one of the two written what the other's history does not hold?
fn conflict(chosen: &Report, who: MemberId, other: &Report, member: MemberId) -> bool {
    let (chosen, other) = (&chosen.record, &other.record);
    if other.adopted >= chosen.adopted {
        chosen.wrote > other.last_in[who.index()]
    } else {
        other.wrote > chosen.last_in[member.index()]
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
