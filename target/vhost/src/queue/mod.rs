//! A queue that runs: a poller that takes requests from a ring, does them on a bdev, and answers.
//!
//! ```text
//! poll: completions ─► data, status ─► ring.answer ┐
//!       ring.take ─► request.plan ─┬─ io ─► channel ├─► ring.publish ─► call
//!                                  └─ answer ───────┘
//! ```
//! `mod` the poll, start and stop · `data` buffers and copies · `shared` what it and the home tell each other · `bells` kicks
//! and calls.

mod bells;
mod data;
mod shared;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tgt_bdev::{Desc, DoneQueue, Finished, Io, IoChannel, IoStatus, Op, Tag};
use tgt_guest_memory::GuestMemory;
use tgt_reactor::{Cx, Handle, Poller, Stop, Work};

use crate::inflight::Inflight;
use crate::request::{Geometry, ID_BYTES, Plan, Request};
use crate::ring::{Chain, Ring, RingFault, RingSpec, Segment, Taken};
pub(crate) use bells::ring_bell;
use bells::{Calls, Kicks};
use data::{Data, Filled};
pub(crate) use shared::{Coalescing, Ended, Shared, Tuning};

/// Chains taken in one poll, and bytes after which no more are: copies take time that others wait for.
const TAKE_PER_POLL: usize = 64;
/// See [`TAKE_PER_POLL`].
const BYTES_PER_POLL: u64 = 1 << 20;
/// Polls without a chain after which kicks are asked for.
const QUIET_POLLS: u32 = 64;

/// What a queue is started with.
pub(crate) struct QueueStart {
    /// For logs and `thread_get_pollers`.
    pub(crate) name: String,
    pub(crate) spec: RingSpec,
    pub(crate) base: u32,
    pub(crate) inflight: Option<Inflight>,
    /// None: the front end polls us, and we the ring.
    pub(crate) kick: Option<Arc<OwnedFd>>,
    /// None: the bdev is gone, and every request fails.
    pub(crate) desc: Option<Arc<Desc>>,
    pub(crate) geometry: Geometry,
    /// What GET_ID answers.
    pub(crate) serial: [u8; ID_BYTES],
    pub(crate) shared: Arc<Shared>,
    /// Whom to wake at the end.
    pub(crate) home: Handle,
}

/// A queue on its way to its reactor. If it does not get there, that is its end: its home waits for one.
pub(crate) struct Errand(Option<QueueStart>);

impl Errand {
    pub(crate) fn new(start: QueueStart) -> Errand {
        Errand(Some(start))
    }

    /// On the reactor of `cx`.
    pub(crate) fn arrive(mut self, cx: &mut Cx) {
        if let Some(start) = self.0.take() {
            Queue::spawn(cx, start);
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if let Some(start) = self.0.take() {
            let fault = Some("its reactor takes no messages: it has stopped, or is stuck".to_owned());
            start.shared.end(&start.home, Ended { base: start.base, fault });
        }
    }
}

/// Pieces of data for which each request has room from the start: a driver that keeps to what it is told has no more.
const PIECES: usize = 128;

/// One request under way.
struct Slot {
    taken: Option<Taken>,
    status_at: u64,
    bytes: u32,
    /// Where read data goes.
    into: Vec<Segment>,
}

impl Slot {
    fn new() -> Slot {
        Slot { taken: None, status_at: 0, bytes: 0, into: Vec::with_capacity(PIECES) }
    }
}

/// What could not go on for lack of buffers or room.
enum Stalled {
    Plan(Taken, Request, Plan),
    Io(Io),
}

/// The poller of one queue.
pub(crate) struct Queue {
    name: String,
    ring: Ring,
    chain: Chain,
    slots: Vec<Slot>,
    stalled: Option<Stalled>,
    under_way: u32,
    channel: Option<IoChannel>,
    done: DoneQueue,
    data: Data,
    memory: GuestMemory,
    geometry: Geometry,
    serial: [u8; ID_BYTES],
    kicks: Kicks,
    calls: Calls,
    quiet: u32,
    /// The version of the tuning that is in use.
    seen: u32,
    shared: Arc<Shared>,
    home: Handle,
    /// Take nothing more, but what is owed.
    stopping: bool,
    fault: Option<RingFault>,
    over: bool,
}

impl Queue {
    /// Starts a queue on the reactor of `cx`. What is wrong is told as its end.
    fn spawn(cx: &mut Cx, start: QueueStart) {
        let (shared, home) = (start.shared.clone(), start.home.clone());
        let base = start.base;
        match Queue::new(cx, start) {
            Ok(queue) => {
                cx.spawn(Box::new(queue), None);
            }
            Err(why) => shared.end(&home, Ended { base, fault: Some(why) }),
        }
    }

