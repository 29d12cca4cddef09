//! What an IO asks of the kernel, one request after another, and what the kernel's answers mean.
//!
//! ```text
//! Read, Write  Transfer ─ short: the rest ─► Transfer ─► end
//! WriteZeroes  Zero(Range) ─ not supported ─► Zero(Hole) ─ not supported ─► Zero(Writing) ⟲ ─► [Sync] ─► end
//! Unmap        Discard ─► end
//! Flush        Sync ─► end
//! ```

use tgt_bdev::{IoStatus, Op};
use tgt_env::uring::{Allocation, FileOp};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENXIO: i32 = 6;
const EAGAIN: i32 = 11;
const ENODEV: i32 = 19;
const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const EOPNOTSUPP: i32 = 95;
const EDQUOT: i32 = 122;
const EREMOTEIO: i32 = 121;

/// Requests that the kernel may interrupt or put off for one IO before that is its error.
const TRIES_MAX: u8 = 16;

/// How a backing's ranges are zeroed, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ZeroBy {
    /// In one request, keeping the space.
    Range,
    /// In one request, giving the space back; it reads as zeroes.
    Hole,
    /// By writing zeroes.
    Writing,
}

impl ZeroBy {
    pub(crate) const ALL: [ZeroBy; 3] = [ZeroBy::Range, ZeroBy::Hole, ZeroBy::Writing];

    pub(crate) const fn next(self) -> ZeroBy {
        match self {
            ZeroBy::Range => ZeroBy::Hole,
            ZeroBy::Hole | ZeroBy::Writing => ZeroBy::Writing,
        }
    }
}

/// The request that an IO waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Transfer,
    Zero(ZeroBy),
    Discard,
    Sync,
}

/// An IO in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) op: Op,
    pub(crate) fua: bool,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) block_size: u32,
    /// Bytes that are done, in whole blocks.
    pub(crate) moved: u32,
    pub(crate) step: Step,
    tries: u8,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The same request, for what is left of it.
    Again,
    /// This request.
    Go(Step),
    /// The backing cannot zero that way.
    NoSuchZero(ZeroBy),
    /// The IO is over.
    End(IoStatus),
}

impl Task {
    pub(crate) fn new(op: Op, fua: bool, lba: u64, blocks: u32, block_size: u32, zero_by: ZeroBy) -> Task {
        let step = match op {
            Op::Read | Op::Write => Step::Transfer,
            Op::WriteZeroes => Step::Zero(zero_by),
            Op::Unmap => Step::Discard,
            Op::Flush | Op::Reset | Op::Abort => Step::Sync,
            Op::Compare | Op::CompareAndWrite | Op::Copy => unreachable!("the block layer emulates these"),
        };
        let size = u64::from(block_size);
        Task {
            op,
            fua,
            offset: lba * size,
            len: u64::from(blocks) * size,
            block_size,
            moved: 0,
            step,
            tries: 0,
        }
    }

    /// The request, for buffers of `buffer` bytes.
    pub(crate) fn request(&self, buffer: u32) -> FileOp {
        let Task { offset, len, moved, .. } = *self;
        let at = offset + u64::from(moved);
        match self.step {
            Step::Transfer if self.op == Op::Read => FileOp::Read { offset: at, skip: moved },
            Step::Transfer => FileOp::Write { offset: at, skip: moved, end: buffer, durable: self.fua },
            Step::Zero(ZeroBy::Range) => FileOp::Allocate { offset, len, how: Allocation::Zeroes },
            Step::Zero(ZeroBy::Hole) | Step::Discard => {
                FileOp::Allocate { offset, len, how: Allocation::Hole }
            }
            Step::Zero(ZeroBy::Writing) => {
                let left = len - u64::from(moved);
                let end = u32::try_from(left).map_or(buffer, |left| left.min(buffer));
                FileOp::Write { offset: at, skip: 0, end, durable: self.fua }
            }
            Step::Sync => FileOp::DataSync,
        }
    }

    /// What the kernel's answer means: bytes moved, or −errno.
    pub(crate) fn answered(&mut self, result: i32) -> Next {
        if result < 0 {
            return self.failed(-result);
        }
        match self.step {
            Step::Transfer | Step::Zero(ZeroBy::Writing) => self.moved_on(result as u32),
            Step::Zero(_) if self.fua => Next::Go(Step::Sync),
            Step::Zero(_) | Step::Discard | Step::Sync => Next::End(IoStatus::SUCCESS),
        }
    }

