//! What may be chosen of a socket, and of a group.

use std::net::SocketAddr;
use std::time::Duration;

use tgt_env::memory::DmaBuf;

use crate::SockError;

/// Options of a TCP socket. Not here because they are always so: `TCP_NODELAY` on, keepalive off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// `TCP_CONGESTION`, e.g. `cubic`; `None`: the system's default.
    pub congestion: Option<String>,
    /// `SO_SNDBUF`, bytes; `None`: the kernel adapts it. A fixed size is usually slower.
    pub send_buffer: Option<u32>,
    /// `SO_RCVBUF`, bytes; `None`: the kernel adapts it.
    pub receive_buffer: Option<u32>,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged before the stream ends with
    /// [`crate::Cause::TimedOut`]; `None`: as many retransmissions as the system wants, some 15 minutes.
    pub user_timeout: Option<Duration>,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    /// The listener. IPv6 with its scope, where the address needs one.
    pub address: SocketAddr,
    /// Own address; port 0: any port. Of the same family as `address`.
    pub source: Option<SocketAddr>,
    /// How long to try.
    pub timeout: Duration,
    /// Options of the socket.
    pub socket: SocketOptions,
}

impl ConnectTo {
    /// How long to try where nobody chose.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// From any own address, with the system's options, within [`Self::TIMEOUT`].
    #[must_use]
    pub fn new(address: SocketAddr) -> ConnectTo {
        ConnectTo { address, source: None, timeout: Self::TIMEOUT, socket: SocketOptions::default() }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOn {
    /// Own address; port 0: any port. An IPv6 address takes IPv6 only.
    pub address: SocketAddr,
    /// Connections that may wait to be accepted.
    pub backlog: u16,
    /// Options of the streams that are accepted.
    pub socket: SocketOptions,
}

impl ListenOn {
    /// With the system's options.
    #[must_use]
    pub fn new(address: SocketAddr) -> ListenOn {
        ListenOn { address, backlog: 1024, socket: SocketOptions::default() }
    }
}

/// Bounds of a group. The defaults are right unless a protocol's frames are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// Most bytes that are read from one stream in one turn.
    pub turn_bytes: u32,
    /// Longest front of an incomplete frame that is kept for a stream, bytes. Headers, not payloads: those go to
    /// [`crate::Received::payload`].
    pub frame_max: u32,
    /// Most bytes queued to be sent on one stream.
    pub queue_bytes: u32,
    /// Most pieces queued to be sent on one stream: one for each segment of a payload, one for the bytes before it.
    pub queue_pieces: u32,
    /// How long a stream from which nothing comes is read every turn, before it is parked.
    pub hot_time: Duration,
    /// Most streams. Connections beyond that wait in their listener's backlog.
    pub streams_max: u32,
}

impl Default for GroupOptions {
    fn default() -> GroupOptions {
        GroupOptions {
            turn_bytes: 256 << 10,
            frame_max: 256 << 10,
            queue_bytes: 8 << 20,
            queue_pieces: 2048,
            hot_time: Duration::from_micros(20),
            streams_max: 65_536,
        }
    }
}

impl GroupOptions {
    /// Smallest `turn_bytes` and `frame_max`.
    pub const BYTES_MIN: u32 = 512;

    /// Bytes of the staging buffer.
    pub(crate) fn staging(&self) -> u32 {
        self.turn_bytes.saturating_add(self.frame_max)
    }

    pub(crate) fn check(&self) -> Result<(), SockError> {
        let at_least = |name, value: u32, least: u32| {
            let wrong = SockError::Bound { name, value, least, most: u32::MAX };
            if value < least { Err(wrong) } else { Ok(()) }
        };
        at_least("turn_bytes", self.turn_bytes, Self::BYTES_MIN)?;
        at_least("frame_max", self.frame_max, Self::BYTES_MIN)?;
        at_least("queue_bytes", self.queue_bytes, 1)?;
        at_least("queue_pieces", self.queue_pieces, 2)?;
        at_least("streams_max", self.streams_max, 1)?;
        if self.staging() > DmaBuf::MAX_LEN {
            let (value, most) = (self.staging(), DmaBuf::MAX_LEN);
            return Err(SockError::Bound { name: "turn_bytes + frame_max", value, least: 1024, most });
        }
        if self.streams_max > crate::table::PLACES_MAX {
            let (value, most) = (self.streams_max, crate::table::PLACES_MAX);
            return Err(SockError::Bound { name: "streams_max", value, least: 1, most });
        }
        Ok(())
    }
}
