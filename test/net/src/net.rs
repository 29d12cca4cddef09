//! A net: made, broken, repaired, removed.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::faults::{Faults, Loss};
use crate::leftovers::{own_prefix, remove, remove_one};
use crate::tools::{is_there, run};
use crate::{Error, Node};

/// Nets made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Nodes on one bridge. Dropping it removes them, with all that runs on them.
#[derive(Debug)]
pub struct Net {
    nodes: Vec<Node>,
    hub: Node,
    faults: Mutex<Faults>,
}

impl Net {
    /// A net of nodes with these names, up to 200. [`Error::Missing`] where this machine or user cannot have one.
    pub fn new(names: &[&str]) -> Result<Net, Error> {
        assert!(!names.is_empty() && names.len() <= 200, "a net has 1 to 200 nodes, not {}", names.len());
        possible()?;
        remove()?;
        let prefix = own_prefix(MADE.fetch_add(1, Relaxed))?;
        let node = |name: &str, last: u8| Node {
            name: name.to_owned(),
            namespace: format!("{prefix}{name}"),
            address: Ipv4Addr::new(10, 77, 0, last),
        };
        let nodes = names.iter().zip(1..).map(|(name, last)| node(name, last)).collect();
        // Whatever fails from here on, dropping the net removes what was made.
        let net = Net { nodes, hub: node("hub", 0), faults: Mutex::default() };
        net.make()?;
        Ok(net)
    }

    /// As [`Net::new`] for tests: none, with one line that says why, where this machine or user cannot have one.
    #[must_use]
    pub fn or_skip(names: &[&str]) -> Option<Net> {
        match Net::new(names) {
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
        // No spanning tree and no snooping: a port forwards as soon as it is up.
        self.hub
            .ip("link add br0 type bridge stp_state 0 mcast_snooping 0\nlink set br0 up\nlink set lo up\n")?;
        for (number, node) in self.nodes.iter().enumerate() {
            let inside = &node.namespace;
            self.hub.ip(&format!(
                "link add p{number} type veth peer name eth0 netns {inside}\nlink set p{number} master br0\nlink set p{number} up\n"
            ))?;
            node.ip(&format!("addr add {}/24 dev eth0\nlink set lo up\nlink set eth0 up\n", node.address))?;
        }
        Ok(())
    }

    /// The node called `name`. Panics if there is none.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        &self.nodes[self.number(name)]
    }

    fn number(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("no node {name}; there are {:?}", self.nodes))
    }

    /// From now on everything between the two is lost, both ways.
    pub fn cut(&self, one: &str, other: &str) -> Result<(), Error> {
        self.change(&[(one, other), (other, one)], Some(Loss::All))
    }

    /// From now on everything that `from` sends to `to` is lost; the other way is as it was.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<(), Error> {
        self.change(&[(from, to)], Some(Loss::All))
    }

    /// From now on `percent` of the packets between the two are lost at random, both ways.
    pub fn lose(&self, one: &str, other: &str, percent: u8) -> Result<(), Error> {
        assert!(percent <= 100, "{percent} in a hundred");
        self.change(&[(one, other), (other, one)], Some(Loss::Percent(percent)))
    }

    /// Nothing is cut or lost any more between the two. Delays and cables are as they were.
    pub fn heal(&self, one: &str, other: &str) -> Result<(), Error> {
        self.change(&[(one, other), (other, one)], None)
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

    /// Pulls `node`'s cable: its card sees that.
    pub fn unplug(&self, node: &str) -> Result<(), Error> {
        self.hub.ip(&format!("link set p{} down\n", self.number(node)))
    }

    /// Puts `node`'s cable back.
    pub fn plug(&self, node: &str) -> Result<(), Error> {
        self.hub.ip(&format!("link set p{} up\n", self.number(node)))
    }

    fn change(&self, ways: &[(&str, &str)], loss: Option<Loss>) -> Result<(), Error> {
        let mut faults = self.faults();
        for (from, to) in ways {
            let way = (self.number(from), self.number(to));
            match loss {
                Some(loss) => faults.set(way, loss),
                None => faults.clear(way),
            }
        }
        ways.iter().try_for_each(|(_, to)| self.apply(&faults, self.number(to)))
    }

    fn apply(&self, faults: &Faults, receiver: usize) -> Result<(), Error> {
        let addresses: Vec<Ipv4Addr> = self.nodes.iter().map(Node::address).collect();
        self.nodes[receiver].tool("nft", &["-f", "-"], &faults.rules(receiver, &addresses)).map(drop)
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
