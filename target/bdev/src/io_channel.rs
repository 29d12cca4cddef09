//! The block layer's own channel: what every opener holds, around the module's.
//!
//! ```text
//! submit: check ─ bad ──────────────────────────► ended here, surfaces at the next poll
//!           │ the bdev has a rate limit ────────► qos.rs, goes on when its time has come
//!           │ its blocks are locked ────────────► held back, io_channel/locks.rs
//!           │ the device cannot do it itself ───► emulate.rs, pieces come back here
//!           │ too long, crosses a boundary ─────► split.rs, children come back here
//!           ▼
//!         module.submit ─ Err(io) ──────────────► waiting, tried again at the next poll
//! poll:   module.poll ─► accounts ─► children to split.rs and emulate.rs, the rest to the opener
//! ```
//! Here: the straight way down and up. `seldom.rs`: everything else that may happen to an IO. `locks.rs`: range
//! locks. `exclusive.rs`: compare-and-writes that lock their blocks. `probes.rs`: static probes.

mod exclusive;
mod locks;
mod probes;
mod seldom;

use self::exclusive::Exclusive;
use self::locks::Locks;
use crate::bdev::Bdev;
use crate::channel::{Channel, DoneQueue};
use crate::desc::DescShared;
use crate::device::OpSet;
use crate::emulate::Emulations;
use crate::histogram::Histogram;
use crate::io::{Done, Io, Op, Tag};
use crate::qos::Gate;
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
    /// What the opener may ask for.
    ops: OpSet,
    /// What the device does itself.
    native: OpSet,
    /// Raised when there is more to do in `poll` than to pass completions on.
    busy_inside: bool,
    changes: u32,
    /// Reads and writes pass the gate: there is a rate limit, or IO that it has held back.
    limited: bool,
    /// No IO may pass as it comes: reads and writes are limited, blocks are locked, or IO is traced.
    diverted: bool,
    /// Nothing is diverted and nothing is ever split: an IO goes straight to the module.
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
    emulations: Emulations,
    /// Pieces of emulations that had to be split, on their way back.
    pieces: DoneQueue,
    locks: Locks,
    exclusive: Exclusive,
    timeouts: Option<Timeouts>,
    events: VecDeque<Event>,
    id: u64,
    /// Address of the bdev's name, for probes.
    probe_name: usize,
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
        // Read first: what changes from here on is noticed by the first poll.
        let changes = bdev.changes();
        let (id, stats, locks) = bdev.add_channel(own, desc.opener.clone());
        let splits = Splits::new(bdev.limits(), bdev.block_size());
        let forbidden = Op::ALL.into_iter().filter(|op| op.is_write() && !may_write);
        let mut channel = IoChannel {
            module,
            num_blocks: bdev.num_blocks(),
            block_size: bdev.block_size(),
            // What waits here can be aborted whatever the device is able to do.
            ops: forbidden.fold(bdev.ops().with(Op::Abort), OpSet::without),
            native: bdev.native_ops(),
            busy_inside: false,
            changes,
            limited: false,
            diverted: false,
            plain: false,
            watched: false,
            histogram: None,
            tracer: None,
            stats,
            in_flight: 0,
            waiting: VecDeque::with_capacity(WAITING_PREALLOCATED),
            ended: DoneQueue::default(),
            splits,
            gate: Gate::new(bdev.qos().clone(), bdev.block_size()),
            emulations: Emulations::new(bdev.block_size()),
            pieces: DoneQueue::default(),
            locks: Locks::new(locks),
            exclusive: Exclusive::default(),
            timeouts: timeout.map(|timeout| Timeouts::new(timeout, cx.now())),
            events: VecDeque::new(),
            id,
            probe_name: bdev.probe_name(),
            bdev: bdev.clone(),
            desc,
        };
        channel.look_who_watches();
        channel.look_at_limits();
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
        self.probe_submit(&io);
        if !self.goes_straight(&io) {
            return self.submit_slowly(cx, io);
        }
        if io.submitted == Ticks::ZERO {
            io.submitted = cx.now();
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
        // What the module has ended is what surfaces, unless there is more to do.
        let straight = !self.busy_inside && self.changes == self.bdev.changes();
        if !straight {
            work = work.max(self.poll_inside(cx, done, first));
        }
        let now = cx.now();
        let surfacing = done.slice_from(first);
        self.probe_surfacing(surfacing, now, straight);
        for done in surfacing {
            self.stats.book(done, now);
            self.in_flight -= 1;
            if let Some(timeouts) = &mut self.timeouts {
                timeouts.completed(done.submitted);
            }
        }
        if self.watched {
            self.be_watched(now, surfacing);
        }
        work
    }

    fn be_watched(&mut self, now: Ticks, surfacing: &[Done]) {
        self.stats.note_depth(self.in_flight);
        if let Some(histogram) = &self.histogram {
            surfacing.iter().for_each(|done| histogram.book(done, now));
        }
        if let Some(tracer) = &mut self.tracer {
            surfacing.iter().for_each(|done| tracer.completed(done, now));
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
    }

    /// Whether this IO is right and the module may have it as it is and now. One question with one answer: what to do
    /// otherwise is not asked on the way of every IO.
    #[inline]
    fn goes_straight(&self, io: &Io) -> bool {
        let right = io.op.is_plain() && self.ops.contains(io.op) && self.check_plain(io).is_ok();
        let free = self.plain || !(self.diverted || self.splits.must_split(io));
        right && !io.child && free
    }

    /// Whether reads, writes, and what names blocks and carries nothing are in range and have the right buffers.
    #[inline]
    fn check_plain(&self, io: &Io) -> Result<(), IoStatus> {
        let past = io.lba.checked_add(u64::from(io.blocks)).is_none_or(|end| end > self.num_blocks);
        if past || io.blocks == 0 {
            return Err(IoStatus::LBA_OUT_OF_RANGE);
        }
        let bytes = u64::from(io.blocks) * u64::from(self.block_size);
        let carried = if io.op.has_data() { bytes } else { 0 };
        if u64::from(io.bufs.len()) != carried || (io.op == Op::Read && io.bufs.is_read_only()) {
            return Err(IoStatus::INVALID_FIELD);
        }
        Ok(())
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
        let refused = if self.waiting.is_empty() { self.submit_to_module(cx, io) } else { Err(io) };
        match refused {
            Ok(()) => Ok(()),
            Err(io) => self.wait(io),
        }
    }

    #[inline]
    fn submit_to_module(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        self.probe_module_submit(&io);
        self.module.submit(cx, io)
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
        self.exclusive.close();
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
