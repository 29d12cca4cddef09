//! The stores of this process: what was opened on which bdev, and what a call does. Control threads.

use super::error::StoresError;
use bdev_rmr::store::{
    CHUNK_BYTES_DEFAULT, Closed, EngineStatus, NewStore, Node, NodeError, OpenOptions, OpenedStore, Peers,
    Phase, StoreKey, StoreStatus, boot_number, create, open, wipe,
};
use rmr_engine::ResyncLimits;
use rmr_engine::store::Service;
use rmr_proto::{CHUNK_BYTES_MIN, Incarnation, MEMBERS_MAX, MemberId, MemberSet, PoolId};
use rpc_registry::ConfigEntry;
use serde_json::json;
use std::collections::HashMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tgt_bdev::{Bdev, Bdevs};
use tgt_reactor::{Handle, Reactor};
use uuid::Uuid;

/// How long a close waits for what the disk has.
const CLOSE_PATIENCE: Duration = Duration::from_secs(15);
/// Bytes per block of a pool if nothing else is said: every bdev that can hold a store has such.
const BLOCK_BYTES_DEFAULT: u64 = 4096;

/// Where stores live, and what sessions allow. The application's to say.
pub trait Home: Send + Sync {
    /// The reactor on which stores live.
    fn reactor(&self) -> Handle;

    /// All reactors on which lanes of other hosts may end, that of the stores among them.
    fn reactors(&self) -> Vec<Handle>;

    /// Where stores get sessions to other nodes from. Asked for each reactor when the first store is opened.
    fn peers(&self) -> Box<dyn Peers>;

    /// Most bytes of data that a request to this host may have.
    fn data_max(&self) -> u32;
}

/// What `brmr_create_store` asks for.
#[derive(Clone, Debug)]
pub struct CreateStore {
    /// The pool, by UUID.
    pub pool: Uuid,
    /// The bdev, by name, alias or UUID.
    pub bdev: String,
    /// Which member.
    pub member: u64,
    /// Bytes of the device.
    pub mapped: Option<u64>,
    /// Bytes per chunk.
    pub chunk: Option<u64>,
    /// Bytes per block.
    pub block: Option<u64>,
    /// Every write is durable before it is answered.
    pub write_through: bool,
    /// Even if another member of the pool is open in this process.
    pub share_node: bool,
}

/// What `brmr_add_store` asks for.
#[derive(Clone, Debug)]
pub struct AddStore {
    /// The pool, by UUID.
    pub pool: Uuid,
    /// The bdev, by name, alias or UUID.
    pub bdev: String,
    /// Bytes that the device must have.
    pub mapped: Option<u64>,
    /// Every write is durable before it is answered.
    pub write_through: bool,
    /// Even if another member of the pool is open in this process.
    pub share_node: bool,
}

/// How fast chunks may be copied; `None`: as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncLimit {
    /// At most, bytes a second; 0: no limit.
    pub most: Option<u64>,
    /// Not slower because of clients, bytes a second.
    pub least: Option<u64>,
    /// Share of the time while clients are busy, per cent.
    pub busy_share_pct: Option<u8>,
}

/// A store that was opened here.
#[derive(Clone, Debug)]
struct Entry {
    key: StoreKey,
    bdev: String,
    options: OpenOptions,
    share_node: bool,
}

impl Entry {
    fn pool(&self) -> Uuid {
        uuid_of(self.key)
    }
}

/// What is known of stores beside what their drivers know.
#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// By label.
    labels: Vec<(String, Uuid)>,
    /// Disks whose cache was lost while this process had them: the boot in which they are opened again.
    boots: HashMap<u64, u64>,
}

/// The stores of this process.
pub struct Stores {
    bdevs: Arc<Bdevs>,
    home: Box<dyn Home>,
    /// Held for a whole call that changes something, also while reactors are asked.
    changes: Mutex<()>,
    /// The node was started on all reactors.
    started: Mutex<bool>,
    /// Held for looks into tables only; taken after `changes`.
    state: Mutex<State>,
}

impl Stores {
    /// None yet.
    #[must_use]
    pub fn new(bdevs: &Arc<Bdevs>, home: Box<dyn Home>) -> Arc<Stores> {
        Arc::new(Stores {
            bdevs: bdevs.clone(),
            home,
            changes: Mutex::default(),
            started: Mutex::default(),
            state: Mutex::default(),
        })
    }

