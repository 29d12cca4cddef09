//! Starts by force at random. Until all members are in one set again the pool may have several histories; whichever a
//! client starts from, what it reads is one of them, every leg of it the same, and what it acknowledges stays.

use crate::world::{MS, World};
use rmr_engine::client::{Client, Command, Phase, StartOptions, Why};
use rmr_proto::{MemberId, MemberSet, RegionNo};

/// So long an operator waits for a start before another side is chosen.
const PATIENCE_NS: u64 = 3_000 * MS;

impl World {
    /// Some nodes go down, every client dies, and one is started by force with the nodes that are left.
    pub(crate) fn inject_force(&mut self) {
        self.count("start by force");
        let host = self.rng.usize(0..self.hosts.len());
        for other in 0..self.hosts.len() {
            self.crash_host(other);
            self.hosts[other].loaded = other == host;
        }
        let left = self.some_nodes();
        for node in 0..self.nodes.len() {
            if left.has(MemberId::at(node)) {
                self.start_node(node);
            } else if self.rng.bool() {
                self.kill(node);
            } else {
                self.power_off(node);
            }
        }
        for node in 0..self.nodes.len() {
            if !left.has(MemberId::at(node)) {
                let delay = self.heal_time();
                self.restart_in(node, delay);
            }
        }
        let accept = self.rng.bool().then(|| self.one_of(left));
        self.start_on_a_side(host, StartOptions { takeover: true, force: left, accept });
    }

    /// What an operator does about sides: where one serves, whoever went another way gives that up; where none does, one
    /// is chosen.
    pub(crate) fn settle_sides(&mut self) {
        if !self.sides_open {
            return;
        }
        if let Some((host, ..)) = self.leader() {
            if self.commands.is_empty()
                && let Some(member) = self.foreigner(host)
            {
                // By force if it goes on: it may be that nobody who serves can become whole without that member.
                let force = self.calm && self.rng.u8(0..32) == 0;
                self.operate(host, Command::Discard { member, force });
            } else if self.calm && self.patience_is_over() && self.nobody_holds(host) {
                // What only a discarded member held: somebody has to decide.
                let force = self.hosts[host].client.as_ref().map_or(MemberSet::EMPTY, Client::set);
                self.crash_host(host); // One that serves does not start.
                self.hosts[host].loaded = true;
                self.start_on_a_side(host, StartOptions { takeover: true, force, accept: None });
            }
        } else if self.patience_is_over() {
            let accept = Some(self.one_of(MemberSet::first(self.nodes.len())));
            let alone = accept.filter(|_| self.rng.bool());
            let force = alone.into_iter().fold(MemberSet::EMPTY, MemberSet::with);
            self.crash_host(0);
            self.hosts[0].loaded = true;
            self.start_on_a_side(0, StartOptions { takeover: true, force, accept });
        }
    }

    fn patience_is_over(&self) -> bool {
        self.now >= self.chosen_at + PATIENCE_NS
    }

    /// Is there a chunk that everybody in the set has missed?
    fn nobody_holds(&self, host: usize) -> bool {
        let Some(client) = &self.hosts[host].client else { return false };
        let stores = || client.set().iter().filter_map(|m| self.nodes[m.index()].store.as_ref());
        (0..self.geometry.regions()).map(RegionNo).any(|region| {
            let all = self.geometry.all_of(region);
            !stores().fold(all, |bits, s| bits.and(s.view().missed(region, s.member()))).is_empty()
        })
    }

    fn start_on_a_side(&mut self, host: usize, options: StartOptions) {
        (self.forced, self.sides_open, self.chosen_at) = (true, true, self.now);
        self.start_host_with(host, options);
    }

    /// Some of the nodes, at least one and not all.
    fn some_nodes(&mut self) -> MemberSet {
        let nodes = self.nodes.len();
        let bits = self.rng.u32(1..(1 << nodes) - 1);
        (0..nodes)
            .filter(|node| bits & (1 << node) != 0)
            .map(MemberId::at)
            .fold(MemberSet::EMPTY, MemberSet::with)
    }

    fn one_of(&mut self, set: MemberSet) -> MemberId {
        let at = self.rng.usize(0..set.len());
        set.iter().nth(at).unwrap_or(MemberId::at(0))
    }

    fn foreigner(&self, host: usize) -> Option<MemberId> {
        let legs = self.hosts[host].client.as_ref()?.status(self.now).legs;
        legs.into_iter().find(|(_, why)| *why == Why::SplitBrain).map(|(member, _)| member)
    }

    /// While there may be several histories one client runs at a time: two sides that serve at once are two pools, and
    /// the oracle knows one.
    pub(crate) fn only_client(&mut self, host: usize) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            if self.sides_open {
                self.hosts[other].loaded = false;
                self.crash_host(other);
            }
        }
    }

    /// A client that becomes active for the first time may have started from another history than the last. It does not
    /// change sides later.
    pub(crate) fn note_served(&mut self, host: usize) {
        let active = self.hosts[host].client.as_ref().is_some_and(|client| client.phase() == Phase::Active);
        if active && !std::mem::replace(&mut self.hosts[host].served, true) && self.sides_open {
            self.oracle.forget();
        }
    }

    /// With all members in one set, and nothing missed, there is one history again.
    pub(crate) fn close_sides(&mut self) {
        if self.sides_open && self.is_whole() && self.all_are_in_the_set() {
            (self.forced, self.sides_open) = (false, false);
            self.oracle.remember_all();
            self.count("sides joined again");
        }
    }

    fn all_are_in_the_set(&self) -> bool {
        self.leader().is_some_and(|(host, ..)| {
            let set = self.hosts[host].client.as_ref().map(rmr_engine::client::Client::set);
            set == Some(MemberSet::first(self.nodes.len()))
        })
    }
}
