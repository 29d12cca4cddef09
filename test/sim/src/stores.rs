//! Driving the stores: their events, their disks, their processes.

use crate::disk::{Queued, Work};
use crate::node::Buffers;
use crate::world::{Ev, MS, World, payload_of};
use rmr_engine::store::{Service, Store, View};
use rmr_engine::{DiskOp, Party, StoreAction, StoreEvent};
use rmr_proto::{BlockRange, MemberId};

impl World {
    pub(crate) fn store_event(&mut self, node: usize, event: StoreEvent) {
        self.cover_store(node, &event);
        let mut out = std::mem::take(&mut self.store_out);
        let now = self.now;
        let before = self.trace.then(|| self.nodes[node].store.as_ref().map(|s| s.view().clone())).flatten();
        if let Some(store) = &mut self.nodes[node].store {
            store.on(now, event, &mut out);
            store.check();
            if let Some(before) = before {
                print_changes(store, &before);
            }
        }
        for action in out.drain(..) {
            self.store_action(node, action);
        }
        self.store_out = out;
    }

    pub(crate) fn store_action(&mut self, node: usize, action: StoreAction) {
        match action {
            StoreAction::Send(party, msg) => {
                let payload = payload_of(&msg).and_then(|buf| self.nodes[node].buffers.take(buf));
                let to = match party {
                    Party::Client(endpoint) => endpoint as usize,
                    Party::Member(member) => member.index(),
                };
                self.send(node, to, msg, payload);
            }
            StoreAction::Write { op, range, buf, fua, .. } => {
                let geometry = self.nodes[node].store.as_ref().map_or(self.geometry, |s| *s.geometry());
                if !geometry.holds(range) {
                    self.fail(format!("store {node} writes {range:?}, beyond its device"));
                    return;
                }
                self.stats.data_writes += 1;
                let zeroes = || (0..range.count).map(|_| 0).collect();
                let blocks = buf.and_then(|buf| self.nodes[node].buffers.take(buf)).unwrap_or_else(zeroes);
                self.queue_work(node, op, Work::Write { range, blocks, fua });
            }
            StoreAction::Read { op, range } => self.queue_work(node, op, Work::Read { range }),
            StoreAction::Checksum { op, range } => self.queue_work(node, op, Work::Checksum { range }),
            StoreAction::Flush { op } => {
                let issued = self.nodes[node].disk.writes_done();
                self.queue_work(node, op, Work::Flush { issued });
            }
            StoreAction::MetaWrite { offset, bytes } => {
                self.stats.meta_writes += 1;
                self.queue_work(node, DiskOp::Meta, Work::Meta { offset: offset as usize, bytes });
            }
            StoreAction::Release(buf) => {
                self.nodes[node].buffers.take(buf);
            }
        }
    }

    pub(crate) fn queue_work(&mut self, node: usize, op: DiskOp, work: Work) {
        let mut delay = 10_000 + self.rng.u64(0..self.options.disk_jitter_ns.max(1));
        if self.options.disk_slow_ppm > 0 && self.rng.u32(0..1_000_000) < self.options.disk_slow_ppm {
            delay += self.rng.u64(0..30 * MS);
        }
        let told = match work {
            Work::Meta { .. } => {
                delay += self.options.meta_delay_ns;
                self.meta_fails == Some(node)
            }
            Work::Flush { .. } => self.flush_fails == Some(node),
            Work::Read { .. } => self.reads_fail,
            Work::Write { .. } => self.write_fails == Some(node),
            Work::Checksum { .. } => false,
        };
        let reads = matches!(work, Work::Read { .. } | Work::Checksum { .. });
        let ppm = if reads { self.options.read_error_ppm } else { self.options.disk_error_ppm };
        let fails = !self.calm && ppm > 0 && self.rng.u32(0..1_000_000) < ppm;
        let fails = fails || told;
        let life = self.nodes[node].life;
        self.order += 1;
        let id = self.order;
        let held = self.is_held(node, &work);
        self.nodes[node].disk.queue.insert(id, Queued { op, work, life, fails });
        if held {
            self.disk_held.push(id);
            return;
        }
        self.at(self.now + delay, Ev::Disk { node, id });
        if std::mem::take(&mut self.nodes[node].power_at_next_work) && !self.calm {
            let soon = self.rng.u64(0..=delay);
            self.at(self.now + soon, Ev::PowerLoss { node, life });
        }
    }

