//! Membership by command: members come and go, rest, change their disk, are given up.
//!
//! A command is one proposal of a set like any other, with other members, other stamps, other `resting` in it; so a crash
//! at any point leaves the old or the new state, and a leg that is lost meanwhile only makes the command propose again.
//! Rule L is the proposal's `keeper`: a leg that holds every chunk durably clean says so by adopting first.

use super::{Client, ClientAction, Phase, Why};
use crate::event::{Now, UserTag};
use crate::mutant::Mutant;
use rmr_proto::{Epoch, MemberId, MemberSet, Origin, Proposal, Stamp};

/// What can be asked of a pool that is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// Lets a store in that the pool does not name: freshly formatted, or one that was removed. It has missed everything.
    Add {
        /// Who.
        member: MemberId,
    },
    /// The pool names it no more, reachable or not. Its disk may be wiped afterwards.
    Remove {
        /// Who.
        member: MemberId,
        /// Even though it may hold the last copy of something.
        force: bool,
    },
    /// Takes a member out of the set and keeps it out, over restarts, until this ends. What it misses is kept.
    Maintenance {
        /// Who.
        member: MemberId,
        /// Begin, or end.
        on: bool,
    },
    /// The member's disk will be another one: it leaves the set, and whatever disk comes next has missed everything.
    Replace {
        /// Who.
        member: MemberId,
        /// Even though it may hold the last copy of something.
        force: bool,
    },
    /// Gives up what a member wrote in another history: it comes back with everything missed.
    Discard {
        /// Who.
        member: MemberId,
        /// Even though it may hold the last copy of something.
        force: bool,
    },
}

impl Command {
    /// About whom.
    pub const fn member(self) -> MemberId {
        match self {
            Self::Add { member }
            | Self::Remove { member, .. }
            | Self::Maintenance { member, .. }
            | Self::Replace { member, .. }
            | Self::Discard { member, .. } => member,
        }
    }

    /// May it give up the last copy of something?
    const fn is_forced(self) -> bool {
        match self {
            Self::Remove { force, .. } | Self::Replace { force, .. } | Self::Discard { force, .. } => force,
            Self::Add { .. } | Self::Maintenance { .. } => false,
        }
    }
}

/// Why a command was not carried out. The pool is as it was, unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum CommandError {
    /// One at a time.
    #[error("another command is being carried out: wait until it has ended")]
    Busy,
    /// Not mapped here.
    #[error("the pool is not mapped by this client: map it first")]
    NotMapped,
    /// Somebody else has it.
    #[error("another client has taken the pool over: ask that one")]
    Fenced,
    /// Not in the pool.
    #[error("{member} is not a member of the pool; members are {members:?}")]
    NotMember {
        /// Asked for.
        member: MemberId,
        /// Who is.
        members: MemberSet,
    },
    /// In the pool already.
    #[error("{member} is a member already: it comes back by itself, a new disk in its place needs `replace`")]
    AlreadyMember {
        /// Asked for.
        member: MemberId,
    },
    /// The one that is left.
    #[error("{member} is the only up-to-date member: bring another one up to date first")]
    OnlyMember {
        /// Asked for.
        member: MemberId,
    },
    /// Rule L.
    #[error(
        "{member} may hold the last copy of some data: none of the other up-to-date members {others:?} holds every chunk \
         durably, the best lacks {lacking}: wait for the resync, or force it and lose them"
    )]
    LastCopy {
        /// Asked for.
        member: MemberId,
        /// Up to date without it.
        others: MemberSet,
        /// Chunks not durably clean on the best of them.
        lacking: u64,
    },
    /// The store has data of its own.
    #[error(
        "the store of {member} has written in a history that is not this pool's (it wrote in {wrote:?}, was last known \
         in {known:?}): format it, or look which pool it belongs to"
    )]
    OtherHistory {
        /// Asked for.
        member: MemberId,
        /// Its last epoch with a write.
        wrote: Epoch,
        /// Last epoch of this pool in which it was up to date.
        known: Epoch,
    },
    /// Nothing to give up.
    #[error("{member} has not been found to have written in another history: there is nothing to discard")]
    NotSplit {
        /// Asked for.
        member: MemberId,
    },
    /// It took too long; it may have been carried out.
    #[error("not done in time, {}: it may still be half-way; look at the status and ask again", Late(*member, *why))]
    Deadline {
        /// Asked for.
        member: MemberId,
        /// What is known of that member, if it is not up to date.
        why: Option<Why>,
    },
}

