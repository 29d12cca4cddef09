//! Per IO: the queue of completions, nothing else.

use tgt_bdev::{Channel, Cx, DoneQueue, Io, IoStatus, Op, Work};

/// Completions a channel has room for from the start.
const ROOM: usize = 256;

pub(crate) struct NullChannel {
    ended: DoneQueue,
}

impl NullChannel {
    pub(crate) fn new() -> NullChannel {
        NullChannel { ended: DoneQueue::with_capacity(ROOM) }
    }
}

impl Channel for NullChannel {
    #[inline]
    fn submit(&mut self, _cx: &mut Cx, io: Io) -> Result<(), Io> {
        // Whatever was submitted before has ended already: there is nothing to abort.
        let status = if io.op == Op::Abort { IoStatus::INVALID_FIELD } else { IoStatus::SUCCESS };
        self.ended.push(io.complete(status));
        Ok(())
    }

    #[inline]
    fn poll(&mut self, _cx: &mut Cx, done: &mut DoneQueue) -> Work {
        if self.ended.is_empty() {
            return Work::Idle;
        }
        done.take_all(&mut self.ended);
        Work::Busy
    }
}
