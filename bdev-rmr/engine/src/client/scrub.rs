//! Rule V: comparing what the legs hold, chunk by chunk, while IO goes on elsewhere.
//!
//! ```text
//!   Idle ──Start──▶ Running ──last chunk──▶ Done          one chunk:  in the lanes, as a write that covers it
//!                     │ Stop, fenced                                   └▶ Asking ──all the same──▶ next
//!                     └──────────────────▶ Stopped                          └─differ─▶ Repairing ──marked──▶ next
//! ```
//! While a chunk is compared nothing is in flight there: what came before has been answered by all legs, what comes later
//! waits. So legs that are clean there must hold the same bytes. Where they do not, the majority of at least three counts, or
//! the leg that the caller named; the others mark the chunk and copy it. Else reads of the chunk are pinned to one leg.

use super::ops::{Request, Stage, Whose};
use super::{Client, ClientAction, Phase};
use crate::event::Now;
use crate::mutant::Mutant;
use rmr_proto::{BlockRange, ChunkNo, Epoch, IoOp, IoStatus, MEMBERS_MAX, MemberId, MemberSet, Msg, Tag};

/// Most chunks that reads can be pinned for; a scrub that finds more stops.
pub(super) const PINS_MAX: usize = 64;

/// What to compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ScrubRange {
    /// First chunk: where an earlier scrub stopped, or 0.
    pub first: ChunkNo,
    /// The chunk after the last; beyond the device means all of it.
    pub end: ChunkNo,
    /// Whose bytes count where legs differ, whatever the others say.
    pub believe: Option<MemberId>,
    /// Pause between two chunks, ns.
    pub pace_ns: Now,
}

/// What a caller can ask of the scrub.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ScrubCommand {
    /// Compare this, from now on; counts start at zero.
    Start(ScrubRange),
    /// Stop after the chunk in hand.
    Stop,
}

/// Where a scrub stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ScrubState {
    /// Never started.
    #[default]
    Idle,
    /// Under way, or waiting for the pool.
    Running,
    /// Through.
    Done,
    /// Stopped by the caller, or the pool was lost.
    Stopped,
    /// More chunks differ than reads can be pinned for.
    TooManyPins,
}

/// Progress of a scrub, in chunks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Scrub {
    /// Where it stands.
    pub state: ScrubState,
    /// Compared next: an interrupted scrub goes on from here.
    pub next: ChunkNo,
    /// The chunk after the last.
    pub end: ChunkNo,
    /// Gone through.
    pub chunks: u64,
    /// Clean on fewer than two legs that could read it: nothing was compared.
    pub single: u64,
    /// Some leg could not read it; it repairs itself.
    pub unread: u64,
    /// Legs differed.
    pub mismatches: u64,
    /// Of these: those that are wrong have marked it and copy it.
    pub repaired: u64,
    /// Of these: nobody knows who is right, or could not be told.
    pub unresolved: u64,
    /// Chunks whose reads are pinned now.
    pub pinned: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Step {
    #[default]
    Asking,
    Repairing,
}

/// The scrub of a client, and the pins.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Scrubber {
    told: Scrub,
    believe: Option<MemberId>,
    pace_ns: Now,
    not_before: Now,
    /// Slot and chunk in hand.
    slot: Option<(u32, ChunkNo)>,
    step: Step,
    answers: [Option<(IoStatus, u32)>; MEMBERS_MAX],
    /// Legs that could not mark the chunk.
    refused: bool,
    pins: Vec<(ChunkNo, MemberId)>,
}

impl Scrubber {
    /// Legs that are clean there, and what they hold.
    fn sums(&self) -> impl Iterator<Item = (MemberId, u32)> {
        let all = self.answers.iter().enumerate();
        all.filter_map(|(index, answer)| match answer {
            Some((IoStatus::Done, crc)) => Some((MemberId::at(index), *crc)),
            _ => None,
        })
    }

    /// Whose bytes count: those of the leg that was named, else of more than half of at least three.
    fn right(&self) -> Option<u32> {
        let legs = self.sums().count();
        let of = |member| self.sums().find(|(m, _)| *m == member).map(|(_, crc)| crc);
        let same = |crc: u32| self.sums().filter(|(_, other)| *other == crc).count();
        let majority = || self.sums().map(|(_, crc)| crc).find(|crc| legs >= 3 && 2 * same(*crc) > legs);
        if Mutant::ScrubBelievesFirst.on() {
            return self.sums().next().map(|(_, crc)| crc);
        }
        self.believe.and_then(of).or_else(majority)
    }

