//! What may happen to an IO beside going straight down and up: limits, splits, emulation, aborts, changes of the bdev.

use super::{Event, IoChannel, WAITING_MAX};
use crate::channel::DoneQueue;
use crate::copy;
use crate::device::OpSet;
use crate::emulate::Emulations;
use crate::io::{Io, Op};
use crate::qos::Next;
use tgt_env::clock::Ticks;
use tgt_reactor::{Cx, Work};
use tgt_status::IoStatus;

impl IoChannel {
    /// Whether the module may see this IO.
    pub(super) fn check(&self, io: &Io) -> Result<(), IoStatus> {
        if !self.ops.contains(io.op) {
            return Err(self.why_not(io.op));
        }
        if io.op.is_plain() { self.check_plain(io) } else { self.check_other(io) }
    }

    fn why_not(&self, op: Op) -> IoStatus {
        if self.bdev.is_removed() {
            IoStatus::INVALID_NAMESPACE
        } else if self.bdev.ops().contains(op) {
            IoStatus::WRITE_PROTECTED
        } else {
            IoStatus::INVALID_OPCODE
        }
    }

    /// What does not name blocks, or carries something else than their data.
    fn check_other(&self, io: &Io) -> Result<(), IoStatus> {
        if !io.op.has_range() {
            return if io.bufs.is_empty() { Ok(()) } else { Err(IoStatus::INVALID_FIELD) };
        }
        let past = io.lba.checked_add(u64::from(io.blocks)).is_none_or(|end| end > self.num_blocks);
        if past || io.blocks == 0 {
            return Err(IoStatus::LBA_OUT_OF_RANGE);
        }
        let bytes = u64::from(io.blocks) * u64::from(self.block_size);
        let carried = if io.op == Op::CompareAndWrite { 2 * bytes } else { bytes };
        match io.op {
            Op::Copy => copy::check(io, self.num_blocks),
            _ if u64::from(io.bufs.len()) == carried => Ok(()),
            _ => Err(IoStatus::INVALID_FIELD),
        }
    }

    /// Everything that cannot be passed on as it is, or not at once.
    #[cold]
    pub(super) fn submit_slowly(&mut self, cx: &mut Cx, mut io: Io) -> Result<(), Io> {
        if let Err(status) = self.check(&io) {
            return self.end_here(cx, io, status);
        }
        let submitted = self.stamp(cx, &mut io);
        if io.op == Op::Abort {
            self.abort(cx, io)?;
        } else {
            self.enter(cx, io)?;
        }
        self.took(submitted);
        self.busy_inside = true;
        Ok(())
    }

    /// Stamps an IO that has passed the checks, and lets a trace see it.
    pub(super) fn stamp(&mut self, cx: &Cx, io: &mut Io) -> Ticks {
        if io.submitted == Ticks::ZERO {
            io.submitted = cx.now();
        }
        if let Some(tracer) = &mut self.tracer {
            tracer.submitted(io);
        }
        io.submitted
    }

    /// Through the rate limits.
    fn enter(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        if !(io.op.is_limited() && self.limited) {
            return self.pass_on(cx, io);
        }
        self.gate.enter(io)?;
        self.open_gate(cx);
        Ok(())
    }

    /// To the module, unless blocks are locked. A compare-and-write that is emulated waits for a lock of its own,
    /// whatever else is locked.
    fn pass_on(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        if io.op == Op::CompareAndWrite && self.must_emulate(&io) {
            return self.wait_for_own_lock(cx, io);
        }
        if self.locks.bars(&io) {
            return self.locks.hold(io);
        }
        self.pass_freely(cx, io)
    }

    /// To the module, in pieces if it must be: no lock of others is in the way.
    pub(super) fn pass_freely(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        let known = self.locks.harmless(&io);
        self.hand_over(cx, io)?;
        self.locks.passed(known);
        Ok(())
    }

