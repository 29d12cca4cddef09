//! What an IO must not cost, and whether what is reported of it is true.

use perf_load::{JobSpec, Limit, Workload};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use test_bdevs::world::World;
use test_bdevs::{hop, mirror2};
use tgt_bdev::{Cx, Desc, DoneQueue, Io, IoChannel, Mode, Tag, Ticks, Work};
use tgt_reactor::Poller;

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

fn world(reactors: u32) -> World {
    let world = World::new(reactors);
    for name in ["N0", "N1"] {
        let name = name.to_owned();
        let spec = bdev_null::NullSpec { name, uuid: None, block_size: 512, num_blocks: 1 << 20 };
        bdev_null::create(&world.bdevs, spec).expect("a null bdev");
    }
    let spec = bdev_malloc::MallocSpec {
        name: "M0".to_owned(),
        uuid: None,
        block_size: 512,
        num_blocks: 1 << 15,
        optimal_io_boundary: 8,
    };
    bdev_malloc::create(&world.bdevs, spec).expect("a malloc bdev");
    mirror2::create(&world.bdevs, "Mirror", ["N0", "N1"]);
    world
}

fn allocations_of(world: &World, reactor: usize) -> u64 {
    world.reactors()[reactor].call(|_| test_alloc_counter::allocations()).expect("an answer")
}

fn job(bdev: &str, workload: Workload, ios: u64) -> JobSpec {
    JobSpec {
        bdev: bdev.to_owned(),
        reactor: 0,
        workload,
        read_percent: 50,
        queue_depth: 32,
        io_bytes: 4096,
        limit: Limit::Ios(ios),
        latency: true,
        seed: 1,
        go_on: false,
        state: None,
    }
}

/// Allocations of a run, on all reactors, of `ios` IOs.
fn allocations_in_run(world: &World, bdev: &str, workload: Workload, ios: u64) -> u64 {
    let count = || (0..world.reactors().len()).map(|index| allocations_of(world, index)).sum::<u64>();
    let before = count();
    let reports = perf_load::run(&world.bdevs, world.reactors(), &[job(bdev, workload, ios)], |_| true);
    assert_eq!(reports.expect("the run ends")[0].ios, ios);
    count() - before
}

/// Ten times as many IOs allocate not one time more: what is allocated belongs to the run, not to the IO.
fn assert_no_allocation_per_io(world: &World, bdev: &str, workload: Workload) {
    // The first run fills caches that stay.
    let _ = allocations_in_run(world, bdev, workload, 20_000);
    let few = allocations_in_run(world, bdev, workload, 20_000);
    let many = allocations_in_run(world, bdev, workload, 200_000);
    // A message or two (sleep, wake, stop) may fall into either run.
    assert!(many <= few + 8, "{bdev} {workload:?}: {few} allocations in 20,000 IOs, {many} in 200,000");
}

#[test]
fn no_io_allocates_on_any_path() {
    let world = world(2);
    hop::create(&world.bdevs, "Hop", "N0", &world.reactors()[1]);
    for bdev in ["N0", "M0", "Mirror", "Hop"] {
        assert_no_allocation_per_io(&world, bdev, Workload::RandRw);
        assert_no_allocation_per_io(&world, bdev, Workload::WriteZeroes);
    }
}

/// Allocations of one range lock: its ranges, what channels know of it, who has to acknowledge it.
const ALLOCATIONS_OF_A_LOCK: u64 = 6;

/// On a disk that compares itself, and on one for which that is emulated. Compare-and-write always is, and locks its blocks,
/// here one lock for each.
#[test]
fn no_compare_allocates_and_a_compare_and_write_no_more_than_its_lock() {
    let world = world(1);
    let (name, base) = ("OnM0".to_owned(), "M0".to_owned());
    tgt_bdev::stack::Stack::new(&world.bdevs).create(&name, "M0", &[], passthru(&name, &base)).expect("made");
    for bdev in ["OnM0", "Mirror"] {
        for (op, each) in [(tgt_bdev::Op::Compare, 0), (tgt_bdev::Op::CompareAndWrite, ALLOCATIONS_OF_A_LOCK)]
        {
            // Fills caches that stay.
            let _ = allocations_of_batch(&world, bdev, op);
            let allocations: u64 = (0..100).map(|_| allocations_of_batch(&world, bdev, op)).sum();
            let ios = 100 * BATCH;
            let most = u64::from(ios) * each + 8;
            assert!(allocations <= most, "{bdev} {op:?}: {allocations} allocations in {ios} IOs");
        }
    }
}

