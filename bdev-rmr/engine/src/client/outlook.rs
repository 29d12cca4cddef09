//! What the reports that have come in allow: a start, or whom to wait for and why.

use super::{Client, Phase, Why};
use crate::event::Now;
use crate::mutant::Mutant;
use rmr_proto::{Epoch, EpochRecord, MEMBERS_MAX, MemberId, MemberSet, Origin, Report, Stamp};

/// What an assembly would start from.
#[derive(Clone, Copy, Default)]
pub(super) struct Base {
    pub(super) reported: MemberSet,
    /// The newest epoch record of the history that counts.
    pub(super) newest: EpochRecord,
    /// Wrote in a history that is not an ancestor of `newest`.
    pub(super) foreign: MemberSet,
    /// On a side that the caller gave up.
    pub(super) discarded: MemberSet,
    /// Hold a newer epoch than all that are to start by force.
    pub(super) newer: MemberSet,
}

/// What a start by force, or a choice of sides, did without.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GivenUp {
    /// Members whose newer writes, if there are any, are lost.
    pub members: MemberSet,
    /// Chunks of which nobody who started was known to hold the newest contents: what the first of them held counts.
    pub chunks: u64,
}

pub(super) enum Outlook {
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
pub(super) fn start_set(set: MemberSet, holders: MemberSet, origin: Origin) -> MemberSet {
    if holders == set {
        return set;
    }
    let Origin::Join { member } = origin else { return holders };
    let old = holders.without(member);
    if old.is_empty() { set.without(member) } else { old }
}

impl Client {
    /// Can a store have said this? If not, it counts as not here.
    pub(super) fn is_sound(&self, report: &Report) -> bool {
        let record = &report.record;
        let fresh = record.adopted == Epoch::default();
        let Ok(geometry) = self.geometry.with_blocks(record.blocks) else { return false };
        let regions = geometry.regions();
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

    pub(super) fn reported(&self) -> MemberSet {
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

    /// The epoch in which this client last served. Whoever has only older ones does not know what was written in it: all
    /// disks went back, or a start by force left them out.
    pub(super) fn last_active(&self) -> Epoch {
        if self.held { self.epoch } else { Epoch::default() }
    }

    /// What the reports that are here allow.
    pub(super) fn outlook(&self) -> Outlook {
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
        if newest.adopted < self.last_active() && !Mutant::GoBack.on() {
            return Outlook::Wait(base, self.set);
        }
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
            // A client that serves goes on with its own history.
            if !self.held {
                return Outlook::Wait(base, foreign);
            }
        }
        if !self.options.force.is_empty() {
            return self.forced_outlook(base, here);
        }
        let absent = |m: &MemberId| !here.has(*m) || self.went_back(*m, newest.adopted);
        let absent = newest.set.iter().filter(absent).fold(MemberSet::EMPTY, MemberSet::with);
        if absent.is_empty() { Outlook::Start(base) } else { Outlook::Wait(base, absent) }
    }

    /// The first start of a client gives members that are connected a moment to answer: who starts without having heard
    /// them learns of another history only when it serves.
    pub(super) fn should_wait(&self, now: Now, members: MemberSet) -> bool {
        let silent = |m: &MemberId| self.legs[m.index()].up && self.report(*m).is_none();
        let patience = 2 * self.config.retry_ns;
        !self.held && now < self.assembly.since + patience && members.iter().any(|m| silent(&m))
    }

    pub(super) fn holders(&self, newest: &EpochRecord) -> MemberSet {
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
    pub(super) fn forced_start(&self, newest: &EpochRecord) -> MemberSet {
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

    /// A report of A's store in a pool of three, and what somebody may have put wrong in it.
    fn judged(spoil: impl Fn(&mut Report)) -> bool {
        let geometry = rmr_proto::Geometry::for_pool(1 << 30, 4096, 128 << 10).expect("a product geometry");
        let mut client =
            Client::new(geometry, MemberSet::first(3), 7, crate::client::ClientConfig::default());
        let mut out = Vec::new();
        client.on(1, crate::client::ClientEvent::Start(crate::client::StartOptions::default()), &mut out);
        let epoch = |generation| Epoch { promise: rmr_proto::Promise { generation, nonce: 5 }, version: 0 };
        client.promise = epoch(9).promise;
        let record = EpochRecord {
            promise: client.promise,
            adopted: epoch(3),
            origin: Origin::Assembly,
            set: MemberSet::first(2),
            members: MemberSet::first(3),
            blocks: geometry.blocks(),
            ..EpochRecord::default()
        };
        let suspect =
            |region| rmr_proto::SuspectRegion { region: rmr_proto::RegionNo(region), ..Default::default() };
        let mut report = Report {
            promise: client.promise,
            record,
            incarnation: rmr_proto::Incarnation(1),
            zeroed: false,
            capacity: geometry.blocks(),
            dirty_chunks: 0,
            continuity: Default::default(),
            suspects: vec![suspect(0), suspect(4)],
            next: Some(rmr_proto::RegionNo(5)),
        };
        spoil(&mut report);
        client.is_sound(&report)
    }

    #[test]
    fn a_report_that_no_store_can_have_made_counts_as_none() {
        assert!(judged(|_| {}));
        assert!(judged(|r| (r.suspects, r.next) = (Vec::new(), None)));
        assert!(
            judged(|r| (r.record.adopted, r.record.set) = (Epoch::default(), MemberSet::EMPTY)),
            "a fresh one"
        );
        type Spoil = fn(&mut Report);
        let wrong: [(&str, Spoil); 9] = [
            ("another promise", |r| r.record.promise.generation += 1),
            ("nobody in its set", |r| r.record.set = MemberSet::EMPTY),
            ("somebody in its set who is no member", |r| r.record.members = MemberSet::only(MemberId::at(0))),
            ("no blocks", |r| r.record.blocks = 0),
            ("adopted under the promise that it has only given", |r| r.record.adopted.promise = r.promise),
            ("a region twice", |r| r.suspects[1].region = r.suspects[0].region),
            ("a region beyond the device", |r| r.suspects[1].region.0 = u64::MAX),
            ("regions that go back", |r| r.suspects.reverse()),
            ("a list that goes on before its end", |r| r.next = Some(rmr_proto::RegionNo(4))),
        ];
        for (what, spoil) in wrong {
            assert!(!judged(spoil), "{what}");
        }
    }
}
