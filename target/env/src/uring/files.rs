//! Files on the ring: reading, writing, syncing and allocating with buffers that the ring owns meanwhile.
//!
//! ```text
//! add_file ─► known ── start/complete ──► known
//!               └─ remove_file ─► leaving ── its last operation is over ─► descriptor closed
//! ```
//! Files are registered with the kernel where it takes them (one reference count less per operation).

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::{Fd, Fixed, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};

use super::slots::{FileIndex, SharedFd};
use super::{Uring, UringError};
use crate::bufs::{Bufs, Segment};

/// Files a ring knows at a time.
const FILES_MAX: u32 = 4096;

/// Segments that one read or write has at most; see [`Uring::start`].
pub const SEGMENTS_MAX: usize = 32;

/// Segment lists of reads and writes that were queued and not yet handed to the kernel.
const LISTS: usize = 64;

/// A file on one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    index: FileIndex,
    generation: u32,
}

/// What to do with a file. Offsets and lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOp {
    /// From the file at `offset` into the buffers, from their byte `skip` to their end.
    Read {
        /// In the file.
        offset: u64,
        /// Bytes at the front of the buffers that stay as they are.
        skip: u32,
    },
    /// The buffers' bytes `skip..end` into the file at `offset`.
    Write {
        /// In the file.
        offset: u64,
        /// First byte of the buffers.
        skip: u32,
        /// One past the last byte of the buffers.
        end: u32,
        /// Complete only when it is on stable storage.
        durable: bool,
    },
    /// What was written before, and completed, reaches stable storage.
    DataSync,
    /// Changes how a range is stored; the file's size stays.
    Allocate {
        /// In the file.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// To what.
        how: Allocation,
    },
}

/// What a range becomes. Both read as zeroes afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Given back: a hole in a file, discarded on a block device.
    Hole,
    /// Zeroes that have their place on the medium.
    Zeroes,
}

/// A file operation that is over, with its buffers.
#[derive(Debug)]
pub struct IoDone {
    /// As given when it was started.
    pub tag: u64,
    /// ≥ 0: bytes moved (reads, writes), or 0; < 0: −errno.
    pub result: i32,
    /// The buffers given when it was started.
    pub bufs: Bufs,
}

struct Entry {
    /// None: the place is free.
    fd: Option<SharedFd>,
    generation: u32,
    /// Operations under way.
    ops: u32,
    leaving: bool,
    registered: bool,
}

/// Memory as requests name it.
enum Pieces {
    One(libc::iovec),
    /// Where the list is, and how long.
    List(*const libc::iovec, u32),
}

/// The files of one ring.
pub(super) struct Files {
    entries: Vec<Entry>,
    /// Whether the kernel has a table of files for this ring; not known before the first file.
    table: Option<bool>,
    /// Where the kernel reads the segments of operations it has not taken over yet.
    lists: Box<[libc::iovec]>,
    lists_used: usize,
}

impl Files {
    pub(super) fn new() -> Self {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let lists = vec![nothing; LISTS * SEGMENTS_MAX].into_boxed_slice();
        Self { entries: Vec::new(), table: None, lists, lists_used: 0 }
    }

    fn entry(&self, file: FileId) -> Result<&Entry, UringError> {
        let entry = self.entries.get(file.index.0 as usize);
        let known =
            |entry: &&Entry| entry.generation == file.generation && entry.fd.is_some() && !entry.leaving;
        entry.filter(known).ok_or(UringError::UnknownFile)
    }

