//! Rule A: putting a new generation together from what the members promise and report.

use super::outlook::{GivenUp, Outlook, start_set};
use super::{Client, ClientAction, Phase, StartOptions, Why};
use crate::event::Now;
use crate::mutant::Mutant;
use rmr_proto::{
    Epoch, MEMBERS_MAX, MemberId, MemberSet, Msg, Origin, Promise, Proposal, RegionMisses, Report, Stamp,
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
    pub(super) adopted: MemberSet,
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
            // Once it has served it takes over from nobody: another client whose lease lives has taken over from it.
            let takeover = self.options.takeover && !self.held;
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
            let taken_over = self.held && self.set.has(from) && stands > self.epoch.promise;
            if lease_ns > 0 && !taken_over {
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

    /// Starts if there is enough to start from.
    fn evaluate(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let base = match self.outlook() {
            Outlook::Create(members) => return self.create(now, members, out),
            Outlook::Start(base) if self.should_wait(now, base.newest.members) => return,
            Outlook::Start(base) => base,
            Outlook::Wait(base, _) => {
                let adopted = base.newest.adopted;
                if adopted > Epoch::default() && adopted >= self.last_active() {
                    self.learn_size(base.newest.blocks);
                    self.members = base.newest.members; // Whom else to ask.
                }
                return;
            }
            Outlook::Nobody => return,
        };
        let newest = base.newest;
        self.learn_size(newest.blocks);
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

    /// The pool knows its size better than whoever configured this client.
    fn learn_size(&mut self, blocks: u64) {
        if let Ok(geometry) = self.geometry.with_blocks(blocks) {
            self.geometry = geometry;
        }
    }

    fn create(&mut self, now: Now, members: MemberSet, out: &mut Vec<ClientAction>) {
        let Some(reference) = members.iter().next() else { return };
        let sizes = members.iter().filter_map(|m| self.report(m)).map(|report| report.record.blocks);
        if let Some(blocks) = sizes.min() {
            self.learn_size(blocks);
        }
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
        let (blocks, reference) = self.growth(&verdicts, out);
        let proposal = Proposal {
            epoch,
            origin,
            zeroed,
            set,
            members,
            blocks,
            reference,
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
        let (set, blocks) = (proposal.set, proposal.blocks);
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
