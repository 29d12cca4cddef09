//! The stores of a reactor, and the poller that drives them all.

use super::driver::StoreDriver;
use super::image::OpenedStore;
use super::links::Peers;
use super::mail::{Arrived, Carried, INBOX, LaneAt, Mail};
use super::status::{Phase, StoreStatus};
use crate::hail::{HAIL_MAX, Hail};
use rmr_engine::ResyncLimits;
use rmr_proto::disk::Superblock;
use rmr_proto::envelope::{Envelope, Kind, Status};
use rmr_proto::wire::MESSAGE_BYTES_MAX;
use rmr_proto::{MemberId, PoolId};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use tgt_reactor::{CallError, Cx, Handle, Poller, Reactor, ReactorId, Stop, Work};
use tgt_ring::Inbox;
use tgt_rtrs::Direction;
use tgt_rtrs::hub::{Hub, HubError};
use tgt_rtrs::server::Link;
use tgt_rtrs::tcp::{Incoming, ServerEvent};

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Somebody else serves the sessions of this reactor, or it stops.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// It is open.
    #[error("the store of {0} is open here already; brmr_remove_store closes it")]
    HasStore(StoreKey),
    /// There is none.
    #[error("no store of {0} is open here; brmr_add_store opens one")]
    NoStore(StoreKey),
    /// The bdev gave no channel.
    #[error(transparent)]
    Bdev(#[from] tgt_bdev::OpenError),
    /// A reactor does not answer.
    #[error(transparent)]
    Reactor(#[from] CallError),
    /// It has stopped.
    #[error("the target stops")]
    Stopping,
}

/// Which store of which pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreKey {
    /// Its pool.
    pub pool: PoolId,
    /// As which member.
    pub member: MemberId,
}

impl fmt::Display for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of pool {}", self.member.index(), uuid::Uuid::from_bytes(self.pool.0))
    }
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
    /// Stores on other reactors of this node.
    elsewhere: Vec<(StoreKey, ReactorId)>,
    /// Who waits for a store to be closed.
    closing: Vec<(StoreKey, SyncSender<Closed>)>,
    /// A letter's message that came as data.
    scratch: Vec<u8>,
    /// The header of an answer that no store gives.
    header: Vec<u8>,
    stopping: bool,
}

/// The stores of a reactor. One per reactor, on its thread alone.
pub struct Node {
    mail: Mail,
    peers: Box<dyn Peers>,
    stores: RefCell<Stores>,
}

impl Node {
    /// This reactor's node, if it was started.
    #[must_use]
    pub fn of(cx: &Cx) -> Option<Rc<Node>> {
        cx.local::<Node>()
    }

    /// Starts a node on all of these reactors: from here on it serves the sessions whose lanes end there. A store lives on
    /// one of them and is reached from all. Control threads, once for each reactor.
    ///
    /// # Errors
    /// See [`NodeError`]; reactors that come before the one that refused serve already.
    pub fn start(reactors: &[Handle], peers: impl Fn() -> Box<dyn Peers>) -> Result<(), NodeError> {
        let inboxes: Vec<_> =
            reactors.iter().map(|reactor| Inbox::new(INBOX, reactor.bell().clone())).collect();
        for (reactor, inbox) in reactors.iter().zip(&inboxes) {
            let all = reactors.iter().zip(&inboxes).map(|(to, inbox)| (to.id(), inbox.outbox())).collect();
            let (inbox, peers) = (inbox.clone(), peers());
            let begin = move |reactor: &mut Reactor| {
                let cx = reactor.cx();
                let hub = Hub::of(cx);
                hub.serve(cx)?;
                let mail = Mail::new(hub, cx.id(), inbox, all);
                let node = Rc::new(Node { mail, peers, stores: RefCell::default() });
                cx.set_local(node.clone());
                cx.spawn(Box::new(NodePoller(node)), None);
                Ok::<_, HubError>(())
            };
            reactor.call(begin)??;
        }
        Ok(())
    }