    fn add(&mut self, ring: &IoUring, fd: SharedFd) -> Result<FileId, UringError> {
        let table =
            *self.table.get_or_insert_with(|| ring.submitter().register_files_sparse(FILES_MAX).is_ok());
        let free = self.entries.iter().position(|entry| entry.fd.is_none());
        let index = free.unwrap_or(self.entries.len());
        if index >= FILES_MAX as usize {
            return Err(UringError::NoFile { limit: FILES_MAX });
        }
        if index == self.entries.len() {
            self.entries.push(Entry { fd: None, generation: 0, ops: 0, leaving: false, registered: false });
        }
        let number = fd.as_fd().as_raw_fd();
        // A table that does not take this file (the limit on locked memory, on old kernels) is no reason to fail.
        let registered = table && set_registered(ring, index as u32, number);
        let entry = &mut self.entries[index];
        let generation = entry.generation.wrapping_add(1);
        *entry = Entry { fd: Some(fd), generation, ops: 0, leaving: false, registered };
        Ok(FileId { index: FileIndex(index as u32), generation })
    }

    fn leave(&mut self, ring: &IoUring, file: FileId) -> Result<(), UringError> {
        self.entry(file)?;
        self.entries[file.index.0 as usize].leaving = true;
        self.close_if_over(ring, file.index);
        Ok(())
    }

    /// An operation of the file is over.
    pub(super) fn op_over(&mut self, ring: &IoUring, index: FileIndex) {
        self.entries[index.0 as usize].ops -= 1;
        self.close_if_over(ring, index);
    }

    fn close_if_over(&mut self, ring: &IoUring, index: FileIndex) {
        let entry = &mut self.entries[index.0 as usize];
        if entry.leaving && entry.ops == 0 {
            if entry.registered {
                // Cannot fail for a place in the table; if it did, the ring's end would close the file.
                set_registered(ring, index.0, -1);
            }
            entry.fd = None;
        }
    }

    /// Room for a segment list; false: hand over what is queued first.
    fn has_room(&mut self, queue_is_empty: bool) -> bool {
        if queue_is_empty {
            // The kernel has taken everything over, lists included (IORING_FEAT_SUBMIT_STABLE).
            self.lists_used = 0;
        }
        self.lists_used + SEGMENTS_MAX <= self.lists.len()
    }

    /// The kernel's form of the bytes `skip..end` of `bufs`.
    #[inline]
    fn memory(&mut self, bufs: &Bufs, skip: u32, end: u32) -> Pieces {
        match bufs.contiguous() {
            Some(Segment { ptr, .. }) => {
                let base = ptr.as_ptr().wrapping_add(skip as usize).cast();
                Pieces::One(libc::iovec { iov_base: base, iov_len: (end - skip) as usize })
            }
            None => self.list(bufs, skip, end),
        }
    }

    /// The same for several segments: in a list of our own, unless the bytes lie in one of them.
    fn list(&mut self, bufs: &Bufs, skip: u32, end: u32) -> Pieces {
        let first = self.lists_used;
        let (mut skip, mut left) = (skip, end - skip);
        for Segment { ptr, len } in bufs.segments() {
            if skip >= len {
                skip -= len;
                continue;
            }
            if left == 0 {
                break;
            }
            let take = left.min(len - skip);
            // SAFETY: skip < len, so the sum stays inside the segment.
            let base = unsafe { ptr.as_ptr().add(skip as usize) };
            self.lists[self.lists_used] = libc::iovec { iov_base: base.cast(), iov_len: take as usize };
            self.lists_used += 1;
            (skip, left) = (0, left - take);
        }
        if self.lists_used - first == 1 {
            self.lists_used = first;
            return Pieces::One(self.lists[first]);
        }
        Pieces::List(self.lists[first..].as_ptr(), (self.lists_used - first) as u32)
    }

    /// The request for the kernel.
    pub(super) fn request(
        &mut self,
        file: FileId,
        op: FileOp,
        bufs: &Bufs,
        place: impl FnMut(libc::iovec) -> Option<u16>,
    ) -> squeue::Entry {
        let entry = &self.entries[file.index.0 as usize];
        let number = entry.fd.as_ref().map_or(-1, |fd| fd.as_fd().as_raw_fd());
        if entry.registered {
            self.build(Fixed(file.index.0), op, bufs, place)
        } else {
            self.build(Fd(number), op, bufs, place)
        }
    }

