//! One queue pair as its host knows it: which commands are out, and whether what the controller sends may come now. Pure.
//!
//! It moves no data and knows no sockets. Who drives it tells it what was sent and what came, and ends the connection on a [`Fault`].

#[cfg(test)]
mod tests;

use crate::codec::{self, Agreed, Fault, Unit};
use tgt_nvme::Completion;
use tgt_status::IoStatus;

/// Bits of a command's number that name its slot; those above count the uses of the slot.
const SLOT_BITS: u32 = 10;
const SLOT_MASK: u16 = (1 << SLOT_BITS) - 1;

/// Most commands of a queue.
pub const DEPTH_MAX: u16 = 1 << SLOT_BITS;

/// What data a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None, or all of it is in its capsule.
    Nothing,
    /// So many bytes from the controller, no more.
    Read(u32),
    /// So many bytes to the controller, when it asks for them.
    Write(u32),
}

/// What the driver is to do with what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// `length` bytes follow: they go to `offset` of the command's memory, and a digest follows them if data has digests. Then call
    /// [`Queue::filled`].
    Take {
        /// Slot of the command.
        slot: u16,
        /// First byte.
        offset: u32,
        /// Bytes.
        length: u32,
        /// The command has succeeded with them.
        success: bool,
    },
    /// Send `length` bytes from `offset` of the command's memory, under `tag`. Then call [`Queue::gave`] when they have left.
    Give {
        /// Slot of the command.
        slot: u16,
        /// The controller's number for it.
        tag: u16,
        /// First byte.
        offset: u32,
        /// Bytes.
        length: u32,
    },
    /// The command has ended. Release its slot when its memory is back.
    End {
        /// Slot of the command.
        slot: u16,
        /// What the controller said of it.
        status: IoStatus,
        /// What the command answers: dwords 0 and 1 of its completion.
        answer: u64,
    },
    /// The controller has ended the connection.
    Terminated {
        /// Why, as a number (tcp figure 20).
        error: u16,
    },
}

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Out: the controller has it.
    Out,
    /// Its data comes in at this moment; whether it has succeeded with it.
    Filling {
        success: bool,
    },
    /// Ended; not released yet.
    Over,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    state: State,
    want: Want,
    /// How often it was used.
    uses: u16,
    /// Bytes that came, or that were asked for.
    moved: u32,
    /// Bytes that have left.
    left: u32,
    /// The controller has said that no more data comes.
    last: bool,
    /// Some of its data was damaged on its way.
    damaged: bool,
}

/// Commands of one connection.
#[derive(Debug)]
pub struct Queue {
    agreed: Agreed,
    slots: Box<[Slot]>,
    free: Vec<u16>,
}

impl Queue {
    /// With room for `depth` commands, at most [`DEPTH_MAX`].
    #[must_use]
    pub fn new(depth: u16) -> Queue {
        let depth = depth.clamp(1, DEPTH_MAX);
        let fresh = Slot {
            state: State::Free,
            want: Want::Nothing,
            uses: 0,
            moved: 0,
            left: 0,
            last: false,
            damaged: false,
        };
        let slots = vec![fresh; usize::from(depth)].into_boxed_slice();
        Queue { agreed: Agreed::NOTHING, slots, free: (0..depth).rev().collect() }
    }

    /// A new connection: nothing is out on it. `agreed` holds from its first command on.
    pub fn begin(&mut self, agreed: Agreed) {
        self.agreed = agreed;
        for slot in &mut self.slots {
            slot.state = State::Free;
        }
        self.free.clear();
        self.free.extend((0..self.slots.len() as u16).rev());
    }

    /// What is agreed on this connection.
    #[must_use]
    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Commands that are out, or not released.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A slot that no command has.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// A command goes out: its slot. `None`: as many are out as may be.
    pub fn start(&mut self, want: Want) -> Option<u16> {
        let at = self.free.pop()?;
        let slot = &mut self.slots[usize::from(at)];
        let uses = slot.uses.wrapping_add(1);
        *slot = Slot { state: State::Out, want, uses, moved: 0, left: 0, last: false, damaged: false };
        Some(at)
    }

    /// The number by which the controller knows the command of a slot.
    #[must_use]
    pub fn cid(&self, slot: u16) -> u16 {
        self.slots[usize::from(slot)].uses << SLOT_BITS | slot
    }

    /// The command's memory is back: its slot may be used again.
    ///
    /// # Panics
    /// If the command has not ended.
    pub fn release(&mut self, slot: u16) {
        let state = &mut self.slots[usize::from(slot)].state;
        assert_eq!(*state, State::Over, "a slot is released when its command has ended");
        *state = State::Free;
        self.free.push(slot);
    }

