//! Protocol data units of NVMe/TCP (tcp 3.6).

use crate::command::{Command, Completion};
use crate::layout;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Types (tcp figure 13).
pub mod kind {
    /// Host: let us begin.
    pub const IC_REQ: u8 = 0x00;
    /// Controller: so be it.
    pub const IC_RESP: u8 = 0x01;
    /// Host: this connection is over, an error.
    pub const H2C_TERM_REQ: u8 = 0x02;
    /// Controller: this connection is over, an error.
    pub const C2H_TERM_REQ: u8 = 0x03;
    /// Host: a command.
    pub const CAPSULE_CMD: u8 = 0x04;
    /// Controller: a completion.
    pub const CAPSULE_RESP: u8 = 0x05;
    /// Host: data.
    pub const H2C_DATA: u8 = 0x06;
    /// Controller: data.
    pub const C2H_DATA: u8 = 0x07;
    /// Controller: send data.
    pub const R2T: u8 = 0x09;
}

/// Flags of the common header.
pub mod flag {
    /// A digest follows the header.
    pub const HEADER_DIGEST: u8 = 1;
    /// A digest follows the data.
    pub const DATA_DIGEST: u8 = 1 << 1;
    /// The last data of its transfer.
    pub const LAST: u8 = 1 << 2;
    /// The command has succeeded: no completion follows.
    pub const SUCCESS: u8 = 1 << 3;
}

/// Why a connection is ended (tcp figures 19 and 20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FatalError {
    /// A field of the header; which, is told.
    InvalidHeaderField = 1,
    /// Not at this point of the connection.
    SequenceError = 2,
    /// The header was damaged.
    HeaderDigest = 3,
    /// Data beyond what was asked for.
    DataOutOfRange = 4,
    /// More data in one unit than was agreed.
    DataLimitExceeded = 5,
    /// A parameter that is not supported; which, is told.
    UnsupportedParameter = 6,
}

/// Bytes of a digest.
pub const DIGEST: usize = 4;
/// Longest header that is sent back with a termination (tcp 3.6.2.4).
pub const TERM_DATA_MAX: usize = 128;

/// What begins every unit, 8 bytes (tcp 3.6.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CommonHeader {
    /// [`kind`].
    pub kind: u8,
    /// [`flag`].
    pub flags: u8,
    /// Bytes of the header, without digest.
    pub header_len: u8,
    /// Where the data begins.
    pub data_offset: u8,
    /// Bytes of the whole.
    pub len: U32,
}
layout!(CommonHeader, 8, len @ 4);

/// Initialize Connection Request, 128 bytes (tcp 3.6.2.1).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcReq {
    /// Common header.
    pub common: CommonHeader,
    /// Format: 0.
    pub format: U16,
    /// Alignment of data towards the host, in dwords, less one: 0 to 31.
    pub data_align: u8,
    /// Bit 0: header digests, bit 1: data digests.
    pub digests: u8,
    /// Requests for data outstanding for a command, less one.
    pub r2t_max: U32,
    /// Reserved.
    pub reserved: [u8; 112],
}
layout!(IcReq, 128, digests @ 11, r2t_max @ 12);

/// Initialize Connection Response, 128 bytes (tcp 3.6.2.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcResp {
    /// Common header.
    pub common: CommonHeader,
    /// Format: 0.
    pub format: U16,
    /// Alignment of data towards the controller, in dwords, less one.
    pub data_align: u8,
    /// Bit 0: header digests, bit 1: data digests.
    pub digests: u8,
    /// Most data in one unit towards the controller.
    pub data_max: U32,
    /// Reserved.
    pub reserved: [u8; 112],
}
layout!(IcResp, 128, digests @ 11, data_max @ 12);

/// Host or Controller to the other: Terminate Connection Request, 24 bytes and the header in question (tcp 3.6.2.3, 3.6.2.4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TermReq {
    /// Common header.
    pub common: CommonHeader,
    /// [`FatalError`].
    pub error: U16,
    /// Offset of the field in question.
    pub info: U32,
    /// Reserved.
    pub reserved: [u8; 10],
}
layout!(TermReq, 24, info @ 10);

/// Command Capsule (tcp 3.6.2.5); data may follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CapsuleCmd {
    /// Common header.
    pub common: CommonHeader,
    /// The command.
    pub command: Command,
}
layout!(CapsuleCmd, 72, command @ 8);

/// Response Capsule (tcp 3.6.2.6).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CapsuleResp {
    /// Common header.
    pub common: CommonHeader,
    /// The completion.
    pub completion: Completion,
}
layout!(CapsuleResp, 24, completion @ 8);

/// Header of data in either direction (tcp 3.6.2.7, 3.6.2.8).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Data {
    /// Common header.
    pub common: CommonHeader,
    /// The host's number of the command.
    pub cid: U16,
    /// The controller's number of the transfer; towards the host reserved.
    pub tag: U16,
    /// First byte, counted from the start of the command's data.
    pub offset: U32,
    /// Bytes.
    pub length: U32,
    /// Reserved.
    pub reserved: [u8; 4],
}
layout!(Data, 24, offset @ 12, length @ 16);

/// Ready to Transfer (tcp 3.6.2.9).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct R2t {
    /// Common header.
    pub common: CommonHeader,
    /// The host's number of the command.
    pub cid: U16,
    /// The controller's number of the transfer.
    pub tag: U16,
    /// First byte.
    pub offset: U32,
    /// Bytes.
    pub length: U32,
    /// Reserved.
    pub reserved: [u8; 4],
}
layout!(R2t, 24, offset @ 12, length @ 16);
