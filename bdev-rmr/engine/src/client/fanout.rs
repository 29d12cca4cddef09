//! Requests go out to legs and answers come in; after a change of set what is not over is sent again.

use super::ops::{Op, Request, Stage, UNCLEAN_PAUSE_NS, Whose};
use super::{Client, ClientAction, Phase};
use crate::event::{IoError, Now};
use crate::mutant::Mutant;
use rmr_proto::{BlockRange, BufId, IoOp, IoReply, IoRequest, IoStatus, MemberId, MemberSet, Msg, Tag};

impl Client {
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
    pub(super) fn start(&mut self, now: Now, slot: u32, out: &mut Vec<ClientAction>) -> bool {
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
        if op.whose == Whose::Scrub {
            self.start_check(now, slot, out);
            return true;
        }
        let range = op.request.range;
        let targets = if op.request.op == IoOp::Read { self.pick(range, MemberSet::EMPTY) } else { self.set };
        self.send(now, slot, targets, out);
        true
    }

    pub(super) fn send(&mut self, now: Now, slot: u32, targets: MemberSet, out: &mut Vec<ClientAction>) {
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
        if reply.epoch == self.epoch {
            self.legs[from.index()].reads.replies += 1;
        }
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
            (leg.dirty_chunks, leg.told) = (reply.dirty_chunks, true);
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
            IoStatus::Done if read => {
                let sent_at = op.sent_at;
                self.note_served(now, from, sent_at);
                self.complete(slot, Ok(()), buf, out);
            }
            IoStatus::Done => {
                op.pending = op.pending.without(from);
                op.answered = op.answered.with(from);
                if reply.missed == 0 {
                    op.clean = op.clean.with(from);
                }
                self.settle(now, slot, out);
            }
            IoStatus::NotClean if read => {
                op.unclean = op.unclean.with(from);
                self.legs[from.index()].dirty_chunks = self.legs[from.index()].dirty_chunks.max(1);
                self.read_elsewhere(now, slot, from, out);
            }
            IoStatus::DiskError if read => self.on_read_error(now, slot, from, out),
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
        let torn = (op.proved_once || op.left_behind) && no_clean_leg;
        if torn || (!unclean.is_empty() && !no_clean_leg && expired) {
            // Executed on some legs and not on others, and its bytes are gone or no clean leg that has it is left, or it
            // was copied from one that has left: only a new generation settles it.
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

    /// A new epoch is active: what is not over is sent again, in a new generation to everybody.
    pub(super) fn resend(&mut self, now: Now, new_generation: bool, out: &mut Vec<ClientAction>) {
        for slot in 0..self.requests.slots.len() as u32 {
            let Some(op) = &mut self.requests.slots[slot as usize] else { continue };
            match op.stage {
                Stage::Queued | Stage::Retry(_) => {}
                Stage::Expired => self.free(slot), // Only in a new generation: see `has_expired`.
                Stage::Sent if op.whose == Whose::Scrub => self.start_check(now, slot, out),
                Stage::Sent if op.request.op == IoOp::Read => {
                    op.answered = MemberSet::EMPTY;
                    let range = op.request.range;
                    let targets = self.pick(range, MemberSet::EMPTY);
                    self.send(now, slot, targets, out);
                }
                Stage::Sent if new_generation => {
                    op.stage = Stage::Queued;
                    op.pending = MemberSet::EMPTY;
                    self.ready.push_back(slot);
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
            self.place(request, Whose::OwnFlush);
        }
        let _ = out;
    }
}