    /// Takes a store that was opened. Control threads, by way of a message.
    ///
    /// # Errors
    /// See [`NodeError`]; the bdev is let go of.
    pub fn open(&self, cx: &mut Cx, opened: OpenedStore) -> Result<(), NodeError> {
        let key = StoreKey { pool: opened.superblock.pool, member: opened.superblock.member };
        let stores = &mut *self.stores.borrow_mut();
        if stores.stopping {
            return Err(NodeError::Stopping);
        }
        let here = stores.list.iter().any(|store| store.key() == key);
        if here || stores.elsewhere.iter().any(|(there, _)| *there == key) {
            return Err(NodeError::HasStore(key));
        }
        stores.list.push(StoreDriver::new(cx, opened)?);
        self.mail.tell_home(key, true);
        Ok(())
    }

    /// Closes a store: nothing new is served, what the disk has is waited for. `done` is told when the bdev is free.
    ///
    /// # Errors
    /// [`NodeError::NoStore`].
    pub fn close(&self, cx: &mut Cx, key: StoreKey, done: SyncSender<Closed>) -> Result<(), NodeError> {
        let stores = &mut *self.stores.borrow_mut();
        stores.find(key)?.close(cx, &self.mail, Phase::Closing, "it is closed by command");
        stores.closing.push((key, done));
        stores.settle(&self.mail);
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
    /// [`NodeError::NoStore`].
    pub fn set_resync_limits(&self, key: StoreKey, limits: ResyncLimits) -> Result<(), NodeError> {
        self.stores.borrow_mut().find(key)?.set_limits(limits);
        Ok(())
    }

    fn turn(&self, cx: &mut Cx) -> Work {
        let stores = &mut *self.stores.borrow_mut();
        let mail = &self.mail;
        let mut work = if mail.push() { Work::Spin } else { Work::Idle };
        while let Some(event) = mail.hub.next_incoming() {
            work = Work::Busy;
            match event {
                ServerEvent::Request(incoming) => {
                    stores.on_request(cx, mail, Arrived { incoming, origin: None });
                }
                ServerEvent::Link(Link::Down { lane, .. }) => {
                    stores.on_lane_down(cx, mail, LaneAt { lane, reactor: None });
                    mail.tell_lane_down(lane);
                }
                ServerEvent::Link(Link::Up { .. }) => {}
            }
        }
        while let Some(carried) = mail.next(cx) {
            work = Work::Busy;
            match carried {
                Carried::Request(arrived) => stores.on_request(cx, mail, arrived),
                Carried::LaneDown(lane) => stores.on_lane_down(cx, mail, lane),
                Carried::Home { key, reactor } => {
                    stores.elsewhere.retain(|(there, _)| *there != key);
                    stores.elsewhere.extend(reactor.map(|reactor| (key, reactor)));
                }
                Carried::Answered { .. } => unreachable!("the mail gives answers itself"),
            }
        }
        for store in &mut stores.list {
            work = work.max(store.poll(cx, mail, &*self.peers));
        }
        stores.settle(mail);
        work
    }

    fn stop(&self, cx: &mut Cx) -> Stop {
        let stores = &mut *self.stores.borrow_mut();
        if !std::mem::replace(&mut stores.stopping, true) {
            self.mail.hub.unserve(cx);
        }
        for store in &mut stores.list {
            store.close(cx, &self.mail, Phase::Closing, "the target stops");
        }
        let all = stores.list.iter().all(|store| store.phase() == Phase::Closed);
        // What did not find room in another reactor's inbox goes with this one: sessions end with the reactors.
        if all { Stop::Done } else { Stop::Draining }
    }
}

impl Stores {
    fn find(&mut self, key: StoreKey) -> Result<&mut StoreDriver, NodeError> {
        self.list.iter_mut().find(|store| store.key() == key).ok_or(NodeError::NoStore(key))
    }

    fn on_lane_down(&mut self, cx: &mut Cx, mail: &Mail, lane: LaneAt) {
        self.list.iter_mut().for_each(|store| store.on_lane_down(cx, mail, lane));
    }

