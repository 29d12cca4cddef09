//! Fused pairs: a compare and a write that become one compare-and-write (nvm 2.1.2).
//!
//! ```text
//! compare comes ─► its data ─► Paired ──┐
//!      write comes next ─► its data ────┴─► compare-and-write ─► both answered
//! ```
//! The compare's memory holds the data of both, one behind the other, as the bdev wants it. Until both have all of their
//! data neither is answered: a unit that is still coming needs its place.

use super::Core;
use super::conn::{Conn, Fused, Partner, State};
use super::lanes::LaneNo;
use super::plan::Plan;
use tgt_bdev::Cx;
use tgt_nvme::command::Fuse;
use tgt_nvme::{Command, status};
use tgt_sock::Stream;
use tgt_status::IoStatus;

type Judged = Result<(Plan, LaneNo), IoStatus>;

impl Core {
    /// Looks at what a command is to the one before it. A first that stays alone is ended.
    #[inline]
    pub(super) fn pair(
        &mut self,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        command: &Command,
        judged: Judged,
    ) -> Judged {
        let Some(queue) = &mut conn.queue else { return judged };
        if queue.fused == Fused::None && command.fuse() == Fuse::None {
            return judged;
        }
        let before = std::mem::replace(&mut queue.fused, Fused::None);
        self.pair_seldom(conn, stream, command, before, judged)
    }

    fn pair_seldom(
        &mut self,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        command: &Command,
        before: Fused,
        judged: Judged,
    ) -> Judged {
        match (before, command.fuse()) {
            (Fused::First(first), Fuse::Second) => {
                let told = &conn.slot(first).command;
                let same = |of: &Command| (of.nsid.get(), of.lba(), of.blocks());
                let fits = same(told) == same(command);
                let judged =
                    judged.and_then(|plan| if fits { Ok(plan) } else { Err(IoStatus::INVALID_FIELD) });
                if judged.is_err() {
                    self.first_alone(conn, stream, first, status::ABORTED_FAILED_FUSED);
                } else if let Some(queue) = &mut conn.queue {
                    queue.fused = before;
                }
                judged
            }
            (Fused::Failed, Fuse::Second) => Err(status::ABORTED_FAILED_FUSED),
            (Fused::None, Fuse::Second) => Err(status::ABORTED_MISSING_FUSED),
            (before, fuse) => {
                if let Fused::First(first) = before {
                    self.first_alone(conn, stream, first, status::ABORTED_MISSING_FUSED);
                }
                if let (Fuse::First, Err(_), Some(queue)) = (fuse, &judged, &mut conn.queue) {
                    queue.fused = Fused::Failed;
                }
                judged
            }
        }
    }

    /// A first without a second: it ends now, or when its data is here.
    fn first_alone(&mut self, conn: &mut Conn, stream: &mut Stream<'_>, first: u16, status: IoStatus) {
        let of = conn.slot(first);
        if of.state == State::Receiving {
            of.verdict.get_or_insert(status);
        } else {
            self.finish(conn, stream, first, status);
        }
    }

    /// One of a pair has all of its data. Once both have, they go to the bdev, or end if one of them has failed.
    pub(super) fn settle_pair(&mut self, cx: &mut Cx, conn: &mut Conn, stream: &mut Stream<'_>, slot: u16) {
        conn.slot(slot).state = State::Paired;
        let (first, second) = pair_of(conn, slot);
        let (compare, write) = (&conn.slots[usize::from(first)], &conn.slots[usize::from(second)]);
        if compare.state != State::Paired || write.state != State::Paired {
            return;
        }
        match (compare.verdict, write.verdict) {
            (None, None) => self.go_on(cx, conn, stream, first),
            verdicts => {
                let other = status::ABORTED_FAILED_FUSED;
                self.finish(conn, stream, first, verdicts.0.unwrap_or(other));
                self.finish(conn, stream, second, verdicts.1.unwrap_or(other));
            }
        }
    }

    /// The bdev has said how a pair ended; or it could not be asked.
    pub(super) fn pair_ended(
        &mut self,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        slot: u16,
        status: IoStatus,
    ) {
        let (first, second) = pair_of(conn, slot);
        let other = if status.is_ok() { status } else { status::ABORTED_FAILED_FUSED };
        self.finish(conn, stream, first, status);
        self.finish(conn, stream, second, other);
    }
}

/// A command that was placed takes its part in a pair, if it is of one.
#[inline]
pub(super) fn join(conn: &mut Conn, slot: u16) {
    let Some(queue) = &mut conn.queue else { return };
    match (conn.slots[usize::from(slot)].command.fuse(), queue.fused) {
        (Fuse::First, _) => queue.fused = Fused::First(slot),
        (Fuse::Second, Fused::First(first)) => {
            queue.fused = Fused::None;
            conn.slot(slot).partner = Partner::First(first);
            conn.slot(first).partner = Partner::Second(slot);
        }
        _ => {}
    }
}

/// A first that ends before its second has come fails that too.
pub(super) fn forget_first(conn: &mut Conn, slot: u16) {
    if let Some(queue) = &mut conn.queue
        && queue.fused == Fused::First(slot)
    {
        queue.fused = Fused::Failed;
    }
}

/// Compare and write of a pair, by one of them.
fn pair_of(conn: &Conn, slot: u16) -> (u16, u16) {
    match conn.slots[usize::from(slot)].partner {
        Partner::First(first) => (first, slot),
        Partner::Second(second) => (slot, second),
        Partner::None => unreachable!("asked of one of a pair"),
    }
}
