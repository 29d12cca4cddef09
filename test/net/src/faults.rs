//! What is broken in a net, and the same as rules of nftables.
//!
//! A fault from one node to another is a rule in the receiver's input: what the sender sent is lost there, and the
//! sender is not told.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::node::{address, address6};

/// Sender and receiver, by number, and the card of each.
pub(crate) type Way = (usize, usize, usize);

/// What is lost, by way; a way that is not here loses nothing.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    ways: BTreeMap<Way, Loss>,
}

/// How much of what one node sends to another is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Everything.
    All,
    /// So many packets in a hundred, at random.
    Percent(u8),
    /// Everything of TCP, and the sender is told: each segment is answered by a reset.
    Reset,
}

impl Faults {
    pub(crate) fn set(&mut self, way: Way, loss: Loss) {
        self.ways.insert(way, loss);
    }

    pub(crate) fn clear(&mut self, way: Way) {
        self.ways.remove(&way);
    }

    pub(crate) fn clear_all(&mut self) {
        self.ways.clear();
    }

    /// Input of `nft -f` that makes node `receiver` lose what it is to lose and nothing else, in one step.
    pub(crate) fn rules(&self, receiver: usize) -> String {
        // A table must be there to be deleted: so it is made first.
        let mut text = "table inet rmr\ndelete table inet rmr\n".to_owned();
        text += "table inet rmr {\nchain lost {\ntype filter hook input priority 0;\n";
        for (&(from, _, card), loss) in self.ways.iter().filter(|((_, to, _), _)| *to == receiver) {
            let fate = match loss {
                Loss::All => "drop".to_owned(),
                Loss::Percent(percent) => format!("numgen random mod 100 < {percent} drop"),
                // The resets themselves arrive.
                Loss::Reset => "tcp flags & rst == 0 reject with tcp reset".to_owned(),
            };
            // Writing to a String does not fail.
            let _ok = writeln!(text, "ip saddr {} {fate}", address(card, from));
            let _ok = writeln!(text, "ip6 saddr {} {fate}", address6(card, from));
        }
        text + "}\n}\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_hold_what_the_receiver_loses_and_the_last_word_counts() {
        let lines = |faults: &Faults, receiver| -> Vec<String> {
            let rules = faults.rules(receiver);
            rules.lines().filter(|line| line.starts_with("ip ")).map(str::to_owned).collect()
        };
        let mut faults = Faults::default();
        faults.set((0, 1, 0), Loss::All);
        faults.set((2, 1, 0), Loss::Percent(5));
        faults.set((2, 1, 1), Loss::Reset);
        faults.set((1, 2, 0), Loss::Percent(50));
        faults.set((1, 2, 0), Loss::All);
        assert_eq!(lines(&faults, 0), [""; 0]);
        assert_eq!(
            lines(&faults, 1),
            [
                "ip saddr 10.77.0.1 drop",
                "ip saddr 10.77.0.3 numgen random mod 100 < 5 drop",
                "ip saddr 10.77.1.3 tcp flags & rst == 0 reject with tcp reset",
            ]
        );
        assert_eq!(lines(&faults, 2), ["ip saddr 10.77.0.2 drop"]);
        assert!(faults.rules(2).contains("ip6 saddr fd77::2 drop\n"), "{}", faults.rules(2));
        faults.clear((0, 1, 0));
        assert_eq!(lines(&faults, 1).len(), 2);
        faults.clear_all();
        assert_eq!(lines(&faults, 2), [""; 0]);
    }
}
