//! The world: virtual time, the queue of events, and the hands that carry actions out.

use crate::Breach;
use crate::disk::{Blocks, Disk, Queued, Work};
use crate::host::{Flight, Host};
use crate::net::{ENDPOINTS, FIRST_CLIENT, Net};
use crate::node::{Buffers, Node};
use crate::options::Options;
use crate::oracle::Oracle;
use rmr_engine::client::{Client, ClientAction, ClientConfig, ClientEvent, Phase, Request};
use rmr_engine::store::{Service, Store, format};
use rmr_engine::{Completion, DiskOp, Party, StoreAction, StoreConfig, StoreEvent};
use rmr_proto::disk::Superblock;
use rmr_proto::{BlockRange, BufId, Geometry, Incarnation, IoOp, MemberId, MemberSet, Msg, PoolId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{Hash, Hasher};

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
const POOL: PoolId = PoolId(*b"a simulated pool");

/// What happens next.
#[derive(Debug)]
pub(crate) enum Ev {
    Deliver { from: usize, to: usize, msg: Box<Msg>, payload: Option<Blocks> },
    Disk { node: usize, id: u64 },
    StoreTick { node: usize, life: u64 },
    ClientTick { host: usize, life: u64 },
    Load { host: usize, life: u64 },
    Restart { node: usize },
    StartHost { host: usize, takeover: bool },
    Link { host: usize, member: usize, up: bool, life: u64 },
    Fault,
    Heal { from: usize, to: usize },
    Check,
}

struct Scheduled(u64, u64, Ev);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// A filter of the scenario language: true = hold the message back.
pub type Filter = Box<dyn Fn(&Envelope<'_>) -> bool>;

/// A message on its way, for filters.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// Sender, members first, clients from 8 on.
    pub from: usize,
    /// Receiver.
    pub to: usize,
    /// What.
    pub msg: &'a Msg,
}

/// Counts of a run.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Events handled.
    pub events: u64,
    /// Requests of clients that succeeded.
    pub ios: u64,
    /// Requests of clients that failed.
    pub errors: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Epochs that became active.
    pub epochs: u64,
    /// Chunks compared between legs.
    pub compared: u64,
    /// Writes of data by stores, and of metadata.
    pub data_writes: u64,
    /// Writes of metadata by stores.
    pub meta_writes: u64,
}

/// Word-wise FNV: stable over versions, which the standard hasher does not promise.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0 ^ u64::from_le_bytes(word)).wrapping_mul(0x100_0000_01b3).rotate_left(23);
        }
    }
}

/// Everything.
pub struct World {
    pub(crate) options: Options,
    pub(crate) geometry: Geometry,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) net: Net,
    pub(crate) oracle: Oracle,
    pub(crate) stats: Stats,
    pub(crate) breach: Option<Breach>,
    pub(crate) calm: bool,
    next_value: u64,
    next_user: u64,
    hash: u64,
    /// Print every event, and check more often.
    pub trace: bool,
    filters: Vec<Filter>,
    /// A node whose metadata writes fail, and one whose flushes do.
    pub(crate) meta_fails: Option<usize>,
    pub(crate) flush_fails: Option<usize>,
    held: Vec<(usize, usize, Box<Msg>, Option<Blocks>)>,
    /// How requests of scenarios ended.
    pub(crate) results: BTreeMap<u64, (Completion, Option<Blocks>)>,
    store_out: Vec<StoreAction>,
    client_out: Vec<ClientAction>,
    last_epoch: rmr_proto::Epoch,
}

