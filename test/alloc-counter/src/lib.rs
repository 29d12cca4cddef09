//! A counting allocator for tests and benches.