    /// The pool that a call names: a UUID, or a label, which becomes known if the UUID is given with it.
    ///
    /// # Errors
    /// [`StoresError::UnknownLabel`], [`StoresError::LabelTaken`], or both are UUIDs and differ.
    pub fn pool(&self, pool: &str, uuid: Option<Uuid>) -> Result<Uuid, StoresError> {
        let named = Uuid::parse_str(pool).ok();
        match (named, uuid) {
            (Some(named), Some(uuid)) if named != uuid => {
                let accepted = format!("{named}, as in pool, or not given");
                Err(StoresError::Field { field: "uuid", value: uuid.to_string(), accepted })
            }
            (Some(named), _) => Ok(named),
            (None, given) => {
                let known = self.lock().labels.iter().find(|(label, _)| label == pool).map(|(_, of)| *of);
                match (known, given) {
                    (Some(known), Some(given)) if known != given => {
                        Err(StoresError::LabelTaken { label: pool.to_owned(), pool: known })
                    }
                    (Some(uuid), _) | (None, Some(uuid)) => Ok(uuid),
                    (None, None) => Err(StoresError::UnknownLabel(pool.to_owned())),
                }
            }
        }
    }

    /// The label of a pool.
    #[must_use]
    pub fn label(&self, pool: Uuid) -> Option<String> {
        self.lock().labels.iter().find(|(_, of)| *of == pool).map(|(label, _)| label.clone())
    }

    /// Remembers what a pool was called, once a call with that name went through.
    pub(super) fn learn(&self, name: &str, pool: Uuid) {
        let state = &mut *self.lock();
        if Uuid::parse_str(name).is_err() && !state.labels.iter().any(|(label, _)| label == name) {
            state.labels.retain(|(_, of)| *of != pool);
            state.labels.push((name.to_owned(), pool));
        }
    }

    /// Makes a store on an empty bdev and opens it.
    ///
    /// # Errors
    /// See [`StoresError`].
    pub fn create(&self, new: &CreateStore) -> Result<(), StoresError> {
        let _changes = self.change();
        let plan = self.plan(new)?;
        self.check_free(new.pool, new.share_node.then_some(plan.member))?;
        let bdev = self.bdev(&new.bdev)?;
        create(&self.home.reactor(), &bdev, &plan)?;
        let CreateStore { pool, mapped, write_through, share_node, .. } = *new;
        self.open(&bdev, &AddStore { pool, bdev: new.bdev.clone(), mapped, write_through, share_node })
    }

    fn plan(&self, new: &CreateStore) -> Result<NewStore, StoresError> {
        let field = |field, value: u64, accepted: String| {
            Err(StoresError::Field { field, value: value.to_string(), accepted })
        };
        let Some(member) = u8::try_from(new.member).ok().and_then(MemberId::new) else {
            return field("member_id", new.member, format!("0 to {}", MEMBERS_MAX - 1));
        };
        let block_bytes = new.block.unwrap_or(BLOCK_BYTES_DEFAULT);
        if ![512, 1024, 2048, 4096].contains(&block_bytes) {
            return field("block_size", block_bytes, "512, 1024, 2048 or 4096".to_owned());
        }
        let most = u64::from(self.home.data_max());
        let chunk_bytes = new.chunk.unwrap_or_else(|| CHUNK_BYTES_DEFAULT.min(most));
        if !chunk_bytes.is_power_of_two() || !(CHUNK_BYTES_MIN..=most).contains(&chunk_bytes) {
            let accepted = format!(
                "a power of two, {CHUNK_BYTES_MIN} to {most}: a chunk is copied between nodes in one request, and this \
                 one's sessions take {most} bytes (max_io_size of rtrs_create_transport)"
            );
            return field("chunk_size", chunk_bytes, accepted);
        }
        // Not 0: that is "none known".
        let (high, low) = Uuid::new_v4().as_u64_pair();
        let incarnation = Incarnation((high ^ low).max(1));
        let pool = PoolId(*new.pool.as_bytes());
        Ok(NewStore { pool, member, incarnation, block_bytes, chunk_bytes, mapped: new.mapped })
    }

    /// Opens the store on a bdev again.
    ///
    /// # Errors
    /// See [`StoresError`].
    pub fn add(&self, add: &AddStore) -> Result<(), StoresError> {
        let _changes = self.change();
        if !add.share_node {
            self.check_free(add.pool, None)?;
        }
        self.open(&self.bdev(&add.bdev)?, add)
    }