    fn hand_over(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        if self.must_emulate(&io) {
            self.emulations.enter(io, WAITING_MAX)?;
            self.pump_emulations(cx);
            return Ok(());
        }
        if !io.child && !self.splits.must_split(&io) {
            return self.forward(cx, io);
        }
        debug_assert!(!matches!(io.op, Op::CompareAndWrite | Op::Copy), "these are never cut");
        self.splits.start(cx.lender(), io, false)?;
        self.pump_splits(cx);
        Ok(())
    }

    /// Whether the device cannot do this IO itself. One that would have to be cut is emulated too: the halves of a
    /// compare-and-write belong together, and the ranges of a copy are not cut at blocks.
    fn must_emulate(&self, io: &Io) -> bool {
        match io.op {
            Op::Compare => !self.native.contains(Op::Compare),
            Op::CompareAndWrite | Op::Copy => !self.native.contains(io.op) || self.splits.must_split(io),
            _ => false,
        }
    }

    /// Submits what emulations have ready.
    pub(super) fn pump_emulations(&mut self, cx: &mut Cx) {
        while self.waiting.len() < WAITING_MAX {
            let Some(piece) = self.emulations.next_child(self.num_blocks, &mut self.ended) else { return };
            if !self.splits.must_split(&piece) {
                self.forward(cx, piece).expect("there is room to wait");
                continue;
            }
            match self.splits.start(cx.lender(), piece, true) {
                Ok(()) => self.pump_splits(cx),
                Err(piece) => {
                    let no_lease = piece.complete(IoStatus::NAMESPACE_NOT_READY_RETRY);
                    self.emulations.child_done(no_lease, &mut self.ended);
                }
            }
        }
    }

    /// Lets through what the rate limits allow by now. False if the head may go and there is no room for it further on.
    pub(super) fn open_gate(&mut self, cx: &mut Cx) -> bool {
        let now = cx.now();
        loop {
            match self.gate.next(now) {
                Next::Empty => {
                    self.look_at_limits();
                    return true;
                }
                Next::At(time) => {
                    cx.wake_at(time);
                    return true;
                }
                Next::Go(io) => {
                    if let Err(io) = self.pass_on(cx, io) {
                        self.gate.put_back(io, now);
                        return false;
                    }
                }
            }
        }
    }

    /// Looks again at what may stand in the way of an IO.
    pub(super) fn look_at_limits(&mut self) {
        self.limited = self.bdev.rate_limits().any() || !self.gate.is_empty();
        self.diverted = self.limited || self.locks.any() || self.tracer.is_some();
        self.plain = self.splits.are_trivial() && !self.diverted;
    }

    /// Stops an IO that is here; what the module has already is the module's to stop.
    fn abort(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        let target = io.abort_target();
        let is_target = |waiting: &Io| !waiting.child && waiting.tag == target;
        let waiting = self.waiting.iter().position(is_target).and_then(|index| self.waiting.remove(index));
        let victim = waiting
            .or_else(|| self.gate.remove(target))
            .or_else(|| self.locks.remove(target))
            .or_else(|| self.exclusive.remove(target));
        let found = victim.map(|victim| self.ended.push(victim.complete(IoStatus::ABORTED))).is_some()
            || self.emulations.abort(target, &mut self.ended)
            || self.splits.abort(target);
        if found || !self.native.contains(Op::Abort) {
            let status = if found { IoStatus::SUCCESS } else { IoStatus::INVALID_FIELD };
            self.ended.push(io.complete(status));
            return Ok(());
        }
        // Not queued behind others: it would wait for the very IO it is to stop.
        self.submit_to_module(cx, io)
    }

