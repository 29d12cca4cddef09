//! Registered buffers on real files. Needs io_uring, as the other tests here. What is limited per process, or counts the
//! process's granules, runs in a process of its own.

#![allow(clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use proptest::prelude::*;

use super::file_tests::{Rig, bytes, filled};
use super::tests::refuse_on_this_thread;
use super::*;
use crate::bufs::{Bufs, Lender};
use crate::memory::{DmaBuf, GRANULE_BYTES, Memory, MemoryConfig, PageSize, Region, Registration};
use crate::testing::{alone, become_a_plain_user};

const MIB: u64 = 1 << 20;
const WHOLE: u32 = DmaBuf::MAX_LEN;

fn here(test: &str, body: impl FnOnce()) {
    alone(module_path!(), test, body);
}

const fn write(offset: u64, end: u32) -> FileOp {
    FileOp::Write { offset, skip: 0, end, durable: false }
}

const fn read(offset: u64) -> FileOp {
    FileOp::Read { offset, skip: 0 }
}

impl Rig {
    /// What the kernel would be asked to do.
    fn opcode(&mut self, op: FileOp, bufs: &Bufs) -> u32 {
        let (ring, fixed) = (&self.ring.ring, &mut self.ring.fixed);
        let place = |one: libc::iovec| fixed.place(ring, one.iov_base.cast_const().cast(), one.iov_len);
        self.ring.files.request(self.id, op, bufs, place).get_opcode()
    }

    /// Buffers that the kernel says are registered; `None` where it does not say.
    fn registered(&self) -> Option<usize> {
        let info =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.ring.ring.as_raw_fd())).ok()?;
        let mut lines = info.lines().skip_while(|line| !line.starts_with("UserBufs:"));
        lines.next()?;
        let of_table = lines.take_while(|line| line.starts_with(' '));
        Some(of_table.filter(|line| line.trim_end().ends_with(&format!("/{GRANULE_BYTES}"))).count())
    }

    /// Writes and reads again.
    fn passes_data(&mut self, len: u32, byte: u8) {
        assert_eq!(self.run(write(0, len), filled(len, byte)).result, len as i32);
        let done = self.run(read(0), filled(len, !byte));
        assert_eq!((done.result, bytes(&done.bufs)), (len as i32, vec![byte; len as usize]));
    }

    fn refusal(&mut self) -> String {
        self.ring.take_refusal().expect("a refusal").to_string()
    }
}

const READ_FIXED: u32 = opcode::ReadFixed::CODE as u32;
const WRITE_FIXED: u32 = opcode::WriteFixed::CODE as u32;
const READ: u32 = opcode::Read::CODE as u32;
const WRITE: u32 = opcode::Write::CODE as u32;

#[test]
fn one_segment_names_its_registered_buffer_and_several_do_not() {
    let Some(mut rig) = Rig::new() else { return };
    let mut lender = Lender::new();
    let one = filled(8192, 1);
    assert_eq!(rig.opcode(read(0), &one), READ_FIXED);
    assert_eq!(rig.opcode(FileOp::Read { offset: 0, skip: 4096 }, &one), READ_FIXED);
    assert_eq!(rig.opcode(write(0, 512), &one), WRITE_FIXED);
    let two = lender.gather([filled(4096, 1), filled(4096, 1)]);
    assert_eq!(rig.opcode(read(0), &two), u32::from(opcode::Readv::CODE));
    assert_eq!(rig.opcode(write(0, 8192), &two), u32::from(opcode::Writev::CODE));
    assert_eq!(rig.opcode(write(0, 4096), &two), WRITE_FIXED, "what is moved lies in one");
    let lease = lender.lend(filled(8192, 1)).expect("room");
    let part = lender.cut(&lease, 4096);
    assert_eq!(rig.opcode(read(0), &part), READ_FIXED, "a part of a buffer is in the same granule");
    lender.give_back(part);
    let _owner = lender.end(lease);
    assert!(rig.ring.take_refusal().is_none());
}

#[test]
fn memory_outside_granules_of_buffers_is_never_registered() {
    let Some(mut rig) = Rig::new() else { return };
    let region = Region::alloc(2 * MIB).expect("memory");
    let on_stack = [0u8; 512];
    let buffer = DmaBuf::alloc(WHOLE).expect("memory");
    let mut place = |ptr, len| rig.ring.fixed.place(&rig.ring.ring, ptr, len);
    assert_eq!((place(region.as_ptr(), 4096), place(on_stack.as_ptr(), 512)), (None, None));
    assert!(place(buffer.as_ptr(), GRANULE_BYTES).is_some());
    assert_eq!(place(buffer.as_ptr(), GRANULE_BYTES + 1), None, "beyond the end of its granule");
    assert_eq!(place(buffer.as_ptr().wrapping_add(1), GRANULE_BYTES), None);
}

