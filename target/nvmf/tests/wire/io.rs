//! Commands to bdevs.

use crate::host::{Queue, inside, on_blocks, pattern};
use crate::{BLOCKS, Target};
use tgt_nvme::command::{DsmRange, nvm};
use tgt_nvme::zerocopy::IntoBytes;
use tgt_nvme::zerocopy::little_endian::{U32, U64};
use tgt_nvme::{Command, Sgl, status};
use tgt_nvmf::TransportOptions;
use tgt_status::IoStatus;

fn status(queue: &mut Queue, command: Command, data: &[u8]) -> IoStatus {
    queue.call(command, data).0.status()
}

fn read(queue: &mut Queue, lba: u64, blocks: u32) -> Vec<u8> {
    let (completion, data) = queue.call(on_blocks(nvm::READ, lba, blocks), &[]);
    assert!(completion.status().is_ok(), "{}", completion.status());
    data
}

#[test]
fn what_was_written_is_read_back_however_it_travelled() {
    let target = Target::new();
    for digests in [false, true] {
        let (_admin, mut io) = target.queues(digests);
        for (piece, blocks) in [(65_536, 1), (65_536, 8), (512, 8), (4096, 256), (100 * 4, 24)] {
            io.piece = piece;
            let data = pattern(blocks as usize * 512, blocks as u8);
            assert!(status(&mut io, on_blocks(nvm::WRITE, 16, blocks), &data).is_ok());
            assert!(read(&mut io, 16, blocks) == data, "{blocks} blocks in pieces of {piece}");
        }
        let data = pattern(4096, 99);
        assert!(status(&mut io, inside(on_blocks(nvm::WRITE, 3, 8)), &data).is_ok());
        assert!(read(&mut io, 3, 8) == data);
        assert!(status(&mut io, on_blocks(nvm::FLUSH, 0, 1), &[]).is_ok());
    }
}

#[test]
fn many_commands_are_under_way_at_a_time_and_each_gets_its_own_answer() {
    let target = Target::new();
    let (_admin, mut io) = target.queues(true);
    for round in 0..20u8 {
        let mut bytes = Vec::new();
        for cid in 0..16u16 {
            let mut command = inside(on_blocks(nvm::WRITE, u64::from(cid) * 4, 4));
            command.cid.set(cid);
            bytes.extend(io.unit(4, 0, command.as_bytes(), &pattern(2048, round ^ cid as u8)));
        }
        // Cut where no unit ends.
        for part in bytes.chunks(777) {
            io.send(part);
        }
        let mut seen: Vec<u16> = (0..16).map(|_| io.completion().cid.get()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..16).collect::<Vec<_>>());
        for cid in 0..16u8 {
            assert!(read(&mut io, u64::from(cid) * 4, 4) == pattern(2048, round ^ cid));
        }
    }
}

#[test]
fn a_command_that_is_wrong_gets_its_status_and_the_next_one_is_served() {
    let target = Target::new();
    let (mut admin, mut io) = target.queues(true);
    let data = pattern(4096, 1);
    let elsewhere = Command { nsid: U32::new(2), ..on_blocks(nvm::READ, 0, 8) };
    for (command, expected) in [
        (on_blocks(nvm::READ, BLOCKS - 7, 8), IoStatus::LBA_OUT_OF_RANGE),
        (elsewhere, status::INVALID_NAMESPACE),
        (on_blocks(0x55, 0, 8), IoStatus::INVALID_OPCODE),
        (on_blocks(nvm::READ, 0, 257), IoStatus::INVALID_FIELD),
        (inside(on_blocks(nvm::WRITE, BLOCKS, 8)), IoStatus::LBA_OUT_OF_RANGE),
        (inside(on_blocks(nvm::WRITE, 0, 9)), status::DATA_SGL_LENGTH_INVALID),
    ] {
        let (completion, came) = io.call(command, &data);
        assert_eq!((completion.status(), completion.do_not_retry()), (expected, true));
        assert!(came.is_empty());
        assert!(status(&mut io, inside(on_blocks(nvm::WRITE, 0, 8)), &data).is_ok());
    }
    // Six of them stand in the error log, the newest first.
    let mut log = Command::new(0x02, 0, 0);
    log.cdw10 = U32::new(1 | (64 * 16 / 4 - 1) << 16);
    log.sgl = Sgl::new(Sgl::TRANSPORT, 1024);
    let (_, page) = admin.call(log, &[]);
    let numbers: Vec<u8> = page.chunks(64).map(|entry| entry[0]).collect();
    assert_eq!(numbers[..8], [6, 5, 4, 3, 2, 1, 0, 0]);
}

