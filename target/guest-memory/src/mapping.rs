//! Files in this process's address space.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::MapError;

/// Longest file range that is mapped: what user addresses of x86-64 can hold.
const LEN_MAX: u64 = 1 << 47;
const PAGE: u64 = 4096;

/// A range of a shared file, mapped for reading and writing until this is dropped.
#[derive(Debug)]
pub struct Mapping {
    /// What `mmap` gave: the whole file up to the range's end, as files of hugepages can be mapped from their pages'
    /// boundaries only.
    base: NonNull<u8>,
    mapped: usize,
    /// Where the range begins.
    skip: usize,
    len: usize,
}

// SAFETY: a mapping is tied to no thread; what it holds is reached by checked copies and atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above; several threads may copy at once, as the guest itself may at any time.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset` on.
    ///
    /// # Errors
    /// [`MapError::Length`], [`MapError::BeyondFile`], [`MapError::Kernel`].
    pub fn shared(file: impl AsFd, offset: u64, len: u64) -> Result<Mapping, MapError> {
        let end = offset.checked_add(len).filter(|end| len > 0 && *end <= LEN_MAX);
        let end = end.ok_or(MapError::Length { offset, len })?;
        let kernel = |what| move |errno: rustix::io::Errno| MapError::Kernel { what, source: errno.into() };
        let stat = rustix::fs::fstat(&file).map_err(kernel("the size of a shared file cannot be had"))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if end > size {
            return Err(MapError::BeyondFile { offset, end, size });
        }
        // Files of hugepages are mapped and unmapped by whole pages; their block size says how large those are.
        let page = u64::try_from(stat.st_blksize).unwrap_or(PAGE).max(PAGE);
        let mapped = end.checked_next_multiple_of(page).ok_or(MapError::Length { offset, len })? as usize;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a fresh mapping at an address of the kernel's choice: nothing that exists is replaced.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), mapped, prot, flags, &file, 0) };
        let base = base.map_err(kernel("a shared file cannot be mapped"))?;
        let base = NonNull::new(base.cast()).ok_or(MapError::Length { offset, len })?;
        Ok(Mapping { base, mapped, skip: offset as usize, len: len as usize })
    }

    /// Bytes in the range.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a range holds one byte at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where `len` bytes from `at` on are; none if the range does not hold all of them.
    #[inline]
    pub(crate) fn at(&self, at: u64, len: u64) -> Option<NonNull<u8>> {
        let end = at.checked_add(len)?;
        if end > self.len as u64 {
            return None;
        }
        // SAFETY: skip + at + len ≤ skip + self.len ≤ mapped, so the address stays inside the mapping.
        Some(unsafe { self.base.add(self.skip + at as usize) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `mmap` gave, once; nobody has an address in it any more, as windows and regions hold the
        // mapping. A failure leaves it mapped, which harms nobody.
        let _unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// A file in memory of `len` bytes, all zero, that nobody can shrink or grow any more.
///
/// # Errors
/// [`MapError::Kernel`].
pub fn sealed_memfd(name: &str, len: u64) -> Result<OwnedFd, MapError> {
    let kernel = |errno: rustix::io::Errno| MapError::Kernel {
        what: "a file in memory cannot be made",
        source: errno.into(),
    };
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let file = file.map_err(kernel)?;
    rustix::fs::ftruncate(&file, len).map_err(kernel)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(kernel)?;
    Ok(file)
}

/// Whether nobody can shrink this file, so that what is mapped of it stays.
#[must_use]
pub fn is_sealed(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}
