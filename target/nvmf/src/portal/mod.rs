//! The reactor's half: connections, queues, commands under way. One [`Portal`] on each reactor, and one poller that turns it.
//!
//! `plan` what a command comes to · `conn` the state of a connection · `intake` bytes in · `fabrics` connect, properties, admin commands · `io`
//! commands to bdevs and back · `fused` pairs · `answers` bytes out · `ends` deaths, keep-alive · `lanes` io channels · `memory` data buffers ·
//! `doors` listeners, and connections that go to other reactors · `turn` the poller.
//!
//! Control threads reach a portal by message: [`Portal::on`] runs on its reactor, between two turns.

mod answers;
mod conn;
mod doors;
mod ends;
mod fabrics;
mod fused;
mod intake;
mod io;
mod lanes;
mod memory;
mod plan;
mod turn;

use crate::codec::ADMIN_CAPSULE_MAX;
use crate::model::{Namespace, Subsystem, Tables};
use crate::options::TransportOptions;
use conn::Conns;
use doors::{Door, Moving};
use lanes::Lanes;
use memory::Memory;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tgt_bdev::{Cx, DoneQueue, Ticks};
use tgt_reactor::{Handle, ReactorId};
use tgt_sock::{Group, GroupOptions, SockError};

/// What a reactor has of the target. On its thread alone.
pub struct Portal {
    inner: RefCell<Inner>,
}

struct Inner {
    group: Group,
    core: Core,
}

/// Everything but the streams, which lend what they give.
struct Core {
    own: ReactorId,
    tables: Arc<Tables>,
    options: TransportOptions,
    peers: Arc<Vec<Handle>>,
    conns: Conns,
    lanes: Lanes,
    memory: Memory,
    doors: Vec<Door>,
    moving: Vec<Moving>,
    done: DoneQueue,
    /// Connections with commands that wait, to be looked at in the next turn.
    waiting: VecDeque<u64>,
    /// Connections that are to end in this turn.
    doomed: Vec<u64>,
    /// Admin queues whose controller has news.
    announced: Vec<u64>,
    /// Admin queues with a keep-alive timeout.
    beating: Vec<u64>,
    /// When the first of those may be over.
    next_beat: Ticks,
    /// Messages that another reactor had no room for.
    errands: Vec<(ReactorId, Errand)>,
    /// It leaves its reactor.
    leaving: bool,
    counts: Counts,
}

/// What one portal asks of another.
#[derive(Clone, Copy, Debug)]
enum Errand {
    /// End this connection.
    End(u64),
    /// Abort a command of this connection.
    Abort(u64, u16),
}

/// What a portal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Admin queues so far.
    pub admin_queues: u64,
    /// IO queues so far.
    pub io_queues: u64,
    /// Admin queues now.
    pub admin_now: u64,
    /// IO queues now.
    pub io_now: u64,
    /// Connections that are no queue yet.
    pub unassociated: u64,
    /// Commands that wait for memory, or for dead queues of their host.
    pub waiting: u64,
    /// IO commands answered so far.
    pub completed: u64,
    /// Bytes of data buffers that commands hold.
    pub memory_used: u64,
    /// IO that bdevs have.
    pub in_bdevs: u64,
}

impl Portal {
    /// The portal of this reactor, made with the transport.
    ///
    /// # Errors
    /// What its group of streams cannot have.
    pub fn open(
        cx: &mut Cx,
        tables: &Arc<Tables>,
        options: &TransportOptions,
    ) -> Result<Rc<Portal>, SockError> {
        if let Some(portal) = cx.local::<Portal>() {
            return Ok(portal);
        }
        let group = Group::new(cx, group_options(options))?;
        let core = Core {
            own: cx.id(),
            tables: tables.clone(),
            options: options.clone(),
            peers: cx.peers().clone(),
            conns: Conns::default(),
            lanes: Lanes::default(),
            memory: Memory::new(options.memory_max.max(u64::from(options.max_io_size))),
            doors: Vec::new(),
            moving: Vec::new(),
            done: DoneQueue::with_capacity(256),
            waiting: VecDeque::new(),
            doomed: Vec::new(),
            announced: Vec::new(),
            beating: Vec::new(),
            next_beat: Ticks::NEVER,
            errands: Vec::new(),
            leaving: false,
            counts: Counts::default(),
        };
        let portal = Rc::new(Portal { inner: RefCell::new(Inner { group, core }) });
        cx.set_local(portal.clone());
        cx.spawn(Box::new(turn::Turn::new(portal.clone())), None);
        Ok(portal)
    }

