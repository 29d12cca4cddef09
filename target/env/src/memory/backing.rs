//! Memory files and their mappings into the reservation. File offset = address − base of the reservation.

use std::ffi::c_void;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use memfd::{HugetlbSize, Memfd, MemfdOptions};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MlockFlags, ProtFlags, madvise, mlock_with, mmap, mmap_anonymous};

use super::config::PageKind;

/// What to map where. `offset` and `len` are bytes, multiples of the page size of `kind`.
#[derive(Debug, Clone, Copy)]
pub(super) struct MapRequest {
    pub(super) kind: PageKind,
    pub(super) offset: u64,
    pub(super) len: usize,
    /// NUMA node to prefer; `None` on machines with one.
    pub(super) node: Option<u32>,
    /// Whether ordinary pages come now, or each at its first access.
    pub(super) touch: bool,
}

/// The memory files, one per page kind, made when first needed.
#[derive(Debug)]
pub(super) struct Backing {
    base: NonNull<u8>,
    file_bytes: u64,
    files: [Option<Memfd>; PageKind::ALL.len()],
}

// SAFETY: `base` is only an address; all access to it goes through system calls made by the one owner.
unsafe impl Send for Backing {}

impl Backing {
    /// `base` must be the start of `file_bytes` reserved addresses that outlive this value and nobody else maps.
    pub(super) fn new(base: NonNull<u8>, file_bytes: u64) -> Self {
        Self { base, file_bytes, files: [const { None }; PageKind::ALL.len()] }
    }

    /// Maps zero-filled memory; `true`: its pages stay in place (hugepages, or locked), so that devices and the
    /// kernel may be given their addresses. After an error nothing is mapped.
    pub(super) fn map(&mut self, request: MapRequest) -> io::Result<bool> {
        let start = self.address(request.offset, request.len);
        let file = self.file(request.kind)?.as_file().as_fd();
        let mut flags = MapFlags::SHARED | MapFlags::FIXED;
        if request.kind.is_huge() {
            // The kernel's own promise of pages could not be withdrawn for part of a file when the pages then do
            // not come (a cgroup limit): other processes would miss them. All pages are fetched at once instead.
            flags |= MapFlags::NORESERVE;
        }
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the range lies in the reservation (`address` checks), where the caller found it free: no Rust
        // object lives there.
        let mapped = unsafe { mmap(start, request.len, prot, flags, file, request.offset) };
        let settled = mapped.map_err(io::Error::from).and_then(|_| settle(start, &request));
        if settled.is_err() {
            // Also when `mmap` failed: it may have removed the reservation it was to replace.
            self.unmap(request.kind, request.offset, request.len)?;
        }
        settled
    }

    /// Makes a mapped range inaccessible again and gives its pages back to the kernel.
    pub(super) fn unmap(&mut self, kind: PageKind, offset: u64, len: usize) -> io::Result<()> {
        let start = self.address(offset, len);
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: the range lies in the reservation and its owner has given it up.
        unsafe { mmap_anonymous(start, len, ProtFlags::empty(), flags)? };
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(self.file(kind)?.as_file(), punch, offset, len as u64)?;
        Ok(())
    }

    fn address(&self, offset: u64, len: usize) -> *mut c_void {
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.file_bytes);
        assert!(inside, "{len} bytes at {offset} lie outside the reservation of {} bytes", self.file_bytes);
        self.base.as_ptr().wrapping_add(offset as usize).cast()
    }

    fn file(&mut self, kind: PageKind) -> io::Result<&Memfd> {
        let slot = &mut self.files[kind as usize];
        if slot.is_none() {
            *slot = Some(create(kind, self.file_bytes)?);
        }
        slot.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }
}

fn create(kind: PageKind, bytes: u64) -> io::Result<Memfd> {
    let (name, size) = match kind {
        PageKind::Ordinary => ("rmr-dma", None),
        PageKind::Huge2M => ("rmr-dma-2m", Some(HugetlbSize::Huge2MB)),
        PageKind::Huge1G => ("rmr-dma-1g", Some(HugetlbSize::Huge1GB)),
    };
    let file = MemfdOptions::new().hugetlb(size).create(name).map_err(|error| match error {
        memfd::Error::Create(error) | memfd::Error::AddSeals(error) | memfd::Error::GetSeals(error) => error,
    })?;
    // A file of 1 GiB pages must be a whole number of them long.
    file.as_file().set_len(bytes / kind.bytes() * kind.bytes())?;
    Ok(file)
}

