//! The null bdev: completes everything, stores nothing.
