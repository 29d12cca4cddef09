//! What the target takes from machine and kernel: memory, cores, clock, io_uring.
//!
//! **What it is, and is not.** One of the few crates that may hold `unsafe` code: whatever touches raw memory or asks
//! the kernel for something beyond files and sockets is here, behind an interface that safe code cannot misuse.
//! It knows nothing of reactors, block devices or protocols, and starts no thread.
//!
//! **Words.**
//! * *granule*: 2 MiB of DMA memory, the unit in which it is mapped and given back.
//! * *buffer* ([`memory::DmaBuf`]): 512 B to 2 MiB, owned by one place at a time; IO is done with these.
//! * *region* ([`memory::Region`]): contiguous granules for a memory disk; copied to and from, never seen as a slice.
//! * *registrable*: its pages stay in place, so the kernel or a device may be told their address.
//! * *source* ([`uring::SourceId`]): one consumer of completions on a reactor's io_uring.
//! * *always polling*, *adaptive*: whether a target spins on its cores or sleeps when idle ([`core_lock::CoreUse`]).
//!
//! **Who may call it, on which thread.**
//! * [`memory`]: any thread, any time. [`memory::Memory::init`] once, before the first allocation; a process that
//!   never calls it gets ordinary pages. A thread should be pinned before its first allocation: its cache serves the
//!   NUMA node it runs on.
//! * [`uring::Uring`]: only the thread that made it; the compiler sees to that.
//! * [`cores`]: any thread; [`cores::usable_cores`] for the first time before any thread is pinned.
//! * [`core_lock`]: control threads; it makes system calls.
//! * [`bufs`], [`clock`] and [`probe`] say it themselves.
//!
//! **Invariants.**
//! * Memory handed out is mapped and is nobody else's until it is dropped; a fresh region reads zero.
//! * In steady state a buffer is taken and given back without a lock, a system call or a heap allocation.
//! * Lack of hugepages or of the right to lock never keeps the target from running, unless the operator demanded
//!   hugepages; [`memory::Memory::advice`] says in one line what is lost.
//! * Every mapping is announced to each observer once and withdrawn once, whole.
//! * Granules of buffers stay mapped until the process ends: an io_uring may have pinned their pages.
//! * An io_uring operation occupies one slot from its start until its last completion is consumed or swallowed; the
//!   ring holds its file descriptor and its buffers as long as the kernel may use them, a ring that ends included.
//! * No error from the kernel is dropped where it changes what the caller may rely on.
//!
//! **Map of files.** `memory/`: `mod` the process's memory, `buf` and `region` what callers hold, `cache` → `pool` →
//! `space` where a buffer comes from, `table` address to granule, `runs` free granules, `backing` the mappings,
//! `machine` what /proc and /sys say, `advice` the operator's line, `observer`, `stats`, `config`, `class`, `error`.
//! `uring.rs` and `uring/`: the ring, its `slots` and sources, `files` that are read and written, `fixed` the buffers that
//! the kernel knows, its `error`s. `cores.rs` and `cores/`: `mask` and
//! `lcores` notations. `core_lock.rs` and `core_lock/`: the protocol, one lock `file`. `bufs/`: the buffers of one
//! IO. `clock.rs`: the time a reactor reads once a turn. `probe.rs`: places where tracing tools attach.
//!
//! **Where the tests are.** Beside the code; `memory/tests.rs`, `uring/tests.rs`, `core_lock/tests.rs` and
//! `bufs/tests.rs` for those that cross files. Tests that set process-wide limits, or need a second process, start
//! the test binary again (`testing.rs`).

pub mod bufs;
pub mod clock;
pub mod core_lock;
pub mod cores;
pub mod memory;
pub mod probe;
pub mod uring;

#[cfg(test)]
mod testing;
