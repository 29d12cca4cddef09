//! A client and its stores joined directly: messages arrive at once, disks are done at once. For what one IO costs.

use rmr_engine::client::{Client, ClientAction, ClientConfig, ClientEvent, Phase, Request, StartOptions};
use rmr_engine::store::{Store, format};
use rmr_engine::{DiskOp, Party, StoreAction, StoreConfig, StoreEvent};
use rmr_proto::disk::Superblock;
use rmr_proto::{BlockRange, BufId, Geometry, Incarnation, IoOp, MemberId, MemberSet, Msg, PoolId};
use std::collections::VecDeque;

/// A pool without a network.
pub(crate) struct Direct {
    client: Client,
    stores: Vec<Store>,
    now: u64,
    /// Requests completed.
    pub(crate) done: u64,
    /// Metadata writes.
    pub(crate) meta_writes: u64,
    to_store: VecDeque<(usize, Msg)>,
    to_client: VecDeque<(MemberId, Msg)>,
    to_disk: VecDeque<(usize, DiskOp, bool)>,
    client_out: Vec<ClientAction>,
    store_out: Vec<StoreAction>,
}

impl Direct {
    /// `legs` stores of 1 GiB, assembled and clean.
    pub(crate) fn new(legs: usize) -> Self {
        let geometry = Geometry::for_pool(1 << 30, 4096, 128 << 10).expect("a product geometry");
        let members = MemberSet::first(legs);
        let config = StoreConfig::default();
        let store = |member| {
            let pool = PoolId::default();
            let incarnation = Incarnation(member as u64 + 1);
            let superblock = Superblock {
                pool,
                member: MemberId::at(member),
                incarnation,
                geometry,
                zeroed: false,
                capacity: geometry.blocks(),
            };
            Store::open(&format(&superblock, &config, members), config, 1).expect("freshly formatted")
        };
        let mut direct = Self {
            client: Client::new(geometry, members, 1, ClientConfig::default()),
            stores: (0..legs).map(store).collect(),
            now: 1,
            done: 0,
            meta_writes: 0,
            to_store: VecDeque::with_capacity(4096),
            to_client: VecDeque::with_capacity(4096),
            to_disk: VecDeque::with_capacity(4096),
            client_out: Vec::with_capacity(4096),
            store_out: Vec::with_capacity(4096),
        };
        for member in members.iter() {
            direct.client_event(ClientEvent::Up(member));
        }
        direct.client_event(ClientEvent::Start(StartOptions::default()));
        direct.settle();
        while direct.stores.iter().any(|store| store.dirty_chunks() > 0) {
            direct.tick();
        }
        assert_eq!(direct.client.phase(), Phase::Active, "assembled");
        direct
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self) {
        self.now += 10_000_000;
        self.client_event(ClientEvent::Tick);
        for store in 0..self.stores.len() {
            self.store_event(store, StoreEvent::Tick);
        }
        self.settle();
    }

    /// One request from submission to completion.
    pub(crate) fn io(&mut self, op: IoOp, block: u64) {
        let buf = op.is_write().then_some(BufId(0));
        let range = BlockRange { first: block, count: 1 };
        let request = Request { user: 1, op, range, buf, deadline: u64::MAX };
        let done = self.done;
        self.client_event(ClientEvent::Submit(request));
        self.settle();
        assert_eq!(self.done, done + 1, "one request, one completion");
    }

    fn client_event(&mut self, event: ClientEvent) {
        self.client.on(self.now, event, &mut self.client_out);
        for action in self.client_out.drain(..) {
            match action {
                ClientAction::Send(to, msg) => self.to_store.push_back((to.index(), msg)),
                ClientAction::Complete { result, .. } => {
                    result.expect("nothing fails here");
                    self.done += 1;
                }
                ClientAction::Release(_) | ClientAction::Commanded { .. } | ClientAction::Resized(_) => {}
            }
        }
    }

    fn store_event(&mut self, store: usize, event: StoreEvent) {
        self.stores[store].on(self.now, event, &mut self.store_out);
        for action in self.store_out.drain(..) {
            match action {
                StoreAction::Send(Party::Client(_), msg) => {
                    self.to_client.push_back((MemberId::at(store), msg));
                }
                StoreAction::Send(Party::Member(to), msg) => {
                    // Peers are told apart by their place: wrap the sender in.
                    self.to_store.push_back((to.index() | (store + 1) << 8, msg));
                }
                StoreAction::Write { op, .. } | StoreAction::Flush { op } => {
                    self.to_disk.push_back((store, op, false))
                }
                StoreAction::Read { op, .. } => self.to_disk.push_back((store, op, true)),
                StoreAction::MetaWrite { .. } => {
                    self.meta_writes += 1;
                    self.to_disk.push_back((store, DiskOp::Meta, false));
                }
                StoreAction::Checksum { .. } | StoreAction::Release(_) => {}
            }
        }
    }

    fn settle(&mut self) {
        loop {
            if let Some((place, msg)) = self.to_store.pop_front() {
                let from = match place >> 8 {
                    0 => Party::Client(0),
                    sender => Party::Member(MemberId::at(sender - 1)),
                };
                self.store_event(place & 0xff, StoreEvent::Msg(from, msg));
            } else if let Some((store, op, read)) = self.to_disk.pop_front() {
                let buf = read.then_some(BufId(1));
                self.store_event(store, StoreEvent::Disk { op, ok: true, buf });
            } else if let Some((from, msg)) = self.to_client.pop_front() {
                self.client_event(ClientEvent::Msg(from, msg));
            } else {
                return;
            }
        }
    }
}
