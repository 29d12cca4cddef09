//! A client and its stores, messages handed over directly.

use rmr_engine::client::{Client, ClientAction, ClientConfig, ClientEvent, Phase, Request, StartOptions};
use rmr_engine::store::{Service, Store, format};
use rmr_engine::{DiskOp, Now, Party, StoreAction, StoreConfig, StoreEvent};
use rmr_proto::disk::{self, Item, Layout, PageKind, Superblock};
use rmr_proto::{
    BlockRange, BufId, ChunkBits, Epoch, EpochRecord, Geometry, Incarnation, IoOp, MEMBERS_MAX, MemberId,
    MemberSet, Msg, PoolId, Promise, Stamp,
};
use std::collections::VecDeque;

/// Nanoseconds of a microsecond.
pub const US: Now = 1_000;
/// Nanoseconds of a millisecond.
pub const MS: Now = 1_000_000;
/// Time between ticks, as the configurations of both sides want by default.
pub const TICK_NS: Now = 10 * MS;

const POOL: PoolId = PoolId(*b"a measured pool.");
const CLIENT: Party = Party::Client(0);
/// Any number will do: no byte is behind it.
const BUF: BufId = BufId(0);
const NO_DEADLINE: Now = Now::MAX;

/// What is built.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Members of the pool.
    pub members: usize,
    /// Bytes of the device; blocks are 4 KiB, chunks 128 KiB, regions 16 MiB.
    pub device_bytes: u64,
    /// Virtual time of every operation of a disk; 0 = done at once.
    pub disk_ns: Now,
}

/// What happened since the rig was built or [`Rig::reset_counts`] was called. Of stores: all of them together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Requests of the caller that succeeded.
    pub done: u64,
    /// Requests of the caller that failed.
    pub failed: u64,
    /// Writes of data.
    pub data_writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Writes of metadata.
    pub meta_writes: u64,
    /// Their bytes.
    pub meta_bytes: u64,
    /// Most live intent entries that one store had at a tick.
    pub entries_max: usize,
    /// Chunks that a store called suspect since [`Rig::change_client`] was called; the largest report counts.
    pub suspect_chunks: u64,
    /// Bytes of the longest message of an assembly, in either direction.
    pub longest_message: usize,
}

/// One pool.
#[derive(Debug)]
pub struct Rig {
    client: Client,
    stores: Vec<Option<Store>>,
    shape: Shape,
    now: Now,
    next_tick: Now,
    next_user: u64,
    counts: Counts,
    suspects: [u64; MEMBERS_MAX],
    to_client: VecDeque<(MemberId, Msg)>,
    to_store: VecDeque<(usize, StoreEvent)>,
    disk: VecDeque<(Now, usize, StoreEvent)>,
    client_out: Vec<ClientAction>,
    store_out: Vec<StoreAction>,
}

