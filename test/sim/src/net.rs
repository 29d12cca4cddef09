//! Links between endpoints: delay, loss, duplicates, cuts in one direction, clogs.

use crate::options::Options;
use crate::world::MS;

/// Endpoints: members first, then clients.
pub(crate) const ENDPOINTS: usize = 10;
/// First endpoint that is a client.
pub(crate) const FIRST_CLIENT: usize = 8;

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    cut: bool,
    clogged_until: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Net {
    links: [[Link; ENDPOINTS]; ENDPOINTS],
}

impl Net {
    pub(crate) fn new() -> Self {
        Self { links: [[Link::default(); ENDPOINTS]; ENDPOINTS] }
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize, cut: bool) {
        self.links[from][to].cut = cut;
    }

    pub(crate) fn clog(&mut self, from: usize, to: usize, until: u64) {
        self.links[from][to].clogged_until = until;
    }

    pub(crate) fn heal(&mut self) {
        *self = Self::new();
    }

    /// When a message sent now arrives; `None` = never.
    pub(crate) fn arrival(
        &self,
        now: u64,
        from: usize,
        to: usize,
        o: &Options,
        rng: &mut fastrand::Rng,
    ) -> Option<u64> {
        let link = &self.links[from][to];
        if link.cut || (o.loss_ppm > 0 && rng.u32(0..1_000_000) < o.loss_ppm) {
            return None;
        }
        let mut delay = 20_000 + rng.u64(0..o.net_jitter_ns.max(1));
        if o.slow_ppm > 0 && rng.u32(0..1_000_000) < o.slow_ppm {
            delay += rng.u64(0..60 * MS);
        }
        Some((now + delay).max(link.clogged_until))
    }
}