    fn open(&self, bdev: &Arc<Bdev>, add: &AddStore) -> Result<(), StoresError> {
        let AddStore { pool, mapped, write_through, share_node, .. } = *add;
        let options = OpenOptions { write_through, ..OpenOptions::default() };
        let reactor = self.home.reactor();
        let boot = |disk: Incarnation| self.lock().boots.get(&disk.0).copied().unwrap_or_else(boot_number);
        let opened = open(&reactor, bdev, PoolId(*pool.as_bytes()), boot, options)?;
        if let Some(asked) = mapped.filter(|asked| *asked != opened.mapped()) {
            return Err(StoresError::Size { bdev: bdev.name().to_owned(), asked, there: opened.mapped() });
        }
        let superblock = opened.superblock();
        let key = StoreKey { pool: superblock.pool, member: superblock.member };
        if let Some(dead) = self.check_free(pool, share_node.then_some(key.member))? {
            self.close(dead.key(), &dead.bdev)?;
        }
        self.hand_over(&reactor, opened)?;
        let entry = Entry { key, bdev: bdev.name().to_owned(), options, share_node };
        let state = &mut *self.lock();
        state.entries.retain(|entry| entry.key != key);
        state.entries.push(entry);
        Ok(())
    }

    fn hand_over(&self, reactor: &Handle, opened: OpenedStore) -> Result<(), StoresError> {
        let mut started = self.started.lock().expect("no thread panics while it holds this lock");
        if !*started {
            Node::start(&self.home.reactors(), || self.home.peers())?;
            *started = true;
        }
        drop(started);
        let pool = opened.superblock().pool;
        let take = move |reactor: &mut Reactor| {
            let cx = reactor.cx();
            Node::of(cx).ok_or(NodeError::Stopping)?.open(cx, opened)
        };
        reactor.call(take)??;
        tracing::info!(pool = %Uuid::from_bytes(pool.0), "a store is open");
        Ok(())
    }

    /// No store of this pool is open, or none of this member; one that has closed itself does not count.
    fn check_free(&self, pool: Uuid, member: Option<MemberId>) -> Result<Option<StoreStatus>, StoresError> {
        let meant = |store: &StoreStatus| {
            pool_of(store) == pool && member.is_none_or(|member| store.superblock.member == member)
        };
        let there = self.status()?.into_iter().find(meant);
        match there {
            Some(store) if store.phase != Phase::Closed => {
                Err(StoresError::HasPool { pool, bdev: store.bdev })
            }
            there => Ok(there),
        }
    }

    /// Closes a store. What is on its disk stays.
    ///
    /// # Errors
    /// See [`StoresError`].
    pub fn remove(&self, pool: Uuid, force: bool) -> Result<(), StoresError> {
        let _changes = self.change();
        let store = self.find(pool)?;
        let member = store.superblock.member;
        let alone = |engine: &EngineStatus| {
            engine.service == Service::Serving && engine.record.set == MemberSet::only(member)
        };
        if !force && store.engine.as_ref().is_some_and(alone) {
            return Err(StoresError::OnlyLeg { pool, member: member.index() });
        }
        self.close(store.key(), &store.bdev)
    }

    /// Closes a store, and makes its bdev none.
    ///
    /// # Errors
    /// See [`StoresError`].
    pub fn delete(&self, pool: Uuid, force: bool) -> Result<(), StoresError> {
        let _changes = self.change();
        let store = self.find(pool)?;
        let member = store.superblock.member;
        // Without an engine nobody knows.
        let empty = store.engine.as_ref().is_some_and(|engine| engine.record.adopted == Default::default());
        if !force && !empty {
            return Err(StoresError::Member { pool, member: member.index() });
        }
        self.close(store.key(), &store.bdev)?;
        let Some(bdev) = self.bdevs.get(&store.bdev) else {
            return Err(StoresError::NotDeleted { pool, bdev: store.bdev });
        };
        Ok(wipe(&self.home.reactor(), &bdev, &store.superblock)?)
    }

    fn close(&self, key: StoreKey, bdev: &str) -> Result<(), StoresError> {
        let (done, closed) = sync_channel(1);
        let close = move |reactor: &mut Reactor| {
            let cx = reactor.cx();
            Node::of(cx).ok_or(NodeError::NoStore(key))?.close(cx, key, done)
        };
        self.home.reactor().call(close)??;
        self.lock().entries.retain(|entry| entry.key != key);
        let Ok(Closed { superblock, cache_lost }) = closed.recv_timeout(CLOSE_PATIENCE) else {
            let (pool, bdev, seconds) = (uuid_of(key), bdev.to_owned(), CLOSE_PATIENCE.as_secs());
            return Err(StoresError::StillClosing { pool, bdev, seconds });
        };
        if cache_lost {
            let boot = Uuid::new_v4().as_u64_pair().0.max(1);
            self.lock().boots.insert(superblock.incarnation.0, boot);
        }
        Ok(())
    }

