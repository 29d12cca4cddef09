//! One connection, its queue, and its commands.

use super::lanes::{LaneNo, ViewNo};
use super::plan::Plan;
use crate::codec::Expect;
use crate::codec::encode::Agreed;
use crate::control::Admin;
use crate::model::{Controller, Life, Listener, QueueStats};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tgt_bdev::{Bufs, Ticks};
use tgt_nvme::Command;
use tgt_sock::StreamId;
use tgt_status::IoStatus;

/// Where a connection stands. The picture is in docs/130.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing has come.
    Fresh,
    /// Both sides have agreed on how to speak.
    Open,
    /// It is a queue.
    Live,
    /// It was told why it ends; what comes is thrown away.
    Ending,
    /// No command starts. It goes when its stream has closed and no bdev has anything of it.
    Dead,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A unit.
    Unit,
    /// Of no interest.
    Skip(u32),
    /// Data that goes straight to a command's memory.
    Data(Part),
    /// The digest of data that is here.
    Digest(Part),
}

/// A piece of a command's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) slot: u16,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// None is here.
    Free,
    /// It needs memory, or its host waits for its dead queues.
    Waiting,
    /// Its data is coming.
    Receiving,
    /// Its data is here; it is the first of a pair.
    Paired,
    /// The bdev has it.
    InBdev,
}

/// The other command of a fused pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Partner {
    None,
    /// This is the write; the memory of both is the compare's.
    First(u16),
    /// This is the compare.
    Second(u16),
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) command: Command,
    pub(super) plan: Plan,
    pub(super) lane: LaneNo,
    pub(super) state: State,
    pub(super) bufs: Bufs,
    /// Data that came while there was no memory.
    pub(super) stash: Vec<u8>,
    /// Bytes of its data that are here.
    pub(super) filled: u32,
    /// Blocks verified, or ranges done.
    pub(super) cursor: u32,
    pub(super) partner: Partner,
    /// How it will end although its data is still coming.
    pub(super) verdict: Option<IoStatus>,
}

/// A fused pair of which only the first has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fused {
    None,
    /// It is under way.
    First(u16),
    /// It has failed.
    Failed,
}

/// What a connection is once it is a queue.
pub(super) struct Queue {
    pub(super) qid: u16,
    pub(super) controller: Arc<Controller>,
    /// For looks at asymmetric access with each command, where it is reported.
    pub(super) ana: Option<Arc<Listener>>,
    pub(super) life: Arc<Life>,
    pub(super) stats: Arc<QueueStats>,
    /// The fence has been told that nothing is left.
    pub(super) drained: bool,
    /// Entries of the submission queue.
    pub(super) entries: u16,
    pub(super) head: u16,
    pub(super) flow_control: bool,
    pub(super) view: Option<ViewNo>,
    pub(super) fused: Fused,
    /// Of an admin queue.
    pub(super) admin: Option<Box<AdminHalf>>,
}

/// The controller, on its admin queue.
pub(super) struct AdminHalf {
    pub(super) admin: Admin,
    /// When the host was heard last.
    pub(super) heard: Ticks,
}

/// A connection.
pub(super) struct Conn {
    pub(super) no: u64,
    pub(super) stream: StreamId,
    /// The listener's address, as it was configured.
    pub(super) door: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) phase: Phase,
    pub(super) expect: Expect,
    pub(super) agreed: Agreed,
    pub(super) next: Next,
    pub(super) queue: Option<Queue>,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u16>,
    /// Commands that wait, oldest first.
    pub(super) waiting: VecDeque<u16>,
    /// The portal looks at them in the next turn.
    pub(super) listed: bool,
    pub(super) in_bdev: u32,
    pub(super) closed: bool,
}

impl Conn {
    /// Its place among the connections.
    pub(super) fn place(&self) -> u32 {
        self.no as u32
    }

    /// Whether what it sends still matters.
    pub(super) fn is_heard(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Open | Phase::Live)
    }

    pub(super) fn slot(&mut self, slot: u16) -> &mut Slot {
        &mut self.slots[usize::from(slot)]
    }

    /// The slot in whose memory a command's data lies, and where.
    pub(super) fn home(&self, slot: u16) -> (u16, u32) {
        let of = &self.slots[usize::from(slot)];
        match of.partner {
            Partner::First(first) => (first, of.plan.bytes),
            Partner::None | Partner::Second(_) => (slot, 0),
        }
    }

    /// Takes a free place for a command. `None`: the host sends more than the queue holds.
    pub(super) fn place_command(&mut self, command: &Command, plan: Plan, lane: LaneNo) -> Option<u16> {
        let new = Slot {
            command: *command,
            plan,
            lane,
            state: State::Waiting,
            bufs: Bufs::none(),
            stash: Vec::new(),
            filled: 0,
            cursor: 0,
            partner: Partner::None,
            verdict: None,
        };
        if let Some(slot) = self.free.pop() {
            let place = &mut self.slots[usize::from(slot)];
            assert_eq!(place.state, State::Free, "a free place holds no command");
            *place = new;
            return Some(slot);
        }
        let entries = self.queue.as_ref().map_or(0, |queue| queue.entries);
        if self.slots.len() >= usize::from(entries) {
            return None;
        }
        self.slots.push(new);
        Some((self.slots.len() - 1) as u16)
    }

    /// Frees a command's place; its memory, if it has any, comes back.
    pub(super) fn release(&mut self, slot: u16) -> Bufs {
        let place = self.slot(slot);
        assert_ne!(place.state, State::Free, "a command ends once");
        assert_ne!(place.state, State::InBdev, "a command that the bdev has keeps its place");
        place.state = State::Free;
        let bufs = std::mem::replace(&mut place.bufs, Bufs::none());
        self.free.push(slot);
        bufs
    }
}

/// Connections by number: the place in the lower half, how often it was used in the upper.
#[derive(Default)]
pub(super) struct Conns {
    conns: Vec<Option<Box<Conn>>>,
    turns: Vec<u32>,
    free: Vec<u32>,
    count: usize,
}

impl Conns {
    /// A number for a new one, which is [`Conns::put`] under it.
    pub(super) fn reserve(&mut self) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.turns.push(0);
            (self.conns.len() - 1) as u32
        });
        let turn = &mut self.turns[place as usize];
        *turn = turn.wrapping_add(1).max(1);
        self.count += 1;
        u64::from(*turn) << 32 | u64::from(place)
    }

    /// Takes one out to work on it. `None` if it has gone.
    #[inline]
    pub(super) fn take(&mut self, no: u64) -> Option<Box<Conn>> {
        let place = self.conns.get_mut(no as u32 as usize)?;
        if place.as_ref()?.no != no {
            return None;
        }
        place.take()
    }

    /// Takes the one of a place out, which is there.
    #[inline]
    pub(super) fn take_place(&mut self, place: u32) -> Box<Conn> {
        self.conns[place as usize].take().expect("a connection with commands is there")
    }

    #[inline]
    pub(super) fn put(&mut self, conn: Box<Conn>) {
        let place = conn.place() as usize;
        self.conns[place] = Some(conn);
    }

    /// One that was taken out has gone.
    pub(super) fn forget(&mut self, conn: Box<Conn>) {
        self.free.push(conn.place());
        self.count -= 1;
    }

    pub(super) fn get(&self, no: u64) -> Option<&Conn> {
        self.conns.get(no as u32 as usize)?.as_deref().filter(|conn| conn.no == no)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Conn> {
        self.conns.iter().flatten().map(|conn| &**conn)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}
