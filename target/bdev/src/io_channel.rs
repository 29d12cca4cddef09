//! The block layer's own channel: what every opener holds, around the module's.
//!
//! ```text
//! submit: check ─ bad ──────────────────────────► ended here, surfaces at the next poll
//!           │ the bdev has a rate limit ────────► qos.rs, goes on when its time has come
//!           │ too long, crosses a boundary ─────► split.rs, children come back here
//!           ▼
//!         module.submit ─ Err(io) ──────────────► waiting, tried again at the next poll
//! poll:   module.poll ─► accounts ─► children to split.rs, the rest to the opener
//! ```

use crate::bdev::Bdev;
use crate::channel::{Channel, DoneQueue};
use crate::desc::DescShared;
use crate::device::OpSet;
use crate::histogram::Histogram;
use crate::io::{Io, Op, Tag};
use crate::qos::{Gate, Next};
use crate::split::Splits;
use crate::stats::ChannelStats;
use crate::timeouts::Timeouts;
use crate::trace::Tracer;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tgt_env::clock::Ticks;
use tgt_reactor::{Cx, Work};
use tgt_status::IoStatus;

/// IO that waits for a slot of the module; beyond that the opener gets its IO back.
pub(crate) const WAITING_MAX: usize = 4096;

/// Room for waiting IO from the start.
const WAITING_PREALLOCATED: usize = 128;

/// What an opener has to know beside its completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The bdev was removed: every IO fails from now on; close channel and desc.
    Removed,
    /// It has this many blocks now.
    Resized(u64),
    /// This many IOs are in flight for longer than the opener's timeout.
    Late(u32),
}

/// One opener's way to a bdev on one reactor. Bound to that reactor's thread.
pub struct IoChannel {
    module: Box<dyn Channel>,
    num_blocks: u64,
    block_size: u32,
    ops: OpSet,
    /// Raised when there is more to do in `poll` than to pass completions on.
    busy_inside: bool,
    changes: u32,
    /// Reads and writes pass the gate: there is a rate limit, or IO that it has held back.
    limited: bool,
    /// Nothing is limited, traced or ever split: an IO goes straight to the module.
    plain: bool,
    stats: Arc<ChannelStats>,
    /// Latencies are counted, queue depths sampled, or IO traced.
    watched: bool,
    histogram: Option<Arc<Histogram>>,
    tracer: Option<Tracer>,
    in_flight: u32,
    waiting: VecDeque<Io>,
    ended: DoneQueue,
    splits: Splits,
    gate: Gate,
    timeouts: Option<Timeouts>,
    events: VecDeque<Event>,
    id: u64,
    /// The desc's, one pointer nearer.
    bdev: Arc<Bdev>,
    desc: Arc<DescShared>,
}

impl IoChannel {
    pub(crate) fn new(
        cx: &mut Cx,
        desc: Arc<DescShared>,
        module: Box<dyn Channel>,
        may_write: bool,
        timeout: Option<Duration>,
    ) -> IoChannel {
        let bdev = &desc.bdev;
        let own = cx.peers()[cx.id().0 as usize].clone();
        let (id, stats) = bdev.add_channel(own, desc.opener.clone());
        let splits = Splits::new(bdev.limits(), bdev.block_size());
        let forbidden = Op::ALL.into_iter().filter(|op| op.is_write() && !may_write);
        let mut channel = IoChannel {
            module,
            num_blocks: bdev.num_blocks(),
            block_size: bdev.block_size(),
            // What waits here can be aborted whatever the device is able to do.
            ops: forbidden.fold(bdev.ops().with(Op::Abort), OpSet::without),
            busy_inside: false,
            changes: bdev.changes(),
            limited: bdev.rate_limits().any(),
            plain: splits.are_trivial() && !bdev.rate_limits().any(),
            watched: false,
            histogram: None,
            tracer: None,
            stats,
            in_flight: 0,
            waiting: VecDeque::with_capacity(WAITING_PREALLOCATED),
            ended: DoneQueue::default(),
            splits,
            gate: Gate::new(bdev.qos().clone(), bdev.block_size()),
            timeouts: timeout.map(|timeout| Timeouts::new(timeout, cx.now())),
            events: VecDeque::new(),
            id,
            bdev: bdev.clone(),
            desc,
        };
        channel.look_who_watches();
        channel
    }

