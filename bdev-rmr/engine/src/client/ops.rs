//! The IO path: fan-out, answers, retries, deadlines. Allocates nothing once the client is built.

use super::{Client, ClientAction, Phase};
use crate::event::{Completion, IoError, Now, UserTag};
use crate::mutant::Mutant;
use rmr_proto::{
    BlockRange, BufId, Epoch, IoOp, IoReply, IoRequest, IoStatus, MemberId, MemberSet, Msg, Seq, Tag,
};

/// Pause before a request that no clean leg could serve is tried again, ns.
const UNCLEAN_PAUSE_NS: Now = 5_000_000;

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
enum Stage {
    /// Waits for an overlapping one, or for the pool to be active.
    Queued,
    /// Sent.
    Sent,
    /// No clean leg could serve it: again after this.
    Retry(Now),
    /// Its caller was told that the deadline passed; it is over once every leg has answered or is fenced.
    Expired,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Op {
    request: Request,
    stage: Stage,
    in_lanes: bool,
    seq: Seq,
    epoch: Epoch,
    sending: u32,
    sent_at: Now,
    pending: MemberSet,
    answered: MemberSet,
    /// Writes: legs that executed it and hold all its chunks clean.
    clean: MemberSet,
    /// Legs that did not execute it because they missed a chunk of it.
    unclean: MemberSet,
    /// Writes: sent to legs that missed a chunk, because a clean one has it.
    proved: bool,
    /// Was, in this generation: a leg may have executed it on some chunks clean there and on others missed.
    proved_once: bool,
    flush_horizon: Seq,
    own: bool,
}

impl Op {
    fn forget_answers(&mut self) {
        (self.answered, self.clean, self.unclean) = (MemberSet::EMPTY, MemberSet::EMPTY, MemberSet::EMPTY);
        (self.proved, self.proved_once) = (false, false);
    }

    /// After a change of set: answers of legs that are still in it count, but not those of legs that missed a chunk of
    /// the write: executing it again in the new epoch, they learn that who has left missed it.
    fn keep_answers_of(&mut self, set: MemberSet) {
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
    slots: Vec<Option<Op>>,
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
        let long = u64::from(request.range.count) > self.lanes.max_blocks();
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
        self.place(request, false);
        let _ = now;
    }

