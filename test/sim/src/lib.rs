//! The simulator that proves the replication engine.
