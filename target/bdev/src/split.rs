//! Cutting an IO into pieces that the device can take.
//!
//! The IO (the *parent*) stays here; its *children* go down with the parent's slot as their tag and a part of its
//! buffers, and come back here. The parent completes once, when no child is out and nothing is left, with the first
//! failure if there was one; after a failure no further child is sent.
//!
//! An IO that is itself a child of a channel above is taken in too, as a parent of one piece, so that the children a
//! channel sees coming back are always its own.

use crate::channel::DoneQueue;
use crate::device::Limits;
use crate::io::{Done, Io, Op, Tag};
use std::collections::VecDeque;
use tgt_env::bufs::{Bufs, Lease, Lender};
use tgt_status::IoStatus;

/// Children of one parent that are out at a time: enough to keep a device busy, few enough that one large IO does
/// not fill its queue.
pub(crate) const CHILDREN_MAX: u32 = 32;

#[derive(Debug)]
pub(crate) struct Splits {
    limits: Limits,
    block_size: u32,
    /// No limit at all: nothing is ever split.
    trivial: bool,
    parents: Vec<Option<Parent>>,
    free: Vec<u32>,
    /// Parents that may send a child, each once.
    ready: VecDeque<u32>,
    /// Parents with nothing out and nothing left.
    finished: Vec<u32>,
}

#[derive(Debug)]
struct Parent {
    io: Io,
    lease: Lease,
    next_lba: u64,
    left: u32,
    out: u32,
    status: IoStatus,
    in_ready: bool,
    /// A piece of an IO that is emulated here.
    emulated: bool,
}

impl Splits {
    pub(crate) fn new(limits: Limits, block_size: u32) -> Splits {
        Splits {
            trivial: limits == Limits::default(),
            limits,
            block_size,
            parents: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            finished: Vec::new(),
        }
    }

    /// True if nothing is ever split.
    pub(crate) fn are_trivial(&self) -> bool {
        self.trivial
    }

    /// Whether the device cannot take this IO as it is.
    #[inline]
    pub(crate) fn must_split(&self, io: &Io) -> bool {
        !self.trivial && self.exceeds(io)
    }

    fn exceeds(&self, io: &Io) -> bool {
        let segments_max = usize::from(self.limits.max_segments);
        self.first_piece(io.op, io.lba, io.blocks) < io.blocks
            || (io.op.has_data() && segments_max != 0 && io.bufs.segment_count() > segments_max)
    }

    /// Blocks from `lba` on that fit into one IO, segments not considered.
    fn first_piece(&self, op: Op, lba: u64, blocks: u32) -> u32 {
        let (max, boundary) = match op {
            Op::Read | Op::Write | Op::Compare | Op::CompareAndWrite => {
                (self.limits.max_rw_blocks, self.limits.boundary_blocks)
            }
            Op::Copy => (self.limits.max_copy_blocks, self.limits.boundary_blocks),
            Op::Unmap => (self.limits.max_unmap_blocks, 0),
            Op::WriteZeroes => (self.limits.max_write_zeroes_blocks, 0),
            Op::Flush | Op::Reset | Op::Abort => (0, 0),
        };
        let mut piece = if max == 0 { blocks } else { blocks.min(max) };
        if boundary != 0 {
            let to_boundary = u64::from(boundary) - lba % u64::from(boundary);
            piece = piece.min(u32::try_from(to_boundary).unwrap_or(u32::MAX));
        }
        piece
    }

    /// True while any parent is here.
    pub(crate) fn active(&self) -> bool {
        self.free.len() < self.parents.len()
    }

