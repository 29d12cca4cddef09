//! Requests of the caller: their slots, from submission to completion. The IO path (this file, `fanout`, `reads`,
//! `deadlines`) allocates nothing once the client is built.

use super::{Client, ClientAction, Phase};
use crate::event::{Completion, IoError, Now, UserTag};
use crate::mutant::Mutant;
use rmr_proto::{BlockRange, BufId, Epoch, IoOp, MemberSet, Seq};

/// Pause before a request that no clean leg could serve is tried again, ns.
pub(super) const UNCLEAN_PAUSE_NS: Now = 5_000_000;

/// A request of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// The caller's name for it.
    pub user: UserTag,
    /// What.
    pub op: IoOp,
    /// Where; ignored by a flush.
    pub range: BlockRange,
    /// Writes: the bytes. The client keeps it until the request completes.
    pub buf: Option<BufId>,
    /// Completes with an error if it has not succeeded by then, ns.
    pub deadline: Now,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// Waits for an overlapping one, or for the pool to be active.
    Queued,
    /// Sent.
    Sent,
    /// No clean leg could serve it: again after this.
    Retry(Now),
    /// Its caller was told that the deadline passed; it is over once every leg has answered or is fenced.
    Expired,
}

/// Who wants it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Whose {
    /// The caller.
    User,
    /// The client: a flush that a leg asked for.
    OwnFlush,
    /// The scrub: holds its chunk as a write would, and asks the legs what they have there.
    Scrub,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Op {
    pub(super) request: Request,
    pub(super) stage: Stage,
    pub(super) in_lanes: bool,
    pub(super) seq: Seq,
    pub(super) epoch: Epoch,
    pub(super) sending: u32,
    pub(super) sent_at: Now,
    pub(super) pending: MemberSet,
    pub(super) answered: MemberSet,
    /// Writes: legs that executed it and hold all its chunks clean.
    pub(super) clean: MemberSet,
    /// Legs that did not execute it because they missed a chunk of it.
    pub(super) unclean: MemberSet,
    /// Writes: sent to legs that missed a chunk, because a clean one has it.
    pub(super) proved: bool,
    /// Was, in this generation: a leg may have executed it on some chunks clean there and on others missed.
    pub(super) proved_once: bool,
    /// A leg that executed it, or may have, has left the set in this generation: others may have copied it from there.
    pub(super) left_behind: bool,
    pub(super) flush_horizon: Seq,
    pub(super) whose: Whose,
}

impl Op {
    pub(super) fn forget_answers(&mut self) {
        (self.answered, self.clean, self.unclean) = (MemberSet::EMPTY, MemberSet::EMPTY, MemberSet::EMPTY);
        (self.proved, self.proved_once, self.left_behind) = (false, false, false);
    }

    /// After a change of set: answers of legs that are still in it count, but not those of legs that missed a chunk of
    /// the write: executing it again in the new epoch, they learn that who has left missed it.
    pub(super) fn keep_answers_of(&mut self, set: MemberSet) {
        let gone = self.pending.or(self.answered).minus(set);
        self.left_behind |= !gone.is_empty() && !Mutant::NobodyElse.on();
        self.clean = self.clean.and(set);
        self.answered = self.answered.and(set);
        self.unclean = MemberSet::EMPTY;
        self.proved = false;
        if self.request.op.is_write() {
            self.answered = self.answered.and(self.clean);
        }
    }
}

/// Slots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Requests {
    pub(super) slots: Vec<Option<Op>>,
    free: Vec<u32>,
}

impl Requests {
    pub(super) fn new(max: usize) -> Self {
        Self { slots: vec![None; max], free: (0..max as u32).rev().collect() }
    }