impl World {
    /// A cluster with fresh stores of unknown contents; no process runs yet.
    pub fn new(options: Options, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let geometry = Geometry::new(options.blocks, 12, options.chunk_shift, options.region_shift)
            .unwrap_or_else(|error| panic!("options make no geometry: {error}"));
        let mut nodes = Vec::new();
        for index in 0..options.members {
            let data: Vec<u64> =
                (0..options.blocks).map(|block| 0xdead_0000 + index as u64 * 0x1000 + block).collect();
            let disk = Disk::new(data);
            let node = Node {
                store: None,
                disk,
                life: 0,
                boot: 1,
                buffers: Buffers::default(),
                image: None,
                restart_at: None,
            };
            nodes.push(node);
        }
        let host = |_| Host {
            client: None,
            life: 0,
            buffers: Buffers::default(),
            flights: BTreeMap::new(),
            loaded: false,
        };
        let oracle = Oracle::new(&nodes.iter().map(|n| n.disk.data.clone()).collect::<Vec<_>>());
        let mut world = Self {
            geometry,
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            nodes,
            hosts: (0..ENDPOINTS - FIRST_CLIENT).map(host).collect(),
            net: Net::new(),
            oracle,
            stats: Stats::default(),
            breach: None,
            calm: false,
            next_value: 1,
            next_user: 1,
            hash: 0xcbf2_9ce4_8422_2325,
            trace: false,
            filters: Vec::new(),
            meta_fails: None,
            flush_fails: None,
            held: Vec::new(),
            results: BTreeMap::new(),
            store_out: Vec::new(),
            client_out: Vec::new(),
            last_epoch: rmr_proto::Epoch::default(),
            rng: rng.fork(),
            options,
        };
        for index in 0..world.nodes.len() {
            world.format(index);
        }
        world
    }

    pub(crate) fn members(&self) -> MemberSet {
        MemberSet::first(self.nodes.len())
    }

    fn store_config(&self) -> StoreConfig {
        StoreConfig {
            journal_bytes: 64 << 10,
            tick_ns: 10 * MS,
            intent_idle_ns: self.options.intent_idle_ns,
            intents_soft_max: self.options.intents_soft_max,
            resync_depth: 2,
            resync_gap_ns: 0,
            peer_timeout_ns: 30 * MS,
            lease_ns: 150 * MS,
            slice_regions: 3,
        }
    }

    fn client_config(&self) -> ClientConfig {
        ClientConfig {
            requests_max: 64,
            request_shift_max: 8,
            tick_ns: 5 * MS,
            leg_timeout_ns: 50 * MS,
            retry_ns: 10 * MS,
            beat_ns: 15 * MS,
            rejoin_ns: 10 * MS,
            rejoin_max_ns: 500 * MS,
            flush_ns: 30 * MS,
        }
    }

    /// Puts an empty store on a node's disk.
    pub(crate) fn format(&mut self, node: usize) {
        let superblock = Superblock {
            pool: POOL,
            member: MemberId::at(node),
            incarnation: Incarnation(self.rng.u64(1..)),
            geometry: self.geometry,
        };
        let members = self.members();
        self.nodes[node].disk.meta = format(&superblock, &self.store_config(), members);
    }

