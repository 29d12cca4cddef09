//! The buffers of an IO: one move-only value of 16 bytes, whatever lies behind it.
//!
//! ```text
//! kind      ptr points at            who frees the memory
//! None      nothing                  nobody (flush, unmap, write zeroes)
//! Owned     one buffer of the pool   this value, on drop
//! Vector    a boxed list of Bufs     this value, on drop
//! Part      part of a buffer         the lease it came from, see `Lender`
//! View      a whole buffer, shared   the lease it came from
//! VectorView  a whole list, shared   the lease it came from
//! ```
//! Whoever holds a `Bufs` is the only one who may touch the bytes behind it, except that a *view* shares them with
//! other views and is read-only. That is why it cannot be copied, and why the functions below are safe.

mod copy;
mod lender;
mod socket;
#[cfg(test)]
mod tests;

pub use lender::{Lease, Lender};
pub use socket::{Gather, PIECES_MAX, PieceList, Scatter, unacknowledged};

use crate::memory::DmaBuf;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// The memory an IO reads from or writes into. Send; not Clone; 16 bytes.
///
/// Moved into an `Io` at submit, moved back out of its `Done`: between the two the layers below own it.
pub struct Bufs {
    ptr: NonNull<u8>,
    /// Bytes of all segments together.
    len: u32,
    meta: Meta,
}

/// A contiguous piece of an IO's memory, for drivers that hand addresses to hardware or the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// First byte. Valid as long as the `Bufs` it was taken from lives.
    pub ptr: NonNull<u8>,
    /// Bytes.
    pub len: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    None,
    Owned,
    /// A list of which every part may be written.
    Vector,
    /// A list of which some part may not.
    VectorReadOnly,
    /// A piece that nobody else has.
    Part,
    /// A contiguous buffer that others may be reading too.
    View,
    /// A list that others may be reading too.
    VectorView,
}

/// What a `Bufs` is, and for lent ones which lease of which lender it goes back to.
#[derive(Clone, Copy)]
#[repr(C)]
struct Meta {
    kind: Kind,
    lender: u8,
    lease: u16,
}

impl Meta {
    const fn plain(kind: Kind) -> Meta {
        Meta { kind, lender: 0, lease: 0 }
    }
}

/// The pieces of a vector. Boxed, because a `Bufs` has room for one pointer.
#[derive(Debug)]
struct List(Vec<Bufs>);

const _: () = assert!(size_of::<Bufs>() == 16 && size_of::<Option<Bufs>>() == 16);

// SAFETY: a Bufs is the only way to the bytes behind it, or shares them with other read-only views; nothing about
// the memory is tied to a thread. The list of a vector holds Bufs, for which the same is true.
unsafe impl Send for Bufs {}

impl Bufs {
    /// No memory at all, for operations without data.
    #[inline]
    #[must_use]
    pub const fn none() -> Bufs {
        Bufs { ptr: NonNull::dangling(), len: 0, meta: Meta::plain(Kind::None) }
    }

