//! Pollers, and a reactor's list of them.

use crate::cx::{Cx, NewPoller};
use tgt_env::clock::Ticks;

/// What a poll did, in the order of how much it keeps the reactor awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum Work {
    /// Nothing, and nothing to do until something armed wakes the reactor: it may sleep.
    Idle,
    /// Nothing, but it has to be polled again soon and nothing will wake the reactor for it: it must not sleep.
    Spin,
    /// Something.
    Busy,
    /// It has ended and nothing of it is in flight: drop it.
    Over,
}

/// Answer to a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing is in flight: it can be dropped.
    Done,
    /// Keep polling it, then ask again.
    Draining,
}

/// A state machine that a reactor owns.
pub trait Poller {
    /// Does a bounded amount of work. Never blocks.
    fn poll(&mut self, cx: &mut Cx) -> Work;

    /// Name for `thread_get_pollers`.
    fn name(&self) -> &str;

    /// Asked when the poller or its reactor is to go: take no new work, and say when nothing is in flight.
    fn stop(&mut self, _cx: &mut Cx) -> Stop {
        Stop::Done
    }
}

/// Identifies a poller on its reactor, for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PollerId(pub u64);

/// What `thread_get_pollers` tells of a poller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollerStats {
    /// Identity.
    pub id: PollerId,
    /// Name it gave itself.
    pub name: String,
    /// Time between two polls; none if it is polled every turn.
    pub period: Option<Ticks>,
    /// Polls so far.
    pub run_count: u64,
    /// Polls that did something.
    pub busy_count: u64,
}

struct Slot {
    id: PollerId,
    poller: Box<dyn Poller>,
    period: Option<Ticks>,
    due: Ticks,
    run_count: u64,
    busy_count: u64,
    /// Asked to stop.
    stopping: bool,
    /// Said that it has ended.
    over: bool,
}

/// The pollers of one reactor: those polled every turn, and those with a period.
#[derive(Default)]
pub(crate) struct Pollers {
    active: Vec<Slot>,
    timed: Vec<Slot>,
    /// Earliest due time in `timed`.
    next_due: Option<Ticks>,
    any_stopping: bool,
}

impl Pollers {
    pub(crate) fn add(&mut self, new: NewPoller, now: Ticks) {
        let NewPoller { id, poller, period } = new;
        let due = period.map_or(Ticks::NEVER, |period| now + period);
        let slot =
            Slot { id, poller, period, due, run_count: 0, busy_count: 0, stopping: false, over: false };
        if period.is_some() {
            self.timed.push(slot);
            self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        } else {
            self.active.push(slot);
        }
    }

    /// One turn over all of them.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        for slot in &mut self.active {
            work = work.max(slot.poll(cx));
        }
        self.any_stopping |= work == Work::Over;
        if self.next_due.is_some_and(|due| cx.now() >= due) {
            work = work.max(self.poll_timed(cx));
        }
        if self.any_stopping {
            self.reap_stopped(cx);
        }
        work
    }

    /// When the next timed poller is due.
    pub(crate) fn next_due(&self) -> Ticks {
        self.next_due.unwrap_or(Ticks::NEVER)
    }

    #[cold]
    fn poll_timed(&mut self, cx: &mut Cx) -> Work {
        let (mut work, mut next) = (Work::Idle, Ticks::NEVER);
        for slot in &mut self.timed {
            if cx.now() >= slot.due {
                work = work.max(slot.poll(cx));
                slot.due = cx.now() + slot.period.expect("timed pollers have one");
            }
            next = next.min(slot.due);
        }
        self.next_due = Some(next);
        self.any_stopping |= work == Work::Over;
        work
    }

    /// Asks one poller to stop; it leaves once it has drained. False if there is no such poller.
    pub(crate) fn stop(&mut self, id: PollerId) -> bool {
        let slot = self.active.iter_mut().chain(&mut self.timed).find(|slot| slot.id == id);
        let found = slot.map(|slot| slot.stopping = true).is_some();
        self.any_stopping |= found;
        found
    }

    /// Asks all of them to stop.
    pub(crate) fn stop_all(&mut self) {
        self.active.iter_mut().chain(&mut self.timed).for_each(|slot| slot.stopping = true);
        self.any_stopping = true;
    }

    pub(crate) fn contains(&self, id: PollerId) -> bool {
        self.active.iter().chain(&self.timed).any(|slot| slot.id == id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.timed.is_empty()
    }

    pub(crate) fn stats(&self) -> Vec<PollerStats> {
        self.active.iter().chain(&self.timed).map(Slot::stats).collect()
    }

    pub(crate) fn reset_stats(&mut self) {
        for slot in self.active.iter_mut().chain(&mut self.timed) {
            (slot.run_count, slot.busy_count) = (0, 0);
        }
    }

    #[cold]
    fn reap_stopped(&mut self, cx: &mut Cx) {
        for list in [&mut self.active, &mut self.timed] {
            list.retain_mut(|slot| !slot.is_gone(cx));
        }
        self.any_stopping = self.active.iter().chain(&self.timed).any(|slot| slot.stopping);
        self.next_due = self.timed.iter().map(|slot| slot.due).min();
    }
}

impl Slot {
    fn is_gone(&mut self, cx: &mut Cx) -> bool {
        self.over || (self.stopping && self.poller.stop(cx) == Stop::Done)
    }

    #[inline]
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let work = self.poller.poll(cx);
        self.run_count += 1;
        self.busy_count += u64::from(work >= Work::Busy);
        self.over |= work == Work::Over;
        work
    }

    fn stats(&self) -> PollerStats {
        let Slot { id, poller, period, run_count, busy_count, .. } = self;
        let name = poller.name().to_owned();
        PollerStats { id: *id, name, period: *period, run_count: *run_count, busy_count: *busy_count }
    }
}
