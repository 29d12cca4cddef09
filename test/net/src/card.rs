//! Faults of one card of the nodes: of one path, where nodes have several.

use crate::faults::Loss;
use crate::net::port;
use crate::{Error, Net};

/// The cards with one number, and the bridge between them.
#[derive(Clone, Copy, Debug)]
pub struct Card<'a> {
    pub(crate) net: &'a Net,
    pub(crate) number: usize,
}

impl Card<'_> {
    /// From now on everything between the two is lost here, both ways.
    pub fn cut(&self, one: &str, other: &str) -> Result<(), Error> {
        self.change(&[(one, other), (other, one)], Some(Loss::All))
    }

    /// From now on everything that `from` sends to `to` here is lost; the other way is as it was.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<(), Error> {
        self.change(&[(from, to)], Some(Loss::All))
    }

    /// From now on whatever one sends to the other here over TCP is answered by a reset, both ways.
    pub fn reset(&self, one: &str, other: &str) -> Result<(), Error> {
        self.change(&[(one, other), (other, one)], Some(Loss::Reset))
    }

    /// Nothing is cut, lost or reset any more between the two here.
    pub fn heal(&self, one: &str, other: &str) -> Result<(), Error> {
        self.change(&[(one, other), (other, one)], None)
    }

    /// Pulls `node`'s cable: its card sees that.
    pub fn unplug(&self, node: &str) -> Result<(), Error> {
        self.net.hub.ip(&format!("link set {} down\n", port(self.number, self.net.number(node))))
    }

    /// Puts `node`'s cable back.
    pub fn plug(&self, node: &str) -> Result<(), Error> {
        self.net.hub.ip(&format!("link set {} up\n", port(self.number, self.net.number(node))))
    }

    /// Whatever `node` sends here from now on goes out at so many bits a second; more than 50 ms of that is dropped, as by
    /// a switch.
    pub fn slow(&self, node: &str, bits_per_second: u64) -> Result<(), Error> {
        let (card, rate) = (format!("eth{}", self.number), bits_per_second.to_string());
        let args = [
            "qdisc", "replace", "dev", &card, "root", "tbf", "rate", &rate, "burst", "128kb", "latency",
            "50ms",
        ];
        match self.net.node(node).tool("tc", &args, "") {
            Err(Error::Tool { said, .. }) if said.contains("qdisc kind is unknown") => Err(Error::Missing {
                what: "this kernel has no tbf",
                remedy: "load the module sch_tbf, or run in a guest",
            }),
            outcome => outcome.map(drop),
        }
    }

    /// As fast as before.
    pub fn fast(&self, node: &str) -> Result<(), Error> {
        let card = format!("eth{}", self.number);
        self.net.node(node).tool("tc", &["qdisc", "del", "dev", &card, "root"], "").map(drop)
    }

    /// Takes its addresses from `node`'s card.
    pub fn take_address(&self, node: &str) -> Result<(), Error> {
        self.net.take_address(self.number, self.net.number(node))
    }

    /// Gives them back.
    pub fn give_address(&self, node: &str) -> Result<(), Error> {
        self.net.give_address(self.number, self.net.number(node))
    }

    fn change(&self, ways: &[(&str, &str)], loss: Option<Loss>) -> Result<(), Error> {
        self.net.change(self.number..self.number + 1, ways, loss)
    }
}
