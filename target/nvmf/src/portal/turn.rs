//! The poller: one turn of a portal.

use super::conn::Phase;
use super::{Core, Inner, Portal};
use std::rc::Rc;
use tgt_bdev::{Cx, Work};
use tgt_reactor::{Poller, Stop};
use tgt_sock::{Event, Group};

/// Turns a reactor's portal.
pub(super) struct Turn {
    portal: Rc<Portal>,
    name: String,
}

impl Turn {
    pub(super) fn new(portal: Rc<Portal>) -> Turn {
        let reactor = portal.inner.borrow().core.own.0;
        Turn { portal, name: format!("nvmf_tcp_poll_group_{reactor}") }
    }
}

impl Poller for Turn {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.portal.inner.borrow_mut().turn(cx)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        self.portal.inner.borrow_mut().leave(cx)
    }
}

impl Inner {
    fn turn(&mut self, cx: &mut Cx) -> Work {
        let Inner { group, core } = self;
        group.begin(cx);
        while let Some(event) = group.next() {
            core.on_event(cx, event);
        }
        let mut work = core.poll_lanes(cx);
        core.take_done(cx, group);
        // After what came: a host that was not heard because this process stood still is heard first.
        core.look_at_beats(cx);
        if core.has_seldom() {
            work = work.max(core.seldom(cx, group));
        }
        work.max(group.end(cx))
    }

    /// Ends everything; done when nothing is left.
    fn leave(&mut self, cx: &mut Cx) -> Stop {
        let Inner { group, core } = self;
        if !core.leaving {
            core.leaving = true;
            let all: Vec<u64> = core.conns.all().map(|conn| conn.no).collect();
            core.doomed.extend(all);
            core.doors.drain(..).for_each(|door| {
                group.close_listener(door.listener);
            });
            core.moving.drain(..).for_each(|moving| {
                core.tables.leave(moving.reactor);
            });
            group.abort_all();
        }
        if core.conns.len() > 0 || group.stream_count() > 0 || !core.lanes.is_empty() {
            return Stop::Draining;
        }
        group.close(cx);
        Stop::Done
    }
}

impl Core {
    #[inline]
    fn on_event(&mut self, cx: &mut Cx, event: Event<'_>) {
        match event {
            Event::Received(received) => self.received(cx, received),
            Event::Filled { mut stream, payload } => self.filled(cx, &mut stream, payload),
            Event::Sent { payload, .. } | Event::Unsent { payload, .. } => self.memory.give(payload.bufs),
            Event::Unfilled { payload, .. } => self.memory.give(payload.bufs),
            Event::Accepted { listener, stream } => self.accepted(listener, stream),
            Event::Closed { stream, user, cause, .. } => self.closed(stream, user, cause),
            Event::AcceptFailed { error, .. } => tracing::warn!("cannot accept hosts for now: {error}"),
            // Nothing here connects; a queue that is full ends its connection.
            Event::Connected(_) | Event::Room(_) => {}
        }
    }

    #[inline]
    fn poll_lanes(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        for place in 0..self.lanes.places() {
            work = work.max(self.lanes.poll(cx, place, &mut self.done));
        }
        work
    }

    #[inline]
    fn take_done(&mut self, cx: &mut Cx, group: &mut Group) {
        while let Some(done) = self.done.pop() {
            self.completed(cx, group, done);
        }
    }

    /// Whether anything is to be done that is not done in every turn.
    #[inline]
    fn has_seldom(&self) -> bool {
        !(self.waiting.is_empty()
            && self.doomed.is_empty()
            && self.announced.is_empty()
            && self.moving.is_empty()
            && self.errands.is_empty())
    }

    #[cold]
    fn seldom(&mut self, cx: &mut Cx, group: &mut Group) -> Work {
        self.take_news(group);
        self.look_at_waiting(cx, group);
        self.bury_doomed(cx, group);
        self.move_on(group);
        self.run_errands();
        // What is left is looked at again in the next turn: other reactors open fences, and do not say so.
        if self.has_seldom() { Work::Spin } else { Work::Busy }
    }

    /// Commands that wait, in order; those that still have to, wait on.
    fn look_at_waiting(&mut self, cx: &mut Cx, group: &mut Group) {
        for _ in 0..self.waiting.len() {
            let Some(no) = self.waiting.pop_front() else { break };
            let Some(mut conn) = self.conns.take(no) else { continue };
            conn.listed = false;
            if let Some(mut stream) = group.stream(conn.stream).filter(|_| conn.phase == Phase::Live) {
                for _ in 0..conn.waiting.len() {
                    let Some(slot) = conn.waiting.pop_front() else { break };
                    self.go_on(cx, &mut conn, &mut stream, slot);
                }
            }
            self.conns.put(conn);
        }
    }
}
