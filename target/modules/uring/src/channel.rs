//! Per IO: a slot here with the IO, its buffers in the ring, and back.
//!
//! The ring hands everything that was submitted in a turn to the kernel at once, when the next turn begins.

use crate::backing::Backing;
use crate::step::{Next, Step, Task, ZeroBy};
use std::collections::VecDeque;
use std::sync::Arc;
use tgt_bdev::{Bufs, Channel, Cx, DmaBuf, DoneQueue, Io, IoKey, IoStatus, Op, Work};
use tgt_env::uring::{FileId, IoDone, OpId, SourceId, UringError};
use tgt_reactor::Handle;

/// IO a channel has in flight; more is handed back.
const SLOTS: u16 = 256;

/// Zeroes written in one request, where the backing cannot be told to zero a range.
const ZERO_PIECE_BYTES: u32 = 256 * 1024;

pub(crate) struct UringChannel {
    backing: Arc<Backing>,
    source: SourceId,
    file: FileId,
    /// Our own reactor, to take leave of its ring.
    home: Handle,
    block_size: u32,
    /// Bits that addresses of segments must not have.
    odd_address: usize,
    /// Bits that lengths of segments must not have.
    odd_length: u32,
    slots: Box<[Slot]>,
    free: Vec<u16>,
    /// Slots whose next request found no room in the ring.
    parked: VecDeque<u16>,
    /// A reset that waits for everything in flight; nothing new is taken meanwhile.
    reset: Option<Io>,
    /// Aborts that wait for the end of what they abort, with its slot.
    aborts: Vec<(u16, Io)>,
    ended: DoneQueue,
}

/// One IO in flight.
struct Slot {
    /// Without its buffers.
    io: Option<Io>,
    task: Task,
    op: Option<OpId>,
    /// The IO's own buffers while others (`bounced`) are on their way in their place.
    own: Bufs,
    bounced: bool,
    /// What the ring is to get as soon as it has room.
    waiting: Bufs,
}

