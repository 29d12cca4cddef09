//! Which operation on which blocks comes next.

use crate::spec::JobSpec;
use fastrand::Rng;
use tgt_bdev::Op;

/// The stream of operations of a job. The same seed gives the same stream.
#[derive(Debug)]
pub(crate) struct Pattern {
    rng: Rng,
    random: bool,
    mixed: bool,
    ops: (Op, Op),
    /// Reads of a mixed workload, out of 2^16.
    read_share: u64,
    /// The bdev cut into IOs of the job's size; this many of them are the job's, from the first on.
    places: u64,
    first_place: u64,
    next_place: u64,
    blocks: u32,
}

/// One of several equal parts of a bdev, for jobs that share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which, from 0.
    pub(crate) index: u64,
    /// Of how many.
    pub(crate) count: u64,
}

impl Part {
    /// All of it.
    #[cfg(test)]
    pub(crate) const WHOLE: Part = Part { index: 0, count: 1 };

    /// First place and number of places. A bdev with fewer places than parts is not divided.
    pub(crate) fn of(self, places: u64) -> (u64, u64) {
        let each = places / self.count;
        if each == 0 { (0, places) } else { (self.index * each, each) }
    }
}

impl Pattern {
    pub(crate) fn new(spec: &JobSpec, part: Part, block_size: u32, num_blocks: u64) -> Pattern {
        let blocks = spec.io_bytes / block_size;
        let (first_place, places) = part.of(num_blocks / u64::from(blocks));
        Pattern {
            rng: Rng::with_seed(spec.seed),
            random: spec.workload.is_random(),
            mixed: spec.workload.is_mixed(),
            ops: spec.workload.ops(),
            read_share: (u64::from(spec.read_percent) << 16) / 100,
            places,
            first_place,
            next_place: 0,
            blocks,
        }
    }

    /// Blocks of every IO.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The next operation and its first block.
    #[inline]
    pub(crate) fn next(&mut self) -> (Op, u64) {
        let random = if self.random || self.mixed { self.rng.u64(..) } else { 0 };
        let place = if self.random {
            // The high part of the product is uniform below `places` (to 1 in 2^64 / places).
            ((u128::from(random) * u128::from(self.places)) >> 64) as u64
        } else {
            let place = self.next_place;
            self.next_place = if place + 1 == self.places { 0 } else { place + 1 };
            place
        };
        // The low bits do not show in the place.
        let first = !self.mixed || (random & 0xffff) < self.read_share;
        let op = if first { self.ops.0 } else { self.ops.1 };
        (op, (self.first_place + place) * u64::from(self.blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Limit, Workload};

    fn spec(workload: Workload, read_percent: u8) -> JobSpec {
        JobSpec {
            bdev: String::new(),
            reactor: 0,
            workload,
            read_percent,
            queue_depth: 1,
            io_bytes: 4096,
            limit: Limit::Ios(1),
            latency: true,
            seed: 1,
            go_on: false,
            state: None,
        }
    }

    #[test]
    fn sequential_io_goes_round_the_whole_places_of_the_bdev() {
        let mut pattern = Pattern::new(&spec(Workload::Read, 0), Part::WHOLE, 512, 25);
        let lbas: Vec<u64> = (0..5).map(|_| pattern.next().1).collect();
        assert_eq!(lbas, [0, 8, 16, 0, 8]);
    }

    #[test]
    fn jobs_that_share_a_bdev_keep_to_their_parts() {
        for workload in [Workload::Read, Workload::RandRead] {
            for (index, expected) in [(0, [0, 8]), (1, [16, 24])] {
                let part = Part { index, count: 2 };
                let mut pattern = Pattern::new(&spec(workload, 0), part, 512, 41);
                let mut lbas: Vec<u64> = (0..100).map(|_| pattern.next().1).collect();
                lbas.sort_unstable();
                lbas.dedup();
                assert_eq!(lbas, expected, "{workload:?}");
            }
        }
        assert_eq!(Part { index: 2, count: 3 }.of(2), (0, 2), "too small to be divided");
    }

    #[test]
    fn random_io_is_aligned_in_range_even_and_repeatable() {
        let stream = || {
            let mut pattern = Pattern::new(&spec(Workload::RandRead, 0), Part::WHOLE, 512, 80);
            (0..10_000).map(|_| pattern.next().1).collect::<Vec<u64>>()
        };
        let lbas = stream();
        assert_eq!(lbas, stream());
        for place in 0..10 {
            let hits = lbas.iter().filter(|lba| **lba == place * 8).count();
            assert!((800..1200).contains(&hits), "place {place} was hit {hits} times of 10000");
        }
        assert!(lbas.iter().all(|lba| lba % 8 == 0 && *lba < 80));
    }

    #[test]
    fn the_share_of_reads_is_kept_and_does_not_choose_the_place() {
        let mut pattern = Pattern::new(&spec(Workload::RandRw, 70), Part::WHOLE, 512, 16);
        let stream: Vec<_> = (0..10_000).map(|_| pattern.next()).collect();
        let reads = stream.iter().filter(|(op, _)| *op == Op::Read).count();
        assert!((6_800..7_200).contains(&reads), "{reads} reads of 10000");
        let low = stream.iter().filter(|(op, lba)| *op == Op::Read && *lba == 0).count();
        assert!((3_200..3_800).contains(&low), "{low} of {reads} reads in the first half");
        for (percent, op) in [(0, Op::Write), (100, Op::Read)] {
            let mut pattern = Pattern::new(&spec(Workload::Rw, percent), Part::WHOLE, 512, 16);
            assert!((0..1000).all(|_| pattern.next().0 == op));
        }
    }
}