struct Late(MemberId, Option<Why>);

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(why) => write!(f, "{} {why}", self.0),
            None => write!(f, "{} is up to date", self.0),
        }
    }
}

/// A command being carried out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Running {
    tag: UserTag,
    command: Command,
    deadline: Now,
    /// Was proposed at least once: what it asks for may be there already.
    tried: bool,
    /// Proposed last; done when this is active.
    proposed: Option<Epoch>,
}

/// What a look at a command says.
enum Next {
    Done,
    Wait,
    Propose(Box<Proposal>),
}

impl Client {
    pub(super) fn on_command(
        &mut self,
        now: Now,
        tag: UserTag,
        command: Command,
        out: &mut Vec<ClientAction>,
    ) {
        if self.command.is_some() {
            out.push(ClientAction::Commanded { tag, result: Err(CommandError::Busy) });
            return;
        }
        let deadline = now + self.config.command_ns;
        // What is not clean everywhere may be by now: it is asked again.
        for leg in self.legs.iter_mut().filter(|leg| leg.dirty_chunks > 0) {
            (leg.told, leg.beat_at) = (false, 0);
        }
        self.command = Some(Running { tag, command, deadline, tried: false, proposed: None });
        self.step_command(now, out);
    }

    /// Looks what there is to do for the command, if one is being carried out.
    pub(super) fn step_command(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let Some(running) = &self.command else { return };
        let member = running.command.member();
        match self.phase {
            Phase::Idle => return self.end_command(Err(CommandError::NotMapped), out),
            Phase::Fenced => return self.end_command(Err(CommandError::Fenced), out),
            _ if now >= running.deadline => {
                let why = self.why(now, member);
                return self.end_command(Err(CommandError::Deadline { member, why }), out);
            }
            Phase::Assembling | Phase::Changing => return,
            Phase::Active if self.is_frozen() => return,
            Phase::Active => {}
        }
        match self.next_of(running) {
            Ok(Next::Wait) => {}
            Ok(Next::Done) => self.end_command(Ok(()), out),
            Err(error) => self.end_command(Err(error), out),
            Ok(Next::Propose(proposal)) => {
                self.join = None;
                if let Some(running) = &mut self.command {
                    (running.tried, running.proposed) = (true, Some(proposal.epoch));
                }
                self.propose(now, proposal, out);
            }
        }
    }

    /// A set is active: done, if it is the command's.
    pub(super) fn command_active(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let Some(running) = &mut self.command else { return };
        let added = matches!(running.command, Command::Add { member } if self.set.has(member));
        if running.proposed.take() == Some(self.epoch) || added {
            self.end_command(Ok(()), out);
        } else {
            self.step_command(now, out);
        }
    }

    /// The leg that was to keep everything does not.
    pub(super) fn keeper_refused(&mut self, now: Now, set: MemberSet, out: &mut Vec<ClientAction>) {
        if let Some(running) = &self.command {
            let member = running.command.member();
            self.legs[member.index()].rejoin_at = now;
            self.end_command(Err(CommandError::LastCopy { member, others: set, lacking: 1 }), out);
        }
        let proposal = self.plan(set, Origin::Shrink);
        self.propose(now, Box::new(proposal), out);
    }

    pub(super) fn end_command(&mut self, result: Result<(), CommandError>, out: &mut Vec<ClientAction>) {
        if let Some(running) = self.command.take() {
            if result.is_ok() {
                // Whatever stood in the way has been dealt with; if not, its next join says so.
                self.legs[running.command.member().index()].why = None;
            }
            out.push(ClientAction::Commanded { tag: running.tag, result });
        }
    }

