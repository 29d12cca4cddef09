//! What control threads ask of a pool, by way of its home reactor.

use super::{LegSpec, LegState, OpenError, Pool, PoolSpec, Pools};
use rmr_engine::client::{ClientEvent as Event, Command, CommandError, Status};
use rmr_proto::{MEMBERS_MAX, MemberId, PoolId};
use std::sync::mpsc::{Receiver, sync_channel};
use tgt_reactor::{CallError, Cx, Handle};
use uuid::Uuid;

/// A leg as a control thread sees it.
#[derive(Clone, Debug)]
pub struct LegView {
    /// Its number.
    pub member: MemberId,
    /// Its session and store.
    pub state: LegState,
    /// The session's name.
    pub session: Uuid,
}

/// A pool as a control thread sees it.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// Label.
    pub name: String,
    /// Its legs.
    pub legs: Vec<LegView>,
    /// The engine's; `None` until a store has answered.
    pub status: Option<Status>,
    /// Bytes of a block, of a chunk, and blocks of the device.
    pub sizes: Option<(u32, u64, u64)>,
    /// Most blocks of one request.
    pub request_blocks: u32,
    /// Requests under way.
    pub under_way: usize,
    /// The engine's buffers in use.
    pub buffers: usize,
}

/// Opens a pool on `home`.
///
/// # Errors
/// What [`OpenError`] says; the outer one if the reactor does not answer.
pub fn open(home: &Handle, spec: PoolSpec) -> Result<Result<(), OpenError>, CallError> {
    home.call(move |reactor| Pool::open(reactor.cx(), spec).map(drop))
}

/// How it stands.
///
/// # Errors
/// If the reactor does not answer.
pub fn view(home: &Handle, pool: Uuid) -> Result<Option<PoolView>, CallError> {
    home.call(move |reactor| {
        let cx = reactor.cx();
        let pool = Pools::of(cx).get(pool)?;
        let view = pool.borrow().view(cx);
        Some(view)
    })
}

/// Closes it: no more requests are taken, and when those under way have ended, its legs are let go. False: it is not here.
///
/// # Errors
/// If the reactor does not answer.
pub fn close(home: &Handle, pool: Uuid) -> Result<bool, CallError> {
    home.call(move |reactor| {
        let pools = Pools::of(reactor.cx());
        let Some(pool) = pools.0.borrow_mut().remove(&PoolId(*pool.as_bytes())) else { return false };
        let mut pool = pool.borrow_mut();
        pool.close(reactor.cx());
        true
    })
}

/// Where a command's end is told.
pub type Told = Receiver<Result<(), CommandError>>;

/// Why a command was not given.
#[derive(Debug, thiserror::Error)]
pub enum NotGiven {
    /// The pool is not open there.
    #[error("pool {0} is not open here")]
    NotHere(Uuid),
    /// The new leg cannot be had.
    #[error("{0}")]
    Leg(#[from] OpenError),
    /// The reactor does not answer.
    #[error("{0}")]
    Reactor(#[from] CallError),
}

/// Gives the engine a command. `leg`: one to be connected to before.
///
/// # Errors
/// See [`NotGiven`].
pub fn command(home: &Handle, pool: Uuid, command: Command, leg: Option<LegSpec>) -> Result<Told, NotGiven> {
    home.call(move |reactor| {
        let cx = reactor.cx();
        let here = Pools::of(cx).get(pool).ok_or(NotGiven::NotHere(pool))?;
        let mut pool = here.borrow_mut();
        if let Some(leg) = leg {
            pool.add_leg(cx, leg)?;
        }
        let (tell, told) = sync_channel(1);
        let tag = pool.next_command;
        pool.next_command += 1;
        if pool.engine.is_some() {
            pool.commands.insert(tag, tell);
            pool.tell(cx, Event::Command { tag, command });
        } else {
            // Nobody else can have it.
            let _ = tell.try_send(Err(CommandError::NotMapped));
        }
        Ok(told)
    })?
}

/// Lets a leg go that the pool does not name any more. False: there is no such leg.
///
/// # Errors
/// If the reactor does not answer.
pub fn leave(home: &Handle, pool: Uuid, member: MemberId) -> Result<bool, CallError> {
    home.call(move |reactor| {
        let cx = reactor.cx();
        let Some(pool) = Pools::of(cx).get(pool) else { return false };
        let mut pool = pool.borrow_mut();
        if pool.legs[member.index()].is_none() {
            return false;
        }
        pool.leave(cx, member.index());
        pool.tell_of_peers(cx);
        true
    })
}

impl Pool {
    fn view(&self, cx: &Cx) -> PoolView {
        let leg = |at: usize| {
            let leg = self.legs[at].as_ref()?;
            let session = Uuid::from_bytes(leg.session.id().0);
            Some(LegView { member: leg.member, state: leg.state.clone(), session })
        };
        let sizes = self.engine.as_ref().map(|engine| {
            let g = engine.geometry();
            (1 << g.block_shift(), 1 << (g.block_shift() + g.chunk_shift()), g.blocks())
        });
        PoolView {
            name: self.name.clone(),
            legs: (0..MEMBERS_MAX).filter_map(leg).collect(),
            status: self.engine.as_ref().map(|engine| engine.status(cx.now().as_ns())),
            sizes,
            request_blocks: self.engine.as_ref().map_or(1, |e| 1 << super::request_shift_max(e.geometry())),
            under_way: self.ops.len(),
            buffers: self.memory.used(),
        }
    }
}
