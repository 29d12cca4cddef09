//! IO commands: to their bdev, and back.

use super::Core;
use super::conn::{Conn, Partner, Phase, Slot, State};
use super::lanes::LaneNo;
use super::plan::{self, Inflow, Kind, Plan, RANGE};
use crate::model::QueueStats;
use tgt_bdev::{Bufs, Cx, Done, Io, Op, Tag};
use tgt_nvme::command::DsmRange;
use tgt_nvme::zerocopy::FromBytes;
use tgt_nvme::{Command, status};
use tgt_sock::{Group, Stream};
use tgt_status::IoStatus;

/// Marks the tag of a request to abort: whose it was does not matter when it ends.
const ABORT: u64 = 1 << 31;

/// Place of the connection in the upper half, of the command in the lower.
fn tag(conn: &Conn, slot: u16) -> Tag {
    Tag(u64::from(conn.place()) << 32 | u64::from(slot))
}

impl Core {
    /// What a command comes to, and on which lane.
    #[inline]
    pub(super) fn judge(
        &self,
        conn: &Conn,
        command: &Command,
        data: u32,
    ) -> Result<(Plan, LaneNo), IoStatus> {
        let queue = conn.queue.as_ref().ok_or(status::COMMAND_SEQUENCE_ERROR)?;
        let view = queue.view.ok_or(status::COMMAND_SEQUENCE_ERROR)?;
        let found = self.lanes.find(view, command.nsid.get());
        let (lane, group) = found.ok_or(status::INVALID_NAMESPACE)?;
        if let Some(listener) = &queue.ana {
            listener.admits(group)?;
        }
        let geometry = self.lanes.geometry(lane, self.options.max_io_size);
        let plan = plan::plan(command, geometry.ok_or(status::INVALID_NAMESPACE)?, data)?;
        Ok((plan, lane))
    }

    /// Gives a command the memory it needs, if it has none. `false`: there is none now.
    pub(super) fn give_memory(&mut self, conn: &mut Conn, slot: u16) -> bool {
        let (home, _) = conn.home(slot);
        if home != slot {
            return true;
        }
        let of = conn.slot(slot);
        let bytes = match of.plan.kind {
            Kind::Verify => verify_piece(self.options.max_io_size, &self.lanes, of),
            _ => of.plan.bytes,
        };
        if bytes == 0 || !of.bufs.is_empty() {
            return true;
        }
        let Some(mut bufs) = self.memory.take(bytes) else { return false };
        if !of.stash.is_empty() {
            bufs.copy_from_slice(0, &of.stash);
            of.filled = of.stash.len() as u32;
            of.stash = Vec::new();
        }
        of.bufs = bufs;
        true
    }

    /// The next step of a command that waits or has all of its data.
    pub(super) fn go_on(&mut self, cx: &mut Cx, conn: &mut Conn, stream: &mut Stream<'_>, slot: u16) {
        let Some(queue) = &conn.queue else { return };
        let (over, held) = (queue.life.is_over(), !queue.life.fence().is_open());
        if over {
            // Dead, and not buried yet: it stays where it is, and is thrown away with the queue.
            return;
        }
        if !self.give_memory(conn, slot) {
            return self.let_wait(conn, slot);
        }
        let of = conn.slot(slot);
        if of.plan.inflow == Inflow::Requested && of.filled < of.plan.bytes {
            return self.request_data(conn, stream, slot);
        }
        if held {
            return self.let_wait(conn, slot);
        }
        if let Err(status) = self.may_start(conn, slot) {
            return self.end(conn, stream, slot, status);
        }
        match self.next_io(conn, slot) {
            Step::Io(io) => self.submit(cx, conn, slot, io),
            Step::End(status) => self.end(conn, stream, slot, status),
        }
    }

    /// Ends a command, and the other one of its pair if it has one.
    fn end(&mut self, conn: &mut Conn, stream: &mut Stream<'_>, slot: u16, status: IoStatus) {
        match conn.slot(slot).partner {
            Partner::None => self.finish(conn, stream, slot, status),
            Partner::First(_) | Partner::Second(_) => self.pair_ended(conn, stream, slot, status),
        }
    }

    pub(super) fn let_wait(&mut self, conn: &mut Conn, slot: u16) {
        conn.slot(slot).state = State::Waiting;
        conn.waiting.push_back(slot);
        if !std::mem::replace(&mut conn.listed, true) {
            self.waiting.push_back(conn.no);
        }
    }

