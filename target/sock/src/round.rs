//! One round over what is ready: news of the kernel, reading, sending, parking, deadlines.

use std::io;

use rustix::event::epoll::EventFlags;
use rustix::net::{self, RecvFlags, sockopt};
use tgt_env::clock::Ticks;

use crate::conn::{Awaited, Conn, Phase};
use crate::event::Told;
use crate::group::Staged;
use crate::shared::{Shared, errno_of};
use crate::table::{StreamId, Subject};
use crate::watch::News;
use crate::{Cause, Group, SockError};

/// What one read found.
enum Found {
    /// So many bytes for the awaited payload, and after them so many for the staging buffer.
    Bytes {
        payload: usize,
        staged: usize,
    },
    Nothing,
    End,
    Failed(io::Error),
}

impl Group {
    /// One step of the round. False when it is over.
    pub(crate) fn advance(&mut self) -> bool {
        if let Some(listener) = self.accepting.pop() {
            self.accept(listener);
            return true;
        }
        let Some(&id) = self.shared.hot.get(self.cursor) else { return false };
        let stays = self.visit(id);
        if stays {
            self.cursor += 1;
        } else {
            self.shared.hot.swap_remove(self.cursor);
        }
        true
    }

    /// Reads one hot stream. False if it is not hot any more.
    fn visit(&mut self, id: StreamId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        if !conn.phase().is_connected() {
            conn.hot = false;
            return false;
        }
        if conn.input.held {
            return self.rest(id);
        }
        if std::mem::take(&mut conn.input.again) && !conn.input.kept.is_empty() {
            self.stage(id, 0);
            return true;
        }
        self.shared.stats.reads += 1;
        let found = read(conn, self.staging.as_mut_slice(), &mut self.shared);
        match found {
            Found::Bytes { payload, staged } => self.came(id, payload, staged),
            Found::Nothing => return self.rest(id),
            Found::End => {
                let cause = conn.cause_of_end();
                self.shared.end(id, conn, cause);
            }
            Found::Failed(error) => {
                let cause = conn.broken.unwrap_or(Cause::of("recv", errno_of(&error)));
                self.shared.end(id, conn, cause);
            }
        }
        true
    }

