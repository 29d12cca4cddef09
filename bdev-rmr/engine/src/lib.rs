//! The replication engine: pure state machines of both sides of RMR.