    /// Changes how fast chunks are copied to a store.
    ///
    /// # Errors
    /// See [`StoresError`].
    pub fn set_sync_limit(&self, pool: Uuid, limit: SyncLimit) -> Result<ResyncLimits, StoresError> {
        let _changes = self.change();
        if let Some(share) = limit.busy_share_pct.filter(|share| !(1..=100).contains(share)) {
            let accepted = "1 to 100".to_owned();
            return Err(StoresError::Field { field: "busy_share_pct", value: share.to_string(), accepted });
        }
        let store = self.find(pool)?;
        let Some(now) = store.engine.as_ref().map(|engine| engine.limits) else {
            return Err(StoresError::NoStore(pool));
        };
        let limits = ResyncLimits {
            bytes_per_sec: limit.most.unwrap_or(now.bytes_per_sec),
            min_bytes_per_sec: limit.least.unwrap_or(now.min_bytes_per_sec),
            busy_share_pct: limit.busy_share_pct.unwrap_or(now.busy_share_pct),
            ..now
        };
        let key = store.key();
        let set = move |reactor: &mut Reactor| {
            Node::of(reactor.cx()).ok_or(NodeError::NoStore(key))?.set_resync_limits(key, limits)
        };
        self.home.reactor().call(set)??;
        let state = &mut *self.lock();
        state
            .entries
            .iter_mut()
            .filter(|entry| entry.key == key)
            .for_each(|entry| entry.options.limits = limits);
        Ok(limits)
    }

    /// How the stores fare.
    ///
    /// # Errors
    /// A reactor that does not answer.
    pub fn status(&self) -> Result<Vec<StoreStatus>, StoresError> {
        let ask = |reactor: &mut Reactor| Node::of(reactor.cx()).map(|node| node.status());
        Ok(self.home.reactor().call(ask)?.unwrap_or_default())
    }

    /// As [`Stores::status`], for monitors: waits `patience` at most, and knows of no store if it hears nothing.
    #[must_use]
    pub fn figures(&self, patience: Duration) -> Vec<StoreStatus> {
        let ask = |reactor: &mut Reactor| Node::of(reactor.cx()).map(|node| node.status());
        self.home.reactor().call_within(patience, ask).ok().flatten().unwrap_or_default()
    }

    fn find(&self, pool: Uuid) -> Result<StoreStatus, StoresError> {
        let mut stores: Vec<_> = self.status()?.into_iter().filter(|store| pool_of(store) == pool).collect();
        match stores.len() {
            0 | 1 => stores.pop().ok_or(StoresError::NoStore(pool)),
            _ => Err(StoresError::Several(
                stores.iter().map(|store| store.superblock.member.index()).collect(),
            )),
        }
    }

    /// Whether every write to a store is durable before it is answered.
    pub(super) fn writes_through(&self, key: StoreKey) -> bool {
        self.lock().entries.iter().any(|entry| entry.key == key && entry.options.write_through)
    }

    /// The calls that open the stores again. Never one that makes a store.
    #[must_use]
    pub fn config(&self) -> Vec<ConfigEntry> {
        let state = self.lock();
        let usual = ResyncLimits::default();
        let mut calls = Vec::new();
        for entry in &state.entries {
            let (pool, Entry { bdev, options, .. }) = (entry.pool(), entry);
            let label = state.labels.iter().find(|(_, of)| *of == pool).map(|(label, _)| label);
            let mut params = match label {
                Some(label) => json!({"pool": label, "uuid": pool.to_string(), "bdev": bdev}),
                None => json!({"pool": pool.to_string(), "bdev": bdev}),
            };
            if options.write_through {
                params["write_through"] = true.into();
            }
            if entry.share_node {
                params["share_node"] = true.into();
            }
            calls.push(ConfigEntry::new("brmr_add_store", params));
            if options.limits != usual {
                let limits = options.limits;
                let params = json!({
                    "pool": pool.to_string(),
                    "mbytes_per_sec": limits.bytes_per_sec >> 20,
                    "min_mbytes_per_sec": limits.min_bytes_per_sec >> 20,
                    "busy_share_pct": limits.busy_share_pct,
                });
                calls.push(ConfigEntry::new("rmr_set_sync_limit", params));
            }
        }
        calls
    }

    fn bdev(&self, name: &str) -> Result<Arc<Bdev>, StoresError> {
        self.bdevs.get(name).ok_or_else(|| StoresError::NoBdev(name.to_owned()))
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().expect("no thread panics while it holds this lock")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }
}

/// The pool of a store.
pub(super) fn pool_of(store: &StoreStatus) -> Uuid {
    uuid_of(store.key())
}

fn uuid_of(key: StoreKey) -> Uuid {
    Uuid::from_bytes(key.pool.0)
}
