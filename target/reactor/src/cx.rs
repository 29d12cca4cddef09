//! What a poller, and the channels it drives, may use during a turn.

use crate::poller::{Poller, PollerId};
use crate::{Handle, ReactorId};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tgt_env::bufs::Lender;
use tgt_env::clock::Ticks;
use tgt_env::uring::Uring;

/// The reactor as a poller sees it. One per reactor, on its thread alone.
#[derive(Debug)]
pub struct Cx {
    now: Ticks,
    wake_at: Ticks,
    id: ReactorId,
    uring: Uring,
    lender: Lender,
    peers: Arc<Vec<Handle>>,
    pub(crate) arrivals: Vec<NewPoller>,
    pub(crate) next_poller: u64,
    locals: HashMap<TypeId, Rc<dyn Any>>,
}

/// A poller on its way into the reactor's list.
pub(crate) struct NewPoller {
    pub(crate) id: PollerId,
    pub(crate) poller: Box<dyn Poller>,
    pub(crate) period: Option<Ticks>,
}

impl std::fmt::Debug for NewPoller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewPoller").field("id", &self.id).field("period", &self.period).finish()
    }
}

impl Cx {
    pub(crate) fn new(id: ReactorId, uring: Uring, peers: Arc<Vec<Handle>>) -> Cx {
        let (now, lender) = (Ticks::now(), Lender::new());
        Cx {
            now,
            wake_at: Ticks::NEVER,
            id,
            uring,
            lender,
            peers,
            arrivals: Vec::new(),
            next_poller: 0,
            locals: HashMap::new(),
        }
    }

    /// The time, as of the start of this turn or the last [`Cx::refresh_now`].
    #[inline]
    #[must_use]
    pub fn now(&self) -> Ticks {
        self.now
    }

    /// Reads the clock again (38 cycles). Whoever has just worked for about a microsecond calls this, so that the
    /// latencies of what follows stay true to a microsecond.
    #[inline]
    pub fn refresh_now(&mut self) -> Ticks {
        self.now = Ticks::now();
        self.now
    }

    /// Asks to be polled at `deadline` even if the reactor sleeps by then. Valid until the next turn: a poller that
    /// still waits asks again each time it is polled.
    #[inline]
    pub fn wake_at(&mut self, deadline: Ticks) {
        self.wake_at = self.wake_at.min(deadline);
    }

    /// This reactor.
    #[must_use]
    pub fn id(&self) -> ReactorId {
        self.id
    }

    /// The io_uring shared by everything on this reactor.
    #[inline]
    pub fn uring(&mut self) -> &mut Uring {
        &mut self.uring
    }

    /// Where buffers are lent and given back on this reactor.
    #[inline]
    pub fn lender(&mut self) -> &mut Lender {
        &mut self.lender
    }

    /// All reactors of the process, this one included, in the order of their ids.
    #[must_use]
    pub fn peers(&self) -> &Arc<Vec<Handle>> {
        &self.peers
    }

    /// Adds a poller to this reactor; it is polled from the next turn on. With a period it is polled once per period
    /// instead of every turn.
    pub fn spawn(&mut self, poller: Box<dyn Poller>, period: Option<Ticks>) -> PollerId {
        let id = PollerId(self.next_poller);
        self.next_poller += 1;
        self.arrivals.push(NewPoller { id, poller, period });
        id
    }

    /// What this reactor has of type `T`, once somebody has set it: state that several pollers of one reactor share. A
    /// look-up in a map: whoever needs it per request keeps what it gave.
    #[must_use]
    pub fn local<T: 'static>(&self) -> Option<Rc<T>> {
        let local = self.locals.get(&TypeId::of::<T>())?.clone();
        Some(local.downcast().expect("filed under its type"))
    }

    /// Sets what [`Cx::local`] gives for `T`. It stays until the reactor ends, and is dropped on its thread.
    ///
    /// # Panics
    /// If this reactor has one of type `T` already: two owners would each believe theirs to be the one.
    pub fn set_local<T: 'static>(&mut self, local: Rc<T>) {
        let before = self.locals.insert(TypeId::of::<T>(), local);
        assert!(before.is_none(), "{} has its {} already", self.id, std::any::type_name::<T>());
    }

    pub(crate) fn take_wake_at(&mut self) -> Ticks {
        std::mem::replace(&mut self.wake_at, Ticks::NEVER)
    }
}
