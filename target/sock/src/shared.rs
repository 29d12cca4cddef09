//! What the streams of a group share, and what is done to one of them with it.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;
use tgt_env::bufs::PieceList;
use tgt_env::clock::Ticks;

use crate::conn::{Conn, Phase};
use crate::event::Told;
use crate::outgoing::Outgoing;
use crate::table::{StreamId, Subject};
use crate::watch::Watch;
use crate::{Cause, GroupOptions, GroupStats, Payload, socket};

/// Empty queues and buffers that wait for streams, and the size beyond which they are given back to the allocator.
const SPARE_MAX: usize = 256;
const SPARE_BYTES: usize = 64 << 10;

pub(crate) struct Shared {
    pub(crate) options: GroupOptions,
    pub(crate) hot_time: Ticks,
    /// The time of this turn.
    pub(crate) now: Ticks,
    pub(crate) watch: Watch,
    pub(crate) told: VecDeque<Told>,
    /// Streams that are read each turn; some of them may have ended.
    pub(crate) hot: Vec<StreamId>,
    /// Streams that have something to send; some of them may have ended.
    pub(crate) dirty: Vec<StreamId>,
    /// Whom to look after at what time, in no order.
    pub(crate) deadlines: Vec<(Ticks, Subject)>,
    pub(crate) stats: GroupStats,
    pub(crate) pieces: PieceList,
    // Boxed, so that a stream without a queue is small.
    #[allow(clippy::vec_box)]
    spare_queues: Vec<Box<Outgoing>>,
    spare_kept: Vec<Vec<u8>>,
}

impl Shared {
    pub(crate) fn new(options: GroupOptions, watch: Watch, now: Ticks) -> Shared {
        Shared {
            options,
            hot_time: Ticks::from_duration(options.hot_time),
            now,
            watch,
            told: VecDeque::new(),
            hot: Vec::new(),
            dirty: Vec::new(),
            deadlines: Vec::new(),
            stats: GroupStats::default(),
            pieces: PieceList::new(),
            spare_queues: Vec::new(),
            spare_kept: Vec::new(),
        }
    }

    /// It is read from the next round on.
    #[inline]
    pub(crate) fn heat(&mut self, id: StreamId, conn: &mut Conn) {
        // Counted from when it is looked at in vain: whoever heats it outside of a turn does not know the time.
        conn.last_active = Ticks::NEVER;
        if !conn.hot {
            conn.hot = true;
            self.hot.push(id);
        }
    }

