//! Which leg serves a read, and where it goes when that leg cannot.
//!
//! Whatever the policy: only legs of the set; legs that are clean everywhere before those that missed something; of a chunk
//! that a scrub found to differ, only the leg it is pinned to.

use super::ops::{Stage, UNCLEAN_PAUSE_NS};
use super::{Client, ClientAction, Phase};
use crate::event::{IoError, Now};
use crate::mutant::Mutant;
use rmr_proto::{BlockRange, ChunkNo, MemberId, MemberSet};

/// One read in so many goes to the leg that was measured longest ago, so that one that was slow once is tried again.
const PROBE_EVERY: usize = 64;
/// Weight of the newest measurement in the average: 1 / 2^3.
const AVERAGE_SHIFT: u32 = 3;

/// How legs are chosen for reads. Can be changed while the client runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ReadPolicy {
    /// One after the other.
    #[default]
    InTurn,
    /// The one that owes the fewest answers.
    LeastInFlight,
    /// The one whose reads took the shortest time of late.
    LowestLatency,
    /// This one while it can, as it is local; else in turn.
    Prefer(MemberId),
}

/// What is known of a leg as a server of reads.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct ReadLeg {
    /// Answers heard in this epoch.
    pub(super) replies: u64,
    /// Moving average of what its reads take, ns; 0 = not measured.
    latency: Now,
    measured_at: Now,
    errors: u32,
    errors_since: Now,
    /// Chunks of the last errors: one bad chunk counts once.
    bad: [Option<ChunkNo>; 8],
}

impl ReadLeg {
    fn measure(&mut self, now: Now, took: Now) {
        self.latency = match self.latency {
            0 => took.max(1),
            average => (average - (average >> AVERAGE_SHIFT) + (took >> AVERAGE_SHIFT)).max(1),
        };
        self.measured_at = now;
    }

    /// One more chunk that could not be read; how many there were in this window.
    fn count_error(&mut self, now: Now, chunk: ChunkNo, window: Now) -> u32 {
        if now >= self.errors_since + window {
            (self.errors, self.errors_since, self.bad) = (0, now, [None; 8]);
        }
        if !self.bad.contains(&Some(chunk)) {
            self.bad[self.errors as usize % self.bad.len()] = Some(chunk);
            self.errors += 1;
        }
        self.errors
    }

    /// The window starts again.
    fn forgive(&mut self) {
        (self.errors, self.bad) = (0, [None; 8]);
    }
}

impl Client {
    /// Sets how legs are chosen for reads, from now on.
    pub fn set_read_policy(&mut self, policy: ReadPolicy) {
        self.config.read_policy = policy;
    }

    /// What reads of a leg took of late, ns; `None` = not measured.
    pub fn read_latency(&self, member: MemberId) -> Option<Now> {
        Some(self.legs[member.index()].reads.latency).filter(|latency| *latency > 0)
    }

    /// One leg to read `range` from that was not tried yet; nobody if there is none.
    pub(super) fn pick(&mut self, range: BlockRange, tried: MemberSet) -> MemberSet {
        let left = match self.pinned_to(range) {
            Some(pinned) => self.set.and(MemberSet::only(pinned)).minus(tried),
            None => self.set.minus(tried),
        };
        let clean = left.iter().filter(|m| self.legs[m.index()].dirty_chunks == 0);
        let clean = clean.fold(MemberSet::EMPTY, MemberSet::with);
        let legs = if clean.is_empty() { left } else { clean };
        self.turn = self.turn.wrapping_add(1);
        let chosen = match self.config.read_policy {
            ReadPolicy::Prefer(member) if legs.has(member) => Some(member),
            ReadPolicy::InTurn | ReadPolicy::Prefer(_) => self.in_turn(legs),
            ReadPolicy::LeastInFlight => self.least(legs, |client, m| client.in_flight(m)),
            ReadPolicy::LowestLatency if self.turn.is_multiple_of(PROBE_EVERY) => {
                legs.iter().min_by_key(|m| self.legs[m.index()].reads.measured_at)
            }
            ReadPolicy::LowestLatency => self.least(legs, |client, m| client.legs[m.index()].reads.latency),
        };
        chosen.map_or(MemberSet::EMPTY, MemberSet::only)
    }

    fn in_turn(&self, legs: MemberSet) -> Option<MemberId> {
        legs.iter().nth(self.turn % legs.len().max(1))
    }

    /// The leg with the least of something, in turn among equals.
    fn least(&self, legs: MemberSet, key: impl Fn(&Self, MemberId) -> u64) -> Option<MemberId> {
        let least = legs.iter().map(|m| key(self, m)).min()?;
        let equal = legs.iter().filter(|m| key(self, *m) == least).fold(MemberSet::EMPTY, MemberSet::with);
        self.in_turn(equal)
    }

    /// Requests of this epoch that a leg has not answered.
    fn in_flight(&self, member: MemberId) -> u64 {
        let leg = &self.legs[member.index()];
        leg.number.saturating_sub(leg.reads.replies)
    }

    /// A leg served a read.
    pub(super) fn note_served(&mut self, now: Now, member: MemberId, sent_at: Now) {
        self.legs[member.index()].reads.measure(now, now.saturating_sub(sent_at));
    }

