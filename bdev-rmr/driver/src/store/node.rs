//! The stores of a reactor, and the poller that drives them all.

use super::driver::StoreDriver;
use super::image::OpenedStore;
use super::links::Peers;
use super::status::{Phase, StoreStatus};
use crate::hail::{HAIL_MAX, Hail};
use rmr_engine::ResyncLimits;
use rmr_proto::PoolId;
use rmr_proto::disk::Superblock;
use rmr_proto::envelope::{Envelope, Kind, Status};
use rmr_proto::wire::MESSAGE_BYTES_MAX;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use tgt_reactor::{Cx, Poller, Stop, Work};
use tgt_rtrs::Direction;
use tgt_rtrs::client::Answer as Counts;
use tgt_rtrs::hub::{Hub, HubError};
use tgt_rtrs::server::Link;
use tgt_rtrs::tcp::{Answer, Incoming, ServerEvent};

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Somebody else serves the sessions of this reactor, or it stops.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Two stores of one pool on one node.
    #[error("a store of pool {0} is open here already; brmr_remove_store closes it")]
    HasPool(uuid::Uuid),
    /// There is none.
    #[error("no store of pool {0} is open here; brmr_add_store opens one")]
    NoPool(uuid::Uuid),
    /// The bdev gave no channel.
    #[error(transparent)]
    Bdev(#[from] tgt_bdev::OpenError),
    /// It has stopped.
    #[error("the target stops")]
    Stopping,
}

/// A store was closed.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// What it was.
    pub superblock: Superblock,
    /// A flush failed, and that is not durable: whoever opens it again in this process names a boot drawn at random.
    pub cache_lost: bool,
}

#[derive(Default)]
struct Stores {
    list: Vec<StoreDriver>,
    /// Who waits for a store to be closed.
    closing: Vec<(PoolId, SyncSender<Closed>)>,
    /// A letter's message that came as data.
    scratch: Vec<u8>,
    /// The header of an answer that no store gives.
    header: Vec<u8>,
    stopping: bool,
}

/// The stores of a reactor. One per reactor, on its thread alone.
pub struct Node {
    hub: Rc<Hub>,
    peers: Box<dyn Peers>,
    stores: RefCell<Stores>,
}

impl Node {
    /// This reactor's node, if it was started.
    #[must_use]
    pub fn of(cx: &Cx) -> Option<Rc<Node>> {
        cx.local::<Node>()
    }

    /// Starts this reactor's node: from here on it serves the sessions whose lanes end here. The one there is, if there is
    /// one; `peers` is then not needed.
    ///
    /// # Errors
    /// [`NodeError::Hub`].
    pub fn start(cx: &mut Cx, peers: Box<dyn Peers>) -> Result<Rc<Node>, NodeError> {
        if let Some(node) = Self::of(cx) {
            return Ok(node);
        }
        let hub = Hub::of(cx);
        hub.serve(cx)?;
        let node = Rc::new(Node { hub, peers, stores: RefCell::default() });
        cx.set_local(node.clone());
        cx.spawn(Box::new(NodePoller(node.clone())), None);
        Ok(node)
    }

    /// Takes a store that was opened. Control threads, by way of a message.
    ///
    /// # Errors
    /// See [`NodeError`]; the bdev is let go of.
    pub fn open(&self, cx: &mut Cx, opened: OpenedStore) -> Result<(), NodeError> {
        let pool = opened.superblock.pool;
        let stores = &mut *self.stores.borrow_mut();
        if stores.stopping {
            return Err(NodeError::Stopping);
        }
        if stores.list.iter().any(|store| store.pool() == pool) {
            return Err(NodeError::HasPool(uuid::Uuid::from_bytes(pool.0)));
        }
        stores.list.push(StoreDriver::new(cx, opened)?);
        Ok(())
    }

    /// Closes a store: nothing new is served, what the disk has is waited for. `done` is told when the bdev is free.
    ///
    /// # Errors
    /// [`NodeError::NoPool`].
    pub fn close(&self, cx: &mut Cx, pool: PoolId, done: SyncSender<Closed>) -> Result<(), NodeError> {
        let stores = &mut *self.stores.borrow_mut();
        let store = stores.list.iter_mut().find(|store| store.pool() == pool);
        let store = store.ok_or_else(|| NodeError::NoPool(uuid::Uuid::from_bytes(pool.0)))?;
        store.close(cx, &self.hub, Phase::Closing, "it is closed by command");
        stores.closing.push((pool, done));
        stores.settle();
        Ok(())
    }

    /// How the stores fare.
    #[must_use]
    pub fn status(&self) -> Vec<StoreStatus> {
        self.stores.borrow().list.iter().map(StoreDriver::status).collect()
    }

    /// How fast chunks are copied to a store from now on.
    ///
    /// # Errors
    /// [`NodeError::NoPool`].
    pub fn set_resync_limits(&self, pool: PoolId, limits: ResyncLimits) -> Result<(), NodeError> {
        let stores = &mut *self.stores.borrow_mut();
        let store = stores.list.iter_mut().find(|store| store.pool() == pool);
        store.ok_or_else(|| NodeError::NoPool(uuid::Uuid::from_bytes(pool.0)))?.set_limits(limits);
        Ok(())
    }

