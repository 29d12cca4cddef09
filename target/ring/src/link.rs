//! One sender to one receiver, for what flows per IO between two reactors.

use crate::Doorbell;
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;

/// The sending end of a [`link`].
#[derive(Debug)]
pub struct Sender<T> {
    ring: Producer<T>,
    bell: Arc<Doorbell>,
    unannounced: bool,
}

/// The receiving end of a [`link`].
#[derive(Debug)]
pub struct Receiver<T> {
    ring: Consumer<T>,
}

/// A queue of `capacity` items towards the owner of `bell`.
#[must_use]
pub fn link<T>(capacity: usize, bell: Arc<Doorbell>) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    (Sender { ring: producer, bell, unannounced: false }, Receiver { ring: consumer })
}

impl<T> Sender<T> {
    /// Queues an item without telling the receiver yet; hands it back if the queue is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.ring.push(item).map_err(|rtrb::PushError::Full(item)| item)?;
        self.unannounced = true;
        Ok(())
    }

    /// Rings the receiver's bell if anything was queued since the last call: once per batch.
    #[inline]
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.bell.ring();
        }
    }

    /// Items that fit right now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.ring.slots()
    }

    /// True once the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_abandoned()
    }
}

impl<T> Receiver<T> {
    /// The oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.ring.pop().ok()
    }

    /// True once the sender is gone; what it sent can still be popped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use super::link;
    use crate::Doorbell;
    use std::sync::Arc;

    #[test]
    fn a_full_link_hands_the_item_back_and_a_batch_is_rung_once() {
        let bell = Arc::new(Doorbell::new().expect("eventfd"));
        let (mut sender, mut receiver) = link(2, bell.clone());
        assert_eq!((sender.push(1), sender.push(2), sender.push(3)), (Ok(()), Ok(()), Err(3)));
        assert!(!bell.take(), "not announced yet");
        sender.flush();
        assert!(bell.take());
        sender.flush();
        assert!(!bell.take(), "nothing new");
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(1), Some(2), None));
        assert_eq!(sender.room(), 2);
    }

    #[test]
    fn each_end_sees_that_the_other_is_gone() {
        let bell = Arc::new(Doorbell::new().expect("eventfd"));
        let (mut sender, mut receiver) = link(2, bell.clone());
        sender.push(1).expect("room");
        drop(sender);
        assert!(receiver.is_closed());
        assert_eq!(receiver.pop(), Some(1));
        let (sender, receiver) = link::<u8>(2, bell);
        drop(receiver);
        assert!(sender.is_closed());
    }
}
