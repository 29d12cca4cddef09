//! Properties: capabilities, configuration, status (base 3.1.4).
//!
//! ```text
//! Disabled ──EN=1──► Ready ──SHN──► Ready, shut down
//!     ▲                │                │
//!     └─────EN=0───────┴────────────────┘
//! ```

use crate::options::TransportOptions;
use tgt_nvme::register::{CAP, CC, CSTS, Capabilities, Configuration, VERSION_1_4, VS, csts};
use tgt_status::IoStatus;

/// How long ready and shutdown take at most, in 500 ms: 15 s, as SPDK says.
const TIMEOUT: u8 = 30;

/// What a write to the configuration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that others see.
    None,
    /// IO queues may connect.
    Enabled,
    /// It was reset: its IO queues end.
    Disabled,
    /// The host has said that it will go.
    ShutDown,
}

/// The properties.
#[derive(Clone, Debug)]
pub struct Registers {
    capabilities: u64,
    configuration: Configuration,
    status: u32,
    discovery: bool,
}

impl Registers {
    pub(super) fn new(options: &TransportOptions, discovery: bool) -> Registers {
        let capabilities = Capabilities { entries_max: options.max_queue_depth, timeout: TIMEOUT }.bits();
        Registers { capabilities, configuration: Configuration::default(), status: 0, discovery }
    }

    /// Whether it serves admin commands.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status & csts::READY != 0
    }

    /// The value of a property of four or eight bytes.
    ///
    /// # Errors
    /// The status for one that is not there, or of another size.
    pub fn get(&self, offset: u32, eight_bytes: bool) -> Result<u64, IoStatus> {
        match (offset, eight_bytes) {
            (CAP, true) => Ok(self.capabilities),
            (VS, false) => Ok(VERSION_1_4.into()),
            (CC, false) => Ok(self.configuration.0.into()),
            (CSTS, false) => Ok(self.status.into()),
            _ => Err(IoStatus::INVALID_FIELD),
        }
    }

    /// Sets the configuration, the only one that can be set.
    ///
    /// # Errors
    /// The status; nothing has changed.
    pub fn set(&mut self, offset: u32, eight_bytes: bool, value: u64) -> Result<Change, IoStatus> {
        if (offset, eight_bytes) != (CC, false) {
            return Err(IoStatus::INVALID_FIELD);
        }
        let (old, new) = (self.configuration, Configuration(value as u32));
        if new.enabled() && !old.enabled() {
            self.check(new)?;
        }
        self.configuration = new;
        let change = match (old.enabled(), new.enabled()) {
            (false, true) => {
                self.status = csts::READY;
                Change::Enabled
            }
            (true, false) => {
                self.status = 0;
                Change::Disabled
            }
            _ => Change::None,
        };
        if new.shutdown() != 0 && old.shutdown() == 0 {
            // Nothing is kept here that has to be brought to safety: a write that was answered is where its bdev put it.
            self.status |= csts::SHUTDOWN_COMPLETE;
            return Ok(if change == Change::None { Change::ShutDown } else { change });
        }
        Ok(change)
    }

    fn check(&self, new: Configuration) -> Result<(), IoStatus> {
        let sizes = (new.sq_entry(), new.cq_entry());
        // Discovery controllers have no IO queues; hosts leave the sizes of their entries at zero.
        let entries = sizes == (6, 4) || (self.discovery && sizes == (0, 0));
        if entries && new.command_set() == 0 && new.page_size() == 0 && new.arbitration() == 0 {
            return Ok(());
        }
        Err(IoStatus::INVALID_FIELD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENABLE: u64 = 0x0046_0001;

    fn registers() -> Registers {
        Registers::new(&TransportOptions::default(), false)
    }

    #[test]
    fn every_step_of_the_configuration_shows_in_the_status() {
        let mut registers = registers();
        let status = |registers: &Registers| registers.get(CSTS, false).expect("a status");
        assert_eq!((status(&registers), registers.is_ready()), (0, false));
        assert_eq!(registers.set(CC, false, ENABLE), Ok(Change::Enabled));
        assert_eq!((status(&registers), registers.is_ready()), (1, true));
        assert_eq!(registers.set(CC, false, ENABLE), Ok(Change::None));
        assert_eq!(registers.set(CC, false, ENABLE | 1 << 14), Ok(Change::ShutDown));
        assert_eq!(status(&registers), 0b1001);
        assert_eq!(registers.set(CC, false, 0), Ok(Change::Disabled));
        assert_eq!((status(&registers), registers.is_ready()), (0, false));
        assert_eq!(registers.set(CC, false, ENABLE), Ok(Change::Enabled));
        assert_eq!(status(&registers), 1, "a new beginning");
    }

    #[test]
    fn a_configuration_that_cannot_be_kept_changes_nothing() {
        let mut registers = registers();
        for bad in [1, 0x0045_0001, ENABLE | 1 << 4, ENABLE | 1 << 7, ENABLE | 1 << 11] {
            assert_eq!(registers.set(CC, false, bad), Err(IoStatus::INVALID_FIELD), "{bad:#x}");
            assert_eq!(registers.get(CC, false), Ok(0));
        }
        let mut discovery = Registers::new(&TransportOptions::default(), true);
        assert_eq!(discovery.set(CC, false, 1), Ok(Change::Enabled));
    }

    #[test]
    fn properties_have_their_own_sizes_and_others_are_not_there() {
        let mut registers = registers();
        assert_eq!(registers.get(CAP, true).map(|cap| cap & 0xffff), Ok(127));
        assert_eq!(registers.get(VS, false), Ok(0x1_0400));
        for (offset, eight) in
            [(CAP, false), (VS, true), (CC, true), (CSTS, true), (0x20, false), (u32::MAX, true)]
        {
            assert_eq!(registers.get(offset, eight), Err(IoStatus::INVALID_FIELD), "{offset:#x}");
        }
        for offset in [CAP, VS, CSTS, 0x20] {
            assert_eq!(registers.set(offset, false, 1), Err(IoStatus::INVALID_FIELD), "{offset:#x}");
        }
    }
}
