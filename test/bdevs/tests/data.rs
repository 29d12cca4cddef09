//! Data through the stacked devices, against a plain model of a disk.

use std::sync::mpsc::sync_channel;
use std::time::Duration;
use test_bdevs::world::World;
use test_bdevs::{hop, mirror2};
use tgt_bdev::{Bufs, CopyRange, Cx, Desc, DmaBuf, DoneQueue, Io, IoChannel, IoStatus, Mode, Op, Tag, Work};
use tgt_reactor::Poller;

const BLOCK: u32 = 512;
const BLOCKS: u64 = 4096;

fn malloc(world: &World, name: &str, optimal_io_boundary: u32) {
    let spec = bdev_malloc::MallocSpec {
        name: name.to_owned(),
        uuid: None,
        block_size: BLOCK,
        num_blocks: BLOCKS,
        optimal_io_boundary,
    };
    bdev_malloc::create(&world.bdevs, spec).expect("a malloc bdev");
}

/// Random IO of every kind that does not overlap while in flight, checked against a vector.
struct Checker {
    channel: IoChannel,
    rng: fastrand::Rng,
    model: Vec<u8>,
    in_flight: Vec<Option<Flight>>,
    done: DoneQueue,
    to_submit: u32,
    report: std::sync::mpsc::SyncSender<Result<u32, String>>,
    completed: u32,
}

/// An IO in flight: its blocks, those that a copy reads, and how it has to end.
#[derive(Clone, Copy)]
struct Flight {
    lba: u64,
    blocks: u32,
    source: Option<u64>,
    op: Op,
    status: IoStatus,
}

impl Flight {
    fn touches(&self, lba: u64, blocks: u32) -> bool {
        let overlaps = |own: u64| lba < own + u64::from(self.blocks) && own < lba + u64::from(blocks);
        overlaps(self.lba) || self.source.is_some_and(overlaps)
    }
}

const QUEUE_DEPTH: usize = 16;

impl Checker {
    fn new(
        cx: &mut Cx,
        desc: &Desc,
        ios: u32,
        report: std::sync::mpsc::SyncSender<Result<u32, String>>,
    ) -> Checker {
        Checker {
            channel: desc.open_channel(cx).expect("opens"),
            rng: fastrand::Rng::with_seed(42),
            model: vec![0; (BLOCKS * u64::from(BLOCK)) as usize],
            in_flight: vec![None; QUEUE_DEPTH],
            done: DoneQueue::default(),
            to_submit: ios,
            report,
            completed: 0,
        }
    }

    fn range(lba: u64, blocks: u32) -> std::ops::Range<usize> {
        let at = (lba * u64::from(BLOCK)) as usize;
        at..at + (blocks * BLOCK) as usize
    }

    fn submit_some(&mut self, cx: &mut Cx) {
        for slot in 0..QUEUE_DEPTH {
            if self.to_submit == 0 || self.in_flight[slot].is_some() {
                continue;
            }
            let (lba, blocks) = (self.rng.u64(0..BLOCKS - 64), self.rng.u32(1..64));
            if self.in_flight.iter().flatten().any(|io| io.touches(lba, blocks)) {
                continue;
            }
            let ops = [Op::Write, Op::WriteZeroes, Op::Unmap, Op::Compare, Op::CompareAndWrite, Op::Copy];
            let op = if self.rng.bool() { Op::Read } else { ops[self.rng.usize(0..ops.len())] };
            let op = if self.channel.bdev().ops().contains(op) { op } else { Op::WriteZeroes };
            let mut flight = Flight { lba, blocks, source: None, op, status: IoStatus::SUCCESS };
            if op == Op::Copy {
                let source = self.rng.u64(0..BLOCKS - 64);
                flight.source = Some(source);
                let touched = |io: &Flight| io.touches(source, blocks);
                if source.abs_diff(lba) < u64::from(blocks) || self.in_flight.iter().flatten().any(touched) {
                    continue;
                }
            }
            let bufs = self.buffers(cx, &mut flight);
            self.in_flight[slot] = Some(flight);
            self.to_submit -= 1;
            let io = Io::new(op, Tag(slot as u64), lba, blocks, bufs);
            self.channel.submit(cx, io).expect("16 IOs always find room");
        }
    }

