//! Controller properties (base 3.1.4): capabilities, configuration, status.

/// Offset of the capabilities, 8 bytes.
pub const CAP: u32 = 0x00;
/// Offset of the version.
pub const VS: u32 = 0x08;
/// Offset of the configuration.
pub const CC: u32 = 0x14;
/// Offset of the status.
pub const CSTS: u32 = 0x1c;

/// Version 1.4.0 (base 3.1.4.2).
pub const VERSION_1_4: u32 = 0x0001_0400;

/// Controller capabilities (base 3.1.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Most entries of an IO queue.
    pub entries_max: u16,
    /// How long ready and shutdown may take, in 500 ms.
    pub timeout: u8,
}

impl Capabilities {
    /// As the host reads them: queues contiguous, NVM command set, pages of 4 KiB.
    #[must_use]
    pub fn bits(self) -> u64 {
        const CONTIGUOUS: u64 = 1 << 16;
        const NVM: u64 = 1 << 37;
        u64::from(self.entries_max.saturating_sub(1)) | CONTIGUOUS | u64::from(self.timeout) << 24 | NVM
    }
}

/// Controller configuration (base 3.1.4.5), taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configuration(pub u32);

impl Configuration {
    /// The host wants it to work.
    #[must_use]
    pub const fn enabled(self) -> bool {
        self.0 & 1 == 1
    }

    /// IO command set selected.
    #[must_use]
    pub const fn command_set(self) -> u32 {
        self.0 >> 4 & 7
    }

    /// Memory page size: 2 to the power of 12 and this.
    #[must_use]
    pub const fn page_size(self) -> u32 {
        self.0 >> 7 & 15
    }

    /// Arbitration.
    #[must_use]
    pub const fn arbitration(self) -> u32 {
        self.0 >> 11 & 7
    }

    /// Shutdown notification: 0 none, 1 normal, 2 abrupt.
    #[must_use]
    pub const fn shutdown(self) -> u32 {
        self.0 >> 14 & 3
    }

    /// Power of two of a submission entry's size.
    #[must_use]
    pub const fn sq_entry(self) -> u32 {
        self.0 >> 16 & 15
    }

    /// Power of two of a completion's size.
    #[must_use]
    pub const fn cq_entry(self) -> u32 {
        self.0 >> 20 & 15
    }
}

/// Bits of the controller status (base 3.1.4.6).
pub mod csts {
    /// It works.
    pub const READY: u32 = 1;
    /// It has failed for good.
    pub const FATAL: u32 = 1 << 1;
    /// Shutdown is complete.
    pub const SHUTDOWN_COMPLETE: u32 = 2 << 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_bits_are_where_the_specification_has_them() {
        let linux = Configuration(0x0046_0001);
        assert!(linux.enabled());
        assert_eq!((linux.sq_entry(), linux.cq_entry(), linux.command_set()), (6, 4, 0));
        assert_eq!((linux.page_size(), linux.arbitration(), linux.shutdown()), (0, 0, 0));
        assert_eq!(Configuration(0x4000).shutdown(), 1);
    }

    #[test]
    fn capabilities_are_zeroes_based() {
        let bits = Capabilities { entries_max: 128, timeout: 30 }.bits();
        assert_eq!((bits & 0xffff, bits >> 24 & 0xff, bits >> 37 & 1), (127, 30, 1));
    }
}
