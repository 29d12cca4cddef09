//! The host's side of the wire: what it sends, and what the bytes of a controller are. Pure.

use crc_fast::{CrcAlgorithm, Digest};
use tgt_bdev::Bufs;
use tgt_nvme::Command;
use tgt_nvme::Completion;
use tgt_nvme::pdu::{
    CapsuleCmd, CapsuleResp, CommonHeader, DIGEST, Data, FatalError, IcReq, IcResp, R2t, TermReq, flag, kind,
};
use tgt_nvme::zerocopy::little_endian::{U16, U32};
use tgt_nvme::zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Least that a controller may allow for one unit of data (tcp 3.6.2.3).
const DATA_MAX_LEAST: u32 = 4096;
/// Largest alignment of data that may be asked for, in dwords, less one.
const ALIGN_MAX: u8 = 31;
/// Bytes before the data that a unit may have at most: its offset is one byte.
const HEAD_MAX: usize = 256;

/// Why a connection cannot go on: the controller sent what it may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller broke the protocol: {why}")]
pub struct Fault {
    /// Kind of error, as it is told to the controller.
    pub error: FatalError,
    /// In words.
    pub why: &'static str,
}

impl Fault {
    pub(crate) const fn field(why: &'static str) -> Fault {
        Fault { error: FatalError::InvalidHeaderField, why }
    }

    pub(crate) const fn sequence(why: &'static str) -> Fault {
        Fault { error: FatalError::SequenceError, why }
    }

    pub(crate) const fn range(why: &'static str) -> Fault {
        Fault { error: FatalError::DataOutOfRange, why }
    }
}

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Headers have digests.
    pub header_digest: bool,
    /// Data has digests.
    pub data_digest: bool,
    /// Data towards the controller begins at multiples of this, bytes.
    pub align: u8,
    /// Most data in one unit towards the controller, bytes.
    pub data_max: u32,
}

impl Agreed {
    /// Before anything was agreed.
    pub const NOTHING: Agreed =
        Agreed { header_digest: false, data_digest: false, align: 4, data_max: DATA_MAX_LEAST };
}

/// A unit of the controller's, as it stands in the stream.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// A completion.
    Response(Completion),
    /// Data follows after the header, and a digest behind it if data has digests.
    Data {
        /// Its command.
        cid: u16,
        /// First byte.
        offset: u32,
        /// Bytes.
        length: u32,
        /// The last of its command.
        last: bool,
        /// The command has succeeded.
        success: bool,
    },
    /// Data is asked for.
    Ready {
        /// Its command.
        cid: u16,
        /// The controller's number for the transfer.
        tag: u16,
        /// First byte.
        offset: u32,
        /// Bytes.
        length: u32,
    },
    /// The controller gives up.
    Terminated {
        /// Why, as a number (tcp figure 20).
        error: u16,
        /// Offset of the field in question.
        info: u32,
    },
}

/// The request to begin.
#[must_use]
pub fn ic_req(header_digest: bool, data_digest: bool) -> IcReq {
    let mut request = IcReq::new_zeroed();
    request.common = common(kind::IC_REQ, 0, size_of::<IcReq>(), 0, size_of::<IcReq>());
    request.digests = u8::from(header_digest) | u8::from(data_digest) << 1;
    request
}

/// Reads the answer to [`ic_req`]: what is agreed. `None`: not all of it is here.
///
/// # Errors
/// What is wrong with it.
pub fn ic_resp(bytes: &[u8], header_digest: bool, data_digest: bool) -> Result<Option<Agreed>, Fault> {
    let Ok((head, _)) = CommonHeader::read_from_prefix(bytes) else { return Ok(None) };
    if head.kind != kind::IC_RESP {
        return Err(Fault::sequence("the first unit is not an ICResp"));
    }
    exact::<IcResp>(head, 0)?;
    if head.flags != 0 {
        return Err(Fault::field("an ICResp with flags"));
    }
    let Ok((response, _)) = IcResp::read_from_prefix(bytes) else { return Ok(None) };
    let unsupported = |why| Err(Fault { error: FatalError::UnsupportedParameter, why });
    if response.format.get() != 0 {
        return unsupported("an ICResp of a format other than 0");
    }
    if response.data_align > ALIGN_MAX {
        return unsupported("an alignment beyond 128 bytes");
    }
    if response.data_max.get() < DATA_MAX_LEAST || !response.data_max.get().is_multiple_of(4) {
        return unsupported("a MAXH2CDATA below 4096, or no multiple of 4");
    }
    let agreed = |bit: u8| response.digests & bit != 0;
    if response.digests & !3 != 0 || agreed(1) != header_digest || agreed(2) != data_digest {
        return unsupported("digests other than were asked for");
    }
    let align = (response.data_align + 1) * 4;
    Ok(Some(Agreed { header_digest, data_digest, align, data_max: response.data_max.get() }))
}

