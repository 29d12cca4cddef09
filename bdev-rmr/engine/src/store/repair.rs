//! What makes a chunk be written again, or be called clean, besides having been missed: the disk cannot read it, a scrub
//! found it to differ, a write covered all of it. The work itself is `copy`'s.

use super::copy::{Step, UNREADABLE_MAX, Why};
use super::{Service, Store};
use crate::mutant::Mutant;
use crate::{Now, Party, StoreAction};
use rmr_proto::{BlockRange, ChunkBits, ChunkNo, Epoch, IoStatus, Msg, Seq, Tag};

impl Store {
    /// A chunk that is clean here could not be read: it is fetched and rewritten, if anybody can deliver it.
    pub(super) fn note_unreadable(&mut self, now: Now, range: BlockRange) {
        if self.service != Service::Serving || self.fence.is_some() {
            return;
        }
        let (first, last) = self.geometry().chunks_of(range);
        for chunk in (first.0..=last.0).map(ChunkNo) {
            let room = self.copies.unreadable.len() < UNREADABLE_MAX;
            if room && !self.is_dirty(chunk) && !self.copies.has(chunk) && !self.copies.is_later(now, chunk) {
                self.copies.unreadable.insert(chunk);
            }
        }
    }

    /// A write that some clean leg has was executed here. Chunks that it covers whole hold the right bytes; what is left is
    /// to make them durable and to say so. All older writes to them are over: the client keeps their order.
    pub(super) fn note_overwritten(&mut self, now: Now, range: BlockRange, out: &mut Vec<StoreAction>) {
        if self.service != Service::Serving || self.fence.is_some() || self.dirty_chunks() == 0 {
            return;
        }
        let (first, last) = self.geometry().chunks_of(range);
        for chunk in (first.0..=last.0).map(ChunkNo) {
            let whole = self.chunk_range(chunk);
            let covered = range.first <= whole.first && whole.end() <= range.end();
            if (covered || Mutant::PartOverwriteCleans.on())
                && self.is_dirty(chunk)
                && !self.copies.has(chunk)
            {
                self.start_copy(now, chunk, Why::Overwritten, out);
            }
        }
    }

    /// The client compared this leg with others, and it is this one that is wrong. The mark comes before the answer, the
    /// copy after it.
    pub(super) fn on_repair(
        &mut self,
        now: Now,
        from: Party,
        (epoch, tag, number): (Epoch, Tag, u64),
        answered: Seq,
        chunk: ChunkNo,
        out: &mut Vec<StoreAction>,
    ) {
        let bad = chunk.0 >= self.geometry().chunks();
        if !bad && self.accepts(epoch).is_ok() && !self.requests.first_time(number) {
            return;
        }
        let status = match self.accepts(epoch) {
            Err(status) => status,
            Ok(()) if bad => IoStatus::DiskError,
            Ok(()) if self.is_dirty(chunk) => IoStatus::Done,
            Ok(()) if self.copies.has(chunk) || !self.has_clean_peer(chunk) => IoStatus::NotClean,
            Ok(()) => {
                self.take_horizons(answered, Seq(0));
                self.start_copy(now, chunk, Why::Stale(from, tag), out);
                return;
            }
        };
        out.push(StoreAction::Send(from, Msg::Repaired { epoch, tag, status }));
    }

    fn has_clean_peer(&self, chunk: ChunkNo) -> bool {
        let (region, index) = (self.geometry().region_of(chunk), self.geometry().index_in_region(chunk));
        let peers = self.meta.ram.record.set.without(self.member());
        peers.iter().any(|m| !self.meta.ram.missed(region, m).has(index))
    }

    pub(super) fn mark_stale(&mut self, id: u64, out: &mut Vec<StoreAction>) {
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        let region = self.superblock.geometry.region_of(copy.chunk);
        let bit = ChunkBits::bit(self.superblock.geometry.index_in_region(copy.chunk));
        self.meta.add_missed(region, self.superblock.member, bit);
        copy.step = Step::Marking(self.meta.want());
        self.changed(region);
        self.meta.pump(out);
    }

    /// The mark is durable: from here on it is a missed chunk like any other.
    pub(super) fn marked(&mut self, now: Now, id: u64, out: &mut Vec<StoreAction>) {
        let Some(copy) = self.copies.active.get_mut(&id) else { return };
        if let Why::Stale(from, tag) = std::mem::replace(&mut copy.why, Why::Missed) {
            let epoch = self.meta.ram.record.adopted;
            out.push(StoreAction::Send(from, Msg::Repaired { epoch, tag, status: IoStatus::Done }));
        }
        self.ask_source(now, id, out);
    }
}
