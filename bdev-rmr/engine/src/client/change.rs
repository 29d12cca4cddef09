//! Changes of the set within a generation: a leg is lost, a member comes back.

use super::{Client, ClientAction, CommandError, Phase, Why};
use crate::event::Now;
use crate::mutant::Mutant;
use rmr_proto::{Epoch, MEMBERS_MAX, MemberId, MemberSet, Msg, Origin, Proposal, Report, Stamp};

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
    /// It promises and says what its disk is.
    Ask,
    /// It promises and fetches maps; IO goes on.
    Maps,
    /// No new request is sent; those sent are answered.
    Freeze,
    /// It fetches what changed since.
    Delta,
}

impl Change {
    /// Who has to adopt before the others are asked: a joiner, or who keeps everything.
    fn first(&self) -> Option<MemberId> {
        let leads = self.proposal.origin.joiner().or(self.proposal.keeper);
        leads.filter(|member| !self.adopted.has(*member))
    }
}

/// A member coming back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Join {
    member: MemberId,
    attempt: u64,
    step: JoinStep,
    /// Its disk, as it reported it.
    stamp: Option<Stamp>,
    /// It took chunks for clean in another history: it has missed everything.
    anew: bool,
    asked_at: Now,
    since: Now,
}

impl Client {
    /// Are new requests held back?
    pub(super) fn is_frozen(&self) -> bool {
        !Mutant::NoFreeze.on()
            && self.join.as_ref().is_some_and(|join| matches!(join.step, JoinStep::Freeze | JoinStep::Delta))
    }

    /// Who is being let in as one that has missed everything, because of what it did in another history.
    pub(super) fn joiner_anew(&self) -> Option<MemberId> {
        self.join.as_ref().filter(|join| join.anew).map(|join| join.member)
    }

    pub(super) fn is_joining(&self, member: MemberId) -> bool {
        self.join.as_ref().is_some_and(|join| join.member == member)
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
        let over = set.is_empty();
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
        let proposal = self.plan(set, origin);
        self.propose(now, Box::new(proposal), out);
    }

    /// The next version with this set; all else as in the active one.
    pub(super) fn plan(&self, set: MemberSet, origin: Origin) -> Proposal {
        let epoch = Epoch { promise: self.promise, version: self.next_version };
        let mut peers = self.stamps();
        if let Some(Join { member, stamp: Some(stamp), .. }) =
            self.join.as_ref().filter(|_| origin != Origin::Shrink)
        {
            peers[member.index()] = *stamp;
        }
        let last_in: [Epoch; MEMBERS_MAX] =
            std::array::from_fn(
                |index| {
                    if set.has(MemberId::at(index)) { epoch } else { self.last_in[index] }
                },
            );
        let (members, resting) = (self.members.or(set), self.resting);
        let base = self.epoch;
        Proposal {
            epoch,
            origin,
            zeroed: false,
            set,
            members,
            blocks: self.geometry.blocks(),
            reference: None,
            base,
            peers,
            resting,
            last_in,
            keeper: None,
            forced: false,
            verdicts: Vec::new(),
            parts: 0,
        }
    }

    pub(super) fn propose(&mut self, now: Now, proposal: Box<Proposal>, out: &mut Vec<ClientAction>) {
        self.next_version += 1;
        if proposal.origin == Origin::Shrink {
            self.bound = proposal.set;
        }
        self.set_phase(Phase::Changing);
        self.change = Some(Change { proposal, adopted: MemberSet::EMPTY, asked_at: now, since: now });
        self.send_change(out);
    }

