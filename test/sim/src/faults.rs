//! The swarm's hand: picks a fault, now and then.

use crate::disk::Image;
use crate::net::FIRST_CLIENT;
use crate::world::{Ev, MS, World};
use rmr_engine::client::ClientEvent;
use rmr_engine::store::read_view;
use rmr_proto::{EpochRecord, MemberId, MemberSet};

#[derive(Clone, Copy)]
enum Fault {
    Kill,
    Power,
    Blackout,
    ClientCrash,
    Takeover,
    Cut,
    Clog,
    OldImage,
    Wipe,
    SickDisk,
    Operate,
    Latent,
    Scrub,
    Resize,
    Force,
}

impl World {
    pub(crate) fn schedule_fault(&mut self) {
        let every = self.options.fault_every_ns;
        if every > 0 {
            let pause = self.rng.u64(1..2 * every);
            self.at(self.now + pause, Ev::Fault);
        }
    }

    pub(crate) fn random_fault(&mut self) {
        if self.calm {
            return;
        }
        let o = &self.options;
        let menu = [
            (Fault::Kill, o.kill),
            (Fault::Power, o.power),
            (Fault::Blackout, o.blackout),
            (Fault::ClientCrash, o.client_crash),
            (Fault::Takeover, o.takeover),
            (Fault::Cut, o.cut),
            (Fault::Clog, o.clog),
            (Fault::OldImage, o.old_image),
            (Fault::Wipe, o.wipe),
            (Fault::SickDisk, o.sick_disk),
            (Fault::Operate, o.operate),
            (Fault::Latent, o.latent),
            (Fault::Scrub, o.scrub),
            (Fault::Resize, o.resize),
            (Fault::Force, o.force),
        ];
        if self.options.image_pct > 0 {
            self.keep_images();
        }
        let total: u32 = menu.iter().map(|(_, weight)| weight).sum();
        if total > 0 {
            let mut ticket = self.rng.u32(0..total);
            for (fault, weight) in menu {
                if ticket < weight {
                    self.inject(fault);
                    break;
                }
                ticket -= weight;
            }
        }
        self.schedule_fault();
    }

    pub(crate) fn heal_time(&mut self) -> u64 {
        self.rng.u64(1..2 * self.options.heal_ns)
    }

    fn inject(&mut self, fault: Fault) {
        let node = self.rng.usize(0..self.nodes.len());
        let delay = self.heal_time();
        match fault {
            Fault::Kill if self.nodes[node].store.is_some() => {
                self.count("node crash");
                self.kill(node);
                self.restart_in(node, delay);
            }
            Fault::Power if self.nodes[node].store.is_some() => {
                if self.options.aimed_pct > 0 && self.rng.u8(0..100) < self.options.aimed_pct {
                    self.nodes[node].power_at_next_work = true;
                } else {
                    self.lose_power(node, delay);
                }
            }
            Fault::Blackout => {
                self.count("blackout");
                for node in 0..self.nodes.len() {
                    if self.nodes[node].store.is_some() {
                        self.power_off(node);
                        let delay = self.heal_time();
                        self.restart_in(node, delay);
                    }
                }
            }
            Fault::ClientCrash => self.crash_client(delay),
            Fault::Takeover => {
                self.count("two clients");
                let host = self.rng.usize(0..self.hosts.len());
                let takeover = self.rng.u8(0..4) > 0;
                self.hosts[host].loaded = true;
                self.start_host(host, takeover);
            }
            Fault::Cut | Fault::Clog => self.inject_link(matches!(fault, Fault::Cut), delay),
            Fault::OldImage => self.inject_image(node),
            Fault::Wipe => self.inject_wipe(node),
            Fault::Operate => self.random_operation(),
            Fault::SickDisk => self.inject_sick_disk(node, delay),
            // Down already, and now without power as well: what it had not flushed may be gone.
            Fault::Power if self.options.aimed_pct > 0 => {
                self.count("power loss while down");
                self.power_off(node);
            }
            Fault::Latent => {
                self.count("latent sector error");
                let block = self.rng.u64(0..self.options.hot_blocks.max(1));
                self.nodes[node].disk.bad.insert(block);
            }
            Fault::Scrub => {
                let host = self.rng.usize(0..self.hosts.len());
                let first = self.rng.u64(0..self.geometry.chunks());
                let pace = self.rng.u64(0..20 * MS);
                self.start_scrub(host, first, pace);
            }
            Fault::Resize => self.inject_resize(),
            Fault::Force if self.rng.bool() => self.settle_sides(),
            Fault::Force => self.inject_force(),
            Fault::Kill | Fault::Power => {}
        }
    }

