//! A net: made, broken, repaired, removed.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::faults::{Faults, Loss};
use crate::leftovers::{own_prefix, remove, remove_one};
use crate::node::{address, address6, has_ipv6};
use crate::tools::{is_there, run};
use crate::{Card, Error, Node};

/// Nets made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Nodes on a bridge for each of their cards. Dropping it removes them, with all that runs on them.
#[derive(Debug)]
pub struct Net {
    pub(crate) nodes: Vec<Node>,
    pub(crate) hub: Node,
    cards: usize,
    faults: Mutex<Faults>,
}

impl Net {
    /// A net of nodes with these names, up to 200. [`Error::Missing`] where this machine or user cannot have one.
    pub fn new(names: &[&str]) -> Result<Net, Error> {
        Self::with_cards(names, 1)
    }

    /// The same with so many cards a node, `eth0` and on, up to 16.
    pub fn with_cards(names: &[&str], cards: usize) -> Result<Net, Error> {
        assert!(!names.is_empty() && names.len() <= 200, "a net has 1 to 200 nodes, not {}", names.len());
        assert!((1..=16).contains(&cards), "a node has 1 to 16 cards, not {cards}");
        possible()?;
        remove()?;
        let prefix = own_prefix(MADE.fetch_add(1, Relaxed))?;
        let node = |name: &str, number| {
            let namespace = format!("{prefix}{name}");
            Node { name: name.to_owned(), namespace, number }
        };
        let nodes = names.iter().zip(0..).map(|(name, number)| node(name, number)).collect();
        // Whatever fails from here on, dropping the net removes what was made.
        let net = Net { nodes, hub: node("hub", usize::MAX), cards, faults: Mutex::default() };
        net.make()?;
        Ok(net)
    }

    /// As [`Net::new`] for tests: none, with one line that says why, where this machine or user cannot have one.
    #[must_use]
    pub fn or_skip(names: &[&str]) -> Option<Net> {
        Self::with_cards_or_skip(names, 1)
    }

    /// As [`Net::with_cards`], skipping as [`Net::or_skip`].
    #[must_use]
    pub fn with_cards_or_skip(names: &[&str], cards: usize) -> Option<Net> {
        match Net::with_cards(names, cards) {
            Ok(net) => Some(net),
            Err(why) if why.is_missing() => {
                crate::tell_skipped(&why);
                None
            }
            Err(why) => panic!("{why}"),
        }
    }

    fn make(&self) -> Result<(), Error> {
        let all = || self.nodes.iter().chain([&self.hub]);
        let add: String = all().map(|node| format!("netns add {}\n", node.namespace)).collect();
        run("ip", &["-batch", "-"], &add)?;
        self.hub.ip("link set lo up\n")?;
        self.nodes.iter().try_for_each(|node| node.ip("link set lo up\n"))?;
        (0..self.cards).try_for_each(|card| self.make_cards(card))
    }

    /// One card of each node, and the bridge between them.
    fn make_cards(&self, card: usize) -> Result<(), Error> {
        // No spanning tree and no snooping: a port forwards as soon as it is up.
        self.hub.ip(&format!(
            "link add br{card} type bridge stp_state 0 mcast_snooping 0\nlink set br{card} up\n"
        ))?;
        for (number, node) in self.nodes.iter().enumerate() {
            let (inside, port) = (&node.namespace, port(card, number));
            self.hub.ip(&format!(
                "link add {port} type veth peer name eth{card} netns {inside}\nlink set {port} master br{card}\nlink set {port} up\n"
            ))?;
            node.ip(&format!("link set eth{card} up\n"))?;
            self.give_address(card, number)?;
        }
        Ok(())
    }

    pub(crate) fn give_address(&self, card: usize, number: usize) -> Result<(), Error> {
        self.addresses("add", card, number)
    }

    pub(crate) fn take_address(&self, card: usize, number: usize) -> Result<(), Error> {
        self.addresses("del", card, number)
    }

    fn addresses(&self, what: &str, card: usize, number: usize) -> Result<(), Error> {
        let mut lines = format!("addr {what} {}/24 dev eth{card}\n", address(card, number));
        if has_ipv6() {
            // Nobody else has it: it can be used at once.
            let at_once = if what == "add" { " nodad" } else { "" };
            lines += &format!("addr {what} {}/64 dev eth{card}{at_once}\n", address6(card, number));
        }
        self.nodes[number].ip(&lines)
    }