    /// A joiner, or who keeps everything, persists first; only then are the others asked.
    fn send_change(&self, out: &mut Vec<ClientAction>) {
        let Some(change) = &self.change else { return };
        let missing = change.proposal.set.minus(change.adopted);
        let targets = change.first().map_or(missing, MemberSet::only);
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
        if Mutant::AnyCounter.on() {
            self.note_counter(from, counter);
        }
        if self.phase == Phase::Assembling {
            self.start_adopted(now, from, epoch, out);
            return;
        }
        if self.phase != Phase::Changing {
            return; // Fenced meanwhile: whoever adopts late changes nothing.
        }
        let Some(change) = self.change.as_mut().filter(|c| c.proposal.epoch == epoch) else { return };
        change.adopted = change.adopted.with(from);
        let set = change.proposal.set;
        // Not before the epoch is known to be this one: a late answer may be that of a disk which is gone, and its counter
        // would condemn the one in its place.
        self.note_counter(from, counter);
        let Some(change) = &self.change else { return };
        if !set.within(change.adopted) {
            let leads = change.proposal.origin == Origin::Join { member: from };
            if leads || change.proposal.keeper == Some(from) {
                self.send_change(out);
            }
            return;
        }
        let Some(Change { proposal, .. }) = self.change.take() else { return };
        if self.has_expired() {
            self.assemble(now, self.next_generation(), now, out);
            return;
        }
        (self.members, self.resting, self.last_in) = (proposal.members, proposal.resting, proposal.last_in);
        for (index, leg) in self.legs.iter_mut().enumerate() {
            if !self.set.has(MemberId::at(index)) || !set.has(MemberId::at(index)) {
                leg.stamp = proposal.peers[index];
            }
        }
        self.activate(now, epoch, set, false, out);
    }

    fn note_counter(&mut self, member: MemberId, counter: u64) {
        let stamp = &mut self.legs[member.index()].stamp;
        stamp.counter = stamp.counter.max(counter);
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
        self.move_pins();
        self.join = None;
        for (index, leg) in self.legs.iter_mut().enumerate() {
            leg.number = 0;
            leg.reads.replies = 0;
            leg.beat_at = 0;
            leg.heard_at = now;
            if new_generation || !set.has(MemberId::at(index)) {
                (leg.dirty_chunks, leg.pressure, leg.told) = (1, false, false);
            }
            if set.has(MemberId::at(index)) {
                leg.why = None;
            }
        }
        if new_generation {
            self.horizon.reset();
            self.flushed = rmr_proto::Seq(0);
        }
        self.resend(now, new_generation, out);
        self.command_active(now, out);
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
            Phase::Changing => {
                let Some(change) = self.change.as_ref().filter(|c| c.proposal.epoch == epoch) else { return };
                if change.proposal.keeper == Some(from) && !change.adopted.has(from) {
                    self.keeper_refused(now, change.proposal.set, out);
                } else {
                    // A member called chunks clean after its last word: the joiner comes again, and nobody is lost.
                    let joiner = change.proposal.origin.joiner().filter(|_| self.bound.has(from));
                    self.lose(now, joiner.unwrap_or(from), out);
                }
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
            if let Some(member) = change.first().or(missing.iter().next()) {
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
            let named = if Mutant::JoinStrangers.on() { self.contacts() } else { self.members };
            let adding = self.adding().filter(back);
            let outside = named.minus(self.set).minus(self.resting);
            let Some(member) = adding.or_else(|| outside.iter().find(back)) else { return };
            self.attempts += 1;
            let attempt = self.attempts;
            self.join = Some(Join {
                member,
                attempt,
                step: JoinStep::Ask,
                stamp: None,
                anew: false,
                asked_at: 0,
                since: now,
            });
        }
        let owed = self.is_owed();
        let Some(join) = &mut self.join else { return };
        let member = join.member;
        if join.step == JoinStep::Freeze && (!owed || Mutant::NoFreeze.on()) {
            (join.step, join.asked_at) = (JoinStep::Delta, 0);
        }
        let patience = if matches!(join.step, JoinStep::Ask | JoinStep::Maps) { 8 } else { 2 };
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
            JoinStep::Ask | JoinStep::Maps => false,
            JoinStep::Freeze => return,
            JoinStep::Delta => true,
        };
        let asks = join.step == JoinStep::Ask;
        let msg = Msg::Join {
            epoch: self.epoch,
            set: self.set,
            attempt: join.attempt,
            last,
            anew: join.anew,
            blocks: self.geometry.blocks(),
        };
        if !last {
            let promise = Msg::Promise { promise: self.promise, takeover: true };
            out.push(ClientAction::Send(member, promise));
        }
        if !asks {
            out.push(ClientAction::Send(member, msg));
        }
    }

