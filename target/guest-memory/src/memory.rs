//! A guest's memory: regions, addresses, and copies in and out.

use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::{DirtyLog, Fault, MapError, Mapping, Window};

/// Regions that a guest may have: QEMU's most, with its hot-plug slots.
pub const REGIONS_MAX: usize = 32;

/// Where a region lies, as the virtual machine monitor says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSpec {
    /// First guest physical address.
    pub guest: u64,
    /// Bytes.
    pub len: u64,
    /// First address in the monitor's own address space.
    pub user: u64,
    /// First byte in the file.
    pub offset: u64,
}

#[derive(Clone, Debug)]
struct Region {
    spec: RegionSpec,
    mapping: Arc<Mapping>,
}

/// All that a guest shares. Never changed: another guest memory is made with a region more or less. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct GuestMemory {
    /// By guest address; they do not overlap.
    regions: Vec<Region>,
    log: Option<Arc<DirtyLog>>,
}

impl RegionSpec {
    fn ends(&self) -> Option<(u64, u64)> {
        Some((self.guest.checked_add(self.len)?, self.user.checked_add(self.len)?))
    }
}

impl GuestMemory {
    /// As this one, with a region of `file` more.
    ///
    /// # Errors
    /// Any [`MapError`]; nothing stays mapped.
    pub fn with(&self, spec: RegionSpec, file: impl AsFd) -> Result<GuestMemory, MapError> {
        let RegionSpec { guest: at, len, user, offset } = spec;
        let (end, _) = spec.ends().ok_or(MapError::Wraps { at, user, len })?;
        let overlaps = |other: &&Region| at < other.spec.guest + other.spec.len && other.spec.guest < end;
        if let Some(other) = self.regions.iter().find(overlaps) {
            return Err(MapError::Overlap { at, len, other: other.spec.guest });
        }
        if self.regions.len() >= REGIONS_MAX {
            return Err(MapError::TooMany(self.regions.len() + 1));
        }
        let mapping = Arc::new(Mapping::shared(file, offset, len)?);
        let mut all = self.clone();
        all.regions.push(Region { spec, mapping });
        all.regions.sort_by_key(|region| region.spec.guest);
        Ok(all)
    }

    /// As this one, without the region that lies where `spec` says; its place in the file does not count.
    ///
    /// # Errors
    /// [`MapError::NoRegion`].
    pub fn without(&self, spec: &RegionSpec) -> Result<GuestMemory, MapError> {
        let same = |region: &Region| {
            (region.spec.guest, region.spec.len, region.spec.user) == (spec.guest, spec.len, spec.user)
        };
        let mut rest = self.clone();
        rest.regions.retain(|region| !same(region));
        if rest.regions.len() == self.regions.len() {
            return Err(MapError::NoRegion { at: spec.guest, len: spec.len });
        }
        Ok(rest)
    }

    /// As this one, with this log of what is written, or none.
    #[must_use]
    pub fn with_log(&self, log: Option<Arc<DirtyLog>>) -> GuestMemory {
        GuestMemory { regions: self.regions.clone(), log }
    }

    /// The log of what is written.
    #[must_use]
    pub fn log(&self) -> Option<&Arc<DirtyLog>> {
        self.log.as_ref()
    }

    /// Where its regions lie, by guest address.
    pub fn regions(&self) -> impl Iterator<Item = RegionSpec> + '_ {
        self.regions.iter().map(|region| region.spec)
    }

    /// A window of `len` bytes at an address of the monitor's, aligned to `align`.
    ///
    /// # Errors
    /// [`Fault::UserOutside`], also where two regions meet; [`Fault::Misaligned`].
    pub fn user_window(&self, at: u64, len: u64, align: u64) -> Result<Window, Fault> {
        if !at.is_multiple_of(align) {
            return Err(Fault::Misaligned { at, align });
        }
        let outside = Fault::UserOutside { at, len };
        let holds = |region: &&Region| at >= region.spec.user && at - region.spec.user < region.spec.len;
        let region = self.regions.iter().find(holds).ok_or(outside)?;
        let window = Window::new(&region.mapping, at - region.spec.user, len, align);
        window.map_err(|fault| if matches!(fault, Fault::Outside { .. }) { outside } else { fault })
    }

    /// Whether all of `len` bytes at `at` are the guest's memory; they may lie across regions that meet.
    ///
    /// # Errors
    /// [`Fault::Outside`].
    #[inline]
    pub fn check(&self, at: u64, len: u64) -> Result<(), Fault> {
        self.for_pieces(at, len, |_, _| ())
    }

    /// Copies `into.len()` bytes at `at` out of the guest's memory. The guest may write them meanwhile: any mixture of old
    /// and new may come, and is what it wrote.
    ///
    /// # Errors
    /// [`Fault::Outside`]; `into` may be filled in part.
    #[inline]
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        let mut rest = &mut into[..];
        self.for_pieces(at, rest.len() as u64, |piece, len| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len);
            rest = later;
            // SAFETY: `piece` has `len` mapped bytes; `now` is ours alone and is not in a mapping, of which no slice is
            // ever made. Bytes that another process writes meanwhile come out as some bytes, which a plain copy of
            // memory that the compiler knows nothing of cannot make worse.
            unsafe { ptr::copy_nonoverlapping(piece.as_ptr(), now.as_mut_ptr(), len) };
        })
    }

    /// Copies `from` into the guest's memory at `at`, and notes it in the log.
    ///
    /// # Errors
    /// [`Fault::Outside`], part of it may be written then; [`Fault::BeyondLog`], all of it is.
    #[inline]
    pub fn write(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
        let mut rest = from;
        self.for_pieces(at, rest.len() as u64, |piece, len| {
            let (now, later) = rest.split_at(len);
            rest = later;
            if crate::crash::lives() {
                // SAFETY: as for reading, the other way round.
                unsafe { ptr::copy_nonoverlapping(now.as_ptr(), piece.as_ptr(), len) };
            }
        })?;
        match &self.log {
            Some(log) => log.mark(at, from.len() as u64),
            None => Ok(()),
        }
    }

    /// Calls `each` with the pieces that make up `len` bytes from `at`.
    #[inline]
    fn for_pieces(&self, at: u64, len: u64, mut each: impl FnMut(NonNull<u8>, usize)) -> Result<(), Fault> {
        let outside = Fault::Outside { at, len };
        let (mut now, mut left) = (at, len);
        at.checked_add(len).ok_or(outside)?;
        while left > 0 {
            let region = self.region_of(now).ok_or(outside)?;
            let skip = now - region.spec.guest;
            let take = left.min(region.spec.len - skip);
            each(region.mapping.at(skip, take).ok_or(outside)?, take as usize);
            (now, left) = (now + take, left - take);
        }
        Ok(())
    }

    #[inline]
    fn region_of(&self, at: u64) -> Option<&Region> {
        // A guest has two or three: nothing is quicker than to look at each.
        self.regions.iter().find(|region| at >= region.spec.guest && at - region.spec.guest < region.spec.len)
    }
}
