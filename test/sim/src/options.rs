//! What a seed switches on.

use crate::world::MS;
use rmr_engine::ResyncLimits;
use rmr_engine::client::ReadPolicy;
use rmr_proto::MemberId;

/// Shape and faults of one run. Times in ns, rates per million or mean time between.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Members of the pool.
    pub members: usize,
    /// Nodes with an empty store that the pool does not name at first.
    pub spares: usize,
    /// Blocks of the device.
    pub blocks: u64,
    /// log2 of blocks per chunk.
    pub chunk_shift: u8,
    /// log2 of chunks per region.
    pub region_shift: u8,
    /// Requests a client keeps under way.
    pub depth: usize,
    /// Mean pause before the next request.
    pub think_ns: u64,
    /// Mean time between requests (now and then `depth` at once), however fast they are answered; 0 = as many as
    /// `depth` and `think_ns` allow.
    pub pace_ns: u64,
    /// Share of writes, per cent.
    pub writes_pct: u8,
    /// Share of flushes among the rest, per cent.
    pub flush_pct: u8,
    /// Requests go to this many blocks only: more overlap.
    pub hot_blocks: u64,
    /// Messages lost.
    pub loss_ppm: u32,
    /// Messages that arrive twice.
    pub duplicate_ppm: u32,
    /// Messages that take up to 60 ms.
    pub slow_ppm: u32,
    /// Messages of which a second copy arrives up to two seconds late.
    pub late_ppm: u32,
    /// Jitter of the network: reordering.
    pub net_jitter_ns: u64,
    /// Jitter of the disks.
    pub disk_jitter_ns: u64,
    /// Writes, flushes and metadata writes that fail.
    pub disk_error_ppm: u32,
    /// Reads that fail once.
    pub read_error_ppm: u32,
    /// Weight of a block that cannot be read until it is written again.
    pub latent: u32,
    /// Weight of a scrub being started.
    pub scrub: u32,
    /// Read errors of a leg before it leaves.
    pub read_errors_max: u32,
    /// Which leg serves a read.
    pub read_policy: ReadPolicy,
    /// How fast chunks are copied.
    pub resync: ResyncLimits,
    /// Metadata writes take this much longer.
    pub meta_delay_ns: u64,
    /// Disk operations that take up to 30 ms.
    pub disk_slow_ppm: u32,
    /// Mean time between faults of the list below; 0 = none.
    pub fault_every_ns: u64,
    /// Weight of a process kill.
    pub kill: u32,
    /// Weight of a power loss.
    pub power: u32,
    /// Weight of power lost everywhere at once.
    pub blackout: u32,
    /// Weight of a client crash.
    pub client_crash: u32,
    /// Weight of a second client taking over.
    pub takeover: u32,
    /// Weight of a one-way cut.
    pub cut: u32,
    /// Weight of a clog.
    pub clog: u32,
    /// Weight of an outsider's disk going back in time.
    pub old_image: u32,
    /// Weight of an outsider's disk being replaced by an empty one.
    pub wipe: u32,
    /// Weight of a disk whose metadata writes, or flushes, all fail for a while.
    pub sick_disk: u32,
    /// Share of power losses that wait until the node's disk has something to do, per cent.
    pub aimed_pct: u8,
    /// Share of restarts of an outsider that find its disk as it was earlier in its epoch, per cent.
    pub image_pct: u8,
    /// Weight of a command: add, remove, maintenance, replace.
    pub operate: u32,
    /// Mean time until a fault heals.
    pub heal_ns: u64,
    /// An intent entry may be cleared after this.
    pub intent_idle_ns: u64,
    /// Live entries before a store asks for a flush.
    pub intents_soft_max: usize,
    /// A peer that a copy waits for is asked again or passed over after this, and a copy that failed is tried again.
    pub peer_timeout_ns: u64,
    /// Deadline of requests.
    pub deadline_ns: u64,
    /// Count which event meets which state.
    pub coverage: bool,
    /// Messages go through their bytes.
    pub encode: bool,
    /// Length of the phase with faults.
    pub safety_ns: u64,
    /// Members, one bit each, whose disks read zero when the pool is made, and say so.
    pub zeroed: u8,
    /// Weight of the device growing.
    pub resize: u32,
    /// Weight of starts by force, with some of the nodes.
    pub force: u32,
    /// Blocks that clients are configured with, whatever the pool has; 0 = as many as it has.
    pub client_blocks: u64,
    /// Time in which everything must be well again after all faults have ended.
    pub liveness_ns: u64,
}

