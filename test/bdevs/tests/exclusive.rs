//! Compare-and-write against every other IO of a bdev, from several reactors, with pauses and removals in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use test_bdevs::hop;
use test_bdevs::world::{World, wait_until};
use tgt_bdev::{Bdev, Bufs, Desc, DmaBuf, DoneQueue, Event, Io, IoChannel, IoStatus, Mode, Op, Tag, Work};
use tgt_reactor::{Cx, Poller};

const BLOCK: u32 = 512;

/// Longer than one piece of an emulation, so that a mixture of two values would show.
const BLOCKS: u32 = 300;
const BYTES: u32 = BLOCKS * BLOCK;

/// Pollers on each of two reactors.
const POLLERS: u64 = 2;

fn malloc(world: &World, name: &str) {
    let (name, num_blocks) = (name.to_owned(), 4 * u64::from(BLOCKS));
    let spec =
        bdev_malloc::MallocSpec { name, uuid: None, block_size: BLOCK, num_blocks, optimal_io_boundary: 0 };
    bdev_malloc::create(&world.bdevs, spec).expect("a malloc bdev");
}

/// Reads a counter that fills a range of blocks, and raises it by compare-and-write, until it has done so `left` times.
struct Incrementer {
    channel: IoChannel,
    done: DoneQueue,
    left: u64,
    value: u64,
    outcome: Arc<Outcome>,
}

#[derive(Default)]
struct Outcome {
    raised: AtomicU64,
    /// Others were faster.
    lost: AtomicU64,
    /// Reads that saw two values.
    torn: AtomicU64,
    removed: AtomicU64,
    over: AtomicU64,
}

impl Incrementer {
    fn read(&mut self, cx: &mut Cx) {
        let bufs = Bufs::from(DmaBuf::alloc(BYTES).expect("memory"));
        self.submit(cx, Io::new(Op::Read, Tag(0), 0, BLOCKS, bufs));
    }

    fn submit(&mut self, cx: &mut Cx, io: Io) {
        self.channel.submit(cx, io).expect("one IO finds room");
    }

    fn raise(&mut self, cx: &mut Cx, read: &Bufs) {
        let mut bytes = vec![0; BYTES as usize];
        read.copy_to_slice(0, &mut bytes);
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).expect("eight bytes");
        self.value = word(&bytes[..8]);
        let torn = bytes.chunks_exact(8).any(|bytes| word(bytes) != self.value);
        self.outcome.torn.fetch_add(u64::from(torn), Relaxed);
        let (old, new) = (self.value.to_le_bytes(), (self.value + 1).to_le_bytes());
        let mut bufs = Bufs::from(DmaBuf::alloc(2 * BYTES).expect("memory"));
        bufs.copy_from_slice(0, &old.repeat(BYTES as usize / 8));
        bufs.copy_from_slice(BYTES, &new.repeat(BYTES as usize / 8));
        self.submit(cx, Io::new(Op::CompareAndWrite, Tag(1), 0, BLOCKS, bufs));
    }
}

impl Poller for Incrementer {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let mut work = self.channel.poll(cx, &mut self.done);
        if self.channel.take_event() == Some(Event::Removed) {
            self.left = 0;
            self.outcome.removed.fetch_add(1, Relaxed);
        }
        while let Some(done) = self.done.pop() {
            let ended = done.finish();
            match (ended.tag, ended.status) {
                (Tag(0), IoStatus::SUCCESS) if self.left > 0 => self.raise(cx, &ended.bufs),
                (Tag(1), IoStatus::SUCCESS) => {
                    self.outcome.raised.fetch_add(1, Relaxed);
                    self.left = self.left.saturating_sub(1);
                }
                (Tag(1), IoStatus::COMPARE_FAILURE) => drop(self.outcome.lost.fetch_add(1, Relaxed)),
                (_, IoStatus::SUCCESS | IoStatus::INVALID_NAMESPACE) => {}
                (tag, status) => panic!("{tag:?}: {status}"),
            }
        }
        if self.channel.in_flight() == 0 {
            if self.left == 0 {
                self.outcome.over.fetch_add(1, Relaxed);
                return Work::Over;
            }
            self.read(cx);
            work = Work::Busy;
        }
        work
    }

    fn name(&self) -> &str {
        "incrementer"
    }
}

