//! Who waits for whom: the locks of a bdev in the order in which they were asked for.
//!
//! A lock is *in force* when no earlier one overlaps it. It is *granted* when every channel that was open when it came into
//! force has acknowledged it, or has closed.

use super::{KeepsOut, Lock};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use tgt_reactor::Handle;

/// Part of a bdev's control state.
#[derive(Debug, Default)]
pub(crate) struct LockQueue {
    /// In the order of asking, which is that of their numbers.
    requests: Vec<Request>,
    /// Numbers given out; the first is 1.
    numbers: u64,
    /// What is in force has changed since somebody was told.
    changed: bool,
}

#[derive(Debug)]
struct Request {
    lock: Arc<Lock>,
    waker: Waker,
    state: State,
}

/// ```text
/// Waiting ─ no earlier one overlaps ─► InForce(channels) ─ none is missing ─► Granted
/// ```
#[derive(Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// These channels have not acknowledged it.
    InForce(Vec<u64>),
    Granted,
}

/// Who asked, and is told.
#[derive(Clone, Debug)]
pub(crate) enum Waker {
    /// The owner of an io channel on this reactor, by name.
    Channel(Handle, Arc<str>),
    /// A control thread.
    Thread,
}

impl fmt::Display for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waker::Channel(reactor, opener) => write!(f, "{opener} on {}", reactor.id()),
            Waker::Thread => f.write_str("another thread"),
        }
    }
}

impl LockQueue {
    /// Locks that are in force or waited for.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn ask(
        &mut self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        keeps_out: KeepsOut,
        waker: Waker,
    ) -> Arc<Lock> {
        self.numbers += 1;
        let lock = Arc::new(Lock::new(self.numbers, ranges, keeps_out));
        self.requests.push(Request { lock: lock.clone(), waker, state: State::Waiting });
        lock
    }

    /// Forgets a lock.
    pub(super) fn withdraw(&mut self, number: u64) {
        let Some(at) = self.requests.iter().position(|request| request.lock.number == number) else { return };
        self.changed |= self.requests.remove(at).state != State::Waiting;
    }

    /// Brings into force what no earlier request overlaps any more. `channels` are those that have to acknowledge. True if
    /// another set is in force than after the last call.
    pub(super) fn enforce(&mut self, channels: impl Fn() -> Vec<u64>) -> bool {
        for at in 0..self.requests.len() {
            let (earlier, rest) = self.requests.split_at_mut(at);
            let request = &mut rest[0];
            let free = |request: &Request| !earlier.iter().any(|other| other.lock.overlaps(&request.lock));
            if request.state == State::Waiting && free(request) {
                request.state = State::InForce(channels());
                self.changed = true;
            }
        }
        std::mem::take(&mut self.changed)
    }

    /// A channel has acknowledged these.
    pub(super) fn acknowledge(&mut self, channel: u64, numbers: &[u64]) {
        for request in self.requests.iter_mut().filter(|request| numbers.contains(&request.lock.number)) {
            request.forget_channel(channel);
        }
    }

    /// A channel has closed: it holds nothing up.
    pub(crate) fn channel_closed(&mut self, channel: u64) {
        self.requests.iter_mut().for_each(|request| request.forget_channel(channel));
    }

    /// Calls `grant` once for each lock that all channels have acknowledged, in order.
    pub(super) fn grant(&mut self, mut grant: impl FnMut(&Lock, &Waker)) {
        for request in &mut self.requests {
            if matches!(&request.state, State::InForce(missing) if missing.is_empty()) {
                request.state = State::Granted;
                grant(&request.lock, &request.waker);
            }
        }
    }

    /// What is in force, granted or not.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = &Arc<Lock>> {
        self.requests.iter().filter(|request| request.state != State::Waiting).map(|request| &request.lock)
    }

    /// The channels that have not acknowledged this lock.
    pub(super) fn missing(&self, number: u64) -> &[u64] {
        let request = self.requests.iter().find(|request| request.lock.number == number);
        match request.map(|request| &request.state) {
            Some(State::InForce(missing)) => missing,
            _ => &[],
        }
    }

    /// Who asked earlier for something that overlaps.
    pub(super) fn who_is_before(&self, lock: &Lock) -> Option<&Waker> {
        let earlier = self.requests.iter().take_while(|request| request.lock.number < lock.number);
        earlier.into_iter().find(|request| request.lock.overlaps(lock)).map(|request| &request.waker)
    }
}

impl Request {
    fn forget_channel(&mut self, channel: u64) {
        if let State::InForce(missing) = &mut self.state {
            missing.retain(|id| *id != channel);
        }
    }
}
