//! How often, and for how long, a pool did not go on with requests as usual: its engine assembled, or changed its set.

use rmr_engine::client::Phase;

/// What keeps requests waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopKind {
    /// A new generation is being put together: after a start, or when no member was left.
    Assembling,
    /// The set changes: a member leaves or comes in.
    Changing,
}

impl StopKind {
    /// Both.
    pub const ALL: [StopKind; 2] = [StopKind::Assembling, StopKind::Changing];

    fn of(phase: Phase) -> Option<StopKind> {
        match phase {
            Phase::Assembling => Some(StopKind::Assembling),
            Phase::Changing => Some(StopKind::Changing),
            Phase::Idle | Phase::Active | Phase::Fenced => None,
        }
    }
}

/// Stops of one kind since the pool was opened. Times in ns; what is under way counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stops {
    /// How many began.
    pub count: u64,
    /// Together.
    pub ns: u64,
    /// The longest.
    pub ns_max: u64,
}

/// Follows the engine's phase.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: Option<(StopKind, u64)>,
    seen: [Stops; 2],
}

impl Clock {
    /// The engine stands at `phase`. Called after every event: one comparison where nothing changed.
    #[inline]
    pub(super) fn note(&mut self, now_ns: u64, phase: Phase) {
        let kind = StopKind::of(phase);
        if kind == self.now.map(|(kind, _)| kind) {
            return;
        }
        if let Some((ended, since)) = self.now.take() {
            add(&mut self.seen[ended as usize], now_ns.saturating_sub(since));
        }
        if let Some(kind) = kind {
            self.seen[kind as usize].count += 1;
            self.now = Some((kind, now_ns));
        }
    }

    /// By [`StopKind::ALL`].
    pub(super) fn stops(&self, now_ns: u64) -> [Stops; 2] {
        let mut stops = self.seen;
        if let Some((kind, since)) = self.now {
            add(&mut stops[kind as usize], now_ns.saturating_sub(since));
        }
        stops
    }
}

fn add(stops: &mut Stops, ns: u64) {
    stops.ns += ns;
    stops.ns_max = stops.ns_max.max(ns);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_counted_by_kind_and_the_one_under_way_counts() {
        let mut clock = Clock::default();
        for (at, phase) in [
            (0, Phase::Idle),
            (10, Phase::Assembling),
            (15, Phase::Assembling),
            (30, Phase::Active),
            (40, Phase::Changing),
            (45, Phase::Assembling),
            (50, Phase::Active),
            (60, Phase::Changing),
        ] {
            clock.note(at, phase);
        }
        let [assembling, changing] = clock.stops(70);
        assert_eq!(assembling, Stops { count: 2, ns: 25, ns_max: 20 });
        assert_eq!(changing, Stops { count: 2, ns: 15, ns_max: 10 });
        clock.note(80, Phase::Fenced);
        assert_eq!(clock.stops(1000)[1], Stops { count: 2, ns: 25, ns_max: 20 });
    }
}