    fn on_request(&mut self, cx: &mut Cx, mail: &Mail, arrived: Arrived) {
        let incoming = &arrived.incoming;
        let Ok((envelope, rest)) = Envelope::decode(&incoming.header) else {
            return self.refuse(cx, mail, Kind::Letter, arrived, Status::NotUnderstood);
        };
        let kind = envelope.kind;
        let routed = match kind {
            Kind::Io => pool_of_message(rest).map(|pool| (pool, true)),
            Kind::Letter => self.place_of_letter(incoming, &envelope),
            Kind::Collect | Kind::Hail => {
                let exact = rest.len() == 16;
                Envelope::pool_of(rest).ok().filter(|_| exact).map(|pool| (pool, true))
            }
        };
        let (Some((pool, in_header)), Some(member)) = (routed, envelope.to) else {
            return self.refuse(cx, mail, kind, arrived, Status::NotUnderstood);
        };
        let key = StoreKey { pool, member };
        let hail = match kind {
            Kind::Hail => match hail_of(incoming, &envelope, key) {
                Some(hail) => Some(hail),
                None => return self.refuse(cx, mail, kind, arrived, Status::NotUnderstood),
            },
            _ => None,
        };
        let Some(store) = self.list.iter_mut().find(|store| store.key() == key) else {
            return self.pass_on(cx, mail, (key, kind), arrived);
        };
        match (kind, hail) {
            (Kind::Io, _) => store.on_io(cx, mail, &envelope, arrived),
            (Kind::Letter, _) => {
                let data = (!in_header).then_some(&*self.scratch);
                store.on_letter(cx, mail, (&envelope, data), arrived);
            }
            (Kind::Collect, _) => store.on_collect(cx, mail, &envelope, arrived),
            (Kind::Hail, Some(hail)) => {
                store.on_hail(cx, mail, envelope.from, hail.peers, arrived);
            }
            (Kind::Hail, None) => unreachable!("a hail was read"),
        }
    }

    /// There is no such store here: on another reactor of this node, or none. What was passed on once is not again.
    fn pass_on(&mut self, cx: &mut Cx, mail: &Mail, (key, kind): (StoreKey, Kind), arrived: Arrived) {
        let home = self.elsewhere.iter().find(|(there, _)| *there == key).map(|(_, reactor)| *reactor);
        match (home, &arrived.origin) {
            (Some(reactor), None) => mail.forward(reactor, arrived.incoming),
            _ => self.refuse(cx, mail, kind, arrived, self.why_not(key.pool)),
        }
    }

    /// Why a store of this pool is not here.
    fn why_not(&self, pool: PoolId) -> Status {
        let mut here = self.list.iter().map(StoreDriver::key);
        let mut elsewhere = self.elsewhere.iter().map(|(key, _)| *key);
        let of_pool = |key: StoreKey| key.pool == pool;
        if here.any(of_pool) || elsewhere.any(of_pool) { Status::OtherMember } else { Status::NoPool }
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
    fn refuse(&mut self, cx: &mut Cx, mail: &Mail, kind: Kind, arrived: Arrived, status: Status) {
        self.header.clear();
        Envelope { kind, from: None, to: None, status, length: 0, sender: 0 }.encode_to(&mut self.header);
        mail.answer(cx, arrived, 0, &self.header);
    }

    /// Forgets stores that are closed and whose closing somebody waits for.
    fn settle(&mut self, mail: &Mail) {
        let list = &mut self.list;
        self.closing.retain(|(key, done)| {
            let at = list.iter().position(|store| store.key() == *key && store.phase() == Phase::Closed);
            let Some(at) = at else { return list.iter().any(|store| store.key() == *key) };
            let store = list.remove(at);
            mail.tell_home(*key, false);
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
fn hail_of(incoming: &Incoming, envelope: &Envelope, key: StoreKey) -> Option<Hail> {
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
    let fits = *hail.pool.as_bytes() == key.pool.0 && usize::from(hail.member) == key.member.index();
    fits.then_some(hail)
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
