//! To and from Linux errno. The numbers are Linux's for x86-64 and aarch64 (`include/uapi/asm-generic/errno*.h`).

use crate::IoStatus;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EFAULT: i32 = 14;
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EILSEQ: i32 = 84;
const EBADE: i32 = 52;
const ENODATA: i32 = 61;
const ENOLINK: i32 = 67;
const EOPNOTSUPP: i32 = 95;
const ECONNRESET: i32 = 104;
const EREMOTEIO: i32 = 121;
const ETIMEDOUT: i32 = 110;
const ECANCELED: i32 = 125;

/// Pairs that map both ways: the errno says as much as the status does.
const BOTH_WAYS: &[(IoStatus, i32)] = &[
    (IoStatus::INVALID_OPCODE, EOPNOTSUPP),
    (IoStatus::INVALID_FIELD, EINVAL),
    (IoStatus::DATA_TRANSFER_ERROR, EFAULT),
    (IoStatus::INTERNAL, EIO),
    (IoStatus::ABORTED, ECANCELED),
    (IoStatus::INVALID_NAMESPACE, ENODEV),
    (IoStatus::WRITE_PROTECTED, EROFS),
    (IoStatus::NAMESPACE_NOT_READY_RETRY, EAGAIN),
    (IoStatus::CAPACITY_EXCEEDED, ENOSPC),
    (IoStatus::NAMESPACE_NOT_READY, EBUSY),
    (IoStatus::RESERVATION_CONFLICT, EBADE),
    (IoStatus::WRITE_FAULT, EREMOTEIO),
    (IoStatus::UNRECOVERED_READ_ERROR, ENODATA),
    (IoStatus::COMPARE_FAILURE, EILSEQ),
    (IoStatus::PATH_ERROR, ENOLINK),
];

/// Statuses that share an errno with another.
const TO_ERRNO: &[(IoStatus, i32)] = &[
    (IoStatus::LBA_OUT_OF_RANGE, EINVAL),
    (IoStatus::ABORTED_SQ_DELETION, ECANCELED),
    (IoStatus::ABORTED_BY_HOST, ECANCELED),
];

/// Errnos that share a status with another.
const FROM_ERRNO: &[(i32, IoStatus)] = &[
    (ENOENT, IoStatus::INVALID_NAMESPACE),
    (ENOMEM, IoStatus::NAMESPACE_NOT_READY_RETRY),
    (ETIMEDOUT, IoStatus::PATH_ERROR),
    (ECONNRESET, IoStatus::PATH_ERROR),
];

impl IoStatus {
    /// The status for a positive Linux errno. Zero is success; an unknown one is `INTERNAL`, never success.
    pub fn from_errno(errno: i32) -> IoStatus {
        if errno == 0 {
            return IoStatus::SUCCESS;
        }
        let both = BOTH_WAYS.iter().find(|(_, e)| *e == errno).map(|(status, _)| *status);
        let one = || FROM_ERRNO.iter().find(|(e, _)| *e == errno).map(|(_, status)| *status);
        both.or_else(one).unwrap_or(IoStatus::INTERNAL)
    }

    /// The positive Linux errno for this status; 0 for success, `EIO` for what errno cannot say.
    #[must_use]
    pub fn to_errno(self) -> i32 {
        if self.is_ok() {
            return 0;
        }
        let pair = BOTH_WAYS.iter().chain(TO_ERRNO).find(|(status, _)| *status == self);
        pair.map_or(EIO, |(_, errno)| *errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_map_both_ways() {
        for (status, errno) in BOTH_WAYS {
            assert_eq!(status.to_errno(), *errno, "{status}");
            assert_eq!(IoStatus::from_errno(*errno), *status, "errno {errno}");
        }
    }

    #[test]
    fn every_status_of_ours_has_an_errno_of_its_own_choice() {
        for status in IoStatus::ALL.iter().filter(|status| !status.is_ok()) {
            let known = BOTH_WAYS.iter().chain(TO_ERRNO).any(|(s, _)| s == status);
            assert!(known, "{status} stands in no table");
        }
    }

    #[test]
    fn nothing_but_zero_becomes_success_and_nothing_but_success_becomes_zero() {
        for errno in -200..=4096 {
            assert_eq!(IoStatus::from_errno(errno).is_ok(), errno == 0, "errno {errno}");
        }
        for sct in 0..8 {
            for sc in 0..=255 {
                let status = IoStatus::new(sct, sc);
                assert_eq!(status.to_errno() == 0, status.is_ok(), "{status}");
            }
        }
    }
}