    /// What an IO carries; the model changes as the disk has to.
    fn buffers(&mut self, cx: &mut Cx, flight: &mut Flight) -> Bufs {
        let range = Checker::range(flight.lba, flight.blocks);
        match flight.op {
            Op::Read => self.scattered(cx, &vec![0; range.len()]),
            Op::Write => {
                self.rng.fill(&mut self.model[range.clone()]);
                let new = self.model[range].to_vec();
                self.scattered(cx, &new)
            }
            Op::Compare => {
                let mut expected = self.model[range].to_vec();
                self.spoil(flight, &mut expected);
                self.scattered(cx, &expected)
            }
            Op::CompareAndWrite => {
                let mut both = self.model[range.clone()].repeat(2);
                let (expected, new) = both.split_at_mut(range.len());
                self.spoil(flight, expected);
                self.rng.fill(new);
                if flight.status.is_ok() {
                    self.model[range].copy_from_slice(new);
                }
                self.scattered(cx, &both)
            }
            Op::Copy => {
                let source = flight.source.expect("it was drawn");
                let from = Checker::range(source, flight.blocks);
                self.model.copy_within(from, range.start);
                // In one range or in two.
                let first = self.rng.u32(1..=flight.blocks);
                let second = (source + u64::from(first), flight.blocks - first);
                let ranges = [(source, first), second].into_iter().filter(|(_, blocks)| *blocks > 0);
                let entries = ranges.flat_map(|(lba, blocks)| CopyRange { lba, blocks }.encode());
                self.scattered(cx, &entries.collect::<Vec<_>>())
            }
            _ => {
                self.model[range].fill(0);
                Bufs::none()
            }
        }
    }

    /// Half of the time changes one byte of what an IO expects.
    fn spoil(&mut self, flight: &mut Flight, expected: &mut [u8]) {
        if self.rng.bool() {
            expected[self.rng.usize(0..expected.len())] ^= self.rng.u8(1..);
            flight.status = IoStatus::COMPARE_FAILURE;
        }
    }

    /// These bytes in buffers of one or of two segments.
    fn scattered(&mut self, cx: &mut Cx, bytes: &[u8]) -> Bufs {
        let len = bytes.len() as u32;
        let first = if self.rng.bool() { len } else { self.rng.u32(1..len) };
        let parts = [first, len - first].into_iter().filter(|len| *len > 0);
        let parts: Vec<Bufs> = parts.map(|len| Bufs::from(DmaBuf::alloc(len).expect("memory"))).collect();
        let mut bufs = cx.lender().gather(parts);
        bufs.copy_from_slice(0, bytes);
        bufs
    }

    fn check(&mut self, done: tgt_bdev::Done) -> Result<(), String> {
        let finished = done.finish();
        let slot = finished.tag.0 as usize;
        let flight = self.in_flight[slot].take().ok_or("a completion nobody waits for")?;
        let Flight { lba, blocks, op, status, .. } = flight;
        if finished.status != status {
            return Err(format!("{op:?} of {blocks} blocks at {lba}: {}", finished.status));
        }
        if op == Op::Read {
            let mut data = vec![0; (blocks * BLOCK) as usize];
            finished.bufs.copy_to_slice(0, &mut data);
            if data != self.model[Checker::range(lba, blocks)] {
                return Err(format!("read of {blocks} blocks at {lba} differs from what was written"));
            }
        }
        self.completed += 1;
        Ok(())
    }
}

impl Poller for Checker {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        self.submit_some(cx);
        let mut done = std::mem::take(&mut self.done);
        let work = self.channel.poll(cx, &mut done);
        while let Some(one) = done.pop() {
            if let Err(wrong) = self.check(one) {
                self.to_submit = 0;
                let _ = self.report.try_send(Err(wrong));
            }
        }
        self.done = done;
        if self.to_submit == 0 && self.channel.in_flight() == 0 {
            let _ = self.report.try_send(Ok(self.completed));
            return Work::Over;
        }
        work
    }

    fn name(&self) -> &str {
        "checker"
    }
}

fn check(world: &World, bdev: &str, ios: u32) {
    let desc = world.bdevs.open(bdev, "checker", Mode::Write).expect("free");
    let (report, outcome) = sync_channel(2);
    let spawn = move |reactor: &mut tgt_reactor::Reactor| Checker::new(reactor.cx(), &desc, ios, report);
    world.reactors()[0].spawn(spawn).expect("an answer");
    let outcome = outcome.recv_timeout(Duration::from_secs(60)).expect("the check ends");
    assert_eq!(outcome, Ok(ios), "{bdev}");
}

#[test]
fn malloc_keeps_what_was_written() {
    let world = World::new(1);
    malloc(&world, "Malloc0", 0);
    check(&world, "Malloc0", 20_000);
}

#[test]
fn malloc_keeps_what_was_written_in_pieces() {
    let world = World::new(1);
    malloc(&world, "Malloc0", 7);
    check(&world, "Malloc0", 20_000);
}

#[test]
fn a_mirror_writes_both_and_reads_either() {
    let world = World::new(1);
    malloc(&world, "A", 0);
    malloc(&world, "B", 5);
    mirror2::create(&world.bdevs, "Mirror", ["A", "B"]);
    check(&world, "Mirror", 20_000);
    let [a, b] = ["A", "B"].map(|name| world.bdevs.get(name).expect("there").stats());
    assert!(a.read.ops > 1000 && b.read.ops > 1000, "reads take turns: {} and {}", a.read.ops, b.read.ops);
}