    /// Its namespace may have gone, or become inaccessible over this path, since the command came.
    #[inline]
    fn may_start(&self, conn: &Conn, slot: u16) -> Result<(), IoStatus> {
        let of = &conn.slots[usize::from(slot)];
        let queue = conn.queue.as_ref().ok_or(status::INVALID_NAMESPACE)?;
        let found = queue.view.and_then(|view| self.lanes.find(view, of.command.nsid.get()));
        let (_, group) = found.filter(|(lane, _)| *lane == of.lane).ok_or(status::INVALID_NAMESPACE)?;
        queue.ana.as_ref().map_or(Ok(()), |listener| listener.admits(group))
    }

    fn submit(&mut self, cx: &mut Cx, conn: &mut Conn, slot: u16, io: Io) {
        let of = conn.slot(slot);
        of.state = State::InBdev;
        let lane = of.lane;
        conn.in_bdev += 1;
        self.lanes.submit(cx, lane, io);
    }

    /// What the bdev is asked next for a command.
    fn next_io(&self, conn: &mut Conn, slot: u16) -> Step {
        let tag = tag(conn, slot);
        let of = conn.slot(slot);
        let Plan { kind, lba, blocks, fua, .. } = of.plan;
        let op = match kind {
            Kind::Read => Op::Read,
            Kind::Write => Op::Write,
            Kind::Compare => Op::Compare,
            Kind::Zeroes => Op::WriteZeroes,
            Kind::FusedCompare | Kind::FusedWrite => Op::CompareAndWrite,
            Kind::Flush => return self.next_flush(of, tag),
            Kind::Ranges { count, deallocate } => return self.next_range(of, tag, count, deallocate),
            Kind::Verify => return self.next_verify(of, tag),
        };
        let mut io = Io::new(op, tag, lba, blocks, std::mem::replace(&mut of.bufs, Bufs::none()));
        io.fua = fua && op.is_write();
        Step::Io(io)
    }

    /// A bdev that cannot flush has nothing to flush.
    fn next_flush(&self, of: &Slot, tag: Tag) -> Step {
        if !self.lanes.geometry(of.lane, 0).is_some_and(|geometry| geometry.ops.contains(Op::Flush)) {
            return Step::End(IoStatus::SUCCESS);
        }
        Step::Io(Io::new(Op::Flush, tag, 0, 0, Bufs::none()))
    }

    /// The next range that has blocks.
    fn next_range(&self, of: &mut Slot, tag: Tag, count: u16, deallocate: bool) -> Step {
        let geometry = self.lanes.geometry(of.lane, 0);
        if !deallocate || !geometry.is_some_and(|geometry| geometry.ops.contains(Op::Unmap)) {
            return Step::End(IoStatus::SUCCESS);
        }
        while of.cursor < count.into() {
            let mut bytes = [0; RANGE as usize];
            of.bufs.copy_to_slice(of.cursor * RANGE, &mut bytes);
            of.cursor += 1;
            let range = DsmRange::read_from_bytes(&bytes).expect("16 bytes");
            if range.blocks.get() > 0 {
                return Step::Io(Io::new(Op::Unmap, tag, range.lba.get(), range.blocks.get(), Bufs::none()));
            }
        }
        Step::End(IoStatus::SUCCESS)
    }

    /// The next piece to be read and thrown away.
    fn next_verify(&self, of: &mut Slot, tag: Tag) -> Step {
        let Some(geometry) = self.lanes.geometry(of.lane, 0) else {
            return Step::End(status::INVALID_NAMESPACE);
        };
        let left = of.plan.blocks - of.cursor;
        if left == 0 {
            return Step::End(IoStatus::SUCCESS);
        }
        let piece = of.bufs.len() / geometry.block_size;
        if left < piece {
            // The last one is shorter than its memory, and a read fills all of its memory: the blocks before it are read again.
            let lba = of.plan.lba + u64::from(of.plan.blocks - piece);
            of.cursor = of.plan.blocks;
            return Step::Io(Io::new(
                Op::Read,
                tag,
                lba,
                piece,
                std::mem::replace(&mut of.bufs, Bufs::none()),
            ));
        }
        let lba = of.plan.lba + u64::from(of.cursor);
        of.cursor += piece;
        Step::Io(Io::new(Op::Read, tag, lba, piece, std::mem::replace(&mut of.bufs, Bufs::none())))
    }

