//! The turn and the sleep.

use crate::Handle;
use crate::cx::Cx;
use crate::handle::Message;
use crate::patience::Patience;
use crate::poller::{PollerId, PollerStats, Pollers, Work};
use crate::start::watch_bell;
use crate::stats::ReactorStats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tgt_env::clock::Ticks;
use tgt_env::probe;
use tgt_env::uring::{SourceId, Uring, UringError};
use tgt_ring::{Doorbell, Inbox};

/// Messages taken per turn: many pollers' worth, few enough that IO goes on.
const MESSAGES_PER_TURN: usize = 64;

/// Operations on the io_uring that matter only to a sleeping reactor: the watch on its bell.
const BELL_OPS: u32 = 1;

/// How long a stopping reactor waits for its pollers to drain before it says which do not and drops them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// One reactor, on its own thread.
pub struct Reactor {
    cx: Cx,
    pollers: Pollers,
    inbox: Inbox<Message>,
    bell: Arc<Doorbell>,
    bell_source: SourceId,
    stats: Arc<ReactorStats>,
    turn_began: Ticks,
    last_work: Ticks,
    patience: Patience,
    /// Requests wait in the io_uring for the sleep that will hand them over.
    holding: bool,
    stop_by: Option<Ticks>,
}

impl Reactor {
    pub(crate) fn new(
        uring: Uring,
        handle: &Handle,
        inbox: Inbox<Message>,
        bell_source: SourceId,
        peers: Arc<Vec<Handle>>,
    ) -> Reactor {
        let now = Ticks::now();
        Reactor {
            cx: Cx::new(handle.id(), uring, peers),
            pollers: Pollers::default(),
            inbox,
            bell: handle.bell().clone(),
            bell_source,
            stats: handle.stats.clone(),
            turn_began: now,
            last_work: now,
            patience: Patience::new(),
            holding: false,
            stop_by: None,
        }
    }

    /// What a poller sees: for messages that open channels or spawn pollers.
    pub fn cx(&mut self) -> &mut Cx {
        &mut self.cx
    }

    /// Asks a poller to stop; it is dropped once it has drained. False if there is no such poller.
    pub fn stop_poller(&mut self, id: PollerId) -> bool {
        self.settle();
        self.pollers.stop(id)
    }

    /// Whether a poller is still here.
    pub fn has_poller(&mut self, id: PollerId) -> bool {
        self.settle();
        self.pollers.contains(id)
    }

    /// What `thread_get_pollers` tells.
    pub fn poller_stats(&mut self) -> Vec<PollerStats> {
        self.settle();
        self.pollers.stats()
    }

    /// Sets the pollers' counts to zero.
    pub fn reset_poller_stats(&mut self) {
        self.pollers.reset_stats();
    }

    /// Begins to stop: pollers drain, then the thread ends.
    pub fn stop(&mut self) {
        self.settle();
        self.pollers.stop_all();
        self.stop_by.get_or_insert(self.cx.now() + Ticks::from_duration(DRAIN_TIMEOUT));
    }

    /// Turns until stopped.
    pub(crate) fn run(&mut self) {
        while !self.is_stopped() {
            let work = self.turn();
            self.account(work);
            if work == Work::Idle && self.stop_by.is_none() {
                self.sleep_if_idle_long_enough();
            }
            if self.holding {
                self.reap();
            }
        }
        self.say_who_did_not_drain();
    }

    /// One pass over everything.
    #[inline]
    fn turn(&mut self) -> Work {
        let mut work = Work::Idle;
        if self.bell.take() {
            self.take_messages();
            work = Work::Busy;
        }
        let uring = self.cx.uring();
        if uring.under_way() > BELL_OPS && uring.has_work() {
            if self.may_hold() {
                self.holding = true;
            } else {
                self.reap();
                work = Work::Busy;
            }
        }
        work = work.max(self.pollers.poll(&mut self.cx));
        if !self.cx.arrivals.is_empty() {
            self.settle();
            work = Work::Busy;
        }
        work
    }

    /// Books the turn that just ended and reads the clock for the next: the one reading per turn.
    #[inline]
    fn account(&mut self, work: Work) {
        let now = self.cx.refresh_now();
        let spent = now - self.turn_began;
        self.stats.book_turn(work >= Work::Busy, spent);
        self.patience.turned(spent, now);
        self.turn_began = now;
        if work != Work::Idle {
            self.last_work = now;
            self.cx.take_wake_at();
            self.patience.found_work();
        }
    }

