use crate::{CreateError, MallocSpec, create};
use test_bdevs::world::{World, do_io};
use tgt_bdev::{Bufs, CopyRange, DmaBuf, DoneQueue, Io, IoStatus, Op, RegisterError, Tag};

const BLOCK: u32 = 512;

fn spec(num_blocks: u64) -> MallocSpec {
    MallocSpec { name: "Malloc0".into(), uuid: None, block_size: BLOCK, num_blocks, optimal_io_boundary: 0 }
}

fn filled(bytes: u32, byte: u8) -> Bufs {
    let mut bufs = Bufs::from(DmaBuf::alloc(bytes).expect("memory"));
    bufs.fill(byte);
    bufs
}

fn bytes(bufs: &Bufs) -> Vec<u8> {
    let mut bytes = vec![0; bufs.len() as usize];
    bufs.copy_to_slice(0, &mut bytes);
    bytes
}

#[test]
fn a_new_disk_reads_zero_also_where_an_old_one_was() {
    for _ in 0..3 {
        let world = World::new(1);
        create(&world.bdevs, spec(8192)).expect("made");
        world.with_channel("Malloc0", |cx, channel| {
            for lba in [0, 1000, 8192 - 16] {
                let read = do_io(cx, channel, Io::new(Op::Read, Tag(1), lba, 16, filled(16 * BLOCK, 9)));
                assert!(bytes(&read.bufs).iter().all(|byte| *byte == 0));
                let write = do_io(cx, channel, Io::new(Op::Write, Tag(1), lba, 16, filled(16 * BLOCK, 5)));
                assert!(write.status.is_ok());
            }
        });
    }
}

/// Large disks are written past the caches: the same bytes must be there.
#[test]
fn small_and_large_disks_keep_the_same_bytes() {
    for num_blocks in [4096, 80 << 11] {
        let world = World::new(1);
        create(&world.bdevs, spec(num_blocks)).expect("made");
        world.with_channel("Malloc0", move |cx, channel| {
            for (lba, byte) in [(0, 1), (7, 2), (num_blocks - 3, 3)] {
                do_io(cx, channel, Io::new(Op::Write, Tag(1), lba, 3, filled(3 * BLOCK, byte)));
                let read = do_io(cx, channel, Io::new(Op::Read, Tag(1), lba, 3, filled(3 * BLOCK, 0)));
                assert_eq!(bytes(&read.bufs), vec![byte; 3 * BLOCK as usize]);
            }
        });
    }
}

#[test]
fn clearing_a_whole_disk_clears_it_in_one_answer() {
    for op in [Op::Unmap, Op::WriteZeroes] {
        let world = World::new(1);
        create(&world.bdevs, spec(8192)).expect("made");
        world.with_channel("Malloc0", move |cx, channel| {
            do_io(cx, channel, Io::new(Op::Write, Tag(1), 8191, 1, filled(BLOCK, 9)));
            assert!(do_io(cx, channel, Io::new(op, Tag(2), 0, 8192, Bufs::none())).status.is_ok());
            let read = do_io(cx, channel, Io::new(Op::Read, Tag(3), 8191, 1, filled(BLOCK, 7)));
            assert_eq!(bytes(&read.bufs), vec![0; BLOCK as usize]);
        });
    }
}

/// Native compares and copies; the ranges of a copy may touch each other but not its destination.
#[test]
fn compares_and_copies_are_done_in_place() {
    let world = World::new(1);
    create(&world.bdevs, spec(4096)).expect("made");
    let native = world.bdevs.get("Malloc0").expect("made").native_ops();
    assert_eq!(
        [Op::Compare, Op::Copy, Op::CompareAndWrite].map(|op| native.contains(op)),
        [true, true, false]
    );
    world.with_channel("Malloc0", |cx, channel| {
        do_io(cx, channel, Io::new(Op::Write, Tag(1), 1, 2, filled(2 * BLOCK, 4)));
        let ranges = [CopyRange { lba: 2, blocks: 2 }, CopyRange { lba: 1, blocks: 1 }];
        let mut entries = filled(2 * CopyRange::BYTES, 0);
        entries.copy_from_slice(0, &ranges.map(CopyRange::encode).concat());
        assert!(do_io(cx, channel, Io::new(Op::Copy, Tag(2), 100, 3, entries)).status.is_ok());
        for (lba, byte, status) in [
            (100, 4, IoStatus::SUCCESS),
            (101, 0, IoStatus::SUCCESS),
            (102, 4, IoStatus::SUCCESS),
            (103, 4, IoStatus::COMPARE_FAILURE),
        ] {
            let compare = Io::new(Op::Compare, Tag(3), lba, 1, filled(BLOCK, byte));
            assert_eq!(do_io(cx, channel, compare).status, status, "block {lba}");
        }
    });
}

#[test]
fn an_io_that_waits_for_its_copy_can_be_aborted_and_is_not_copied() {
    let world = World::new(1);
    create(&world.bdevs, spec(64)).expect("made");
    world.with_channel("Malloc0", |cx, channel| {
        channel.submit(cx, Io::new(Op::Write, Tag(1), 0, 1, filled(BLOCK, 1))).expect("room");
        channel.submit_abort(cx, Tag(2), Tag(1)).expect("room");
        channel.submit_abort(cx, Tag(3), Tag(1)).expect("room");
        let mut done = DoneQueue::default();
        let _ = channel.poll(cx, &mut done);
        let ended = std::iter::from_fn(|| done.pop()).map(tgt_bdev::Done::finish);
        let ended: Vec<_> = ended.map(|finished| (finished.tag.0, finished.status)).collect();
        let late = IoStatus::INVALID_FIELD;
        assert_eq!(ended, [(1, IoStatus::ABORTED), (2, IoStatus::SUCCESS), (3, late)]);
        let read = do_io(cx, channel, Io::new(Op::Read, Tag(4), 0, 1, filled(BLOCK, 7)));
        assert_eq!(bytes(&read.bufs), vec![0; BLOCK as usize]);
    });
}

#[test]
fn a_disk_too_large_for_the_machine_is_refused_and_leaves_nothing() {
    let world = World::new(1);
    assert!(matches!(create(&world.bdevs, spec(1 << 50)), Err(CreateError::Memory(_))));
    let numbers = RegisterError::NumBlocks(u64::MAX, BLOCK);
    assert!(
        matches!(create(&world.bdevs, spec(u64::MAX)), Err(CreateError::Register(error)) if error == numbers)
    );
    assert!(world.bdevs.all().is_empty());
}
