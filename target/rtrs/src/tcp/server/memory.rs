//! Buffers of requests and answers, by number.

use crate::BufId;
use tgt_env::bufs::{Bufs, Lease};
use tgt_env::memory::DmaBuf;
use tgt_reactor::Cx;

/// Where a buffer is.
#[derive(Debug)]
enum Buffer {
    Free,
    /// With us.
    Here(Bufs),
    /// With a stream that fills it, or with the user.
    Away,
    /// An answer, lent to streams that send it; to be freed when the last comes back, if so.
    Lent(Lease, bool),
}

/// Buffers by number.
pub(super) struct Memory {
    buffers: Vec<Buffer>,
    free: Vec<BufId>,
    used: u64,
    max: u64,
}

impl Memory {
    pub(super) fn new(max: u64) -> Self {
        Self { buffers: Vec::new(), free: Vec::new(), used: 0, max }
    }

    /// Bytes that are bound.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Binds a buffer, if there is memory.
    pub(super) fn bind(&mut self, bytes: u32) -> Option<BufId> {
        if self.used + u64::from(bytes) > self.max {
            return None;
        }
        let bufs = Bufs::from(DmaBuf::alloc(bytes).ok()?);
        self.used += u64::from(bufs.len());
        let id = self.free.pop().unwrap_or_else(|| {
            self.buffers.push(Buffer::Free);
            BufId(self.buffers.len() as u32 - 1)
        });
        self.buffers[id.0 as usize] = Buffer::Here(bufs);
        Some(id)
    }

    pub(super) fn take(&mut self, id: BufId) -> Bufs {
        match std::mem::replace(&mut self.buffers[id.0 as usize], Buffer::Away) {
            Buffer::Here(bufs) => bufs,
            other => unreachable!("{id:?} is taken while it is {other:?}"),
        }
    }

    pub(super) fn put(&mut self, id: BufId, bufs: Bufs) {
        self.buffers[id.0 as usize] = Buffer::Here(bufs);
    }

    /// A view of an answer, for a stream to send.
    pub(super) fn view(&mut self, cx: &mut Cx, id: BufId) -> Bufs {
        let place = &mut self.buffers[id.0 as usize];
        if let Buffer::Here(_) = place {
            let Buffer::Here(bufs) = std::mem::replace(place, Buffer::Away) else {
                unreachable!("just seen")
            };
            *place = Buffer::Lent(cx.lender().lend(bufs).expect("fewer leases than buffers"), false);
        }
        match place {
            Buffer::Lent(lease, _) => cx.lender().view(lease),
            other => unreachable!("{id:?} is sent while it is {other:?}"),
        }
    }

    pub(super) fn release(&mut self, cx: &mut Cx, id: BufId) {
        let place = &mut self.buffers[id.0 as usize];
        match std::mem::replace(place, Buffer::Free) {
            Buffer::Here(bufs) => self.used -= u64::from(bufs.len()),
            Buffer::Lent(lease, _) if cx.lender().away(&lease) == 0 => {
                self.used -= u64::from(cx.lender().end(lease).len());
            }
            Buffer::Lent(lease, _) => {
                *place = Buffer::Lent(lease, true);
                return;
            }
            other => unreachable!("{id:?} is released while it is {other:?}"),
        }
        self.free.push(id);
    }

    /// A stream has given its view back.
    pub(super) fn returned(&mut self, cx: &mut Cx, id: BufId) {
        if let Buffer::Lent(lease, true) = &self.buffers[id.0 as usize]
            && cx.lender().away(lease) == 0
        {
            self.release(cx, id);
        }
    }
}
