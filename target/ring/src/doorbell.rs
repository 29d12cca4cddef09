//! The bell of one receiver: the flags and the eventfd that wakes it.

use crate::flags::Flags;
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Tells a receiver that something was queued for it, and wakes it if it sleeps. Shared by all its senders.
#[derive(Debug)]
pub struct Doorbell {
    flags: Flags,
    eventfd: OwnedFd,
    wakes: AtomicU64,
}

impl Doorbell {
    /// A bell nobody has rung. Fails only if the process has no file descriptors left.
    pub fn new() -> std::io::Result<Doorbell> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Doorbell { flags: Flags::new(), eventfd, wakes: AtomicU64::new(0) })
    }

    /// Any thread, after queueing a batch.
    pub fn ring(&self) {
        if self.flags.ring() {
            self.wake();
        }
    }

    /// Receiver, each turn: whether anything was queued since the last call. Drain the queues if so.
    #[inline]
    #[must_use]
    pub fn take(&self) -> bool {
        self.flags.take()
    }

    /// Receiver: announces that it is about to wait until its file descriptor is readable. False: do not, something was queued.
    #[must_use]
    pub fn try_sleep(&self) -> bool {
        self.flags.try_sleep()
    }

    /// Receiver, after it waited; empties the eventfd.
    pub fn woke(&self) {
        self.flags.woke();
        let mut count = [0; 8];
        // Nothing to read (it woke for another reason) is fine; an eventfd has no other error.
        let _ = rustix::io::read(&self.eventfd, &mut count);
    }

    /// How often a sender had to wake the receiver.
    #[must_use]
    pub fn wakes(&self) -> u64 {
        self.wakes.load(Relaxed)
    }

    #[cold]
    fn wake(&self) {
        self.wakes.fetch_add(1, Relaxed);
        // EAGAIN would need 2^64-1 unread wakes; the receiver is awake then anyway.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}

/// Becomes readable when a sleeping receiver is rung.
impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::Doorbell;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable(bell: &Doorbell) -> bool {
        let mut fds = [PollFd::new(bell, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll") == 1
    }

    #[test]
    fn a_sleeper_finds_its_eventfd_readable_and_empties_it() {
        let bell = Doorbell::new().expect("eventfd");
        assert!(bell.try_sleep());
        bell.ring();
        bell.ring();
        assert!(readable(&bell));
        assert_eq!(bell.wakes(), 1);
        bell.woke();
        assert!(!readable(&bell));
        assert!(bell.take());
    }

    #[test]
    fn a_receiver_that_is_awake_costs_no_system_call() {
        let bell = Doorbell::new().expect("eventfd");
        bell.ring();
        assert!(!readable(&bell));
        assert_eq!(bell.wakes(), 0);
    }
}
