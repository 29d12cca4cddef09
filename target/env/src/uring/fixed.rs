//! The memory of IO buffers as the ring's registered buffers: the kernel looks their pages up and pins them once, not
//! once per read and write.
//!
//! ```text
//! granule of buffers:  unasked ── first single-segment read or write with it ──► registered, until the ring ends
//!                                        └─ refused ─► never asked again
//! ```
//! Place in the kernel's table = number of the granule (`memory::Memory::buffer_granule`), the same on every ring. A place
//! is filled once and never changed: granules of buffers stay mapped, with the same pages, until the process ends, so no
//! place can go stale. Memory that is given back (regions) is in no IO's buffers and in no table.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use io_uring::IoUring;

use super::UringError;
use crate::memory::{GRANULE_BYTES, NUMBERED_MAX, Registration, lock_limit, memory};

/// Places in the kernel's table, the most that it makes: 32 GiB of buffers.
const PLACES: u16 = NUMBERED_MAX;

/// Bytes that the rings of this process have registered. What a limit on locked memory allows is not all taken: it is
/// counted over all processes of a user, and new io_urings need some of it too.
static REGISTERED: AtomicU64 = AtomicU64::new(0);
const SHARE_OF_LIMIT: u64 = 2;

const GRANULE: u64 = GRANULE_BYTES as u64;

/// The registered buffers of one ring.
#[derive(Debug)]
pub(super) struct FixedBuffers {
    /// By number; as long as the kernel's table, so empty before there is one.
    registered: Box<[bool]>,
    /// Bytes registered here.
    bytes: u64,
    /// RLIMIT_MEMLOCK where it binds this process; known with the table.
    lock_limit: Option<u64>,
    /// The kernel is not asked for more.
    closed: bool,
    /// Said already that there are more granules than places.
    overflowed: bool,
    /// Not yet taken by whoever tells the operator.
    refusal: Option<UringError>,
}

impl FixedBuffers {
    pub(super) fn new() -> Self {
        Self {
            registered: Box::default(),
            bytes: 0,
            lock_limit: None,
            closed: false,
            overflowed: false,
            refusal: None,
        }
    }

    /// Makes the kernel's table, once: when the ring gets its first file, since it takes a quarter of a millisecond.
    pub(super) fn prepare(&mut self, ring: &IoUring) {
        if self.closed || !self.registered.is_empty() {
            return;
        }
        if memory().registration() == Registration::Off {
            self.closed = true;
            return;
        }
        match ring.submitter().register_buffers_sparse(PLACES.into()) {
            Ok(()) => self.registered = vec![false; PLACES.into()].into_boxed_slice(),
            Err(source) => {
                self.closed = true;
                self.refusal = Some(UringError::NoBufferTable { source });
            }
        }
        self.lock_limit = lock_limit();
    }

    /// Place of the registered buffer that holds all `len` bytes from `ptr` on; registers it where that was not tried yet.
    #[inline]
    pub(super) fn place(&mut self, ring: &IoUring, ptr: *const u8, len: usize) -> Option<u16> {
        let number = memory().buffer_granule(ptr, len)?;
        if self.registered.get(usize::from(number)) == Some(&true) {
            return Some(number);
        }
        self.register(ring, ptr, number)
    }

    /// Why some memory is not registered; once.
    #[inline]
    pub(super) fn take_refusal(&mut self) -> Option<UringError> {
        self.refusal.take()
    }

    #[cold]
    fn register(&mut self, ring: &IoUring, ptr: *const u8, number: u16) -> Option<u16> {
        if self.closed {
            return None;
        }
        if number >= PLACES {
            if !std::mem::replace(&mut self.overflowed, true) {
                self.refusal = Some(UringError::BuffersBeyondTable { limit: u64::from(PLACES) * GRANULE });
            }
            return None;
        }
        match self.try_register(ring, ptr, number) {
            Ok(()) => Some(number),
            Err(refusal) => {
                self.closed = true;
                self.refusal = Some(refusal);
                None
            }
        }
    }

    fn try_register(&mut self, ring: &IoUring, ptr: *const u8, number: u16) -> Result<(), UringError> {
        let (registered, lock_limit) = (self.bytes, self.lock_limit);
        if let Some(lock_limit) = lock_limit
            && REGISTERED.load(Relaxed) + GRANULE > lock_limit / SHARE_OF_LIMIT
        {
            return Err(UringError::BuffersLimited { registered, lock_limit });
        }
        let granule = ptr.map_addr(|address| address & !(GRANULE_BYTES - 1)).cast_mut();
        let granule = libc::iovec { iov_base: granule.cast(), iov_len: GRANULE_BYTES };
        // SAFETY: the granule is mapped and stays mapped, with the same pages, until the process ends: it has a number
        // (`Space::give_back` refuses it). The kernel reads and writes it only for operations that name a part of it,
        // whose buffers the ring holds meanwhile.
        let done = unsafe { ring.submitter().register_buffers_update(number.into(), &[granule], None) };
        done.map_err(|source| UringError::BufferRefused { registered, lock_limit, source })?;
        self.registered[usize::from(number)] = true;
        self.bytes += GRANULE;
        REGISTERED.fetch_add(GRANULE, Relaxed);
        Ok(())
    }
}

impl Drop for FixedBuffers {
    fn drop(&mut self) {
        REGISTERED.fetch_sub(self.bytes, Relaxed);
    }
}