#[test]
fn memory_that_comes_later_is_registered_with_its_first_use_and_regions_come_and_go_beside_it() {
    here(
        "memory_that_comes_later_is_registered_with_its_first_use_and_regions_come_and_go_beside_it",
        || {
            let Some(mut rig) = Rig::new() else { return };
            let mut held = Vec::new();
            for number in 0..6 {
                // The region's granules lie before the next buffer's and are mapped anew each time.
                let region = Region::alloc(4 * MIB).expect("memory");
                region.fill_zero(0, 4 * MIB);
                held.push(DmaBuf::alloc(WHOLE).expect("memory"));
                drop(region);
                let bufs = Bufs::from(held.pop().expect("just pushed"));
                let done = rig.run(write(number * 2 * MIB, WHOLE), bufs);
                assert_eq!(done.result, WHOLE as i32);
                held.push(done.bufs.into_dma().expect("a buffer"));
                let now = rig.registered();
                assert!(now.is_none_or(|now| now == held.len()), "{now:?} of {} are registered", held.len());
            }
            // Twice: with the buffers that were registered first, and after all were given back and taken again.
            for round in 0..2u8 {
                for (number, mut buffer) in (0..6u8).zip(held.drain(..)) {
                    buffer.as_mut_slice().fill(round * 6 + number);
                    let at = u64::from(number) * 2 * MIB;
                    assert_eq!(rig.run(write(at, WHOLE), buffer.into()).result, WHOLE as i32);
                    let mut there = vec![0; WHOLE as usize];
                    rig.file.read_exact_at(&mut there, at).unwrap();
                    assert_eq!(there, vec![round * 6 + number; WHOLE as usize]);
                }
                held.extend((0..6).map(|_| DmaBuf::alloc(WHOLE).expect("memory")));
            }
            let now = rig.registered();
            assert!(now.is_none_or(|now| now == 6), "{now:?}: nothing was registered twice or lost");
        },
    );
}

#[test]
fn without_the_right_to_lock_memory_all_io_works_and_the_reason_is_said_once() {
    here("without_the_right_to_lock_memory_all_io_works_and_the_reason_is_said_once", || {
        // Enough for a ring, not for a granule: 0 would refuse the ring itself on new kernels.
        become_a_plain_user(MIB);
        let Some(mut rig) = Rig::new() else { return };
        let one = filled(4096, 1);
        assert_eq!((rig.opcode(read(0), &one), rig.opcode(write(0, 512), &one)), (READ, WRITE));
        let line = rig.refusal();
        for part in
            ["RLIMIT_MEMLOCK is 1048576 bytes", "no more than 0 bytes", "work", "ulimit -l", "LimitMEMLOCK"]
        {
            assert!(line.contains(part) && !line.contains('\n'), "{part:?} in {line:?}");
        }
        rig.passes_data(4096, 7);
        rig.passes_data(WHOLE, 8);
        assert!(rig.ring.take_refusal().is_none(), "once");
    });
}

#[test]
fn up_to_half_the_limit_buffers_are_registered_and_the_rest_works_beside_them() {
    here("up_to_half_the_limit_buffers_are_registered_and_the_rest_works_beside_them", || {
        become_a_plain_user(8 * MIB);
        let Some(mut rig) = Rig::new() else { return };
        let held: Vec<_> = (0..6).map(|byte| filled(WHOLE, byte)).collect();
        let codes: Vec<_> = held.iter().map(|bufs| rig.opcode(read(0), bufs)).collect();
        let fixed = codes.iter().filter(|code| **code == READ_FIXED).count();
        assert!(fixed == 2 && codes[fixed..].iter().all(|code| *code == READ), "{codes:?}");
        let line = rig.refusal();
        assert!(line.contains(&format!("no more than {} bytes", fixed << 21)), "{line}");
        for (byte, bufs) in (0u8..).zip(held) {
            assert_eq!(rig.run(write(0, WHOLE), bufs).result, WHOLE as i32);
            rig.passes_data(WHOLE, byte + 100);
        }
        drop(rig);
        let Some(mut rig) = Rig::new() else { return };
        assert_eq!(rig.opcode(read(0), &filled(512, 1)), READ_FIXED, "a ring that ended makes room");
    });
}

#[test]
fn a_kernel_without_registration_is_told_and_does_without() {
    let refused = |before_the_table: bool| {
        let refuse = || refuse_on_this_thread(libc::SYS_io_uring_register, libc::EINVAL as u32);
        if before_the_table {
            refuse();
        }
        let mut rig = Rig::new()?;
        refuse();
        rig.passes_data(4096, 3);
        let line = rig.refusal();
        rig.passes_data(8192, 4);
        assert!(rig.ring.take_refusal().is_none(), "once");
        Some(line)
    };
    for (before_the_table, part) in [(true, "Linux 5.19"), (false, "seccomp")] {
        // A filter binds the thread that installs it, for good: hence a thread of its own.
        let line = std::thread::spawn(move || refused(before_the_table)).join().expect("no panic");
        assert!(line.iter().all(|line| line.contains(part) && line.contains("work")), "{line:?}");
    }
}

