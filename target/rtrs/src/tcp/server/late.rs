//! Requests that cannot be handed out when their turn comes, because this process was stopped meanwhile.
//!
//! A request is taken in while its lane's lease holds, and is handed out a little later in the same turn. If the process is
//! stopped between the two, the client may have called the life dead. So the clock is read once more for each request; one
//! that is late waits until the client has shown that it lives, or until the life is over: then it ends unexecuted.

use super::{Answer, Counts, Incoming, ServerEvent, ServerPort};
use crate::Now;
use crate::frame::Refused;
use std::time::Duration;
use tgt_env::clock::Ticks;
use tgt_reactor::Cx;

/// What waits.
pub(super) struct Late {
    waiting: Vec<Incoming>,
    /// Whatever is handed out sooner than this after the clock was read is in time: an eighth of the lease, where
    /// `dead_after` leaves a half.
    slack: Ticks,
}

impl Late {
    pub(super) fn new(lease_ns: Now) -> Self {
        let slack = Ticks::from_duration(Duration::from_nanos(lease_ns / 8));
        Self { waiting: Vec::new(), slack }
    }

    pub(super) fn put(&mut self, incoming: Incoming) {
        tracing::warn!(request = ?incoming.execute, "a request is late: this process was stopped");
        self.waiting.push(incoming);
    }
}

impl ServerPort {
    /// Whether the lane's lease holds at this very moment.
    pub(super) fn may_begin(&self, incoming: &Incoming) -> bool {
        let now = Ticks::now();
        now.since(self.looked) < self.late.slack
            || self.engine.lease_until(incoming.execute.lane).is_some_and(|until| now.as_ns() < until)
    }

    /// Hands out what waits if its client lives, and ends it if its life is over.
    pub(super) fn judge_late(&mut self, cx: &mut Cx) {
        if self.late.waiting.is_empty() {
            return;
        }
        for incoming in std::mem::take(&mut self.late.waiting) {
            match self.engine.lease_until(incoming.execute.lane) {
                Some(until) if cx.now().as_ns() < until => {
                    self.events.push_back(ServerEvent::Request(incoming));
                }
                Some(_) => self.late.waiting.push(incoming),
                None => {
                    // The life is over: nobody hears this.
                    let counts = Counts { result: Err(Refused::NoService), bytes: 0, user_len: 0 };
                    self.answer(cx, Answer { incoming, counts, header: &[] });
                }
            }
        }
    }
}
