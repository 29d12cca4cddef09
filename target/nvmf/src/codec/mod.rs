//! What bytes are a unit of NVMe/TCP, and what error a wrong one is. Pure.
//!
//! [`open`] looks at the front of a stream and says: a unit, more bytes are needed, or a [`Fault`] with which the connection
//! ends. It checks whatever can be checked without knowing which commands are under way. `encode` makes what is sent.

pub mod encode;
#[cfg(test)]
mod tests;

use tgt_nvme::Command;
use tgt_nvme::pdu::{CapsuleCmd, CommonHeader, DIGEST, Data, FatalError, IcReq, TermReq, flag, kind};
use tgt_nvme::zerocopy::FromBytes;

/// Longest header with its digest and padding: what of a unit is never split from its start.
pub const HEAD_MAX: usize = 256;
/// In-capsule data that admin queues, and queues before their connect, take (NVMe/TCP 3.3.2.1: 8 KiB).
pub const ADMIN_CAPSULE_MAX: u32 = 8192;
/// Smallest agreed limit of a unit's data (NVMe/TCP 3.6.2.2).
pub const DATA_MAX_LEAST: u32 = 4096;
/// Greatest alignment of data a host may ask for, in dwords less one.
const ALIGN_MAX: u8 = 31;

/// Offsets of fields, for faults.
pub mod at {
    /// Type.
    pub const KIND: u32 = 0;
    /// Flags.
    pub const FLAGS: u32 = 1;
    /// Header length.
    pub const HEADER_LEN: u32 = 2;
    /// Data offset.
    pub const DATA_OFFSET: u32 = 3;
    /// Length.
    pub const LEN: u32 = 4;
    /// ICReq: format. Data: command.
    pub const CID: u32 = 8;
    /// Data: transfer tag. ICReq: alignment.
    pub const TAG: u32 = 10;
    /// Data: offset.
    pub const OFFSET: u32 = 12;
    /// Data: bytes.
    pub const LENGTH: u32 = 16;
}

/// Why a connection ends, as a C2HTermReq says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kind of error.
    pub error: FatalError,
    /// Offset of the field in question; 0 where there is none.
    pub info: u32,
    /// In words, for the log.
    pub why: &'static str,
}

impl Fault {
    /// A field that cannot be.
    #[must_use]
    pub const fn field(info: u32, why: &'static str) -> Fault {
        Fault { error: FatalError::InvalidHeaderField, info, why }
    }

    /// Not at this point.
    #[must_use]
    pub const fn sequence(why: &'static str) -> Fault {
        Fault { error: FatalError::SequenceError, info: 0, why }
    }
}

/// What a connection has agreed on so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The first unit has not come yet.
    pub fresh: bool,
    /// Headers have digests.
    pub header_digest: bool,
    /// Data has digests.
    pub data_digest: bool,
    /// Most data in a capsule.
    pub capsule_max: u32,
    /// Most data in a unit of data.
    pub data_max: u32,
}

impl Expect {
    /// Of a connection from which nothing has come.
    #[must_use]
    pub const fn fresh(data_max: u32) -> Expect {
        Expect {
            fresh: true,
            header_digest: false,
            data_digest: false,
            capsule_max: ADMIN_CAPSULE_MAX,
            data_max,
        }
    }
}

/// The front of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Opened {
    /// Not all of a header is here.
    More,
    /// The first unit, all of it.
    IcReq(IcReq),
    /// A command. `data` bytes follow after the first `head`, and a digest behind them if data has digests.
    Capsule {
        /// The command.
        command: Command,
        /// Bytes up to the data.
        head: usize,
        /// Bytes of data.
        data: u32,
    },
    /// Data that was asked for; it follows after the first `head`.
    Data {
        /// Header.
        data: Data,
        /// Bytes up to the data.
        head: usize,
    },
    /// The host gives up: why. Nothing after it matters.
    Terminated(TermReq),
}

/// CRC32C, the digest of headers and data.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// What stands at the front of `bytes`.
///
/// # Errors
/// The fault with which the connection is to end. Any bytes give an answer.
pub fn open(bytes: &[u8], expect: &Expect) -> Result<Opened, Fault> {
    let Ok((common, _)) = CommonHeader::read_from_prefix(bytes) else { return Ok(Opened::More) };
    match (common.kind, expect.fresh) {
        (kind::IC_REQ, true) => open_ic_req(bytes, common),
        (kind::H2C_TERM_REQ, _) => open_term(bytes, common),
        (kind::CAPSULE_CMD, false) => open_capsule(bytes, common, expect),
        (kind::H2C_DATA, false) => open_data(bytes, common, expect),
        (kind::IC_REQ, false) => Err(Fault::sequence("a second ICReq")),
        (kind::CAPSULE_CMD | kind::H2C_DATA, true) => Err(Fault::sequence("the first unit is not ICReq")),
        _ => Err(Fault::field(at::KIND, "a type that no host sends")),
    }
}

