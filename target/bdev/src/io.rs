//! An IO on its way down, and on its way back up.

use tgt_env::bufs::Bufs;
use tgt_env::clock::Ticks;
use tgt_status::IoStatus;

/// What an IO asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Blocks into the buffers.
    Read,
    /// The buffers into blocks.
    Write,
    /// Zeroes into blocks; no buffers.
    WriteZeroes,
    /// The content of the blocks is no longer needed; no buffers.
    Unmap,
    /// Everything completed so far, anywhere on the device, reaches stable storage.
    Flush,
    /// Forget or finish everything in flight on the device.
    Reset,
    /// Stop the IO whose tag stands in the place of the address.
    Abort,
    /// Success if the blocks hold what the buffers hold.
    Compare,
    /// If the blocks hold the first half of the buffers, they become the second half; atomic against every other IO on
    /// the bdev. The buffers are twice as long as the blocks.
    CompareAndWrite,
    /// The blocks become copies of the source ranges that the buffers name: see [`crate::CopyRange`].
    Copy,
}

impl Op {
    /// All of them, in the order of their numbers.
    pub const ALL: [Op; 10] = [
        Op::Read,
        Op::Write,
        Op::WriteZeroes,
        Op::Unmap,
        Op::Flush,
        Op::Reset,
        Op::Abort,
        Op::Compare,
        Op::CompareAndWrite,
        Op::Copy,
    ];

    /// SPDK's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::Write => "write",
            Op::WriteZeroes => "write_zeroes",
            Op::Unmap => "unmap",
            Op::Flush => "flush",
            Op::Reset => "reset",
            Op::Abort => "abort",
            Op::Compare => "compare",
            Op::CompareAndWrite => "compare_and_write",
            Op::Copy => "copy",
        }
    }

    /// True if it changes what is stored.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(self, Op::Write | Op::WriteZeroes | Op::Unmap | Op::CompareAndWrite | Op::Copy)
    }

    /// True if it carries data in its buffers.
    #[must_use]
    pub const fn has_data(self) -> bool {
        matches!(self, Op::Read | Op::Write | Op::Compare | Op::CompareAndWrite)
    }

    /// True if it moves data, and counts against rate limits.
    pub(crate) const fn is_limited(self) -> bool {
        self.has_data() || matches!(self, Op::Copy)
    }

    /// True for those that name blocks and carry their data or nothing: the commonest, and the first by number.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        (self as u8) < Op::Flush as u8
    }

    /// True if it names a range of blocks.
    #[must_use]
    pub const fn has_range(self) -> bool {
        !matches!(self, Op::Flush | Op::Reset | Op::Abort)
    }
}

/// The submitter's own number for an IO, given back with its completion. The layers below never interpret it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u64);

/// Which IO of a channel one is, while it is in flight: two may bear one tag, a piece and an IO of the opener's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IoKey(Tag, bool);

impl IoKey {
    /// That of the IO to which the opener gave this tag: for modules that look for what an abort names.
    #[must_use]
    pub const fn of_opener(tag: Tag) -> IoKey {
        IoKey(tag, false)
    }
}

/// An IO on its way down. Moved into `submit`; its buffers come back in the [`Done`].
#[derive(Debug)]
pub struct Io {
    /// The submitter's number.
    pub tag: Tag,
    /// The memory; `Bufs::none()` for operations without data.
    pub bufs: Bufs,
    /// First block. For [`Op::Abort`]: the tag of the IO to stop.
    pub lba: u64,
    /// When the outermost io channel took it; zero before that.
    pub(crate) submitted: Ticks,
    /// Blocks.
    pub blocks: u32,
    /// What is asked for.
    pub op: Op,
    /// Completion only when the data is on stable storage (writes).
    pub fua: bool,
    /// A piece that an io channel cut from a larger IO; its tag is that channel's.
    pub(crate) child: bool,
    token: Token,
}

