//! Which block is next.

/// A pattern of blocks.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// One after another, from 0, and round.
    Sequential {
        /// Blocks of the working set.
        blocks: u64,
        /// Next block.
        next: u64,
    },
    /// Each block as likely as any other.
    Uniform {
        /// Blocks of the working set.
        blocks: u64,
        /// Source of chance.
        rng: fastrand::Rng,
    },
    /// The n-th most popular block with probability proportional to n^-0.99, scattered over the working set.
    Zipf(Box<Zipf>),
}

impl Pattern {
    /// Sequential over `blocks`.
    #[must_use]
    pub fn sequential(blocks: u64) -> Self {
        Self::Sequential { blocks, next: 0 }
    }

    /// Uniform over `blocks`.
    #[must_use]
    pub fn uniform(blocks: u64, seed: u64) -> Self {
        Self::Uniform { blocks, rng: fastrand::Rng::with_seed(seed) }
    }

    /// Zipf over 2^`shift` blocks.
    #[must_use]
    pub fn zipf(shift: u32, seed: u64) -> Self {
        Self::Zipf(Box::new(Zipf::new(shift, seed)))
    }

    /// The next block.
    pub fn block(&mut self) -> u64 {
        match self {
            Self::Sequential { blocks, next } => {
                let block = *next;
                *next = (*next + 1) % *blocks;
                block
            }
            Self::Uniform { blocks, rng } => rng.u64(0..*blocks),
            Self::Zipf(zipf) => zipf.block(),
        }
    }
}

/// Exponent.
const THETA: f64 = 0.99;
/// Terms of the zeta sum that are added one by one; the rest is an integral, wrong by less than 1e-6 of the sum.
const EXACT: u64 = 1 << 20;

/// Zipf's distribution by the approximation of Gray et al., "Quickly generating billion-record synthetic databases".
#[derive(Clone, Debug)]
pub struct Zipf {
    shift: u32,
    zeta: f64,
    eta: f64,
    rng: fastrand::Rng,
}

impl Zipf {
    fn new(shift: u32, seed: u64) -> Self {
        let blocks = (1u64 << shift) as f64;
        let exact = EXACT.min(1 << shift);
        let head: f64 = (1..=exact).map(|n| (n as f64).powf(-THETA)).sum();
        let tail = (blocks.powf(1.0 - THETA) - (exact as f64).powf(1.0 - THETA)) / (1.0 - THETA);
        let zeta = head + tail;
        let two = 1.0 + 0.5f64.powf(THETA);
        let eta = (1.0 - (2.0 / blocks).powf(1.0 - THETA)) / (1.0 - two / zeta);
        Self { shift, zeta, eta, rng: fastrand::Rng::with_seed(seed) }
    }

    /// Popularity of the next block, 0 = the most popular.
    fn rank(&mut self) -> u64 {
        let chance = self.rng.f64();
        let scaled = chance * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1;
        }
        let blocks = (1u64 << self.shift) as f64;
        let rank = blocks * (self.eta * chance - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        (rank as u64).min((1 << self.shift) - 1)
    }

    fn block(&mut self) -> u64 {
        let spread = (self.rank() + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        spread >> (64 - self.shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_as_likely_as_the_law_says() {
        const DRAWS: u32 = 400_000;
        let mut zipf = Zipf::new(16, 1);
        let mut seen = [0u32; 8];
        for _ in 0..DRAWS {
            if let Some(count) = seen.get_mut(zipf.rank() as usize) {
                *count += 1;
            }
        }
        for (rank, count) in seen.into_iter().enumerate().take(2) {
            let want = ((rank + 1) as f64).powf(-THETA) / zipf.zeta;
            let got = f64::from(count) / f64::from(DRAWS);
            assert!((got / want - 1.0).abs() < 0.03, "rank {rank}: {got} drawn, {want} wanted");
        }
        let (head, law): (u32, f64) = (seen.iter().sum(), (1..=8).map(|n| f64::from(n).powf(-THETA)).sum());
        let (got, want) = (f64::from(head) / f64::from(DRAWS), law / zipf.zeta);
        assert!((got / want - 1.0).abs() < 0.1, "first eight: {got} drawn, {want} wanted");
    }

    #[test]
    fn every_block_lies_in_the_working_set() {
        for mut pattern in [Pattern::sequential(100), Pattern::uniform(100, 1), Pattern::zipf(6, 1)] {
            assert!((0..1000).all(|_| pattern.block() < 100), "{pattern:?}");
        }
    }
}
