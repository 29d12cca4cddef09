//! The engine's buffers at the client: copies of writes that legs are lent, and what reads brought.

use rmr_proto::BufId;
use tgt_env::bufs::{Bufs, Lease};
use tgt_env::memory::DmaBuf;
use tgt_reactor::Cx;

#[derive(Debug)]
enum Buffer {
    Free,
    /// Copy of a write; `over`: the engine sends it to nobody any more.
    Copy {
        lease: Lease,
        over: bool,
    },
    /// Bytes of an answer.
    Read(Bufs),
}

/// Buffers by the engine's number.
#[derive(Default)]
pub(super) struct Memory {
    buffers: Vec<Buffer>,
    free: Vec<BufId>,
}

impl Memory {
    /// Copies a write's bytes. `None`: no memory now.
    pub(super) fn copy(&mut self, cx: &mut Cx, from: &Bufs) -> Option<BufId> {
        let len = from.len();
        let mut own = Bufs::from(DmaBuf::alloc(len).ok()?);
        own.copy_from_bufs(0, from, 0, len);
        let lease = cx.lender().lend(own).ok()?;
        Some(self.put(Buffer::Copy { lease, over: false }))
    }

    /// A leg's view of a copy.
    pub(super) fn view(&self, cx: &mut Cx, id: BufId) -> Bufs {
        match &self.buffers[id.0 as usize] {
            Buffer::Copy { lease, .. } => cx.lender().view(lease),
            other => unreachable!("{id:?} is sent, and is {other:?}"),
        }
    }

    /// A leg's request has ended.
    pub(super) fn give_back(&mut self, cx: &mut Cx, id: BufId, view: Bufs) {
        cx.lender().give_back(view);
        if let Buffer::Copy { lease, over: true } = &self.buffers[id.0 as usize]
            && cx.lender().away(lease) == 0
        {
            self.end(cx, id);
        }
    }

    /// The write is over for the engine; its memory goes when no leg has it any more.
    pub(super) fn over(&mut self, cx: &mut Cx, id: BufId) {
        match &mut self.buffers[id.0 as usize] {
            Buffer::Copy { lease, .. } if cx.lender().away(lease) == 0 => self.end(cx, id),
            Buffer::Copy { over, .. } => *over = true,
            other => unreachable!("{id:?} is over, and is {other:?}"),
        }
    }

    /// What a read brought.
    pub(super) fn keep(&mut self, bufs: Bufs) -> BufId {
        self.put(Buffer::Read(bufs))
    }

    /// Takes that out again.
    pub(super) fn take(&mut self, id: BufId) -> Bufs {
        self.free.push(id);
        match std::mem::replace(&mut self.buffers[id.0 as usize], Buffer::Free) {
            Buffer::Read(bufs) => bufs,
            other => unreachable!("{id:?} is taken, and is {other:?}"),
        }
    }

    /// Buffers in use.
    pub(super) fn used(&self) -> usize {
        self.buffers.len() - self.free.len()
    }

    fn put(&mut self, buffer: Buffer) -> BufId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.buffers.push(Buffer::Free);
            BufId(self.buffers.len() as u32 - 1)
        });
        self.buffers[id.0 as usize] = buffer;
        id
    }

    fn end(&mut self, cx: &mut Cx, id: BufId) {
        if let Buffer::Copy { lease, .. } = std::mem::replace(&mut self.buffers[id.0 as usize], Buffer::Free)
        {
            drop(cx.lender().end(lease));
            self.free.push(id);
        }
    }
}
