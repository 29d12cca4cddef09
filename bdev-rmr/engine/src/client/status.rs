//! Where every member stands, and whom a pool that does not serve waits for.

use super::{Client, GivenUp, Phase};
use crate::event::Now;
use rmr_proto::{Epoch, MemberId, MemberSet};

/// Why a member is not up to date, or is waited for. Reads after the member's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Why {
    /// No session.
    #[error("cannot be reached: start its node or mend the network")]
    Unreachable,
    /// A session, and no answer yet.
    #[error("has not answered yet")]
    Silent,
    /// Another client's lease lives.
    #[error("is held by another client, whose lease runs for {0} ns: unmap there, or take over")]
    Leased(Now),
    /// Promised to somebody else.
    #[error("has promised itself to a newer client")]
    Promised,
    /// Its disk is older than what others remember of it.
    #[error(
        "has a disk that is older than it was: put the newest disk back, or start without it by force and lose what only \
         it holds"
    )]
    WentBack,
    /// Its disk is not the one that others remember.
    #[error(
        "has another disk than it had: put the right disk back, or start without it by force and lose what only it holds"
    )]
    OtherDisk,
    /// Wrote in another history.
    #[error(
        "wrote in a history that is not this one's: choose a side when starting, or discard what it wrote"
    )]
    SplitBrain,
    /// In maintenance.
    #[error("is in maintenance: it comes back when that ends")]
    Resting,
    /// Letting it in would void what its disk holds, and nobody else holds everything.
    #[error(
        "has another or an older disk than it had, and no up-to-date member holds everything: put the newest disk back, \
         wait for the resync of the others, or give its old disk up with `replace` by force"
    )]
    WouldVoid,
    /// Not named by a start by force, and newer than all that are.
    #[error(
        "is here and holds a newer epoch than those named by force: name it too, choose a side with `accept`, or take it \
         away"
    )]
    HoldsNewer,
    /// On its way in.
    #[error("is being let in")]
    Joining,
    /// Lost lately; it may try again in so many ns.
    #[error("may try to come back in {0} ns")]
    BackOff(Now),
    /// An assembly has its promise and waits for others.
    #[error("is here")]
    Here,
    /// The pool does not name it.
    #[error("is not a member of the pool: add it")]
    Stranger,
}

/// State of the pool as its client sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Status {
    /// Where the client stands.
    pub phase: Phase,
    /// The epoch that is, or was last, active.
    pub epoch: Epoch,
    /// Whom the newest record names.
    pub members: MemberSet,
    /// Who is in maintenance.
    pub resting: MemberSet,
    /// Who takes part in every write. Empty while assembling.
    pub set: MemberSet,
    /// Of those: chunks that they have still to copy from others, which count as none until they are copied. `None`: not
    /// known yet.
    pub to_copy: Vec<(MemberId, Option<u64>)>,
    /// While assembling: whom it waits for. `legs` says why.
    pub waits_for: MemberSet,
    /// What the last start by force did without.
    pub given_up: GivenUp,
    /// Everybody who is known and not in the set, and why.
    pub legs: Vec<(MemberId, Why)>,
}

impl Status {
    /// Who takes part in every write and has nothing left to copy.
    pub fn up_to_date(&self) -> MemberSet {
        let whole = self.to_copy.iter().filter(|(_, chunks)| *chunks == Some(0));
        whole.fold(MemberSet::EMPTY, |set, (member, _)| set.with(*member))
    }
}

impl Client {
    /// State of the pool. Allocates: not for the IO path.
    pub fn status(&self, now: Now) -> Status {
        let serving = matches!(self.phase, Phase::Active | Phase::Changing);
        let known = self.contacts().iter();
        let set = if serving { self.set } else { MemberSet::EMPTY };
        let to_copy = |member: MemberId| {
            let leg = &self.legs[member.index()];
            (member, leg.told.then_some(leg.dirty_chunks))
        };
        Status {
            phase: self.phase,
            epoch: self.epoch,
            members: self.members,
            resting: self.resting,
            set,
            to_copy: set.iter().map(to_copy).collect(),
            waits_for: if self.phase == Phase::Assembling { self.waits_for() } else { MemberSet::EMPTY },
            given_up: self.given_up,
            legs: known.filter_map(|member| self.why(now, member).map(|why| (member, why))).collect(),
        }
    }

    /// Has any member written in another history, as far as is known?
    pub fn sees_split_brain(&self) -> bool {
        let told = |leg: &super::Leg| leg.why == Some(Why::SplitBrain);
        self.legs.iter().any(told) || (self.phase == Phase::Assembling && self.is_split())
    }

    /// Is a known member coming back that took chunks for clean in another history, and so has missed everything? Without
    /// a start by force, or a choice of sides, never.
    pub fn lets_in_anew(&self) -> bool {
        let known = |member: MemberId| self.last_in[member.index()] > Epoch::default();
        self.joiner_anew().is_some_and(known)
    }

    /// Why `member` is not up to date; `None` if it is.
    pub(super) fn why(&self, now: Now, member: MemberId) -> Option<Why> {
        let leg = &self.legs[member.index()];
        let serving = matches!(self.phase, Phase::Active | Phase::Changing);
        if serving && self.set.has(member) {
            return None;
        }
        let here = match leg.up {
            false => Why::Unreachable,
            true => leg.why.unwrap_or(Why::Silent),
        };
        if self.phase == Phase::Assembling {
            return Some(self.fault_of_report(member).unwrap_or(here));
        }
        Some(match here {
            _ if !self.members.has(member) && self.adding() != Some(member) => Why::Stranger,
            _ if self.resting.has(member) => Why::Resting,
            _ if self.is_joining(member) && leg.why.is_none() => Why::Joining,
            Why::Silent if now < leg.rejoin_at => Why::BackOff(leg.rejoin_at - now),
            other => other,
        })
    }
}