    fn lose_power(&mut self, node: usize, delay: u64) {
        self.count("power loss");
        self.power_off(node);
        self.restart_in(node, delay);
    }

    /// The power loss that waited for the disk to be busy.
    pub(crate) fn aimed_power_loss(&mut self, node: usize, life: u64) {
        if self.nodes[node].life == life && self.nodes[node].store.is_some() && !self.calm {
            let delay = self.heal_time();
            self.lose_power(node, delay);
        }
    }

    fn inject_sick_disk(&mut self, node: usize, delay: u64) {
        if self.meta_fails.is_some() || self.flush_fails.is_some() {
            return;
        }
        self.count("sick disk");
        let sick = if self.rng.bool() { &mut self.meta_fails } else { &mut self.flush_fails };
        *sick = Some(node);
        self.at(self.now + delay.min(500 * MS), Ev::WellAgain { node });
    }

    pub(crate) fn well_again(&mut self, node: usize) {
        let sick = |fails: &mut Option<usize>| *fails = fails.filter(|sick| *sick != node);
        sick(&mut self.meta_fails);
        sick(&mut self.flush_fails);
    }

    fn crash_client(&mut self, delay: u64) {
        let alive: Vec<usize> = (0..self.hosts.len()).filter(|h| self.hosts[*h].client.is_some()).collect();
        let Some(host) = self.rng.choice(alive) else { return };
        self.count("client crash");
        self.crash_host(host);
        let next = self.rng.usize(0..self.hosts.len());
        self.hosts[host].loaded = false;
        self.hosts[next].loaded = true;
        let takeover = self.rng.bool();
        self.at(self.now + delay, Ev::StartHost { host: next, takeover });
    }

    fn inject_link(&mut self, cut: bool, delay: u64) {
        let endpoint = |rng: &mut fastrand::Rng, nodes| {
            if rng.bool() { rng.usize(0..nodes) } else { FIRST_CLIENT + rng.usize(0..2) }
        };
        let nodes = self.nodes.len();
        let (from, to) = (endpoint(&mut self.rng, nodes), endpoint(&mut self.rng, nodes));
        if cut {
            self.net.cut(from, to, true);
            self.at(self.now + delay, Ev::Heal { from, to });
            if self.rng.bool() {
                self.net.cut(to, from, true);
                self.at(self.now + delay, Ev::Heal { from: to, to: from });
                self.count("cut");
            } else {
                self.count("one-way cut");
            }
        } else {
            self.count("clog");
            let until = self.now + delay.min(300 * MS);
            self.net.clog(from, to, until);
        }
    }

    pub(crate) fn durable_record(&self, meta: &[u8]) -> Option<EpochRecord> {
        let config = rmr_engine::StoreConfig { journal_bytes: 64 << 10, ..Default::default() };
        read_view(&self.room(), &config, meta).ok().map(|view| view.record)
    }

    /// Members outside every set that could be started from: losing their disk loses nothing.
    fn spare(&self) -> MemberSet {
        let records = self.nodes.iter().map(|node| self.durable_record(&node.disk.meta));
        let Some(newest) = records.flatten().max_by_key(|record| record.adopted) else {
            return MemberSet::EMPTY;
        };
        let clients = self.hosts.iter().filter_map(|host| host.client.as_ref());
        let in_use = clients.fold(newest.set, |set, client| set.or(client.set()));
        let whole = newest.adopted != Default::default() && self.set_holds_all(newest.set, newest.blocks);
        if whole { MemberSet::first(self.nodes.len()).minus(in_use) } else { MemberSet::EMPTY }
    }

