//! Why a stream ended.

use std::fmt;
use std::time::Duration;

use rustix::io::Errno;

/// Why a stream ended: one per stream, with its [`crate::Event::Closed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// [`crate::Stream::finish`]: all was sent, and the peer closed as well.
    Finished,
    /// [`crate::Stream::finish`]: the peer did not take everything, or did not close, in time.
    FinishTimedOut {
        /// The time it had.
        after: Duration,
        /// Bytes that were still queued here.
        unsent: u64,
    },
    /// [`crate::Stream::abort`].
    Aborted,
    /// The peer closed, between two frames.
    PeerClosed,
    /// The peer closed in the middle of a frame.
    PeerClosedInFrame {
        /// Bytes of the incomplete frame that were not consumed.
        kept: u32,
        /// Bytes of an awaited payload that did not come.
        missing: u32,
    },
    /// The peer reset the connection, or its host knows nothing of it.
    Reset,
    /// Nobody listens at the address.
    Refused,
    /// No way to the address.
    Unreachable(Errno),
    /// No answer to the attempt to connect.
    ConnectTimedOut {
        /// The time it had.
        after: Duration,
    },
    /// The peer acknowledged nothing for too long (`TCP_USER_TIMEOUT`, or the system's limit).
    TimedOut,
    /// A frame's front is longer than [`crate::GroupOptions::frame_max`].
    FrameTooLong {
        /// Bytes not consumed.
        kept: u32,
        /// The bound.
        limit: u32,
    },
    /// Anything else the kernel said.
    System {
        /// What was tried.
        what: &'static str,
        /// The answer.
        errno: Errno,
    },
}

impl Cause {
    /// Of an error of the kernel's in an established connection.
    pub(crate) fn of(what: &'static str, errno: Errno) -> Cause {
        match errno {
            Errno::CONNRESET | Errno::PIPE => Cause::Reset,
            Errno::CONNREFUSED => Cause::Refused,
            Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN => {
                Cause::Unreachable(errno)
            }
            Errno::TIMEDOUT => Cause::TimedOut,
            errno => Cause::System { what, errno },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Finished => f.write_str("both sides closed"),
            Cause::FinishTimedOut { after, unsent: 0 } => {
                write!(f, "the peer did not close within {after:?}")
            }
            Cause::FinishTimedOut { after, unsent } => {
                write!(f, "closed after {after:?} with {unsent} bytes that the peer did not take")
            }
            Cause::Aborted => f.write_str("aborted by this side"),
            Cause::PeerClosed => f.write_str("the peer closed"),
            Cause::PeerClosedInFrame { kept, missing: 0 } => {
                write!(f, "the peer closed in the middle of a frame, {kept} bytes into it")
            }
            Cause::PeerClosedInFrame { missing, .. } => {
                write!(
                    f,
                    "the peer closed in the middle of a frame, {missing} bytes of its payload are missing"
                )
            }
            Cause::Reset => f.write_str("the peer reset the connection"),
            Cause::Refused => f.write_str("nobody listens there (connection refused)"),
            Cause::Unreachable(errno) => write!(f, "no way there: {errno}"),
            Cause::ConnectTimedOut { after } => write!(f, "no answer within {after:?}"),
            Cause::TimedOut => f.write_str("the peer acknowledged nothing for too long"),
            Cause::FrameTooLong { kept, limit } => {
                write!(f, "a frame was still incomplete after {kept} bytes; {limit} are accepted")
            }
            Cause::System { what, errno } => write!(f, "{what}: {errno}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_speak_plainly() {
        let half = Duration::from_millis(500);
        for (cause, words) in [
            (Cause::PeerClosedInFrame { kept: 3, missing: 0 }, "3 bytes into it"),
            (Cause::PeerClosedInFrame { kept: 0, missing: 9 }, "9 bytes of its payload are missing"),
            (Cause::ConnectTimedOut { after: half }, "no answer within 500ms"),
            (Cause::FinishTimedOut { after: half, unsent: 7 }, "7 bytes that the peer did not take"),
            (Cause::FinishTimedOut { after: half, unsent: 0 }, "did not close within 500ms"),
            (Cause::of("recv", Errno::CONNRESET), "reset"),
            (Cause::of("connect", Errno::CONNREFUSED), "nobody listens"),
            (Cause::of("connect", Errno::NETUNREACH), "Network is unreachable"),
            (Cause::of("recv", Errno::TIMEDOUT), "acknowledged nothing"),
            (Cause::of("recv", Errno::NOMEM), "recv: "),
        ] {
            assert!(cause.to_string().contains(words), "{words:?} in {cause}");
        }
    }
}
