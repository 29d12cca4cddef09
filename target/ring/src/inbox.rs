//! Many senders to one reactor, for control: rare, so a slower queue will do.

use crate::Doorbell;
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;

/// The receiving end: owned by the reactor.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Arc<ArrayQueue<T>>,
    bell: Arc<Doorbell>,
}

/// A sending end; clone it for every thread that wants one.
#[derive(Debug)]
pub struct Outbox<T> {
    queue: Arc<ArrayQueue<T>>,
    bell: Arc<Doorbell>,
}

impl<T> Inbox<T> {
    /// An inbox for `capacity` items that rings `bell`.
    #[must_use]
    pub fn new(capacity: usize, bell: Arc<Doorbell>) -> Inbox<T> {
        Inbox { queue: Arc::new(ArrayQueue::new(capacity)), bell }
    }

    /// The oldest item. Look only after the bell was rung: an empty look costs several nanoseconds.
    #[must_use]
    pub fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Another sending end.
    #[must_use]
    pub fn outbox(&self) -> Outbox<T> {
        Outbox { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Inbox<T> {
        Inbox { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> Outbox<T> {
    /// Queues an item and rings; hands it back if the inbox is full.
    pub fn send(&self, item: T) -> Result<(), T> {
        self.queue.push(item)?;
        self.bell.ring();
        Ok(())
    }

    /// The receiver's bell, for links to the same reactor.
    #[must_use]
    pub fn bell(&self) -> &Arc<Doorbell> {
        &self.bell
    }
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Outbox<T> {
        Outbox { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::Inbox;
    use crate::Doorbell;
    use std::sync::Arc;

    #[test]
    fn a_full_inbox_hands_the_item_back() {
        let inbox = Inbox::new(1, Arc::new(Doorbell::new().expect("eventfd")));
        let (one, other) = (inbox.outbox(), inbox.outbox());
        assert_eq!(one.send(1), Ok(()));
        assert_eq!(other.send(2), Err(2));
        assert!(inbox.outbox().bell().take());
        assert_eq!((inbox.pop(), inbox.pop()), (Some(1), None));
    }
}