impl Options {
    /// A quiet world for scenarios: no random fault, no load.
    pub fn quiet(members: usize) -> Self {
        Self {
            members,
            spares: 0,
            blocks: 62,
            chunk_shift: 2,
            region_shift: 2,
            depth: 0,
            think_ns: MS,
            pace_ns: 0,
            writes_pct: 50,
            flush_pct: 10,
            hot_blocks: 62,
            loss_ppm: 0,
            duplicate_ppm: 0,
            slow_ppm: 0,
            late_ppm: 0,
            net_jitter_ns: 10_000,
            disk_jitter_ns: 10_000,
            disk_error_ppm: 0,
            disk_slow_ppm: 0,
            read_error_ppm: 0,
            latent: 0,
            scrub: 0,
            read_errors_max: 64,
            read_policy: ReadPolicy::InTurn,
            resync: ResyncLimits::default(),
            meta_delay_ns: 0,
            fault_every_ns: 0,
            kill: 0,
            power: 0,
            blackout: 0,
            client_crash: 0,
            takeover: 0,
            cut: 0,
            clog: 0,
            old_image: 0,
            wipe: 0,
            sick_disk: 0,
            aimed_pct: 0,
            image_pct: 0,
            operate: 0,
            heal_ns: 200 * MS,
            intent_idle_ns: 20 * MS,
            intents_soft_max: 64,
            peer_timeout_ns: 30 * MS,
            deadline_ns: 5_000 * MS,
            coverage: false,
            encode: true,
            safety_ns: 0,
            zeroed: 0,
            client_blocks: 0,
            resize: 0,
            force: 0,
            liveness_ns: 60_000 * MS,
        }
    }

    /// What a seed switches on: as in the second swarm, and one in six starts by force at random.
    pub fn swarm(rng: &mut fastrand::Rng) -> Self {
        let mut o = Self::second_swarm(rng);
        if rng.u8(0..6) == 0 {
            o.add_force(rng);
        }
        o
    }

    /// Without what makes the oracle forget more, or an operator wipe the side that is needed later.
    fn add_force(&mut self, rng: &mut fastrand::Rng) {
        self.members = self.members.clamp(2, 5);
        self.force = rng.u32(1..=4);
        (self.spares, self.operate, self.resize, self.takeover) = (0, 0, 0, 0);
        (self.wipe, self.old_image, self.image_pct) = (0, 0, 0);
    }

    /// As in the first swarm, and then what that had too little of. Three seeds in four are sparse: few requests, so that
    /// an hour is cheap, and long phases with faults.
    pub fn second_swarm(rng: &mut fastrand::Rng) -> Self {
        let mut o = Self::first_swarm(rng);
        let mut some =
            |pct: u8, low: u32, high: u32| if rng.u8(0..100) < pct { rng.u32(low..=high) } else { 0 };
        o.late_ppm = some(35, 100, 30_000);
        o.sick_disk = some(30, 1, 3);
        o.aimed_pct = some(60, 10, 100) as u8;
        o.image_pct = some(40, 10, 90) as u8;
        if o.members < 2 {
            // Alone there is nobody to be an outsider, and nothing to repair a failed flush from.
            (o.image_pct, o.sick_disk) = (0, 0);
        }
        if rng.u8(0..4) < 3 {
            o.pace_ns = rng.u64(8 * MS..18 * MS);
            o.safety_ns = rng.u64(30_000 * MS..100_000 * MS);
            o.net_jitter_ns = rng.u64(1_000..4 * MS);
            o.power += u32::from(o.aimed_pct > 0);
        }
        o.zeroed = match rng.u8(0..4) {
            0 => u8::MAX,
            1 => rng.u8(..),
            _ => 0,
        };
        o.add_media(rng);
        o.add_operations(rng);
        o.resize = if rng.u8(0..3) == 0 { rng.u32(1..6) } else { 0 };
        if rng.u8(0..4) == 0 {
            o.crowd(rng);
        }
        o
    }