    /// Bytes of all segments together.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// True if there is not one byte.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if the bytes may be shared with others and must not be written.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        matches!(self.meta.kind, Kind::VectorReadOnly | Kind::View | Kind::VectorView)
    }

    /// The contiguous pieces, in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let (single, list) = match self.meta.kind {
            Kind::None => (None, &[][..]),
            Kind::Owned | Kind::Part | Kind::View => {
                (Some(Segment { ptr: self.ptr, len: self.len }), &[][..])
            }
            Kind::Vector | Kind::VectorReadOnly | Kind::VectorView => (None, self.parts()),
        };
        // A part of a list is never itself a list (`Lender::gather` refuses), so one level is all there is.
        single.into_iter().chain(list.iter().map(|part| Segment { ptr: part.ptr, len: part.len }))
    }

    /// All bytes, if they lie in one contiguous buffer that is no list.
    #[inline]
    pub(crate) const fn contiguous(&self) -> Option<Segment> {
        match self.meta.kind {
            Kind::Owned | Kind::Part | Kind::View => Some(Segment { ptr: self.ptr, len: self.len }),
            Kind::None | Kind::Vector | Kind::VectorReadOnly | Kind::VectorView => None,
        }
    }

    /// How many contiguous pieces there are.
    #[inline]
    #[must_use]
    pub fn segment_count(&self) -> usize {
        match self.meta.kind {
            Kind::None => 0,
            Kind::Owned | Kind::Part | Kind::View => 1,
            Kind::Vector | Kind::VectorReadOnly | Kind::VectorView => self.parts().len(),
        }
    }

    /// The pool buffer behind this value, or the value back if it is anything else.
    pub fn into_dma(self) -> Result<DmaBuf, Bufs> {
        if self.meta.kind != Kind::Owned {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: an Owned value was made from exactly one DmaBuf with this pointer and length, and `this` is not
        // dropped, so the buffer has one owner again.
        Ok(unsafe { DmaBuf::from_raw(this.ptr, this.len) })
    }

    /// The list behind a vector.
    fn parts(&self) -> &[Bufs] {
        assert!(matches!(self.meta.kind, Kind::Vector | Kind::VectorReadOnly | Kind::VectorView));
        // SAFETY: for these kinds `ptr` came from `Box::leak` of a List. The box lives as long as this value (a
        // Vector owns it; the lease of a VectorView cannot end before the view is given back), and nobody changes
        // the list meanwhile.
        unsafe { &self.ptr.cast::<List>().as_ref().0 }
    }

    /// True for a list that this value owns.
    const fn is_list(&self) -> bool {
        matches!(self.meta.kind, Kind::Vector | Kind::VectorReadOnly)
    }

    fn from_list(list: Box<List>) -> Bufs {
        let len = list.0.iter().map(|part| u64::from(part.len)).sum::<u64>();
        let len = u32::try_from(len).expect("an IO carries less than 4 GiB");
        let read_only = list.0.iter().any(Bufs::is_read_only);
        let kind = if read_only { Kind::VectorReadOnly } else { Kind::Vector };
        Bufs { ptr: NonNull::from(Box::leak(list)).cast(), len, meta: Meta::plain(kind) }
    }

    /// Takes the list out of a vector.
    fn into_list(self) -> Box<List> {
        assert!(self.is_list(), "only a list that is not lent can be taken apart, this is {self:?}");
        let this = ManuallyDrop::new(self);
        // SAFETY: a Vector's pointer came from `Box::leak` in `from_list` and `this` is not dropped.
        unsafe { Box::from_raw(this.ptr.cast::<List>().as_ptr()) }
    }
}

impl From<DmaBuf> for Bufs {
    #[inline]
    fn from(buf: DmaBuf) -> Bufs {
        let (ptr, len) = buf.into_raw();
        Bufs { ptr, len, meta: Meta::plain(Kind::Owned) }
    }
}

impl Drop for Bufs {
    #[inline]
    fn drop(&mut self) {
        if self.meta.kind != Kind::None {
            drop_slow(self);
        }
    }
}

#[cold]
fn drop_slow(bufs: &mut Bufs) {
    let this = std::mem::replace(bufs, Bufs::none());
    match this.meta.kind {
        Kind::None => {}
        Kind::Owned => drop(this.into_dma()),
        Kind::Vector | Kind::VectorReadOnly => drop(this.into_list()),
        Kind::Part | Kind::View | Kind::VectorView => {
            // The lease can now never end, so its memory stays valid for ever: a leak, not a dangling pointer.
            std::mem::forget(this);
            assert!(std::thread::panicking(), "a lent buffer was dropped instead of given back");
        }
    }
}

impl std::fmt::Debug for Bufs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} bytes in {} segments", self.meta.kind, self.len, self.segment_count())
    }
}