    /// Runs `what` with the portal of this reactor, if there is one.
    pub fn on<A>(cx: &mut Cx, what: impl FnOnce(&Portal, &mut Cx) -> A) -> Option<A> {
        let portal = cx.local::<Portal>()?;
        Some(what(&portal, cx))
    }

    /// Listens; the address with the port it got.
    ///
    /// # Errors
    /// What the system refused.
    pub fn listen(&self, address: SocketAddr) -> Result<SocketAddr, SockError> {
        self.inner.borrow_mut().listen(address)
    }

    /// Listens there no more; connections stay.
    pub fn unlisten(&self, address: SocketAddr) {
        self.inner.borrow_mut().unlisten(address);
    }

    /// A subsystem has one more namespace.
    pub fn namespace_came(&self, cx: &mut Cx, subsystem: &Arc<Subsystem>, namespace: &Namespace) {
        self.inner.borrow_mut().core.lanes.namespace_came(cx, subsystem, namespace);
    }

    /// A namespace goes: no command to it starts any more. `waiter` is dropped when its channel is closed.
    pub fn namespace_goes(&self, key: u64, waiter: Sender<()>) {
        self.inner.borrow_mut().core.lanes.namespace_goes(key, waiter);
    }

    /// Ends a connection, in the next turn.
    pub fn end_conn(&self, conn: u64) {
        self.inner.borrow_mut().core.doomed.push(conn);
    }

    /// An admin queue's controller has news.
    pub fn announce(&self, conn: u64) {
        self.inner.borrow_mut().core.announced.push(conn);
    }

    /// What it did.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let core = &self.inner.borrow().core;
        Counts {
            unassociated: core.conns.all().filter(|conn| conn.queue.is_none()).count() as u64,
            waiting: core.conns.all().map(|conn| conn.waiting.len() as u64).sum(),
            memory_used: core.memory.used(),
            in_bdevs: core.lanes.in_flight(),
            ..core.counts
        }
    }

    /// Where a connection's two ends are: ours, the host's.
    #[must_use]
    pub fn ends_of(&self, conn: u64) -> Option<(SocketAddr, SocketAddr)> {
        self.inner.borrow().core.conns.get(conn).map(|conn| (conn.local, conn.peer))
    }
}

/// Room on one stream for the answers to everything that a queue may hold: a host that keeps to its queue is never refused.
fn group_options(options: &TransportOptions) -> GroupOptions {
    let depth = u32::from(options.max_queue_depth.max(options.max_aq_depth));
    let answer = options.max_io_size.saturating_add(512);
    let usual = GroupOptions::default();
    // The front of a unit that is kept: a capsule whose data waits for memory.
    let capsule = options.in_capsule_data_size.max(ADMIN_CAPSULE_MAX) + 1024;
    GroupOptions {
        queue_bytes: depth.saturating_mul(answer).max(usual.queue_bytes),
        queue_pieces: (depth * 8).max(usual.queue_pieces),
        frame_max: usual.frame_max.max(capsule),
        ..usual
    }
}

/// Judges any command against a bdev of 1,000 blocks.
///
/// # Panics
/// If the plan reaches beyond the bdev, or moves more than one transfer.
pub(crate) fn fuzz_plan(command: &tgt_nvme::Command) {
    let (block_size, num_blocks, max_bytes) = (512, 1000, 131_072);
    let of = plan::Geometry { block_size, num_blocks, ops: tgt_bdev::OpSet::all(), max_bytes };
    for capsule in [0, command.sgl.length.get()] {
        if let Ok(plan) = plan::plan(command, of, capsule) {
            assert!(plan.lba + u64::from(plan.blocks) <= num_blocks && plan.bytes <= max_bytes);
        }
    }
}
