//! Compare, compare-and-write and copy for devices that only read and write.
//!
//! ```text
//! waiting ─► running:  compare            read, compare ─┐ per piece
//!                      compare-and-write  read, compare ─┐ per piece, then write ─┐ per piece
//!                      copy               read, write ───┐ per piece
//!            one piece of each is out at a time ─► child_done ─► the next piece, or the end
//! ```
//! A piece is at most 128 KiB and lies in a buffer of its own, from the reactor's pool. A compare-and-write comes here
//! when its blocks are locked: see `io_channel/exclusive.rs`. One that fails or is stopped while it writes has written
//! a part, as any write.

use crate::channel::DoneQueue;
use crate::copy::source_of;
use crate::io::{Done, Io, Op, Tag};
use std::collections::VecDeque;
use tgt_env::bufs::Bufs;
use tgt_env::memory::DmaBuf;
use tgt_status::IoStatus;

/// Longest piece.
pub(crate) const PIECE_BYTES: u32 = 128 * 1024;

/// Emulations of one channel that run at a time; others wait.
pub(crate) const RUNNING_MAX: usize = 8;

/// Tells a piece of an emulation from a child of a split: set in its tag.
const EMULATED: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct Emulations {
    block_size: u32,
    slots: [Option<Running>; RUNNING_MAX],
    running: usize,
    /// Slots that have a piece to send, each once.
    ready: VecDeque<u8>,
    waiting: VecDeque<Waiting>,
    /// A compare-and-write runs for which the channel itself has locked the blocks.
    exclusive: bool,
}

#[derive(Debug)]
struct Waiting {
    io: Io,
    exclusive: bool,
}

#[derive(Debug)]
struct Running {
    io: Io,
    exclusive: bool,
    step: Step,
    /// Blocks that are done with, in this step or, for a copy, in both.
    at: u32,
    /// Blocks of the piece that is in hand.
    piece: u32,
    /// What was read; none while it is out.
    buf: Bufs,
    status: IoStatus,
    out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Write,
}

impl Emulations {
    pub(crate) fn new(block_size: u32) -> Emulations {
        Emulations {
            block_size,
            slots: [const { None }; RUNNING_MAX],
            running: 0,
            ready: VecDeque::with_capacity(RUNNING_MAX),
            waiting: VecDeque::new(),
            exclusive: false,
        }
    }

    /// Whether a child that came back is a piece of an emulation.
    pub(crate) fn is_piece(done: &Done) -> bool {
        done.tag.0 & EMULATED != 0
    }

    /// True while there is any.
    pub(crate) fn active(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }

    /// True while a compare-and-write runs that entered as exclusive.
    pub(crate) fn exclusive(&self) -> bool {
        self.exclusive
    }

    /// Takes an IO in, or gives it back if `waiting_max` wait already.
    pub(crate) fn enter(&mut self, io: Io, waiting_max: usize) -> Result<(), Io> {
        if self.waiting.len() >= waiting_max {
            return Err(io);
        }
        self.waiting.push_back(Waiting { io, exclusive: false });
        Ok(())
    }

    /// Takes a compare-and-write whose blocks the channel itself has locked; one at a time.
    pub(crate) fn enter_exclusive(&mut self, io: Io) {
        debug_assert!(!self.exclusive && io.op == Op::CompareAndWrite);
        self.exclusive = true;
        self.waiting.push_front(Waiting { io, exclusive: true });
    }

    /// The next piece to submit, if there is one: a child whose tag is this table's.
    pub(crate) fn next_child(&mut self, num_blocks: u64, ended: &mut DoneQueue) -> Option<Io> {
        self.start_waiting();
        loop {
            let slot = self.ready.pop_front()?;
            let running = self.slots[usize::from(slot)].as_mut().expect("only what runs is ready");
            let sent = match running.status {
                IoStatus::SUCCESS => running.send(u64::from(slot) | EMULATED, self.block_size, num_blocks),
                stopped => Err(stopped),
            };
            match sent {
                Ok(child) => return Some(child),
                Err(status) => self.end(slot, status, ended),
            }
            self.start_waiting();
        }
    }

    /// A piece came back.
    pub(crate) fn child_done(&mut self, done: Done, ended: &mut DoneQueue) {
        let finished = done.finish();
        let slot = (finished.tag.0 & !EMULATED) as u8;
        let running = self.slots[usize::from(slot)].as_mut().expect("it runs while a piece is out");
        (running.out, running.buf) = (false, finished.bufs);
        match running.piece_done(running.status.and(finished.status), self.block_size) {
            None => self.ready.push_back(slot),
            Some(status) => self.end(slot, status, ended),
        }
    }