    /// A short answer is not an error by itself: the rest is asked for again. No whole block is: the file ends here.
    fn moved_on(&mut self, bytes: u32) -> Next {
        let whole = bytes / self.block_size * self.block_size;
        self.moved += whole;
        if u64::from(self.moved) == self.len {
            return Next::End(IoStatus::SUCCESS);
        }
        if whole > 0 {
            return Next::Again;
        }
        Next::End(if self.op == Op::Read { IoStatus::UNRECOVERED_READ_ERROR } else { IoStatus::WRITE_FAULT })
    }

    fn failed(&mut self, errno: i32) -> Next {
        if matches!(errno, EINTR | EAGAIN) && self.tries < TRIES_MAX {
            self.tries += 1;
            return Next::Again;
        }
        match self.step {
            Step::Zero(way) if errno == EOPNOTSUPP && way != ZeroBy::Writing => Next::NoSuchZero(way),
            _ => Next::End(status(self.op, errno)),
        }
    }
}

/// What an errno says about an IO.
pub(crate) fn status(op: Op, errno: i32) -> IoStatus {
    match errno {
        EIO | EREMOTEIO if op == Op::Read => IoStatus::UNRECOVERED_READ_ERROR,
        EIO | EREMOTEIO => IoStatus::WRITE_FAULT,
        ENODEV | ENXIO => IoStatus::INVALID_NAMESPACE,
        ENOSPC | EDQUOT | EFBIG => IoStatus::CAPACITY_EXCEEDED,
        errno => IoStatus::from_errno(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(op: Op, fua: bool) -> Task {
        Task::new(op, fua, 8, 8, 512, ZeroBy::Range)
    }

    #[test]
    fn what_a_short_read_left_is_read_and_its_end_is_an_error() {
        let mut read = task(Op::Read, false);
        assert_eq!(read.request(4096), FileOp::Read { offset: 4096, skip: 0 });
        assert_eq!(read.answered(1536), Next::Again);
        assert_eq!(read.request(4096), FileOp::Read { offset: 5632, skip: 1536 });
        assert_eq!(read.answered(700), Next::Again, "a part of a block does not count");
        assert_eq!(read.request(4096), FileOp::Read { offset: 6144, skip: 2048 });
        assert_eq!(read.answered(100), Next::End(IoStatus::UNRECOVERED_READ_ERROR));
        assert_eq!(task(Op::Read, false).answered(0), Next::End(IoStatus::UNRECOVERED_READ_ERROR));
        assert_eq!(task(Op::Write, false).answered(0), Next::End(IoStatus::WRITE_FAULT));
    }

    #[test]
    fn zeroes_fall_back_to_writing_in_pieces() {
        let mut zero = task(Op::WriteZeroes, true);
        assert_eq!(zero.answered(-EOPNOTSUPP), Next::NoSuchZero(ZeroBy::Range));
        zero.step = Step::Zero(ZeroBy::Hole);
        assert_eq!(zero.answered(-EOPNOTSUPP), Next::NoSuchZero(ZeroBy::Hole));
        zero.step = Step::Zero(ZeroBy::Writing);
        assert_eq!(zero.request(3072), FileOp::Write { offset: 4096, skip: 0, end: 3072, durable: true });
        assert_eq!(zero.answered(3072), Next::Again);
        assert_eq!(zero.request(3072), FileOp::Write { offset: 7168, skip: 0, end: 1024, durable: true });
        assert_eq!(zero.answered(1024), Next::End(IoStatus::SUCCESS));
    }

    #[test]
    fn zeroes_that_must_be_durable_are_synced() {
        let mut zero = task(Op::WriteZeroes, true);
        assert_eq!(zero.answered(0), Next::Go(Step::Sync));
        zero.step = Step::Sync;
        assert_eq!(zero.answered(0), Next::End(IoStatus::SUCCESS));
        assert_eq!(task(Op::WriteZeroes, false).answered(0), Next::End(IoStatus::SUCCESS));
    }

    #[test]
    fn no_errno_is_a_success_and_interruptions_end() {
        for op in [Op::Read, Op::Write, Op::Flush, Op::Unmap] {
            for errno in 1..200 {
                let mut task = task(op, false);
                let end = std::iter::repeat_with(|| task.answered(-errno)).find(|next| *next != Next::Again);
                assert!(matches!(end, Some(Next::End(status)) if !status.is_ok()), "{op:?} {errno}: {end:?}");
            }
        }
        assert_eq!(status(Op::Read, EIO), IoStatus::UNRECOVERED_READ_ERROR);
        assert_eq!(status(Op::Flush, EIO), IoStatus::WRITE_FAULT);
        assert_eq!(status(Op::Write, ENOSPC), IoStatus::CAPACITY_EXCEEDED);
        assert_eq!(status(Op::Write, ENODEV), IoStatus::INVALID_NAMESPACE);
        assert_eq!(status(Op::Unmap, EOPNOTSUPP), IoStatus::INVALID_OPCODE);
    }
}