    /// `place`: where in the kernel's table of buffers a piece of memory lies.
    #[inline]
    fn build(
        &mut self,
        fd: impl Target,
        op: FileOp,
        bufs: &Bufs,
        mut place: impl FnMut(libc::iovec) -> Option<u16>,
    ) -> squeue::Entry {
        match op {
            FileOp::Read { offset, skip } => match self.memory(bufs, skip, bufs.len()) {
                Pieces::One(one) => fd.read(one, place(one), offset),
                Pieces::List(list, count) => fd.readv(list, count, offset),
            },
            FileOp::Write { offset, skip, end, durable } => {
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                match self.memory(bufs, skip, end) {
                    Pieces::One(one) => fd.write(one, place(one), offset, flags),
                    Pieces::List(list, count) => fd.writev(list, count, offset, flags),
                }
            }
            FileOp::DataSync => fd.sync(),
            FileOp::Allocate { offset, len, how } => {
                let mode = libc::FALLOC_FL_KEEP_SIZE
                    | match how {
                        Allocation::Hole => libc::FALLOC_FL_PUNCH_HOLE,
                        Allocation::Zeroes => libc::FALLOC_FL_ZERO_RANGE,
                    };
                fd.allocate(offset, len, mode)
            }
        }
    }
}

/// Sets a place of the kernel's table; −1 empties it.
fn set_registered(ring: &IoUring, index: u32, fd: RawFd) -> bool {
    ring.submitter().register_files_update(index, &[fd]).is_ok()
}

/// A file as requests name it. The crate's own trait for this cannot be named outside of it.
trait Target {
    fn read(self, one: libc::iovec, place: Option<u16>, offset: u64) -> squeue::Entry;
    fn readv(self, list: *const libc::iovec, count: u32, offset: u64) -> squeue::Entry;
    fn write(self, one: libc::iovec, place: Option<u16>, offset: u64, flags: i32) -> squeue::Entry;
    fn writev(self, list: *const libc::iovec, count: u32, offset: u64, flags: i32) -> squeue::Entry;
    fn sync(self) -> squeue::Entry;
    fn allocate(self, offset: u64, len: u64, mode: i32) -> squeue::Entry;
}

macro_rules! target {
    ($kind:ty) => {
        impl Target for $kind {
            fn read(self, one: libc::iovec, place: Option<u16>, offset: u64) -> squeue::Entry {
                let (ptr, len) = (one.iov_base.cast(), one.iov_len as u32);
                match place {
                    Some(place) => opcode::ReadFixed::new(self, ptr, len, place).offset(offset).build(),
                    None => opcode::Read::new(self, ptr, len).offset(offset).build(),
                }
            }
            fn readv(self, list: *const libc::iovec, count: u32, offset: u64) -> squeue::Entry {
                opcode::Readv::new(self, list, count).offset(offset).build()
            }
            fn write(self, one: libc::iovec, place: Option<u16>, offset: u64, flags: i32) -> squeue::Entry {
                let (ptr, len) = (one.iov_base.cast_const().cast(), one.iov_len as u32);
                match place {
                    Some(place) => {
                        opcode::WriteFixed::new(self, ptr, len, place).offset(offset).rw_flags(flags).build()
                    }
                    None => opcode::Write::new(self, ptr, len).offset(offset).rw_flags(flags).build(),
                }
            }
            fn writev(self, list: *const libc::iovec, count: u32, offset: u64, flags: i32) -> squeue::Entry {
                opcode::Writev::new(self, list, count).offset(offset).rw_flags(flags).build()
            }
            fn sync(self) -> squeue::Entry {
                opcode::Fsync::new(self).flags(FsyncFlags::DATASYNC).build()
            }
            fn allocate(self, offset: u64, len: u64, mode: i32) -> squeue::Entry {
                opcode::Fallocate::new(self, len).offset(offset).mode(mode).build()
            }
        }
    };
}
target!(Fd);
target!(Fixed);

