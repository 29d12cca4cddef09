//! The compute side: a client of the engine, driven over sessions.
//!
//! A [`Pool`] lives on its home reactor, in [`Pools`], shared by its poller and by the channels of the device that stands
//! on it. `leg` has the sessions, `sending` and `hearing` what is said on them, `io` the requests of channels, `far` those
//! of other reactors, `memory` the engine's buffers, `control` what other threads ask for, `whole` what they ask of the
//! whole device, `figures` and `stops` what monitors are told.

mod control;
mod far;
mod figures;
mod hearing;
mod io;
mod leg;
mod memory;
mod sending;
mod slab;
mod stops;
mod whole;

pub use control::{LegView, NotGiven, PoolView, Told, close, command, leave, open, view};
pub use far::open_channel;
pub use figures::{LegFigures, PoolFigures, figures};
use io::PoolChannel;
pub use leg::LegState;
pub use stops::{StopKind, Stops};
pub use whole::{Compared, Grown, resize, scrub, scrubbed, start};

use crate::hail::{Hail, Peer};
use leg::Leg;
use memory::Memory;
use rmr_engine::client::{
    Client, ClientAction as Action, ClientConfig, ClientEvent as Event, CommandError, StartOptions,
};
use rmr_proto::disk::Superblock;
use rmr_proto::{Geometry, MEMBERS_MAX, MemberId, MemberSet, PoolId};
use sending::What;
use slab::Slab;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tgt_bdev::{DoneQueue, Io, IoStatus};
use tgt_env::clock::Ticks;
use tgt_reactor::{Cx, Poller, Stop, Work};
use tgt_rtrs::UserId;
use tgt_rtrs::hub::{Hub, HubError, SessionRef};
use uuid::Uuid;

/// One leg of a pool that is to be opened.
#[derive(Clone)]
pub struct LegSpec {
    /// Where its node is, as others are told.
    pub peer: Peer,
    /// The session to it.
    pub session: SessionRef,
}

/// A pool that is to be opened.
#[derive(Clone)]
pub struct PoolSpec {
    /// Label.
    pub name: String,
    /// Identity.
    pub pool: Uuid,
    /// Its legs.
    pub legs: Vec<LegSpec>,
    /// How the engine starts.
    pub start: StartOptions,
    /// A request that has not succeeded after this fails; `None`: it waits for ever.
    pub io_timeout: Option<Duration>,
    /// The engine's knobs.
    pub client: ClientConfig,
}

/// Why a pool is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is here.
    #[error("pool {0} is open here already")]
    Open(Uuid),
    /// A number out of range, or twice.
    #[error("member {0}: members are numbered 0 to 7, each once")]
    Member(u8),
    /// What sessions need.
    #[error("{0}")]
    Hub(#[from] HubError),
}

/// A request of a channel.
struct Op {
    io: Io,
    channel: u32,
    /// Writes: the copy that legs are lent.
    copy: Option<rmr_proto::BufId>,
}

/// A pool on its reactor.
pub struct Pool {
    id: PoolId,
    name: String,
    nonce: u64,
    config: ClientConfig,
    start: StartOptions,
    io_timeout: Option<Duration>,
    hub: Rc<Hub>,
    legs: [Option<Leg>; MEMBERS_MAX],
    /// Made when the first store has said how large everything is.
    engine: Option<Client>,
    actions: Vec<Action>,
    sent: Slab<(MemberId, What)>,
    ops: Slab<Op>,
    memory: Memory,
    channels: Vec<Option<DoneQueue>>,
    spare: Vec<Vec<u8>>,
    /// Legs that had to be sent something for which there was no memory, and how many bytes.
    starving: Vec<(usize, usize)>,
    next_tick: u64,
    commands: BTreeMap<u64, SyncSender<Result<(), CommandError>>>,
    next_command: u64,
    /// Waits for the end of a growth.
    growing: whole::Growing,
    stops: stops::Clock,
    closing: bool,
}

/// The pools of a reactor.
#[derive(Default)]
pub struct Pools(RefCell<BTreeMap<PoolId, Rc<RefCell<Pool>>>>);

impl Pools {
    /// Those of this reactor.
    pub fn of(cx: &mut Cx) -> Rc<Pools> {
        if let Some(pools) = cx.local::<Pools>() {
            return pools;
        }
        let pools = Rc::new(Pools::default());
        cx.set_local(pools.clone());
        pools
    }

    /// One of them.
    pub fn get(&self, pool: Uuid) -> Option<Rc<RefCell<Pool>>> {
        self.0.borrow().get(&PoolId(*pool.as_bytes())).cloned()
    }
}