    pub(crate) fn at(&mut self, time: u64, ev: Ev) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled(time, self.order, ev)));
    }

    pub(crate) fn fail(&mut self, what: String) {
        if self.breach.is_none() {
            self.breach = Some(Breach { at: self.now, what });
        }
    }

    /// Stable hash of everything that happened so far.
    pub fn trace_hash(&self) -> u64 {
        self.hash
    }

    /// Counts so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The first promise broken, if any.
    pub fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    /// Handles one event; false if there is none before `until`, or a promise is broken.
    pub(crate) fn step(&mut self, until: u64) -> bool {
        if self.breach.is_some() || self.queue.peek().is_none_or(|Reverse(next)| next.0 > until) {
            return false;
        }
        let Some(Reverse(Scheduled(time, _, ev))) = self.queue.pop() else { return false };
        self.now = time;
        self.stats.events += 1;
        if self.trace {
            println!("{:>14.6} ms {ev:?}", time as f64 / 1e6);
        }
        self.handle(ev);
        true
    }

    /// Runs until `time`.
    pub fn run_until(&mut self, time: u64) {
        while self.step(time) {}
        if self.breach.is_none() {
            self.now = self.now.max(time);
        }
    }

    fn note(&mut self, kind: u8, what: &impl Hash) {
        let mut fnv = Fnv(self.hash);
        (self.now, kind).hash(&mut fnv);
        what.hash(&mut fnv);
        self.hash = fnv.finish();
    }

    fn handle(&mut self, ev: Ev) {
        match ev {
            Ev::Deliver { from, to, msg, payload } => self.deliver(from, to, *msg, payload),
            Ev::Disk { node, id } => self.disk_done(node, id),
            Ev::StoreTick { node, life } => self.store_tick(node, life),
            Ev::ClientTick { host, life } => self.client_tick(host, life),
            Ev::Load { host, life } => self.load(host, life),
            Ev::Restart { node } => self.start_node(node),
            Ev::StartHost { host, takeover } => self.start_host(host, takeover),
            Ev::Link { host, member, up, life } => {
                let stale = !up && self.nodes[member].store.is_some();
                if self.hosts[host].life == life && !stale {
                    let member = MemberId::at(member);
                    self.client_event(
                        host,
                        if up { ClientEvent::Up(member) } else { ClientEvent::Down(member) },
                    );
                }
            }
            Ev::Fault => self.random_fault(),
            Ev::Heal { from, to } => {
                self.net.cut(from, to, false);
                self.note(9, &(from, to));
            }
            Ev::Check => {
                self.compare_legs();
                let now_and_then = self.rng.u8(0..16) == 0;
                if self.trace || now_and_then {
                    self.check_held();
                    self.check_disks();
                }
                if !self.calm {
                    self.at(self.now + 5 * MS, Ev::Check);
                }
            }
        }
    }

    // ---- messages ----

    fn send(&mut self, from: usize, to: usize, msg: Msg, payload: Option<Blocks>) {
        if self.filters.iter().any(|hold| hold(&Envelope { from, to, msg: &msg })) {
            self.held.push((from, to, Box::new(msg), payload));
            return;
        }
        let twice = self.options.duplicate_ppm > 0 && self.rng.u32(0..1_000_000) < self.options.duplicate_ppm;
        if twice && !self.calm {
            self.count("duplicate");
            self.post(from, to, msg.clone(), payload.clone());
        }
        self.post(from, to, msg, payload);
    }

    fn post(&mut self, from: usize, to: usize, msg: Msg, payload: Option<Blocks>) {
        match self.net.arrival(self.now, from, to, &self.options, &mut self.rng) {
            Some(time) => self.at(time, Ev::Deliver { from, to, msg: Box::new(msg), payload }),
            None => self.count("message lost"),
        }
    }

    pub(crate) fn count(&mut self, fault: &'static str) {
        *self.stats.faults.entry(fault).or_default() += 1;
    }

    /// Holds back every message that `filter` names, until [`Self::release`].
    pub fn hold(&mut self, filter: Filter) {
        self.filters.push(filter);
    }

    /// Drops the filters and delivers what was held back.
    pub fn release(&mut self) {
        self.filters.clear();
        for (from, to, msg, payload) in std::mem::take(&mut self.held) {
            self.post(from, to, *msg, payload);
        }
    }

    /// Drops the filters and forgets what was held back.
    pub fn drop_held(&mut self) {
        self.filters.clear();
        self.held.clear();
    }

    /// Messages held back now.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn deliver(&mut self, from: usize, to: usize, msg: Msg, payload: Option<Blocks>) {
        self.note(1, &(from, to, &msg));
        let msg = if self.options.encode { self.through_bytes(msg) } else { msg };
        if to < FIRST_CLIENT {
            if self.nodes[to].store.is_none() {
                return;
            }
            let msg = with_buffer(msg, payload, &mut self.nodes[to].buffers);
            let party = match from {
                FIRST_CLIENT.. => Party::Client(from as u32),
                _ => Party::Member(MemberId::at(from)),
            };
            self.store_event(to, StoreEvent::Msg(party, msg));
        } else {
            let host = to - FIRST_CLIENT;
            if self.hosts[host].client.is_none() {
                return;
            }
            let msg = with_buffer(msg, payload, &mut self.hosts[host].buffers);
            self.client_event(host, ClientEvent::Msg(MemberId::at(from), msg));
        }
    }

    /// Encodes and decodes: what comes out must be what went in.
    fn through_bytes(&mut self, msg: Msg) -> Msg {
        let buf = payload_of(&msg);
        let bytes = rmr_proto::wire::encode(POOL, &msg);
        match rmr_proto::wire::decode(&bytes, buf) {
            Ok((pool, read)) if pool == POOL && read == msg => read,
            other => {
                self.fail(format!("{msg:?} came out of its bytes as {other:?}"));
                msg
            }
        }
    }

    // ---- stores ----

    fn store_event(&mut self, node: usize, event: StoreEvent) {
        let mut out = std::mem::take(&mut self.store_out);
        let now = self.now;
        if let Some(store) = &mut self.nodes[node].store {
            store.on(now, event, &mut out);
            store.check();
        }
        for action in out.drain(..) {
            self.store_action(node, action);
        }
        self.store_out = out;
    }

    fn store_action(&mut self, node: usize, action: StoreAction) {
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
                if !self.geometry.holds(range) {
                    self.fail(format!("store {node} writes {range:?}, beyond its device"));
                    return;
                }
                self.stats.data_writes += 1;
                let zeroes = || (0..range.count).map(|_| 0).collect();
                let blocks = buf.and_then(|buf| self.nodes[node].buffers.take(buf)).unwrap_or_else(zeroes);
                self.queue_work(node, op, Work::Write { range, blocks, fua });
            }
            StoreAction::Read { op, range } => self.queue_work(node, op, Work::Read { range }),
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

    fn queue_work(&mut self, node: usize, op: DiskOp, work: Work) {
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
            _ => false,
        };
        let may_fail = !self.calm && !matches!(work, Work::Read { .. });
        let fails = may_fail
            && self.options.disk_error_ppm > 0
            && self.rng.u32(0..1_000_000) < self.options.disk_error_ppm;
        let fails = fails || told;
        let life = self.nodes[node].life;
        self.order += 1;
        let id = self.order;
        self.nodes[node].disk.queue.insert(id, Queued { op, work, life, fails });
        self.at(self.now + delay, Ev::Disk { node, id });
    }

    /// The disk finishes an operation, whether the process that asked still lives or not.
    fn disk_done(&mut self, node: usize, id: u64) {
        let Some(queued) = self.nodes[node].disk.queue.remove(&id) else { return };
        self.note(2, &(node, queued.op));
        let mut read = None;
        let effect = !queued.fails || (self.meta_fails != Some(node) && self.rng.bool());
        if queued.fails {
            self.count("disk error");
        }
        let disk = &mut self.nodes[node].disk;
        match &queued.work {
            Work::Write { range, blocks, fua } if effect => disk.write(*range, blocks, *fua && !queued.fails),
            Work::Meta { offset, bytes } if effect => disk.write_meta(*offset, bytes),
            Work::Flush { .. } if queued.fails => {
                // The bad kind of disk: the next flush succeeds with the data gone.
                disk.lose_cache(&mut self.rng);
                self.oracle.lost_cache(MemberId::at(node));
            }
            Work::Flush { issued } => disk.flush(*issued),
            Work::Read { range } => read = Some(disk.read(*range)),
            _ => {}
        }
        let node_state = &mut self.nodes[node];
        if node_state.life != queued.life || node_state.store.is_none() {
            return;
        }
        let buf = read.map(|blocks| node_state.buffers.put(blocks));
        self.store_event(node, StoreEvent::Disk { op: queued.op, ok: !queued.fails, buf });
    }

    fn store_tick(&mut self, node: usize, life: u64) {
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
        if state.store.take().is_none() {
            return;
        }
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

    // ---- clients ----

    pub(crate) fn start_host(&mut self, host: usize, takeover: bool) {
        if self.hosts[host].client.is_some() {
            self.client_event(host, ClientEvent::Start { takeover });
            return;
        }
        let nonce = self.rng.u64(1..);
        let client = Client::new(self.geometry, self.members(), nonce, self.client_config());
        let state = &mut self.hosts[host];
        state.client = Some(client);
        state.life += 1;
        state.buffers = Buffers::default();
        let life = state.life;
        self.note(5, &(host, life));
        for member in 0..self.nodes.len() {
            if self.nodes[member].store.is_some() {
                self.client_event(host, ClientEvent::Up(MemberId::at(member)));
            }
        }
        self.client_event(host, ClientEvent::Start { takeover });
        self.at(self.now + 5 * MS, Ev::ClientTick { host, life });
        if self.hosts[host].loaded {
            self.at(self.now, Ev::Load { host, life });
        }
    }

    /// kill -9 of a client.
    pub fn crash_host(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        if state.client.take().is_none() {
            return;
        }
        state.life += 1;
        let flights = std::mem::take(&mut state.flights);
        self.note(6, &host);
        for (user, flight) in flights {
            self.lose_flight(user, &flight);
        }
    }

    fn lose_flight(&mut self, user: u64, flight: &Flight) {
        if flight.op.is_write() {
            self.oracle.fail_write(flight.range, &flight.values);
        } else if flight.op == IoOp::Read {
            self.oracle.drop_read(user);
        }
    }

    fn client_tick(&mut self, host: usize, life: u64) {
        if self.hosts[host].life == life {
            self.client_event(host, ClientEvent::Tick);
            let jitter = self.rng.u64(0..MS / 2);
            self.at(self.now + 5 * MS + jitter, Ev::ClientTick { host, life });
        }
    }

    fn client_event(&mut self, host: usize, event: ClientEvent) {
        let mut out = std::mem::take(&mut self.client_out);
        let now = self.now;
        if let Some(client) = &mut self.hosts[host].client {
            client.on(now, event, &mut out);
            client.check();
            if client.phase() == Phase::Active && client.epoch() != self.last_epoch {
                self.last_epoch = client.epoch();
                self.stats.epochs += 1;
            }
        }
        for action in out.drain(..) {
            self.client_action(host, action);
        }
        self.client_out = out;
    }

    fn client_action(&mut self, host: usize, action: ClientAction) {
        match action {
            ClientAction::Send(member, msg) => {
                let payload = payload_of(&msg).and_then(|buf| self.hosts[host].buffers.get(buf));
                self.send(FIRST_CLIENT + host, member.index(), msg, payload);
            }
            ClientAction::Complete { user, result, buf } => {
                let blocks = buf.and_then(|buf| self.hosts[host].buffers.take(buf));
                self.completed(host, user, result, blocks);
            }
            ClientAction::Release(buf) => {
                self.hosts[host].buffers.take(buf);
            }
        }
    }

    fn completed(&mut self, host: usize, user: u64, result: Completion, blocks: Option<Blocks>) {
        self.note(7, &(host, user, result));
        let Some(flight) = self.hosts[host].flights.remove(&user) else {
            self.fail(format!("request {user} completed twice"));
            return;
        };
        if let Some(buf) = flight.buf {
            self.hosts[host].buffers.take(buf);
        }
        match result {
            Ok(()) => self.stats.ios += 1,
            Err(_) => self.stats.errors += 1,
        }
        match (flight.op, result) {
            (_, Err(_)) => self.lose_flight(user, &flight),
            (IoOp::Read, Ok(())) => match &blocks {
                Some(read) if read.len() == flight.range.count as usize => {
                    if let Err(what) = self.oracle.end_read(user, read) {
                        self.fail(what);
                    }
                }
                other => self.fail(format!("a read of {:?} came back with {other:?}", flight.range)),
            },
            (IoOp::Flush, Ok(())) => self.oracle.end_flush(flight.flush_began),
            (_, Ok(())) => self.acked(host, &flight),
        }
        self.results.insert(user, (result, blocks));
        if self.results.len() > 64 {
            self.results.pop_first();
        }
        if self.hosts[host].loaded {
            let (life, pause) = (self.hosts[host].life, self.rng.u64(0..2 * self.options.think_ns));
            self.at(self.now + pause, Ev::Load { host, life });
        }
    }

    fn acked(&mut self, host: usize, flight: &Flight) {
        self.check_misses_durable(host, flight.range);
        for (block, value) in (flight.range.first..flight.range.end()).zip(flight.values.iter()) {
            let holders = self.clean_legs(host, self.geometry.chunk_of(block));
            self.oracle.ack_write(block, *value, holders, flight.op == IoOp::WriteFua);
        }
    }

    /// Hands a request to a client. `None`: it has no room, or there is no client.
    pub(crate) fn submit(&mut self, host: usize, op: IoOp, range: BlockRange) -> Option<u64> {
        if !self.hosts[host].client.as_ref()?.has_room() {
            return None;
        }
        let user = self.next_user;
        self.next_user += 1;
        let zero = matches!(op, IoOp::Zero { .. });
        let mut value = || {
            self.next_value += 1;
            if zero { 0 } else { self.next_value }
        };
        let values: Blocks =
            if op.is_write() { (0..range.count).map(|_| value()).collect() } else { Blocks::from([]) };
        let mut flush_began = 0;
        match op {
            IoOp::Read => self.oracle.invoke_read(user, range),
            IoOp::Flush => flush_began = self.oracle.begin_flush(),
            _ => self.oracle.invoke_write(range, &values),
        }
        let buf: Option<BufId> =
            (op.is_write() && !zero).then(|| self.hosts[host].buffers.put(values.clone()));
        self.hosts[host].flights.insert(user, Flight { op, range, values, flush_began, buf });
        let deadline = self.now + self.options.deadline_ns;
        self.client_event(host, ClientEvent::Submit(Request { user, op, range, buf, deadline }));
        Some(user)
    }

    fn load(&mut self, host: usize, life: u64) {
        let state = &self.hosts[host];
        let busy = state.flights.len() >= self.options.depth;
        let fenced = state.client.as_ref().is_none_or(|client| client.phase() == Phase::Fenced);
        if state.life != life || busy || !state.loaded {
            return;
        }
        if fenced {
            self.at(self.now + 50 * MS, Ev::Load { host, life });
            return;
        }
        let (op, range) = self.random_request();
        if self.submit(host, op, range).is_none() {
            self.at(self.now + MS, Ev::Load { host, life });
        } else if self.hosts[host].flights.len() < self.options.depth {
            let pause = self.rng.u64(0..2 * self.options.think_ns);
            self.at(self.now + pause, Ev::Load { host, life });
        }
    }

    fn random_request(&mut self) -> (IoOp, BlockRange) {
        let hot = self.options.hot_blocks.max(1);
        let first = self.rng.u64(0..hot);
        let longest = (self.options.blocks - first).min(if self.rng.u8(0..8) == 0 { 12 } else { 3 });
        let range = BlockRange { first, count: self.rng.u64(1..=longest) as u32 };
        if self.rng.u8(0..100) < self.options.writes_pct {
            let op = match self.rng.u8(0..20) {
                0 => IoOp::WriteFua,
                1 if !(range.first..range.end()).any(|block| self.oracle.allows(block, 0)) => {
                    IoOp::Zero { unmap: self.rng.bool() }
                }
                _ => IoOp::Write,
            };
            return (op, range);
        }
        let flush = self.rng.u8(0..100) < self.options.flush_pct;
        (if flush { IoOp::Flush } else { IoOp::Read }, range)
    }
}

fn payload_of(msg: &Msg) -> Option<BufId> {
    match msg {
        Msg::Io(_, buf) | Msg::IoReply(_, buf) | Msg::CopyReply { buf, .. } => *buf,
        _ => None,
    }
}

/// Gives a message the receiver's buffer in place of the sender's.
fn with_buffer(mut msg: Msg, payload: Option<Blocks>, buffers: &mut Buffers) -> Msg {
    if let Msg::Io(_, buf) | Msg::IoReply(_, buf) | Msg::CopyReply { buf, .. } = &mut msg {
        *buf = payload.map(|blocks| buffers.put(blocks));
    }
    msg
}