    /// A leg could not read: the next one is asked. The leg repairs itself; one that fails too often leaves, if another
    /// is whole.
    pub(super) fn on_read_error(&mut self, now: Now, slot: u32, from: MemberId, out: &mut Vec<ClientAction>) {
        let Some(op) = &self.requests.slots[slot as usize] else { return };
        let chunk = self.geometry.chunk_of(op.request.range.first);
        let window = self.config.read_error_window_ns;
        let errors = self.legs[from.index()].reads.count_error(now, chunk, window);
        self.read_errors += 1;
        self.read_elsewhere(now, slot, from, out);
        let whole = |m: MemberId| self.legs[m.index()].dirty_chunks == 0;
        let spare = self.set.without(from).iter().any(whole) || Mutant::EjectTheLast.on();
        if errors > self.config.read_errors_max && spare && self.phase == Phase::Active {
            let leg = &mut self.legs[from.index()];
            leg.reads.forgive();
            leg.rejoin_pause = self.config.rejoin_max_ns;
            self.lose(now, from, out);
        }
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
        let (range, tried) = (op.request.range, op.answered);
        let next = self.pick(range, tried);
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

    /// Answers of legs that could not read, since the client was made.
    pub fn read_errors(&self) -> u64 {
        self.read_errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientConfig;
    use rmr_proto::Geometry;

    const A: MemberId = MemberId::at(0);
    const B: MemberId = MemberId::at(1);
    const C: MemberId = MemberId::at(2);
    const ANY: BlockRange = BlockRange { first: 0, count: 1 };

    fn client(read_policy: ReadPolicy) -> Client {
        let geometry = Geometry::for_pool(1 << 30, 4096, 128 << 10).expect("a product geometry");
        let set = MemberSet::first(3);
        let mut client =
            Client::new(geometry, set, 1, ClientConfig { read_policy, ..ClientConfig::default() });
        client.set = set;
        client
    }

    #[test]
    fn what_a_leg_takes_is_told_once_it_was_measured() {
        let mut client = client(ReadPolicy::InTurn);
        assert_eq!(client.read_latency(A), None);
        client.note_served(5_000, A, 2_000);
        assert_eq!((client.read_latency(A), client.read_latency(B)), (Some(3_000), None));
    }

    #[test]
    fn the_next_tick_is_wanted_one_tick_after_the_last() {
        let mut client = client(ReadPolicy::InTurn);
        client.on(7_000_000_000, crate::client::ClientEvent::Tick, &mut Vec::new());
        assert_eq!(client.next_timeout(), 7_000_000_000 + ClientConfig::default().tick_ns);
    }

    fn picks(client: &mut Client, count: usize) -> [usize; 3] {
        let mut picked = [0; 3];
        for _ in 0..count {
            let legs = client.pick(ANY, MemberSet::EMPTY);
            legs.iter().for_each(|m| picked[m.index()] += 1);
        }
        picked
    }

    #[test]
    fn in_turn_asks_all_alike_and_dirty_ones_only_if_none_is_clean() {
        let mut client = client(ReadPolicy::InTurn);
        assert_eq!(picks(&mut client, 30), [10, 10, 10]);
        client.legs[0].dirty_chunks = 1;
        assert_eq!(picks(&mut client, 30), [0, 15, 15]);
        client.legs[1].dirty_chunks = 1;
        client.legs[2].dirty_chunks = 1;
        assert_eq!(picks(&mut client, 30), [10, 10, 10]);
        client.set = client.set.without(B);
        assert_eq!(picks(&mut client, 30), [15, 0, 15]);
    }

    #[test]
    fn least_in_flight_asks_the_one_that_owes_least() {
        let mut client = client(ReadPolicy::LeastInFlight);
        for (leg, (sent, heard)) in client.legs.iter_mut().zip([(9, 4), (7, 5), (8, 3)]) {
            (leg.number, leg.reads.replies) = (sent, heard);
        }
        assert_eq!(picks(&mut client, 10), [0, 10, 0]);
        client.legs[1].reads.replies = 2;
        assert_eq!(picks(&mut client, 30), [10, 10, 10], "in turn among equals");
        client.legs[1].reads.replies = 9;
        assert_eq!(picks(&mut client, 10), [0, 10, 0], "answers told twice do no harm");
    }

    #[test]
    fn lowest_latency_asks_the_fastest_and_tries_slow_ones_again() {
        let mut client = client(ReadPolicy::LowestLatency);
        for (at, (member, took)) in [(A, 300), (B, 100), (C, 200)].into_iter().enumerate() {
            client.note_served(1000 + at as Now, member, 1000 + at as Now - took);
        }
        let picked = picks(&mut client, 2 * PROBE_EVERY);
        assert_eq!((picked[0], picked[2]), (2, 0), "the longest unmeasured is probed");
        assert_eq!(picked[1], 2 * PROBE_EVERY - 2);
        for at in 0..40 {
            client.note_served(2000 + at, A, 2000 + at - 10);
        }
        assert!(client.read_latency(A) < client.read_latency(B));
        assert!(picks(&mut client, 10)[0] >= 9, "once slow is not slow for ever");
    }

    #[test]
    fn the_preferred_leg_serves_while_it_can() {
        let mut client = client(ReadPolicy::Prefer(C));
        assert_eq!(picks(&mut client, 10), [0, 0, 10]);
        client.legs[2].dirty_chunks = 1;
        assert_eq!(picks(&mut client, 10), [5, 5, 0]);
        client.legs[2].dirty_chunks = 0;
        assert_eq!(client.pick(ANY, MemberSet::only(C)).len(), 1, "tried already: another one");
        client.set = client.set.without(C);
        assert_eq!(picks(&mut client, 10), [5, 5, 0]);
        client.set_read_policy(ReadPolicy::InTurn);
        assert_eq!(picks(&mut client, 10), [5, 5, 0]);
    }

    #[test]
    fn one_bad_chunk_counts_once_in_a_window() {
        let mut leg = ReadLeg::default();
        for _ in 0..5 {
            assert_eq!(leg.count_error(10, ChunkNo(7), 100), 1);
        }
        assert_eq!(leg.count_error(20, ChunkNo(8), 100), 2);
        assert_eq!(leg.count_error(150, ChunkNo(8), 100), 1, "a new window");
    }
}
