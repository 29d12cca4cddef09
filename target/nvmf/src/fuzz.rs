//! What the fuzz targets of this crate run: any bytes as a stream of units; any commands for a controller and for a bdev.

use crate::codec::{self, DATA_MAX_LEAST, Expect, Opened, crc32c, digest};
use crate::control::connect::{self, Wish};
use crate::control::{Admin, Answer, Around};
use crate::model::{AnaState, Listener, Subsystem, SubsystemSpec, Tables};
use crate::options::TransportOptions;
use crate::portal::fuzz_plan;
use std::net::SocketAddr;
use std::sync::Arc;
use tgt_nvme::Command;
use tgt_nvme::fabrics::CNTLID_ANY;
use tgt_nvme::pdu::{CapsuleCmd, CommonHeader, DIGEST};
use tgt_nvme::register::CC;
use tgt_nvme::zerocopy::FromBytes;

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const HOST: &str = "nqn.2014-08.org.example:host";
/// Commands of one input: more would only be slow.
const COMMANDS_MAX: usize = 64;

/// Takes the bytes as a stream, before and after the beginning, with and without digests; header digests also put right.
///
/// # Panics
/// If a unit is taken that is not there, or is longer than was agreed.
pub fn units(data: &[u8]) {
    for header_digest in [false, true] {
        for data_digest in [false, true] {
            for fresh in [false, true] {
                let capsule_max = 4096;
                let expect =
                    Expect { fresh, header_digest, data_digest, capsule_max, data_max: DATA_MAX_LEAST };
                stream(data, &expect);
                if header_digest {
                    stream(&put_right(data), &expect);
                }
            }
        }
    }
}

fn stream(mut bytes: &[u8], expect: &Expect) {
    while let Ok(opened) = codec::open(bytes, expect) {
        let (head, data) = match opened {
            Opened::More | Opened::Terminated(_) => return,
            Opened::IcReq(_) => return assert!(expect.fresh && bytes.len() >= 128),
            Opened::Capsule { head, data, .. } => {
                assert!(head >= size_of::<CapsuleCmd>() && data <= expect.capsule_max);
                (head, data)
            }
            Opened::Data { data, head } => {
                assert!(data.length.get() > 0 && data.length.get() <= expect.data_max);
                (head, data.length.get())
            }
        };
        assert!(!expect.fresh && head <= bytes.len(), "a header that is not here");
        let behind = data as usize + digest(expect.data_digest && data > 0);
        let Some(rest) = bytes.get(head + behind..) else { return };
        bytes = rest;
    }
}

/// The same bytes, the digest of the first header put right.
fn put_right(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if let Ok((common, _)) = CommonHeader::read_from_prefix(data) {
        let end = usize::from(common.header_len);
        if bytes.len() >= end + DIGEST {
            let crc = crc32c(&bytes[..end]);
            bytes[end..end + DIGEST].copy_from_slice(&crc.to_le_bytes());
        }
    }
    bytes
}

/// Takes the bytes as commands, one after the other: as connects, as admin commands of an enabled controller, as IO commands.
///
/// # Panics
/// If an answer is longer than the longest transfer, or a plan reaches beyond its bdev.
pub fn commands(data: &[u8]) {
    let (tables, options) = (tables(), TransportOptions::default());
    let wish = wish();
    let controller = connect::admin(&tables, &options, &wish, door()).expect("a controller");
    let around = Around { controller: &controller, options: &options, tables: &tables, local: door() };
    let mut admin = Admin::new(around, 0);
    admin.registers.set(CC, false, 0x0046_0001).expect("it can be enabled");
    for bytes in data.chunks(size_of::<Command>()).take(COMMANDS_MAX) {
        let Ok(command) = Command::read_from_bytes(bytes) else { return };
        // Refused or not, it is judged; what it judges is the rest of the input.
        let _ = connect::read(&command, data);
        fuzz_plan(&command);
        match admin.on_command(around, &command, data) {
            Answer::Data(page) => assert!(page.len() <= options.max_io_size as usize),
            Answer::Pends => controller.note(command.cdw10.get(), Some(command.nsid.get())),
            Answer::Done(_) | Answer::Abort { .. } | Answer::Failed(_) => {}
        }
        let _ = admin.registers.set(CC, command.cdw12.get() & 1 == 1, command.cdw13.get().into());
        admin.events.raise(controller.take_news());
        while admin.events.take_next().is_some() {}
    }
}

fn door() -> SocketAddr {
    ([127, 0, 0, 1], 4420).into()
}

fn tables() -> Arc<Tables> {
    let tables = Tables::new(1);
    let spec = SubsystemSpec { ana_reporting: true, ..SubsystemSpec::new(NQN) };
    let subsystem = Subsystem::new(spec, true).expect("a subsystem");
    subsystem.state().listeners.push(Arc::new(Listener::new(door(), 32, AnaState::Optimized)));
    tables.add_subsystem(subsystem).expect("the first");
    tables
}

fn wish() -> Wish {
    Wish {
        qid: 0,
        sq_size: 31,
        kato_ms: 0,
        no_flow_control: false,
        cntlid: CNTLID_ANY,
        sub_nqn: NQN.to_owned(),
        host_nqn: HOST.to_owned(),
        host_id: [1; 16],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    /// Bytes that begin like a unit, mostly.
    fn like_units(rng: &mut Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let (kind, header) = [(0u8, 128u8), (2, 24), (4, 72), (6, 24)][rng.usize(..4)];
            let start = header + [0, 4, 8, 16][rng.usize(..4)];
            let data = 4 * rng.u32(..40);
            let len = u32::from(start) + data + [0, 4][rng.usize(..2)];
            bytes.extend([kind, rng.u8(..16), header, start]);
            bytes.extend(len.to_le_bytes());
            bytes.extend((8..len).map(|at| if at == 16 { data as u8 } else { rng.u8(..) }));
        }
        if rng.bool() && !bytes.is_empty() {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes
    }

    #[test]
    fn any_bytes_are_units_or_faults() {
        let mut rng = Rng::with_seed(1);
        (0..20_000).for_each(|_| units(&like_units(&mut rng)));
    }

    #[test]
    fn any_commands_get_an_answer_within_its_bounds() {
        let mut rng = Rng::with_seed(2);
        for _ in 0..2000 {
            let mut bytes: Vec<u8> = (0..64 * rng.usize(1..20)).map(|_| rng.u8(..)).collect();
            for command in bytes.chunks_mut(64) {
                let opcodes = [0u8, 1, 2, 5, 6, 8, 9, 0x0a, 0x0c, 0x18, 0x7f];
                (command[0], command[1]) = (opcodes[rng.usize(..11)], 0x40);
                // A small number in the place of a page, a feature, a length.
                command[4..8].copy_from_slice(&rng.u32(..3).to_le_bytes());
                command[40] = rng.u8(..0x12);
                command[42..48].fill(0);
            }
            commands(&bytes);
        }
    }
}