    fn turn(&self, cx: &mut Cx) -> Work {
        let stores = &mut *self.stores.borrow_mut();
        let mut work = Work::Idle;
        while let Some(event) = self.hub.next_incoming() {
            work = Work::Busy;
            match event {
                ServerEvent::Request(incoming) => stores.on_request(cx, &self.hub, incoming),
                ServerEvent::Link(Link::Down { lane, .. }) => {
                    stores.list.iter_mut().for_each(|store| store.on_lane_down(cx, &self.hub, lane));
                }
                ServerEvent::Link(Link::Up { .. }) => {}
            }
        }
        for store in &mut stores.list {
            work = work.max(store.poll(cx, &self.hub, &*self.peers));
        }
        stores.settle();
        work
    }

    fn stop(&self, cx: &mut Cx) -> Stop {
        let stores = &mut *self.stores.borrow_mut();
        if !std::mem::replace(&mut stores.stopping, true) {
            self.hub.unserve(cx);
        }
        for store in &mut stores.list {
            store.close(cx, &self.hub, Phase::Closing, "the target stops");
        }
        let all = stores.list.iter().all(|store| store.phase() == Phase::Closed);
        if all { Stop::Done } else { Stop::Draining }
    }
}

impl Stores {
    fn on_request(&mut self, cx: &mut Cx, hub: &Hub, incoming: Incoming) {
        let Ok((envelope, rest)) = Envelope::decode(&incoming.header) else {
            return self.refuse(cx, hub, Kind::Letter, incoming, Status::NotUnderstood);
        };
        let kind = envelope.kind;
        let routed = match kind {
            Kind::Io => pool_of_message(rest).map(|pool| (pool, true)),
            Kind::Letter => self.place_of_letter(&incoming, &envelope),
            Kind::Collect | Kind::Hail => {
                let exact = rest.len() == 16;
                Envelope::pool_of(rest).ok().filter(|_| exact).map(|pool| (pool, true))
            }
        };
        let Some((pool, in_header)) = routed else {
            return self.refuse(cx, hub, kind, incoming, Status::NotUnderstood);
        };
        let hail = match kind {
            Kind::Hail => match hail_of(&incoming, &envelope, pool) {
                Some(hail) => Some(hail),
                None => return self.refuse(cx, hub, kind, incoming, Status::NotUnderstood),
            },
            _ => None,
        };
        let Some(store) = self.list.iter_mut().find(|store| store.pool() == pool) else {
            return self.refuse(cx, hub, kind, incoming, Status::NoPool);
        };
        match (kind, hail) {
            (Kind::Io, _) => store.on_io(cx, hub, &envelope, incoming),
            (Kind::Letter, _) => {
                let data = (!in_header).then_some(&*self.scratch);
                store.on_letter(cx, hub, (&envelope, data), incoming);
            }
            (Kind::Collect, _) => store.on_collect(cx, hub, &envelope, incoming),
            (Kind::Hail, Some(hail)) => {
                store.on_hail(cx, hub, (envelope.from, hail.member), hail.peers, incoming);
            }
            (Kind::Hail, None) => unreachable!("a hail was read"),
        }
    }

    /// The pool of a letter, and whether its message is in the header; if not it is copied to where it can be read.
    fn place_of_letter(&mut self, incoming: &Incoming, envelope: &Envelope) -> Option<(PoolId, bool)> {
        let message = &incoming.header[Envelope::SIZE..];
        let length = envelope.length as usize;
        if incoming.execute.direction != Direction::Write {
            return None;
        }
        if !message.is_empty() {
            return pool_of_message(message).filter(|_| message.len() == length).map(|pool| (pool, true));
        }
        if incoming.execute.bytes as usize != length || length > MESSAGE_BYTES_MAX {
            return None;
        }
        self.scratch.resize(length, 0);
        incoming.bufs.copy_to_slice(0, &mut self.scratch);
        pool_of_message(&self.scratch).map(|pool| (pool, false))
    }

    /// Answers what is no store's.
    fn refuse(&mut self, cx: &mut Cx, hub: &Hub, kind: Kind, incoming: Incoming, status: Status) {
        self.header.clear();
        Envelope { kind, from: None, status, length: 0, sender: 0 }.encode_to(&mut self.header);
        let counts = Counts { result: Ok(0), bytes: 0, user_len: 0 };
        hub.answer(cx, Answer { incoming, counts, header: &self.header });
    }

    /// Forgets stores that are closed and whose closing somebody waits for.
    fn settle(&mut self) {
        let list = &mut self.list;
        self.closing.retain(|(pool, done)| {
            let at = list.iter().position(|store| store.pool() == *pool && store.phase() == Phase::Closed);
            let Some(at) = at else { return list.iter().any(|store| store.pool() == *pool) };
            let store = list.remove(at);
            // Who asked may have given up.
            let _ = done.try_send(Closed { superblock: *store.superblock(), cache_lost: store.cache_lost() });
            false
        });
    }
}

/// The pool that a message names, before anything else of it is looked at.
fn pool_of_message(message: &[u8]) -> Option<PoolId> {
    message.get(16..32)?.try_into().ok().map(PoolId)
}

/// What a hail says, if it fits its envelope.
fn hail_of(incoming: &Incoming, envelope: &Envelope, pool: PoolId) -> Option<Hail> {
    let length = incoming.execute.bytes as usize;
    let fits = incoming.execute.direction == Direction::Write
        && length == envelope.length as usize
        && length <= HAIL_MAX;
    if !fits {
        return None;
    }
    let mut text = vec![0; length];
    incoming.bufs.copy_to_slice(0, &mut text);
    let hail: Hail = serde_json::from_slice(&text).ok()?;
    (*hail.pool.as_bytes() == pool.0).then_some(hail)
}

struct NodePoller(Rc<Node>);

impl Poller for NodePoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.0.turn(cx)
    }

    fn name(&self) -> &str {
        "stores"
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        self.0.stop(cx)
    }
}
