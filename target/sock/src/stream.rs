//! A stream in its user's hands: to be sent on, held, ended. Valid until the next call of the group.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tgt_env::bufs::unacknowledged;

use crate::conn::{Conn, Phase};
use crate::outgoing::segments;
use crate::shared::Shared;
use crate::table::StreamId;
use crate::{Cause, Payload, socket};

/// One stream, borrowed from its group.
pub struct Stream<'a> {
    pub(crate) id: StreamId,
    pub(crate) conn: &'a mut Conn,
    pub(crate) shared: &'a mut Shared,
}

/// Why a stream took nothing. Nothing of it was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its queue is full: [`crate::Event::Room`] will tell.
    #[error("the stream's queue is full: wait for room")]
    Full,
    /// It is finishing or has ended: `Event::Closed` tells why.
    #[error("the stream takes no more: it is ending")]
    Ending,
}

/// What a stream's queue still takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: usize,
    /// Pieces: one for each segment of a payload, one for the bytes before it.
    pub pieces: usize,
}

/// How far a stream has come, in bytes since this group has had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// Came, those of a payload that is not complete included.
    pub received: u64,
    /// Were queued to be sent.
    pub queued: u64,
    /// Of these, acknowledged by the peer's host. Its program may not have looked at them yet.
    pub acknowledged: u64,
}

impl Stream<'_> {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The user's own number for it; 0 until it is set.
    #[must_use]
    pub fn user(&self) -> u64 {
        self.conn.user
    }

    /// Sets the user's own number for it.
    pub fn set_user(&mut self, user: u64) {
        self.conn.user = user;
    }

    /// The other side.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.conn.peer
    }

    /// This side. One system call.
    ///
    /// # Errors
    /// The kernel's; `NotConnected` once the stream has ended.
    pub fn local(&self) -> io::Result<SocketAddr> {
        let fd = self.conn.fd.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket::local(fd)
    }

    /// True from [`crate::Event::Connected`], or from the start for accepted streams, until it ends.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.conn.phase().is_connected()
    }

    /// Bytes that are queued and the kernel does not have.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.conn.queued_bytes()
    }

    /// Bytes that were queued since this group has had it, those sent included.
    #[must_use]
    pub fn queued_total(&self) -> u64 {
        self.conn.sent + self.conn.queued_bytes() as u64
    }

    /// How far it has come: what tells a peer that is slow from one that is gone. One system call if anything that was
    /// sent may be on its way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn progress(&mut self) -> io::Result<Progress> {
        if self.conn.acknowledged < self.conn.sent
            && let Some(fd) = self.conn.fd.as_ref()
        {
            // What another group had sent on it may be on its way as well.
            let known = self.conn.sent.saturating_sub(unacknowledged(fd)?);
            self.conn.acknowledged = self.conn.acknowledged.max(known);
        }
        let (received, acknowledged) = (self.conn.received, self.conn.acknowledged);
        Ok(Progress { received, queued: self.queued_total(), acknowledged })
    }

    /// What its queue still takes: a `send` within it is not refused, unless the stream is ending.
    #[must_use]
    pub fn room(&self) -> Room {
        let options = &self.shared.options;
        let used = self.conn.output.as_ref().map_or((0, 0), |queue| (queue.bytes(), queue.segments()));
        Room {
            bytes: (options.queue_bytes as usize).saturating_sub(used.0),
            pieces: (options.queue_pieces as usize).saturating_sub(used.1),
        }
    }

    /// Queues a copy of `bytes`. They go out with the group's next `end`; before the stream is connected they wait.
    ///
    /// # Errors
    /// [`Refused`]; all is queued or nothing.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.take(bytes.len(), 1)?;
        self.shared.queue_of(self.id, self.conn).push_head(bytes);
        Ok(())
    }

    /// Queues a copy of `head`, and behind it the payload, which comes back by [`crate::Event::Sent`] or
    /// [`crate::Event::Unsent`]. Panics if the payload reaches beyond its memory.
    ///
    /// # Errors
    /// [`Refused`], with the payload; both are queued or nothing.
    pub fn send_with(&mut self, head: &[u8], payload: Payload) -> Result<(), (Refused, Payload)> {
        payload.check();
        match self.take(head.len() + payload.len as usize, 1 + segments(&payload)) {
            Ok(()) => {
                let queue = self.shared.queue_of(self.id, self.conn);
                queue.push_head(head);
                queue.push_payload(payload);
                Ok(())
            }
            Err(refused) => Err((refused, payload)),
        }
    }

    /// Reads no more until [`Self::resume`]; what was not consumed is kept, however long. The peer is slowed down by
    /// TCP. Its end is not noticed meanwhile, unless it is a reset.
    pub fn hold(&mut self) {
        self.conn.input.held = true;
    }

    /// Reads again, and hands out again what was kept.
    pub fn resume(&mut self) {
        if std::mem::replace(&mut self.conn.input.held, false) {
            self.conn.input.again = true;
            self.shared.heat(self.id, self.conn);
        }
    }

    /// Ends it in order: what is queued is sent, then the peer is told, then its end is awaited, all `within` this time.
    /// What comes meanwhile is still handed on. A stream that is not connected is aborted.
    pub fn finish(&mut self, within: Duration) {
        match self.conn.phase() {
            Phase::Connecting { .. } => self.abort(),
            Phase::Open => {
                self.conn.go(Phase::Finishing { within, shut: false });
                self.shared.set_deadline(self.id, within);
                self.shared.soil(self.id, self.conn);
            }
            Phase::Finishing { .. } | Phase::Ended => {}
        }
    }

    /// Ends it at once: what is queued is not sent, the peer gets a reset. Its buffers and `Closed` come as events.
    pub fn abort(&mut self) {
        self.shared.end(self.id, self.conn, Cause::Aborted);
    }

    fn take(&mut self, bytes: usize, pieces: usize) -> Result<(), Refused> {
        if !self.conn.phase().takes_more() {
            return Err(Refused::Ending);
        }
        let room = self.room();
        if bytes > room.bytes || pieces > room.pieces {
            self.conn.refused = true;
            return Err(Refused::Full);
        }
        Ok(())
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, peer, phase) = (self.id, self.conn.peer, self.conn.phase());
        f.debug_struct("Stream").field("id", &id).field("peer", &peer).field("phase", &phase).finish()
    }
}