    /// Bytes came: for the awaited payload, and behind it.
    fn came(&mut self, id: StreamId, payload: usize, staged: usize) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        self.busy = true;
        conn.last_active = self.shared.now;
        self.shared.stats.read_bytes += (payload + staged) as u64;
        conn.received += (payload + staged) as u64;
        if let Some(awaited) = conn.input.awaited.as_mut() {
            awaited.done += payload as u32;
        }
        let is_filled = |awaited: &mut Awaited| awaited.done == awaited.payload.len;
        if let Some(filled) = conn.input.awaited.take_if(is_filled) {
            self.shared.told.push_back(Told::Filled(id, filled.payload));
        }
        if staged > 0 {
            self.stage(id, staged);
        }
    }

    /// `count` bytes came, behind what was kept.
    fn stage(&mut self, id: StreamId, count: usize) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let kept = conn.input.kept.len();
        self.staging.as_mut_slice()[..kept].copy_from_slice(&conn.input.kept);
        self.busy = true;
        self.staged = Some(Staged { id, at: 0, end: kept + count, given: false });
    }

    /// Nothing came. True if the stream stays hot.
    fn rest(&mut self, id: StreamId) -> bool {
        let Some(conn) = self.conns.get_mut(id.0) else { return false };
        if let Some(cause) = conn.broken {
            self.shared.end(id, conn, cause);
            return false;
        }
        if conn.last_active == Ticks::NEVER {
            conn.last_active = self.shared.now;
        }
        let idle = self.shared.now - conn.last_active;
        if !conn.input.held && idle < self.shared.hot_time {
            return true;
        }
        conn.hot = false;
        self.shared.stats.parked += 1;
        self.shared.arm(id, conn);
        false
    }

    /// The kernel reports on something that was armed; it is not armed any more.
    pub(crate) fn take_news(&mut self, news: News) {
        self.busy = true;
        self.shared.stats.reports += 1;
        match news.subject {
            Subject::Listener(id) if self.listeners.get(id.0).is_some() => self.accepting.push(id),
            Subject::Listener(_) => {}
            Subject::Stream(id) => self.take_stream_news(id, news.flags),
        }
    }

    fn take_stream_news(&mut self, id: StreamId, flags: EventFlags) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.armed = None;
        match conn.phase() {
            Phase::Ended => {}
            Phase::Connecting { .. } => self.take_connect_news(id),
            Phase::Open | Phase::Finishing { .. } => {
                let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
                if conn.blocked {
                    // Room, or the report that was armed for it is spent: the next attempt tells.
                    self.shared.soil(id, conn);
                }
                if conn.input.held && failed {
                    self.end_if_failed(id);
                } else {
                    self.shared.heat(id, conn);
                }
            }
        }
    }

    fn take_connect_news(&mut self, id: StreamId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let Some(fd) = conn.fd.as_ref() else { return };
        match sockopt::socket_error(fd).and_then(|outcome| outcome) {
            Ok(()) => self.connected(id),
            Err(errno) => self.shared.end(id, conn, Cause::of("connect", errno)),
        }
    }

    /// A held stream is not read, so its error is asked for.
    fn end_if_failed(&mut self, id: StreamId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let Some(fd) = conn.fd.as_ref() else { return };
        if let Err(errno) = sockopt::socket_error(fd).and_then(|outcome| outcome) {
            self.shared.end(id, conn, conn.broken.unwrap_or(Cause::of("recv", errno)));
        }
    }

    /// A stream is connected.
    pub(crate) fn connected(&mut self, id: StreamId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        conn.go(Phase::Open);
        self.shared.drop_deadline(id);
        self.shared.told.push_back(Told::Connected(id));
        self.shared.heat(id, conn);
        if conn.output.is_some() {
            self.shared.soil(id, conn);
        }
    }

    /// Sends what is queued on all streams.
    pub(crate) fn flush(&mut self) {
        std::mem::swap(&mut self.shared.dirty, &mut self.flushing);
        for index in 0..self.flushing.len() {
            let id = self.flushing[index];
            if let Some(conn) = self.conns.get_mut(id.0) {
                self.busy |= self.shared.flush(id, conn);
            }
        }
        self.flushing.clear();
    }

    /// Whether each hot stream is armed for all it waits for.
    pub(crate) fn all_armed(&self) -> bool {
        let armed = |id: &StreamId| self.conns.get(id.0).is_none_or(Conn::is_armed);
        self.shared.hot.iter().all(armed)
    }

    pub(crate) fn look_at_deadlines(&mut self) {
        let now = self.shared.now;
        let mut index = 0;
        while let Some(&(when, whose)) = self.shared.deadlines.get(index) {
            if when > now {
                index += 1;
                continue;
            }
            self.shared.deadlines.swap_remove(index);
            match whose {
                Subject::Listener(id) => self.accepting.push(id),
                Subject::Stream(id) => self.too_late(id),
            }
        }
    }

    fn too_late(&mut self, id: StreamId) {
        let Some(conn) = self.conns.get_mut(id.0) else { return };
        let unsent = conn.queued_bytes() as u64;
        let cause = match conn.phase() {
            Phase::Connecting { within } => Cause::ConnectTimedOut { after: within },
            Phase::Finishing { within, .. } => Cause::FinishTimedOut { after: within, unsent },
            Phase::Open | Phase::Ended => return,
        };
        self.shared.end(id, conn, cause);
    }

    pub(crate) fn must_be_open(&self) -> Result<(), SockError> {
        if self.shared.watch.is_closed() { Err(SockError::Closed) } else { Ok(()) }
    }

    pub(crate) fn must_have_room(&self) -> Result<(), SockError> {
        self.must_be_open()?;
        let limit = self.shared.options.streams_max;
        if self.conns.len() >= limit as usize { Err(SockError::TooMany { limit }) } else { Ok(()) }
    }
}

/// Reads once: at most a turn's bytes, behind what is kept, or into the awaited payload and then to the front.
#[inline]
fn read(conn: &mut Conn, staging: &mut [u8], shared: &mut Shared) -> Found {
    let Some(fd) = conn.fd.as_ref() else { return Found::Nothing };
    let turn = shared.options.turn_bytes as usize;
    let (got, for_payload) = match conn.input.awaited.as_mut() {
        None => {
            let kept = conn.input.kept.len();
            let end = staging.len().min(kept + turn);
            if kept == end {
                // A read of nothing would look like the peer's end.
                return Found::Nothing;
            }
            let got = net::recv(fd, &mut staging[kept..end], RecvFlags::DONTWAIT);
            (got.map(|(count, _)| count).map_err(io::Error::from), 0)
        }
        Some(Awaited { payload, done }) => {
            let rest = payload.len - *done;
            let mut scatter = shared.pieces.scatter();
            let asked = scatter.push_bufs(&mut payload.bufs, payload.offset + *done, rest.min(turn as u32));
            if asked == rest && (asked as usize) < turn {
                scatter.push_bytes(&mut staging[..turn - asked as usize]);
            }
            (scatter.receive(fd), asked as usize)
        }
    };
    match got {
        Ok(0) => Found::End,
        Ok(count) => {
            let payload = count.min(for_payload);
            Found::Bytes { payload, staged: count - payload }
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Found::Nothing,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Found::Bytes { payload: 0, staged: 0 },
        Err(error) => Found::Failed(error),
    }
}
