//! What is wrong with a choice of cores.

use std::io;

use super::{CpuMask, MAX_CORES};

/// Errors of core masks, `--lcores` strings, and pinning.
#[derive(Debug, thiserror::Error)]
pub enum CoresError {
    /// Not a core mask.
    #[error(
        "core mask '{text}': {problem}; accepted are hexadecimal masks (0x3, or 3 for the same) and lists ([0,1], [0-3,8], 0-1)"
    )]
    Mask {
        /// As given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not an `--lcores` string this target can follow.
    #[error(
        "lcores '{text}': {problem}; accepted are lcores that run on one CPU each (0-3, or 0@4,1@5, or (0)@(4))"
    )]
    Lcores {
        /// As given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A core number beyond what can be handled.
    #[error("'{text}' names core {core}; cores 0 to {max} can be used", max = MAX_CORES - 1)]
    TooLarge {
        /// As given.
        text: String,
        /// The number.
        core: u64,
    },
    /// An empty mask.
    #[error("the core mask names no core; this process may use {usable:?}")]
    NoCore {
        /// Cores the process may use.
        usable: Box<CpuMask>,
    },
    /// Cores the machine does not have.
    #[error("core mask {asked}: cores {absent:?} do not exist or are offline; this machine has {online:?}")]
    Absent {
        /// As given.
        asked: Box<CpuMask>,
        /// Those missing.
        absent: Box<CpuMask>,
        /// Those there.
        online: Box<CpuMask>,
    },
    /// Cores kept from this process by affinity, cgroup or container.
    #[error(
        "core mask {asked}: cores {forbidden:?} are not allowed to this process (taskset, cgroup or container); it may use {usable:?}"
    )]
    Forbidden {
        /// As given.
        asked: Box<CpuMask>,
        /// Those not allowed.
        forbidden: Box<CpuMask>,
        /// Those allowed.
        usable: Box<CpuMask>,
    },
    /// The affinity could not be read.
    #[error("cannot read which cores this process may use: {source}")]
    Affinity {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A thread could not be pinned.
    #[error(
        "cannot run on core {core} ({source}): it does not exist, is offline, or is not allowed to this process"
    )]
    Pin {
        /// The core.
        core: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}