#[test]
fn nothing_is_registered_if_the_operator_says_so_and_no_word_is_lost_on_it() {
    here("nothing_is_registered_if_the_operator_says_so_and_no_word_is_lost_on_it", || {
        let config = MemoryConfig { registration: Registration::Off, ..MemoryConfig::ordinary() };
        Memory::init(config).expect("first use");
        let Some(mut rig) = Rig::new() else { return };
        assert_eq!(rig.opcode(read(0), &filled(4096, 1)), READ);
        rig.passes_data(4096, 7);
        assert!(rig.ring.take_refusal().is_none());
        assert!(rig.registered().is_none_or(|count| count == 0));
    });
}

#[test]
fn buffers_in_hugepages_are_registered_and_pass_data() {
    here("buffers_in_hugepages_are_registered_and_pass_data", || {
        let config = MemoryConfig { page_size: PageSize::Huge2M, ..MemoryConfig::default() };
        Memory::init(config).expect("first use");
        if let Err(error) = DmaBuf::alloc(WHOLE) {
            println!("skipped: {error}");
            return;
        }
        let Some(mut rig) = Rig::new() else { return };
        assert_eq!(rig.opcode(read(0), &filled(4096, 1)), READ_FIXED);
        for (len, byte) in [(512, 1), (4096, 2), (WHOLE - 512, 3), (WHOLE, 4)] {
            rig.passes_data(len, byte);
        }
        assert!(rig.ring.take_refusal().is_none());
    });
}

/// A file that is read and written past the page cache, where the file system takes that.
fn direct_file() -> File {
    let dir = tempfile::tempdir().expect("a folder");
    let open = |flags| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).custom_flags(flags).open(dir.path().join("disk"))
    };
    open(libc::O_DIRECT).unwrap_or_else(|error| {
        println!("without O_DIRECT: {error}");
        open(0).expect("a file")
    })
}

/// One read or write: place and lengths in blocks of 4 KiB, and how many blocks of the first buffer stay untouched.
#[derive(Debug, Clone)]
struct Step {
    is_write: bool,
    at: u64,
    pieces: Vec<u32>,
    skip: u32,
}

const BLOCKS: u64 = 256;
const BLOCK: u32 = 4096;

fn step() -> impl Strategy<Value = Step> {
    let pieces = prop_oneof![prop::collection::vec(1u32..24, 1), prop::collection::vec(1u32..8, 2..5)];
    (any::<bool>(), 0..BLOCKS - 32, pieces, any::<prop::sample::Index>()).prop_map(
        |(is_write, at, pieces, skip)| {
            let skip = skip.index(pieces[0] as usize) as u32;
            Step { is_write, at, pieces, skip }
        },
    )
}

/// Four at a time under way would need disjoint ranges; one after the other is enough to see every byte.
fn same_bytes_as_a_plain_model(rig: &mut Rig, lender: &mut Lender, steps: &[Step]) {
    let mut model = vec![0u8; (BLOCKS * u64::from(BLOCK)) as usize];
    rig.file.set_len(0).unwrap();
    rig.file.set_len(model.len() as u64).unwrap();
    for (mark, Step { is_write, at, pieces, skip }) in (1u8..).zip(steps) {
        let whole = |blocks: &u32| filled(blocks * BLOCK, mark);
        let mut bufs = match pieces.as_slice() {
            [one] => whole(one),
            several => lender.gather(several.iter().map(whole)),
        };
        let (offset, skip) = (at * u64::from(BLOCK), skip * BLOCK);
        let moved = bufs.len() - skip;
        let range = offset as usize..offset as usize + moved as usize;
        if *is_write {
            let data: Vec<u8> = (0..bufs.len()).map(|at| (at / 512) as u8 ^ mark).collect();
            bufs.copy_from_slice(0, &data);
            model[range].copy_from_slice(&data[skip as usize..]);
            let op = FileOp::Write { offset, skip, end: bufs.len(), durable: mark % 4 == 0 };
            let done = rig.run(op, bufs);
            assert_eq!(done.result, moved as i32);
            lender.scatter(done.bufs, drop);
        } else {
            let done = rig.run(FileOp::Read { offset, skip }, bufs);
            assert_eq!(done.result, moved as i32);
            assert_eq!(bytes(&done.bufs)[skip as usize..], model[range]);
            assert!(bytes(&done.bufs)[..skip as usize].iter().all(|byte| *byte == mark));
            lender.scatter(done.bufs, drop);
        }
    }
    let mut there = Bufs::from(DmaBuf::alloc(model.len() as u32).expect("memory"));
    there = rig.run(read(0), there).bufs;
    assert_eq!(bytes(&there), model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn one_segment_and_several_mixed_leave_the_bytes_of_a_plain_model(steps in prop::collection::vec(step(), 1..24)) {
        let Some(mut rig) = Rig::on(direct_file()) else { return Ok(()) };
        same_bytes_as_a_plain_model(&mut rig, &mut Lender::new(), &steps);
    }
}