    fn new(cx: &mut Cx, start: QueueStart) -> Result<Queue, String> {
        let (tuning, seen) = start.shared.tuning();
        let mut ring = Ring::new(&tuning.memory, &start.spec, start.base, start.inflight)
            .map_err(|fault| fault.to_string())?;
        ring.ask_for_kicks(&tuning.memory, false).map_err(|fault| fault.to_string())?;
        let channel = start.desc.as_ref().map(|desc| desc.open_channel(cx)).transpose();
        let channel = channel.map_err(|why| why.to_string())?;
        let kicks = Kicks::new(cx, start.kick)?;
        let size = usize::from(start.spec.size);
        Ok(Queue {
            name: start.name,
            ring,
            chain: Chain::with_capacity(PIECES),
            slots: (0..size).map(|_| Slot::new()).collect(),
            stalled: None,
            under_way: 0,
            channel,
            done: DoneQueue::with_capacity(size),
            data: Data::default(),
            memory: tuning.memory,
            geometry: start.geometry,
            serial: start.serial,
            kicks,
            calls: Calls::new(tuning.call, tuning.coalescing),
            quiet: 0,
            seen,
            shared: start.shared,
            home: start.home,
            stopping: false,
            fault: None,
            over: false,
        })
    }

    /// What the home has changed since.
    #[cold]
    fn retune(&mut self) {
        let (tuning, seen) = self.shared.tuning();
        self.memory = tuning.memory;
        self.calls.change(tuning.call, tuning.coalescing);
        self.seen = seen;
    }

    /// Takes completions in, and answers them.
    #[inline]
    fn finish_all(&mut self, cx: &mut Cx) -> Result<Work, RingFault> {
        let Some(channel) = &mut self.channel else { return Ok(Work::Idle) };
        let work = channel.poll(cx, &mut self.done);
        while channel.take_event().is_some() {
            // Resize and removal reach the home by their own way; here IO fails by itself.
        }
        if self.done.is_empty() {
            return Ok(work);
        }
        let mut first = Ok(());
        while let Some(done) = self.done.pop() {
            let one = self.finish(cx, done.finish());
            first = first.and(one);
        }
        first.map(|()| Work::Busy)
    }

    #[inline]
    fn finish(&mut self, cx: &mut Cx, finished: Finished) -> Result<(), RingFault> {
        let slot = &mut self.slots[finished.tag.0 as usize];
        let taken = slot.taken.take().expect("one completion for each IO");
        self.under_way -= 1;
        let (bytes, status_at) = (slot.bytes, slot.status_at);
        let read = finished.status.is_ok() && bytes > 0;
        let copied = self.data.give_back(cx, finished.bufs, &self.memory, read.then_some(&slot.into[..]));
        slot.into.clear();
        copied?;
        self.answer(taken, status_at, finished.status, if read { bytes } else { 0 })
    }

    /// Writes the status and gives the chain back; `bytes` of data were written before.
    #[inline]
    fn answer(
        &mut self,
        taken: Taken,
        status_at: u64,
        status: IoStatus,
        bytes: u32,
    ) -> Result<(), RingFault> {
        self.memory.write(status_at, &[status.to_virtio_blk()])?;
        self.ring.answer(&self.memory, taken, bytes + 1)?;
        self.calls.answered();
        Ok(())
    }

    /// Takes what the guest has made available.
    #[inline]
    fn take_all(&mut self, cx: &mut Cx) -> Result<Work, RingFault> {
        let (mut work, mut bytes) = (Work::Idle, 0);
        for _ in 0..TAKE_PER_POLL {
            if let Some(stalled) = self.stalled.take() {
                self.go_on(cx, stalled)?;
                if self.stalled.is_some() {
                    return Ok(Work::Spin);
                }
                work = Work::Busy;
                continue;
            }
            if self.fault.is_some() || (self.stopping && !self.ring.owes()) {
                break;
            }
            let Some(taken) = self.ring.take(&self.memory, &mut self.chain)? else { break };
            work = Work::Busy;
            let request = Request::read(&self.memory, &mut self.chain)?;
            let plan = request.plan(&self.memory, &self.chain, &self.geometry)?;
            self.shared.count();
            self.carry_out(cx, taken, request, plan)?;
            bytes += plan.bytes();
            if bytes >= BYTES_PER_POLL {
                break;
            }
        }
        Ok(work)
    }

    #[cold]
    fn go_on(&mut self, cx: &mut Cx, stalled: Stalled) -> Result<(), RingFault> {
        match stalled {
            Stalled::Plan(taken, request, plan) => self.carry_out(cx, taken, request, plan),
            Stalled::Io(io) => {
                self.submit(cx, io);
                Ok(())
            }
        }
    }