/// A header with its digest and padding.
#[derive(Debug)]
pub struct Head {
    bytes: [u8; HEAD_MAX],
    len: usize,
}

impl Head {
    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A command; `data` bytes follow behind it in the same unit.
#[must_use]
pub fn capsule(agreed: &Agreed, command: Command, data: u32) -> Head {
    let (start, flags, total) = frame(agreed, size_of::<CapsuleCmd>(), data);
    let offset = if data > 0 { start } else { 0 };
    let common = common(kind::CAPSULE_CMD, flags, size_of::<CapsuleCmd>(), offset, total);
    head(agreed, &CapsuleCmd { common, command }, start)
}

/// The header of `length` bytes of data from `offset`, that were asked for under `tag`.
#[must_use]
pub fn data(agreed: &Agreed, cid: u16, tag: u16, offset: u32, length: u32, last: bool) -> Head {
    let (start, flags, total) = frame(agreed, size_of::<Data>(), length);
    let flags = flags | if last { flag::LAST } else { 0 };
    let common = common(kind::H2C_DATA, flags, size_of::<Data>(), start, total);
    let (cid, tag, offset, length) = (U16::new(cid), U16::new(tag), U32::new(offset), U32::new(length));
    head(agreed, &Data { common, cid, tag, offset, length, reserved: [0; 4] }, start)
}

/// The end of the connection.
#[must_use]
pub fn terminate(fault: Fault) -> TermReq {
    let mut request = TermReq::new_zeroed();
    request.common = common(kind::H2C_TERM_REQ, 0, size_of::<TermReq>(), 0, size_of::<TermReq>());
    request.error = U16::new(fault.error as u16);
    request
}

/// Where data begins, the digest flags, and the length of the whole.
fn frame(agreed: &Agreed, header: usize, data: u32) -> (usize, u8, usize) {
    let bare = header + digest(agreed.header_digest);
    let digested = agreed.data_digest && data > 0;
    let start = if data > 0 { bare.next_multiple_of(usize::from(agreed.align.max(4))) } else { bare };
    let flags = if agreed.header_digest { flag::HEADER_DIGEST } else { 0 }
        | if digested { flag::DATA_DIGEST } else { 0 };
    (start, flags, start + data as usize + digest(digested))
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
    let mut bytes = [0; HEAD_MAX];
    let size = size_of_val(header);
    bytes[..size].copy_from_slice(header.as_bytes());
    if agreed.header_digest {
        let crc = crc32c(&bytes[..size]);
        bytes[size..size + DIGEST].copy_from_slice(&crc.to_le_bytes());
    }
    Head { bytes, len }
}

/// What stands at the front of `bytes`, and the bytes up to its data. `None`: not all of a header is here.
///
/// # Errors
/// The fault with which the connection is to end. Any bytes give an answer.
pub fn open(bytes: &[u8], agreed: &Agreed) -> Result<Option<(Unit, usize)>, Fault> {
    let Ok((common, _)) = CommonHeader::read_from_prefix(bytes) else { return Ok(None) };
    match common.kind {
        kind::CAPSULE_RESP => {
            let Some((unit, head)) = bare::<CapsuleResp>(bytes, common, agreed)? else { return Ok(None) };
            Ok(Some((Unit::Response(unit.completion), head)))
        }
        kind::R2T => {
            let Some((unit, head)) = bare::<R2t>(bytes, common, agreed)? else { return Ok(None) };
            let (offset, length) = (unit.offset.get(), unit.length.get());
            Ok(Some((Unit::Ready { cid: unit.cid.get(), tag: unit.tag.get(), offset, length }, head)))
        }
        kind::C2H_DATA => open_data(bytes, common, agreed),
        kind::C2H_TERM_REQ => {
            let most = size_of::<TermReq>() + tgt_nvme::pdu::TERM_DATA_MAX;
            let len = common.len.get() as usize;
            if usize::from(common.header_len) != size_of::<TermReq>()
                || !(size_of::<TermReq>()..=most).contains(&len)
            {
                return Err(Fault::field("the length of a C2HTermReq is 24 to 152"));
            }
            let Ok((unit, _)) = TermReq::read_from_prefix(bytes) else { return Ok(None) };
            let unit = Unit::Terminated { error: unit.error.get(), info: unit.info.get() };
            Ok(Some((unit, size_of::<TermReq>())))
        }
        kind::IC_RESP => Err(Fault::sequence("a second ICResp")),
        _ => Err(Fault::field("a type that no controller sends")),
    }
}

fn open_data(bytes: &[u8], common: CommonHeader, agreed: &Agreed) -> Result<Option<(Unit, usize)>, Fault> {
    if usize::from(common.header_len) != size_of::<Data>() {
        return Err(Fault::field("a header length that is not that of its type"));
    }
    flags(common, agreed, agreed.data_digest, flag::LAST | flag::SUCCESS)?;
    let least = size_of::<Data>() + digest(agreed.header_digest);
    let start = usize::from(common.data_offset);
    if start < least || !start.is_multiple_of(4) {
        return Err(Fault::field("data that begins in the header, or not at a dword"));
    }
    let behind = (common.len.get() as usize).checked_sub(start + digest(agreed.data_digest));
    if bytes.len() < start {
        return Ok(None);
    }
    check_digest(bytes, size_of::<Data>(), agreed)?;
    let Ok((data, _)) = Data::read_from_prefix(bytes) else { return Ok(None) };
    if data.length.get() == 0 || behind != Some(data.length.get() as usize) {
        return Err(Fault::field("a length of data that is not the unit's"));
    }
    let has = |bit| common.flags & bit != 0;
    if has(flag::SUCCESS) && !has(flag::LAST) {
        return Err(Fault::field("success before the last data"));
    }
    let (cid, offset, length) = (data.cid.get(), data.offset.get(), data.length.get());
    let unit = Unit::Data { cid, offset, length, last: has(flag::LAST), success: has(flag::SUCCESS) };
    Ok(Some((unit, start)))
}

/// A unit without data.
fn bare<T: FromBytes + KnownLayout + Immutable>(
    bytes: &[u8],
    common: CommonHeader,
    agreed: &Agreed,
) -> Result<Option<(T, usize)>, Fault> {
    let end = size_of::<T>() + digest(agreed.header_digest);
    exact::<T>(common, digest(agreed.header_digest))?;
    flags(common, agreed, false, 0)?;
    if bytes.len() < end {
        return Ok(None);
    }
    check_digest(bytes, size_of::<T>(), agreed)?;
    Ok(T::read_from_prefix(bytes).ok().map(|(unit, _)| (unit, end)))
}

fn exact<T>(common: CommonHeader, digest: usize) -> Result<(), Fault> {
    if usize::from(common.header_len) != size_of::<T>() {
        return Err(Fault::field("a header length that is not that of its type"));
    }
    if common.len.get() as usize != size_of::<T>() + digest {
        return Err(Fault::field("a length that is not that of its type"));
    }
    Ok(())
}

fn flags(common: CommonHeader, agreed: &Agreed, data_digest: bool, others: u8) -> Result<(), Fault> {
    let has = |bit| common.flags & bit != 0;
    let known = flag::HEADER_DIGEST | flag::DATA_DIGEST | others;
    if common.flags & !known != 0
        || has(flag::HEADER_DIGEST) != agreed.header_digest
        || has(flag::DATA_DIGEST) != data_digest
    {
        return Err(Fault::field("flags that are not those of its type, or digests other than were agreed"));
    }
    Ok(())
}

fn check_digest(bytes: &[u8], header: usize, agreed: &Agreed) -> Result<(), Fault> {
    if agreed.header_digest && bytes[header..header + DIGEST] != crc32c(&bytes[..header]).to_le_bytes() {
        return Err(Fault { error: FatalError::HeaderDigest, why: "a wrong header digest" });
    }
    Ok(())
}

/// Bytes of a digest, if there is one.
#[must_use]
pub const fn digest(there: bool) -> usize {
    if there { DIGEST } else { 0 }
}

/// CRC32C, the digest of headers and data.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The digest of `len` bytes at `offset`.
#[must_use]
pub fn crc_of(bufs: &Bufs, offset: u32, len: u32) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    // By way of the first-level cache: memory that others may write is never looked at in place.
    let mut window = [0; 4096];
    let mut at = 0;
    while at < len {
        let now = (len - at).min(window.len() as u32);
        bufs.copy_to_slice(offset + at, &mut window[..now as usize]);
        digest.update(&window[..now as usize]);
        at += now;
    }
    digest.finalize() as u32
}
