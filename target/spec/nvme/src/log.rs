//! Log pages (base 5.16.1).

use crate::layout;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Which page is asked for (base figure 202).
pub mod id {
    /// Errors.
    pub const ERROR: u8 = 0x01;
    /// Health.
    pub const SMART: u8 = 0x02;
    /// Firmware slots.
    pub const FIRMWARE: u8 = 0x03;
    /// Namespaces that changed.
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    /// Commands supported and their effects.
    pub const COMMANDS: u8 = 0x05;
    /// Asymmetric access.
    pub const ANA: u8 = 0x0c;
    /// Discovery.
    pub const DISCOVERY: u8 = 0x70;
}

/// An entry of the error log, 64 bytes (base figure 205).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ErrorEntry {
    /// Counts up; 0: no entry.
    pub count: U64,
    /// Queue.
    pub sq_id: U16,
    /// Command.
    pub cid: U16,
    /// Status field, as it was answered.
    pub status_field: U16,
    /// Byte and bit in the command; `ffffh`: none.
    pub location: U16,
    /// First block.
    pub lba: U64,
    /// Namespace.
    pub nsid: U32,
    /// Vendor specific page.
    pub vendor: u8,
    /// Transport: 3 = TCP.
    pub transport: u8,
    /// Reserved.
    pub reserved: [u8; 34],
}
layout!(ErrorEntry, 64, lba @ 16, transport @ 29);

/// Health, 512 bytes (base figure 207). What this product leaves at zero stands as reserved.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Smart {
    /// Warnings.
    pub warning: u8,
    /// Kelvin.
    pub temperature: U16,
    /// Spare left, percent.
    pub spare: u8,
    /// Spare at which to worry, percent.
    pub spare_threshold: u8,
    /// Life used, percent.
    pub used: u8,
    /// Reserved here.
    pub reserved6: [u8; 26],
    /// Read, in 512,000 bytes, rounded up; 128 bits each from here on.
    pub units_read: [U64; 2],
    /// Written, in 512,000 bytes, rounded up.
    pub units_written: [U64; 2],
    /// Read commands.
    pub reads: [U64; 2],
    /// Write commands.
    pub writes: [U64; 2],
    /// Minutes busy.
    pub busy: [U64; 2],
    /// Power cycles.
    pub power_cycles: [U64; 2],
    /// Hours on.
    pub hours: [U64; 2],
    /// Shutdowns that were not told of.
    pub unsafe_shutdowns: [U64; 2],
    /// Errors of the medium.
    pub media_errors: [U64; 2],
    /// Entries of the error log over all times.
    pub errors: [U64; 2],
    /// Reserved here.
    pub reserved192: [u8; 320],
}
layout!(Smart, 512, units_read @ 32, media_errors @ 160, errors @ 176);

/// Firmware slots, 512 bytes (base figure 208).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Firmware {
    /// Slot in use.
    pub active: u8,
    /// Reserved.
    pub reserved: [u8; 7],
    /// Revisions in seven slots.
    pub revisions: [[u8; 8]; 7],
    /// Reserved.
    pub reserved64: [u8; 448],
}
layout!(Firmware, 512);

/// Commands supported and their effects, 4096 bytes (base figure 210).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Commands {
    /// By admin opcode.
    pub admin: [U32; 256],
    /// By IO opcode.
    pub io: [U32; 256],
    /// Reserved.
    pub reserved: [u8; 2048],
}
layout!(Commands, 4096);

impl Commands {
    /// The command is supported.
    pub const SUPPORTED: u32 = 1;
    /// It may change what blocks hold.
    pub const CHANGES_CONTENT: u32 = 1 << 1;
}

/// Head of the asymmetric access log, 16 bytes (base figure 228).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AnaHead {
    /// Counts changes.
    pub changes: U64,
    /// Groups that follow.
    pub groups: U16,
    /// Reserved.
    pub reserved: [u8; 6],
}
layout!(AnaHead, 16);

/// A group of asymmetric access, 32 bytes; its namespaces follow (base figure 229).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AnaGroup {
    /// Group.
    pub id: U32,
    /// Namespaces that follow.
    pub namespaces: U32,
    /// Counts changes.
    pub changes: U64,
    /// [`ana`].
    pub state: u8,
    /// Reserved.
    pub reserved: [u8; 15],
}
layout!(AnaGroup, 32, state @ 16);

/// States of asymmetric access (base 8.1).
pub mod ana {
    /// Use this path.
    pub const OPTIMIZED: u8 = 1;
    /// This path works; others are better.
    pub const NON_OPTIMIZED: u8 = 2;
    /// This path does not work.
    pub const INACCESSIBLE: u8 = 3;
    /// This path will never work again.
    pub const PERSISTENT_LOSS: u8 = 4;
    /// This path is changing.
    pub const CHANGE: u8 = 15;
}

/// Head of the discovery log, 1024 bytes (base figure 264).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DiscoveryHead {
    /// Counts changes.
    pub generation: U64,
    /// Entries that follow.
    pub records: U64,
    /// Format: 0.
    pub format: U16,
    /// Reserved.
    pub reserved: [u8; 1006],
}
layout!(DiscoveryHead, 1024);

/// An entry of the discovery log, 1024 bytes (base figure 265).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DiscoveryEntry {
    /// Transport: 3 = TCP.
    pub transport: u8,
    /// Family: 1 = IPv4, 2 = IPv6.
    pub family: u8,
    /// 1 = referral, 2 = subsystem, 3 = this discovery subsystem.
    pub subtype: u8,
    /// Secure channel: 0 not said, 1 needed, 2 not needed.
    pub requirements: u8,
    /// Port.
    pub port: U16,
    /// Controller; `ffffh`: any.
    pub cntlid: U16,
    /// Entries of the admin queue.
    pub admin_entries: U16,
    /// Flags.
    pub flags: U16,
    /// Reserved.
    pub reserved12: [u8; 20],
    /// Service, filled with spaces.
    pub service: [u8; 32],
    /// Reserved.
    pub reserved64: [u8; 192],
    /// Subsystem, zero-terminated.
    pub sub_nqn: [u8; 256],
    /// Address, filled with spaces.
    pub address: [u8; 256],
    /// What the transport adds.
    pub transport_specific: [u8; 256],
}
layout!(DiscoveryEntry, 1024, service @ 32, sub_nqn @ 256, address @ 512, transport_specific @ 768);

/// Numbers of [`DiscoveryEntry`] and of referrals.
pub mod discovery {
    /// TCP.
    pub const TCP: u8 = 3;
    /// IPv4.
    pub const IPV4: u8 = 1;
    /// IPv6.
    pub const IPV6: u8 = 2;
    /// Another discovery subsystem.
    pub const REFERRAL: u8 = 1;
    /// An NVM subsystem.
    pub const NVM: u8 = 2;
    /// The discovery subsystem that is asked.
    pub const CURRENT: u8 = 3;
}