/// IOs of one visit to a reactor: it takes no messages meanwhile, and pauses send it some.
const BATCH: u32 = 100;

/// Allocations while one reactor does [`BATCH`] IOs of eight blocks, one after the other, whatever their outcome.
fn allocations_of_batch(world: &World, bdev: &str, op: tgt_bdev::Op) -> u64 {
    world.with_channel(bdev, move |cx, channel| {
        let len = if op == tgt_bdev::Op::CompareAndWrite { 8192 } else { 4096 };
        let mut bufs = test_bdevs::world::filled(len, 0);
        let mut done = DoneQueue::with_capacity(64);
        let mut one = |cx: &mut Cx, channel: &mut IoChannel| {
            let io = Io::new(op, Tag(0), 64, 8, std::mem::replace(&mut bufs, tgt_bdev::Bufs::none()));
            channel.submit(cx, io).expect("room");
            let ended = (0..1000).find_map(|_| {
                let _ = channel.poll(cx, &mut done);
                done.pop()
            });
            bufs = ended.expect("it ends").finish().bufs;
        };
        // The channel is new: its queues, which change places, get their room.
        (0..8).for_each(|_| one(cx, channel));
        let before = test_alloc_counter::allocations();
        (0..BATCH).for_each(|_| one(cx, channel));
        test_alloc_counter::allocations() - before
    })
}

fn passthru(name: &str, base: &str) -> bdev_passthru::Passthru {
    bdev_passthru::Passthru { name: name.to_owned(), base: base.to_owned(), uuid: None }
}

#[test]
fn no_io_allocates_in_layers_that_hand_it_through() {
    let world = world(1);
    let on = tgt_bdev::stack::Stack::new(&world.bdevs);
    on.create("P", "Mirror", &["P"], passthru("P", "Mirror")).expect("made");
    let split = bdev_split::Split { base: "M0".to_owned(), count: 2, size_mib: 0 };
    tgt_bdev::stack::Stack::new(&world.bdevs).create("M0", "M0", &[], split).expect("made");
    for bdev in ["P", "M0p1"] {
        assert_no_allocation_per_io(&world, bdev, Workload::RandRw);
        assert_no_allocation_per_io(&world, bdev, Workload::WriteZeroes);
    }
}

#[test]
fn no_io_on_a_file_allocates() {
    let place =
        if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(place).expect("a folder");
    let filename = dir.path().join("disk");
    std::fs::File::create(&filename).and_then(|file| file.set_len(16 << 20)).expect("a file");
    let world = world(1);
    let (name, block_size, flavour) = ("U".to_owned(), Some(512), bdev_uring::Flavour::Uring);
    let spec = bdev_uring::UringSpec { name, filename, block_size, uuid: None, flavour };
    bdev_uring::create(&world.bdevs, spec).expect("a uring bdev");
    for workload in [Workload::RandRead, Workload::RandWrite] {
        let _ = allocations_in_run(&world, "U", workload, 2_000);
        let few = allocations_in_run(&world, "U", workload, 2_000);
        let many = allocations_in_run(&world, "U", workload, 20_000);
        assert!(many <= few + 8, "{workload:?}: {few} allocations in 2,000 IOs, {many} in 20,000");
    }
}

#[test]
fn the_counter_sees_an_io_that_does_allocate() {
    let world = world(1);
    let desc = world.bdevs.open("N0", "test", Mode::Read).expect("free");
    let before = allocations_of(&world, 0);
    let wasteful = move |reactor: &mut tgt_reactor::Reactor| {
        let mut channel = desc.open_channel(reactor.cx()).expect("opens");
        let before = test_alloc_counter::allocations();
        for _ in 0..100 {
            let mut done = DoneQueue::with_capacity(64);
            let flush = Io::new(tgt_bdev::Op::Flush, Tag(0), 0, 0, tgt_bdev::Bufs::none());
            channel.submit(reactor.cx(), flush).expect("room");
            let _ = channel.poll(reactor.cx(), &mut done);
            let _ = done.pop().expect("ended").finish();
        }
        test_alloc_counter::allocations() - before
    };
    assert!(world.reactors()[0].call(wasteful).expect("an answer") >= 100);
    assert!(allocations_of(&world, 0) >= before + 100);
}

