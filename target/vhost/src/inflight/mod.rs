//! The inflight region: which chains a ring had taken and not answered, kept by the front end over our death.
//!
//! Layout and order of writes are those of the vhost-user specification, "Inflight I/O tracking"; docs/140-vhost.md has the
//! tables. What is in the region comes from outside: every number in it is checked.
//!
//! `mod` the region and its parts · `split` · `packed`.

mod packed;
mod split;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tgt_guest_memory::{Fault, MapError, Mapping, Window, sealed_memfd};

use crate::ring::SIZE_MAX;
pub(crate) use packed::{Again, PackedInflight};
pub(crate) use split::SplitInflight;

/// Bytes to whose multiple each queue's part is rounded up.
const ALIGN: u64 = 64;
const VERSION: u16 = 1;
/// Where both kinds have their version and their number of descriptors.
const VERSION_AT: usize = 8;
const SIZE_AT: usize = 10;

/// The part of one queue.
#[derive(Debug)]
pub(crate) enum Inflight {
    Split(SplitInflight),
    Packed(PackedInflight),
}

/// The region of a session: a part for each queue.
#[derive(Clone, Debug)]
pub(crate) struct InflightRegion {
    mapping: Arc<Mapping>,
    queues: u16,
    size: u16,
    packed: bool,
}

/// Why there is no region.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InflightError {
    #[error("an inflight region for {queues} queues of {size} descriptors: accepted are 1 to {most} of 1 to {SIZE_MAX}", most = crate::QUEUES_MAX)]
    Shape { queues: u16, size: u16 },
    #[error("an inflight region of {len} bytes: {queues} queues of {size} descriptors need {need}")]
    Short { len: u64, need: u64, queues: u16, size: u16 },
    #[error("the inflight region: {0}")]
    Map(#[from] MapError),
}

impl InflightRegion {
    /// A region with nothing in it, and the file to be given to the front end. `size`: descriptors of the largest ring.
    pub(crate) fn create(
        queues: u16,
        size: u16,
        packed: bool,
    ) -> Result<(InflightRegion, OwnedFd), InflightError> {
        check_shape(queues, size)?;
        let len = u64::from(queues) * part_bytes(size, packed);
        let file = sealed_memfd("vhost-inflight", len)?;
        Ok((InflightRegion::open(&file, 0, len, queues, size, packed)?, file))
    }

    /// The region that a front end gives back.
    pub(crate) fn open(
        file: impl AsFd,
        offset: u64,
        len: u64,
        queues: u16,
        size: u16,
        packed: bool,
    ) -> Result<InflightRegion, InflightError> {
        check_shape(queues, size)?;
        let need = u64::from(queues) * part_bytes(size, packed);
        if len < need {
            return Err(InflightError::Short { len, need, queues, size });
        }
        let mapping = Arc::new(Mapping::shared(file, offset, len)?);
        Ok(InflightRegion { mapping, queues, size, packed })
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// The part of queue `index`, for a ring of this kind; none if it has no part, or the ring is of the other kind.
    pub(crate) fn part(&self, index: u16, packed: bool) -> Result<Option<Inflight>, Fault> {
        if index >= self.queues || packed != self.packed {
            return Ok(None);
        }
        let bytes = part_bytes(self.size, packed);
        let part = Window::new(&self.mapping, u64::from(index) * bytes, bytes, 8)?;
        Ok(Some(if packed {
            Inflight::Packed(PackedInflight::new(part, self.size))
        } else {
            Inflight::Split(SplitInflight::new(part, self.size))
        }))
    }
}

fn check_shape(queues: u16, size: u16) -> Result<(), InflightError> {
    if queues == 0 || queues > crate::QUEUES_MAX || size == 0 || size > SIZE_MAX {
        return Err(InflightError::Shape { queues, size });
    }
    Ok(())
}

fn part_bytes(size: u16, packed: bool) -> u64 {
    let (head, entry) = if packed { packed::BYTES } else { split::BYTES };
    (head + u64::from(size) * entry).next_multiple_of(ALIGN)
}
