//! A host's end of one connection. Every read has a bound.

use crc_fast::{CrcAlgorithm, checksum};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tgt_nvme::command::FABRICS;
use tgt_nvme::fabrics::{self, Connect, ConnectData, Property};
use tgt_nvme::pdu::{CommonHeader, Data, IcReq, IcResp, R2t, TermReq, flag, kind};
use tgt_nvme::register::CC;
use tgt_nvme::zerocopy::little_endian::{U16, U32, U64};
use tgt_nvme::zerocopy::{FromBytes, FromZeros, IntoBytes};
use tgt_nvme::{Command, Completion, Sgl, put_text};
use tgt_status::IoStatus;

const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const HOST: &str = "nqn.2014-08.org.example:host";
/// What a Linux host writes to enable a controller.
const ENABLE: u64 = 0x0046_0001;

/// A unit that came.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) common: CommonHeader,
    pub(crate) header: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

/// A connection.
pub(crate) struct Queue {
    pub(crate) stream: TcpStream,
    pub(crate) digests: bool,
    pub(crate) cntlid: u16,
    pub(crate) host_nqn: String,
    /// Units of data are no longer than this.
    pub(crate) piece: usize,
    cid: u16,
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    (checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_le_bytes()
}

impl Queue {
    /// Connects, without a word.
    pub(crate) fn silent(address: SocketAddr) -> Queue {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let host_nqn = HOST.to_owned();
        Queue { stream, digests: false, cntlid: 0, host_nqn, piece: 65_536, cid: 0 }
    }

    /// Connects, and agrees on how to speak.
    pub(crate) fn open(address: SocketAddr, digests: bool) -> Queue {
        let mut queue = Queue::silent(address);
        queue.send(Queue::ic_req(digests).as_bytes());
        let response = queue.receive();
        assert_eq!(response.common.kind, kind::IC_RESP);
        let response = IcResp::read_from_bytes(&response.header).expect("128 bytes");
        assert_eq!((response.digests, response.data_max.get()), (if digests { 3 } else { 0 }, 131_072));
        queue.digests = digests;
        queue
    }

    pub(crate) fn ic_req(digests: bool) -> IcReq {
        let mut request = IcReq::new_zeroed();
        (request.common.header_len, request.common.len) = (128, U32::new(128));
        request.digests = if digests { 3 } else { 0 };
        request
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the target reads");
    }

    /// A unit with its digests.
    pub(crate) fn unit(&self, kind: u8, flags: u8, header: &[u8], data: &[u8]) -> Vec<u8> {
        let (hd, dd) = if self.digests { (4, if data.is_empty() { 0 } else { 4 }) } else { (0, 0) };
        let bare = 8 + header.len() + hd;
        let mut bits = flags | if hd > 0 { flag::HEADER_DIGEST } else { 0 };
        bits |= if dd > 0 { flag::DATA_DIGEST } else { 0 };
        let offset = if data.is_empty() { 0 } else { bare as u8 };
        let mut bytes = vec![kind, bits, 8 + header.len() as u8, offset];
        bytes.extend(((bare + data.len() + dd) as u32).to_le_bytes());
        bytes.extend(header);
        if hd > 0 {
            bytes.extend(crc(&bytes));
        }
        bytes.extend(data);
        if dd > 0 {
            bytes.extend(crc(data));
        }
        bytes
    }

    /// The next unit; its digests are checked.
    pub(crate) fn receive(&mut self) -> Unit {
        let mut common = [0; 8];
        self.stream.read_exact(&mut common).expect("a unit");
        let read = CommonHeader::read_from_bytes(&common).expect("8 bytes");
        let mut bytes = common.to_vec();
        bytes.resize(read.len.get() as usize, 0);
        self.stream.read_exact(&mut bytes[8..]).expect("all of it");
        let header_end = usize::from(read.header_len);
        if read.flags & flag::HEADER_DIGEST != 0 {
            assert_eq!(bytes[header_end..header_end + 4], crc(&bytes[..header_end]));
        }
        let mut data = match read.data_offset {
            0 => Vec::new(),
            offset => bytes[usize::from(offset)..].to_vec(),
        };
        if read.flags & flag::DATA_DIGEST != 0 {
            let digest = data.split_off(data.len() - 4);
            assert_eq!(digest, crc(&data));
        }
        Unit { common: read, header: bytes[..header_end].to_vec(), data }
    }

    /// The end of the connection, after this termination.
    pub(crate) fn expect_termination(&mut self) -> (u16, u32) {
        let unit = self.receive();
        assert_eq!(unit.common.kind, kind::C2H_TERM_REQ, "{unit:?}");
        let request = TermReq::read_from_bytes(&unit.header).expect("24 bytes");
        self.expect_end();
        (request.error.get(), request.info.get())
    }

    /// The target closes, and says nothing more.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "there is more: {rest:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }

    pub(crate) fn next_cid(&mut self) -> u16 {
        self.cid += 1;
        self.cid
    }

    /// Sends a command with data in its capsule.
    pub(crate) fn submit(&mut self, command: &Command, data: &[u8]) {
        let bytes = self.unit(kind::CAPSULE_CMD, 0, command.as_bytes(), data);
        self.send(&bytes);
    }

