//! Why an io_uring could not be had or used, and what to do about it.

use std::fs;
use std::io;

/// Errors of [`super::Uring`].
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// Switched off by sysctl.
    #[error(
        "io_uring is refused: kernel.io_uring_disabled is {setting} ({meaning}); set it with `sysctl kernel.io_uring_disabled=0`{group}",
        meaning = if *.setting == 1 { "only for privileged users" } else { "for everybody" },
        group = if *.setting == 1 { ", or add this user's group to kernel.io_uring_group" } else { "" }
    )]
    Disabled {
        /// The sysctl's value: 1 or 2.
        setting: u32,
    },
    /// Permission denied although the sysctl allows it.
    #[error(
        "io_uring is refused by a seccomp filter or security module ({source}): the default profiles of container runtimes do that; run with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (Docker, Podman: `--security-opt seccomp=FILE`; Kubernetes: a Localhost seccompProfile)"
    )]
    Filtered {
        /// The kernel's answer.
        source: io::Error,
    },
    /// No such system call.
    #[error(
        "io_uring is not there ({source}): the kernel is built without it (CONFIG_IO_URING), or a container profile hides it; allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile"
    )]
    Missing {
        /// The kernel's answer.
        source: io::Error,
    },
    /// No memory for the rings.
    #[error(
        "the kernel has no memory for an io_uring ({source}): raise the lock limit (`ulimit -l`, LimitMEMLOCK=; counts on many kernels) or the memory limit of the container or cgroup"
    )]
    NoMemory {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's io_uring lacks something indispensable.
    #[error("this kernel's io_uring lacks {feature}; Linux {since} or newer is needed")]
    TooOld {
        /// What is missing.
        feature: &'static str,
        /// The kernel that brought it.
        since: &'static str,
    },
    /// Any other answer to the set-up call.
    #[error("cannot set up an io_uring of {entries} entries: {source}")]
    Setup {
        /// Entries asked for.
        entries: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `io_uring_enter` failed.
    #[error("io_uring_enter failed: {source}")]
    Enter {
        /// The kernel's answer.
        source: io::Error,
    },
    /// All operation slots are in use.
    #[error(
        "{limit} io_uring operations are under way, the most this ring holds; cancel some, or make it larger"
    )]
    NoSlot {
        /// Slots of the ring.
        limit: u32,
    },
    /// All source numbers are in use.
    #[error("{limit} sources share this io_uring, the most it can tell apart")]
    NoSource {
        /// Most sources.
        limit: usize,
    },
    /// A [`super::SourceId`] of a removed source, or of another ring.
    #[error("this io_uring has no such source: it was removed, or belongs to another ring")]
    UnknownSource,
    /// All places for files are in use.
    #[error("{limit} files are open on this io_uring, the most it holds")]
    NoFile {
        /// Most files.
        limit: u32,
    },
    /// The kernel makes no table of registered buffers.
    #[error(
        "no memory of IO buffers is registered with io_uring ({source}): reads and writes of files work, and look its pages up each time; a table of registered buffers needs Linux 5.19 or newer"
    )]
    NoBufferTable {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not register a granule of buffers; no more are tried on this ring.
    #[error(
        "the kernel registers no more than {registered} bytes of IO buffers with this io_uring ({source}): reads and writes with the rest work, and look its pages up each time; {}",
        buffer_remedy(source, *lock_limit)
    )]
    BufferRefused {
        /// Bytes that this ring has registered.
        registered: u64,
        /// Bytes that may be locked; `None`: no limit.
        lock_limit: Option<u64>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The limit on locked memory would leave too little for others; no more are tried on this ring.
    #[error(
        "no more than {registered} bytes of IO buffers are registered with this io_uring: reads and writes with the rest work, and look its pages up each time; RLIMIT_MEMLOCK is {lock_limit} bytes for all processes of this user together, of which this one takes half; start again with `ulimit -l unlimited` (LimitMEMLOCK=infinity) or CAP_IPC_LOCK"
    )]
    BuffersLimited {
        /// Bytes that this ring has registered.
        registered: u64,
        /// Bytes that may be locked.
        lock_limit: u64,
    },
    /// There are more granules of buffers than places in a ring's table.
    #[error(
        "an io_uring registers {limit} bytes of IO buffers at most and there are more: reads and writes with the rest work, and look its pages up each time; use shallower queues or smaller IOs"
    )]
    BuffersBeyondTable {
        /// Most bytes.
        limit: u64,
    },
    /// A [`super::FileId`] of a removed file, or of another ring.
    #[error("this io_uring has no such file: it was removed, or belongs to another ring")]
    UnknownFile,
}

