//! What the target takes from machine and kernel: memory, cores, clock, io_uring.
