//! To virtio-blk's status byte (Virtual I/O Device 1.2, section 5.2.6).

use crate::IoStatus;

/// The request did what it was asked to do.
pub const VIRTIO_BLK_S_OK: u8 = 0;
/// The device or driver failed.
pub const VIRTIO_BLK_S_IOERR: u8 = 1;
/// The device does not know the request.
pub const VIRTIO_BLK_S_UNSUPP: u8 = 2;

impl IoStatus {
    /// The status byte of a virtio-blk request.
    #[must_use]
    pub const fn to_virtio_blk(self) -> u8 {
        match self {
            IoStatus::SUCCESS => VIRTIO_BLK_S_OK,
            IoStatus::INVALID_OPCODE => VIRTIO_BLK_S_UNSUPP,
            _ => VIRTIO_BLK_S_IOERR,
        }
    }

    /// The status for a virtio-blk status byte. An unknown byte is `INTERNAL`, never success.
    pub const fn from_virtio_blk(byte: u8) -> IoStatus {
        match byte {
            VIRTIO_BLK_S_OK => IoStatus::SUCCESS,
            VIRTIO_BLK_S_UNSUPP => IoStatus::INVALID_OPCODE,
            _ => IoStatus::INTERNAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_ok_to_a_guest() {
        for status in IoStatus::ALL {
            assert_eq!(status.to_virtio_blk() == VIRTIO_BLK_S_OK, status.is_ok(), "{status}");
        }
    }

    #[test]
    fn only_ok_from_a_device_is_success() {
        for byte in 0..=255 {
            assert_eq!(IoStatus::from_virtio_blk(byte).is_ok(), byte == VIRTIO_BLK_S_OK);
        }
        assert_eq!(IoStatus::from_virtio_blk(VIRTIO_BLK_S_UNSUPP), IoStatus::INVALID_OPCODE);
    }
}