    /// A command from end to end: data in its capsule, or as it is asked for; what came back.
    pub(crate) fn call(&mut self, mut command: Command, data: &[u8]) -> (Completion, Vec<u8>) {
        command.cid = U16::new(self.next_cid());
        let inside = command.sgl.kind == Sgl::IN_CAPSULE;
        self.submit(&command, if inside { data } else { &[] });
        self.finish(command.cid.get(), data)
    }

    /// The rest of a command.
    pub(crate) fn finish(&mut self, cid: u16, data: &[u8]) -> (Completion, Vec<u8>) {
        let mut came = Vec::new();
        loop {
            let unit = self.receive();
            match unit.common.kind {
                kind::R2T => {
                    let request = R2t::read_from_bytes(&unit.header).expect("24 bytes");
                    assert_eq!(request.cid.get(), cid);
                    self.send_data(&request, data);
                }
                kind::C2H_DATA => {
                    let header = Data::read_from_bytes(&unit.header).expect("24 bytes");
                    assert_eq!((header.cid.get(), header.offset.get() as usize), (cid, came.len()));
                    came.extend(unit.data);
                    if unit.common.flags & flag::SUCCESS != 0 {
                        return (Completion::new(cid, IoStatus::SUCCESS, false), came);
                    }
                }
                kind::CAPSULE_RESP => {
                    let completion = Completion::read_from_bytes(&unit.header[8..]).expect("16 bytes");
                    assert_eq!(completion.cid.get(), cid);
                    return (completion, came);
                }
                other => panic!("a unit of type {other}"),
            }
        }
    }

    /// Data that was asked for, in pieces.
    pub(crate) fn send_data(&mut self, request: &R2t, data: &[u8]) {
        let (start, len) = (request.offset.get() as usize, request.length.get() as usize);
        let asked = &data[start..start + len];
        for (index, piece) in asked.chunks(self.piece).enumerate() {
            let at = start + index * self.piece;
            let last = at + piece.len() == start + len;
            let bytes = self.data_unit(request, at as u32, piece, if last { flag::LAST } else { 0 });
            self.send(&bytes);
        }
    }

    pub(crate) fn data_unit(&self, request: &R2t, offset: u32, piece: &[u8], flags: u8) -> Vec<u8> {
        let mut header = [0; 16];
        header[..2].copy_from_slice(request.cid.as_bytes());
        header[2..4].copy_from_slice(request.tag.as_bytes());
        header[4..8].copy_from_slice(&offset.to_le_bytes());
        header[8..12].copy_from_slice(&(piece.len() as u32).to_le_bytes());
        self.unit(kind::H2C_DATA, flags, &header, piece)
    }

    /// A completion that was not asked for by the last call.
    pub(crate) fn completion(&mut self) -> Completion {
        let unit = self.receive();
        assert_eq!(unit.common.kind, kind::CAPSULE_RESP, "{unit:?}");
        Completion::read_from_bytes(&unit.header[8..]).expect("16 bytes")
    }

    /// Makes it a queue of a controller; a new one for `ffffh`.
    pub(crate) fn connect(
        &mut self,
        sub_nqn: &str,
        qid: u16,
        cntlid: u16,
        kato_ms: u32,
    ) -> Result<(), (IoStatus, u32)> {
        let mut data = ConnectData::new_zeroed();
        data.host_id = [5; 16];
        data.cntlid = U16::new(cntlid);
        put_text(&mut data.sub_nqn, sub_nqn, 0);
        put_text(&mut data.host_nqn, &self.host_nqn, 0);
        let mut connect = Connect::new_zeroed();
        (connect.opcode, connect.fabrics_type) = (FABRICS, fabrics::CONNECT);
        connect.sgl = Sgl::new(Sgl::IN_CAPSULE, 1024);
        (connect.qid, connect.sq_size, connect.kato) = (U16::new(qid), U16::new(31), U32::new(kato_ms));
        let command = Command::read_from_bytes(connect.as_bytes()).expect("64 bytes");
        let (completion, _) = self.call(command, data.as_bytes());
        if !completion.status().is_ok() {
            return Err((completion.status(), completion.dw0.get()));
        }
        self.cntlid = completion.dw0.get() as u16;
        Ok(())
    }

    pub(crate) fn property(&mut self, set: bool, offset: u32, value: u64) -> Completion {
        let mut property = Property::new_zeroed();
        property.opcode = FABRICS;
        property.fabrics_type = if set { fabrics::PROPERTY_SET } else { fabrics::PROPERTY_GET };
        property.size = u8::from(offset == 0);
        (property.offset, property.value) = (U32::new(offset), U64::new(value));
        self.call(Command::read_from_bytes(property.as_bytes()).expect("64 bytes"), &[]).0
    }

    pub(crate) fn enable(&mut self) {
        assert!(self.property(true, CC, ENABLE).status().is_ok());
    }
}

/// A command on blocks, whose data the transport moves.
pub(crate) fn on_blocks(opcode: u8, lba: u64, blocks: u32) -> Command {
    let mut command = Command::new(opcode, 0, 1);
    command.set_range(lba, blocks);
    command.sgl = Sgl::new(Sgl::TRANSPORT, blocks * 512);
    command
}

/// The same with its data in the capsule.
pub(crate) fn inside(mut command: Command) -> Command {
    command.sgl.kind = Sgl::IN_CAPSULE;
    command
}

/// Bytes that tell where they are.
pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at / 512) as u8 ^ (at as u8).wrapping_mul(31) ^ seed).collect()
}
