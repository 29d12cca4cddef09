//! Data that is changed on its way: the IOs it is to happen to, and how.

use tgt_bdev::{Bufs, DmaBuf, Done, Io, IoKey, Op};

/// IOs in flight whose data was changed, or will be.
#[derive(Debug, Default)]
pub(crate) struct Corruptions(Vec<One>);

#[derive(Debug)]
struct One {
    key: IoKey,
    how: How,
}

#[derive(Debug)]
enum How {
    /// When it comes back.
    Read { offset: u32, value: u8 },
    /// Already done, in a copy; these are the writer's own buffers.
    Written { own: Bufs },
}

impl Corruptions {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes a write in a copy, and notes a read. An IO shorter than `offset` stays as it is; one that there is no
    /// memory to copy comes back as an error.
    pub(crate) fn begin(&mut self, mut io: Io, offset: u64, value: u8) -> Result<Io, Io> {
        let Some(offset) = u32::try_from(offset).ok().filter(|offset| *offset < io.bufs.len()) else {
            return Ok(io);
        };
        let key = io.key();
        if io.op == Op::Read {
            self.0.push(One { key, how: How::Read { offset, value } });
            return Ok(io);
        }
        let Ok(mut copy) = DmaBuf::alloc(io.bufs.len()) else { return Err(io) };
        io.bufs.copy_to_slice(0, copy.as_mut_slice());
        copy.as_mut_slice()[offset as usize] ^= value;
        let own = std::mem::replace(&mut io.bufs, Bufs::from(copy));
        self.0.push(One { key, how: How::Written { own } });
        Ok(io)
    }

    /// Undoes [`Corruptions::begin`] for an IO that the base did not take.
    pub(crate) fn undo(&mut self, io: &mut Io) {
        if let Some(How::Written { own }) = self.take(io.key()) {
            io.bufs = own;
        }
    }

    /// Changes a read, and gives a writer its own buffers back.
    pub(crate) fn end(&mut self, done: &mut Done) {
        match self.take(done.key()) {
            Some(How::Read { offset, value }) if done.status.is_ok() => {
                let mut byte = [0];
                done.bufs.copy_to_slice(offset, &mut byte);
                done.bufs.copy_from_slice(offset, &[byte[0] ^ value]);
            }
            Some(How::Written { own }) => done.bufs = own,
            Some(How::Read { .. }) | None => {}
        }
    }

    fn take(&mut self, key: IoKey) -> Option<How> {
        let at = self.0.iter().position(|one| one.key == key)?;
        Some(self.0.swap_remove(at).how)
    }
}
