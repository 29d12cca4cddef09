//! The world: virtual time, the queue of events, and the hands that carry actions out.

use crate::Breach;
use crate::disk::{Blocks, Disk};
use crate::host::Host;
use crate::net::{ENDPOINTS, FIRST_CLIENT, Net};
use crate::node::{Buffers, Node};
use crate::options::Options;
use crate::oracle::Oracle;
use rmr_engine::client::{ClientAction, ClientConfig, ClientEvent, Command, CommandError, ResizeError};
use rmr_engine::store::format;
use rmr_engine::{Completion, Party, StoreAction, StoreConfig, StoreEvent};
use rmr_proto::disk::Superblock;
use rmr_proto::{BufId, Geometry, Incarnation, MemberId, MemberSet, Msg, PoolId};
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
    PowerLoss { node: usize, life: u64 },
    WellAgain { node: usize },
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

/// As [`Filter`], for what a disk is asked for.
pub type DiskFilter = Box<dyn Fn(DiskWork) -> bool>;

/// What a disk is asked for, for filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskWork {
    /// A write of data.
    Write,
    /// A read of data.
    Read,
    /// A flush.
    Flush,
    /// A write of metadata.
    Metadata,
}

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
    /// Which event met which state, with [`Options::coverage`].
    pub pairs: crate::coverage::Pairs,
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
    pub(crate) order: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) net: Net,
    pub(crate) oracle: Oracle,
    pub(crate) stats: Stats,
    pub(crate) breach: Option<Breach>,
    pub(crate) calm: bool,
    pub(crate) next_value: u64,
    pub(crate) next_user: u64,
    hash: u64,
    /// Print every event, and check more often.
    pub trace: bool,
    pub(crate) filters: Vec<Filter>,
    /// A node whose metadata writes fail, and one whose flushes do.
    pub(crate) meta_fails: Option<usize>,
    pub(crate) flush_fails: Option<usize>,
    /// A node whose data writes fail.
    pub(crate) write_fails: Option<usize>,
    /// The next data write of this node lands at this block.
    pub(crate) misdirect: Option<(usize, u64)>,
    /// Chunks that rotted on some leg.
    pub(crate) rotten: u64,
    /// Are legs compared now and then?
    pub(crate) comparing: bool,
    /// No disk can read.
    pub reads_fail: bool,
    pub(crate) held: Vec<(usize, usize, Box<Msg>, Option<Blocks>)>,
    /// A node whose disk does not finish what this names, and what it has not finished.
    pub(crate) disk_filter: Option<(usize, DiskFilter)>,
    pub(crate) disk_held: Vec<u64>,
    /// How requests of scenarios ended.
    pub(crate) results: BTreeMap<u64, (Completion, Option<Blocks>)>,
    /// Commands under way, and how those of scenarios ended.
    pub(crate) commands: BTreeMap<u64, (usize, Command)>,
    pub(crate) commanded: BTreeMap<u64, Result<(), CommandError>>,
    /// By node: since which epoch the client must not have it in its set: a stranger, removed, in maintenance.
    pub(crate) kept_out: Vec<Option<rmr_proto::Epoch>>,
    /// A start was forced or a side was chosen: split brain may be reported.
    pub(crate) forced: bool,
    /// Starts were forced at random, and not all members are of one history again.
    pub(crate) sides_open: bool,
    /// When the operator last chose a side.
    pub(crate) chosen_at: u64,
    pub(crate) store_out: Vec<StoreAction>,
    pub(crate) client_out: Vec<ClientAction>,
    pub(crate) last_epoch: rmr_proto::Epoch,
    /// How the last growth ended.
    pub(crate) resized: Option<Result<u64, ResizeError>>,
}

