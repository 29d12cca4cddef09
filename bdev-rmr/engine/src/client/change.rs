//! Changes of the set within a generation: a leg is lost, a member comes back.

use super::{Client, ClientAction, Phase};
use crate::event::Now;
use crate::mutant::Mutant;
use rmr_proto::{Epoch, MemberId, MemberSet, Msg, Origin, Proposal, Stamp};

/// A proposal waiting to be adopted by all of its set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Change {
    proposal: Box<Proposal>,
    adopted: MemberSet,
    asked_at: Now,
    since: Now,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum JoinStep {
    /// It promises and fetches maps; IO goes on.
    Maps,
    /// No new request is sent; those sent are answered.
    Freeze,
    /// It fetches what changed since.
    Delta,
}

/// A member coming back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Join {
    member: MemberId,
    attempt: u64,
    step: JoinStep,
    /// Its disk, as it reported it.
    stamp: Option<Stamp>,
    asked_at: Now,
    since: Now,
}

impl Client {
    /// Are new requests held back?
    pub(super) fn is_frozen(&self) -> bool {
        !Mutant::NoFreeze.on() && self.join.as_ref().is_some_and(|join| join.step != JoinStep::Maps)
    }

    /// A leg cannot be relied on any more.
    pub(super) fn lose(&mut self, now: Now, member: MemberId, out: &mut Vec<ClientAction>) {
        if self.join.as_ref().is_some_and(|join| join.member == member) {
            self.join = None;
            self.back_off(now, member);
        }
        match self.phase {
            Phase::Active if self.set.has(member) => self.shrink(now, self.set.without(member), member, out),
            Phase::Changing => {
                let Some(change) = &self.change else { return };
                let proposed = change.proposal.set;
                if Mutant::AbandonWithoutEpoch.on() && !self.bound.has(member) && self.bound == self.set {
                    self.change = None;
                    self.join = None;
                    self.set_phase(Phase::Active);
                    return;
                }
                if proposed.has(member) || self.bound.has(member) {
                    let set = if Mutant::DisjointProposal.on() { proposed } else { proposed.and(self.bound) };
                    self.shrink(now, set.without(member), member, out);
                }
            }
            _ => {}
        }
    }

    /// Longer each time, so that a leg that comes and goes does not freeze the pool over and over.
    pub(super) fn back_off(&mut self, now: Now, member: MemberId) -> Now {
        let leg = &mut self.legs[member.index()];
        leg.rejoin_pause = (leg.rejoin_pause * 2).clamp(self.config.rejoin_ns, self.config.rejoin_max_ns);
        leg.rejoin_at = now + leg.rejoin_pause;
        leg.rejoin_pause
    }

    fn shrink(&mut self, now: Now, set: MemberSet, lost: MemberId, out: &mut Vec<ClientAction>) {
        self.join = None;
        self.back_off(now, lost);
        if Mutant::NoReassembly.on() && set.is_empty() {
            return;
        }
        let over = set.is_empty() || self.has_expired(set);
        if over && self.superseded {
            self.set_phase(Phase::Fenced);
            self.fail_all(out);
        } else if over {
            self.assemble(now, self.next_generation(), now, out);
        } else {
            self.propose_change(now, set, Origin::Shrink, out);
        }
    }

    fn propose_change(&mut self, now: Now, set: MemberSet, origin: Origin, out: &mut Vec<ClientAction>) {
        let epoch = Epoch { promise: self.promise, version: self.next_version };
        self.next_version += 1;
        if origin == Origin::Shrink {
            self.bound = set;
        }
        let mut peers = self.stamps();
        if let Some(Join { member, stamp: Some(stamp), .. }) =
            self.join.as_ref().filter(|_| origin != Origin::Shrink)
        {
            peers[member.index()] = *stamp;
        }
        let proposal = Proposal {
            epoch,
            origin,
            zeroed: false,
            set,
            members: self.members,
            blocks: self.geometry.blocks(),
            reference: None,
            base: self.epoch,
            peers,
            verdicts: Vec::new(),
            parts: 0,
        };
        self.set_phase(Phase::Changing);
        self.change = Some(Change {
            proposal: Box::new(proposal),
            adopted: MemberSet::EMPTY,
            asked_at: now,
            since: now,
        });
        self.send_change(out);
    }

    /// A joiner persists first; only then are the others asked.
    fn send_change(&self, out: &mut Vec<ClientAction>) {
        let Some(change) = &self.change else { return };
        let missing = change.proposal.set.minus(change.adopted);
        let targets = match change.proposal.origin {
            Origin::Join { member } if missing.has(member) => MemberSet::only(member),
            _ => missing,
        };
        for member in targets.iter() {
            out.push(ClientAction::Send(member, Msg::Adopt(change.proposal.clone())));
        }
    }

    pub(super) fn on_adopted(
        &mut self,
        now: Now,
        from: MemberId,
        epoch: Epoch,
        counter: u64,
        out: &mut Vec<ClientAction>,
    ) {
        let stamp = &mut self.legs[from.index()].stamp;
        stamp.counter = stamp.counter.max(counter);
        if self.phase == Phase::Assembling {
            self.start_adopted(now, from, epoch, out);
            return;
        }
        let Some(change) = self.change.as_mut().filter(|c| c.proposal.epoch == epoch) else { return };
        change.adopted = change.adopted.with(from);
        let set = change.proposal.set;
        let peers = change.proposal.peers;
        if !set.within(change.adopted) {
            if matches!(change.proposal.origin, Origin::Join { member } if member == from) {
                self.send_change(out);
            }
            return;
        }
        self.change = None;
        if self.has_expired(set) {
            self.assemble(now, self.next_generation(), now, out);
            return;
        }
        if let Some(Join { member, .. }) = self.join {
            self.legs[member.index()].stamp = peers[member.index()];
        }
        self.activate(now, epoch, set, false, out);
    }

