//! Requests of channels: in, and out again.

use super::{Op, Pool, Pools};
use rmr_engine::client::{ClientEvent as Event, Request};
use rmr_engine::{Completion, IoError};
use rmr_proto::{BlockRange, BufId, IoOp};
use std::cell::RefCell;
use std::rc::Rc;
use tgt_bdev::{Channel, DoneQueue, Io, IoStatus, Op as Opcode};
use tgt_reactor::{Cx, Work};
use uuid::Uuid;

impl Pool {
    /// Takes a request. `Err(io)`: not now.
    fn take(&mut self, cx: &mut Cx, channel: u32, io: Io) -> Result<(), Io> {
        if self.closing {
            self.finish(channel, io, IoStatus::ABORTED);
            return Ok(());
        }
        let Some(engine) = &self.engine else { return Err(io) };
        if engine.under_way() >= self.config.requests_max {
            return Err(io);
        }
        let op = match io.op {
            Opcode::Read => IoOp::Read,
            Opcode::Write if io.fua => IoOp::WriteFua,
            Opcode::Write => IoOp::Write,
            Opcode::WriteZeroes => IoOp::Zero { unmap: false },
            Opcode::Unmap => IoOp::Zero { unmap: true },
            Opcode::Flush => IoOp::Flush,
            _ => {
                self.finish(channel, io, IoStatus::INVALID_OPCODE);
                return Ok(());
            }
        };
        let copy = match op {
            IoOp::Write | IoOp::WriteFua => match self.memory.copy(cx, &io.bufs) {
                Some(copy) => Some(copy),
                None => return Err(io),
            },
            _ => None,
        };
        let range = match op {
            IoOp::Flush => BlockRange::default(),
            _ => BlockRange { first: io.lba, count: io.blocks },
        };
        let deadline =
            self.io_timeout.map_or(u64::MAX, |timeout| cx.now().as_ns() + timeout.as_nanos() as u64);
        let user = u64::from(self.ops.put(Op { io, channel, copy }));
        self.tell(cx, Event::Submit(Request { user, op, range, buf: copy, deadline }));
        Ok(())
    }

    /// The engine ends a request.
    pub(super) fn complete(&mut self, cx: &mut Cx, user: u64, result: Completion, buf: Option<BufId>) {
        let Op { mut io, channel, copy } = self.ops.take(user as u32);
        if let Some(copy) = copy {
            self.memory.over(cx, copy);
        }
        let read = buf.map(|buf| self.memory.take(buf));
        let status = match result {
            Ok(()) if io.op == Opcode::Read => match read {
                Some(read) if read.len() == io.bufs.len() => {
                    io.bufs.copy_from_bufs(0, &read, 0, read.len());
                    IoStatus::SUCCESS
                }
                // A bug of ours: rather no bytes than wrong ones.
                other => {
                    let got = other.map_or(0, |read| read.len());
                    tracing::error!(pool = %self.name, got, due = io.bufs.len(), "a read ends without its bytes");
                    IoStatus::INTERNAL
                }
            },
            Ok(()) => IoStatus::SUCCESS,
            Err(IoError::Deadline) => IoStatus::NAMESPACE_NOT_READY,
            Err(IoError::Fenced) => IoStatus::RESERVATION_CONFLICT,
            Err(IoError::Unreadable) => IoStatus::UNRECOVERED_READ_ERROR,
            Err(IoError::BadRange) => IoStatus::LBA_OUT_OF_RANGE,
        };
        self.finish(channel, io, status);
    }

    pub(super) fn finish(&mut self, channel: u32, io: Io, status: IoStatus) {
        let done = io.complete(status);
        match self.channels.get_mut(channel as usize).and_then(Option::as_mut) {
            Some(queue) => queue.push(done),
            // Channels wait for their requests before they go; nobody is left to be told.
            None => drop(done.finish()),
        }
    }
}

/// A way to a pool, on its home reactor.
pub(super) struct PoolChannel {
    pool: Rc<RefCell<Pool>>,
    no: u32,
}

impl PoolChannel {
    /// # Errors
    /// If the pool is not on this reactor.
    pub(super) fn open(cx: &mut Cx, pool: Uuid) -> Result<Self, String> {
        let Some(pool) = Pools::of(cx).get(pool) else {
            return Err(format!("pool {pool} is not open on {}", cx.id()));
        };
        let no = {
            let channels = &mut pool.borrow_mut().channels;
            let no = channels.iter().position(Option::is_none).unwrap_or(channels.len());
            if no == channels.len() {
                channels.push(None);
            }
            channels[no] = Some(DoneQueue::with_capacity(256));
            no as u32
        };
        Ok(Self { pool, no })
    }
}

impl Channel for PoolChannel {
    #[inline]
    fn submit(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io> {
        self.pool.borrow_mut().take(cx, self.no, io)
    }

    #[inline]
    fn poll(&mut self, _cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let mut pool = self.pool.borrow_mut();
        let Some(queue) = pool.channels[self.no as usize].as_mut() else { return Work::Idle };
        if queue.is_empty() {
            return Work::Idle;
        }
        done.take_all(queue);
        Work::Busy
    }
}

impl Drop for PoolChannel {
    fn drop(&mut self) {
        self.pool.borrow_mut().channels[self.no as usize] = None;
    }
}