impl Rig {
    /// A pool whose members are up to date, mapped and active.
    ///
    /// # Panics
    /// If the engine refuses the shape or does not become active within a virtual second.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self::with_stores(shape, StoreConfig::default())
    }

    /// The same, with these knobs of the stores.
    ///
    /// # Panics
    /// As [`Rig::new`].
    #[must_use]
    pub fn with_stores(shape: Shape, config: StoreConfig) -> Self {
        let geometry = Geometry::for_pool(shape.device_bytes, 4096, 128 << 10).expect("a product geometry");
        let members = MemberSet::first(shape.members);
        let stores =
            members.iter().map(|member| Some(clean_store(geometry, member, members, config))).collect();
        let mut rig = Self {
            client: Client::new(geometry, members, 7, ClientConfig::default()),
            stores,
            shape,
            now: MS,
            next_tick: MS + TICK_NS,
            next_user: 0,
            counts: Counts::default(),
            suspects: [0; MEMBERS_MAX],
            to_client: VecDeque::with_capacity(4096),
            to_store: VecDeque::with_capacity(4096),
            disk: VecDeque::with_capacity(4096),
            client_out: Vec::with_capacity(64),
            store_out: Vec::with_capacity(64),
        };
        rig.map(false);
        assert_eq!(rig.client.set(), members);
        assert!(
            rig.stores.iter().flatten().all(|s| s.service() == Service::Serving && s.dirty_chunks() == 0)
        );
        rig
    }

    fn map(&mut self, takeover: bool) {
        for member in self.client.members().iter() {
            if self.stores[member.index()].is_some() {
                self.client_event(ClientEvent::Up(member));
            }
        }
        self.client_event(ClientEvent::Start(StartOptions { takeover, ..StartOptions::default() }));
        self.settle();
        let end = self.now + 1_000 * MS;
        while self.client.phase() != Phase::Active {
            assert!(self.now < end, "not active after a second: {:?}", self.client.phase());
            self.step();
        }
    }

    /// The member's node is gone; the others go on without it.
    ///
    /// # Panics
    /// If the set without it does not become active within a virtual second.
    pub fn lose(&mut self, member: MemberId) {
        self.stores[member.index()] = None;
        self.client_event(ClientEvent::Down(member));
        self.settle();
        let end = self.now + 1_000 * MS;
        while self.client.phase() != Phase::Active || self.client.set().has(member) {
            assert!(self.now < end, "still with {member} after a second: {:?}", self.client.phase());
            self.step();
        }
    }

    /// The client dies with nothing under way, another one maps the pool: [`Counts::suspect_chunks`] says what has to
    /// be reconciled.
    ///
    /// # Panics
    /// If the new client does not become active within a virtual second.
    pub fn change_client(&mut self) {
        self.counts.suspect_chunks = 0;
        self.suspects = [0; MEMBERS_MAX];
        let (geometry, members) = (*self.client.geometry(), self.client.members());
        self.client = Client::new(geometry, members, 8, ClientConfig::default());
        self.map(true);
    }

    /// One request: `blocks` blocks of 4 KiB from `first`. Without a disk time, it is over when this returns.
    ///
    /// # Panics
    /// If the client has no room.
    pub fn submit(&mut self, op: IoOp, first: u64, blocks: u32) {
        assert!(
            self.client.has_room(),
            "the caller keeps fewer requests under way than the client has room for"
        );
        self.next_user += 1;
        let request = Request {
            user: self.next_user,
            op,
            range: BlockRange { first, count: blocks },
            buf: matches!(op, IoOp::Write | IoOp::WriteFua).then_some(BUF),
            deadline: NO_DEADLINE,
        };
        self.client_event(ClientEvent::Submit(request));
        self.settle();
    }

    /// Lets virtual time pass up to `to`: disks and timers.
    pub fn advance(&mut self, to: Now) {
        while self.next_event() <= to {
            self.step();
        }
        self.now = self.now.max(to);
    }

    /// Lets time pass until fewer than `depth` requests are under way.
    pub fn wait_below(&mut self, depth: usize) {
        while self.client.under_way() >= depth {
            self.step();
        }
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// What happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts from here.
    pub fn reset_counts(&mut self) {
        self.counts = Counts::default();
    }

    /// Legs that serve.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.client.set().len()
    }

    /// Most live intent entries of any store.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.stores.iter().flatten().map(Store::live_entries).max().unwrap_or(0)
    }

    /// Fewest live intent entries of any store.
    #[must_use]
    pub fn entries_of_the_cleanest(&self) -> usize {
        self.stores.iter().flatten().map(Store::live_entries).min().unwrap_or(0)
    }

    /// Most regions with misses that any store has in its map.
    #[must_use]
    pub fn marked_regions(&self) -> usize {
        self.stores.iter().flatten().map(|store| store.view().misses.len()).max().unwrap_or(0)
    }

    fn next_event(&self) -> Now {
        self.disk.front().map_or(self.next_tick, |(at, ..)| self.next_tick.min(*at))
    }

    fn step(&mut self) {
        self.now = self.now.max(self.next_event());
        if self.next_tick <= self.now {
            self.next_tick = self.now + TICK_NS;
            self.tick();
        }
        while self.disk.front().is_some_and(|(at, ..)| *at <= self.now) {
            let Some((_, node, event)) = self.disk.pop_front() else { break };
            self.to_store.push_back((node, event));
        }
        self.settle();
    }

    fn tick(&mut self) {
        self.counts.entries_max = self.counts.entries_max.max(self.entries());
        self.client_event(ClientEvent::Tick);
        for node in 0..self.stores.len() {
            self.store_event(node, StoreEvent::Tick);
        }
    }

    /// Hands everything over that waits.
    fn settle(&mut self) {
        loop {
            if let Some((node, event)) = self.to_store.pop_front() {
                self.store_event(node, event);
            } else if let Some((from, msg)) = self.to_client.pop_front() {
                self.client_event(ClientEvent::Msg(from, msg));
            } else {
                return;
            }
        }
    }

    fn client_event(&mut self, event: ClientEvent) {
        let mut out = std::mem::take(&mut self.client_out);
        self.client.on(self.now, event, &mut out);
        for action in out.drain(..) {
            match action {
                ClientAction::Send(to, msg) => {
                    self.measure(&msg);
                    self.to_store.push_back((to.index(), StoreEvent::Msg(CLIENT, msg)))
                }
                ClientAction::Complete { result: Ok(()), .. } => self.counts.done += 1,
                ClientAction::Complete { .. } => self.counts.failed += 1,
                ClientAction::Release(_) | ClientAction::Commanded { .. } | ClientAction::Resized(_) => {}
            }
        }
        self.client_out = out;
    }

    fn store_event(&mut self, node: usize, event: StoreEvent) {
        let Some(store) = &mut self.stores[node] else { return };
        let mut out = std::mem::take(&mut self.store_out);
        store.on(self.now, event, &mut out);
        for action in out.drain(..) {
            self.store_action(node, action);
        }
        self.store_out = out;
    }

    fn store_action(&mut self, node: usize, action: StoreAction) {
        match action {
            StoreAction::Send(Party::Client(_), msg) => {
                self.note(node, &msg);
                self.to_client.push_back((MemberId::at(node), msg));
            }
            StoreAction::Send(Party::Member(to), msg) => {
                let from = Party::Member(MemberId::at(node));
                self.to_store.push_back((to.index(), StoreEvent::Msg(from, msg)));
            }
            StoreAction::Write { op, .. } => {
                self.counts.data_writes += 1;
                self.finish(node, op, None);
            }
            StoreAction::Read { op, .. } => self.finish(node, op, Some(BUF)),
            StoreAction::Checksum { op, .. } => {
                self.to_store.push_back((node, StoreEvent::Checksum { op, crc: Some(0) }));
            }
            StoreAction::Flush { op } => {
                self.counts.flushes += 1;
                self.finish(node, op, None);
            }
            StoreAction::MetaWrite { bytes, .. } => {
                self.counts.meta_writes += 1;
                self.counts.meta_bytes += bytes.len() as u64;
                self.finish(node, DiskOp::Meta, None);
            }
            StoreAction::Release(_) => {}
        }
    }

    fn finish(&mut self, node: usize, op: DiskOp, buf: Option<BufId>) {
        let event = StoreEvent::Disk { op, ok: true, buf };
        if self.shape.disk_ns == 0 {
            self.to_store.push_back((node, event));
        } else {
            self.disk.push_back((self.now + self.shape.disk_ns, node, event));
        }
    }

    fn note(&mut self, node: usize, msg: &Msg) {
        self.measure(msg);
        let suspects = match msg {
            Msg::Promised(report) => &report.suspects,
            Msg::Suspects { suspects, .. } => suspects,
            _ => return,
        };
        self.suspects[node] += suspects.iter().map(|s| u64::from(ChunkBits::len(s.written))).sum::<u64>();
        self.counts.suspect_chunks = self.counts.suspect_chunks.max(self.suspects[node]);
    }

    fn measure(&mut self, msg: &Msg) {
        let assembly = matches!(
            msg,
            Msg::Promised(_)
                | Msg::Suspects { .. }
                | Msg::Query { .. }
                | Msg::QueryReply { .. }
                | Msg::Verdicts { .. }
                | Msg::Adopt(_)
        );
        if assembly {
            let bytes = rmr_proto::wire::encode(POOL, msg).len();
            self.counts.longest_message = self.counts.longest_message.max(bytes);
        }
    }
}

