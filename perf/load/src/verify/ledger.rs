//! What each place may hold.

use super::stamp::Stranger;
use std::collections::HashMap;
use std::fmt;

/// The number of a write; the first is 1. As what a place holds, [`UNWRITTEN`]: whatever it held before the run.
pub(super) type Seq = u64;

/// Never written in this run: any contents will do.
pub(super) const UNWRITTEN: Seq = 0;

/// A block that does not hold what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(super) lba: u64,
    pub(super) found: Result<Seq, Stranger>,
    pub(super) allowed: Vec<Seq>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { lba, found, allowed } = self;
        let writes: Vec<String> = allowed.iter().map(u64::to_string).collect();
        write!(f, "LBA {lba} holds ")?;
        match found {
            Ok(seq) => write!(f, "write {seq}")?,
            Err(stranger) => write!(f, "{stranger}")?,
        }
        match writes.as_slice() {
            [one] => write!(f, "; the last acknowledged write was {one}"),
            _ => write!(f, "; it may hold one of the writes {}", writes.join(", ")),
        }
    }
}

/// Everything known about the places of one job.
#[derive(Debug)]
pub(super) struct Ledger {
    blocks: u32,
    /// Per place: the last acknowledged write. Where more may be there, `uncertain` has the say.
    acked: Vec<Seq>,
    /// Per place and block: the writes it may hold, where that is more than one.
    uncertain: HashMap<u64, Vec<Vec<Seq>>>,
    busy: Vec<bool>,
    last: Seq,
}

impl Ledger {
    /// `places` of `blocks` blocks each, nothing written yet.
    pub(super) fn new(places: u64, blocks: u32) -> Ledger {
        let count = places as usize;
        Ledger {
            blocks,
            acked: vec![UNWRITTEN; count],
            uncertain: HashMap::new(),
            busy: vec![false; count],
            last: UNWRITTEN,
        }
    }

    pub(super) fn places(&self) -> u64 {
        self.acked.len() as u64
    }

    pub(super) fn is_busy(&self, place: u64) -> bool {
        self.busy[place as usize]
    }

    pub(super) fn set_busy(&mut self, place: u64, busy: bool) {
        self.busy[place as usize] = busy;
    }

    /// True if anything was ever written there.
    pub(super) fn is_known(&self, place: u64) -> bool {
        self.acked[place as usize] != UNWRITTEN || self.uncertain.contains_key(&place)
    }

    /// A number for the next write.
    pub(super) fn next_seq(&mut self) -> Seq {
        self.last += 1;
        self.last
    }

    /// A write was acknowledged.
    pub(super) fn wrote(&mut self, place: u64, seq: Seq) {
        self.acked[place as usize] = seq;
        self.uncertain.remove(&place);
        self.last = self.last.max(seq);
    }

    /// A write failed, or its end was never seen: each block may hold it or not.
    pub(super) fn may_have_written(&mut self, place: u64, seq: Seq) {
        let acked = self.acked[place as usize];
        let blocks = self.uncertain.entry(place).or_insert_with(|| vec![vec![acked]; self.blocks as usize]);
        blocks.iter_mut().for_each(|allowed| allowed.push(seq));
        self.last = self.last.max(seq);
    }

    /// What a block of a place was found to hold. From then on it may hold nothing else. True if the whole place is
    /// certain now that was not before.
    pub(super) fn found(
        &mut self,
        place: u64,
        block: u32,
        lba: u64,
        found: Result<Seq, Stranger>,
    ) -> Result<bool, Mismatch> {
        let certain = [self.acked[place as usize]];
        let Some(blocks) = self.uncertain.get_mut(&place) else {
            return judge(&certain, lba, found).map(|_| false);
        };
        let allowed = &mut blocks[block as usize];
        *allowed = vec![judge(allowed, lba, found)?];
        let first = blocks[0][0];
        if blocks.iter().all(|allowed| allowed == &[first]) {
            self.acked[place as usize] = first;
            self.uncertain.remove(&place);
            return Ok(true);
        }
        Ok(false)
    }

    /// The last acknowledged write of a place.
    pub(super) fn acked(&self, place: u64) -> Seq {
        self.acked[place as usize]
    }

    /// Writes of a place that may be there beside the acknowledged one, ascending.
    pub(super) fn doubtful(&self, place: u64) -> Vec<Seq> {
        let blocks = self.uncertain.get(&place).into_iter().flatten();
        let acked = self.acked[place as usize];
        let mut all: Vec<Seq> = blocks.flatten().copied().filter(|seq| *seq != acked).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Which of the allowed writes a block holds. Where one of them is "unwritten", a stranger will do.
fn judge(allowed: &[Seq], lba: u64, found: Result<Seq, Stranger>) -> Result<Seq, Mismatch> {
    match found {
        Ok(seq) if allowed.contains(&seq) => Ok(seq),
        // The state file of another load may have been thrown away: what is of no write known here came before.
        _ if allowed.contains(&UNWRITTEN) => Ok(UNWRITTEN),
        _ => Err(Mismatch { lba, found, allowed: allowed.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_write_is_all_a_place_may_hold() {
        let mut ledger = Ledger::new(4, 2);
        assert_eq!(
            ledger.found(1, 0, 2, Err(Stranger::NoStamp)),
            Ok(false),
            "anything before the first write"
        );
        ledger.wrote(1, 5);
        assert_eq!(ledger.found(1, 0, 2, Ok(5)), Ok(false));
        for found in [Ok(4), Ok(6), Err(Stranger::Zeroes)] {
            let mismatch = ledger.found(1, 1, 3, found).expect_err("not what was written");
            assert!(mismatch.to_string().contains("last acknowledged write was 5"), "{mismatch}");
        }
    }

    #[test]
    fn a_failed_write_may_be_there_block_by_block_until_it_was_looked_at() {
        let mut ledger = Ledger::new(1, 2);
        ledger.wrote(0, 1);
        ledger.may_have_written(0, 2);
        ledger.may_have_written(0, 3);
        assert_eq!(ledger.doubtful(0), [2, 3]);
        assert_eq!(ledger.found(0, 0, 0, Ok(2)), Ok(false));
        assert!(ledger.found(0, 0, 0, Ok(3)).is_err(), "it was 2, so 3 never got there");
        assert!(ledger.found(0, 1, 1, Ok(9)).is_err());
        assert_eq!(ledger.found(0, 1, 1, Ok(2)), Ok(true), "both blocks hold 2");
        assert_eq!((ledger.acked(0), ledger.doubtful(0)), (2, vec![]));
        ledger.may_have_written(0, 4);
        ledger.wrote(0, 5);
        assert!(ledger.found(0, 0, 0, Ok(4)).is_err(), "an acknowledged write settles it");
    }

    #[test]
    fn numbers_go_on_from_the_highest_known() {
        let mut ledger = Ledger::new(2, 1);
        ledger.wrote(0, 7);
        ledger.may_have_written(1, 9);
        assert_eq!(ledger.next_seq(), 10);
        assert!(ledger.is_known(0) && ledger.is_known(1));
    }
}
