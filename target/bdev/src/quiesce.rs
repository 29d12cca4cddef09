//! Pauses of a bdev: no IO of any channel is in its device while one is in force.
//!
//! ```text
//! request ─► queue (FIFO) ─► in force: every channel holds new IO back, and acknowledges when nothing of it is left
//!                               │        in the device
//!                               ▼
//!                            quiet: all have acknowledged, the holder goes on
//!                               │
//!            over ◄─────────────┘        the next of the queue comes into force, or IO flows again
//! ```
//! The holder is a control thread ([`Bdev::quiesce`]) or an io channel that emulates a compare-and-write; the channel's
//! side is in `io_channel/pause.rs`. Late or doubled messages do no harm: a channel acknowledges a pause by its number,
//! under the lock of the bdev's control state, and only that of the pause in force counts. Pauses that follow each other
//! without a gap have different numbers, and a channel lets what it holds back go between the two.

use crate::bdev::{Bdev, Control};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};
use tgt_reactor::Handle;

/// The pauses that were asked for; part of a bdev's control state.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    /// The first is in force.
    queue: VecDeque<Pause>,
    /// Numbers given out; the first is 1.
    numbers: u64,
}

#[derive(Debug)]
struct Pause {
    number: u64,
    /// The reactor of the channel that holds it; none: a control thread.
    holder: Option<Handle>,
}

/// No IO of any channel is in the bdev's device until this is dropped.
#[derive(Debug)]
pub struct Quiesced {
    bdev: Arc<Bdev>,
    number: u64,
}

/// Why a bdev did not become quiet. IO flows as before.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuiesceError {
    /// It was removed.
    #[error("bdev {0:?} is removed: there is nothing to quiesce")]
    Removed(String),
    /// IO did not end, or another pause did not.
    #[error(
        "bdev {bdev:?} did not become quiet within {patience:?}: {why}; wait for its IO, or reset the bdev"
    )]
    TimedOut {
        /// The bdev.
        bdev: String,
        /// How long was waited.
        patience: Duration,
        /// Whose IO is in it, or who holds it.
        why: String,
    },
}

impl Bdev {
    /// Holds new IO of all channels back and waits until nothing is in the device, for `patience` at most. Control
    /// threads only. Everything goes on when what this returns is dropped.
    ///
    /// # Errors
    /// [`QuiesceError`]; nothing is held back then.
    pub fn quiesce(self: &Arc<Bdev>, patience: Duration) -> Result<Quiesced, QuiesceError> {
        let deadline = Instant::now() + patience;
        let mut control = self.control();
        let number = self.enqueue(&mut control, None);
        loop {
            if self.is_removed() {
                self.withdraw(&mut control, number);
                return Err(QuiesceError::Removed(self.name().to_owned()));
            }
            if self.is_quiet(number) {
                return Ok(Quiesced { bdev: self.clone(), number });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = control.why_not_quiet(number);
                self.withdraw(&mut control, number);
                return Err(QuiesceError::TimedOut { bdev: self.name().to_owned(), patience, why });
            }
            let waited = self.quiet_changed.wait_timeout(control, left);
            control = waited.expect("no thread panics while it holds this lock").0;
        }
    }

    /// Asks for a pause for a channel on `holder`, which is woken when everything is quiet.
    pub(crate) fn request_pause(&self, holder: Handle) -> u64 {
        self.enqueue(&mut self.control(), Some(holder))
    }

    /// The pause is over, or is not wanted any more.
    pub(crate) fn end_pause(&self, number: u64) {
        self.withdraw(&mut self.control(), number);
    }

    /// Nothing of this channel is in the device, and nothing will be while this pause is in force.
    pub(crate) fn acknowledge_pause(&self, channel: u64, number: u64) {
        let mut control = self.control();
        if let Some(entry) = control.channels.iter_mut().find(|entry| entry.id == channel) {
            entry.quiet_for = number;
        }
        self.look_if_quiet(&control);
    }

    /// Number of the pause in force; zero: none.
    pub(crate) fn pause(&self) -> u64 {
        self.pause.load(Acquire)
    }

    /// True if this pause is in force and all channels have acknowledged it.
    pub(crate) fn is_quiet(&self, number: u64) -> bool {
        self.quiet.load(Acquire) == number
    }

    /// Called with the lock held, after anything that may make a pause quiet.
    pub(crate) fn look_if_quiet(&self, control: &Control) {
        let Some(Pause { number, holder }) = control.pauses.queue.front() else { return };
        if self.is_quiet(*number) || control.channels.iter().any(|channel| channel.quiet_for != *number) {
            return;
        }
        self.quiet.store(*number, Release);
        match holder {
            // An empty message, so that a sleeping reactor polls; one whose inbox is full is awake anyway.
            Some(reactor) => drop(reactor.send(|_| ())),
            None => self.quiet_changed.notify_all(),
        }
    }

    fn enqueue(&self, control: &mut Control, holder: Option<Handle>) -> u64 {
        control.pauses.numbers += 1;
        let number = control.pauses.numbers;
        control.pauses.queue.push_back(Pause { number, holder });
        if control.pauses.queue.len() == 1 {
            self.enforce_first(control);
        }
        number
    }

    fn withdraw(&self, control: &mut Control, number: u64) {
        let queue = &mut control.pauses.queue;
        let Some(index) = queue.iter().position(|pause| pause.number == number) else { return };
        queue.remove(index);
        if index == 0 {
            self.enforce_first(control);
        }
    }

    /// Another pause is in force now, or none.
    fn enforce_first(&self, control: &Control) {
        let number = control.pauses.queue.front().map_or(0, |pause| pause.number);
        self.pause.store(number, Release);
        self.announce(control);
        self.look_if_quiet(control);
    }
}

impl Control {
    fn why_not_quiet(&self, number: u64) -> String {
        match self.pauses.queue.front() {
            Some(first) if first.number != number => match &first.holder {
                Some(reactor) => format!("a compare-and-write on {} holds it", reactor.id()),
                None => "another thread holds it".to_owned(),
            },
            _ => {
                let loud = self.channels.iter().filter(|channel| channel.quiet_for != number);
                let names: Vec<_> =
                    loud.map(|loud| format!("{} on {}", loud.opener, loud.reactor.id())).collect();
                format!("IO is in flight for {}", names.join(", "))
            }
        }
    }
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        self.bdev.end_pause(self.number);
    }
}