#[test]
fn a_bdev_of_another_reactor_is_the_same_disk() {
    let world = World::new(2);
    malloc(&world, "Malloc0", 3);
    hop::create(&world.bdevs, "Hop", "Malloc0", &world.reactors()[1]);
    check(&world, "Hop", 20_000);
}

#[test]
fn a_mirror_with_a_leg_on_another_reactor_is_the_same_disk() {
    let world = World::new(2);
    malloc(&world, "A", 0);
    malloc(&world, "B", 4);
    hop::create(&world.bdevs, "HopB", "B", &world.reactors()[1]);
    mirror2::create(&world.bdevs, "Mirror", ["A", "HopB"]);
    check(&world, "Mirror", 20_000);
}

/// A uring bdev on a file of its own in `folder`.
fn uring(world: &World, name: &str, folder: &std::path::Path, flavour: bdev_uring::Flavour) {
    let path = folder.join(name);
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(BLOCKS * u64::from(BLOCK)).expect("room");
    let (name, block_size, filename) = (name.to_owned(), Some(BLOCK), path);
    let spec = bdev_uring::UringSpec { name, filename, block_size, uuid: None, flavour };
    bdev_uring::create(&world.bdevs, spec).expect("a uring bdev");
}

/// On disk and on tmpfs; zeroes by ranges, by holes (tmpfs has no ranges), and written out.
#[test]
fn files_keep_what_was_written() {
    for place in [std::env::temp_dir(), "/dev/shm".into()] {
        let Ok(dir) = tempfile::tempdir_in(&place) else {
            println!("skipped: nothing can be written to {}", place.display());
            continue;
        };
        let world = World::new(1);
        uring(&world, "U", dir.path(), bdev_uring::Flavour::Uring);
        check(&world, "U", 5_000);
        let written_out = bdev_uring::Flavour::Aio { readonly: false, fallocate: false, nowait: false };
        uring(&world, "A", dir.path(), written_out);
        let ops = world.bdevs.get("A").expect("it").ops();
        assert!(ops.contains(Op::WriteZeroes) && !ops.contains(Op::Unmap));
        check(&world, "A", 3_000);
    }
}

#[test]
fn a_file_on_another_reactor_is_the_same_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let world = World::new(2);
    uring(&world, "U", dir.path(), bdev_uring::Flavour::Uring);
    hop::create(&world.bdevs, "Hop", "U", &world.reactors()[1]);
    check(&world, "Hop", 3_000);
}

/// Puts `layer` on `base`; the stack stays as long as the world's bdevs.
fn stacked<L: tgt_bdev::stack::Layer>(world: &World, name: &str, base: &str, layer: L) {
    let made = tgt_bdev::stack::Stack::new(&world.bdevs).create(name, base, &[], layer);
    assert!(!made.expect("it can be made").is_empty());
}

/// A base that splits, twice a stack of layers on it, one of them on parts.
#[test]
fn layers_are_the_disk_below_them() {
    let world = World::new(1);
    let spec = bdev_malloc::MallocSpec {
        name: "M".to_owned(),
        uuid: None,
        block_size: BLOCK,
        num_blocks: 2 * BLOCKS + 5,
        optimal_io_boundary: 7,
    };
    bdev_malloc::create(&world.bdevs, spec).expect("a malloc bdev");
    stacked(&world, "split", "M", bdev_split::Split { base: "M".to_owned(), count: 2, size_mib: 0 });
    let faults = std::sync::Arc::default();
    let error = bdev_error::ErrorLayer { base: "Mp1".to_owned(), uuid: None, faults };
    stacked(&world, "error", "Mp1", error);
    let latencies = std::sync::Arc::new(bdev_delay::Latencies::new([20, 300, 20, 300]));
    let (name, base) = ("Delay".to_owned(), "EE_Mp1".to_owned());
    stacked(&world, "delay", "EE_Mp1", bdev_delay::Delay { name, base, uuid: None, latencies });
    let layer = |name: &str, base: &str| bdev_passthru::Passthru {
        name: name.to_owned(),
        base: base.to_owned(),
        uuid: None,
    };
    stacked(&world, "passthru", "Mp0", layer("Pass", "Mp0"));
    check(&world, "Pass", 20_000);
    check(&world, "Delay", 5_000);
    let dir = tempfile::tempdir().expect("a folder");
    uring(&world, "U", dir.path(), bdev_uring::Flavour::Uring);
    stacked(&world, "on a file", "U", layer("PassU", "U"));
    check(&world, "PassU", 3_000);
}
