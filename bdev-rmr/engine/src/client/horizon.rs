//! Which writes every leg has answered: the number below which all have.

use rmr_proto::Seq;

/// A window of sequence numbers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Horizon {
    done: Vec<bool>,
    answered: u64,
    next: u64,
}

impl Horizon {
    /// Room for `window` writes between the oldest unanswered and the newest.
    pub(super) fn new(window: usize) -> Self {
        Self { done: vec![false; window], answered: 0, next: 1 }
    }

    /// A number for a write, unless the window is full.
    pub(super) fn begin(&mut self) -> Option<Seq> {
        let seq = self.next;
        if seq - self.answered > self.done.len() as u64 {
            return None;
        }
        let len = self.done.len() as u64;
        self.done[(seq % len) as usize] = false;
        self.next += 1;
        Some(Seq(seq))
    }

    /// Every leg of the set has answered it.
    pub(super) fn end(&mut self, seq: Seq) {
        let len = self.done.len() as u64;
        self.done[(seq.0 % len) as usize] = true;
        while self.answered + 1 < self.next && self.done[((self.answered + 1) % len) as usize] {
            self.answered += 1;
        }
    }

    /// Every write up to here has been answered by every leg.
    pub(super) fn answered(&self) -> Seq {
        Seq(self.answered)
    }

    /// A new generation.
    pub(super) fn reset(&mut self) {
        (self.answered, self.next) = (0, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_stands_at_the_oldest_unanswered_write() {
        let mut horizon = Horizon::new(4);
        let seqs: Vec<Seq> = (0..4).map(|_| horizon.begin().expect("room")).collect();
        assert!(horizon.begin().is_none(), "the window is full");
        horizon.end(seqs[1]);
        horizon.end(seqs[2]);
        assert_eq!(horizon.answered(), Seq(0));
        horizon.end(seqs[0]);
        assert_eq!(horizon.answered(), Seq(3));
        assert!(horizon.begin().is_some());
    }
}
