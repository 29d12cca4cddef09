//! What waits too long: requests past their deadline, legs that owe an answer.

use super::ops::{Stage, Whose};
use super::{Client, ClientAction, Phase};
use crate::event::{IoError, Now};
use rmr_proto::MemberSet;

impl Client {
    /// Deadlines, and requests whose pause is over.
    pub(super) fn expire(&mut self, now: Now, out: &mut Vec<ClientAction>) {
        for slot in 0..self.requests.slots.len() as u32 {
            let Some(op) = &self.requests.slots[slot as usize] else { continue };
            let late = now >= op.request.deadline && op.whose == Whose::User;
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

    /// Did the deadline of a write pass that is not over? Its bytes are gone, so it cannot be sent again, and even a leg
    /// that did not execute it may hold it: copied from one that did. Only a new generation settles it.
    pub(super) fn has_expired(&self) -> bool {
        self.requests.slots.iter().flatten().any(|op| op.stage == Stage::Expired)
    }
}
