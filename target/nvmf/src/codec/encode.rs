//! What the controller sends. Everything is written into the caller's memory.

use super::{DIGEST, Fault, crc32c, digest};
use tgt_nvme::Completion;
use tgt_nvme::pdu::{CapsuleResp, CommonHeader, Data, IcResp, R2t, TERM_DATA_MAX, TermReq, flag, kind};
use tgt_nvme::zerocopy::little_endian::{U16, U32};
use tgt_nvme::zerocopy::{FromZeros, Immutable, IntoBytes};

/// What both sides have agreed on, as far as it concerns sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Headers have digests.
    pub header_digest: bool,
    /// Data has digests.
    pub data_digest: bool,
    /// Data begins at multiples of this, bytes.
    pub align: u8,
}

/// A header with its digest and padding.
#[derive(Debug)]
pub struct Head {
    bytes: [u8; 128],
    len: usize,
}

impl Head {
    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Agreement to begin.
#[must_use]
pub fn ic_resp(agreed: &Agreed, data_max: u32) -> IcResp {
    let mut response = IcResp::new_zeroed();
    response.common = common(kind::IC_RESP, 0, size_of::<IcResp>(), 0, size_of::<IcResp>());
    response.digests = u8::from(agreed.header_digest) | u8::from(agreed.data_digest) << 1;
    response.data_max = U32::new(data_max);
    response
}

/// A completion.
#[must_use]
pub fn response(agreed: &Agreed, completion: Completion) -> Head {
    let total = size_of::<CapsuleResp>() + digest(agreed.header_digest);
    let flags = header_flag(agreed);
    let common = common(kind::CAPSULE_RESP, flags, size_of::<CapsuleResp>(), 0, total);
    head(agreed, &CapsuleResp { common, completion }, total)
}

/// A request for data.
#[must_use]
pub fn ready_to_transfer(agreed: &Agreed, cid: u16, tag: u16, offset: u32, length: u32) -> Head {
    let total = size_of::<R2t>() + digest(agreed.header_digest);
    let common = common(kind::R2T, header_flag(agreed), size_of::<R2t>(), 0, total);
    let (cid, tag, offset, length) = (U16::new(cid), U16::new(tag), U32::new(offset), U32::new(length));
    head(agreed, &R2t { common, cid, tag, offset, length, reserved: [0; 4] }, total)
}

/// The header of all of a command's data, which follows it; behind that its digest, if data has digests. `success`: no
/// completion follows.
#[must_use]
pub fn data(agreed: &Agreed, cid: u16, length: u32, success: bool) -> Head {
    let bare = size_of::<Data>() + digest(agreed.header_digest);
    let start = bare.next_multiple_of(usize::from(agreed.align.max(4)));
    let data_flag = if agreed.data_digest { flag::DATA_DIGEST } else { 0 };
    let success = if success { flag::SUCCESS } else { 0 };
    let flags = header_flag(agreed) | data_flag | flag::LAST | success;
    let total = start + length as usize + digest(agreed.data_digest);
    let common = common(kind::C2H_DATA, flags, size_of::<Data>(), start, total);
    let (cid, length) = (U16::new(cid), U32::new(length));
    let header = Data { common, cid, tag: U16::ZERO, offset: U32::ZERO, length, reserved: [0; 4] };
    head(agreed, &header, start)
}

/// The end of a connection: why, and the header that was wrong. How many of the bytes are to be sent.
#[must_use]
pub fn terminate(fault: Fault, wrong: &[u8]) -> ([u8; size_of::<TermReq>() + TERM_DATA_MAX], usize) {
    let wrong = &wrong[..wrong.len().min(TERM_DATA_MAX)];
    let total = size_of::<TermReq>() + wrong.len();
    let mut request = TermReq::new_zeroed();
    request.common = common(kind::C2H_TERM_REQ, 0, size_of::<TermReq>(), 0, total);
    (request.error, request.info) = (U16::new(fault.error as u16), U32::new(fault.info));
    let mut bytes = [0; size_of::<TermReq>() + TERM_DATA_MAX];
    bytes[..size_of::<TermReq>()].copy_from_slice(request.as_bytes());
    bytes[size_of::<TermReq>()..total].copy_from_slice(wrong);
    (bytes, total)
}

fn header_flag(agreed: &Agreed) -> u8 {
    if agreed.header_digest { flag::HEADER_DIGEST } else { 0 }
}

fn common(kind: u8, flags: u8, header: usize, data: usize, total: usize) -> CommonHeader {
    CommonHeader {
        kind,
        flags,
        header_len: header as u8,
        data_offset: data as u8,
        len: U32::new(total as u32),
    }
}

/// `header`, its digest, and zeroes up to `len`.
fn head(agreed: &Agreed, header: &(impl IntoBytes + Immutable), len: usize) -> Head {
    let mut bytes = [0; 128];
    let size = size_of_val(header);
    bytes[..size].copy_from_slice(header.as_bytes());
    if agreed.header_digest {
        let crc = crc32c(&bytes[..size]);
        bytes[size..size + DIGEST].copy_from_slice(&crc.to_le_bytes());
    }
    Head { bytes, len }
}
