//! What is broken in a net, and the same as rules of nftables.
//!
//! A fault from one node to another is a rule in the receiver's input: what the sender sent is lost there, and the
//! sender is not told.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Sender and receiver, by number.
pub(crate) type Way = (usize, usize);

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
    pub(crate) fn rules(&self, receiver: usize, addresses: &[Ipv4Addr]) -> String {
        // A table must be there to be deleted: so it is made first.
        let mut text = "table inet rmr\ndelete table inet rmr\n".to_owned();
        text += "table inet rmr {\nchain lost {\ntype filter hook input priority 0;\n";
        for ((from, _), loss) in self.ways.iter().filter(|((_, to), _)| *to == receiver) {
            let chance = match loss {
                Loss::All => String::new(),
                Loss::Percent(percent) => format!(" numgen random mod 100 < {percent}"),
            };
            // Writing to a String does not fail.
            let _ok = writeln!(text, "ip saddr {}{chance} drop", addresses[*from]);
        }
        text + "}\n}\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_hold_what_the_receiver_loses_and_the_last_word_counts() {
        let addresses = [1, 2, 3].map(|last| Ipv4Addr::new(10, 0, 0, last));
        let lines = |faults: &Faults, receiver| -> Vec<String> {
            let rules = faults.rules(receiver, &addresses);
            rules.lines().filter(|line| line.ends_with("drop")).map(str::to_owned).collect()
        };
        let mut faults = Faults::default();
        faults.set((0, 1), Loss::All);
        faults.set((2, 1), Loss::Percent(5));
        faults.set((1, 2), Loss::Percent(50));
        faults.set((1, 2), Loss::All);
        assert_eq!(lines(&faults, 0), [""; 0]);
        assert_eq!(
            lines(&faults, 1),
            ["ip saddr 10.0.0.1 drop", "ip saddr 10.0.0.3 numgen random mod 100 < 5 drop"]
        );
        assert_eq!(lines(&faults, 2), ["ip saddr 10.0.0.2 drop"]);
        faults.clear((0, 1));
        assert_eq!(lines(&faults, 1).len(), 1);
        faults.clear_all();
        assert_eq!(lines(&faults, 2), [""; 0]);
    }
}
