//! Reactors: one pinned thread per core, its pollers, timers, messages and sleep.