    /// The disk finishes an operation, whether the process that asked still lives or not.
    pub(crate) fn disk_done(&mut self, node: usize, id: u64) {
        let Some(queued) = self.nodes[node].disk.queue.remove(&id) else { return };
        self.note(2, &(node, queued.op));
        let mut read = None;
        let never = self.meta_fails == Some(node) || self.write_fails == Some(node);
        let effect = !queued.fails || (!never && self.rng.bool());
        if queued.fails {
            self.count("disk error");
        }
        let misdirected = self.misdirect.filter(|(at, _)| *at == node).map(|(_, to)| to);
        let heard = self.nodes[node].life == queued.life && self.nodes[node].store.is_some();
        let disk = &mut self.nodes[node].disk;
        match &queued.work {
            Work::Write { range, blocks, .. } if misdirected.is_some() => {
                let first = misdirected.unwrap_or(range.first);
                disk.write(BlockRange { first, count: range.count }, blocks, false);
                self.misdirect = None;
            }
            Work::Write { range, blocks, fua } if effect => disk.write(*range, blocks, *fua && !queued.fails),
            Work::Meta { offset, bytes } if effect => disk.write_meta(*offset, bytes),
            Work::Flush { .. } if queued.fails => {
                // The bad kind of disk: the next flush succeeds with the data gone.
                disk.lose_cache(&mut self.rng);
                self.oracle.lost_cache(MemberId::at(node));
                // With nobody alive to hear of it no rule can see it: docs/100.
                self.nodes[node].boot += u64::from(!heard);
            }
            Work::Flush { issued } => disk.flush(*issued),
            Work::Read { range } | Work::Checksum { range } if !queued.fails => read = disk.read(*range),
            _ => {}
        }
        if matches!(queued.work, Work::Read { .. } | Work::Checksum { .. }) && read.is_none() {
            self.count("read error");
        }
        if !heard {
            return;
        }
        if let Work::Checksum { .. } = queued.work {
            let crc = read.map(|blocks| {
                let bytes: Vec<u8> = blocks.iter().flat_map(|value| value.to_le_bytes()).collect();
                rmr_proto::crc32c(&bytes)
            });
            self.store_event(node, StoreEvent::Checksum { op: queued.op, crc });
            return;
        }
        let ok = !queued.fails && (read.is_some() || !matches!(queued.work, Work::Read { .. }));
        let buf = read.map(|blocks| self.nodes[node].buffers.put(blocks));
        self.store_event(node, StoreEvent::Disk { op: queued.op, ok, buf });
    }

    pub(crate) fn store_tick(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life || self.nodes[node].store.is_none() {
            return;
        }
        self.store_event(node, StoreEvent::Tick);
        let jitter = self.rng.u64(0..MS);
        self.at(self.now + 10 * MS + jitter, Ev::StoreTick { node, life });
        // A latched or failed store is opened again by its supervisor.
        let service = self.nodes[node].store.as_ref().map(Store::service);
        if matches!(service, Some(Service::Latched)) && self.nodes[node].restart_at.is_none() {
            self.kill(node);
            self.restart_in(node, 50 * MS);
        }
    }

    /// Starts the process of a node, once its disk has nothing left of the last one.
    pub(crate) fn start_node(&mut self, node: usize) {
        if self.nodes[node].store.is_some() {
            return;
        }
        if !self.nodes[node].disk.queue.is_empty() {
            self.at(self.now + MS, Ev::Restart { node });
            return;
        }
        let config = self.store_config();
        let state = &mut self.nodes[node];
        state.restart_at = None;
        match Store::open(&state.disk.meta, config, state.boot) {
            Ok(store) => {
                state.life += 1;
                state.store = Some(store);
                state.buffers = Buffers::default();
            }
            Err(error) => return self.fail(format!("store {node} cannot be opened: {error}")),
        }
        let life = self.nodes[node].life;
        self.note(3, &(node, life));
        self.at(self.now, Ev::StoreTick { node, life });
        for host in 0..self.hosts.len() {
            let life = self.hosts[host].life;
            self.at(self.now + MS, Ev::Link { host, member: node, up: true, life });
        }
    }

    pub(crate) fn restart_in(&mut self, node: usize, delay: u64) {
        self.nodes[node].restart_at = Some(self.now + delay);
        self.at(self.now + delay, Ev::Restart { node });
    }

    /// kill -9: what the disk was given stays with it.
    pub fn kill(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let Some(store) = state.store.take() else { return };
        // Whoever opens the store again has to know: docs/100.
        state.boot += u64::from(store.lost_cache_unnoted());
        state.life += 1;
        self.note(4, &node);
        if self.rng.bool() {
            for host in 0..self.hosts.len() {
                let life = self.hosts[host].life;
                let delay = self.rng.u64(0..20 * MS);
                self.at(self.now + delay, Ev::Link { host, member: node, up: false, life });
            }
        }
    }

    /// Power loss: the queue is torn, the cache is gone or not, block by block.
    pub fn power_off(&mut self, node: usize) {
        self.kill(node);
        self.nodes[node].life += 1;
        self.nodes[node].boot += 1;
        for (_, queued) in std::mem::take(&mut self.nodes[node].disk.queue) {
            let disk = &mut self.nodes[node].disk;
            let torn = match &queued.work {
                Work::Meta { offset, bytes } => disk.tear_meta(*offset, bytes, &mut self.rng),
                Work::Write { range, blocks, .. } => {
                    let landed = self.rng.usize(0..=blocks.len());
                    let part = BlockRange { first: range.first, count: landed as u32 };
                    disk.write(part, &blocks[..landed], false);
                    landed > 0 && landed < blocks.len()
                }
                _ => false,
            };
            if torn {
                self.count("torn write");
            }
        }
        let lost = self.nodes[node].disk.lose_cache(&mut self.rng);
        *self.stats.faults.entry("lost unflushed write").or_default() += lost;
        self.oracle.lost_cache(MemberId::at(node));
    }
}

/// With a trace: what an event changed in the metadata that a store wants.
fn print_changes(store: &Store, before: &View) {
    let (me, after) = (store.member(), store.view());
    for region in before.intents.symmetric_difference(&after.intents) {
        let what = if after.intents.contains(region) { "enters" } else { "clears its entry of" };
        println!("{:>14} {me} {what} {region:?}", "");
    }
    for misses in after.misses.values() {
        let old = before.misses.get(&misses.region).copied().unwrap_or_default();
        if (old.missed, old.suspect) != (misses.missed, misses.suspect) {
            println!("{:>14} {me} knows {misses:?}", "");
        }
    }
}
