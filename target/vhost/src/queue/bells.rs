//! Kicks, by which a guest tells of requests, and calls, by which it is told of answers. Both are eventfds.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tgt_env::clock::Ticks;
use tgt_env::uring::{Interest, SourceId};
use tgt_reactor::Cx;

use super::Coalescing;
use crate::ring::Ring;

/// Over how long requests are counted to know how many there are a second.
const WINDOW: Duration = Duration::from_millis(10);
const WINDOWS_PER_SECOND: u32 = 100;

/// The kick eventfd, armed in the reactor's io_uring. It is never read: each kick is a change, which is all that counts, and a
/// read of what another process holds could block.
pub(super) struct Kicks {
    fd: Option<Arc<OwnedFd>>,
    source: Option<SourceId>,
    armed: bool,
    /// The guest was asked to kick.
    pub(super) asked: bool,
}

impl Kicks {
    pub(super) fn new(cx: &mut Cx, fd: Option<Arc<OwnedFd>>) -> Result<Kicks, String> {
        let source = fd.as_ref().map(|_| cx.uring().add_source()).transpose();
        let source = source.map_err(|why| why.to_string())?;
        let mut kicks = Kicks { fd, source, armed: false, asked: false };
        kicks.arm(cx);
        Ok(kicks)
    }

    /// Takes in that the guest has kicked: whoever is polled looks at the ring anyway.
    #[inline]
    pub(super) fn take(&mut self, cx: &mut Cx) {
        let Some(source) = self.source else { return };
        while let Some(completion) = cx.uring().next_completion(source) {
            self.armed = completion.more;
        }
        if !self.armed {
            self.arm(cx);
        }
    }

    /// Whether a kick would wake the reactor.
    pub(super) fn can_wake(&self) -> bool {
        self.armed
    }

    #[cold]
    fn arm(&mut self, cx: &mut Cx) {
        let (Some(source), Some(fd)) = (self.source, &self.fd) else { return };
        // Without a slot in the io_uring the ring is polled until there is one.
        let armed = cx.uring().poll_fd(source, fd.clone(), Interest::Readable, true, 0);
        self.armed = armed.is_ok();
    }

    pub(super) fn close(&mut self, cx: &mut Cx) {
        if let Some(source) = self.source.take()
            && let Err(error) = cx.uring().remove_source(source)
        {
            tracing::error!(reactor = %cx.id(), %error, "a kick eventfd stays in the io_uring");
        }
        self.armed = false;
    }
}

/// The call eventfd, and when it is written.
pub(super) struct Calls {
    fd: Option<Arc<OwnedFd>>,
    /// Something was answered since the guest was called, or found not to want it.
    pub(super) news: bool,
    coalescing: Coalescing,
    /// When the next call may be made, while calls are held back.
    next: Ticks,
    held_back: bool,
    window_ends: Ticks,
    /// Answers in this window.
    answers: u32,
}

impl Calls {
    /// A process before this one may have died between an answer and its call: the guest is called once for nothing.
    pub(super) fn new(fd: Option<Arc<OwnedFd>>, coalescing: Coalescing) -> Calls {
        ring_bell(fd.as_deref());
        Calls {
            fd,
            news: false,
            coalescing,
            next: Ticks::ZERO,
            held_back: false,
            window_ends: Ticks::ZERO,
            answers: 0,
        }
    }

    pub(super) fn change(&mut self, fd: Option<Arc<OwnedFd>>, coalescing: Coalescing) {
        // What was answered may have been told to the eventfd of before: the new one hears of it once too often rather
        // than never.
        let same = matches!((&fd, &self.fd), (Some(new), Some(old)) if Arc::ptr_eq(new, old));
        if !same {
            ring_bell(fd.as_deref());
        }
        self.fd = fd;
        self.coalescing = coalescing;
        self.held_back = false;
    }

    /// Something was answered.
    #[inline]
    pub(super) fn answered(&mut self) {
        self.news = true;
        self.answers = self.answers.wrapping_add(1);
    }

    /// Calls the guest if there is news, it wants to know, and it is time.
    #[inline]
    pub(super) fn call_if_wanted(&mut self, cx: &mut Cx, ring: &mut Ring) {
        if !self.news {
            return;
        }
        if self.coalescing.delay_base_us > 0 && !self.may_call(cx) {
            return;
        }
        self.call_now(ring);
    }

    /// As [`Calls::call_if_wanted`], whatever the time.
    #[inline]
    pub(super) fn call_now(&mut self, ring: &mut Ring) {
        if std::mem::take(&mut self.news) && ring.wants_call() {
            ring_bell(self.fd.as_deref());
        }
    }

    #[cold]
    fn may_call(&mut self, cx: &mut Cx) -> bool {
        let now = cx.now();
        if now >= self.window_ends {
            let rate = self.answers.saturating_mul(WINDOWS_PER_SECOND);
            self.held_back = rate > self.coalescing.iops_threshold;
            self.answers = 0;
            self.window_ends = now + Ticks::from_duration(WINDOW);
        }
        if self.held_back && now < self.next {
            cx.wake_at(self.next);
            return false;
        }
        self.next = now + Ticks::from_duration(Duration::from_micros(self.coalescing.delay_base_us.into()));
        true
    }
}

/// Adds one to an eventfd. It does not block: they are made non-blocking when they come in; full, it tells already.
pub(crate) fn ring_bell(fd: Option<&OwnedFd>) {
    if let Some(fd) = fd {
        let _told = rustix::io::write(fd, &1_u64.to_ne_bytes());
    }
}
