//! Why a bdev was not made or not resized.

use std::io;
use std::path::PathBuf;
use tgt_bdev::RegisterError;

/// Why a bdev was not made. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The kernel refused it.
    #[error("filename {path:?}: {what}: {source}{hint}")]
    Kernel {
        /// The backing.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
        /// What may help; empty, or ": …".
        hint: &'static str,
    },
    /// Neither a file nor a block device.
    #[error("filename {path:?} is {what}, accepted: a regular file or a block device")]
    Kind {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// Somebody else uses it.
    #[error("filename {path:?} is in use: {holder}; it would be overwritten under its user, or under us")]
    InUse {
        /// The backing.
        path: PathBuf,
        /// Who.
        holder: String,
    },
    /// Another bdev of this process has it.
    #[error("filename {path:?} is already the backing of bdev {bdev:?}")]
    AlreadyOpen {
        /// The backing.
        path: PathBuf,
        /// The bdev.
        bdev: String,
    },
    /// The block size does not do.
    #[error("block_size {given} for {path:?}, accepted: a power of two from {least} to 65536")]
    BlockSize {
        /// The backing.
        path: PathBuf,
        /// As given.
        given: u32,
        /// The least that the backing takes.
        least: u32,
    },
    /// The size does not do.
    #[error("{path:?} has {bytes} bytes, accepted: a multiple of its block size {block_size}, and not 0")]
    Size {
        /// The backing.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Bytes per block.
        block_size: u32,
    },
    /// `nowait` on a file.
    #[error("nowait for {0:?}: it is for block devices only; leave it out for a file")]
    NoWait(PathBuf),
    /// The block layer refused it.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// Why a bdev was not resized. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RescanError {
    /// Of another module.
    #[error("bdev {0:?} is not on a file or block device")]
    NotOurs(String),
    /// The size cannot be had.
    #[error(transparent)]
    Backing(CreateError),
    /// Nothing is left.
    #[error(
        "the backing of bdev {bdev:?} has {bytes} bytes now, less than one block of {block_size}; the bdev keeps its size"
    )]
    Empty {
        /// The bdev.
        bdev: String,
        /// The backing's size.
        bytes: u64,
        /// Bytes per block.
        block_size: u32,
    },
    /// Smaller, and in use.
    #[error(
        "the backing of bdev {bdev:?} shrank from {then} to {now} blocks while the bdev is open; close it first, or restore the backing"
    )]
    Shrunk {
        /// The bdev.
        bdev: String,
        /// Blocks now.
        now: u64,
        /// Blocks before.
        then: u64,
    },
}

impl CreateError {
    /// The errno that says most of it.
    #[must_use]
    pub fn errno(&self) -> i32 {
        const EBUSY: i32 = 16;
        const EINVAL: i32 = 22;
        const EIO: i32 = 5;
        match self {
            CreateError::Kernel { source, .. } => source.raw_os_error().unwrap_or(EIO),
            CreateError::InUse { .. } | CreateError::AlreadyOpen { .. } => EBUSY,
            CreateError::Kind { .. }
            | CreateError::BlockSize { .. }
            | CreateError::Size { .. }
            | CreateError::NoWait(_)
            | CreateError::Register(_) => EINVAL,
        }
    }
}
