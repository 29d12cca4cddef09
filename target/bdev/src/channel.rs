//! The one shape: submit and poll.

use crate::io::{Done, Io};
use std::collections::VecDeque;
use tgt_reactor::{Cx, Work};

/// A way to a device on one reactor. Modules implement it; [`crate::IoChannel`] wraps it with what all devices need.
///
/// A layer without state of its own hands `Io` and `Done` through untouched. A layer that has to remember something
/// keeps the `Io` in a table of its own and submits another with its own tag.
pub trait Channel {
    /// Takes an IO. `Err(io)`: no slot right now, try again after a completion; nothing has happened.
    ///
    /// The caller guarantees that the IO is in range, supported, and within the device's limits.
    fn submit(&mut self, cx: &mut Cx, io: Io) -> Result<(), Io>;

    /// Pushes what has completed to the back of `done`. Does a bounded amount of work; never called inside `submit`.
    ///
    /// [`Work::Spin`] while IO is in flight that only polling will complete.
    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work;
}

/// Completions on their way up, oldest first.
#[derive(Debug, Default)]
pub struct DoneQueue(VecDeque<Done>);

impl DoneQueue {
    /// An empty queue with room for `capacity` completions; it grows if it must.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> DoneQueue {
        DoneQueue(VecDeque::with_capacity(capacity))
    }

    /// Adds a completion.
    #[inline]
    pub fn push(&mut self, done: Done) {
        self.0.push_back(done);
    }

    /// Takes the oldest completion.
    #[inline]
    pub fn pop(&mut self) -> Option<Done> {
        self.0.pop_front()
    }

    /// How many there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves everything from `other` to the back of this queue; costs nothing if this one is empty.
    #[inline]
    pub fn take_all(&mut self, other: &mut DoneQueue) {
        if self.0.is_empty() {
            // So that what is pushed to it next lies in one piece.
            self.0.clear();
            std::mem::swap(&mut self.0, &mut other.0);
        } else {
            self.0.append(&mut other.0);
        }
    }

    /// The completions from index `from` on.
    #[inline]
    pub(crate) fn iter_from(&self, from: usize) -> impl Iterator<Item = &Done> {
        self.0.range(from..)
    }

    /// As [`DoneQueue::iter_from`], in one piece of memory, which is cheaper to go through. They lie so already, unless
    /// they were pushed one by one to a queue that was not emptied by [`DoneQueue::take_all`].
    #[inline]
    pub(crate) fn slice_from(&mut self, from: usize) -> &[Done] {
        &self.0.make_contiguous()[from..]
    }

    /// Takes the completions from index `from` on for which `take` is true, in order.
    pub(crate) fn extract(&mut self, from: usize, take: impl Fn(&Done) -> bool, mut each: impl FnMut(Done)) {
        for _ in from..self.0.len() {
            let done = self.0.remove(from).expect("index is below the length");
            if take(&done) {
                each(done);
            } else {
                self.0.push_back(done);
            }
        }
    }
}
