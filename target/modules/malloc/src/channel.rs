//! Per IO: one copy, made when polled, so that a submit is short and a poll does a bounded amount of work.

use std::collections::VecDeque;
use std::sync::Arc;
use tgt_bdev::{Channel, CopyRange, Cx, Done, DoneQueue, Io, IoStatus, Op, Work};
use tgt_env::memory::Region;

/// Bytes moved per poll, so that one channel does not hold up its reactor: some 5 µs. At least one IO is done.
const BYTES_PER_POLL: u64 = 256 * 1024;

/// A poll that moved more than this reads the clock again: about a microsecond's worth, the precision of latencies.
const BYTES_PER_CLOCK: u64 = 32 * 1024;

/// IO a channel has room for from the start.
const ROOM: usize = 256;

pub(crate) struct MallocChannel {
    memory: Arc<Region>,
    block_size: u64,
    queue: VecDeque<Io>,
    /// What was aborted, and the aborts themselves.
    ended: DoneQueue,
}

impl MallocChannel {
    pub(crate) fn new(memory: Arc<Region>, block_size: u32) -> MallocChannel {
        let (block_size, queue) = (u64::from(block_size), VecDeque::with_capacity(ROOM));
        MallocChannel { memory, block_size, queue, ended: DoneQueue::default() }
    }

    /// Does what the IO asks for. Returns the completion and the bytes that were moved.
    #[inline]
    fn execute(&self, mut io: Io) -> (Done, u64) {
        let (at, bytes) = (io.lba * self.block_size, u64::from(io.blocks) * self.block_size);
        match io.op {
            Op::Read => io.bufs.copy_from_region(&self.memory, at),
            Op::Write => io.bufs.copy_to_region(&self.memory, at),
            Op::WriteZeroes | Op::Unmap => self.memory.fill_zero(at, bytes),
            Op::Compare if !io.bufs.equals_region(&self.memory, at) => {
                return (io.complete(IoStatus::COMPARE_FAILURE), bytes);
            }
            Op::Copy => self.copy(&io, at),
            Op::Flush | Op::Reset | Op::Compare => {}
            Op::Abort | Op::CompareAndWrite => {
                unreachable!("aborts are not queued, compare-and-write is emulated")
            }
        }
        (io.complete(IoStatus::SUCCESS), bytes)
    }

    /// Fills the blocks at `at` with the source ranges, which do not overlap them.
    #[cold]
    fn copy(&self, io: &Io, mut at: u64) {
        for CopyRange { lba, blocks } in CopyRange::all_of(&io.bufs) {
            let bytes = u64::from(blocks) * self.block_size;
            self.memory.move_within(lba * self.block_size, at, bytes);
            at += bytes;
        }
    }

    /// While one block is copied, the next one's place is fetched: random reads wait for memory, not for the copy.
    #[inline]
    fn prefetch_next(&self) {
        if let Some(next) = self.queue.front().filter(|next| next.op == Op::Read) {
            self.memory.prefetch(next.lba * self.block_size);
        }
    }

    /// Ends an IO that still waits for its copy.
    #[cold]
    fn abort(&mut self, io: Io) {
        let target = io.abort_target();
        let victim = self.queue.iter().position(|queued| queued.tag == target);
        let victim = victim.and_then(|index| self.queue.remove(index));
        let found = victim.map(|victim| self.ended.push(victim.complete(IoStatus::ABORTED))).is_some();
        self.ended.push(io.complete(if found { IoStatus::SUCCESS } else { IoStatus::INVALID_FIELD }));
    }
}

impl Channel for MallocChannel {
    #[inline]
    fn submit(&mut self, _cx: &mut Cx, io: Io) -> Result<(), Io> {
        if io.op == Op::Abort {
            self.abort(io);
        } else {
            self.queue.push_back(io);
        }
        Ok(())
    }

    #[inline]
    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        if self.queue.is_empty() && self.ended.is_empty() {
            return Work::Idle;
        }
        done.take_all(&mut self.ended);
        let mut moved = 0;
        while moved < BYTES_PER_POLL {
            let Some(io) = self.queue.pop_front() else { break };
            self.prefetch_next();
            let (ended, bytes) = self.execute(io);
            done.push(ended);
            moved += bytes;
        }
        if moved > BYTES_PER_CLOCK {
            cx.refresh_now();
        }
        Work::Busy
    }
}