/// Starts two pollers on each of two reactors, all on one counter, each of which raises it `each` times.
fn start(world: &World, bdev: &str, each: u64) -> (Arc<Bdev>, Arc<Outcome>) {
    let desc = Arc::new(world.bdevs.open(bdev, "incrementers", Mode::Write).expect("free"));
    let (bdev, outcome) = (desc.bdev().clone(), Arc::<Outcome>::default());
    for reactor in &world.reactors()[..2] {
        for _ in 0..POLLERS {
            let (desc, outcome): (Arc<Desc>, _) = (desc.clone(), outcome.clone());
            let make = move |reactor: &mut tgt_reactor::Reactor| Incrementer {
                channel: desc.open_channel(reactor.cx()).expect("opens"),
                done: DoneQueue::default(),
                left: each,
                value: 0,
                outcome,
            };
            reactor.spawn(make).expect("an answer");
        }
    }
    (bdev, outcome)
}

/// The counter, read when nobody changes it.
fn counter(world: &World, bdev: &str) -> u64 {
    world.with_channel(bdev, |cx, channel| {
        let bufs = Bufs::from(DmaBuf::alloc(BYTES).expect("memory"));
        let read = test_bdevs::world::do_io(cx, channel, Io::new(Op::Read, Tag(0), 0, BLOCKS, bufs));
        let mut bytes = [0; 8];
        read.bufs.copy_to_slice(0, &mut bytes);
        u64::from_le_bytes(bytes)
    })
}

/// As many raises as were reported are in the counter, with pauses by a thread meanwhile.
fn no_raise_is_lost(world: &World, bdev: &str, each: u64) {
    let (there, outcome) = start(world, bdev, each);
    let all = 2 * POLLERS * each;
    let mut pauses = 0;
    let over = || outcome.over.load(Relaxed) == 2 * POLLERS;
    while !over() {
        let quiet = there.quiesce(Duration::from_secs(20)).expect("it becomes quiet");
        pauses += 1;
        let before = outcome.raised.load(Relaxed);
        drop(quiet);
        // Each pause is followed by some progress, or by the end.
        wait_until("it goes on after a pause", || over() || outcome.raised.load(Relaxed) != before);
    }
    let [raised, torn, lost] =
        [&outcome.raised, &outcome.torn, &outcome.lost].map(|count| count.load(Relaxed));
    assert_eq!((raised, torn), (all, 0), "{bdev}: {lost} lost races, {pauses} pauses");
    assert!(pauses > 0);
    drop(there);
    wait_until("the pollers let go", || world.bdevs.get(bdev).expect("it").openers().is_empty());
    assert_eq!(counter(world, bdev), all, "{bdev}");
}

#[test]
fn no_increment_is_lost_on_a_disk_in_memory() {
    let world = World::new(2);
    malloc(&world, "M");
    no_raise_is_lost(&world, "M", 300);
}

#[test]
fn no_increment_is_lost_through_layers() {
    let world = World::new(2);
    malloc(&world, "M");
    let split = bdev_split::Split { base: "M".to_owned(), count: 2, size_mib: 0 };
    tgt_bdev::stack::Stack::new(&world.bdevs).create("M", "M", &[], split).expect("made");
    let (name, base) = ("P".to_owned(), "Mp1".to_owned());
    let passthru = bdev_passthru::Passthru { name, base, uuid: None };
    tgt_bdev::stack::Stack::new(&world.bdevs).create("P", "Mp1", &["P"], passthru).expect("made");
    no_raise_is_lost(&world, "P", 100);
    malloc(&world, "Base");
    hop::create(&world.bdevs, "Hop", "Base", &world.reactors()[1]);
    no_raise_is_lost(&world, "Hop", 100);
}

#[test]
fn no_increment_is_lost_on_a_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let world = World::new(2);
    let filename = dir.path().join("U");
    std::fs::File::create(&filename).and_then(|file| file.set_len(1 << 20)).expect("a file");
    let flavour = bdev_uring::Flavour::Uring;
    let spec = bdev_uring::UringSpec {
        name: "U".to_owned(),
        filename,
        block_size: Some(BLOCK),
        uuid: None,
        flavour,
    };
    bdev_uring::create(&world.bdevs, spec).expect("a uring bdev");
    no_raise_is_lost(&world, "U", 50);
}

#[test]
fn a_bdev_is_removed_in_the_middle_of_it_all() {
    for round in 0..10 {
        let world = World::new(2);
        malloc(&world, "M");
        let (_, outcome) = start(&world, "M", u64::MAX);
        wait_until("some are done", || outcome.raised.load(Relaxed) > 10 * round);
        world.bdevs.remove("M").expect("everybody lets go");
        wait_until("all are over", || outcome.over.load(Relaxed) == 2 * POLLERS);
        assert_eq!((outcome.removed.load(Relaxed), outcome.torn.load(Relaxed)), (2 * POLLERS, 0));
    }
}
