//! The channel's side of a pause, and the compare-and-writes that need one: see `quiesce.rs` for the other side.
//!
//! While a pause is in force new IO is held back here, but for aborts and resets: a device that hangs must be reached,
//! and neither changes data. When nothing of the channel is left in the module, in splits or in emulations, it
//! acknowledges the pause. What is held back, what the rate limits hold and compare-and-writes that wait for a pause
//! do not count: they touch nothing until the pause is over, so that two of them cannot wait for each other.
//!
//! A channel with compare-and-writes asks for one pause, and does while it has it (its *tenure*) those that wait then, one after the
//! other, [`TENURE_MAX`] at most; then it lets the next holder in, and asks again if there are more.

use super::{IoChannel, WAITING_MAX};
use crate::bdev::Bdev;
use crate::channel::DoneQueue;
use crate::io::{Io, Op, Tag};
use std::collections::VecDeque;
use tgt_reactor::Cx;
use tgt_status::IoStatus;

/// Compare-and-writes of one tenure: enough that pausing is not the whole cost, few enough that others wait briefly.
const TENURE_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Pausing {
    /// The pause in force when the channel last looked; zero: none.
    number: u64,
    acknowledged: bool,
    held: VecDeque<Io>,
    /// How many of them, from the front, may go on: those that came before the pause in force.
    may_go: usize,
    /// Compare-and-writes that wait for a pause.
    parked: VecDeque<Io>,
    tenure: Tenure,
}

/// ```text
/// None ─ one is parked ─► Asked ─ all is quiet ─► Left ─ done, or none is parked ─► None
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tenure {
    None,
    /// For the pause of this number.
    Asked(u64),
    /// The pause of this number is ours, for so many more compare-and-writes.
    Left(u64, usize),
}

impl Pausing {
    /// Of a channel that was opened while this pause is in force.
    pub(super) fn new(number: u64) -> Pausing {
        Pausing {
            number,
            acknowledged: true,
            held: VecDeque::new(),
            may_go: 0,
            parked: VecDeque::new(),
            tenure: Tenure::None,
        }
    }

    pub(super) fn in_force(&self) -> bool {
        self.number != 0
    }

    /// True if new IO does not pass: a pause, or IO that was held back before it.
    pub(super) fn holds_anything(&self) -> bool {
        self.in_force() || !self.held.is_empty()
    }

    pub(super) fn holds(&self, op: Op) -> bool {
        self.holds_anything() && op != Op::Reset
    }

    pub(super) fn hold(&mut self, io: Io) -> Result<(), Io> {
        if self.held.len() >= WAITING_MAX {
            return Err(io);
        }
        self.held.push_back(io);
        Ok(())
    }

    /// True if a poll has more to do than to look whether the bdev has changed.
    pub(super) fn is_busy(&self) -> bool {
        !self.acknowledged || self.may_go > 0 || self.tenure != Tenure::None
    }

    /// Takes the IO with this tag out.
    pub(super) fn remove(&mut self, bdev: &Bdev, tag: Tag) -> Option<Io> {
        let is_it = |io: &Io| io.tag == tag && !io.child;
        if let Some(index) = self.held.iter().position(is_it) {
            self.may_go -= usize::from(index < self.may_go);
            return self.held.remove(index);
        }
        let index = self.parked.iter().position(is_it)?;
        let victim = self.parked.remove(index);
        self.ask_no_more(bdev);
        victim
    }

    /// The bdev is gone: ends everything. A tenure that has begun ends with its compare-and-write.
    pub(super) fn fail_all(&mut self, bdev: &Bdev, status: IoStatus, ended: &mut DoneQueue) {
        self.may_go = 0;
        self.held.drain(..).chain(self.parked.drain(..)).for_each(|io| ended.push(io.complete(status)));
        self.ask_no_more(bdev);
    }

    /// Gives a pause up that nobody waits for any more.
    fn ask_no_more(&mut self, bdev: &Bdev) {
        if let Tenure::Asked(number) = self.tenure
            && self.parked.is_empty()
        {
            bdev.end_pause(number);
            self.tenure = Tenure::None;
        }
    }

