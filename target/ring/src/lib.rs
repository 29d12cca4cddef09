//! Bounded queues between threads, and the doorbell that wakes a sleeping reactor.