/// File operations. Those that are under way never take the ring's last slots, so that polls find room.
impl Uring {
    /// Makes a file known to this ring. The ring holds it until [`Self::remove_file`] and the end of what is under way.
    ///
    /// # Errors
    /// [`UringError::NoFile`].
    pub fn add_file(&mut self, file: SharedFd) -> Result<FileId, UringError> {
        self.fixed.prepare(&self.ring);
        self.files.add(&self.ring, file)
    }

    /// Forgets a file; it is let go of when its last operation is over.
    ///
    /// # Errors
    /// [`UringError::UnknownFile`].
    pub fn remove_file(&mut self, file: FileId) -> Result<(), UringError> {
        self.files.leave(&self.ring, file)
    }

    /// Starts an operation; it is handed over with the next [`Self::pump`] or [`Self::wait`]. The ring owns the buffers
    /// until [`Self::next_io`] gives them back. Panics on a read into read-only buffers, on more than [`SEGMENTS_MAX`]
    /// segments, and on bytes beyond the buffers' end: bugs of the caller.
    ///
    /// # Errors
    /// [`UringError::NoSlot`] (try again after a completion), [`UringError::UnknownSource`], [`UringError::UnknownFile`],
    /// [`UringError::Enter`]; with the buffers.
    #[inline]
    pub fn start(
        &mut self,
        source: super::SourceId,
        file: FileId,
        op: FileOp,
        bufs: Bufs,
        tag: u64,
    ) -> Result<super::OpId, (UringError, Bufs)> {
        check_bytes(op, &bufs);
        if let Err(error) = self.files.entry(file).map(drop).and_then(|()| self.make_room_for_list()) {
            return Err((error, bufs));
        }
        let (id, user_data) = self.slots.arm_file(source, tag, file.index, bufs)?;
        self.files.entries[file.index.0 as usize].ops += 1;
        let (ring, fixed) = (&self.ring, &mut self.fixed);
        let place = |one: libc::iovec| fixed.place(ring, one.iov_base.cast_const().cast(), one.iov_len);
        let request = self.files.request(file, op, self.slots.bufs(id), place).user_data(user_data);
        // SAFETY: the buffers are in the operation's slot, where they stay until the kernel has said that it is done
        // with them; the segment list stays until the kernel has taken the request over (`Files::has_room`); the
        // descriptor is held by `files` until the last operation is over.
        let pushed = unsafe { self.ring.submission().push(&request) };
        assert!(pushed.is_ok(), "there is room, and nobody else fills it");
        Ok(id)
    }

    /// The next file operation of a source that is over, in order of arrival, among those taken in by [`Self::pump`]
    /// and [`Self::wait`]. For sources that started file operations only.
    #[inline]
    pub fn next_io(&mut self, source: super::SourceId) -> Option<IoDone> {
        let (done, bufs) = self.slots.next_ready(source)?;
        Some(IoDone { tag: done.tag, result: done.result, bufs })
    }

    fn make_room_for_list(&mut self) -> Result<(), UringError> {
        self.make_room()?;
        let empty = self.ring.submission().is_empty();
        if self.files.has_room(empty) {
            return Ok(());
        }
        self.hand_over()?;
        self.files.has_room(true);
        Ok(())
    }
}

/// Whoever breaks these would have the kernel write where it must not.
#[inline]
fn check_bytes(op: FileOp, bufs: &Bufs) {
    match op {
        FileOp::Read { skip, .. } => {
            assert!(!bufs.is_read_only(), "a read into buffers that are shared");
            assert!(skip < bufs.len(), "a read into no byte of {bufs:?}");
        }
        FileOp::Write { skip, end, .. } => {
            assert!(skip < end && end <= bufs.len(), "a write of bytes {skip}..{end} of {bufs:?}");
        }
        FileOp::DataSync | FileOp::Allocate { .. } => {}
    }
    assert!(bufs.segment_count() <= SEGMENTS_MAX, "{bufs:?}: the ring takes {SEGMENTS_MAX} segments");
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("entries", &self.entries.len()).field("table", &self.table).finish()
    }
}
