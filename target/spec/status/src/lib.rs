//! # IoStatus: how every IO ends
//!
//! **What it is.** One `Copy` value, the NVMe status code, that travels from the device that finished an IO to the
//! export that answers the host. It is not an error type for control methods (those have their own enums).
//!
//! **Words.** *SCT*: status code type. *SC*: status code. Both as in the NVMe Base Specification 2.0, section 3.3.3.2.1
//! ("Status Field Definition", figures 93 to 100).
//!
//! **Who may call it.** Any thread; pure values.
//!
//! **Invariants.** Only `SUCCESS` is success. What cannot be mapped becomes `INTERNAL` (towards NVMe) or `EIO`
//! (towards errno), never success. The mapping tables are in `errno.rs` and `virtio.rs`, tested both ways.
//!
//! **Map.** `lib.rs` the codes · `errno.rs` to and from Linux errno · `virtio.rs` to virtio-blk's status byte.
//!
//! **Tests.** Beside each table.

mod errno;
mod virtio;

pub use virtio::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP};

/// How an IO ended: NVMe status code type and status code, `SCT << 8 | SC` (NVMe Base 2.0, 3.3.3.2.1).
///
/// `DNR` ("do not retry") and `M` ("more") are not part of it: whoever answers a host derives them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
#[must_use]
pub struct IoStatus(u16);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $sct:literal, $sc:literal, $text:literal;)*) => {
        impl IoStatus {
            $($(#[$doc])* pub const $name: IoStatus = IoStatus::new($sct, $sc);)*

            /// Every status this target makes itself.
            pub const ALL: &'static [IoStatus] = &[$(IoStatus::$name),*];

            /// A few plain words, as they appear in logs and errors.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self {
                    $(IoStatus::$name => $text,)*
                    _ => "status set by a device",
                }
            }
        }
    };
}

statuses! {
    /// The IO did what it was asked to do.
    SUCCESS = 0, 0x00, "success";
    /// The operation is not one this device knows.
    INVALID_OPCODE = 0, 0x01, "operation not supported";
    /// A field of the request is out of bounds or misaligned.
    INVALID_FIELD = 0, 0x02, "invalid field in the request";
    /// Data did not make it to or from the caller's buffer.
    DATA_TRANSFER_ERROR = 0, 0x04, "data transfer error";
    /// Something failed that the other codes do not describe.
    INTERNAL = 0, 0x06, "internal error";
    /// The opener asked for this IO to be aborted.
    ABORTED = 0, 0x07, "aborted on request";
    /// The queue or channel that carried the IO went away.
    ABORTED_SQ_DELETION = 0, 0x08, "aborted: its queue was deleted";
    /// There is no such namespace, or the device was removed.
    INVALID_NAMESPACE = 0, 0x0b, "the device was removed";
    /// The device is write-protected, or this opener may not write.
    WRITE_PROTECTED = 0, 0x20, "the device is write-protected";
    /// A resource ran out for the moment; the same IO may succeed later.
    NAMESPACE_NOT_READY_RETRY = 0, 0x21, "not ready, try again";
    /// The IO lies beyond the end of the device.
    LBA_OUT_OF_RANGE = 0, 0x80, "beyond the end of the device";
    /// No room is left on a thin device.
    CAPACITY_EXCEEDED = 0, 0x81, "capacity exceeded";
    /// The device cannot serve anything for now.
    NAMESPACE_NOT_READY = 0, 0x82, "the device is not ready";
    /// Another host holds a reservation.
    RESERVATION_CONFLICT = 0, 0x83, "reservation conflict";
    /// The write did not reach the medium.
    WRITE_FAULT = 2, 0x80, "write fault";
    /// The data on the medium cannot be read.
    UNRECOVERED_READ_ERROR = 2, 0x81, "unrecovered read error";
    /// Compare found a difference.
    COMPARE_FAILURE = 2, 0x85, "compare failure";
    /// The path to the device is gone; another path may work.
    PATH_ERROR = 3, 0x00, "path error";
    /// The command was aborted by the host side of a path.
    ABORTED_BY_HOST = 3, 0x71, "aborted by the host side of the path";
}

impl IoStatus {
    /// Builds a status from its two parts; `sct` has 3 bits.
    pub const fn new(sct: u8, sc: u8) -> IoStatus {
        IoStatus(((sct as u16 & 7) << 8) | sc as u16)
    }

    /// Status code type.
    #[must_use]
    pub const fn sct(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Status code.
    #[must_use]
    pub const fn sc(self) -> u8 {
        self.0 as u8
    }

    /// True for `SUCCESS` and for nothing else.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// The first of two that is not success, for layers that join several IOs into one.
    pub const fn and(self, other: IoStatus) -> IoStatus {
        if self.is_ok() { other } else { self }
    }
}

impl std::fmt::Debug for IoStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (SCT {}, SC {:#04x})", self.text(), self.sct(), self.sc())
    }
}

impl std::fmt::Display for IoStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::IoStatus;

    #[test]
    fn only_success_is_success() {
        let ok: Vec<_> = IoStatus::ALL.iter().filter(|status| status.is_ok()).collect();
        assert_eq!(ok, [&IoStatus::SUCCESS]);
    }

    #[test]
    fn parts_come_back_as_they_went_in() {
        for sct in 0..8 {
            for sc in 0..=255 {
                let status = IoStatus::new(sct, sc);
                assert_eq!((status.sct(), status.sc()), (sct, sc));
            }
        }
    }

    #[test]
    fn joining_keeps_the_first_failure() {
        let (ok, fault) = (IoStatus::SUCCESS, IoStatus::WRITE_FAULT);
        assert_eq!(ok.and(ok), ok);
        assert_eq!(ok.and(fault), fault);
        assert_eq!(fault.and(ok), fault);
        assert_eq!(fault.and(IoStatus::INTERNAL), fault);
    }

    #[test]
    fn every_status_has_its_own_code() {
        let mut codes = IoStatus::ALL.to_vec();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), IoStatus::ALL.len());
    }
}
