//! Fabrics commands (base 6): connect, properties, disconnect.

use crate::command::Sgl;
use crate::layout;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Property Set.
pub const PROPERTY_SET: u8 = 0x00;
/// Connect.
pub const CONNECT: u8 = 0x01;
/// Property Get.
pub const PROPERTY_GET: u8 = 0x04;
/// Authentication Send.
pub const AUTHENTICATION_SEND: u8 = 0x05;
/// Authentication Receive.
pub const AUTHENTICATION_RECEIVE: u8 = 0x06;
/// Disconnect.
pub const DISCONNECT: u8 = 0x08;

/// The name of every discovery subsystem (base 3.1.3.3).
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// Longest name, with the zero byte behind it (base 4.5).
pub const NQN_MAX: usize = 223;
/// The controller is up to the subsystem ([`ConnectData::cntlid`]).
pub const CNTLID_ANY: u16 = 0xffff;
/// `sq_head` of a connect's completion that agrees to do without flow control of the submission queue.
pub const NO_SQ_FLOW_CONTROL: u16 = 0xffff;

/// Connect (base 6.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Connect {
    /// [`crate::command::FABRICS`].
    pub opcode: u8,
    /// Reserved.
    pub flags: u8,
    /// The host's number for it.
    pub cid: U16,
    /// [`CONNECT`].
    pub fabrics_type: u8,
    /// Reserved.
    pub reserved1: [u8; 19],
    /// Where [`ConnectData`] is.
    pub sgl: Sgl,
    /// Format of the data: 0.
    pub record_format: U16,
    /// Queue: 0 is the admin queue.
    pub qid: U16,
    /// Entries of the submission queue less one.
    pub sq_size: U16,
    /// Bit 2: no flow control of the submission queue.
    pub attributes: u8,
    /// Reserved.
    pub reserved2: u8,
    /// Keep-alive timeout in ms, of the admin queue; 0: none.
    pub kato: U32,
    /// Reserved.
    pub reserved3: [u8; 12],
}
layout!(Connect, 64, sgl @ 24, qid @ 42, kato @ 48);

impl Connect {
    /// Bit of `attributes`: no flow control of the submission queue.
    pub const DISABLE_SQ_FLOW: u8 = 1 << 2;
}

/// Data of a connect, 1024 bytes (base figure 408).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ConnectData {
    /// Who the host is, beside its name.
    pub host_id: [u8; 16],
    /// Controller of an IO queue; [`CNTLID_ANY`] for a new one.
    pub cntlid: U16,
    /// Reserved.
    pub reserved1: [u8; 238],
    /// Subsystem, zero-terminated.
    pub sub_nqn: [u8; 256],
    /// Host, zero-terminated.
    pub host_nqn: [u8; 256],
    /// Reserved.
    pub reserved2: [u8; 256],
}
layout!(ConnectData, 1024, cntlid @ 16, sub_nqn @ 256, host_nqn @ 512);

/// Property Get and Set (base 6.5, 6.6).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Property {
    /// [`crate::command::FABRICS`].
    pub opcode: u8,
    /// Reserved.
    pub flags: u8,
    /// The host's number for it.
    pub cid: U16,
    /// [`PROPERTY_GET`] or [`PROPERTY_SET`].
    pub fabrics_type: u8,
    /// Reserved.
    pub reserved1: [u8; 35],
    /// Bits 2:0: 0 = four bytes, 1 = eight.
    pub size: u8,
    /// Reserved.
    pub reserved2: [u8; 3],
    /// Which property.
    pub offset: U32,
    /// What to set it to.
    pub value: U64,
    /// Reserved.
    pub reserved3: [u8; 8],
}
layout!(Property, 64, size @ 40, value @ 48);