    /// The store to be added may come in: from now on it may be named already.
    pub(super) fn admit(&mut self, member: MemberId) {
        if let Some(running) = self.command.as_mut().filter(|r| r.command == Command::Add { member }) {
            running.tried = true;
        }
    }

    /// The store that is to be let in although the pool does not name it.
    pub(super) fn adding(&self) -> Option<MemberId> {
        match self.command.as_ref()?.command {
            Command::Add { member } => Some(member),
            _ => None,
        }
    }

    fn next_of(&self, running: &Running) -> Result<Next, CommandError> {
        let command = running.command;
        let member = command.member();
        let named = self.members.has(member);
        let unnamed = CommandError::NotMember { member, members: self.members };
        let voided = self.legs[member.index()].stamp == Stamp::default() && !self.set.has(member);
        let (mut members, mut resting, mut void) = (self.members, self.resting, false);
        match command {
            Command::Add { .. } if named && !running.tried => {
                return Err(CommandError::AlreadyMember { member });
            }
            Command::Add { .. } => return Ok(Next::Wait), // It joins.
            Command::Remove { .. } if !named && running.tried => return Ok(Next::Done),
            Command::Replace { .. } | Command::Discard { .. } if running.tried && named && voided => {
                return Ok(Next::Done);
            }
            _ if !named => return Err(unnamed),
            Command::Maintenance { on, .. } if resting.has(member) == on => return Ok(Next::Done),
            Command::Maintenance { on: true, .. } => resting = resting.with(member),
            Command::Maintenance { on: false, .. } => resting = resting.without(member),
            Command::Remove { .. } => {
                (members, resting, void) = (members.without(member), resting.without(member), true);
            }
            Command::Replace { .. } => void = true,
            Command::Discard { .. } if self.legs[member.index()].why == Some(Why::SplitBrain) => void = true,
            Command::Discard { .. } => return Err(CommandError::NotSplit { member }),
        }
        let ends_rest = matches!(command, Command::Maintenance { on: false, .. });
        let set = self.set.without(member);
        if set.is_empty() {
            return Err(CommandError::OnlyMember { member });
        }
        if self.has_expired() {
            return Ok(Next::Wait); // An answer decides, or a new generation.
        }
        let keeper = if ends_rest || command.is_forced() { None } else { self.keeper(member)? };
        if keeper.is_none() && !ends_rest && !command.is_forced() && !Mutant::RemoveLastCopy.on() {
            return Ok(Next::Wait);
        }
        let mut proposal = self.plan(set, Origin::Shrink);
        (proposal.members, proposal.resting, proposal.keeper) = (members, resting, keeper);
        if void && !Mutant::KeepStamp.on() {
            proposal.peers[member.index()] = Stamp::default();
        }
        if matches!(command, Command::Discard { .. }) {
            proposal.last_in[member.index()] = proposal.epoch;
        }
        Ok(Next::Propose(Box::new(proposal)))
    }

    /// Rule L: a leg besides `member` that holds every chunk durably clean. `None`: not all of them have said yet.
    fn keeper(&self, member: MemberId) -> Result<Option<MemberId>, CommandError> {
        if Mutant::RemoveLastCopy.on() {
            return Ok(None);
        }
        let others = self.set.without(member);
        if let Some(keeper) = self.whole_leg(others) {
            return Ok(Some(keeper));
        }
        if others.iter().any(|m| !self.legs[m.index()].told) {
            return Ok(None);
        }
        let lacking = others.iter().map(|m| self.legs[m.index()].dirty_chunks).min().unwrap_or_default();
        Err(CommandError::LastCopy { member, others, lacking })
    }

    /// A leg of `set` that said in this epoch that it holds every chunk durably clean.
    pub(super) fn whole_leg(&self, set: MemberSet) -> Option<MemberId> {
        let whole = |m: &MemberId| {
            let leg = &self.legs[m.index()];
            leg.told && leg.dirty_chunks == 0
        };
        set.iter().find(whole)
    }
}