    /// Is every chunk of so many blocks clean on some member of `set`, going by what is durable?
    fn set_holds_all(&self, set: MemberSet, blocks: u64) -> bool {
        let config = rmr_engine::StoreConfig { journal_bytes: 64 << 10, ..Default::default() };
        let view =
            |m: MemberId| Some((m, read_view(&self.room(), &config, &self.nodes[m.index()].disk.meta).ok()?));
        let views: Vec<_> = set.iter().filter_map(view).collect();
        let Ok(geometry) = self.geometry.with_blocks(blocks) else { return false };
        (0..geometry.regions()).map(rmr_proto::RegionNo).all(|region| {
            let all = geometry.all_of(region);
            views.iter().fold(all, |bits, (m, view)| bits.and(view.unclean(region, *m))).is_empty()
        })
    }

    /// Takes an image of a disk, or puts one taken in the same epoch back.
    fn inject_image(&mut self, node: usize) {
        let image = self.nodes[node].disk.image();
        let kept = self.nodes[node].image.take();
        let now = self.durable_record(&image.meta).map(|record| record.adopted);
        let then =
            kept.as_ref().and_then(|kept| self.durable_record(&kept.meta)).map(|record| record.adopted);
        match kept {
            Some(old) if now == then && self.spare().has(MemberId::at(node)) => {
                self.count("old image");
                self.power_off(node);
                self.nodes[node].disk.restore(&old);
                self.restart_in(node, 5 * MS);
            }
            Some(old) if now == then && self.rng.bool() => self.nodes[node].image = Some(old),
            _ => self.nodes[node].image = Some(image),
        }
    }

    /// Takes an image of every disk whose last one is of another epoch.
    fn keep_images(&mut self) {
        for node in 0..self.nodes.len() {
            let state = &self.nodes[node];
            let now = state.store.as_ref().map(|store| store.durable().record.adopted);
            let then = state.image.as_ref().and_then(|image| self.durable_record(&image.meta));
            if now.is_some() && now != then.map(|record| record.adopted) {
                self.nodes[node].image = Some(self.nodes[node].disk.image());
            }
        }
    }

    /// Starts a node; a spare one may find its disk as it was earlier in the same epoch.
    pub(crate) fn restart(&mut self, node: usize) {
        if let Some(old) = self.older_disk(node) {
            self.count("old image");
            self.power_off(node);
            self.nodes[node].disk.restore(&old);
        }
        self.start_node(node);
    }

    fn older_disk(&mut self, node: usize) -> Option<Image> {
        let may = self.options.image_pct > 0 && !self.calm && self.nodes[node].store.is_none();
        if !may || self.rng.u8(0..100) >= self.options.image_pct || !self.spare().has(MemberId::at(node)) {
            return None;
        }
        let adopted = |meta: &[u8]| self.durable_record(meta).map(|record| record.adopted);
        let then = adopted(&self.nodes[node].image.as_ref()?.meta);
        if then != adopted(&self.nodes[node].disk.meta) {
            return None;
        }
        self.nodes[node].image.take()
    }

    fn inject_resize(&mut self) {
        let host = self.rng.usize(0..self.hosts.len());
        let more = self.rng.u64(1..20);
        let Some(client) = &self.hosts[host].client else { return };
        let blocks = client.geometry().blocks() + more;
        if blocks <= self.room().blocks() {
            self.client_event(host, ClientEvent::Resize { blocks });
        }
    }

    fn inject_wipe(&mut self, node: usize) {
        if !self.spare().has(MemberId::at(node)) {
            return;
        }
        self.count("wiped disk");
        self.nodes[node].image = None;
        self.wipe(node);
    }
}
