//! Commands to the pool: given by a scenario or at random, and what an operator does with a disk afterwards.

use crate::node::Node;
use crate::world::{MS, World};
use rmr_engine::client::{Client, ClientEvent, Command, CommandError, Phase, Why};
use rmr_proto::{MemberId, MemberSet};

/// Commands with a tag from here on were drawn at random.
const RANDOM: u64 = 1 << 32;

impl World {
    /// Whom a client asks first. Once there is a pool also stores that it does not name: that must do no harm.
    pub(crate) fn configured(&self) -> MemberSet {
        if self.stats.epochs == 0 { self.members() } else { MemberSet::first(self.nodes.len()) }
    }

    /// Hands a command to a client.
    pub(crate) fn command(&mut self, host: usize, tag: u64, command: Command) {
        self.commands.insert(tag, (host, command));
        if matches!(command, Command::Add { .. } | Command::Maintenance { on: false, .. }) {
            self.kept_out[command.member().index()] = None;
        }
        self.client_event(host, ClientEvent::Command { tag, command });
    }

    /// A command ended.
    pub(crate) fn commanded(&mut self, host: usize, tag: u64, result: Result<(), CommandError>) {
        self.note(10, &(host, tag, result));
        let Some((_, command)) = self.commands.remove(&tag) else {
            return self.fail(format!("command {tag} ended twice"));
        };
        self.commanded.insert(tag, result);
        let leaves = matches!(command, Command::Remove { .. } | Command::Maintenance { on: true, .. });
        if leaves && result.is_ok() {
            self.kept_out[command.member().index()] = self.hosts[host].client.as_ref().map(Client::epoch);
        }
        if tag < RANDOM {
            return;
        }
        self.count(if result.is_ok() { "operation" } else { "operation refused" });
        let wipes = matches!(command, Command::Replace { .. })
            || (matches!(command, Command::Remove { .. }) && self.rng.bool());
        if result.is_ok() && wipes {
            let node = command.member().index();
            self.nodes[node].image = None;
            self.wipe(node);
        }
    }

    /// Nobody is in the set whom a command has taken out, or none has let in.
    pub(crate) fn check_kept_out(&mut self, host: usize) {
        let Some(client) = self.hosts[host].client.as_ref().filter(|c| c.phase() == Phase::Active) else {
            return;
        };
        let epoch = client.epoch();
        let out = |m: &MemberId| self.kept_out[m.index()].is_some_and(|since| epoch > since);
        if let Some(member) = client.set().iter().find(out) {
            self.fail(format!("{member} is in the set of {epoch:?}, and a command keeps it out"));
        }
    }

    /// Another, empty disk in place of the node's: whatever only the old one held is lost.
    pub(crate) fn wipe(&mut self, node: usize) {
        self.power_off(node);
        for block in 0..self.room().blocks() {
            // A disk in the place of one that read zero reads zero too: that must not count.
            let zeroed = self.options.zeroed & (1 << node) != 0;
            let value = if zeroed { 0 } else { 0xeeee_0000 + block };
            self.nodes[node].disk.data[block as usize] = value;
            if block >= self.geometry.blocks() && !self.oracle.allows(block, value) {
                self.oracle.may_hold(block, value);
            }
        }
        self.format(node);
        self.restart_in(node, 5 * MS);
    }

    /// One command drawn at random, to the client that has the pool.
    pub(crate) fn random_operation(&mut self) {
        let Some((host, members, resting)) = self.leader() else { return };
        let member = MemberId::at(self.rng.usize(0..self.nodes.len()));
        let command = match self.rng.u8(0..6) {
            _ if !members.has(member) => Command::Add { member },
            0 => Command::Remove { member, force: false },
            1 | 2 => Command::Replace { member, force: false },
            _ => Command::Maintenance { member, on: !resting.has(member) },
        };
        self.operate(host, command);
    }

    /// Ends the maintenance of whoever is in it.
    pub(crate) fn end_maintenance(&mut self) {
        let Some((host, _, resting)) = self.leader() else { return };
        let Some(member) = resting.iter().next() else { return };
        if self.commands.is_empty() {
            self.operate(host, Command::Maintenance { member, on: false });
        }
    }

    /// Gives the active client a command that no scenario waits for.
    pub(crate) fn operate(&mut self, host: usize, command: Command) {
        self.next_user += 1;
        self.command(host, RANDOM + self.next_user, command);
    }

    /// The operator says that a disk which is not the one that was known is there to stay.
    pub(crate) fn confirm_disks(&mut self) {
        let Some((host, ..)) = self.leader().filter(|_| self.commands.is_empty()) else { return };
        let now = self.now;
        let status = self.hosts[host].client.as_ref().map(|client| client.status(now));
        let legs = status.map(|status| status.legs).unwrap_or_default();
        if let Some((member, _)) = legs.into_iter().find(|(_, why)| *why == Why::WouldVoid) {
            self.operate(host, Command::Replace { member, force: true });
        }
    }

    /// Does the client that has the pool say this of a node?
    pub fn says(&self, node: usize, what: impl Fn(Why) -> bool) -> bool {
        let Some((host, ..)) = self.leader() else { return false };
        let status = self.hosts[host].client.as_ref().map(|client| client.status(self.now));
        let legs = status.map(|status| status.legs).unwrap_or_default();
        legs.iter().any(|(member, why)| member.index() == node && what(*why))
    }

    /// The host whose client has the newest active epoch, and the members it knows.
    pub(crate) fn leader(&self) -> Option<(usize, MemberSet, MemberSet)> {
        let active = |(host, state): (usize, &crate::host::Host)| {
            let client = state.client.as_ref().filter(|c| c.phase() == Phase::Active)?;
            Some((client.epoch(), host, client.members(), client.resting()))
        };
        let newest = self.hosts.iter().enumerate().filter_map(active).max_by_key(|(epoch, ..)| *epoch)?;
        Some((newest.1, newest.2, newest.3))
    }

    /// Is anybody in maintenance?
    pub(crate) fn is_resting(&self) -> bool {
        self.leader().is_some_and(|(_, _, resting)| !resting.is_empty())
    }

    /// A client died: its commands may have been carried out or not, and nobody will say.
    pub(crate) fn forget_commands(&mut self, host: usize) {
        self.commands.retain(|_, (at, _)| *at != host);
    }

    /// Who should be up to date when all is well.
    pub(crate) fn wanted(client: &Client) -> MemberSet {
        client.members().minus(client.resting())
    }

    /// Members that the newest durable record names.
    pub(crate) fn named(&self) -> MemberSet {
        let records = self.nodes.iter().filter_map(|node: &Node| self.durable_record(&node.disk.meta));
        records.max_by_key(|record| record.adopted).map_or(self.members(), |record| record.members)
    }
}