    /// Puts a request into a slot.
    ///
    /// # Panics
    /// If there is no room: the driver asks [`Client::has_room`] first.
    fn place(&mut self, request: Request, own: bool) {
        let slot = self.requests.free.pop().expect("the driver asks has_room before it submits");
        let in_lanes = request.op != IoOp::Flush;
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
            flush_horizon: Seq(0),
            own,
        });
        if in_lanes {
            self.lanes.enter(slot, request.range, request.op.is_write());
            if !self.lanes.is_free(slot) && !Mutant::NoOverlapOrder.on() {
                return;
            }
        }
        self.ready.push_back(slot);
    }

    /// Starts what can start.
    pub(super) fn run_ready(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        while self.phase == Phase::Active && !self.is_frozen() {
            let Some(slot) = self.ready.pop_front() else { return };
            if !self.start(now, slot, out) {
                self.ready.push_front(slot);
                return;
            }
        }
    }

    /// False if there is no sequence number to be had now.
    fn start(&mut self, now: Now, slot: u32, out: &mut Vec<ClientAction>) -> bool {
        let Some(op) = &mut self.requests.slots[slot as usize] else { return true };
        if op.request.op != IoOp::Flush && !self.geometry.holds(op.request.range) {
            // Handed over before the size of the pool was known.
            self.complete(slot, Err(IoError::BadRange), None, out);
            return true;
        }
        if op.request.op.is_write() {
            let Some(seq) = self.horizon.begin() else { return false };
            op.seq = seq;
        }
        op.flush_horizon = self.horizon.answered();
        op.forget_answers();
        let targets = if op.request.op == IoOp::Read { self.pick(MemberSet::EMPTY) } else { self.set };
        self.send(now, slot, targets, out);
        true
    }

    /// One leg to read from: in turn, those clean everywhere first.
    fn pick(&mut self, tried: MemberSet) -> MemberSet {
        let left = self.set.minus(tried);
        let clean = left.iter().filter(|m| self.legs[m.index()].dirty_chunks == 0).count();
        self.turn += 1;
        let nth = self.turn % clean.max(1).min(left.len().max(1));
        let only_clean = |m: &MemberId| clean == 0 || self.legs[m.index()].dirty_chunks == 0;
        let nth = if clean == 0 { self.turn % left.len().max(1) } else { nth };
        left.iter().filter(only_clean).nth(nth).map_or(MemberSet::EMPTY, MemberSet::only)
    }

    fn send(&mut self, now: Now, slot: u32, targets: MemberSet, out: &mut Vec<ClientAction>) {
        let Some(op) = &mut self.requests.slots[slot as usize] else { return };
        self.sending = self.sending.wrapping_add(1);
        op.sending = self.sending;
        op.epoch = self.epoch;
        op.sent_at = now;
        op.stage = Stage::Sent;
        op.pending = targets;
        for member in targets.iter() {
            let leg = &mut self.legs[member.index()];
            leg.number += 1;
            let io = IoRequest {
                epoch: self.epoch,
                tag: Tag { slot, sending: op.sending },
                number: leg.number,
                op: op.request.op,
                range: op.request.range,
                seq: op.seq,
                answered: self.horizon.answered(),
                flushed: self.flushed,
                proved: op.proved,
            };
            out.push(ClientAction::Send(member, Msg::Io(io, op.request.buf)));
        }
    }

    /// A flush on behalf of a write that waits for it.
    fn send_flush(&mut self, slot: u32, targets: MemberSet, out: &mut Vec<ClientAction>) {
        let Some(op) = &mut self.requests.slots[slot as usize] else { return };
        op.pending = op.pending.or(targets);
        for member in targets.iter() {
            let leg = &mut self.legs[member.index()];
            leg.number += 1;
            let io = IoRequest {
                epoch: self.epoch,
                tag: Tag { slot, sending: op.sending },
                number: leg.number,
                op: IoOp::Flush,
                answered: self.horizon.answered(),
                flushed: self.flushed,
                ..IoRequest::default()
            };
            out.push(ClientAction::Send(member, Msg::Io(io, None)));
        }
    }

    pub(super) fn on_reply(
        &mut self,
        now: Now,
        from: MemberId,
        reply: IoReply,
        buf: Option<BufId>,
        out: &mut Vec<ClientAction>,
    ) {
        let slot = reply.tag.slot;
        let read = |op: &Op| op.request.op == IoOp::Read && reply.status == IoStatus::Done;
        let wanted = self.requests.slots.get(slot as usize).and_then(Option::as_ref).is_some_and(read);
        let op = self.requests.slots.get_mut(slot as usize).and_then(Option::as_mut);
        let live = matches!(self.phase, Phase::Active | Phase::Changing);
        let mine = |op: &&mut Op| {
            let sending = op.sending == reply.tag.sending || Mutant::AnySendingAnswers.on();
            live && sending
                && op.pending.has(from)
                && (op.epoch == reply.epoch || Mutant::AnySendingAnswers.on())
        };
        let op = op.filter(mine);
        let buf = match buf {
            Some(buf) if op.is_none() || !wanted => {
                out.push(ClientAction::Release(buf));
                None
            }
            buf => buf,
        };
        let Some(op) = op else { return };
        if wanted && buf.is_none() {
            // Done, it says, and sends nothing.
            self.lose(now, from, out);
            return;
        }
        let leg = &mut self.legs[from.index()];
        if reply.status == IoStatus::Done {
            leg.dirty_chunks = reply.dirty_chunks;
            leg.pressure = reply.pressure;
            self.under_pressure |= reply.pressure;
            leg.stamp.counter = leg.stamp.counter.max(reply.counter);
        }
        let read = op.request.op == IoOp::Read;
        match reply.status {
            IoStatus::Done if read && self.phase == Phase::Changing => {
                // Not acknowledged in an epoch that may be over; sent again in the next.
                out.extend(buf.map(ClientAction::Release));
            }
            IoStatus::Done if read => self.complete(slot, Ok(()), buf, out),
            IoStatus::Done => {
                op.pending = op.pending.without(from);
                op.answered = op.answered.with(from);
                if reply.missed == 0 {
                    op.clean = op.clean.with(from);
                }
                self.settle(now, slot, out);
            }
            IoStatus::NotClean | IoStatus::DiskError if read => {
                if reply.status == IoStatus::NotClean {
                    op.unclean = op.unclean.with(from);
                }
                if reply.status == IoStatus::NotClean {
                    self.legs[from.index()].dirty_chunks = self.legs[from.index()].dirty_chunks.max(1);
                }
                self.read_elsewhere(now, slot, from, out);
            }
            IoStatus::NotClean => {
                op.pending = op.pending.without(from);
                op.unclean = op.unclean.with(from);
                self.settle(now, slot, out);
            }
            // A change is under way: the request is sent again when it is over.
            IoStatus::WrongEpoch if self.phase == Phase::Changing => {}
            status => {
                self.superseded |= status == IoStatus::Fenced;
                self.lose(now, from, out);
            }
        }
    }

    fn read_elsewhere(&mut self, now: Now, slot: u32, from: MemberId, out: &mut Vec<ClientAction>) {
        let Some(op) = &mut self.requests.slots[slot as usize] else { return };
        op.answered = op.answered.with(from);
        op.pending = MemberSet::EMPTY;
        if self.phase != Phase::Active {
            return;
        }
        let tried = op.answered;
        let next = self.pick(tried);
        if !next.is_empty() {
            self.send(now, slot, next, out);
            return;
        }
        let Some(op) = &mut self.requests.slots[slot as usize] else { return };
        if !op.unclean.is_empty() {
            op.stage = Stage::Retry(now + UNCLEAN_PAUSE_NS);
        } else {
            self.complete(slot, Err(IoError::Unreadable), None, out);
        }
    }

    /// A write or flush got an answer: over, if that was the last.
    fn settle(&mut self, now: Now, slot: u32, out: &mut Vec<ClientAction>) {
        let changing = self.phase == Phase::Changing;
        let Some(op) = &mut self.requests.slots[slot as usize] else { return };
        if (!op.pending.is_empty() && !Mutant::AckOnFirst.on()) || changing {
            return;
        }
        let write = op.request.op.is_write();
        let (seq, expired, unclean) = (op.seq, op.stage == Stage::Expired, op.unclean);
        let no_clean_leg = write && op.clean.is_empty();
        let torn = op.proved_once && no_clean_leg;
        if torn || (!unclean.is_empty() && !no_clean_leg && expired) {
            // Executed on some legs and not on others, and its bytes are gone or no clean leg that has it is left: only
            // a new generation settles it.
            self.assemble(now, self.next_generation(), now, out);
            return;
        }
        if !unclean.is_empty() && !no_clean_leg {
            // Clean legs have it: now those may execute it that missed a chunk of it, and stay missed. The clean ones
            // flush: were they to leave, a later FLUSH of the others could not vouch for it.
            (op.proved, op.proved_once, op.unclean) = (true, true, MemberSet::EMPTY);
            let clean = op.clean;
            self.send(now, slot, unclean, out);
            if !Mutant::NoFlushOfProved.on() {
                self.send_flush(slot, clean, out);
            }
            return;
        }
        if write {
            self.horizon.end(seq);
        } else {
            self.flushed = self.flushed.max(op.flush_horizon);
            self.flushed_at = now;
        }
        if expired {
            self.free(slot);
        } else if no_clean_leg {
            op.stage = Stage::Retry(now + UNCLEAN_PAUSE_NS);
        } else {
            self.complete(slot, Ok(()), None, out);
        }
    }

    fn complete(&mut self, slot: u32, result: Completion, buf: Option<BufId>, out: &mut Vec<ClientAction>) {
        if let Some(op) = &self.requests.slots[slot as usize] {
            if op.own {
                self.own_flush = false;
                // The legs that wait for it hear of it with the next tick, should no request go out before.
                self.legs.iter_mut().filter(|leg| leg.pressure).for_each(|leg| leg.beat_at = 0);
            } else {
                out.push(ClientAction::Complete { user: op.request.user, result, buf });
            }
        }
        self.free(slot);
    }

    fn free(&mut self, slot: u32) {
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

    fn wake(&mut self, slot: u32) {
        let queued = |op: &Op| op.stage == Stage::Queued && op.in_lanes;
        let waits = self.requests.slots[slot as usize].as_ref().is_some_and(queued);
        if waits && self.lanes.is_free(slot) && !self.ready.contains(&slot) {
            self.ready.push_back(slot);
        }
    }

    /// Deadlines, and requests whose pause is over.
    pub(super) fn expire(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        for slot in 0..self.requests.slots.len() as u32 {
            let Some(op) = &self.requests.slots[slot as usize] else { continue };
            let late = now >= op.request.deadline && !op.own;
            match op.stage {
                Stage::Expired => {}
                Stage::Queued if late => {
                    self.ready.retain(|s| *s != slot);
                    self.complete(slot, Err(IoError::Deadline), None, out);
                }
                Stage::Queued => self.wake(slot),
                Stage::Retry(_) if late => self.complete(slot, Err(IoError::Deadline), None, out),
                Stage::Retry(at) if now >= at && self.phase == Phase::Active && !self.is_frozen() => {
                    if !self.start(now, slot, out) {
                        return;
                    }
                }
                Stage::Retry(_) => {}
                Stage::Sent if late => self.expire_sent(slot, out),
                Stage::Sent => {}
            }
        }
    }

    fn expire_sent(&mut self, slot: u32, out: &mut Vec<ClientAction>) {
        let Some(op) = &mut self.requests.slots[slot as usize] else { return };
        if !op.request.op.is_write() {
            self.complete(slot, Err(IoError::Deadline), None, out);
            return;
        }
        op.stage = Stage::Expired;
        op.request.buf = None;
        out.push(ClientAction::Complete { user: op.request.user, result: Err(IoError::Deadline), buf: None });
    }

    /// Legs that owe an answer for too long.
    pub(super) fn find_late_legs(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        let timeout = self.config.leg_timeout_ns;
        let mut late = MemberSet::EMPTY;
        for op in self.requests.slots.iter().flatten() {
            if !op.pending.is_empty()
                && matches!(op.stage, Stage::Sent | Stage::Expired)
                && now > op.sent_at + timeout
            {
                late = late.or(op.pending);
            }
        }
        for member in self.set.iter() {
            if now > self.legs[member.index()].heard_at + timeout {
                late = late.with(member);
            }
        }
        for member in late.and(self.set).iter() {
            self.lose(now, member, out);
        }
    }

    /// Is any request owed an answer by any leg?
    pub(super) fn is_owed(&self) -> bool {
        self.requests.slots.iter().flatten().any(|op| !op.pending.is_empty())
    }

    /// Did the deadline of a write pass that some leg of `set` has not answered? Its bytes are gone, so it cannot be sent
    /// again: only a new generation settles it.
    pub(super) fn has_expired(&self, set: MemberSet) -> bool {
        let split = |op: &Op| !op.unclean.and(set).is_empty() && !op.clean.and(set).is_empty();
        let owed = |op: &Op| !op.pending.and(set).is_empty() || split(op) || op.proved_once;
        let stuck = |op: &Op| op.stage == Stage::Expired && owed(op);
        self.requests.slots.iter().flatten().any(stuck)
    }

    /// A new epoch is active: what is not over is sent again, in a new generation to everybody.
    pub(super) fn resend(&mut self, now: Now, new_generation: bool, out: &mut Vec<ClientAction>) {
        for slot in 0..self.requests.slots.len() as u32 {
            let Some(op) = &mut self.requests.slots[slot as usize] else { continue };
            match op.stage {
                Stage::Queued | Stage::Retry(_) => {}
                Stage::Expired if new_generation => self.free(slot),
                Stage::Sent | Stage::Expired if op.request.op == IoOp::Read => {
                    op.answered = MemberSet::EMPTY;
                    let targets = self.pick(MemberSet::EMPTY);
                    self.send(now, slot, targets, out);
                }
                Stage::Sent if new_generation => {
                    op.stage = Stage::Queued;
                    op.pending = MemberSet::EMPTY;
                    self.ready.push_back(slot);
                }
                Stage::Expired => {
                    // Every leg of the set has answered, or none that is left has executed it.
                    let seq = op.seq;
                    self.horizon.end(seq);
                    self.free(slot);
                }
                Stage::Sent => {
                    op.keep_answers_of(self.set);
                    let targets = self.set.minus(op.answered);
                    if targets.is_empty() {
                        op.pending = targets;
                        self.settle(now, slot, out);
                    } else {
                        self.send(now, slot, targets, out);
                    }
                }
            }
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

    /// A flush of our own when a leg has too many live entries: at once, but for the least pause.
    pub(super) fn flush_for_legs(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        self.under_pressure = self.set.iter().any(|m| self.legs[m.index()].pressure);
        let due = self.under_pressure
            && self.phase == Phase::Active
            && self.flushed < self.horizon.answered()
            && now >= self.flushed_at + self.config.flush_ns;
        if due && !self.own_flush && self.has_room() {
            self.own_flush = true;
            let range = BlockRange::default();
            let request = Request { user: 0, op: IoOp::Flush, range, buf: None, deadline: Now::MAX };
            self.place(request, true);
        }
        let _ = out;
    }
}