/// Submits one IO at a time with a clock of its own around it.
struct Stopwatch {
    channel: IoChannel,
    done: DoneQueue,
    began: Ticks,
    left: u32,
    sum: Arc<AtomicU64>,
    max: Arc<AtomicU64>,
}

impl Poller for Stopwatch {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let _ = self.channel.poll(cx, &mut self.done);
        if let Some(done) = self.done.pop() {
            let took = Ticks::now() - self.began;
            let _ = done.finish();
            self.sum.store(self.sum.load(Relaxed) + took.0, Relaxed);
            self.max.store(self.max.load(Relaxed).max(took.0), Relaxed);
            self.left -= 1;
            if self.left == 0 {
                return Work::Over;
            }
        }
        if self.channel.in_flight() == 0 {
            self.began = Ticks::now();
            let flush = Io::new(tgt_bdev::Op::Unmap, Tag(0), 0, 1, tgt_bdev::Bufs::none());
            self.channel.submit(cx, flush).expect("room");
        }
        Work::Busy
    }

    fn name(&self) -> &str {
        "stopwatch"
    }
}

/// The sums of `bdev_get_iostat` agree with a clock read around every single IO, to a microsecond per IO.
#[test]
fn reported_latencies_agree_with_a_clock_read_for_every_io() {
    const IOS: u32 = 20_000;
    let world = world(1);
    let desc: Desc = world.bdevs.open("M0", "stopwatch", Mode::Write).expect("free");
    let (sum, max) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (sum_there, max_there) = (sum.clone(), max.clone());
    let spawn = move |reactor: &mut tgt_reactor::Reactor| Stopwatch {
        channel: desc.open_channel(reactor.cx()).expect("opens"),
        done: DoneQueue::default(),
        began: Ticks::ZERO,
        left: IOS,
        sum: sum_there,
        max: max_there,
    };
    world.reactors()[0].spawn(spawn).expect("an answer");
    let bdev = world.bdevs.get("M0").expect("there");
    test_bdevs::world::wait_until("all IOs are done", || bdev.openers().is_empty());
    let stats = bdev.stats().unmap;
    assert_eq!(stats.ops, u64::from(IOS));
    let mean = |ticks: u64| Ticks(ticks).as_ns() as f64 / f64::from(IOS);
    let (reported, measured) = (mean(stats.ticks.0), mean(sum.load(Relaxed)));
    assert!(
        (reported - measured).abs() < 1000.0,
        "mean latency: {reported} ns reported, {measured} measured"
    );
    let (reported, measured) = (stats.ticks_max.as_ns(), Ticks(max.load(Relaxed)).as_ns());
    // The machine may preempt the reactor between the two clocks, at any length: only a gross error is told apart.
    assert!(reported.abs_diff(measured) < 20_000_000, "longest: {reported} ns reported, {measured} measured");
}

/// The load generator's percentiles are those of the latencies that iostat sums up.
#[test]
fn the_load_generators_latencies_agree_with_iostat() {
    let world = world(1);
    let spec = JobSpec { limit: Limit::Time(Duration::from_millis(200)), ..job("M0", Workload::RandRead, 0) };
    let reports = perf_load::run(&world.bdevs, world.reactors(), &[spec], |_| true).expect("the run ends");
    let seen = reports[0].summary();
    let stats = world.bdevs.get("M0").expect("there").stats().read;
    assert_eq!(seen.ios, stats.ops);
    let latency = seen.latency_ns.expect("it was kept");
    let mean = stats.ticks.as_ns() as f64 / stats.ops as f64;
    assert!((latency.mean - mean).abs() < 1000.0_f64.max(mean / 500.0), "{} and {mean}", latency.mean);
    assert!(latency.min <= latency.p50 && latency.p50 <= latency.p99 && latency.p99_99 <= latency.max);
    let three_digits = latency.max / 500 + 1000;
    assert!(stats.ticks_max.as_ns().abs_diff(latency.max) <= three_digits, "{latency:?}");
}