impl UringChannel {
    pub(crate) fn open(cx: &mut Cx, backing: Arc<Backing>, block_size: u32) -> Result<UringChannel, String> {
        let home = cx.peers()[cx.id().0 as usize].clone();
        let ring = cx.uring();
        let source = ring.add_source().map_err(|error| error.to_string())?;
        let file = ring.add_file(backing.clone()).map_err(|error| {
            // Nothing was started: it cannot fail.
            let _ = ring.remove_source(source);
            error.to_string()
        })?;
        let nothing = Task::new(Op::Flush, false, 0, 0, block_size, ZeroBy::Range);
        let slot = |_| Slot {
            io: None,
            task: nothing,
            op: None,
            own: Bufs::none(),
            bounced: false,
            waiting: Bufs::none(),
        };
        Ok(UringChannel {
            source,
            file,
            home,
            block_size,
            odd_address: backing.memory_align() as usize - 1,
            odd_length: backing.length_align() - 1,
            slots: (0..SLOTS).map(slot).collect(),
            free: (0..SLOTS).rev().collect(),
            parked: VecDeque::with_capacity(usize::from(SLOTS)),
            reset: None,
            aborts: Vec::new(),
            ended: DoneQueue::default(),
            backing,
        })
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    fn is_aligned(&self, bufs: &Bufs) -> bool {
        bufs.segments().all(|segment| {
            segment.ptr.addr().get() & self.odd_address == 0 && segment.len & self.odd_length == 0
        })
    }

    /// Asks the kernel for what the slot's task wants next; without room the buffers come back.
    #[inline]
    fn start(&mut self, cx: &mut Cx, index: u16, bufs: Bufs) -> Result<(), Bufs> {
        let slot = &mut self.slots[usize::from(index)];
        let request = slot.task.request(bufs.len());
        match cx.uring().start(self.source, self.file, request, bufs, u64::from(index)) {
            Ok(op) => {
                slot.op = Some(op);
                Ok(())
            }
            // Full, or the kernel is short of memory: both pass.
            Err((UringError::NoSlot { .. } | UringError::Enter { .. }, bufs)) => Err(bufs),
            Err((error, _)) => unreachable!("source and file are ours as long as the channel lives: {error}"),
        }
    }

    /// As [`Self::start`], for a slot that is in flight already: it waits for room.
    fn go_on(&mut self, cx: &mut Cx, index: u16, bufs: Bufs) {
        if let Err(bufs) = self.start(cx, index, bufs) {
            self.slots[usize::from(index)].waiting = bufs;
            self.parked.push_back(index);
        }
    }

    fn retry_parked(&mut self, cx: &mut Cx) {
        for _ in 0..self.parked.len() {
            let Some(index) = self.parked.pop_front() else { return };
            let bufs = std::mem::replace(&mut self.slots[usize::from(index)].waiting, Bufs::none());
            self.go_on(cx, index, bufs);
        }
    }

    /// The buffers for the first request: the IO's own, or others that the backing can take.
    #[inline]
    fn first_bufs(&mut self, index: u16, own: Bufs) -> Result<Bufs, Bufs> {
        let task = self.slots[usize::from(index)].task;
        if task.op.has_data() && self.is_aligned(&own) {
            return Ok(own);
        }
        match task.step {
            Step::Transfer => self.bounce(index, own),
            Step::Zero(ZeroBy::Writing) => zeroes(task.len).ok_or(own),
            Step::Zero(_) | Step::Discard | Step::Sync => Ok(own),
        }
    }

    /// A copy of the IO's bytes, or room for them. The IO's own buffers wait in the slot.
    #[cold]
    fn bounce(&mut self, index: u16, own: Bufs) -> Result<Bufs, Bufs> {
        let Ok(mut room) = DmaBuf::alloc(own.len()) else { return Err(own) };
        let slot = &mut self.slots[usize::from(index)];
        if slot.task.op == Op::Write {
            own.copy_to_slice(0, room.as_mut_slice());
        }
        slot.own = own;
        slot.bounced = true;
        Ok(Bufs::from(room))
    }

    /// One request of an IO is over.
    #[inline]
    fn over(&mut self, cx: &mut Cx, done: IoDone, surfaced: &mut DoneQueue) {
        let index = done.tag as u16;
        let slot = &mut self.slots[usize::from(index)];
        slot.op = None;
        match slot.task.answered(done.result) {
            Next::End(status) => self.end(index, status, done.bufs, surfaced),
            Next::Again => self.go_on(cx, index, done.bufs),
            Next::Go(step) => {
                slot.task.step = step;
                self.go_on(cx, index, done.bufs);
            }
            Next::NoSuchZero(way) => self.zero_otherwise(cx, index, way, surfaced),
        }
    }

    #[cold]
    fn zero_otherwise(&mut self, cx: &mut Cx, index: u16, way: ZeroBy, surfaced: &mut DoneQueue) {
        let by = self.backing.cannot_zero_by(way);
        let task = &mut self.slots[usize::from(index)].task;
        task.step = Step::Zero(by);
        let bufs = if by == ZeroBy::Writing { zeroes(task.len) } else { Some(Bufs::none()) };
        match bufs {
            Some(bufs) => self.go_on(cx, index, bufs),
            None => self.end(index, IoStatus::NAMESPACE_NOT_READY_RETRY, Bufs::none(), surfaced),
        }
    }

    #[inline]
    fn end(&mut self, index: u16, status: IoStatus, bufs: Bufs, surfaced: &mut DoneQueue) {
        let slot = &mut self.slots[usize::from(index)];
        let mut io = slot.io.take().expect("a slot in flight holds its IO");
        if slot.bounced {
            io.bufs = unbounce(slot, bufs, status);
        } else if io.op.has_data() {
            io.bufs = bufs;
        }
        surfaced.push(io.complete(status));
        self.free.push(index);
        if !self.aborts.is_empty() {
            self.answer_aborts(index, status);
        }
        if self.reset.is_some() && self.in_flight() == 0 {
            let reset = self.reset.take().expect("just seen");
            self.ended.push(reset.complete(IoStatus::SUCCESS));
        }
    }

    /// Asks the kernel to stop an IO. The abort ends with it: too late is answered as such.
    #[cold]
    fn abort(&mut self, cx: &mut Cx, io: Io) {
        let target = io.abort_target();
        let wanted = IoKey::of_opener(target);
        let is_it = |slot: &Slot| slot.io.as_ref().is_some_and(|io| io.key() == wanted);
        let Some(index) = self.slots.iter().position(is_it) else {
            self.ended.push(io.complete(IoStatus::INVALID_FIELD));
            return;
        };
        self.aborts.push((index as u16, io));
        let slot = &mut self.slots[index];
        if let Some(op) = slot.op
            && let Err(error) = cx.uring().cancel(op)
        {
            tracing::warn!(%error, "an abort could not be handed to the kernel; the IO ends by itself");
        }
    }

    #[cold]
    fn answer_aborts(&mut self, index: u16, status: IoStatus) {
        let stopped = status == IoStatus::ABORTED;
        let answer = if stopped { IoStatus::SUCCESS } else { IoStatus::INVALID_FIELD };
        for (_, abort) in self.aborts.extract_if(.., |(of, _)| *of == index) {
            self.ended.push(abort.complete(answer));
        }
    }

    #[cold]
    fn reset(&mut self, io: Io) {
        if self.in_flight() == 0 {
            self.ended.push(io.complete(IoStatus::SUCCESS));
        } else {
            self.reset = Some(io);
        }
    }
}

/// Gives the IO its own buffers back, with what was read.
#[cold]
fn unbounce(slot: &mut Slot, bufs: Bufs, status: IoStatus) -> Bufs {
    let mut own = std::mem::replace(&mut slot.own, Bufs::none());
    slot.bounced = false;
    if slot.task.op == Op::Read && status.is_ok() {
        let room = bufs.into_dma().expect("a bounce is one buffer of the pool");
        own.copy_from_slice(0, room.as_slice());
    }
    own
}

/// A buffer of zeroes for a range of `len` bytes; none without memory.
fn zeroes(len: u64) -> Option<Bufs> {
    let bytes = u32::try_from(len).map_or(ZERO_PIECE_BYTES, |len| len.min(ZERO_PIECE_BYTES));
    DmaBuf::alloc_zeroed(bytes).ok().map(Bufs::from)
}

impl Channel for UringChannel {
    #[inline]
    fn submit(&mut self, cx: &mut Cx, mut io: Io) -> Result<(), Io> {
        if io.op == Op::Abort {
            self.abort(cx, io);
            return Ok(());
        }
        if self.reset.is_some() {
            return Err(io);
        }
        if io.op == Op::Reset {
            self.reset(io);
            return Ok(());
        }
        let Some(index) = self.free.pop() else { return Err(io) };
        let task = Task::new(io.op, io.fua, io.lba, io.blocks, self.block_size, self.backing.zero_by());
        self.slots[usize::from(index)].task = task;
        let own = std::mem::replace(&mut io.bufs, Bufs::none());
        let started = match self.first_bufs(index, own) {
            Ok(bufs) => self.start(cx, index, bufs),
            Err(own) => {
                // No memory for a copy: it may be there when something has ended.
                io.bufs = own;
                self.free.push(index);
                return self.without_memory(io);
            }
        };
        match started {
            Ok(()) => {
                self.slots[usize::from(index)].io = Some(io);
                Ok(())
            }
            Err(bufs) => {
                let slot = &mut self.slots[usize::from(index)];
                if slot.bounced {
                    io.bufs = unbounce(slot, bufs, IoStatus::ABORTED);
                } else if io.op.has_data() {
                    io.bufs = bufs;
                }
                self.free.push(index);
                Err(io)
            }
        }
    }