    fn carry_out(
        &mut self,
        cx: &mut Cx,
        taken: Taken,
        request: Request,
        plan: Plan,
    ) -> Result<(), RingFault> {
        match plan {
            Plan::Answer(status) => self.answer(taken, request.status, status, 0),
            Plan::Name => {
                let bytes = data::copy_in(&self.memory, &self.chain.writable, 0, &self.serial)?;
                self.answer(taken, request.status, IoStatus::SUCCESS, bytes)
            }
            Plan::Io { .. } if self.channel.is_none() => {
                self.answer(taken, request.status, IoStatus::INVALID_NAMESPACE, 0)
            }
            Plan::Io { op, lba, blocks, bytes } => {
                let readable = (op == Op::Write).then_some(&self.chain.readable[..]);
                let bufs = match self.data.lend(cx, bytes, &self.memory, readable)? {
                    Filled::Ready(bufs) => bufs,
                    Filled::NoMemory => {
                        self.stalled = Some(Stalled::Plan(taken, request, plan));
                        return Ok(());
                    }
                };
                let tag = Tag(u64::from(taken.id));
                let slot = &mut self.slots[usize::from(taken.id)];
                slot.taken = Some(taken);
                slot.status_at = request.status;
                slot.bytes = if op == Op::Read { bytes } else { 0 };
                // The chain gets a list that has room in exchange.
                std::mem::swap(&mut slot.into, &mut self.chain.writable);
                self.under_way += 1;
                self.submit(cx, Io::new(op, tag, lba, blocks, bufs));
                Ok(())
            }
        }
    }

    fn submit(&mut self, cx: &mut Cx, io: Io) {
        let channel = self.channel.as_mut().expect("an IO is made for a channel");
        if let Err(io) = channel.submit(cx, io) {
            self.stalled = Some(Stalled::Io(io));
        }
    }

    /// Nothing more is taken; what is under way ends.
    #[cold]
    fn break_down(&mut self, fault: RingFault) {
        if self.fault.is_none() {
            self.fault = Some(fault);
            self.stopping = true;
            // An IO that waits for room has to end like any other; a chain that waits for memory has not begun.
            if let Some(Stalled::Plan(..)) = self.stalled {
                self.stalled = None;
            }
        }
    }

    /// One turn of the ring, as far as it is sound.
    #[inline]
    fn turn(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        match self.finish_all(cx) {
            Ok(done) => work = work.max(done),
            Err(fault) => self.break_down(fault),
        }
        if self.fault.is_none() || matches!(self.stalled, Some(Stalled::Io(_))) {
            match self.take_all(cx) {
                Ok(took) => work = work.max(took),
                Err(fault) => self.break_down(fault),
            }
        }
        if self.calls.news
            && let Err(fault) = self.ring.publish(&self.memory)
        {
            self.break_down(fault);
        }
        self.calls.call_if_wanted(cx, &mut self.ring);
        work
    }

    /// Whether the reactor may sleep when nothing was done.
    #[inline]
    fn rest(&mut self, work: Work) -> Work {
        if work >= Work::Busy {
            self.quiet = 0;
            if self.kicks.asked {
                self.kicks.asked = false;
                self.ask_for_kicks(false);
            }
            return work;
        }
        if self.kicks.asked || self.stopping {
            return work;
        }
        self.quiet += 1;
        if self.quiet < QUIET_POLLS || !self.kicks.can_wake() {
            return Work::Spin;
        }
        self.quiet = 0;
        self.kicks.asked = true;
        if self.ask_for_kicks(true) { Work::Busy } else { work }
    }

    fn ask_for_kicks(&mut self, wanted: bool) -> bool {
        self.ring.ask_for_kicks(&self.memory, wanted).unwrap_or_else(|fault| {
            self.break_down(fault);
            true
        })
    }

    fn is_drained(&self) -> bool {
        self.under_way == 0 && self.stalled.is_none() && (self.fault.is_some() || !self.ring.owes())
    }

    /// Tells the home how it ended, and lets go of everything.
    fn end(&mut self, cx: &mut Cx) -> Work {
        self.over = true;
        self.calls.call_now(&mut self.ring);
        self.kicks.close(cx);
        self.channel = None;
        let fault = self.fault.map(|fault| fault.to_string());
        self.shared.end(&self.home, Ended { base: self.ring.base(), fault });
        Work::Over
    }
}

impl Poller for Queue {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        if self.shared.version() != self.seen {
            self.retune();
        }
        self.stopping |= self.shared.is_to_stop();
        self.kicks.take(cx);
        let work = self.turn(cx);
        self.shared.set_under_way(self.under_way);
        if self.stopping && self.is_drained() {
            return self.end(cx);
        }
        self.rest(work)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn stop(&mut self, cx: &mut Cx) -> Stop {
        if self.over {
            return Stop::Done;
        }
        self.shared.ask_to_stop();
        self.stopping = true;
        if !self.is_drained() {
            return Stop::Draining;
        }
        let _over = self.end(cx);
        Stop::Done
    }
}