    /// It has something to send.
    #[inline]
    pub(crate) fn soil(&mut self, id: StreamId, conn: &mut Conn) {
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Its queue, to put something into.
    #[inline]
    pub(crate) fn queue_of<'a>(&mut self, id: StreamId, conn: &'a mut Conn) -> &'a mut Outgoing {
        // An answer may come soon.
        if conn.phase() == Phase::Open {
            self.heat(id, conn);
        }
        if !conn.blocked {
            self.soil(id, conn);
        }
        conn.output.get_or_insert_with(|| self.spare_queues.pop().unwrap_or_default())
    }

    pub(crate) fn set_deadline(&mut self, id: StreamId, within: Duration) {
        // The turn's time may be long ago: this is called outside of turns as well.
        self.deadlines.push((Ticks::now() + Ticks::from_duration(within), Subject::Stream(id)));
    }

    pub(crate) fn drop_deadline(&mut self, id: StreamId) {
        self.deadlines.retain(|(_, whose)| *whose != Subject::Stream(id));
    }

    /// Keeps what its user did not consume.
    pub(crate) fn keep(&mut self, id: StreamId, conn: &mut Conn, rest: &[u8]) {
        if rest.is_empty() {
            self.unkeep(conn);
            return;
        }
        if rest.len() > self.options.frame_max as usize && !conn.input.held {
            let (kept, limit) = (rest.len() as u32, self.options.frame_max);
            return self.end(id, conn, Cause::FrameTooLong { kept, limit });
        }
        if conn.input.kept.capacity() == 0 {
            conn.input.kept = self.spare_kept.pop().unwrap_or_default();
        }
        conn.input.kept.clear();
        conn.input.kept.extend_from_slice(rest);
    }

    /// Nothing is kept for it any more.
    #[inline]
    pub(crate) fn unkeep(&mut self, conn: &mut Conn) {
        if conn.input.kept.capacity() == 0 {
            return;
        }
        let mut kept = std::mem::take(&mut conn.input.kept);
        if kept.capacity() <= SPARE_BYTES && self.spare_kept.len() < SPARE_MAX {
            kept.clear();
            self.spare_kept.push(kept);
        }
    }

    /// Sends what is queued, with one system call. True if the kernel took anything.
    pub(crate) fn flush(&mut self, id: StreamId, conn: &mut Conn) -> bool {
        conn.dirty = false;
        if !conn.phase().is_connected() || conn.broken.is_some() {
            return false;
        }
        let (Some(queue), Some(fd)) = (conn.output.as_mut(), conn.fd.as_ref()) else {
            self.shut_if_finishing(id, conn);
            return false;
        };
        let mut gather = self.pieces.gather();
        queue.list(&mut gather);
        let listed = gather.bytes();
        let outcome = if listed == 0 { Ok(0) } else { gather.send(fd) };
        self.stats.sends += 1;
        let sent = match outcome {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.soil(id, conn);
                return false;
            }
            Err(error) => {
                conn.broken = Some(Cause::of("send", errno_of(&error)));
                self.heat(id, conn);
                return false;
            }
        };
        self.stats.sent_bytes += sent as u64;
        conn.sent += sent as u64;
        queue.advance(sent, |payload| self.told.push_back(Told::Sent(id, payload)));
        let is_empty = queue.is_empty();
        self.tell_room(id, conn);
        if sent < listed {
            self.try_again(id, conn, sent > 0);
        } else if is_empty {
            conn.blocked = false;
            self.put_queue_back(conn);
            self.shut_if_finishing(id, conn);
        } else {
            conn.blocked = false;
            self.soil(id, conn);
        }
        sent > 0 || listed == 0
    }

    /// The kernel did not take everything. Room may come soon: then trying each turn is faster than being told, which
    /// the kernel does only when a third of its buffer is free.
    fn try_again(&mut self, id: StreamId, conn: &mut Conn, progress: bool) {
        if progress || !conn.blocked {
            conn.last_sent = self.now;
        }
        conn.blocked = true;
        if self.now - conn.last_sent < self.hot_time {
            self.soil(id, conn);
        } else {
            self.arm(id, conn);
        }
    }

    /// Makes the kernel report whatever it waits for.
    pub(crate) fn arm(&mut self, id: StreamId, conn: &mut Conn) {
        if conn.is_armed() {
            return;
        }
        let Some(fd) = conn.fd.as_ref() else { return };
        // What is armed already stays: a report too many costs less than another call.
        let flags = conn.wants() | conn.armed.unwrap_or(EventFlags::empty());
        match self.watch.arm_again(fd, Subject::Stream(id), flags) {
            Ok(()) => conn.armed = Some(flags),
            Err(error) => {
                let errno = errno_of(&error);
                self.end(id, conn, Cause::System { what: "epoll_ctl", errno });
            }
        }
    }

    /// Ends it: socket closed, buffers and cause on their way to the user.
    pub(crate) fn end(&mut self, id: StreamId, conn: &mut Conn, cause: Cause) {
        if conn.phase() == Phase::Ended {
            return;
        }
        conn.go(Phase::Ended);
        if let (Some(fd), Cause::Aborted) = (conn.fd.take(), cause) {
            socket::reset_on_close(&fd);
        }
        if let Some(mut queue) = conn.output.take() {
            queue.clear(|payload| self.told.push_back(Told::Unsent(id, payload)));
            conn.output = Some(queue);
            self.put_queue_back(conn);
        }
        if let Some(awaited) = conn.input.awaited.take() {
            self.told.push_back(Told::Unfilled(id, awaited.payload));
        }
        self.unkeep(conn);
        self.drop_deadline(id);
        self.told.push_back(Told::Closed(id, cause));
    }

    /// A payload for a stream that its user has just aborted: it comes back before the stream's end.
    pub(crate) fn never_filled(&mut self, id: StreamId, payload: Payload) {
        let end = self.told.iter().position(|told| matches!(told, Told::Closed(of, _) if *of == id));
        self.told.insert(end.unwrap_or(self.told.len()), Told::Unfilled(id, payload));
    }

    fn tell_room(&mut self, id: StreamId, conn: &mut Conn) {
        let Some(queue) = conn.output.as_ref().filter(|_| conn.refused) else { return };
        let half = |bound: u32| bound as usize / 2;
        let room = queue.bytes() <= half(self.options.queue_bytes)
            && queue.segments() <= half(self.options.queue_pieces);
        if room {
            conn.refused = false;
            self.told.push_back(Told::Room(id));
        }
    }

    fn put_queue_back(&mut self, conn: &mut Conn) {
        let Some(queue) = conn.output.take() else { return };
        if queue.held() <= SPARE_BYTES * 4 && self.spare_queues.len() < SPARE_MAX {
            self.spare_queues.push(queue);
        }
    }

    fn shut_if_finishing(&mut self, id: StreamId, conn: &mut Conn) {
        let Phase::Finishing { within, shut: false } = conn.phase() else { return };
        let Some(fd) = conn.fd.as_ref() else { return };
        match rustix::net::shutdown(fd, Shutdown::Write) {
            Ok(()) => conn.go(Phase::Finishing { within, shut: true }),
            // The peer was faster: reading tells how it ended.
            Err(Errno::NOTCONN) => {}
            Err(errno) => conn.broken = Some(Cause::of("shutdown", errno)),
        }
        self.heat(id, conn);
    }
}

pub(crate) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
