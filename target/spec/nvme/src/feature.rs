//! Numbers of features (base figure 317), for Get Features and Set Features.

/// Arbitration.
pub const ARBITRATION: u8 = 0x01;
/// Power Management.
pub const POWER_MANAGEMENT: u8 = 0x02;
/// Temperature Threshold.
pub const TEMPERATURE_THRESHOLD: u8 = 0x04;
/// Error Recovery.
pub const ERROR_RECOVERY: u8 = 0x05;
/// Volatile Write Cache.
pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
/// Number of Queues.
pub const NUMBER_OF_QUEUES: u8 = 0x07;
/// Write Atomicity Normal.
pub const WRITE_ATOMICITY: u8 = 0x0a;
/// Asynchronous Event Configuration.
pub const ASYNC_EVENT_CONFIG: u8 = 0x0b;
/// Keep Alive Timer.
pub const KEEP_ALIVE_TIMER: u8 = 0x0f;
/// Host Behavior Support.
pub const HOST_BEHAVIOR: u8 = 0x16;
/// Host Identifier.
pub const HOST_IDENTIFIER: u8 = 0x81;

/// Bits of [`ASYNC_EVENT_CONFIG`] and of the controller's `oaes` (base figures 328, 275).
pub mod event {
    /// Notice: namespaces changed.
    pub const NAMESPACE: u32 = 1 << 8;
    /// Notice: states of asymmetric access changed.
    pub const ANA: u32 = 1 << 11;
    /// Notice: the discovery log changed.
    pub const DISCOVERY: u32 = 1 << 31;
}

/// What the select field of Get Features asks for (base 5.15).
pub mod select {
    /// What is in force.
    pub const CURRENT: u8 = 0;
    /// What it was at first.
    pub const DEFAULT: u8 = 1;
    /// What survives a reset.
    pub const SAVED: u8 = 2;
    /// What can be done with it.
    pub const CAPABILITIES: u8 = 3;
}
