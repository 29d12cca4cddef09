//! What a group tells its user, one at a time.

use std::net::SocketAddr;

use crate::conn::{Awaited, Phase};
use crate::table::{ListenerId, StreamId};
use crate::{Cause, Payload, SockError, Stream};

/// Something that happened. Payloads in it are the user's again.
#[derive(Debug)]
pub enum Event<'a> {
    /// A listener has a new stream.
    Accepted {
        /// Which listener.
        listener: ListenerId,
        /// The stream, open.
        stream: Stream<'a>,
    },
    /// [`crate::Group::connect`] has succeeded.
    Connected(Stream<'a>),
    /// Bytes came.
    Received(Received<'a>),
    /// A payload that was awaited is complete. The bytes after it come with the next `Received`.
    Filled {
        /// Its stream.
        stream: Stream<'a>,
        /// All of its bytes are there.
        payload: Payload,
    },
    /// The kernel has all bytes of a payload, so its memory may be used again. The peer may not have them yet.
    Sent {
        /// Its stream.
        stream: StreamId,
        /// The stream's [`Stream::user`].
        user: u64,
        /// As it was queued.
        payload: Payload,
    },
    /// After a refused `send`: the queue is half empty.
    Room(Stream<'a>),
    /// The stream has ended before the kernel had all bytes of this payload; how many the peer got nobody knows.
    Unsent {
        /// Its stream.
        stream: StreamId,
        /// The stream's [`Stream::user`].
        user: u64,
        /// As it was queued.
        payload: Payload,
    },
    /// The stream has ended before all bytes of an awaited payload came.
    Unfilled {
        /// Its stream.
        stream: StreamId,
        /// The stream's [`Stream::user`].
        user: u64,
        /// Its memory holds whatever part of it came.
        payload: Payload,
    },
    /// The last event of a stream.
    Closed {
        /// Which. Means nothing any more.
        stream: StreamId,
        /// The stream's [`Stream::user`].
        user: u64,
        /// The other side.
        peer: SocketAddr,
        /// Why.
        cause: Cause,
    },
    /// A listener cannot accept for the moment (no descriptors, no memory). It tries again in a tenth of a second.
    AcceptFailed {
        /// Which listener.
        listener: ListenerId,
        /// Why, and what to do.
        error: SockError,
    },
}

/// What waits to become an [`Event`].
pub(crate) enum Told {
    Accepted(ListenerId, StreamId),
    Connected(StreamId),
    Filled(StreamId, Payload),
    Sent(StreamId, Payload),
    Room(StreamId),
    Unsent(StreamId, Payload),
    Unfilled(StreamId, Payload),
    Closed(StreamId, Cause),
    AcceptFailed(ListenerId, SockError),
}

impl Told {
    pub(crate) fn is_about(&self, stream: StreamId) -> bool {
        match self {
            Told::Accepted(_, id)
            | Told::Connected(id)
            | Told::Filled(id, _)
            | Told::Sent(id, _)
            | Told::Room(id)
            | Told::Unsent(id, _)
            | Told::Unfilled(id, _)
            | Told::Closed(id, _) => *id == stream,
            Told::AcceptFailed(..) => false,
        }
    }
}

/// Everything that came on one stream this turn, after what was left of the last: consume what is complete. What is not
/// consumed comes again, in front of more, and counts as the front of an incomplete frame, unless the stream is held.
#[derive(Debug)]
pub struct Received<'a> {
    pub(crate) stream: Stream<'a>,
    pub(crate) staged: &'a [u8],
    /// Bytes of `staged` that are consumed.
    pub(crate) at: &'a mut usize,
}

impl<'a> Received<'a> {
    /// The bytes that are not consumed yet.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        &self.staged[*self.at..]
    }

    /// Consumes the next `count` bytes. Panics if there are not as many.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.bytes().len(), "{count} of {} bytes", self.bytes().len());
        *self.at += count;
    }

    /// The next `payload.len` bytes of the stream go into this memory. Consumes those that are here; if those are all,
    /// the payload comes back at once. Otherwise the rest comes straight into its memory, [`Event::Filled`] hands it
    /// back, and there are no bytes here any more. Panics if the memory is read-only or too short, or if a payload is
    /// awaited already.
    #[must_use = "a payload that is complete comes back"]
    pub fn payload(&mut self, mut payload: Payload) -> Option<Payload> {
        payload.check();
        assert!(self.stream.conn.input.awaited.is_none(), "one payload is awaited at a time");
        let here = self.bytes();
        let done = here.len().min(payload.len as usize);
        payload.bufs.copy_from_slice(payload.offset, &here[..done]);
        self.consume(done);
        if done == payload.len as usize {
            return Some(payload);
        }
        if self.stream.conn.phase() == Phase::Ended {
            self.stream.shared.never_filled(self.stream.id, payload);
        } else {
            self.stream.conn.input.awaited = Some(Awaited { payload, done: done as u32 });
        }
        None
    }

    /// The stream: to answer on it, hold it, end it.
    pub fn stream(&mut self) -> &mut Stream<'a> {
        &mut self.stream
    }
}