    /// Takes a parent in. Gives it back if the lender has no lease left.
    pub(crate) fn start(&mut self, lender: &mut Lender, mut io: Io, emulated: bool) -> Result<(), Io> {
        let bufs = std::mem::replace(&mut io.bufs, Bufs::none());
        let lease = match lender.lend(bufs) {
            Ok(lease) => lease,
            Err(bufs) => {
                io.bufs = bufs;
                return Err(io);
            }
        };
        let (next_lba, left) = (io.lba, io.blocks);
        let status = IoStatus::SUCCESS;
        let parent = Parent { io, lease, next_lba, left, out: 0, status, in_ready: true, emulated };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.parents.push(None);
            (self.parents.len() - 1) as u32
        });
        self.parents[slot as usize] = Some(parent);
        self.ready.push_back(slot);
        Ok(())
    }

    /// The next child to submit, if any parent may send one. Parents take turns.
    pub(crate) fn next_child(&mut self, lender: &mut Lender) -> Option<Io> {
        loop {
            let slot = self.ready.pop_front()?;
            let parent = self.parents[slot as usize].as_ref().expect("only living parents are ready");
            let whole = self.first_piece(parent.io.op, parent.next_lba, parent.left);
            let (segments_max, block_size) = (self.limits.max_segments, self.block_size);
            let parent = self.parents[slot as usize].as_mut().expect("just seen");
            parent.in_ready = false;
            if !parent.may_send() {
                continue;
            }
            let blocks = parent.fit_segments(lender, whole, segments_max, block_size);
            if blocks == 0 {
                // One block alone lies in more segments than the device takes.
                parent.fail(IoStatus::INVALID_FIELD);
                self.note_if_finished(slot);
                continue;
            }
            let child = parent.cut_child(lender, slot, blocks, block_size);
            if parent.may_send() {
                parent.in_ready = true;
                self.ready.push_back(slot);
            }
            return Some(child);
        }
    }

    /// A child came back.
    pub(crate) fn child_done(&mut self, lender: &mut Lender, done: Done) {
        debug_assert!(done.child);
        let finished = done.finish();
        lender.give_back(finished.bufs);
        let slot = finished.tag.0 as u32;
        let parent = self.parents[slot as usize].as_mut().expect("a parent lives while a child is out");
        parent.out -= 1;
        parent.status = parent.status.and(finished.status);
        if parent.may_send() && !parent.in_ready {
            parent.in_ready = true;
            self.ready.push_back(slot);
        }
        self.note_if_finished(slot);
    }

    /// Stops the parent with this tag: no more children; it completes when those that are out have come back.
    pub(crate) fn abort(&mut self, target: Tag) -> bool {
        let is_target = |parent: &Option<Parent>| {
            parent.as_ref().is_some_and(|parent| parent.io.tag == target && !parent.io.child)
        };
        let Some(slot) = self.parents.iter().position(is_target) else { return false };
        self.parents[slot].as_mut().expect("just found").fail(IoStatus::ABORTED);
        self.note_if_finished(slot as u32);
        true
    }

    /// Moves parents that are finished to `ended`, or to `emulated` what is a piece of an emulation here.
    pub(crate) fn take_finished(
        &mut self,
        lender: &mut Lender,
        ended: &mut DoneQueue,
        emulated: &mut DoneQueue,
    ) {
        for slot in self.finished.drain(..) {
            let Parent { mut io, lease, status, emulated: ours, .. } =
                self.parents[slot as usize].take().expect("noted as finished once");
            self.free.push(slot);
            self.ready.retain(|ready| *ready != slot);
            io.bufs = lender.end(lease);
            if ours { &mut *emulated } else { &mut *ended }.push(io.complete(status));
        }
    }

    fn note_if_finished(&mut self, slot: u32) {
        let parent = self.parents[slot as usize].as_ref().expect("only living parents change");
        let over = parent.left == 0 || !parent.status.is_ok();
        if over && parent.out == 0 && !self.finished.contains(&slot) {
            self.finished.push(slot);
        }
    }
}

impl Parent {
    fn may_send(&self) -> bool {
        self.left > 0 && self.out < CHILDREN_MAX && self.status.is_ok()
    }

    fn fail(&mut self, status: IoStatus) {
        self.status = self.status.and(status);
    }

    /// At most `blocks`, and not more than lie in `segments_max` segments. Zero: not even one block does.
    fn fit_segments(&self, lender: &Lender, blocks: u32, segments_max: u16, block_size: u32) -> u32 {
        if segments_max == 0 || !self.io.op.has_data() {
            return blocks;
        }
        let done = u64::from(self.io.blocks - self.left) * u64::from(block_size);
        let (mut skip, mut fit) = (done, 0u64);
        let mut taken = 0;
        for segment in lender.lent(&self.lease).segments() {
            let len = u64::from(segment.len);
            if skip >= len {
                skip -= len;
                continue;
            }
            fit += len - skip;
            skip = 0;
            taken += 1;
            if taken == segments_max {
                break;
            }
        }
        blocks.min(u32::try_from(fit / u64::from(block_size)).unwrap_or(u32::MAX))
    }

    fn cut_child(&mut self, lender: &mut Lender, slot: u32, blocks: u32, block_size: u32) -> Io {
        let bytes = if self.io.op.has_data() { blocks * block_size } else { 0 };
        let bufs = lender.cut(&self.lease, bytes);
        let mut child = Io::new(self.io.op, Tag(u64::from(slot)), self.next_lba, blocks, bufs);
        child.fua = self.io.fua;
        child.child = true;
        child.submitted = self.io.submitted;
        self.next_lba += u64::from(blocks);
        self.left -= blocks;
        self.out += 1;
        child
    }
}
