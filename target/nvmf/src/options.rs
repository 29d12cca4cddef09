//! Options of the transport, with SPDK's names and defaults.

use crate::error::NvmfError;
use tgt_bdev::DmaBuf;

/// Bytes of a memory page, the unit of the longest transfer that hosts are told.
const PAGE: u32 = 4096;

/// What all connections of the transport keep to. Fixed once it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// Most commands on an IO queue.
    pub max_queue_depth: u16,
    /// Most IO queues of a controller.
    pub max_io_qpairs_per_ctrlr: u16,
    /// Most data in an IO command's capsule, bytes.
    pub in_capsule_data_size: u32,
    /// Longest transfer of a command, bytes.
    pub max_io_size: u32,
    /// Most commands on an admin queue.
    pub max_aq_depth: u16,
    /// Data is followed by no completion where the host allows it.
    pub c2h_success: bool,
    /// Shortest keep-alive timeout; shorter ones become this, ms.
    pub min_kato_ms: u32,
    /// Granularity of keep-alive timeouts, ms.
    pub kas_ms: u32,
    /// Most bytes of data buffers on one reactor; beyond that commands wait.
    pub memory_max: u64,
}

impl Default for TransportOptions {
    fn default() -> TransportOptions {
        TransportOptions {
            max_queue_depth: 128,
            max_io_qpairs_per_ctrlr: 127,
            in_capsule_data_size: 4096,
            max_io_size: 131_072,
            max_aq_depth: 128,
            c2h_success: true,
            min_kato_ms: 10_000,
            kas_ms: 10_000,
            memory_max: 512 << 20,
        }
    }
}

impl TransportOptions {
    /// Most commands on a queue.
    pub const DEPTH_MAX: u16 = 4096;
    /// Most data in a capsule.
    pub const CAPSULE_MAX: u32 = 65_536;

    /// Checks all of them.
    ///
    /// # Errors
    /// The one that is wrong, and what would do.
    pub fn check(&self) -> Result<(), NvmfError> {
        let range = |name, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(NvmfError::value(name, value, format!("{least} to {most}")))
        };
        range("max_queue_depth", self.max_queue_depth.into(), 2, Self::DEPTH_MAX.into())?;
        range("max_aq_depth", self.max_aq_depth.into(), 32, Self::DEPTH_MAX.into())?;
        range("max_io_qpairs_per_ctrlr", self.max_io_qpairs_per_ctrlr.into(), 1, 65_534)?;
        range("in_capsule_data_size", self.in_capsule_data_size, 0, Self::CAPSULE_MAX)?;
        if !self.in_capsule_data_size.is_multiple_of(16) {
            let accepted = "a multiple of 16: capsules are counted in units of 16 bytes";
            return Err(NvmfError::value("in_capsule_data_size", self.in_capsule_data_size, accepted));
        }
        range("max_io_size", self.max_io_size, 2 * PAGE, DmaBuf::MAX_LEN)?;
        if !self.max_io_size.is_power_of_two() {
            let accepted = format!("a power of two from {} to {}", 2 * PAGE, DmaBuf::MAX_LEN);
            return Err(NvmfError::value("max_io_size", self.max_io_size, accepted));
        }
        range("min_kato", self.min_kato_ms, 100, 3_600_000)?;
        range("kas", self.kas_ms, 100, 6_553_500)?;
        if !self.kas_ms.is_multiple_of(100) {
            return Err(NvmfError::value("kas", self.kas_ms / 100, "a whole number of 100 ms"));
        }
        Ok(())
    }

    /// Longest transfer as hosts are told it: pages, as a power of two.
    #[must_use]
    pub fn mdts(&self) -> u8 {
        (self.max_io_size / PAGE).ilog2() as u8
    }

    /// The keep-alive timeout that is granted to a host that asks for `ms`; none for 0.
    #[must_use]
    pub fn kato(&self, ms: u32) -> u32 {
        if ms == 0 {
            return 0;
        }
        // As long as asked for or longer, in the granularity that the controller tells.
        let least = ms.max(self.min_kato_ms);
        least.checked_next_multiple_of(self.kas_ms).unwrap_or(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_accepted_and_what_is_out_of_range_is_named() {
        let good = TransportOptions::default();
        good.check().expect("the defaults");
        assert_eq!(good.mdts(), 5);
        for (bad, name) in [
            (TransportOptions { max_queue_depth: 1, ..good.clone() }, "max_queue_depth"),
            (TransportOptions { max_io_size: 100_000, ..good.clone() }, "max_io_size"),
            (TransportOptions { max_io_size: 1 << 31, ..good.clone() }, "max_io_size"),
            (TransportOptions { in_capsule_data_size: 100, ..good.clone() }, "in_capsule_data_size"),
            (TransportOptions { max_aq_depth: 31, ..good.clone() }, "max_aq_depth"),
            (TransportOptions { kas_ms: 150, ..good.clone() }, "kas"),
        ] {
            let error = bad.check().expect_err(name).to_string();
            assert!(error.starts_with(name) && error.contains("accepted"), "{error}");
        }
    }

    #[test]
    fn a_keep_alive_timeout_is_never_shorter_than_asked_for() {
        let options = TransportOptions::default();
        assert_eq!(options.kato(0), 0);
        for ms in [1, 9_999, 10_000, 10_001, 15_000, 120_000, u32::MAX] {
            assert!(options.kato(ms) >= ms.max(options.min_kato_ms), "{ms}");
        }
        assert_eq!(options.kato(15_000), 20_000);
    }
}