    /// Judges what stands at the front of `bytes`: what to do, and how many bytes to consume first. `None`: more bytes are needed.
    ///
    /// # Errors
    /// The controller may not say that now: the connection is to end. Nothing has changed.
    pub fn judge(&mut self, bytes: &[u8]) -> Result<Option<(Act, usize)>, Fault> {
        let Some((unit, head)) = codec::open(bytes, &self.agreed)? else { return Ok(None) };
        let act = match unit {
            Unit::Response(completion) => self.ended(completion)?,
            Unit::Data { cid, offset, length, last, success } => {
                self.data(cid, offset, length, last, success)?
            }
            Unit::Ready { cid, tag, offset, length } => self.ready(cid, tag, offset, length)?,
            Unit::Terminated { error, .. } => Act::Terminated { error },
        };
        Ok(Some((act, head)))
    }

    fn find(&mut self, cid: u16) -> Result<(u16, &mut Slot), Fault> {
        let at = cid & SLOT_MASK;
        let slot = self.slots.get_mut(usize::from(at));
        let mine = |slot: &&mut Slot| slot.state == State::Out && slot.uses << SLOT_BITS | at == cid;
        slot.filter(mine).map(|slot| (at, slot)).ok_or(Fault::sequence("of a command that is not out"))
    }

    fn ended(&mut self, completion: Completion) -> Result<Act, Fault> {
        let mut status = completion.status();
        let (at, slot) = self.find(completion.cid.get())?;
        if status.is_ok() {
            match slot.want {
                Want::Read(bytes) if slot.moved < bytes => {
                    return Err(Fault::sequence("a read that succeeds with data missing"));
                }
                Want::Write(bytes) if slot.left < bytes => {
                    return Err(Fault::sequence("a write that succeeds before its data has left"));
                }
                _ if slot.damaged => status = tgt_nvme::status::TRANSIENT_TRANSPORT_ERROR,
                _ => {}
            }
        }
        slot.state = State::Over;
        let answer = u64::from(completion.dw1.get()) << 32 | u64::from(completion.dw0.get());
        Ok(Act::End { slot: at, status, answer })
    }

    fn data(&mut self, cid: u16, offset: u32, length: u32, last: bool, success: bool) -> Result<Act, Fault> {
        let (at, slot) = self.find(cid)?;
        let Want::Read(bytes) = slot.want else {
            return Err(Fault::sequence("data for a command that reads nothing"));
        };
        if slot.last {
            return Err(Fault::sequence("data behind the last of its command"));
        }
        if offset != slot.moved {
            return Err(Fault::range("data that is not the next of its command"));
        }
        if length > bytes - slot.moved {
            return Err(Fault::range("more data than the command reads"));
        }
        if success && slot.moved + length < bytes {
            return Err(Fault::sequence("a read that succeeds with data missing"));
        }
        (slot.moved, slot.last) = (slot.moved + length, last);
        slot.state = State::Filling { success };
        Ok(Act::Take { slot: at, offset, length, success })
    }

    fn ready(&mut self, cid: u16, tag: u16, offset: u32, length: u32) -> Result<Act, Fault> {
        let (at, slot) = self.find(cid)?;
        let Want::Write(bytes) = slot.want else {
            return Err(Fault::sequence("data is asked for that no command has"));
        };
        if offset != slot.moved {
            return Err(Fault::range("data is asked for that is not the next of its command"));
        }
        if length == 0 || length > bytes - slot.moved {
            return Err(Fault::range("more data is asked for than the command has, or none"));
        }
        slot.moved += length;
        Ok(Act::Give { slot: at, tag, offset, length })
    }

    /// The data of [`Act::Take`] is in its place; `intact`: its digest is right, or there is none. If the command has succeeded with it,
    /// how it ended: release its slot.
    ///
    /// # Panics
    /// If no data was to come for the slot.
    pub fn filled(&mut self, slot: u16, intact: bool) -> Option<IoStatus> {
        let slot = &mut self.slots[usize::from(slot)];
        let State::Filling { success } = slot.state else { panic!("data for a slot that awaits none") };
        slot.damaged |= !intact;
        if !success {
            slot.state = State::Out;
            return None;
        }
        slot.state = State::Over;
        let damaged = tgt_nvme::status::TRANSIENT_TRANSPORT_ERROR;
        Some(if slot.damaged { damaged } else { IoStatus::SUCCESS })
    }

    /// `bytes` of the command's data have left for the controller.
    pub fn gave(&mut self, slot: u16, bytes: u32) {
        self.slots[usize::from(slot)].left += bytes;
    }
}
