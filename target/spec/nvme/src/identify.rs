//! Identify data structures (base 5.17, nvm 4.1.5).

use crate::layout;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of every page.
pub const PAGE: usize = 4096;

/// Which page is asked for (base figure 273).
pub mod cns {
    /// A namespace.
    pub const NAMESPACE: u8 = 0x00;
    /// The controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Active namespaces.
    pub const NAMESPACES: u8 = 0x02;
    /// How a namespace is known.
    pub const DESCRIPTORS: u8 = 0x03;
    /// A namespace, what a command set adds.
    pub const COMMAND_SET_NAMESPACE: u8 = 0x05;
    /// The controller, what a command set adds.
    pub const COMMAND_SET_CONTROLLER: u8 = 0x06;
    /// Active namespaces of a command set.
    pub const COMMAND_SET_NAMESPACES: u8 = 0x07;
    /// A namespace, whatever its command set.
    pub const ANY_NAMESPACE: u8 = 0x08;
}

/// How a namespace is known: types of descriptors (base figure 277).
pub mod descriptor {
    /// EUI64, 8 bytes.
    pub const EUI64: u8 = 1;
    /// NGUID, 16 bytes.
    pub const NGUID: u8 = 2;
    /// UUID, 16 bytes.
    pub const UUID: u8 = 3;
    /// Command set, 1 byte.
    pub const COMMAND_SET: u8 = 4;
}

/// The controller, 4096 bytes (base figure 275). What this product leaves at zero stands as reserved.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Controller {
    /// PCI vendor.
    pub vid: U16,
    /// PCI subsystem vendor.
    pub ssvid: U16,
    /// Serial number, filled with spaces.
    pub sn: [u8; 20],
    /// Model, filled with spaces.
    pub mn: [u8; 40],
    /// Firmware revision, filled with spaces.
    pub fr: [u8; 8],
    /// Recommended arbitration burst.
    pub rab: u8,
    /// Vendor's OUI.
    pub ieee: [u8; 3],
    /// Multi-path: bit 0 several ports, 1 several controllers, 3 asymmetric access.
    pub cmic: u8,
    /// Longest transfer: 4096 bytes times two to the power of this.
    pub mdts: u8,
    /// Controller's number.
    pub cntlid: U16,
    /// Version.
    pub ver: U32,
    /// Resume latency.
    pub rtd3r: U32,
    /// Entry latency.
    pub rtd3e: U32,
    /// Events that can be told of.
    pub oaes: U32,
    /// Attributes: bit 0 host ids of 128 bits.
    pub ctratt: U32,
    /// Reserved here.
    pub reserved100: [u8; 11],
    /// 1 = IO, 2 = discovery.
    pub cntrltype: u8,
    /// Reserved here.
    pub reserved112: [u8; 144],
    /// Optional admin commands.
    pub oacs: U16,
    /// Aborts at a time, less one.
    pub acl: u8,
    /// Event requests at a time, less one.
    pub aerl: u8,
    /// Firmware: bit 0 slot 1 read only, 3:1 number of slots.
    pub frmw: u8,
    /// Log pages: bit 1 commands supported, bit 2 extended data.
    pub lpa: u8,
    /// Entries of the error log, less one.
    pub elpe: u8,
    /// Power states, less one.
    pub npss: u8,
    /// Reserved here.
    pub reserved264: [u8; 56],
    /// Granularity of the keep-alive timer, in 100 ms.
    pub kas: U16,
    /// Reserved here.
    pub reserved322: [u8; 20],
    /// Longest transition of asymmetric access, seconds.
    pub anatt: u8,
    /// States of asymmetric access that may be reported.
    pub anacap: u8,
    /// Highest group.
    pub anagrpmax: U32,
    /// Number of groups.
    pub nanagrpid: U32,
    /// Reserved here.
    pub reserved352: [u8; 160],
    /// Submission entries: smallest and largest power of two.
    pub sqes: u8,
    /// Completions: smallest and largest power of two.
    pub cqes: u8,
    /// Commands at a time on a queue.
    pub maxcmd: U16,
    /// Highest namespace.
    pub nn: U32,
    /// Optional commands: bit 0 compare, 2 dataset management, 3 write zeroes, 7 verify.
    pub oncs: U16,
    /// Fused operations: bit 0 compare and write.
    pub fuses: U16,
    /// Format.
    pub fna: u8,
    /// Volatile write cache: bit 0 present, 2:1 flush of all namespaces.
    pub vwc: u8,
    /// Atomic write unit, blocks less one.
    pub awun: U16,
    /// The same when power fails.
    pub awupf: U16,
    /// Vendor specific commands.
    pub icsvscc: u8,
    /// Write protection.
    pub nwpc: u8,
    /// Atomic compare-and-write unit, blocks less one.
    pub acwu: U16,
    /// Copy formats.
    pub cdfs: U16,
    /// Scatter-gather lists: 1:0 supported, 20 offsets, 21 transport.
    pub sgls: U32,
    /// Most namespaces.
    pub mnan: U32,
    /// Reserved here.
    pub reserved544: [u8; 224],
    /// The subsystem's name, zero-terminated.
    pub subnqn: [u8; 256],
    /// Reserved here.
    pub reserved1024: [u8; 768],
    /// Command capsule in units of 16 bytes.
    pub ioccsz: U32,
    /// Response capsule in units of 16 bytes.
    pub iorcsz: U32,
    /// Where data begins in a capsule, in units of 16 bytes.
    pub icdoff: U16,
    /// Bit 0: controllers are static.
    pub fcatt: u8,
    /// Data descriptors of a command.
    pub msdbd: u8,
    /// Optional fabrics commands: bit 0 disconnect.
    pub ofcs: U16,
    /// Reserved here.
    pub reserved1806: [u8; 242],
    /// Power states and vendor specific.
    pub power: [u8; 2048],
}
layout!(
    Controller, 4096, mdts @ 77, ver @ 80, oaes @ 92, cntrltype @ 111, oacs @ 256, kas @ 320, anatt @ 342, sqes @ 512,
    nn @ 516, vwc @ 525, acwu @ 532, sgls @ 536, mnan @ 540, subnqn @ 768, ioccsz @ 1792, ofcs @ 1804, power @ 2048,
);

