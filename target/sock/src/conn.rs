//! One stream as its group keeps it.
//!
//! ```text
//!             connected                finish                all sent: FIN
//! Connecting ───────────▶ Open ───────────────▶ Finishing ───────────────▶ Finishing, shut
//!      │  refused, late    │ end, error, abort       │ late, error               │ end: Finished
//!      └───────────────────┴────────────▶ Ended ◀────┴───────────────────────────┘
//! ```

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use tgt_env::clock::Ticks;

use crate::Cause;
use crate::outgoing::{Outgoing, Payload};

/// How far a stream is. Changed by [`Conn::go`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The kernel tries.
    Connecting {
        /// The time it has.
        within: Duration,
    },
    /// Both ways.
    Open,
    /// What is queued goes out, what comes is handed on, until the peer closes.
    Finishing {
        /// The time it has.
        within: Duration,
        /// All is sent, and the peer will be told.
        shut: bool,
    },
    /// The socket is closed; the user will hear why.
    Ended,
}

impl Phase {
    fn may_become(self, next: Phase) -> bool {
        match next {
            Phase::Ended => self != Phase::Ended,
            Phase::Open => matches!(self, Phase::Connecting { .. }),
            Phase::Finishing { shut: false, .. } => self == Phase::Open,
            Phase::Finishing { shut: true, .. } => matches!(self, Phase::Finishing { shut: false, .. }),
            Phase::Connecting { .. } => false,
        }
    }

    /// Bytes go both ways.
    pub(crate) fn is_connected(self) -> bool {
        matches!(self, Phase::Open | Phase::Finishing { .. })
    }

    /// Takes more to send.
    pub(crate) fn takes_more(self) -> bool {
        matches!(self, Phase::Connecting { .. } | Phase::Open)
    }
}

/// A payload that comes straight into its own memory.
pub(crate) struct Awaited {
    pub(crate) payload: Payload,
    pub(crate) done: u32,
}

/// What a stream owes its user of what came.
#[derive(Default)]
pub(crate) struct Input {
    /// Front of an incomplete frame; empty while a payload is awaited.
    pub(crate) kept: Vec<u8>,
    pub(crate) awaited: Option<Awaited>,
    /// The user wants nothing now.
    pub(crate) held: bool,
    /// What was kept is to be handed out again, whether more comes or not.
    pub(crate) again: bool,
}

/// A stream.
pub(crate) struct Conn {
    /// None once it has ended.
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) peer: SocketAddr,
    pub(crate) user: u64,
    phase: Phase,
    pub(crate) input: Input,
    /// None while nothing is queued.
    pub(crate) output: Option<Box<Outgoing>>,
    /// What the kernel will report once. None: nothing, until it is armed again.
    pub(crate) armed: Option<EventFlags>,
    /// When something came last; `NEVER`: it was heated since, and not looked at yet.
    pub(crate) last_active: Ticks,
    /// The kernel takes no more: try again, or wait for room.
    pub(crate) blocked: bool,
    /// When it took something last, while blocked.
    pub(crate) last_sent: Ticks,
    /// Bytes that came, that the kernel took, and of these those that the peer's host is known to have.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    /// A `send` was refused: tell when there is room.
    pub(crate) refused: bool,
    /// Sending has failed. What came before is still read.
    pub(crate) broken: Option<Cause>,
    /// In the group's list of streams that are read each turn.
    pub(crate) hot: bool,
    /// In the group's list of streams that have something to send.
    pub(crate) dirty: bool,
}

impl Conn {
    pub(crate) fn new(fd: OwnedFd, peer: SocketAddr, phase: Phase) -> Conn {
        Conn {
            fd: Some(fd),
            peer,
            user: 0,
            phase,
            input: Input::default(),
            output: None,
            armed: None,
            last_active: Ticks::NEVER,
            blocked: false,
            last_sent: Ticks::ZERO,
            received: 0,
            sent: 0,
            acknowledged: 0,
            refused: false,
            broken: None,
            hot: false,
            dirty: false,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The one place where the phase changes. Panics if there is no such way.
    pub(crate) fn go(&mut self, next: Phase) {
        assert!(self.phase.may_become(next), "a stream goes from {:?} to {next:?}", self.phase);
        self.phase = next;
    }

    /// What it waits for.
    pub(crate) fn wants(&self) -> EventFlags {
        let read = if self.input.held { EventFlags::empty() } else { EventFlags::IN | EventFlags::RDHUP };
        let write = if self.blocked { EventFlags::OUT } else { EventFlags::empty() };
        read | write
    }

    /// Whether the kernel will report whatever it waits for.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.is_some_and(|armed| armed.contains(self.wants()))
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.output.as_ref().map_or(0, |queue| queue.bytes())
    }

    /// What the end of the peer's bytes means.
    pub(crate) fn cause_of_end(&self) -> Cause {
        let missing = self.input.awaited.as_ref().map_or(0, |awaited| awaited.payload.len - awaited.done);
        let kept = self.input.kept.len() as u32;
        match (self.broken, self.phase) {
            (Some(cause), _) => cause,
            (None, Phase::Finishing { shut: true, .. }) => Cause::Finished,
            _ if missing > 0 || kept > 0 => Cause::PeerClosedInFrame { kept, missing },
            _ => Cause::PeerClosed,
        }
    }
}

/// What a parked stream costs this process, besides what the kernel keeps.
const _: () = assert!(size_of::<Conn>() < 400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_true() {
        let within = Duration::ZERO;
        let all = [
            Phase::Connecting { within },
            Phase::Open,
            Phase::Finishing { within, shut: false },
            Phase::Finishing { within, shut: true },
            Phase::Ended,
        ];
        let ways: Vec<Vec<usize>> =
            all.iter().map(|from| (0..all.len()).filter(|&to| from.may_become(all[to])).collect()).collect();
        assert_eq!(ways, [vec![1, 4], vec![2, 4], vec![3, 4], vec![4], vec![]]);
    }
}
