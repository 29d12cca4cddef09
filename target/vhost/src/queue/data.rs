//! The data of requests: buffers of the target's, copied from and to the guest's memory.

use tgt_bdev::{Bufs, Cx, DmaBuf};
use tgt_guest_memory::GuestMemory;

use crate::request::copy_out;
use crate::ring::{RingFault, Segment};

/// Buffers for the data of one request.
pub(super) enum Filled {
    Ready(Bufs),
    /// There is no memory right now.
    NoMemory,
}

/// Makes and takes apart the buffers of requests.
#[derive(Default)]
pub(super) struct Data {
    /// Room for the parts of a request longer than a buffer can be.
    parts: Vec<DmaBuf>,
}

impl Data {
    /// Buffers of `bytes` bytes, filled with what `from` holds if there is something to write.
    #[inline]
    pub(super) fn lend(
        &mut self,
        cx: &mut Cx,
        bytes: u32,
        memory: &GuestMemory,
        from: Option<&[Segment]>,
    ) -> Result<Filled, RingFault> {
        if bytes == 0 {
            return Ok(Filled::Ready(Bufs::none()));
        }
        if bytes > DmaBuf::MAX_LEN {
            return self.lend_several(cx, bytes, memory, from);
        }
        let Ok(mut buf) = DmaBuf::alloc(bytes) else { return Ok(Filled::NoMemory) };
        if let Some(from) = from {
            copy_out(memory, from, 0, buf.as_mut_slice())?;
        }
        Ok(Filled::Ready(buf.into()))
    }

    #[cold]
    fn lend_several(
        &mut self,
        cx: &mut Cx,
        bytes: u32,
        memory: &GuestMemory,
        from: Option<&[Segment]>,
    ) -> Result<Filled, RingFault> {
        self.parts.clear();
        let mut done = 0;
        while done < bytes {
            let Ok(mut buf) = DmaBuf::alloc((bytes - done).min(DmaBuf::MAX_LEN)) else {
                self.parts.clear();
                return Ok(Filled::NoMemory);
            };
            if let Some(from) = from {
                copy_out(memory, from, u64::from(done), buf.as_mut_slice())?;
            }
            done += buf.len();
            self.parts.push(buf);
        }
        Ok(Filled::Ready(cx.lender().gather(self.parts.drain(..).map(Bufs::from))))
    }

    /// Takes buffers back, having copied what they hold to where it belongs, if it was read.
    #[inline]
    pub(super) fn give_back(
        &mut self,
        cx: &mut Cx,
        bufs: Bufs,
        memory: &GuestMemory,
        into: Option<&[Segment]>,
    ) -> Result<(), RingFault> {
        match (bufs.into_dma(), into) {
            (Ok(buf), Some(into)) => copy_in(memory, into, 0, buf.as_slice()).map(drop),
            (Ok(_), None) => Ok(()),
            (Err(bufs), into) => give_back_several(cx, bufs, memory, into),
        }
    }
}

#[cold]
fn give_back_several(
    cx: &mut Cx,
    bufs: Bufs,
    memory: &GuestMemory,
    into: Option<&[Segment]>,
) -> Result<(), RingFault> {
    let (mut done, mut result) = (0, Ok(()));
    cx.lender().scatter(bufs, |part| {
        // Nothing at all, for requests without data.
        let Ok(buf) = part.into_dma() else { return };
        if let (Some(into), Ok(())) = (into, &result) {
            result = copy_in(memory, into, done, buf.as_slice()).map(drop);
        }
        done += u64::from(buf.len());
    });
    result
}

/// Copies `from` into what `segments` hold, from their byte `skip` on; how much of it there was room for.
pub(super) fn copy_in(
    memory: &GuestMemory,
    segments: &[Segment],
    skip: u64,
    from: &[u8],
) -> Result<u32, RingFault> {
    let (mut skip, mut rest) = (skip, from);
    for segment in segments {
        let len = u64::from(segment.len);
        if rest.is_empty() || skip >= len {
            skip -= len.min(skip);
            continue;
        }
        let (now, later) = rest.split_at(rest.len().min((len - skip) as usize));
        memory.write(segment.at + skip, now)?;
        (skip, rest) = (0, later);
    }
    Ok((from.len() - rest.len()) as u32)
}