/// A namespace, 4096 bytes (nvm figure 97). What this product leaves at zero stands as reserved.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Namespace {
    /// Blocks.
    pub nsze: U64,
    /// Blocks that may be allocated.
    pub ncap: U64,
    /// Blocks in use.
    pub nuse: U64,
    /// Features: bit 4 the fields from `npwg` on are there.
    pub nsfeat: u8,
    /// Formats, less one.
    pub nlbaf: u8,
    /// The format in use.
    pub flbas: u8,
    /// Metadata.
    pub mc: u8,
    /// Protection that can be had.
    pub dpc: u8,
    /// Protection in use.
    pub dps: u8,
    /// Sharing: bit 0 several controllers.
    pub nmic: u8,
    /// Reservations.
    pub rescap: u8,
    /// Format progress.
    pub fpi: u8,
    /// Deallocation: 2:0 what is read then, 3 write zeroes may deallocate.
    pub dlfeat: u8,
    /// Atomicity.
    pub atomicity: [U16; 6],
    /// Optimal IO boundary, blocks.
    pub noiob: U16,
    /// Capacity in bytes, 128 bits.
    pub nvmcap: [u8; 16],
    /// Preferred write granularity and alignment, deallocate granularity and alignment, optimal write size: blocks less one.
    pub preferred: [U16; 5],
    /// Reserved here.
    pub reserved74: [u8; 18],
    /// Group of asymmetric access.
    pub anagrpid: U32,
    /// Reserved here.
    pub reserved96: [u8; 3],
    /// Bit 0: write protected.
    pub nsattr: u8,
    /// Reserved here.
    pub reserved100: [u8; 4],
    /// Globally unique id.
    pub nguid: [u8; 16],
    /// Extended unique id.
    pub eui64: [u8; 8],
    /// Formats: metadata bytes, power of two of the block size, performance.
    pub lbaf: [U32; 64],
    /// Reserved and vendor specific.
    pub reserved384: [u8; 3712],
}
layout!(Namespace, 4096, nlbaf @ 25, nmic @ 30, dlfeat @ 33, noiob @ 46, preferred @ 64, anagrpid @ 92, nguid @ 104, lbaf @ 128);