/// An IO on its way back up. Goes through every layer to its submitter, who calls [`Done::finish`].
#[derive(Debug)]
pub struct Done {
    /// The submitter's number.
    pub tag: Tag,
    /// The memory, as it was submitted.
    pub bufs: Bufs,
    /// When the outermost io channel took it.
    pub(crate) submitted: Ticks,
    /// Blocks.
    pub blocks: u32,
    /// How it ended.
    pub status: IoStatus,
    /// What was asked for.
    pub op: Op,
    pub(crate) child: bool,
    token: Token,
}

/// What the submitter is left with.
#[derive(Debug)]
pub struct Finished {
    /// The number it gave.
    pub tag: Tag,
    /// How the IO ended.
    pub status: IoStatus,
    /// The memory it lent.
    pub bufs: Bufs,
    /// When the outermost io channel took the IO.
    pub submitted: Ticks,
}

// The cost of an IO is the cost of moving these: docs/figures.md.
const _: () = assert!(size_of::<Io>() == 48 && size_of::<Done>() == 40);

impl Io {
    /// An IO of `blocks` blocks from `lba`.
    #[inline]
    #[must_use]
    pub fn new(op: Op, tag: Tag, lba: u64, blocks: u32, bufs: Bufs) -> Io {
        let submitted = Ticks::ZERO;
        Io { tag, bufs, lba, submitted, blocks, op, fua: false, child: false, token: Token }
    }

    /// A request to stop the IO with the tag `target`, submitted on the same channel.
    #[must_use]
    pub fn abort(tag: Tag, target: Tag) -> Io {
        Io::new(Op::Abort, tag, target.0, 0, Bufs::none())
    }

    /// The IO to stop, of an [`Op::Abort`].
    #[must_use]
    pub fn abort_target(&self) -> Tag {
        debug_assert_eq!(self.op, Op::Abort);
        Tag(self.lba)
    }

    /// Tells it from every other IO in flight on the same channel.
    #[must_use]
    pub const fn key(&self) -> IoKey {
        IoKey(self.tag, self.child)
    }

    /// Ends the IO.
    #[inline]
    pub fn complete(self, status: IoStatus) -> Done {
        let Io { tag, bufs, submitted, blocks, op, child, token, .. } = self;
        Done { tag, bufs, submitted, blocks, status, op, child, token }
    }
}

impl Done {
    /// That of its IO.
    #[must_use]
    pub const fn key(&self) -> IoKey {
        IoKey(self.tag, self.child)
    }

    /// When the outermost io channel took the IO.
    #[inline]
    #[must_use]
    pub const fn submitted(&self) -> Ticks {
        self.submitted
    }

    /// Takes the completion out of circulation. Only the IO's submitter does this.
    #[inline]
    #[must_use]
    pub fn finish(self) -> Finished {
        let Done { tag, bufs, submitted, status, token, .. } = self;
        token.spend();
        Finished { tag, status, bufs, submitted }
    }
}

/// Held by every IO from its making to its `finish`: exactly one completion, or a panic.
#[derive(Debug)]
struct Token;

impl Token {
    #[inline]
    fn spend(self) {
        std::mem::forget(self);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "an IO was dropped instead of completed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_carries_tag_status_and_buffers_back() {
        let bufs = Bufs::from(tgt_env::memory::DmaBuf::alloc(512).expect("memory"));
        let finished =
            Io::new(Op::Read, Tag(7), 3, 1, bufs).complete(IoStatus::UNRECOVERED_READ_ERROR).finish();
        assert_eq!((finished.tag, finished.status), (Tag(7), IoStatus::UNRECOVERED_READ_ERROR));
        assert_eq!(finished.bufs.len(), 512);
    }

    #[test]
    #[should_panic(expected = "dropped instead of completed")]
    fn a_lost_io_is_noticed() {
        drop(Io::new(Op::Flush, Tag(1), 0, 1, Bufs::none()));
    }

    #[test]
    #[should_panic(expected = "dropped instead of completed")]
    fn a_lost_completion_is_noticed() {
        drop(Io::new(Op::Flush, Tag(1), 0, 1, Bufs::none()).complete(IoStatus::SUCCESS));
    }
}