    fn unpin(&mut self, chunk: ChunkNo) {
        self.pins.retain(|(pinned, _)| *pinned != chunk);
    }

    /// False if there is no room.
    fn pin(&mut self, chunk: ChunkNo, member: MemberId) -> bool {
        self.unpin(chunk);
        let room = self.pins.len() < PINS_MAX;
        if room {
            self.pins.push((chunk, member));
        }
        room
    }
}

impl Client {
    /// How the scrub stands.
    pub fn scrub(&self) -> Scrub {
        Scrub { pinned: self.scrub.pins.len(), ..self.scrub.told }
    }

    /// Chunks on which legs differ, and the leg that serves their reads meanwhile. Forgotten with the client.
    pub fn pins(&self) -> &[(ChunkNo, MemberId)] {
        &self.scrub.pins
    }

    pub(super) fn on_scrub(&mut self, now: Now, command: ScrubCommand) {
        let ScrubCommand::Start(range) = command else {
            if self.scrub.told.state == ScrubState::Running {
                self.scrub.told.state = ScrubState::Stopped;
            }
            return;
        };
        let end = ChunkNo(range.end.0.min(self.geometry.chunks()));
        let state = if range.first < end { ScrubState::Running } else { ScrubState::Done };
        self.scrub.told = Scrub { state, next: range.first, end, ..Scrub::default() };
        (self.scrub.believe, self.scrub.pace_ns, self.scrub.not_before) = (range.believe, range.pace_ns, now);
        self.step_scrub(now);
    }

    /// Takes the next chunk in hand when it is time.
    pub(super) fn step_scrub(&mut self, now: Now) {
        let running = self.scrub.told.state == ScrubState::Running && self.scrub.slot.is_none();
        if !running || now < self.scrub.not_before || self.phase != Phase::Active || !self.has_room() {
            return;
        }
        let chunk = self.scrub.told.next;
        let range = self.geometry.chunk_range(chunk);
        let request = Request { user: 0, op: IoOp::Read, range, buf: None, deadline: Now::MAX };
        let slot = self.place(request, Whose::Scrub);
        self.scrub.slot = Some((slot, chunk));
    }

    /// Nothing is in flight on the chunk: asks all legs what they hold. Asked again in every new epoch.
    pub(super) fn start_check(&mut self, now: Now, slot: u32, out: &mut Vec<ClientAction>) {
        let Some((_, chunk)) = self.scrub.slot.filter(|(mine, _)| *mine == slot) else { return };
        (self.scrub.step, self.scrub.refused) = (Step::Asking, false);
        self.scrub.answers = Default::default();
        let epoch = self.epoch;
        let Some(tag) = self.ask_legs(now, slot, self.set) else { return };
        for member in self.set.iter() {
            out.push(ClientAction::Send(member, Msg::Check { epoch, tag, chunk }));
        }
    }

    /// From now on `legs` owe an answer for the slot.
    fn ask_legs(&mut self, now: Now, slot: u32, legs: MemberSet) -> Option<Tag> {
        let op = self.requests.slots.get_mut(slot as usize)?.as_mut()?;
        self.sending = self.sending.wrapping_add(1);
        (op.sending, op.epoch, op.sent_at) = (self.sending, self.epoch, now);
        (op.stage, op.pending) = (Stage::Sent, legs);
        Some(Tag { slot, sending: op.sending })
    }

    /// A leg told what it holds (`crc`), or that it has marked the chunk.
    pub(super) fn on_checked(
        &mut self,
        now: Now,
        from: MemberId,
        (epoch, tag): (Epoch, Tag),
        status: IoStatus,
        crc: Option<u32>,
        out: &mut Vec<ClientAction>,
    ) {
        let op = self.requests.slots.get_mut(tag.slot as usize).and_then(Option::as_mut);
        let mine = |op: &&mut super::ops::Op| {
            op.whose == Whose::Scrub && op.sending == tag.sending && op.epoch == epoch && op.pending.has(from)
        };
        let Some(op) = op.filter(mine) else { return };
        let step = if crc.is_some() { Step::Asking } else { Step::Repairing };
        if self.phase != Phase::Active || step != self.scrub.step {
            return; // Asked again in the next epoch.
        }
        if matches!(status, IoStatus::WrongEpoch | IoStatus::Fenced | IoStatus::NotServing) {
            self.superseded |= status == IoStatus::Fenced;
            self.lose(now, from, out);
            return;
        }
        op.pending = op.pending.without(from);
        let last = op.pending.is_empty();
        match crc {
            Some(crc) => self.scrub.answers[from.index()] = Some((status, crc)),
            None => {
                self.legs[from.index()].reads.replies += 1;
                self.scrub.refused |= status != IoStatus::Done;
            }
        }
        match (last, step) {
            (false, _) => {}
            (true, Step::Asking) => self.judge(now, tag.slot, out),
            (true, Step::Repairing) => self.end_chunk(now, tag.slot, true, !self.scrub.refused),
        }
    }