    /// Everything close together: few blocks, faults that follow each other before the last has healed, copies that take
    /// their time. What needs three or four things in the right order happens here, in seconds and not in hours.
    fn crowd(&mut self, rng: &mut fastrand::Rng) {
        self.blocks = rng.u64(9..24);
        self.hot_blocks = rng.u64(2..6);
        self.chunk_shift = rng.u8(0..2);
        self.fault_every_ns = rng.u64(8 * MS..60 * MS);
        self.heal_ns = rng.u64(10 * MS..120 * MS);
        self.intent_idle_ns = rng.u64(MS..30 * MS);
        self.resync.bytes_per_sec = rng.u64(50_000..400_000);
        self.safety_ns = rng.u64(10_000 * MS..30_000 * MS);
        (self.kill, self.client_crash) = (self.kill.max(3), self.client_crash.max(2));
    }

    /// The swarm of the first seeds of `seeds.txt`. It stays as it is: they were found with it.
    pub fn first_swarm(rng: &mut fastrand::Rng) -> Self {
        let mut some =
            |pct: u8, low: u32, high: u32| if rng.u8(0..100) < pct { rng.u32(low..=high) } else { 0 };
        let (loss_ppm, duplicate_ppm, slow_ppm) =
            (some(30, 10, 3000), some(50, 10, 50_000), some(40, 10, 5000));
        let (disk_error_ppm, disk_slow_ppm) = (some(25, 10, 1000), some(40, 10, 10_000));
        let (kill, power, blackout) = (some(60, 1, 10), some(60, 1, 10), some(30, 1, 4));
        let (client_crash, takeover) = (some(50, 1, 8), some(30, 1, 4));
        let (cut, clog) = (some(60, 1, 10), some(40, 1, 6));
        let (old_image, wipe) = (some(30, 1, 6), some(30, 1, 4));
        let blocks = rng.u64(9..100);
        Self {
            members: *[1, 2, 2, 2, 3, 3, 3, 4, 5].get(rng.usize(0..9)).unwrap_or(&3),
            blocks,
            chunk_shift: rng.u8(0..4),
            region_shift: rng.u8(0..4),
            depth: rng.usize(1..12),
            think_ns: rng.u64(100_000..20 * MS),
            writes_pct: rng.u8(20..95),
            flush_pct: rng.u8(0..40),
            hot_blocks: rng.u64(4..=blocks.max(5)).min(blocks),
            net_jitter_ns: rng.u64(1_000..MS),
            disk_jitter_ns: rng.u64(1_000..MS),
            fault_every_ns: rng.u64(20 * MS..1_000 * MS),
            heal_ns: rng.u64(10 * MS..1_500 * MS),
            intent_idle_ns: rng.u64(MS..500 * MS),
            intents_soft_max: rng.usize(1..20),
            deadline_ns: rng.u64(100 * MS..5_000 * MS),
            encode: rng.u8(0..8) == 0,
            safety_ns: rng.u64(2_000 * MS..20_000 * MS),
            loss_ppm,
            duplicate_ppm,
            slow_ppm,
            disk_error_ppm,
            disk_slow_ppm,
            kill,
            power,
            blackout,
            client_crash,
            takeover,
            cut,
            clog,
            old_image,
            wipe,
            ..Self::quiet(2)
        }
    }

    /// Disks that cannot read, scrubs, read policies, limits of resync.
    fn add_media(&mut self, rng: &mut fastrand::Rng) {
        let mut some =
            |pct: u8, low: u32, high: u32| if rng.u8(0..100) < pct { rng.u32(low..=high) } else { 0 };
        self.read_error_ppm = some(25, 10, 3000);
        self.latent = some(40, 1, 10);
        self.scrub = some(40, 1, 10);
        self.read_errors_max = rng.u32(0..20);
        self.read_policy = match rng.u8(0..4) {
            0 => ReadPolicy::InTurn,
            1 => ReadPolicy::LeastInFlight,
            2 => ReadPolicy::LowestLatency,
            _ => ReadPolicy::Prefer(MemberId::at(rng.usize(0..3))),
        };
        self.resync = ResyncLimits {
            bytes_per_sec: if rng.bool() { 0 } else { rng.u64(200_000..20_000_000) },
            min_bytes_per_sec: rng.u64(200_000..20_000_000),
            busy_share_pct: rng.u8(1..=100),
            busy_ns: rng.u64(0..50 * MS),
        };
    }

    /// Commands, and more members now and then.
    fn add_operations(&mut self, rng: &mut fastrand::Rng) {
        if rng.u8(0..16) == 0 {
            self.members = rng.usize(6..=8);
        }
        if rng.u8(0..100) < 40 {
            self.operate = rng.u32(1..=10);
            self.spares = rng.usize(0..=2).min(8 - self.members);
        }
    }
}
