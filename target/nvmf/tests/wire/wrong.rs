//! What is wrong on the wire ends the connection, and says why.

use crate::host::{Queue, inside, on_blocks, pattern};
use crate::{NQN, Target};
use tgt_nvme::command::nvm;
use tgt_nvme::pdu::{R2t, flag, kind};
use tgt_nvme::zerocopy::{FromBytes, IntoBytes};
use tgt_nvme::{Command, status};

/// A write of eight blocks, asked for its data.
fn asked(io: &mut Queue) -> R2t {
    let mut write = on_blocks(nvm::WRITE, 0, 8);
    write.cid = 77.into();
    io.submit(&write, &[]);
    let unit = io.receive();
    assert_eq!(unit.common.kind, kind::R2T);
    R2t::read_from_bytes(&unit.header).expect("24 bytes")
}

#[test]
fn each_fault_is_told_with_its_field_and_others_are_served_on() {
    let target = Target::new();
    let (mut admin, _) = target.queues(false);
    type Break = fn(&mut Queue);
    let faults: [(&str, Break, (u16, u32)); 9] = [
        ("no such type", |io| io.send(&[0x42, 0, 8, 0, 8, 0, 0, 0]), (1, 0)),
        ("a second ICReq", |io| io.send(Queue::ic_req(false).as_bytes()), (2, 0)),
        (
            "data that nobody asked for",
            |io| {
                let mut request = asked(io);
                request.tag = 31.into();
                let bytes = io.data_unit(&request, 0, &[0; 4096], flag::LAST);
                io.send(&bytes);
            },
            (1, 10),
        ),
        (
            "data of another command",
            |io| {
                let mut request = asked(io);
                request.cid = 78.into();
                let bytes = io.data_unit(&request, 0, &[0; 4096], flag::LAST);
                io.send(&bytes);
            },
            (1, 8),
        ),
        (
            "data that is not the next",
            |io| {
                let request = asked(io);
                let bytes = io.data_unit(&request, 512, &[0; 512], 0);
                io.send(&bytes);
            },
            (1, 12),
        ),
        (
            "data beyond what was asked for",
            |io| {
                let request = asked(io);
                let bytes = io.data_unit(&request, 0, &[0; 8192], flag::LAST);
                io.send(&bytes);
            },
            (4, 12),
        ),
        (
            "a last unit that is not the last",
            |io| {
                let request = asked(io);
                let bytes = io.data_unit(&request, 0, &[0; 512], flag::LAST);
                io.send(&bytes);
            },
            (1, 1),
        ),
        (
            "more data in a capsule than the queue takes",
            |io| {
                let command = inside(on_blocks(nvm::WRITE, 0, 9));
                let bytes = io.unit(kind::CAPSULE_CMD, 0, command.as_bytes(), &[0; 4608]);
                io.send(&bytes);
            },
            (1, 4),
        ),
        (
            "more commands than the queue holds",
            |io| {
                let mut bytes = Vec::new();
                for cid in 0..33u16 {
                    let command = Command { cid: cid.into(), ..on_blocks(nvm::WRITE, 0, 8) };
                    bytes.extend(io.unit(kind::CAPSULE_CMD, 0, command.as_bytes(), &[]));
                }
                io.send(&bytes);
                (0..32).for_each(|_| assert_eq!(io.receive().common.kind, kind::R2T));
            },
            (2, 0),
        ),
    ];
    for (qid, (what, fault, expected)) in faults.into_iter().enumerate() {
        let mut io = target.io(&admin, qid as u16 + 2, false);
        fault(&mut io);
        assert_eq!(io.expect_termination(), expected, "{what}");
        assert!(admin.call(Command::new(0x18, 0, 0), &[]).0.status().is_ok(), "{what}");
    }
    test_bdevs::world::wait_until("nothing of them is left", || {
        let counts = target.nvmf.counts().expect("an answer")[0].1;
        (counts.io_now, counts.memory_used, counts.unassociated) == (0, 0, 0)
    });
}

#[test]
fn a_connection_that_does_not_begin_well_ends() {
    let target = Target::new();
    let mut early = Queue::silent(target.address);
    early.submit(&Command::new(nvm::FLUSH, 1, 1), &[]);
    assert_eq!(early.expect_termination(), (2, 0));
    let mut http = Queue::silent(target.address);
    http.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(http.expect_termination(), (1, 0));
    let mut newer = Queue::silent(target.address);
    let mut request = Queue::ic_req(false);
    request.format = 1.into();
    newer.send(request.as_bytes());
    assert_eq!(newer.expect_termination(), (6, 8));
}

#[test]
fn damage_on_the_way_is_found_by_digests() {
    let target = Target::new();
    let (admin, mut io) = target.queues(true);
    let good = pattern(4096, 1);
    assert!(io.call(inside(on_blocks(nvm::WRITE, 0, 8)), &good).0.status().is_ok());
    // Data in a capsule: the command fails, and may be tried again.
    let command = Command { cid: 500.into(), ..inside(on_blocks(nvm::WRITE, 0, 8)) };
    let mut bytes = io.unit(kind::CAPSULE_CMD, 0, command.as_bytes(), &pattern(4096, 2));
    bytes[76 + 1000] ^= 1;
    io.send(&bytes);
    let completion = io.completion();
    assert_eq!((completion.cid.get(), completion.status()), (500, status::TRANSIENT_TRANSPORT_ERROR));
    assert!(!completion.do_not_retry());
    // Data that was asked for, in two units: the first is damaged, both are awaited.
    let request = asked(&mut io);
    let mut bytes = io.data_unit(&request, 0, &[9; 2048], 0);
    bytes[30] ^= 1;
    bytes.extend(io.data_unit(&request, 2048, &[9; 2048], flag::LAST));
    io.send(&bytes);
    let completion = io.completion();
    assert_eq!((completion.cid.get(), completion.status()), (77, status::TRANSIENT_TRANSPORT_ERROR));
    let (completion, data) = io.call(on_blocks(nvm::READ, 0, 8), &[]);
    assert!(completion.status().is_ok() && data == good, "nothing damaged was written");
    // A header: nothing on the connection can be trusted any more.
    let mut bytes = io.unit(kind::CAPSULE_CMD, 0, on_blocks(nvm::READ, 0, 8).as_bytes(), &[]);
    bytes[50] ^= 1;
    io.send(&bytes);
    assert_eq!(io.expect_termination(), (3, 0));
    let mut again = target.io(&admin, 2, true);
    assert!(again.call(on_blocks(nvm::READ, 0, 8), &[]).1 == good);
}

#[test]
fn a_host_that_gives_up_is_let_go() {
    let target = Target::new();
    let (_admin, mut io) = target.queues(false);
    let mut bytes = vec![kind::H2C_TERM_REQ, 0, 24, 0, 24, 0, 0, 0, 1, 0, 3, 0, 0, 0];
    bytes.resize(24, 0);
    io.send(&bytes);
    io.expect_end();
    let mut stranger = Queue::open(target.address, false);
    stranger.submit(&Command::new(nvm::FLUSH, 9, 1), &[]);
    assert_eq!(stranger.completion().status(), status::COMMAND_SEQUENCE_ERROR);
    stranger.connect(NQN, 0, 0xffff, 0).expect("it can still connect");
}