    /// Everybody in `set` has adopted `epoch`.
    pub(super) fn activate(
        &mut self,
        now: Now,
        epoch: Epoch,
        set: MemberSet,
        new_generation: bool,
        out: &mut Vec<ClientAction>,
    ) {
        self.set_phase(Phase::Active);
        (self.epoch, self.set, self.bound) = (epoch, set, set);
        self.join = None;
        for (index, leg) in self.legs.iter_mut().enumerate() {
            leg.number = 0;
            leg.beat_at = 0;
            leg.heard_at = now;
            if new_generation || !set.has(MemberId::at(index)) {
                (leg.dirty_chunks, leg.pressure) = (1, false);
            }
        }
        if new_generation {
            self.horizon.reset();
            self.flushed = rmr_proto::Seq(0);
        }
        self.resend(now, new_generation, out);
    }

    pub(super) fn on_adopt_refused(
        &mut self,
        now: Now,
        from: MemberId,
        epoch: Epoch,
        out: &mut Vec<ClientAction>,
    ) {
        match self.phase {
            Phase::Assembling if epoch.promise == self.promise && self.assembly_waits_for(epoch) => {
                self.assemble(now, self.next_generation(), now, out);
            }
            Phase::Changing if self.change.as_ref().is_some_and(|c| c.proposal.epoch == epoch) => {
                self.lose(now, from, out);
            }
            _ => {}
        }
    }

    fn assembly_waits_for(&self, epoch: Epoch) -> bool {
        epoch == Epoch { promise: self.promise, version: 0 }
    }

    /// Asks again; whoever does not adopt in time is lost.
    pub(super) fn step_change(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let Some(change) = &mut self.change else { return };
        let missing = change.proposal.set.minus(change.adopted);
        if now > change.since + 2 * self.config.leg_timeout_ns {
            let first = match change.proposal.origin {
                Origin::Join { member } if missing.has(member) => Some(member),
                _ => missing.iter().next(),
            };
            if let Some(member) = first {
                self.lose(now, member, out);
            }
        } else if now >= change.asked_at + self.config.retry_ns {
            change.asked_at = now;
            self.send_change(out);
        }
    }

    /// Brings outsiders back, one at a time.
    pub(super) fn step_join(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        if self.join.is_none() {
            let back = |m: &MemberId| self.legs[m.index()].up && now >= self.legs[m.index()].rejoin_at;
            let Some(member) = self.members.minus(self.set).iter().find(back) else { return };
            self.attempts += 1;
            let attempt = self.attempts;
            self.join =
                Some(Join { member, attempt, step: JoinStep::Maps, stamp: None, asked_at: 0, since: now });
        }
        let owed = self.is_owed();
        let Some(join) = &mut self.join else { return };
        let member = join.member;
        if join.step == JoinStep::Freeze && (!owed || Mutant::NoFreeze.on()) {
            (join.step, join.asked_at) = (JoinStep::Delta, 0);
        }
        let patience = if join.step == JoinStep::Maps { 8 } else { 2 };
        if now > join.since + patience * self.config.leg_timeout_ns {
            self.join = None;
            self.back_off(now, member);
            return;
        }
        if join.asked_at != 0 && now < join.asked_at + self.config.retry_ns {
            return;
        }
        join.asked_at = now.max(1);
        let last = match join.step {
            JoinStep::Maps => false,
            JoinStep::Freeze => return,
            JoinStep::Delta => true,
        };
        let msg = Msg::Join {
            epoch: self.epoch,
            set: self.set,
            attempt: join.attempt,
            last,
            blocks: self.geometry.blocks(),
        };
        if !last {
            let promise = Msg::Promise { promise: self.promise, takeover: true };
            out.push(ClientAction::Send(member, promise));
        }
        out.push(ClientAction::Send(member, msg));
    }

    pub(super) fn on_join_ready(
        &mut self,
        now: Now,
        from: MemberId,
        epoch: Epoch,
        (attempt, last): (u64, bool),
        stamp: Stamp,
        out: &mut Vec<ClientAction>,
    ) {
        let Some(join) = &mut self.join else { return };
        if self.phase != Phase::Active
            || epoch != self.epoch
            || join.attempt != attempt
            || join.member != from
        {
            return;
        }
        match (join.step, last) {
            (JoinStep::Maps, false) => {
                join.step = JoinStep::Freeze;
                (join.since, join.asked_at) = (now, 0);
                self.step_join(now, out);
            }
            (JoinStep::Delta, true) => {
                join.stamp = Some(stamp);
                let set = self.set.with(from);
                self.propose_change(now, set, Origin::Join { member: from }, out);
            }
            _ => {}
        }
    }

    /// What is known of each member's disk.
    pub fn stamps(&self) -> [Stamp; rmr_proto::MEMBERS_MAX] {
        std::array::from_fn(|index| self.legs[index].stamp)
    }
}
