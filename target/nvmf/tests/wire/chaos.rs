//! Hosts that say anything: right and wrong commands, damaged bytes, ends at any point. Others are served, nothing is left.

use crate::Target;
use crate::host::{Queue, inside, on_blocks, pattern};
use fastrand::Rng;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;
use test_bdevs::world::wait_until;
use tgt_nvme::command::nvm;
use tgt_nvme::pdu::{R2t, flag, kind};
use tgt_nvme::zerocopy::little_endian::U32;
use tgt_nvme::zerocopy::{FromZeros, IntoBytes};
use tgt_nvme::{Command, Sgl};
use tgt_nvmf::TransportOptions;

/// Some unit of a host: mostly one that fits.
fn unit(rng: &mut Rng, queue: &Queue) -> Vec<u8> {
    let opcodes = [nvm::FLUSH, nvm::WRITE, nvm::READ, nvm::COMPARE, nvm::WRITE_ZEROES, nvm::VERIFY];
    let blocks = [1, 2, 8, 64, 256, 300][rng.usize(..6)];
    let mut command = on_blocks(opcodes[rng.usize(..6)], rng.u64(..2100), blocks);
    command.cid = rng.u16(..40).into();
    command.nsid = U32::new(if rng.u8(..10) == 0 { rng.u32(..3) } else { 1 });
    command.flags = if rng.u8(..10) == 0 { [0x41, 0x42, 0x43, 0x00][rng.usize(..4)] } else { 0x40 };
    if matches!(command.opcode, nvm::FLUSH | nvm::WRITE_ZEROES | nvm::VERIFY) {
        command.sgl = Sgl::new(Sgl::TRANSPORT, 0);
    }
    match rng.u8(..24) {
        0..10 => queue.unit(kind::CAPSULE_CMD, 0, command.as_bytes(), &[]),
        10..20 => {
            let len = rng.usize(..9) * 512;
            let mut command = inside(command);
            command.sgl.length = U32::new(len as u32);
            command.set_range(rng.u64(..2100), (len as u32 / 512).max(1));
            queue.unit(kind::CAPSULE_CMD, 0, command.as_bytes(), &pattern(len, rng.u8(..)))
        }
        20 => {
            let mut request = R2t::new_zeroed();
            (request.cid, request.tag) = (rng.u16(..40).into(), rng.u16(..8).into());
            let len = 4 * rng.usize(1..600);
            let flags = if rng.bool() { flag::LAST } else { 0 };
            queue.data_unit(&request, rng.u32(..2) * 512, &vec![rng.u8(..); len], flags)
        }
        _ => {
            let cid = rng.u16(..40);
            let half = |opcode, flags| {
                let command = Command { flags, cid: cid.into(), ..inside(on_blocks(opcode, 8, 8)) };
                queue.unit(kind::CAPSULE_CMD, 0, command.as_bytes(), &pattern(4096, 1))
            };
            [half(nvm::COMPARE, 0x41), half(nvm::WRITE, 0x42)].concat()
        }
    }
}

/// Says a lot, listens a little, and goes.
fn babble(rng: &mut Rng, queue: &mut Queue) {
    let mut bytes: Vec<u8> = (0..rng.usize(1..30)).flat_map(|_| unit(rng, queue)).collect();
    if rng.u8(..3) == 0 {
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u8(..8);
    }
    if rng.u8(..3) == 0 {
        bytes.truncate(rng.usize(..bytes.len()));
    }
    queue.stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a socket");
    while !bytes.is_empty() {
        let part = rng.usize(1..=bytes.len().min(9000));
        // It may have been closed for what came before.
        if queue.stream.write_all(&bytes[..part]).is_err() {
            return;
        }
        bytes.drain(..part);
        if rng.u8(..4) == 0 {
            queue.stream.set_nonblocking(true).expect("a socket");
            let mut heard = [0; 4096];
            let _nothing_or_all = queue.stream.read(&mut heard);
            queue.stream.set_nonblocking(false).expect("a socket");
        }
    }
    if rng.u8(..3) > 0 {
        // All of it is heard before the end is; otherwise the end may come first.
        let mut rest = Vec::new();
        let _gone_already = queue.stream.shutdown(Shutdown::Write);
        let _reset_or_all = queue.stream.read_to_end(&mut rest);
    }
}

#[test]
fn whatever_hosts_say_others_are_served_and_nothing_is_left() {
    let seed: u64 = std::env::var("RMR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    // Little memory, so that commands wait for it as well.
    let options = TransportOptions { memory_max: 262_144, ..TransportOptions::default() };
    let target = Target::with(2, options);
    let (mut admin, mut good) = target.queues(true);
    let own = pattern(4096, 77);
    for round in 0..150 {
        let mut rng = Rng::with_seed(seed + round);
        println!("RMR_SEED={}", seed + round);
        let mut queue = target.io(&admin, 2 + round as u16 % 100, rng.bool());
        babble(&mut rng, &mut queue);
        drop(queue);
        if round % 10 == 0 {
            assert!(admin.call(Command::new(0x18, 0, 0), &[]).0.status().is_ok());
            assert!(good.call(inside(on_blocks(nvm::WRITE, 2040, 8)), &own).0.status().is_ok());
            assert!(good.call(on_blocks(nvm::READ, 2040, 8), &[]).1.len() == 4096);
        }
    }
    let completed: u64 =
        target.nvmf.counts().expect("answers").iter().map(|(_, counts)| counts.completed).sum();
    assert!(completed > 500, "{completed} IO commands were answered: hosts did not get far");
    drop((admin, good));
    wait_until("all are forgotten", || {
        let counts = target.nvmf.counts().expect("answers");
        counts.iter().all(|(_, c)| (c.io_now, c.admin_now, c.memory_used, c.in_bdevs) == (0, 0, 0, 0))
    });
}
