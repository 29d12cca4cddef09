//! Handing IO through to a base, from a first block on: no state, no table, the same values down and up.

use crate::{Channel, Cx, Desc, DoneQueue, Io, IoChannel, Work};

/// The channel of a bdev that is its base, or a part of it.
pub struct Relay {
    base: IoChannel,
    first_block: u64,
}

/// Opens the base for a bdev whose block 0 is the base's `first_block`.
pub fn open_relay(base: &Desc, cx: &mut Cx, first_block: u64) -> Result<Relay, String> {
    let base = base.open_channel(cx).map_err(|error| error.to_string())?;
    Ok(Relay { base, first_block })
}

impl Relay {
    /// Blocks that an IO is shifted by: aborts carry a tag in the place of an address.
    #[inline]
    fn shift(&self, io: &Io) -> u64 {
        if io.op.has_range() { self.first_block } else { 0 }
    }
}

impl Channel for Relay {
    #[inline]
    fn submit(&mut self, cx: &mut Cx, mut io: Io) -> Result<(), Io> {
        let shift = self.shift(&io);
        io.lba += shift;
        self.base.submit(cx, io).map_err(|mut io| {
            io.lba -= shift;
            io
        })
    }

    #[inline]
    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let work = self.base.poll(cx, done);
        // The control side acts on them: `Stack::removing`, `Stack::resized`.
        while self.base.take_event().is_some() {}
        work
    }
}
