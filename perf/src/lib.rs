//! rmr-perf: measures the target on pinned cores.