    /// The channel closes: it holds nobody up.
    pub(super) fn close(&mut self, bdev: &Bdev) {
        if let Tenure::Asked(number) | Tenure::Left(number, _) = self.tenure {
            bdev.end_pause(number);
        }
    }
}

impl IoChannel {
    /// Looks which pause is in force. What was held back for the one before goes on first, so that pauses in a row
    /// starve nobody.
    pub(super) fn notice_pause(&mut self, cx: &mut Cx) {
        let number = self.bdev.pause();
        if number == self.pausing.number {
            return;
        }
        self.pausing.number = number;
        self.pausing.acknowledged = number == 0;
        self.pausing.may_go = self.pausing.held.len();
        if self.limited {
            self.open_gate(cx);
        }
    }

    /// Lets go on what was held back before the pause in force. True if any was.
    pub(super) fn let_held_go(&mut self, cx: &mut Cx) -> bool {
        let mut moved = false;
        while self.pausing.may_go > 0 {
            let io = self.pausing.held.pop_front().expect("so many may go");
            self.pausing.may_go -= 1;
            moved = true;
            // The bdev may have shrunk meanwhile.
            if let Err(status) = self.check(&io) {
                self.ended.push(io.complete(status));
            } else if let Err(io) = self.enter(cx, io) {
                self.pausing.held.push_front(io);
                self.pausing.may_go += 1;
                break;
            }
        }
        if moved {
            if !self.pausing.in_force() {
                self.pausing.may_go = self.pausing.held.len();
            }
            self.look_at_limits();
        }
        moved
    }

    /// Takes a compare-and-write that has to wait until nothing else is on the bdev.
    pub(super) fn wait_for_pause(&mut self, cx: &Cx, io: Io) -> Result<(), Io> {
        if self.pausing.parked.len() >= WAITING_MAX {
            return Err(io);
        }
        self.pausing.parked.push_back(io);
        self.ask_for_pause(cx);
        Ok(())
    }

    fn ask_for_pause(&mut self, cx: &Cx) {
        if self.pausing.tenure == Tenure::None && !self.pausing.parked.is_empty() {
            let own = cx.peers()[cx.id().0 as usize].clone();
            self.pausing.tenure = Tenure::Asked(self.bdev.request_pause(own));
        }
    }

    /// Acknowledges the pause in force if it can, and goes on with the channel's own tenure. `surfaced` completions are on
    /// their way to the opener. True if the module got something, or the bdev has to be looked at again.
    pub(super) fn pause_further(&mut self, cx: &mut Cx, surfaced: usize) -> bool {
        let Pausing { number, acknowledged, may_go, .. } = self.pausing;
        if !acknowledged && may_go == 0 {
            let aside = self.pausing.held.len() + self.pausing.parked.len() + self.gate.len();
            if self.in_flight as usize == surfaced + aside {
                self.pausing.acknowledged = true;
                self.bdev.acknowledge_pause(self.id, number);
            }
        }
        self.use_tenure(cx)
    }

    fn use_tenure(&mut self, cx: &mut Cx) -> bool {
        let mut moved = false;
        if let Tenure::Asked(number) = self.pausing.tenure
            && self.bdev.is_quiet(number)
        {
            self.pausing.tenure = Tenure::Left(number, self.pausing.parked.len().min(TENURE_MAX));
        }
        while let Tenure::Left(number, left) = self.pausing.tenure {
            if self.emulations.exclusive() {
                return moved;
            }
            moved = true;
            let next = if left > 0 { self.pausing.parked.pop_front() } else { None };
            let Some(io) = next else {
                self.pausing.tenure = Tenure::None;
                self.bdev.end_pause(number);
                break;
            };
            self.pausing.tenure = Tenure::Left(number, left - 1);
            self.begin_exclusive(cx, io);
        }
        self.ask_for_pause(cx);
        moved
    }

    /// Starts the compare-and-write that has the bdev to itself.
    fn begin_exclusive(&mut self, cx: &mut Cx, io: Io) {
        // The bdev may have shrunk while it waited.
        if io.lba.checked_add(u64::from(io.blocks)).is_none_or(|end| end > self.num_blocks) {
            return self.ended.push(io.complete(IoStatus::LBA_OUT_OF_RANGE));
        }
        self.emulations.enter_exclusive(io);
        self.pump_emulations(cx);
    }
}
