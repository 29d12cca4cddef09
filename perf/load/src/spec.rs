//! What a job is to do.

use std::path::PathBuf;
use std::time::Duration;
use tgt_bdev::{Bdev, Op};

/// Deepest queue of a job.
pub(crate) const QUEUE_DEPTH_MAX: u32 = 65536;

/// Largest IO.
pub(crate) const IO_BYTES_MAX: u32 = 2 << 20;

/// A pattern of IO, named as SPDK's bdevperf names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Sequential reads.
    Read,
    /// Sequential writes.
    Write,
    /// Reads anywhere.
    RandRead,
    /// Writes anywhere.
    RandWrite,
    /// Sequential, reads and writes mixed.
    Rw,
    /// Reads and writes anywhere.
    RandRw,
    /// Sequential write-zeroes.
    WriteZeroes,
    /// Sequential unmaps.
    Unmap,
    /// Flushes.
    Flush,
    /// Reads and writes anywhere, every block stamped when written and checked when read.
    Verify,
}

impl Workload {
    /// All of them, with their names.
    pub const NAMES: [(&'static str, Workload); 10] = [
        ("read", Workload::Read),
        ("write", Workload::Write),
        ("randread", Workload::RandRead),
        ("randwrite", Workload::RandWrite),
        ("rw", Workload::Rw),
        ("randrw", Workload::RandRw),
        ("write_zeroes", Workload::WriteZeroes),
        ("unmap", Workload::Unmap),
        ("flush", Workload::Flush),
        ("verify", Workload::Verify),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Workload::NAMES.iter().find(|(_, workload)| *workload == self).map_or("", |(name, _)| name)
    }

    /// True if addresses are drawn at random.
    #[must_use]
    pub fn is_random(self) -> bool {
        matches!(self, Workload::RandRead | Workload::RandWrite | Workload::RandRw | Workload::Verify)
    }

    /// True if reads and writes are mixed, so that a percentage of reads means something.
    #[must_use]
    pub fn is_mixed(self) -> bool {
        matches!(self, Workload::Rw | Workload::RandRw | Workload::Verify)
    }

    /// The operations it submits; a mixed one submits the first as its reads and the second as its writes.
    #[must_use]
    pub fn ops(self) -> (Op, Op) {
        match self {
            Workload::Read | Workload::RandRead => (Op::Read, Op::Read),
            Workload::Write | Workload::RandWrite => (Op::Write, Op::Write),
            Workload::Rw | Workload::RandRw | Workload::Verify => (Op::Read, Op::Write),
            Workload::WriteZeroes => (Op::WriteZeroes, Op::WriteZeroes),
            Workload::Unmap => (Op::Unmap, Op::Unmap),
            Workload::Flush => (Op::Flush, Op::Flush),
        }
    }
}

/// When a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After this time.
    Time(Duration),
    /// After this many IOs.
    Ios(u64),
}

/// One bdev on one reactor with one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// Name of the bdev.
    pub bdev: String,
    /// Index of the reactor in the process.
    pub reactor: u32,
    /// Pattern.
    pub workload: Workload,
    /// Reads of a mixed workload, in percent.
    pub read_percent: u8,
    /// IOs in flight.
    pub queue_depth: u32,
    /// Bytes per IO.
    pub io_bytes: u32,
    /// When to end.
    pub limit: Limit,
    /// Whether to keep a histogram of latencies.
    pub latency: bool,
    /// Start of the random numbers: the same seed gives the same addresses.
    pub seed: u64,
    /// Goes on after a failed IO.
    pub go_on: bool,
    /// Checked load: where what is known of the writes is kept for later runs.
    pub state: Option<PathBuf>,
}

/// What is wrong with a job.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// The queue depth.
    #[error("queue depth (-q) {0}: accepted are 1 to {QUEUE_DEPTH_MAX}")]
    QueueDepth(u32),
    /// The IO size.
    #[error(
        "IO size (-o) {bytes} bytes: bdev {bdev:?} takes multiples of its block size {block_size}, up to {IO_BYTES_MAX} bytes and its own size {size}"
    )]
    IoBytes {
        /// The bdev.
        bdev: String,
        /// What was asked for.
        bytes: u32,
        /// Bytes per block.
        block_size: u32,
        /// Bytes of the bdev.
        size: u64,
    },
    /// The percentage of reads.
    #[error("share of reads (-M) {0}: accepted are 0 to 100")]
    ReadPercent(u8),
    /// An operation that the bdev does not serve.
    #[error("bdev {bdev:?} does not serve {op:?}, which workload {workload:?} needs")]
    Unsupported {
        /// The bdev.
        bdev: String,
        /// What it does not serve.
        op: Op,
        /// The workload's name.
        workload: &'static str,
    },
}

impl JobSpec {
    /// Bytes that one IO moves or names; 0 for a flush, which names none.
    pub(crate) fn bytes_each(&self) -> u64 {
        let (first, second) = self.workload.ops();
        if first.has_range() || second.has_range() { u64::from(self.io_bytes) } else { 0 }
    }

    /// Checks the job against its bdev.
    pub fn check(&self, bdev: &Bdev) -> Result<(), SpecError> {
        if !(1..=QUEUE_DEPTH_MAX).contains(&self.queue_depth) {
            return Err(SpecError::QueueDepth(self.queue_depth));
        }
        if self.read_percent > 100 {
            return Err(SpecError::ReadPercent(self.read_percent));
        }
        let (bytes, block_size) = (self.io_bytes, bdev.block_size());
        let size = bdev.num_blocks().saturating_mul(u64::from(block_size));
        let fits = (block_size..=IO_BYTES_MAX).contains(&bytes) && u64::from(bytes) <= size;
        if !fits || bytes % block_size != 0 {
            let bdev = bdev.name().to_owned();
            return Err(SpecError::IoBytes { bdev, bytes, block_size, size });
        }
        let (first, second) = self.workload.ops();
        match [first, second].into_iter().find(|op| !bdev.ops().contains(*op)) {
            None => Ok(()),
            Some(op) => {
                let (bdev, workload) = (bdev.name().to_owned(), self.workload.name());
                Err(SpecError::Unsupported { bdev, op, workload })
            }
        }
    }
}
