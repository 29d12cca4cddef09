//! How connections, queues and controllers end.
//!
//! Whatever ends a connection puts its number into `doomed`. It is buried in the same turn: its queue's life ends, what it has
//! not given to a bdev is thrown away, what it has is aborted, its stream is closed. It is forgotten when its stream has closed and
//! no bdev has anything of it. With an admin queue all queues of its controller end.

use super::conn::{Conn, Phase, State};
use super::{Core, Errand, Portal};
use crate::model::QueueAt;
use std::time::Duration;
use tgt_bdev::{Cx, Ticks};
use tgt_reactor::CallError;
use tgt_sock::Group;

/// How long a host that ended its connection itself may take to close it.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Core {
    /// Buries what is to end in this turn.
    pub(super) fn bury_doomed(&mut self, cx: &mut Cx, group: &mut Group) {
        while let Some(no) = self.doomed.pop() {
            let Some(mut conn) = self.conns.take(no) else { continue };
            if conn.phase != Phase::Dead {
                self.bury(cx, group, &mut conn);
            }
            self.reap(conn);
        }
    }

    fn bury(&mut self, cx: &mut Cx, group: &mut Group, conn: &mut Conn) {
        let told_why = conn.phase == Phase::Ending;
        conn.phase = Phase::Dead;
        if let Some(queue) = &conn.queue {
            if queue.qid == 0 {
                queue.controller.end().into_iter().for_each(|at| self.end_elsewhere(at));
                self.beating.retain(|no| *no != conn.no);
            }
            // Once, whoever was first.
            if !queue.life.is_over() {
                queue.life.end();
            }
        }
        conn.waiting.clear();
        for slot in 0..conn.slots.len() as u16 {
            if matches!(conn.slot(slot).state, State::Waiting | State::Receiving | State::Paired) {
                let bufs = conn.release(slot);
                self.memory.give(bufs);
            }
        }
        self.abort_all(cx, conn);
        if let Some(mut stream) = group.stream(conn.stream).filter(|_| !conn.closed) {
            if told_why {
                stream.finish(LAST_WORDS);
            } else {
                stream.abort();
            }
        }
    }

    /// Forgets a dead connection of which nothing is left; any other goes back to its place.
    pub(super) fn reap(&mut self, mut conn: Box<Conn>) {
        let empty = conn.phase == Phase::Dead && conn.in_bdev == 0;
        if let Some(queue) = conn.queue.as_mut().filter(|queue| empty && !queue.drained) {
            queue.drained = true;
            queue.life.drained();
        }
        if !(empty && conn.closed) {
            return self.conns.put(conn);
        }
        if let Some(queue) = conn.queue.take() {
            let controller = queue.controller;
            controller.remove_queue(QueueAt { reactor: self.own, conn: conn.no });
            if let Some(view) = queue.view {
                self.lanes.leave(view);
            }
            if queue.qid == 0 {
                self.counts.admin_now -= 1;
            } else {
                self.counts.io_now -= 1;
            }
            // Whichever of its queues is the last.
            if controller.is_dead() && controller.queues().is_empty() {
                controller.subsystem.remove_controller(&controller);
            }
        }
        self.conns.forget(conn);
        self.tables.leave(self.own.0 as usize);
    }

    /// Ends a queue, here or on its reactor. Its life has ended already.
    pub(super) fn end_elsewhere(&mut self, at: QueueAt) {
        if at.reactor == self.own {
            self.doomed.push(at.conn);
        } else {
            self.errands.push((at.reactor, Errand::End(at.conn)));
        }
    }

    /// Sends what other reactors are to do; what one has no room for is sent again in the next turn.
    pub(super) fn run_errands(&mut self) {
        for (reactor, errand) in std::mem::take(&mut self.errands) {
            let run = move |reactor: &mut tgt_reactor::Reactor| {
                let _ = Portal::on(reactor.cx(), |portal, cx| {
                    let core = &mut portal.inner.borrow_mut().core;
                    match errand {
                        Errand::End(conn) => core.doomed.push(conn),
                        Errand::Abort(conn, cid) => core.abort_command(cx, conn, cid),
                    }
                });
            };
            if let Err(CallError::Full(..)) = self.peers[reactor.0 as usize].send(run) {
                self.errands.push((reactor, errand));
            }
        }
    }

    /// Ends controllers whose hosts were not heard within their keep-alive timeout.
    #[inline]
    pub(super) fn look_at_beats(&mut self, cx: &mut Cx) {
        if cx.now() >= self.next_beat {
            self.next_beat = self.judge_beats(cx.now());
        }
        if self.next_beat != Ticks::NEVER {
            cx.wake_at(self.next_beat);
        }
    }

    /// When the next timeout may be over.
    #[cold]
    fn judge_beats(&mut self, now: Ticks) -> Ticks {
        let mut next = Ticks::NEVER;
        for no in &self.beating {
            let Some(queue) = self.conns.get(*no).and_then(|conn| conn.queue.as_ref()) else { continue };
            let Some(half) = &queue.admin else { continue };
            let kato = half.admin.kato_ms();
            if kato == 0 {
                continue;
            }
            let over = half.heard + Ticks::from_duration(Duration::from_millis(kato.into()));
            if over > now {
                next = next.min(over);
                continue;
            }
            let controller = &queue.controller;
            tracing::warn!(
                "host {} was not heard for {kato} ms: controller {} of {} ends (keep-alive timeout)",
                controller.host_nqn,
                controller.cntlid,
                controller.subsystem.nqn()
            );
            self.doomed.push(*no);
        }
        next
    }
}
