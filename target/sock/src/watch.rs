//! One epoll instance for all that a group waits for, in one slot of the reactor's io_uring.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;
use tgt_env::uring::{Interest, SourceId};
use tgt_reactor::Cx;

use crate::SockError;
use crate::error::remedy_of;
use crate::table::Subject;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

pub(crate) struct Watch {
    epoll: Arc<OwnedFd>,
    /// None once it was closed.
    source: Option<SourceId>,
    /// The io_uring will tell of events.
    armed: bool,
    /// There may be more events than were taken.
    more: bool,
    complained: bool,
    events: Vec<epoll::Event>,
}

/// Readiness of one thing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News {
    pub(crate) subject: Subject,
    pub(crate) flags: EventFlags,
}

impl Watch {
    pub(crate) fn new(cx: &mut Cx) -> Result<Watch, SockError> {
        let refused = |errno: rustix::io::Errno| refusal(errno.into());
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC).map_err(refused)?);
        let source = cx.uring().add_source()?;
        let events = Vec::with_capacity(EVENTS);
        let mut watch =
            Watch { epoll, source: Some(source), armed: false, more: false, complained: false, events };
        watch.arm(cx).inspect_err(|_| watch.close(cx))?;
        Ok(watch)
    }

    /// Whether anything that happens will wake the reactor.
    pub(crate) fn wakes(&self) -> bool {
        self.armed && !self.more
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.source.is_none()
    }

    /// Watches `fd` once for `flags` (none: for errors only).
    pub(crate) fn add(&self, fd: impl AsFd, subject: Subject, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(subject.key());
        epoll::add(&*self.epoll, fd, data, flags | EventFlags::ONESHOT).map_err(Into::into)
    }

    /// Watches `fd` once more.
    pub(crate) fn arm_again(&self, fd: impl AsFd, subject: Subject, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(subject.key());
        epoll::modify(&*self.epoll, fd, data, flags | EventFlags::ONESHOT).map_err(Into::into)
    }

    /// Watches a descriptor no more that is not going to be closed.
    pub(crate) fn forget(&self, fd: impl AsFd) -> io::Result<()> {
        epoll::delete(&*self.epoll, fd).map_err(Into::into)
    }

    /// Takes what is new, if the io_uring told of anything. Loads only if it did not.
    pub(crate) fn take(&mut self, cx: &mut Cx) {
        self.events.clear();
        let Some(source) = self.source else { return };
        let mut told = self.more || !self.armed;
        while let Some(completion) = cx.uring().next_completion(source) {
            told = true;
            self.armed = completion.more;
        }
        if !told {
            return;
        }
        if !self.armed {
            let armed = self.arm(cx);
            self.report(cx, armed);
        }
        // Nothing but a signal can make it fail: then the next turn looks again.
        let taken = epoll::wait(&*self.epoll, spare_capacity(&mut self.events), Some(&NO_TIME));
        self.more = taken.is_err() || self.events.len() == self.events.capacity();
    }

    pub(crate) fn news_count(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn news(&self, index: usize) -> News {
        let epoll::Event { flags, data, .. } = self.events[index];
        News { subject: Subject::of_key(data.u64()), flags }
    }

    /// Leaves the io_uring.
    pub(crate) fn close(&mut self, cx: &mut Cx) {
        if let Some(source) = self.source.take() {
            let removed = cx.uring().remove_source(source).map_err(SockError::from);
            self.report(cx, removed);
        }
    }

    fn arm(&mut self, cx: &mut Cx) -> Result<(), SockError> {
        let Some(source) = self.source else { return Err(SockError::Closed) };
        cx.uring().poll_fd(source, self.epoll.clone(), Interest::Readable, true, 0)?;
        self.armed = true;
        Ok(())
    }

    /// Says once what is wrong: until it is right again the reactor does not sleep.
    fn report(&mut self, cx: &Cx, outcome: Result<(), SockError>) {
        match outcome {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::error!(reactor = %cx.id(), %error, "streams are polled without sleep until this passes");
            }
            Err(_) => {}
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.source.is_some() && !std::thread::panicking() {
            tracing::error!(
                "a group of streams was dropped without `close`: its place in the io_uring is lost"
            );
        }
    }
}

pub(crate) fn refusal(source: io::Error) -> SockError {
    SockError::Watch { remedy: remedy_of(&source), source }
}