    /// The joiner has promised and said what its disk is: it fetches maps, unless something stands against it. Fetching
    /// marks what it missed on its own disk, so this is the last moment at which nothing is lost by saying no.
    pub(super) fn judge_joiner(
        &mut self,
        now: Now,
        from: MemberId,
        report: &Report,
        out: &mut Vec<ClientAction>,
    ) {
        let asked = |join: &&mut Join| join.member == from && join.step == JoinStep::Ask;
        let stamp = Stamp { incarnation: report.incarnation, counter: report.record.counter };
        let Some(join) = self.join.as_mut().filter(asked) else { return };
        let (wrote, known) = (report.record.wrote, self.last_in[from.index()]);
        // Epochs of one promise are one client's, and of one history, whether they became active or not.
        let anew = report.record.decided.promise > known.promise && !Mutant::TrustDecided.on();
        (join.stamp, join.anew, join.step, join.asked_at) = (Some(stamp), anew, JoinStep::Maps, 0);
        let mut fault = None;
        if wrote > known && !Mutant::JoinForeign.on() {
            fault = Some(Why::SplitBrain);
        } else if self.would_void(from, stamp, anew) && !Mutant::VoidLastCopy.on() {
            fault = Some(Why::WouldVoid);
        }
        self.legs[from.index()].why = fault;
        if fault.is_some() {
            self.join = None;
            self.back_off(now, from);
            if self.adding() == Some(from) {
                self.end_command(Err(CommandError::OtherHistory { member: from, wrote, known }), out);
            }
            return;
        }
        self.admit(from);
        self.step_join(now, out);
    }

    /// Would letting this disk in void what it holds, with nobody in the set who holds everything? A disk whose stamp is
    /// not known was given up by command.
    fn would_void(&self, member: MemberId, stamp: Stamp, anew: bool) -> bool {
        let known = self.legs[member.index()].stamp;
        let other = anew || known.incarnation != stamp.incarnation || stamp.counter < known.counter;
        known != Stamp::default() && other && self.whole_leg(self.set).is_none()
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
            _ if join.stamp.is_some_and(|known| known.incarnation != stamp.incarnation) => {
                // Another disk since it was asked.
                self.join = None;
                self.back_off(now, from);
            }
            (JoinStep::Maps, false) => {
                join.step = JoinStep::Freeze;
                (join.since, join.asked_at) = (now, 0);
                self.step_join(now, out);
            }
            (JoinStep::Delta, true) => {
                join.stamp = Some(stamp);
                let (set, anew) = (self.set.with(from), join.anew);
                self.propose_change(now, set, Origin::Join { member: from }, out);
                // Should it never become active, the joiner may have adopted it and copied chunks: that was in this
                // history. Not of one that learns anew: until it is in, what it did elsewhere must not be forgotten.
                if let Some(Change { proposal, .. }) = self.change.as_ref().filter(|_| !anew) {
                    self.last_in[from.index()] = proposal.epoch;
                }
            }
            _ => {}
        }
    }

    /// Where it stands, in words: the phase, and what goes on in it. For status and coverage.
    pub fn state_name(&self) -> &'static str {
        let origin = self.change.as_ref().map(|change| change.proposal.origin);
        match (self.phase, self.join.as_ref().map(|join| join.step), origin) {
            (Phase::Idle, ..) => "idle",
            (Phase::Assembling, ..) => self.assembly.state_name(),
            (Phase::Active, None, _) => "active",
            (Phase::Active, Some(JoinStep::Ask), _) => "active, an outsider is asked",
            (Phase::Active, Some(JoinStep::Maps), _) => "active, a joiner fetches maps",
            (Phase::Active, Some(JoinStep::Freeze), _) => "active, frozen",
            (Phase::Active, Some(JoinStep::Delta), _) => "active, a joiner fetches what changed",
            (Phase::Changing, _, Some(Origin::Join { .. })) => "changing, a join is proposed",
            (Phase::Changing, ..) => "changing, a shrink is proposed",
            (Phase::Fenced, ..) => "fenced",
        }
    }

    /// What is known of each member's disk.
    pub fn stamps(&self) -> [Stamp; rmr_proto::MEMBERS_MAX] {
        std::array::from_fn(|index| self.legs[index].stamp)
    }
}