impl World {
    /// A cluster with fresh stores of unknown contents; no process runs yet.
    pub fn new(options: Options, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let geometry = Geometry::new(options.blocks, 12, options.chunk_shift, options.region_shift)
            .unwrap_or_else(|error| panic!("options make no geometry: {error}"));
        let mut nodes = Vec::new();
        for index in 0..options.members + options.spares {
            let unknown = |block| 0xdead_0000 + index as u64 * 0x1000 + block;
            let zeroed = options.zeroed & (1 << index) != 0;
            let data: Vec<u64> = (0..room_of(&options).blocks())
                .map(|block| if zeroed { 0 } else { unknown(block) })
                .collect();
            let disk = Disk::new(data);
            let node = Node {
                store: None,
                disk,
                life: 0,
                boot: 1,
                buffers: Buffers::default(),
                image: None,
                restart_at: None,
                power_at_next_work: false,
            };
            nodes.push(node);
        }
        let host = |_| Host {
            client: None,
            life: 0,
            buffers: Buffers::default(),
            flights: BTreeMap::new(),
            loaded: false,
            paced: false,
            served: false,
        };
        let mut oracle =
            Oracle::new(&nodes[..options.members].iter().map(|n| n.disk.data.clone()).collect::<Vec<_>>());
        // The device may grow while one of the spares is in the set.
        for spare in &nodes[options.members..] {
            for (block, value) in spare.disk.data.iter().enumerate().skip(options.blocks as usize) {
                if !oracle.allows(block as u64, *value) {
                    oracle.may_hold(block as u64, *value);
                }
            }
        }
        if options.force > 0 {
            oracle.remember_all();
        }
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
            reads_fail: false,
            write_fails: None,
            misdirect: None,
            rotten: 0,
            comparing: true,
            held: Vec::new(),
            disk_filter: None,
            disk_held: Vec::new(),
            results: BTreeMap::new(),
            commands: BTreeMap::new(),
            commanded: BTreeMap::new(),
            kept_out: Vec::new(),
            forced: false,
            sides_open: false,
            chosen_at: 0,
            store_out: Vec::new(),
            client_out: Vec::new(),
            last_epoch: rmr_proto::Epoch::default(),
            resized: None,
            rng: rng.fork(),
            options,
        };
        for index in 0..world.nodes.len() {
            let stranger = index >= world.options.members;
            world.kept_out.push(stranger.then(rmr_proto::Epoch::default));
            world.format(index);
        }
        world
    }

    /// The pool's members at first.
    pub(crate) fn members(&self) -> MemberSet {
        MemberSet::first(self.options.members)
    }

    pub(crate) fn store_config(&self) -> StoreConfig {
        StoreConfig {
            journal_bytes: 64 << 10,
            tick_ns: 10 * MS,
            intent_idle_ns: self.options.intent_idle_ns,
            intents_soft_max: self.options.intents_soft_max,
            intent_wait_ns: 15 * MS,
            resync_depth: 2,
            resync: self.options.resync,
            peer_timeout_ns: self.options.peer_timeout_ns,
            lease_ns: 150 * MS,
            report_suspects: 2,
            slice_regions: 3,
        }
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        ClientConfig {
            requests_max: 64,
            request_shift_max: 8,
            tick_ns: 5 * MS,
            leg_timeout_ns: 50 * MS,
            retry_ns: 10 * MS,
            beat_ns: 15 * MS,
            rejoin_ns: 10 * MS,
            rejoin_max_ns: 500 * MS,
            batch_regions: 2,
            flush_ns: 30 * MS,
            command_ns: 3_000 * MS,
            read_policy: self.options.read_policy,
            read_errors_max: self.options.read_errors_max,
            read_error_window_ns: 1_000 * MS,
        }
    }

    /// What every store has room for: more than the device, so that a place reckoned from its size shows.
    pub(crate) fn room(&self) -> Geometry {
        room_of(&self.options)
    }

    /// Puts an empty store on a node's disk.
    pub(crate) fn format(&mut self, node: usize) {
        let superblock = Superblock {
            pool: POOL,
            member: MemberId::at(node),
            incarnation: Incarnation(self.rng.u64(1..)),
            geometry: self.geometry,
            capacity: self.room().blocks(),
            zeroed: self.options.zeroed & (1 << node) != 0,
        };
        let members = self.named().with(MemberId::at(node));
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

    /// Virtual time, ns.
    pub fn now(&self) -> u64 {
        self.now
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

    pub(crate) fn note(&mut self, kind: u8, what: &impl Hash) {
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
            Ev::Restart { node } => self.restart(node),
            Ev::PowerLoss { node, life } => self.aimed_power_loss(node, life),
            Ev::WellAgain { node } => self.well_again(node),
            // In the calm one client keeps the pool.
            Ev::StartHost { host, .. } if self.calm && host != 0 => {}
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
                if self.comparing {
                    self.compare_legs();
                }
                let now_and_then = self.rng.u8(0..16) == 0;
                self.close_sides();
                if self.trace || now_and_then {
                    self.check_held();
                    self.check_disks();
                }
                if !self.calm {
                    // Where little happens, less often.
                    let pause = if self.options.pace_ns > 0 { 20 * MS } else { 5 * MS };
                    self.at(self.now + pause, Ev::Check);
                }
            }
        }
    }

    // ---- messages ----

    pub(crate) fn send(&mut self, from: usize, to: usize, msg: Msg, payload: Option<Blocks>) {
        if self.filters.iter().any(|hold| hold(&Envelope { from, to, msg: &msg })) {
            self.held.push((from, to, Box::new(msg), payload));
            return;
        }
        let twice = self.options.duplicate_ppm > 0 && self.rng.u32(0..1_000_000) < self.options.duplicate_ppm;
        if twice && !self.calm {
            self.count("duplicate");
            self.post(from, to, msg.clone(), payload.clone());
        }
        let late = self.options.late_ppm > 0 && self.rng.u32(0..1_000_000) < self.options.late_ppm;
        if late && !self.calm {
            self.count("late duplicate");
            let time = self.now + self.rng.u64(0..2_000 * MS);
            self.at(time, Ev::Deliver { from, to, msg: Box::new(msg.clone()), payload: payload.clone() });
        }
        self.post(from, to, msg, payload);
    }

    pub(crate) fn post(&mut self, from: usize, to: usize, msg: Msg, payload: Option<Blocks>) {
        match self.net.arrival(self.now, from, to, &self.options, &mut self.rng) {
            Some(time) => self.at(time, Ev::Deliver { from, to, msg: Box::new(msg), payload }),
            None => self.count("message lost"),
        }
    }

    pub(crate) fn count(&mut self, fault: &'static str) {
        if self.trace {
            println!("{:>14} -- {fault}", "");
        }
        *self.stats.faults.entry(fault).or_default() += 1;
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
}

/// Twice as much, and some more.
fn room_of(options: &Options) -> Geometry {
    Geometry::new(2 * options.blocks + 40, 12, options.chunk_shift, options.region_shift)
        .unwrap_or_else(|error| panic!("options make no geometry: {error}"))
}

pub(crate) fn payload_of(msg: &Msg) -> Option<BufId> {
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
