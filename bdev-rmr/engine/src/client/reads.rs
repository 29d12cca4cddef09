//! Which leg serves a read, and where it goes when that leg cannot.

use super::ops::{Stage, UNCLEAN_PAUSE_NS};
use super::{Client, ClientAction, Phase};
use crate::event::{IoError, Now};
use rmr_proto::{MemberId, MemberSet};

impl Client {
    /// One leg to read from: in turn, those clean everywhere first.
    pub(super) fn pick(&mut self, tried: MemberSet) -> MemberSet {
        let left = self.set.minus(tried);
        let clean = left.iter().filter(|m| self.legs[m.index()].dirty_chunks == 0).count();
        self.turn += 1;
        let nth = self.turn % clean.max(1).min(left.len().max(1));
        let only_clean = |m: &MemberId| clean == 0 || self.legs[m.index()].dirty_chunks == 0;
        let nth = if clean == 0 { self.turn % left.len().max(1) } else { nth };
        left.iter().filter(only_clean).nth(nth).map_or(MemberSet::EMPTY, MemberSet::only)
    }

    pub(super) fn read_elsewhere(
        &mut self,
        now: Now,
        slot: u32,
        from: MemberId,
        out: &mut Vec<ClientAction>,
    ) {
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
}
