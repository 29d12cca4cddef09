//! What scenarios do by hand: messages and disk operations held back, power losses of which the outcome is chosen.

use crate::disk::Work;
use crate::world::{DiskFilter, DiskWork, Envelope, Ev, Filter, World};
use rmr_engine::client::ClientEvent;
use rmr_proto::{MemberId, Msg};

impl World {
    /// Holds back every message that `filter` names, until [`Self::release`].
    pub fn hold(&mut self, filter: Filter) {
        self.filters.push(filter);
    }

    /// Drops the filters and delivers what was held back.
    pub fn release(&mut self) {
        self.filters.clear();
        self.let_go(&|_| true);
    }

    /// Delivers what was held back and `which` names; the filters stay.
    pub fn let_go(&mut self, which: &dyn Fn(&Envelope<'_>) -> bool) {
        for (from, to, msg, payload) in std::mem::take(&mut self.held) {
            if which(&Envelope { from, to, msg: &msg }) {
                self.post(from, to, *msg, payload);
            } else {
                self.held.push((from, to, msg, payload));
            }
        }
    }

    /// Drops the filters and forgets what was held back.
    pub fn drop_held(&mut self) {
        self.filters.clear();
        self.held.clear();
    }

    /// Drops the filters and delivers those of the messages held back that `wanted` names; the others are forgotten.
    pub fn release_if(&mut self, wanted: impl Fn(&Msg) -> bool) {
        self.held.retain(|(_, _, msg, _)| wanted(msg));
        self.release();
    }

    /// Chunks that a running store has not clean.
    pub fn dirty_chunks(&self, node: usize) -> u64 {
        self.nodes[node].store.as_ref().map_or(u64::MAX, rmr_engine::store::Store::dirty_chunks)
    }

    /// Drops the filters; what was held back stays so.
    pub fn drop_filters(&mut self) {
        self.filters.clear();
    }

    /// Forgets what was held back and `which` names: it never arrives.
    pub fn forget(&mut self, which: impl Fn(&Envelope<'_>) -> bool) {
        self.held.retain(|(from, to, msg, _)| !which(&Envelope { from: *from, to: *to, msg }));
    }

    /// Messages held back now.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Does a message that `which` names stand among those held back?
    pub fn holds(&self, which: &dyn Fn(&Envelope<'_>) -> bool) -> bool {
        self.held.iter().any(|(from, to, msg, _)| which(&Envelope { from: *from, to: *to, msg }))
    }

    /// The disk of `node` does not finish what `filter` names, until [`Self::release_disk`] or a loss of power.
    pub fn hold_disk(&mut self, node: usize, filter: DiskFilter) {
        self.disk_filter = Some((node, filter));
    }

    /// The disk goes on.
    pub fn release_disk(&mut self) {
        let Some((node, _)) = self.disk_filter.take() else { return };
        for id in std::mem::take(&mut self.disk_held) {
            self.at(self.now, Ev::Disk { node, id });
        }
    }

    /// Disk operations held back now.
    pub fn disk_held(&self) -> usize {
        self.disk_held.len()
    }

    /// Is this operation held back?
    pub(crate) fn is_held(&self, node: usize, work: &Work) -> bool {
        let kind = match work {
            Work::Write { .. } => DiskWork::Write,
            Work::Read { .. } | Work::Checksum { .. } => DiskWork::Read,
            Work::Flush { .. } => DiskWork::Flush,
            Work::Meta { .. } => DiskWork::Metadata,
        };
        self.disk_filter.as_ref().is_some_and(|(held, filter)| *held == node && filter(kind))
    }

    /// Power loss of which the outcome is known: nothing that is queued lands, and the cache is lost or all of it is
    /// durable.
    pub fn power_off_exactly(&mut self, node: usize, cache_lost: bool) {
        self.kill(node);
        let state = &mut self.nodes[node];
        state.boot += 1;
        state.disk.queue.clear();
        if cache_lost {
            state.disk.lose_whole_cache();
        } else {
            state.disk.flush(u64::MAX);
        }
        // Nobody can know that the cache survived.
        self.oracle.lost_cache(MemberId::at(node));
    }

    /// Tells a client that the session with `node` is gone.
    pub fn session_down(&mut self, host: usize, node: usize) {
        self.client_event(host, ClientEvent::Down(MemberId::at(node)));
    }
}