impl Pool {
    /// Opens a pool on this reactor: from now on its legs are connected to, and when enough of them are there it serves.
    fn open(cx: &mut Cx, spec: PoolSpec) -> Result<Rc<RefCell<Pool>>, OpenError> {
        let pools = Pools::of(cx);
        if pools.get(spec.pool).is_some() {
            return Err(OpenError::Open(spec.pool));
        }
        let hub = Hub::of(cx);
        let mut pool = Pool {
            id: PoolId(*spec.pool.as_bytes()),
            name: spec.name,
            nonce: Uuid::new_v4().as_u64_pair().0 | 1,
            config: spec.client,
            start: spec.start,
            io_timeout: spec.io_timeout,
            hub,
            legs: Default::default(),
            engine: None,
            actions: Vec::new(),
            sent: Slab::default(),
            ops: Slab::default(),
            memory: Memory::default(),
            channels: Vec::new(),
            spare: Vec::new(),
            starving: Vec::new(),
            next_tick: 0,
            commands: BTreeMap::new(),
            next_command: 1,
            growing: None,
            stops: stops::Clock::default(),
            closing: false,
        };
        for leg in spec.legs {
            if let Err(error) = pool.add_leg(cx, leg) {
                pool.leave_all(cx);
                pool.let_go(cx);
                return Err(error);
            }
        }
        let pool = Rc::new(RefCell::new(pool));
        pools.0.borrow_mut().insert(PoolId(*spec.pool.as_bytes()), pool.clone());
        cx.spawn(Box::new(PoolPoller { pool: pool.clone(), name: format!("rmr pool {}", spec.pool) }), None);
        Ok(pool)
    }

    /// Connects to one more leg; all others are told of it with their next hail.
    fn add_leg(&mut self, cx: &mut Cx, leg: LegSpec) -> Result<(), OpenError> {
        let LegSpec { peer, session } = leg;
        let free = |m: &MemberId| self.legs[m.index()].is_none();
        let Some(member) = MemberId::new(peer.member).filter(free) else {
            return Err(OpenError::Member(peer.member));
        };
        // A user of the session by the low bits of the pool's name: the service looks at envelopes.
        let user = self.hub.attach(
            cx,
            &session,
            UserId(u32::from_le_bytes([self.id.0[0], self.id.0[1], self.id.0[2], self.id.0[3]])),
        )?;
        let mut peers: Vec<Peer> =
            self.legs.iter().flatten().filter_map(|leg| leg.hail.peers.first().cloned()).collect();
        peers.retain(|known| known.member != peer.member);
        let hail = Hail { pool: Uuid::from_bytes(self.id.0), member: peer.member, peers: vec![peer] };
        self.legs[member.index()] = Some(Leg::new(member, session, user, hail));
        self.tell_of_peers(cx);
        Ok(())
    }

    /// Every leg is told where all are; its own place comes first.
    fn tell_of_peers(&mut self, cx: &mut Cx) {
        let all: Vec<Peer> =
            self.legs.iter().flatten().filter_map(|leg| leg.hail.peers.first().cloned()).collect();
        for at in 0..MEMBERS_MAX {
            let Some(leg) = self.legs[at].as_mut().filter(|leg| !leg.leaving) else { continue };
            let own = leg.hail.member;
            leg.hail.peers.truncate(1);
            leg.hail.peers.extend(all.iter().filter(|peer| peer.member != own).cloned());
            if leg.state == LegState::Up {
                self.hail(cx, at);
            }
        }
    }

    /// Is this store one of ours? The first one says how large everything is.
    fn accept(&mut self, superblock: Superblock, member: MemberId) -> Result<(), String> {
        if superblock.pool != self.id {
            return Err(format!("its store is of pool {}", Uuid::from_bytes(superblock.pool.0)));
        }
        if superblock.member != member {
            return Err(format!("its store is that of member {}", superblock.member.index()));
        }
        let theirs = superblock.geometry;
        let Some(engine) = &self.engine else {
            let mut config = self.config;
            config.request_shift_max = request_shift_max(&theirs);
            let members = self.legs.iter().flatten().fold(MemberSet::EMPTY, |set, leg| set.with(leg.member));
            self.engine = Some(Client::new(theirs, members, self.nonce, config));
            return Ok(());
        };
        let shape = |g: &Geometry| (1u64 << g.block_shift(), 1u64 << (g.block_shift() + g.chunk_shift()));
        let (ours, its) = (shape(engine.geometry()), shape(&theirs));
        if ours != its {
            return Err(format!(
                "its store has blocks of {} and chunks of {} bytes, the pool's have {} and {}",
                its.0, its.1, ours.0, ours.1
            ));
        }
        Ok(())
    }