    /// The node called `name`. Panics if there is none.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        &self.nodes[self.number(name)]
    }

    /// What can be done to the cards with this number alone, and to the bridge between them.
    #[must_use]
    pub fn card(&self, number: usize) -> Card<'_> {
        assert!(number < self.cards, "no card {number}; there are {}", self.cards);
        Card { net: self, number }
    }

    pub(crate) fn number(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("no node {name}; there are {:?}", self.nodes))
    }

    /// From now on everything between the two is lost, both ways.
    pub fn cut(&self, one: &str, other: &str) -> Result<(), Error> {
        self.change(0..self.cards, &[(one, other), (other, one)], Some(Loss::All))
    }

    /// From now on everything that `from` sends to `to` is lost; the other way is as it was.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<(), Error> {
        self.change(0..self.cards, &[(from, to)], Some(Loss::All))
    }

    /// From now on `percent` of the packets between the two are lost at random, both ways.
    pub fn lose(&self, one: &str, other: &str, percent: u8) -> Result<(), Error> {
        assert!(percent <= 100, "{percent} in a hundred");
        self.change(0..self.cards, &[(one, other), (other, one)], Some(Loss::Percent(percent)))
    }

    /// Nothing is cut or lost any more between the two. Delays and cables are as they were.
    pub fn heal(&self, one: &str, other: &str) -> Result<(), Error> {
        self.change(0..self.cards, &[(one, other), (other, one)], None)
    }

    /// Nothing is cut or lost any more. Delays and cables are as they were.
    pub fn heal_all(&self) -> Result<(), Error> {
        let mut faults = self.faults();
        faults.clear_all();
        (0..self.nodes.len()).try_for_each(|node| self.apply(&faults, node))
    }

    /// Whatever `node` sends from now on is on its way for so long. Needs netem, which not every kernel has.
    pub fn delay(&self, node: &str, delay: Duration) -> Result<(), Error> {
        let delay = format!("{}us", delay.as_micros());
        // Packets on their way are not lost when there are more than netem's default of 1000.
        let args = ["qdisc", "replace", "dev", "eth0", "root", "netem", "limit", "100000", "delay", &delay];
        match self.node(node).tool("tc", &args, "") {
            Err(Error::Tool { said, .. }) if said.contains("qdisc kind is unknown") => Err(Error::Missing {
                what: "this kernel has no netem",
                remedy: "load the module sch_netem, or run in a guest",
            }),
            outcome => outcome.map(drop),
        }
    }

    /// Pulls all of `node`'s cables: its cards see that.
    pub fn unplug(&self, node: &str) -> Result<(), Error> {
        (0..self.cards).try_for_each(|card| self.card(card).unplug(node))
    }

    /// Puts `node`'s cables back.
    pub fn plug(&self, node: &str) -> Result<(), Error> {
        (0..self.cards).try_for_each(|card| self.card(card).plug(node))
    }

    pub(crate) fn change(
        &self,
        cards: Range<usize>,
        ways: &[(&str, &str)],
        loss: Option<Loss>,
    ) -> Result<(), Error> {
        let mut faults = self.faults();
        for (from, to) in ways {
            for card in cards.clone() {
                let way = (self.number(from), self.number(to), card);
                match loss {
                    Some(loss) => faults.set(way, loss),
                    None => faults.clear(way),
                }
            }
        }
        ways.iter().try_for_each(|(_, to)| self.apply(&faults, self.number(to)))
    }

    fn apply(&self, faults: &Faults, receiver: usize) -> Result<(), Error> {
        self.nodes[receiver].tool("nft", &["-f", "-"], &faults.rules(receiver)).map(drop)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("no thread panics while it holds this lock")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for node in self.nodes.iter().chain([&self.hub]) {
            if let Err(error) = remove_one(&node.namespace) {
                // The next net that is made tries again, once this process has ended.
                eprintln!("{} is left behind: {error}", node.namespace);
            }
        }
    }
}

/// The hub's end of a node's cable.
pub(crate) fn port(card: usize, node: usize) -> String {
    format!("p{card}n{node}")
}

/// Whether this machine and user can have a net.
fn possible() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Missing { what: "not root", remedy: "run as root" });
    }
    for (tool, what) in [("ip", "no `ip`"), ("nft", "no `nft`")] {
        if !is_there(tool) {
            return Err(Error::Missing { what, remedy: "apt-get install iproute2 nftables" });
        }
    }
    Ok(())
}