    /// A bdev gives an IO back.
    #[inline]
    pub(super) fn completed(&mut self, cx: &mut Cx, group: &mut Group, done: Done) {
        let finished = done.finish();
        let tag = finished.tag.0;
        if tag & ABORT != 0 {
            return;
        }
        let mut conn = self.conns.take_place((tag >> 32) as u32);
        conn.in_bdev -= 1;
        let slot = tag as u16;
        let of = conn.slot(slot);
        assert_eq!(of.state, State::InBdev, "a bdev gives back what it has");
        of.state = State::Waiting;
        match (group.stream(conn.stream), conn.phase) {
            (Some(mut stream), Phase::Live) => {
                self.ended(cx, &mut conn, &mut stream, slot, finished.status, finished.bufs);
                self.conns.put(conn);
            }
            _ => {
                // Nobody hears how it ended; ranges are looked at through memory that stayed here.
                self.memory.give(finished.bufs);
                let rest = conn.release(slot);
                self.memory.give(rest);
                self.reap(conn);
            }
        }
    }

    #[inline]
    fn ended(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        slot: u16,
        status: IoStatus,
        bufs: Bufs,
    ) {
        let kind = conn.slot(slot).plan.kind;
        if status.is_ok() {
            count(conn, slot);
        }
        match kind {
            Kind::Read if status.is_ok() => {
                self.respond_read(conn, stream, slot, bufs);
                // Its memory is on its way.
                let _none = conn.release(slot);
                self.counts.completed += 1;
            }
            Kind::Ranges { .. } | Kind::Verify if status.is_ok() => {
                if !bufs.is_empty() {
                    conn.slot(slot).bufs = bufs;
                }
                self.go_on(cx, conn, stream, slot);
            }
            Kind::FusedCompare | Kind::FusedWrite => {
                self.memory.give(bufs);
                self.pair_ended(conn, stream, slot, status);
            }
            _ => {
                self.memory.give(bufs);
                self.finish(conn, stream, slot, status);
            }
        }
    }

    /// Asks the bdevs to give back what they have of a connection.
    pub(super) fn abort_all(&mut self, cx: &mut Cx, conn: &Conn) {
        for (slot, of) in conn.slots.iter().enumerate() {
            if of.state == State::InBdev {
                let target = tag(conn, slot as u16);
                self.lanes.abort(cx, of.lane, Tag(target.0 | ABORT), target);
            }
        }
    }

    /// Asks a bdev to give back one command of a connection, if it has it.
    pub(super) fn abort_command(&mut self, cx: &mut Cx, no: u64, cid: u16) {
        let Some(conn) = self.conns.get(no) else { return };
        let matches = |of: &Slot| of.state == State::InBdev && of.command.cid.get() == cid;
        if let Some(slot) = conn.slots.iter().position(matches) {
            let target = tag(conn, slot as u16);
            self.lanes.abort(cx, conn.slots[slot].lane, Tag(target.0 | ABORT), target);
        }
    }
}

/// What is to be done next for a command.
enum Step {
    Io(Io),
    End(IoStatus),
}

/// Bytes of the longest piece that a verify reads at a time.
fn verify_piece(max_bytes: u32, lanes: &super::lanes::Lanes, of: &Slot) -> u32 {
    let block_size = lanes.geometry(of.lane, 0).map_or(max_bytes, |geometry| geometry.block_size);
    let blocks = (max_bytes / block_size).min(of.plan.blocks);
    blocks * block_size
}

/// Counts what a command moved.
#[inline]
fn count(conn: &Conn, slot: u16) {
    let Some(queue) = &conn.queue else { return };
    let (stats, plan) = (&queue.stats, &conn.slots[usize::from(slot)].plan);
    match plan.kind {
        Kind::Read => {
            QueueStats::add(&stats.reads, 1);
            QueueStats::add(&stats.read_bytes, plan.bytes.into());
        }
        Kind::Write | Kind::FusedWrite => {
            QueueStats::add(&stats.writes, 1);
            QueueStats::add(&stats.written_bytes, plan.bytes.into());
        }
        _ => {}
    }
}