    /// Tells the engine of a leg; the first one starts it.
    fn leg_is_up(&mut self, cx: &mut Cx, member: MemberId) {
        let first = self.next_tick == 0;
        self.tell(cx, Event::Up(member));
        if first {
            self.next_tick = 1;
            self.tell(cx, Event::Start(self.start));
        }
    }

    /// Of a read or write of the device; 0 before a store has answered.
    fn request_bytes_max(&self) -> u64 {
        let bytes = |g: &Geometry| 1 << (request_shift_max(g) + g.block_shift());
        self.engine.as_ref().map_or(0, |engine| bytes(engine.geometry()))
    }

    fn block_shift(&self) -> u8 {
        self.engine.as_ref().map_or(12, |engine| engine.geometry().block_shift())
    }

    /// Tells the engine, and does what it wants.
    fn tell(&mut self, cx: &mut Cx, event: Event) {
        let Some(engine) = &mut self.engine else { return };
        let mut actions = std::mem::take(&mut self.actions);
        engine.on(cx.now().as_ns(), event, &mut actions);
        self.stops.note(cx.now().as_ns(), engine.phase());
        for action in actions.drain(..) {
            self.act(cx, action);
        }
        if self.actions.is_empty() {
            self.actions = actions;
        }
    }

    fn act(&mut self, cx: &mut Cx, action: Action) {
        match action {
            Action::Send(member, msg) => self.send(cx, member, &msg),
            Action::Complete { user, result, buf } => self.complete(cx, user, result, buf),
            Action::Release(buf) => drop(self.memory.take(buf)),
            Action::Commanded { tag, result } => {
                if let Some(waits) = self.commands.remove(&tag) {
                    // Whoever asked may have given up.
                    let _ = waits.try_send(result);
                }
            }
            Action::Resized(result) => {
                tracing::info!(pool = %self.name, ?result, "resized");
                if let Some(waits) = self.growing.take() {
                    // Whoever asked may have given up.
                    let _ = waits.try_send(result);
                }
            }
        }
    }

    fn turn(&mut self, cx: &mut Cx) -> Work {
        let mut any = !self.starving.is_empty();
        self.drop_starving(cx);
        for at in 0..MEMBERS_MAX {
            if self.legs[at].is_some() {
                any |= self.poll_leg(cx, at);
            }
        }
        let now = cx.now().as_ns();
        if self.next_tick > 0 && now >= self.next_tick {
            self.next_tick = now + self.config.tick_ns;
            self.tell(cx, Event::Tick);
            self.hail_again(cx);
            any = true;
        } else if self.next_tick == 0 {
            self.hail_again(cx);
        }
        let wake = if self.next_tick > 0 { self.next_tick } else { now + self.config.tick_ns };
        cx.wake_at(Ticks::from_duration(Duration::from_nanos(wake)));
        if any { Work::Busy } else { Work::Idle }
    }

    fn spare_header(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(512))
    }

    fn recycle(&mut self, mut header: Vec<u8>) {
        header.clear();
        self.spare.push(header);
    }

    /// No more requests: those under way end as aborted, and the legs are let go.
    fn close(&mut self, cx: &mut Cx) {
        (self.closing, self.engine) = (true, None);
        while let Some(Op { io, channel, copy }) = self.ops.pop() {
            if let Some(copy) = copy {
                self.memory.over(cx, copy);
            }
            self.finish(channel, io, IoStatus::ABORTED);
        }
        self.leave_all(cx);
    }

    fn leave_all(&mut self, cx: &mut Cx) {
        for at in 0..MEMBERS_MAX {
            if self.legs[at].is_some() {
                self.leave(cx, at);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.legs.iter().all(Option::is_none)
    }
}

/// The longest request: a MiB, and no more chunks than an answer has bits for.
fn request_shift_max(geometry: &Geometry) -> u8 {
    let mib = 20 - geometry.block_shift();
    mib.min(geometry.chunk_shift() + 6)
}

struct PoolPoller {
    pool: Rc<RefCell<Pool>>,
    name: String,
}

impl Poller for PoolPoller {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let mut pool = self.pool.borrow_mut();
        let work = pool.turn(cx);
        pool.let_go(cx);
        if pool.closing && pool.is_empty() { Work::Over } else { work }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        let mut pool = self.pool.borrow_mut();
        if !pool.closing {
            pool.close(cx);
        }
        pool.let_go(cx);
        if pool.is_empty() { Stop::Done } else { Stop::Draining }
    }
}