    pub(super) fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Client {
    /// Is there room for another request? The driver holds back what does not fit.
    pub fn has_room(&self) -> bool {
        !self.requests.free.is_empty()
    }

    pub(super) fn on_submit(&mut self, now: Now, request: Request, out: &mut Vec<ClientAction>) {
        let long = u64::from(request.range.count) > 1 << self.config.request_shift_max.max(8);
        if request.op != IoOp::Flush && (long || !self.geometry.holds(request.range)) {
            let result = Err(IoError::BadRange);
            out.push(ClientAction::Complete { user: request.user, result, buf: None });
            return;
        }
        if self.phase == Phase::Fenced {
            let result = Err(IoError::Fenced);
            out.push(ClientAction::Complete { user: request.user, result, buf: None });
            return;
        }
        self.place(request, Whose::User);
        let _ = now;
    }

    /// Puts a request into a slot.
    ///
    /// # Panics
    /// If there is no room: the driver asks [`Client::has_room`] first.
    pub(super) fn place(&mut self, request: Request, whose: Whose) -> u32 {
        let slot = self.requests.free.pop().expect("the driver asks has_room before it submits");
        let laneless = whose == Whose::Scrub && Mutant::ScrubWithoutLanes.on();
        let in_lanes = request.op != IoOp::Flush && !laneless;
        self.requests.slots[slot as usize] = Some(Op {
            request,
            stage: Stage::Queued,
            in_lanes,
            seq: Seq(0),
            epoch: Epoch::default(),
            sending: 0,
            sent_at: 0,
            pending: MemberSet::EMPTY,
            answered: MemberSet::EMPTY,
            clean: MemberSet::EMPTY,
            unclean: MemberSet::EMPTY,
            proved: false,
            proved_once: false,
            left_behind: false,
            flush_horizon: Seq(0),
            whose,
        });
        if in_lanes {
            self.lanes.enter(slot, request.range, request.op.is_write() || whose == Whose::Scrub);
            if !self.lanes.is_free(slot) && !Mutant::NoOverlapOrder.on() {
                return slot;
            }
        }
        self.ready.push_back(slot);
        slot
    }

    pub(super) fn complete(
        &mut self,
        slot: u32,
        result: Completion,
        buf: Option<BufId>,
        out: &mut Vec<ClientAction>,
    ) {
        if let Some(op) = &self.requests.slots[slot as usize] {
            match op.whose {
                Whose::User => out.push(ClientAction::Complete { user: op.request.user, result, buf }),
                Whose::OwnFlush => {
                    self.own_flush = false;
                    // The legs that wait for it hear of it with the next tick, should no request go out before.
                    self.legs.iter_mut().filter(|leg| leg.pressure).for_each(|leg| leg.beat_at = 0);
                }
                Whose::Scrub => self.scrub_lost(),
            }
        }
        self.free(slot);
    }

    pub(super) fn free(&mut self, slot: u32) {
        let Some(op) = self.requests.slots[slot as usize].take() else { return };
        self.requests.free.push(slot);
        if !op.in_lanes || Mutant::NoOverlapOrder.on() {
            if op.in_lanes {
                self.lanes.leave(slot, |_| {});
            }
            return;
        }
        let mut woken = [u32::MAX; 16];
        let mut count = 0;
        // More than 16 overlapping waiters: the rest is found by the tick.
        self.lanes.leave(slot, |waiter| {
            if count < woken.len() {
                woken[count] = waiter;
                count += 1;
            }
        });
        for waiter in &woken[..count] {
            self.wake(*waiter);
        }
    }

    pub(super) fn wake(&mut self, slot: u32) {
        let queued = |op: &Op| op.stage == Stage::Queued && op.in_lanes;
        let waits = self.requests.slots[slot as usize].as_ref().is_some_and(queued);
        if waits && self.lanes.is_free(slot) && !self.ready.contains(&slot) {
            self.ready.push_back(slot);
        }
    }

    /// Ends everything: the pool is somebody else's.
    pub(super) fn fail_all(&mut self, out: &mut Vec<ClientAction>) {
        self.interrupt_resize(out);
        self.ready.clear();
        for slot in 0..self.requests.slots.len() as u32 {
            match self.requests.slots[slot as usize].as_ref().map(|op| op.stage) {
                None => {}
                Some(Stage::Expired) => self.free(slot),
                Some(_) => self.complete(slot, Err(IoError::Fenced), None, out),
            }
        }
        self.ready.clear();
    }
}