    /// Stops the IO with this tag: at once if it waits, otherwise when its piece has come back.
    pub(crate) fn abort(&mut self, target: Tag, ended: &mut DoneQueue) -> bool {
        let is_target = |io: &Io| io.tag == target && !io.child;
        if let Some(index) = self.waiting.iter().position(|waiting| is_target(&waiting.io)) {
            let Waiting { io, exclusive } = self.waiting.remove(index).expect("just found");
            self.exclusive &= !exclusive;
            ended.push(io.complete(IoStatus::ABORTED));
            return true;
        }
        let running = self.slots.iter_mut().flatten().find(|running| is_target(&running.io));
        running.map(|running| running.status = running.status.and(IoStatus::ABORTED)).is_some()
    }

    /// The bdev is gone: what waits ends now, what runs when its piece has come back.
    pub(crate) fn fail_all(&mut self, status: IoStatus, ended: &mut DoneQueue) {
        while let Some(Waiting { io, exclusive }) = self.waiting.pop_front() {
            self.exclusive &= !exclusive;
            ended.push(io.complete(status));
        }
        self.slots.iter_mut().flatten().for_each(|running| running.status = running.status.and(status));
    }

    fn start_waiting(&mut self) {
        while self.running < RUNNING_MAX
            && let Some(Waiting { io, exclusive }) = self.waiting.pop_front()
        {
            let slot = self.slots.iter().position(Option::is_none).expect("fewer run than there are slots");
            let (buf, status) = (Bufs::none(), IoStatus::SUCCESS);
            let running =
                Running { io, exclusive, step: Step::Read, at: 0, piece: 0, buf, status, out: false };
            self.slots[slot] = Some(running);
            self.running += 1;
            self.ready.push_back(slot as u8);
        }
    }

    fn end(&mut self, slot: u8, status: IoStatus, ended: &mut DoneQueue) {
        let running = self.slots[usize::from(slot)].take().expect("it runs until now");
        debug_assert!(!running.out);
        self.running -= 1;
        self.exclusive &= !running.exclusive;
        ended.push(running.io.complete(status));
    }
}

impl Running {
    /// The next piece, or the status with which it all ends.
    fn send(&mut self, tag: u64, block_size: u32, num_blocks: u64) -> Result<Io, IoStatus> {
        let (op, lba) = self.place(PIECE_BYTES / block_size)?;
        // The bdev may have shrunk since the whole was checked.
        if lba.checked_add(u64::from(self.piece)).is_none_or(|end| end > num_blocks) {
            return Err(IoStatus::LBA_OUT_OF_RANGE);
        }
        let bytes = self.piece * block_size;
        let mut buf = std::mem::replace(&mut self.buf, Bufs::none());
        if buf.len() != bytes {
            buf = DmaBuf::alloc(bytes).map(Bufs::from).map_err(|_| IoStatus::NAMESPACE_NOT_READY_RETRY)?;
        }
        if self.io.op == Op::CompareAndWrite && op == Op::Write {
            buf.copy_from_bufs(0, &self.io.bufs, (self.io.blocks + self.at) * block_size, bytes);
        }
        let mut child = Io::new(op, Tag(tag), lba, self.piece, buf);
        (child.child, child.submitted) = (true, self.io.submitted);
        child.fua = self.io.fua && op == Op::Write;
        self.out = true;
        Ok(child)
    }

    /// Operation and first block of the next piece, whose length is noted.
    fn place(&mut self, piece_max: u32) -> Result<(Op, u64), IoStatus> {
        let left = (self.io.blocks - self.at).min(piece_max);
        let target = self.io.lba + u64::from(self.at);
        match (self.io.op, self.step) {
            (Op::Copy, Step::Read) => {
                let source = source_of(&self.io.bufs, self.at).ok_or(IoStatus::INVALID_FIELD)?;
                self.piece = left.min(source.blocks);
                Ok((Op::Read, source.lba))
            }
            // What was read, as long as it was.
            (Op::Copy, Step::Write) => Ok((Op::Write, target)),
            (_, Step::Read) => {
                self.piece = left;
                Ok((Op::Read, target))
            }
            (_, Step::Write) => {
                self.piece = left;
                Ok((Op::Write, target))
            }
        }
    }

    /// Whether the piece that was read is what the opener expects.
    fn piece_matches(&self, block_size: u32) -> bool {
        self.buf.equals(0, &self.io.bufs, self.at * block_size, self.piece * block_size)
    }

    /// What follows the piece in hand: the next one, or the end.
    fn piece_done(&mut self, status: IoStatus, block_size: u32) -> Option<IoStatus> {
        if !status.is_ok() {
            return Some(status);
        }
        if self.io.op == Op::Copy && self.step == Step::Read {
            self.step = Step::Write;
            return None;
        }
        if self.step == Step::Read && !self.piece_matches(block_size) {
            return Some(IoStatus::COMPARE_FAILURE);
        }
        self.at += self.piece;
        if self.at < self.io.blocks {
            if self.io.op == Op::Copy {
                self.step = Step::Read;
            }
            return None;
        }
        if self.io.op == Op::CompareAndWrite && self.step == Step::Read {
            (self.step, self.at) = (Step::Write, 0);
            return None;
        }
        Some(IoStatus::SUCCESS)
    }
}