fn open_ic_req(bytes: &[u8], common: CommonHeader) -> Result<Opened, Fault> {
    header_len::<IcReq>(common)?;
    if common.len.get() as usize != size_of::<IcReq>() {
        return Err(Fault::field(at::LEN, "the length of an ICReq is 128"));
    }
    if common.flags & (flag::HEADER_DIGEST | flag::DATA_DIGEST) != 0 {
        return Err(Fault::field(at::FLAGS, "an ICReq has no digests"));
    }
    let Ok((request, _)) = IcReq::read_from_prefix(bytes) else { return Ok(Opened::More) };
    let unsupported = |info, why| Fault { error: FatalError::UnsupportedParameter, info, why };
    if request.format.get() != 0 {
        return Err(unsupported(at::CID, "a format other than 0"));
    }
    if request.data_align > ALIGN_MAX {
        return Err(unsupported(at::TAG, "an alignment beyond 128 bytes"));
    }
    Ok(Opened::IcReq(request))
}

fn open_term(bytes: &[u8], common: CommonHeader) -> Result<Opened, Fault> {
    header_len::<TermReq>(common)?;
    let most = size_of::<TermReq>() + tgt_nvme::pdu::TERM_DATA_MAX;
    if !(size_of::<TermReq>()..=most).contains(&(common.len.get() as usize)) {
        return Err(Fault::field(at::LEN, "the length of an H2CTermReq is 24 to 152"));
    }
    let read = TermReq::read_from_prefix(bytes);
    Ok(read.map_or(Opened::More, |(request, _)| Opened::Terminated(request)))
}

fn open_capsule(bytes: &[u8], common: CommonHeader, expect: &Expect) -> Result<Opened, Fault> {
    header_len::<CapsuleCmd>(common)?;
    let bare = size_of::<CapsuleCmd>() + digest(expect.header_digest);
    let has_data = common.len.get() as usize > bare;
    let Some((head, data)) = layout(bytes, common, bare, has_data, expect)? else { return Ok(Opened::More) };
    if data > expect.capsule_max {
        return Err(Fault::field(at::LEN, "more data in a capsule than the controller takes"));
    }
    let Ok((capsule, _)) = CapsuleCmd::read_from_prefix(bytes) else { return Ok(Opened::More) };
    Ok(Opened::Capsule { command: capsule.command, head, data })
}

fn open_data(bytes: &[u8], common: CommonHeader, expect: &Expect) -> Result<Opened, Fault> {
    header_len::<Data>(common)?;
    let bare = size_of::<Data>() + digest(expect.header_digest);
    let Some((head, len)) = layout(bytes, common, bare, true, expect)? else { return Ok(Opened::More) };
    let Ok((data, _)) = Data::read_from_prefix(bytes) else { return Ok(Opened::More) };
    if data.length.get() != len || len == 0 {
        return Err(Fault::field(at::LENGTH, "a length of data that is not the unit's"));
    }
    if len > expect.data_max {
        let why = "more data in one unit than was agreed";
        return Err(Fault { error: FatalError::DataLimitExceeded, info: at::LENGTH, why });
    }
    Ok(Opened::Data { data, head })
}

/// Where a unit's data begins and how long it is; `None` if its header is not all here. `bare`: header and its digest.
fn layout(
    bytes: &[u8],
    common: CommonHeader,
    bare: usize,
    has_data: bool,
    expect: &Expect,
) -> Result<Option<(usize, u32)>, Fault> {
    let has = |bit| common.flags & bit != 0;
    let digested = expect.data_digest && has_data;
    if has(flag::HEADER_DIGEST) != expect.header_digest || has(flag::DATA_DIGEST) != digested {
        return Err(Fault::field(at::FLAGS, "digests other than were agreed"));
    }
    let len = common.len.get() as usize;
    if len < bare {
        return Err(Fault::field(at::LEN, "a unit shorter than its header"));
    }
    let head = if has_data { usize::from(common.data_offset) } else { bare };
    if head < bare || !head.is_multiple_of(4) {
        return Err(Fault::field(at::DATA_OFFSET, "data that begins in the header, or not at a dword"));
    }
    let Some(data) = len.checked_sub(head + digest(digested)) else {
        return Err(Fault::field(at::LEN, "a unit that ends before its data begins"));
    };
    if bytes.len() < head {
        return Ok(None);
    }
    if expect.header_digest {
        let (header, rest) = bytes.split_at(bare - DIGEST);
        if rest[..DIGEST] != crc32c(header).to_le_bytes() {
            let why = "a wrong header digest";
            return Err(Fault { error: FatalError::HeaderDigest, info: 0, why });
        }
    }
    Ok(Some((head, data as u32)))
}

fn header_len<T>(common: CommonHeader) -> Result<(), Fault> {
    if usize::from(common.header_len) == size_of::<T>() {
        return Ok(());
    }
    Err(Fault::field(at::HEADER_LEN, "a header length that is not that of its type"))
}

/// Bytes of a digest, if there is one.
#[must_use]
pub const fn digest(there: bool) -> usize {
    if there { DIGEST } else { 0 }
}