/// A store as an earlier client left it: in the set of all members, nothing missed, nothing live. That spares the copy
/// of the whole device with which a new pool begins.
fn clean_store(geometry: Geometry, member: MemberId, members: MemberSet, config: StoreConfig) -> Store {
    const BOOT: u64 = 1;
    let incarnation = |index: usize| Incarnation(100 + index as u64);
    let superblock = Superblock {
        pool: POOL,
        member,
        incarnation: incarnation(member.index()),
        geometry,
        zeroed: false,
        capacity: geometry.blocks(),
    };
    let mut area = format(&superblock, &config, members);
    let mut peers = [Stamp::default(); MEMBERS_MAX];
    for peer in members.iter() {
        peers[peer.index()] = Stamp { incarnation: incarnation(peer.index()), counter: 0 };
    }
    let promise = Promise { generation: 0, nonce: 1 };
    let adopted = Epoch { promise, version: 1 };
    let record = EpochRecord {
        promise,
        adopted,
        set: members,
        members,
        boot: BOOT,
        peers,
        blocks: geometry.blocks(),
        ..EpochRecord::default()
    };
    let layout = Layout::new(&geometry, config.journal_bytes);
    let mut put = |offset: u64, bytes: &[u8]| area[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    for copy in 0..2 {
        put(layout.journal(copy), &disk::encode_journal(2, &[Item::Epoch(record)]));
        put(layout.page(PageKind::Epoch, 0, copy), &disk::encode_epoch_page(2, &record));
    }
    Store::open(&area, config, BOOT).expect("a whole metadata area")
}