    /// The bdev behind it.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        &self.bdev
    }

    /// IO that was submitted here and has not surfaced yet.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What happened to the bdev since the last call. Look after each poll; it costs a load.
    #[inline]
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes an IO. `Err(io)` only if 4096 IOs (`WAITING_MAX`) already wait for the module: try again after a completion.
    #[inline]
    pub fn submit(&mut self, cx: &mut Cx, mut io: Io) -> Result<(), Io> {
        if let Err(status) = self.check(&io) {
            return self.end_here(cx, io, status);
        }
        if io.submitted == Ticks::ZERO {
            io.submitted = cx.now();
        }
        let held = !self.plain && self.is_held(&io);
        if held || io.child || io.op == Op::Abort {
            return self.submit_slowly(cx, io);
        }
        let submitted = io.submitted;
        self.forward(cx, io)?;
        self.took(submitted);
        Ok(())
    }

    /// Pushes what has completed to the back of `done`.
    #[inline]
    pub fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let first = done.len();
        let mut work = self.module.poll(cx, done);
        if self.busy_inside || self.changes != self.bdev.changes() {
            work = work.max(self.poll_inside(cx, done, first));
        }
        let now = cx.now();
        for done in done.iter_from(first) {
            self.stats.book(done, now);
            self.in_flight -= 1;
            if let Some(timeouts) = &mut self.timeouts {
                timeouts.completed(done.submitted);
            }
        }
        if self.watched {
            self.be_watched(now, done, first);
        }
        work
    }

    /// Whether an IO must not go straight to the module.
    #[inline]
    fn is_held(&mut self, io: &Io) -> bool {
        if let Some(tracer) = &mut self.tracer {
            tracer.submitted(io);
        }
        self.limited || self.splits.must_split(io)
    }

    fn be_watched(&mut self, now: Ticks, done: &DoneQueue, first: usize) {
        self.stats.note_depth(self.in_flight);
        if let Some(histogram) = &self.histogram {
            done.iter_from(first).for_each(|done| histogram.book(done, now));
        }
        if let Some(tracer) = &mut self.tracer {
            done.iter_from(first).for_each(|done| tracer.completed(done, now));
        }
    }

    fn look_who_watches(&mut self) {
        self.histogram = self.bdev.histogram_of(self.id);
        let ring = self.bdev.trace_of(self.id);
        // A change of something else does not begin the trace anew.
        let kept =
            self.tracer.take().filter(|tracer| ring.as_ref().is_some_and(|ring| tracer.writes_to(ring)));
        self.tracer = kept.or_else(|| ring.map(Tracer::new));
        self.watched = self.histogram.is_some() || self.tracer.is_some() || self.bdev.samples().on();
        self.look_at_limits();
    }

    /// Whether the module may see this IO.
    #[inline]
    fn check(&self, io: &Io) -> Result<(), IoStatus> {
        if !self.ops.contains(io.op) {
            return Err(self.why_not(io.op));
        }
        let past = io.lba.checked_add(u64::from(io.blocks)).is_none_or(|end| end > self.num_blocks);
        if io.op.has_range() && (past || io.blocks == 0) {
            return Err(IoStatus::LBA_OUT_OF_RANGE);
        }
        let bytes = u64::from(io.blocks) * u64::from(self.block_size);
        let carried = if io.op.has_data() { bytes } else { 0 };
        if u64::from(io.bufs.len()) != carried || (io.op == Op::Read && io.bufs.is_read_only()) {
            return Err(IoStatus::INVALID_FIELD);
        }
        Ok(())
    }

    #[cold]
    fn why_not(&self, op: Op) -> IoStatus {
        if self.bdev.is_removed() {
            IoStatus::INVALID_NAMESPACE
        } else if self.bdev.ops().contains(op) {
            IoStatus::WRITE_PROTECTED
        } else {
            IoStatus::INVALID_OPCODE
        }
    }

    /// Books an IO that this channel has taken.
    #[inline]
    fn took(&mut self, submitted: Ticks) {
        self.in_flight += 1;
        if let Some(timeouts) = &mut self.timeouts {
            timeouts.submitted(submitted);
            self.busy_inside = true;
        }
    }

    /// Ends an IO that never reaches the module; it surfaces at the next poll.
    #[cold]
    fn end_here(&mut self, cx: &mut Cx, mut io: Io, status: IoStatus) -> Result<(), Io> {
        if io.submitted == Ticks::ZERO {
            io.submitted = cx.now();
        }
        self.took(io.submitted);
        self.ended.push(io.complete(status));
        self.busy_inside = true;
        Ok(())
    }

    /// Hands an IO to the module, or lets it wait behind those that already do.
    #[inline]
    fn forward(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        let refused = if self.waiting.is_empty() { self.module.submit(cx, io) } else { Err(io) };
        match refused {
            Ok(()) => Ok(()),
            Err(io) => self.wait(io),
        }
    }

    #[cold]
    fn wait(&mut self, io: Io) -> Result<(), Io> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(io);
        }
        self.waiting.push_back(io);
        self.busy_inside = true;
        Ok(())
    }

    /// Everything that cannot be passed on as it is, or not at once.
    #[cold]
    fn submit_slowly(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        let submitted = io.submitted;
        if io.op == Op::Abort {
            self.abort(cx, io)?;
        } else if io.op.has_data() && self.limited {
            self.gate.enter(io)?;
            self.open_gate(cx);
        } else {
            self.pass_on(cx, io)?;
        }
        self.took(submitted);
        self.busy_inside = true;
        Ok(())
    }

    /// To the module, in pieces if it must be.
    fn pass_on(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        if !io.child && !self.splits.must_split(&io) {
            return self.forward(cx, io);
        }
        self.splits.start(cx.lender(), io)?;
        self.pump_splits(cx);
        Ok(())
    }

    /// Lets through what the rate limits allow by now. False if the head may go and there is no room for it further on.
    fn open_gate(&mut self, cx: &mut Cx) -> bool {
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

    fn look_at_limits(&mut self) {
        self.limited = self.bdev.rate_limits().any() || !self.gate.is_empty();
        self.plain = self.splits.are_trivial() && !self.limited && self.tracer.is_none();
    }

    /// Stops an IO that waits here or is being split; what the module has already is the module's to stop.
    fn abort(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        let target = io.abort_target();
        if let Some(index) = self.waiting.iter().position(|waiting| !waiting.child && waiting.tag == target) {
            let victim = self.waiting.remove(index).expect("the index was just found");
            self.ended.push(victim.complete(IoStatus::ABORTED));
            self.ended.push(io.complete(IoStatus::SUCCESS));
            return Ok(());
        }
        if let Some(victim) = self.gate.remove(target) {
            self.ended.push(victim.complete(IoStatus::ABORTED));
            self.ended.push(io.complete(IoStatus::SUCCESS));
            return Ok(());
        }
        if self.splits.abort(target) {
            self.ended.push(io.complete(IoStatus::SUCCESS));
            return Ok(());
        }
        if !self.bdev.ops().contains(Op::Abort) {
            self.ended.push(io.complete(IoStatus::INVALID_FIELD));
            return Ok(());
        }
        // Not queued behind others: it would wait for the very IO it is to stop.
        self.module.submit(cx, io)
    }

    /// Everything a poll has to do beyond passing completions on.
    #[cold]
    fn poll_inside(&mut self, cx: &mut Cx, done: &mut DoneQueue, first: usize) -> Work {
        let (before, held) = (done.len(), self.held());
        if self.splits.active() {
            let (splits, lender) = (&mut self.splits, cx.lender());
            done.extract(first, |done| done.child, |child| splits.child_done(lender, child));
        }
        self.notice_changes(cx);
        self.retry_waiting(cx);
        let gate_flows = !self.limited || self.open_gate(cx);
        self.pump_splits(cx);
        self.splits.take_finished(cx.lender(), &mut self.ended);
        done.take_all(&mut self.ended);
        self.look_for_late(cx);
        self.busy_inside = self.timeouts.is_some()
            || self.splits.active()
            || !self.waiting.is_empty()
            || !self.gate.is_empty();
        if done.len() != before {
            Work::Busy
        } else if self.waiting.is_empty() && gate_flows && self.held() == held {
            Work::Idle
        } else {
            // Something waits for a slot, or the module has just got what only polling may complete.
            Work::Spin
        }
    }

    /// IO that the module has not seen yet, pieces not counted.
    fn held(&self) -> usize {
        self.waiting.len() + self.gate.len()
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
            if let Err(io) = self.module.submit(cx, io) {
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
        self.look_who_watches();
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
            for io in self.waiting.drain(..).chain(self.gate.drain()) {
                let done = io.complete(IoStatus::INVALID_NAMESPACE);
                // A child that waits was cut here: one that was cut above is passed on as a split of one piece.
                if done.child {
                    self.splits.child_done(cx.lender(), done);
                } else {
                    self.ended.push(done);
                }
            }
        }
    }

    fn look_for_late(&mut self, cx: &mut Cx) {
        let Some(timeouts) = &mut self.timeouts else { return };
        if let Some(late) = timeouts.newly_late(cx.now()) {
            self.events.push_back(Event::Late(late));
        }
        if self.in_flight > 0 {
            cx.wake_at(timeouts.next_look());
        }
    }

    /// Submits an abort of `target`; a shorthand for openers.
    pub fn submit_abort(&mut self, cx: &mut Cx, tag: Tag, target: Tag) -> Result<(), Io> {
        self.submit(cx, Io::abort(tag, target))
    }
}

impl Drop for IoChannel {
    fn drop(&mut self) {
        self.bdev().remove_channel(self.id);
        assert!(
            self.in_flight == 0 || std::thread::panicking(),
            "an io channel of {:?} was closed with {} IOs in flight",
            self.bdev().name(),
            self.in_flight
        );
    }
}

impl std::fmt::Debug for IoChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "io channel of {:?} for {:?}, {} in flight",
            self.bdev().name(),
            self.desc.opener,
            self.in_flight
        )
    }
}