    /// Everything a poll has to do beyond passing completions on.
    #[cold]
    pub(super) fn poll_inside(&mut self, cx: &mut Cx, done: &mut DoneQueue, first: usize) -> Work {
        let (before, held) = (done.len(), self.held());
        self.probe_module_done(done.slice_from(first));
        self.take_children(cx, done, first);
        self.notice_changes(cx);
        self.retry_waiting(cx);
        let moved = self.let_released_go(cx);
        let gate_flows = !self.limited || self.open_gate(cx);
        self.pump_splits(cx);
        self.take_finished_splits(cx);
        self.pump_emulations(cx);
        done.take_all(&mut self.ended);
        self.drain_for_locks(done, first);
        let moved = self.use_own_lock(cx) || moved;
        self.look_for_late(cx);
        self.busy_inside = self.timeouts.is_some()
            || self.splits.active()
            || self.emulations.active()
            || self.locks.is_busy()
            || self.exclusive.is_busy()
            || !self.waiting.is_empty()
            || !self.gate.is_empty()
            || !self.ended.is_empty();
        if done.len() != before {
            Work::Busy
        } else if self.waiting.is_empty()
            && gate_flows
            && self.held() == held
            && !moved
            && !self.locks.has_released()
            && self.ended.is_empty()
        {
            Work::Idle
        } else {
            // Something waits for a slot, or the module has just got what only polling may complete.
            Work::Spin
        }
    }

    /// IO that the module has not seen yet, pieces and what locks hold back not counted.
    fn held(&self) -> usize {
        self.waiting.len() + self.gate.len()
    }

    /// Takes out of `done` what was cut here.
    fn take_children(&mut self, cx: &mut Cx, done: &mut DoneQueue, first: usize) {
        if !self.splits.active() && !self.emulations.active() {
            return;
        }
        let (splits, emulations, ended) = (&mut self.splits, &mut self.emulations, &mut self.ended);
        done.extract(
            first,
            |done| done.child,
            |child| {
                if Emulations::is_piece(&child) {
                    emulations.child_done(child, ended);
                } else {
                    splits.child_done(cx.lender(), child);
                }
            },
        );
    }

    fn take_finished_splits(&mut self, cx: &mut Cx) {
        self.splits.take_finished(cx.lender(), &mut self.ended, &mut self.pieces);
        while let Some(piece) = self.pieces.pop() {
            self.emulations.child_done(piece, &mut self.ended);
        }
    }

    /// Submits what the splits have room for.
    fn pump_splits(&mut self, cx: &mut Cx) {
        while self.waiting.len() < WAITING_MAX {
            let Some(child) = self.splits.next_child(cx.lender()) else { return };
            let forwarded = self.forward(cx, child);
            forwarded.expect("there is room to wait");
        }
    }

    fn retry_waiting(&mut self, cx: &mut Cx) {
        while let Some(io) = self.waiting.pop_front() {
            if let Err(io) = self.submit_to_module(cx, io) {
                self.waiting.push_front(io);
                return;
            }
        }
    }

    /// Looks again at what a control thread may have changed.
    fn notice_changes(&mut self, cx: &mut Cx) {
        let changes = self.bdev.changes();
        if self.changes == changes {
            return;
        }
        self.changes = changes;
        self.notice_locks();
        self.look_who_watches();
        self.look_at_limits();
        let bdev = &self.bdev;
        self.stats.catch_up(bdev.generation());
        self.gate.forget_slot();
        if self.num_blocks != bdev.num_blocks() {
            self.num_blocks = bdev.num_blocks();
            self.events.push_back(Event::Resized(self.num_blocks));
        }
        if bdev.is_removed() && self.ops != OpSet::of(&[Op::Abort]) {
            self.ops = OpSet::of(&[Op::Abort]);
            self.events.push_back(Event::Removed);
            self.fail_all(cx, IoStatus::INVALID_NAMESPACE);
        }
    }

    /// The bdev is gone: ends what the module has not seen, and what it has seen a part of as soon as that comes back.
    fn fail_all(&mut self, cx: &mut Cx, status: IoStatus) {
        for io in self.waiting.drain(..) {
            let done = io.complete(status);
            // A child that waits was cut here: one that was cut above is passed on as a split of one piece.
            if !done.child {
                self.ended.push(done);
            } else if Emulations::is_piece(&done) {
                self.emulations.child_done(done, &mut self.ended);
            } else {
                self.splits.child_done(cx.lender(), done);
            }
        }
        // Here a child was cut above.
        self.gate.drain().for_each(|io| self.ended.push(io.complete(status)));
        self.locks.drain_held().for_each(|io| self.ended.push(io.complete(status)));
        self.exclusive.fail_all(status, &mut self.ended);
        self.emulations.fail_all(status, &mut self.ended);
    }
}