    #[inline]
    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let mut work = Work::Idle;
        while let Some(over) = cx.uring().next_io(self.source) {
            self.over(cx, over, done);
            work = Work::Busy;
        }
        if !self.parked.is_empty() {
            self.retry_parked(cx);
            work = work.max(Work::Spin);
        }
        if !self.ended.is_empty() {
            done.take_all(&mut self.ended);
            work = Work::Busy;
        }
        work
    }
}

impl UringChannel {
    /// Waits with others in flight, whose end may bring memory; alone it would wait for ever.
    #[cold]
    fn without_memory(&mut self, io: Io) -> Result<(), Io> {
        if self.in_flight() > 0 {
            return Err(io);
        }
        self.ended.push(io.complete(IoStatus::NAMESPACE_NOT_READY_RETRY));
        Ok(())
    }
}

/// The ring lets go of the file by message: a channel that is dropped has no way to the ring itself.
impl Drop for UringChannel {
    fn drop(&mut self) {
        let (source, file) = (self.source, self.file);
        let leave = move |reactor: &mut tgt_reactor::Reactor| {
            let ring = reactor.cx().uring();
            for left in [ring.remove_source(source), ring.remove_file(file)] {
                if let Err(error) = left {
                    tracing::error!(%error, "a channel could not leave its ring; its file stays open");
                }
            }
        };
        if let Err(error) = self.home.send(leave) {
            tracing::error!(%error, "a channel could not leave its ring; its file stays open until the target ends");
        }
    }
}
