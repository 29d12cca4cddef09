//! What is known of one queue.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::queue::Shared;
use crate::ring::RingSpec;

/// How a guest's requests are noticed. A ring is started when this is set, and stopped by `GET_VRING_BASE`.
#[derive(Clone, Debug, Default)]
pub(crate) enum Kick {
    /// The ring is stopped.
    #[default]
    Stopped,
    /// By looking at the ring.
    Polled,
    /// By an eventfd.
    Eventfd(Arc<OwnedFd>),
}

impl PartialEq for Kick {
    fn eq(&self, other: &Kick) -> bool {
        match (self, other) {
            (Kick::Stopped, Kick::Stopped) | (Kick::Polled, Kick::Polled) => true,
            (Kick::Eventfd(one), Kick::Eventfd(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// One queue, as its front end has set it up.
#[derive(Debug, Default)]
pub(crate) struct Vring {
    /// Its flags are the session's features; here they are not set.
    pub(crate) spec: RingSpec,
    /// Where its ring goes on.
    pub(crate) base: u32,
    pub(crate) kick: Kick,
    pub(crate) call: Option<Arc<OwnedFd>>,
    pub(crate) error: Option<Arc<OwnedFd>>,
    pub(crate) enabled: bool,
    /// Its ring, or another of the session, was wrong: it does not run until it is set up anew.
    pub(crate) broken: bool,
    /// While it runs.
    pub(crate) running: Option<Arc<Shared>>,
}