    /// All legs have told what they hold.
    fn judge(&mut self, now: Now, slot: u32, out: &mut Vec<ClientAction>) {
        let first = self.scrub.sums().next().map(|(_, crc)| crc);
        if self.scrub.sums().all(|(_, crc)| Some(crc) == first) {
            return self.end_chunk(now, slot, false, true);
        }
        let Some(right) = self.scrub.right() else { return self.end_chunk(now, slot, true, false) };
        let wrong = self.scrub.sums().filter(|(_, crc)| *crc != right);
        let wrong = wrong.fold(MemberSet::EMPTY, |set, (member, _)| set.with(member));
        let Some((_, chunk)) = self.scrub.slot else { return };
        let Some(tag) = self.ask_legs(now, slot, wrong) else { return };
        self.scrub.step = Step::Repairing;
        let (epoch, answered) = (self.epoch, self.horizon.answered());
        for member in wrong.iter() {
            let leg = &mut self.legs[member.index()];
            leg.number += 1;
            // Until it says otherwise: no read there first.
            leg.dirty_chunks = leg.dirty_chunks.max(1);
            let msg = Msg::Repair { epoch, tag, number: leg.number, answered, chunk };
            out.push(ClientAction::Send(member, msg));
        }
    }

    /// The chunk in hand is done with.
    fn end_chunk(&mut self, now: Now, slot: u32, differed: bool, resolved: bool) {
        let Some((_, chunk)) = self.scrub.slot.take() else { return };
        self.free(slot);
        let scrub = &mut self.scrub;
        let count = |yes: bool| u64::from(yes);
        let unread = scrub.answers.iter().flatten().any(|(status, _)| *status == IoStatus::DiskError);
        // A chunk that an earlier scrub left in hand is not counted: this one comes to it by itself.
        if scrub.told.next == chunk {
            scrub.told.next = ChunkNo(chunk.0 + 1);
            scrub.told.chunks += 1;
            scrub.told.single += count(scrub.sums().count() < 2);
            scrub.told.unread += count(unread);
            scrub.told.mismatches += count(differed);
            scrub.told.repaired += count(differed && resolved);
            scrub.told.unresolved += count(!resolved);
        } else if differed && resolved && !Mutant::ScrubForgetsHand.on() {
            // But when it does, there will be nothing left to find.
            scrub.told.mismatches += 1;
            scrub.told.repaired += 1;
        }
        let compared = scrub.sums().count() > 1;
        let right = scrub.right();
        let leg = scrub.sums().find(|(_, crc)| right.is_none_or(|right| right == *crc)).map(|(leg, _)| leg);
        match leg {
            _ if resolved && compared => scrub.unpin(chunk),
            Some(leg) if !resolved && !scrub.pin(chunk, leg) => {
                scrub.told.state = ScrubState::TooManyPins;
                return;
            }
            _ => {}
        }
        if scrub.told.state == ScrubState::Running && scrub.told.next >= scrub.told.end {
            scrub.told.state = ScrubState::Done;
        }
        scrub.not_before = now + scrub.pace_ns;
        self.step_scrub(now);
    }

    /// The pool is somebody else's.
    pub(super) fn scrub_lost(&mut self) {
        self.scrub.slot = None;
        self.scrub.told.state = ScrubState::Stopped;
    }

    /// The leg that serves all reads of a part of `range`, because legs differ there.
    pub(super) fn pinned_to(&self, range: BlockRange) -> Option<MemberId> {
        if self.scrub.pins.is_empty() {
            return None;
        }
        let (first, last) = self.geometry.chunks_of(range);
        let pin = self.scrub.pins.iter().find(|(chunk, _)| (first..=last).contains(chunk));
        pin.map(|(_, member)| *member)
    }

    /// The set changed: pins to legs that have left go to the lowest id that is left, and stay there.
    pub(super) fn move_pins(&mut self) {
        let Some(lowest) = self.set.iter().next() else { return };
        for (_, member) in self.scrub.pins.iter_mut().filter(|(_, m)| !self.set.has(*m)) {
            *member = lowest;
        }
    }
}
