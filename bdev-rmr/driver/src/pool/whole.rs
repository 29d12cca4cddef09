//! What control threads ask of the whole device: growth, a comparison of its copies, a new start.

use super::{Pool, Pools};
use crate::pool::control::NotGiven;
use rmr_engine::client::{ClientEvent as Event, Phase, ResizeError, Scrub, ScrubCommand, StartOptions};
use rmr_proto::{ChunkNo, MemberId};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tgt_reactor::{CallError, Cx, Handle};
use uuid::Uuid;

/// Where the end of a growth is told: blocks of the device from now on, or why nothing was changed.
pub type Grown = Receiver<Result<u64, ResizeError>>;
/// Who waits for it.
pub(super) type Growing = Option<SyncSender<Result<u64, ResizeError>>>;

/// Makes a device larger. Its size is what a view says afterwards; whoever stands on it has to be told.
///
/// # Errors
/// See [`NotGiven`].
pub fn resize(home: &Handle, pool: Uuid, blocks: u64) -> Result<Grown, NotGiven> {
    with_pool(home, pool, move |pool, cx| {
        let (tell, told) = sync_channel(1);
        if pool.engine.is_none() || pool.growing.is_some() {
            // Nobody else can have it.
            let _ = tell.try_send(Err(ResizeError::Busy));
        } else {
            pool.growing = Some(tell);
            pool.tell(cx, Event::Resize { blocks });
        }
        told
    })
}

/// Starts or stops a comparison of the copies. False: the pool is not assembled yet.
///
/// # Errors
/// See [`NotGiven`].
pub fn scrub(home: &Handle, pool: Uuid, command: ScrubCommand) -> Result<bool, NotGiven> {
    with_pool(home, pool, move |pool, cx| {
        pool.tell(cx, Event::Scrub(command));
        pool.engine.is_some()
    })
}

/// How a comparison stands, and the chunks on which copies differ, with whose is read meanwhile.
pub type Compared = (Scrub, Vec<(ChunkNo, MemberId)>);

/// How the last comparison stands. `None`: the pool is not assembled yet.
///
/// # Errors
/// See [`NotGiven`].
pub fn scrubbed(home: &Handle, pool: Uuid) -> Result<Option<Compared>, NotGiven> {
    with_pool(home, pool, |pool, _| {
        let engine = pool.engine.as_ref()?;
        Some((engine.scrub(), engine.pins().to_vec()))
    })
}

/// Starts again what another client has taken over. `Err`: where the pool stands instead; `None`: no store has answered yet.
///
/// # Errors
/// See [`NotGiven`].
pub fn start(
    home: &Handle,
    pool: Uuid,
    options: StartOptions,
) -> Result<Result<(), Option<Phase>>, NotGiven> {
    with_pool(home, pool, move |pool, cx| {
        let phase = pool.engine.as_ref().map(|engine| engine.status(cx.now().as_ns()).phase);
        if !matches!(phase, Some(Phase::Idle | Phase::Fenced)) {
            return Err(phase);
        }
        pool.start = options;
        pool.tell(cx, Event::Start(options));
        Ok(())
    })
}

fn with_pool<T: Send + 'static>(
    home: &Handle,
    id: Uuid,
    job: impl FnOnce(&mut Pool, &mut Cx) -> T + Send + 'static,
) -> Result<T, NotGiven> {
    let done: Result<Option<T>, CallError> = home.call(move |reactor| {
        let cx = reactor.cx();
        let pool = Pools::of(cx).get(id)?;
        let mut pool = pool.borrow_mut();
        Some(job(&mut pool, cx))
    });
    done?.ok_or(NotGiven::NotHere(id))
}