#[test]
fn compare_zeroes_deallocate_and_verify_do_what_they_say() {
    let target = Target::new();
    let (_admin, mut io) = target.queues(false);
    let data = pattern(4096, 7);
    assert!(status(&mut io, on_blocks(nvm::WRITE, 0, 8), &data).is_ok());
    assert!(status(&mut io, on_blocks(nvm::COMPARE, 0, 8), &data).is_ok());
    let other = pattern(4096, 8);
    assert_eq!(status(&mut io, inside(on_blocks(nvm::COMPARE, 0, 8)), &other), IoStatus::COMPARE_FAILURE);
    let bare = |command: Command| Command { sgl: Sgl::new(Sgl::TRANSPORT, 0), ..command };
    assert!(status(&mut io, bare(on_blocks(nvm::WRITE_ZEROES, 2, 2)), &[]).is_ok());
    let now = read(&mut io, 0, 8);
    assert!(now[..1024] == data[..1024] && now[1024..2048] == [0; 1024] && now[2048..] == data[2048..]);
    // Three ranges, one of them empty, in a table that is sent whole.
    let ranges = [(5u64, 1u32), (9, 0), (7, 1)].map(|(lba, blocks)| DsmRange {
        attributes: U32::ZERO,
        blocks: U32::new(blocks),
        lba: U64::new(lba),
    });
    let mut table = ranges.as_bytes().to_vec();
    table.resize(4096, 0xff);
    let mut deallocate = Command::new(nvm::DATASET_MANAGEMENT, 0, 1);
    (deallocate.cdw10, deallocate.cdw11) = (U32::new(2), U32::new(Command::DEALLOCATE));
    deallocate.sgl = Sgl::new(Sgl::TRANSPORT, 4096);
    assert!(status(&mut io, deallocate, &table).is_ok());
    let now = read(&mut io, 0, 8);
    for block in 0..8 {
        let emptied = [2, 3, 5, 7].contains(&block);
        assert_eq!(now[block * 512..][..512] == [0; 512], emptied, "block {block}");
    }
    let mut beyond = deallocate;
    beyond.sgl = Sgl::new(Sgl::IN_CAPSULE, 48);
    let last = DsmRange { attributes: U32::ZERO, blocks: U32::new(2), lba: U64::new(BLOCKS - 1) };
    let table = [ranges[0], ranges[1], last];
    assert_eq!(status(&mut io, beyond, table.as_bytes()), IoStatus::LBA_OUT_OF_RANGE);
    for blocks in [1, 256, 257, 1000, 2048] {
        assert!(status(&mut io, bare(on_blocks(nvm::VERIFY, 0, blocks)), &[]).is_ok());
    }
    let beyond = status(&mut io, bare(on_blocks(nvm::VERIFY, 1, 2048)), &[]);
    assert_eq!(beyond, IoStatus::LBA_OUT_OF_RANGE);
}

/// The two halves of a fused pair, and how they end.
fn fused(io: &mut Queue, capsule: bool, lba: (u64, u64), data: (&[u8], &[u8])) -> (IoStatus, IoStatus) {
    let place = |command| if capsule { inside(command) } else { command };
    let mut compare = place(on_blocks(nvm::COMPARE, lba.0, 8));
    let mut write = place(on_blocks(nvm::WRITE, lba.1, 8));
    (compare.flags, write.flags) = (0x41, 0x42);
    (compare.cid, write.cid) = (100.into(), 101.into());
    let mut bytes = io.unit(4, 0, compare.as_bytes(), if capsule { data.0 } else { &[] });
    bytes.extend(io.unit(4, 0, write.as_bytes(), if capsule { data.1 } else { &[] }));
    io.send(&bytes);
    let mut ends = [None, None];
    while ends.contains(&None) {
        let unit = io.receive();
        if unit.common.kind == tgt_nvme::pdu::kind::R2T {
            let request = tgt_nvme::zerocopy::FromBytes::read_from_bytes(&unit.header[..]);
            let request: tgt_nvme::pdu::R2t = request.expect("24 bytes");
            io.send_data(&request, if request.cid.get() == 100 { data.0 } else { data.1 });
        } else {
            let completion = tgt_nvme::zerocopy::FromBytes::read_from_bytes(&unit.header[8..]);
            let completion: tgt_nvme::Completion = completion.expect("16 bytes");
            ends[usize::from(completion.cid.get()) - 100] = Some(completion.status());
        }
    }
    (ends[0].expect("just seen"), ends[1].expect("just seen"))
}