impl UringError {
    /// Whether the machine does not let this process have an io_uring at all, as opposed to one operation failing.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Disabled { .. }
            | Self::Filtered { .. }
            | Self::Missing { .. }
            | Self::NoMemory { .. }
            | Self::TooOld { .. }
            | Self::Setup { .. } => true,
            Self::Enter { .. }
            | Self::NoSlot { .. }
            | Self::NoSource { .. }
            | Self::UnknownSource
            | Self::NoFile { .. }
            | Self::NoBufferTable { .. }
            | Self::BufferRefused { .. }
            | Self::BuffersLimited { .. }
            | Self::BuffersBeyondTable { .. }
            | Self::UnknownFile => false,
        }
    }

    /// The cause of a refused set-up.
    pub(super) fn of_setup(entries: u32, source: io::Error) -> Self {
        let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
        let setting = sysctl.ok().and_then(|text| text.trim().parse().ok());
        Self::diagnose(entries, source, setting.unwrap_or(0))
    }

    fn diagnose(entries: u32, source: io::Error, setting: u32) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) if setting != 0 => Self::Disabled { setting },
            Some(libc::EPERM | libc::EACCES) => Self::Filtered { source },
            Some(libc::ENOSYS) => Self::Missing { source },
            Some(libc::ENOMEM) => Self::NoMemory { source },
            _ => Self::Setup { entries, source },
        }
    }
}

/// What may help where a buffer was not registered.
fn buffer_remedy(source: &io::Error, lock_limit: Option<u64>) -> String {
    match (source.raw_os_error(), lock_limit) {
        (Some(libc::ENOMEM), Some(limit)) => format!(
            "RLIMIT_MEMLOCK is {limit} bytes for all processes of this user together, and used up: start again with `ulimit -l unlimited` (LimitMEMLOCK=infinity) or CAP_IPC_LOCK"
        ),
        (Some(libc::ENOMEM), None) => {
            "raise the memory limit of the container or cgroup, or free memory, and start again".to_owned()
        }
        _ => "a seccomp filter or security module may forbid it: allow io_uring_register and start again"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errno: i32, setting: u32) -> String {
        let error = UringError::diagnose(64, io::Error::from_raw_os_error(errno), setting);
        assert!(error.is_refusal());
        error.to_string()
    }

    #[test]
    fn a_refusal_names_its_cause_and_its_remedy() {
        for (errno, setting, parts) in [
            (libc::EPERM, 2, ["kernel.io_uring_disabled is 2", "everybody", "sysctl"]),
            (libc::EPERM, 1, ["kernel.io_uring_disabled is 1", "kernel.io_uring_group", "sysctl"]),
            (libc::EPERM, 0, ["seccomp", "io_uring_setup", "Docker"]),
            (libc::EACCES, 0, ["security module", "io_uring_enter", "Kubernetes"]),
            (libc::ENOSYS, 0, ["CONFIG_IO_URING", "container profile", "io_uring_register"]),
            (libc::ENOMEM, 0, ["no memory", "ulimit -l", "LimitMEMLOCK"]),
            (libc::EMFILE, 0, ["64 entries", "Too many open files", "io_uring"]),
        ] {
            let text = text(errno, setting);
            for part in parts {
                assert!(text.contains(part), "{part:?} in {text:?}");
            }
        }
    }
    #[test]
    fn a_buffer_that_was_not_registered_costs_speed_and_no_ring() {
        let refused = |errno, lock_limit| {
            let source = io::Error::from_raw_os_error(errno);
            let error = UringError::BufferRefused { registered: 4 << 20, lock_limit, source };
            assert!(!error.is_refusal());
            error.to_string()
        };
        for (line, parts) in [
            (
                refused(libc::ENOMEM, Some(8 << 20)),
                ["4194304 bytes", "RLIMIT_MEMLOCK is 8388608", "ulimit -l"],
            ),
            (refused(libc::ENOMEM, None), ["4194304 bytes", "reads and writes", "cgroup"]),
            (refused(libc::EPERM, None), ["Operation not permitted", "work", "io_uring_register"]),
        ] {
            assert!(parts.iter().all(|part| line.contains(part)) && !line.contains('\n'), "{line}");
        }
    }
}