    /// Whether what the io_uring has to do can wait until the pollers were polled once more: if they are idle then, the
    /// sleep hands it over, one system call for both.
    fn may_hold(&mut self) -> bool {
        let longest = Ticks(self.stats.spin.load(Relaxed));
        self.patience.sleeps_at_once(longest, self.cx.now()) && !self.cx.uring().has_news()
    }

    /// Enters the kernel to submit and to take completions in; those of the bell say nothing more.
    fn reap(&mut self) {
        self.holding = false;
        let pumped = self.cx.uring().pump();
        self.report(pumped.map(drop));
        self.forget_bell_completions();
        self.report_refusal();
    }

    /// What the bell's watch has to say is known from its flags; but if the kernel ended the watch, it is renewed.
    fn forget_bell_completions(&mut self) {
        while let Some(completion) = self.cx.uring().next_completion(self.bell_source) {
            if !completion.more {
                let watched = watch_bell(self.cx.uring(), self.bell_source, &self.bell);
                self.report(watched);
            }
        }
    }

    /// An io_uring that was set up does not fail later but for lack of memory: say so and go on.
    fn report(&self, outcome: Result<(), UringError>) {
        if let Err(error) = outcome {
            tracing::error!(reactor = %self.cx.id(), %error, "io_uring");
        }
    }

    /// What the io_uring does without: one line for the operator, as other reactors meet the same.
    #[inline]
    fn report_refusal(&mut self) {
        static SAID: AtomicBool = AtomicBool::new(false);
        let Some(refusal) = self.cx.uring().take_refusal() else { return };
        if SAID.swap(true, Relaxed) {
            tracing::debug!(reactor = %self.cx.id(), "{refusal}");
        } else {
            tracing::warn!(reactor = %self.cx.id(), "{refusal}");
        }
    }

    #[cold]
    fn take_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            match self.inbox.pop() {
                Some(message) => message(self),
                None => return,
            }
        }
        // There may be more: come back next turn.
        self.bell.ring();
    }

    /// Moves pollers that were spawned into the list.
    #[cold]
    fn settle(&mut self) {
        for new in std::mem::take(&mut self.cx.arrivals) {
            self.pollers.add(new, self.cx.now());
        }
        if self.stop_by.is_some() {
            self.pollers.stop_all();
        }
    }

    fn sleep_if_idle_long_enough(&mut self) {
        let now = self.cx.now();
        let wake_at = self.cx.take_wake_at().min(self.pollers.next_due());
        let longest = Ticks(self.stats.spin.load(Relaxed));
        if now >= wake_at {
            return;
        }
        let early = longest == Ticks::NEVER || now - self.last_work < longest;
        if early && !self.patience.sleeps_at_once(longest, now) {
            self.patience.spins();
            std::hint::spin_loop();
            return;
        }
        if !self.bell.try_sleep() {
            return;
        }
        self.stats.fell_asleep();
        let timeout = (wake_at != Ticks::NEVER).then(|| (wake_at - now).as_duration());
        let longest_ns = timeout.map_or(u64::MAX, |timeout| timeout.as_nanos() as u64);
        probe::reactor_sleep(self.cx.id().0, longest_ns);
        let waited = self.cx.uring().wait(timeout);
        self.holding = false;
        self.stats.woke();
        probe::reactor_wake(self.cx.id().0);
        self.bell.woke();
        self.report(waited.map(drop));
        self.forget_bell_completions();
        self.report_refusal();
        let now = self.cx.refresh_now();
        self.patience.slept(now - self.last_work, longest);
        self.stats.book_turn(false, now - self.turn_began);
        self.turn_began = now;
    }

    fn is_stopped(&self) -> bool {
        self.stop_by.is_some_and(|deadline| self.pollers.is_empty() || self.cx.now() >= deadline)
    }

    fn say_who_did_not_drain(&mut self) {
        for poller in self.pollers.stats() {
            tracing::error!(reactor = %self.cx.id(), poller = poller.name, "did not drain in time; dropped with IO in flight");
        }
    }
}