#[test]
fn a_fused_pair_writes_if_the_compare_fits_and_not_otherwise() {
    let target = Target::new();
    let (_admin, mut io) = target.queues(true);
    let (old, new) = (pattern(4096, 1), pattern(4096, 2));
    for capsule in [true, false] {
        assert!(status(&mut io, on_blocks(nvm::WRITE, 8, 8), &old).is_ok());
        let ends = fused(&mut io, capsule, (8, 8), (&new, &old));
        assert_eq!(ends, (IoStatus::COMPARE_FAILURE, status::ABORTED_FAILED_FUSED));
        assert!(read(&mut io, 8, 8) == old, "nothing was written");
        let ends = fused(&mut io, capsule, (8, 8), (&old, &new));
        assert_eq!(ends, (IoStatus::SUCCESS, IoStatus::SUCCESS));
        assert!(read(&mut io, 8, 8) == new);
        let ends = fused(&mut io, capsule, (8, 16), (&new, &old));
        assert_eq!(ends, (status::ABORTED_FAILED_FUSED, IoStatus::INVALID_FIELD));
        let ends = fused(&mut io, capsule, (BLOCKS, BLOCKS), (&new, &old));
        assert_eq!(ends, (IoStatus::LBA_OUT_OF_RANGE, status::ABORTED_FAILED_FUSED));
        assert!(read(&mut io, 8, 8) == new);
    }
}

#[test]
fn one_half_of_a_fused_pair_is_aborted() {
    let target = Target::new();
    let (_admin, mut io) = target.queues(false);
    let data = pattern(4096, 3);
    let write = Command { flags: 0x42, ..inside(on_blocks(nvm::WRITE, 0, 8)) };
    assert_eq!(status(&mut io, write, &data), status::ABORTED_MISSING_FUSED);
    let mut compare = Command { flags: 0x41, ..inside(on_blocks(nvm::COMPARE, 0, 8)) };
    compare.cid = 300.into();
    io.submit(&compare, &data);
    let mut read = on_blocks(nvm::READ, 0, 8);
    read.cid = 301.into();
    io.submit(&read, &[]);
    let completion = io.completion();
    assert_eq!((completion.cid.get(), completion.status()), (300, status::ABORTED_MISSING_FUSED));
    assert_eq!(io.finish(301, &[]).1, [0; 4096], "nothing was written");
}

#[test]
fn commands_wait_for_memory_and_admin_commands_do_not() {
    // Room for one transfer at a time.
    let options = TransportOptions { memory_max: 131_072, ..TransportOptions::default() };
    let target = Target::with(1, options);
    let (mut admin, mut io) = target.queues(true);
    let mut holder = target.io(&admin, 2, true);
    let mut write = on_blocks(nvm::WRITE, 512, 256);
    write.cid = 1.into();
    holder.submit(&write, &[]);
    let request = holder.receive();
    assert_eq!(request.common.kind, tgt_nvme::pdu::kind::R2T);
    // All memory waits for this host's data now. Others wait, whatever they are.
    let data = pattern(4096, 4);
    for (cid, command) in [
        (10u16, inside(on_blocks(nvm::WRITE, 0, 8))),
        (11, on_blocks(nvm::READ, 600, 8)),
        (12, on_blocks(nvm::WRITE, 64, 8)),
    ] {
        let command = Command { cid: cid.into(), ..command };
        io.submit(&command, if cid == 10 { &data } else { &[] });
    }
    test_bdevs::world::wait_until("three commands wait", || {
        target.nvmf.counts().expect("an answer")[0].1.waiting == 3
    });
    assert!(admin.call(Command::new(0x18, 0, 0), &[]).0.status().is_ok(), "a keep-alive");
    let request = tgt_nvme::zerocopy::FromBytes::read_from_bytes(&request.header[..]).expect("24 bytes");
    let big = pattern(131_072, 5);
    holder.send_data(&request, &big);
    assert!(holder.completion().status().is_ok());
    let (mut ended, mut came) = (Vec::new(), Vec::new());
    while ended.len() < 3 {
        let unit = io.receive();
        match unit.common.kind {
            tgt_nvme::pdu::kind::R2T => {
                let request = tgt_nvme::zerocopy::FromBytes::read_from_bytes(&unit.header[..]);
                io.send_data(&request.expect("24 bytes"), &data);
            }
            tgt_nvme::pdu::kind::C2H_DATA => came = unit.data,
            _ => {
                assert_eq!(unit.header[22..24], [0, 0], "success");
                ended.push(unit.header[20]);
            }
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, [10, 11, 12]);
    assert!(came == big[88 * 512..96 * 512], "what the holder wrote");
    assert!(read(&mut io, 0, 8) == data && read(&mut io, 64, 8) == data);
    test_bdevs::world::wait_until("all memory is back", || {
        target.nvmf.counts().expect("an answer")[0].1.memory_used == 0
    });
}