/// Placement, presence and locking of a fresh mapping. The range belongs to the caller, who has just mapped it.
fn settle(start: *mut c_void, request: &MapRequest) -> io::Result<bool> {
    if let Some(node) = request.node {
        prefer_node(start, request.len, node)?;
    }
    if request.kind.is_huge() {
        return fetch_hugepages(start, request.len).map(|()| true);
    }
    // Transparent hugepages are a gift: most kernels refuse them for memory files, and nothing depends on them.
    // SAFETY: the range was just mapped by the caller; advice changes no content.
    let _gift = unsafe { madvise(start, request.len, Advice::LinuxHugepage) };
    // Pages that come later are locked as they come.
    let when = if request.touch { MlockFlags::empty() } else { MlockFlags::ONFAULT };
    // SAFETY: as above.
    let locked = unsafe { mlock_with(start, request.len, when) }.is_ok();
    if !locked && request.touch {
        fetch_ordinary(start, request.len)?;
    }
    Ok(locked)
}

/// Fetches hugepages now rather than at the first access: too few of them, or a cgroup limit that withholds them,
/// is an error here and a SIGBUS there.
fn fetch_hugepages(start: *mut c_void, len: usize) -> io::Result<()> {
    populate(start, len).map_err(|error| match error {
        // What the kernel calls an access that would have been a SIGBUS.
        Errno::FAULT => Errno::NOMEM.into(),
        error => error.into(),
    })
}

/// Fetches ordinary pages now. A kernel that does not know how (before 5.14) brings them at the first access.
fn fetch_ordinary(start: *mut c_void, len: usize) -> io::Result<()> {
    match populate(start, len) {
        Err(Errno::INVAL) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

fn populate(start: *mut c_void, len: usize) -> rustix::io::Result<()> {
    // SAFETY: the range is mapped, writable and owned by the caller; its contents do not change.
    rustix::io::retry_on_intr(|| unsafe { madvise(start, len, Advice::LinuxPopulateWrite) })
}

fn prefer_node(start: *mut c_void, len: usize, node: u32) -> io::Result<()> {
    const MASK_BITS: usize = 1024;
    let mut mask = [0u64; MASK_BITS / 64];
    let word = mask.get_mut(node as usize / 64).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("NUMA node {node} of at most {MASK_BITS}"))
    })?;
    *word |= 1 << (node % 64);
    // SAFETY: the range is mapped and owned by the caller, the mask outlives the call, and the count is one more
    // than its bits as the kernel wants it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start,
            len,
            libc::MPOL_PREFERRED,
            ptr::from_ref(&mask),
            MASK_BITS + 1,
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::table::AddressTable;

    #[test]
    fn memory_given_back_and_mapped_again_reads_zero_and_keeps_a_node_preference() {
        let table = AddressTable::reserve().expect("addresses");
        let mut backing = Backing::new(table.base(), table.bytes());
        let request = MapRequest {
            kind: PageKind::Ordinary,
            offset: 4 << 20,
            len: 2 << 20,
            node: Some(0),
            touch: true,
        };
        let start = table.address(2).as_ptr();
        for _ in 0..2 {
            backing.map(request).expect("2 MiB of ordinary memory");
            // SAFETY: granule 2 was just mapped, 2 MiB long, and only this test knows it.
            unsafe {
                assert_eq!((start.read(), start.add((2 << 20) - 1).read()), (0, 0));
                start.write_bytes(0xa5, 2 << 20);
            }
            backing.unmap(request.kind, request.offset, request.len).expect("unmap");
        }
    }

    #[test]
    fn a_node_that_cannot_be_is_an_error_and_leaves_nothing_mapped() {
        let table = AddressTable::reserve().expect("addresses");
        let mut backing = Backing::new(table.base(), table.bytes());
        for node in [1000, 5000] {
            let request = MapRequest {
                kind: PageKind::Ordinary,
                offset: 0,
                len: 2 << 20,
                node: Some(node),
                touch: true,
            };
            assert!(backing.map(request).is_err(), "node {node}");
        }
    }
}
