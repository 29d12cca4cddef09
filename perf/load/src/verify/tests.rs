use crate::{JobReport, JobSpec, Limit, RunError, Workload, run};
use bdev_malloc::MallocSpec;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tgt_bdev::{
    Bdev, BdevSpec, Bdevs, Channel, Cx, Device, DoneQueue, Io, IoStatus, Limits, Op, OpSet, Work,
};
use tgt_reactor::{Reactors, SleepPolicy, StartOptions};
use uuid::Uuid;

const PLACES: u64 = 64;

struct World {
    reactors: Reactors,
    bdevs: Arc<Bdevs>,
    base: Arc<Bdev>,
}

impl World {
    fn new() -> World {
        let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
        let bdevs = Bdevs::new();
        let spec = MallocSpec {
            name: "Base".to_owned(),
            uuid: None,
            block_size: 512,
            num_blocks: PLACES * 8,
            optimal_io_boundary: 0,
        };
        let base = bdev_malloc::create(&bdevs, spec).expect("a malloc bdev");
        World { reactors: Reactors::start(&options).expect("reactors"), bdevs, base }
    }

    /// A bdev over the malloc bdev that does `lie` to every IO on its way down; `None`: the IO never goes down.
    fn lie(&self, name: &str, lie: fn(u64, &mut Io) -> Answer) {
        let spec = BdevSpec {
            name: name.to_owned(),
            aliases: Vec::new(),
            product_name: "liar",
            uuid: Uuid::new_v4(),
            block_size: 512,
            num_blocks: PLACES * 8,
            ops: OpSet::of(&[Op::Read, Op::Write]),
            limits: Limits::default(),
            numa_node: None,
            device: Arc::new(Liar { base: self.base.clone(), lie }),
        };
        self.bdevs.register(spec).expect("registered");
    }

    fn run(&self, bdev: &str, ios: u64, state: Option<PathBuf>) -> JobReport {
        self.try_run(bdev, ios, state).expect("it runs")
    }

    fn try_run(&self, bdev: &str, ios: u64, state: Option<PathBuf>) -> Result<JobReport, RunError> {
        let job = JobSpec {
            bdev: bdev.to_owned(),
            reactor: 0,
            workload: Workload::Verify,
            read_percent: 30,
            queue_depth: 8,
            io_bytes: 4096,
            limit: Limit::Ios(ios),
            latency: true,
            seed: 3,
            go_on: true,
            state,
        };
        run(&self.bdevs, self.reactors.handles(), &[job], |_| true).map(|mut reports| reports.remove(0))
    }
}

/// What becomes of an IO.
enum Answer {
    Pass,
    End(IoStatus),
}

struct Liar {
    base: Arc<Bdev>,
    lie: fn(u64, &mut Io) -> Answer,
}

struct LiarChannel {
    base: Box<dyn Channel>,
    lie: fn(u64, &mut Io) -> Answer,
    count: u64,
    ended: DoneQueue,
}

impl Device for Liar {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        let base = self.base.device().open_channel(cx)?;
        Ok(Box::new(LiarChannel { base, lie: self.lie, count: 0, ended: DoneQueue::default() }))
    }
}

impl Channel for LiarChannel {
    fn submit(&mut self, cx: &mut Cx, mut io: Io) -> Result<(), Io> {
        self.count += 1;
        match (self.lie)(self.count, &mut io) {
            Answer::Pass => self.base.submit(cx, io),
            Answer::End(status) => {
                self.ended.push(io.complete(status));
                Ok(())
            }
        }
    }

    fn poll(&mut self, cx: &mut Cx, done: &mut DoneQueue) -> Work {
        let _ = self.base.poll(cx, done);
        done.take_all(&mut self.ended);
        Work::Spin
    }
}

fn failing(io: &Io) -> Answer {
    Answer::End(if io.op == Op::Write { IoStatus::WRITE_FAULT } else { IoStatus::UNRECOVERED_READ_ERROR })
}

#[test]
fn an_honest_device_passes_and_is_read_back_at_the_end() {
    let world = World::new();
    let report = world.run("Base", 500, None);
    assert_eq!((report.errors, report.wrong), (0, None));
    assert!(report.ios > 500, "{} IOs: what was written is read back", report.ios);
}

#[test]
fn a_write_that_never_happened_is_noticed() {
    let world = World::new();
    world.lie("Lost", |count, io| {
        if (200..=201).contains(&count) && io.op == Op::Write {
            Answer::End(IoStatus::SUCCESS)
        } else {
            Answer::Pass
        }
    });
    let wrong = world.run("Lost", 400, None).wrong.expect("a lost write");
    assert!(wrong.contains("Lost") && wrong.contains("last acknowledged write was"), "{wrong}");
}

#[test]
fn a_misdirected_write_is_noticed() {
    let world = World::new();
    world.lie("Astray", |count, io| {
        if count > 300 && count < 310 && io.op == Op::Write {
            io.lba = (io.lba + 8) % (PLACES * 8);
        }
        Answer::Pass
    });
    let wrong = world.run("Astray", 600, None).wrong.expect("a misdirected write");
    assert!(wrong.contains("of LBA") || wrong.contains("last acknowledged write"), "{wrong}");
}

#[test]
fn failed_writes_may_or_may_not_be_there() {
    let world = World::new();
    world.lie("Flaky", |count, io| if count % 5 == 0 { failing(io) } else { Answer::Pass });
    let report = world.run("Flaky", 2_000, None);
    assert!(report.errors > 100 && report.wrong.is_none(), "{:?}", report.wrong);
}

#[test]
fn what_an_earlier_run_wrote_is_checked_by_a_later_one() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    let state = || Some(dir.path().join("state"));
    assert_eq!(world.run("Base", 300, state()).wrong, None);
    let again = world.run("Base", 1, state());
    assert_eq!(again.wrong, None);
    assert!(again.ios > 60, "{} IOs: nearly all places were written, and are read first", again.ios);
    // Somebody else writes to the bdev in between: a load of its own, of another run.
    assert_eq!(world.run("Base", 100, None).wrong, None);
    let wrong = world.run("Base", 1, state()).wrong.expect("foreign writes");
    assert!(wrong.contains("another run"), "{wrong}");
}

#[test]
fn a_state_file_that_cannot_be_used_is_named() {
    let world = World::new();
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("state");
    std::fs::write(&path, "not this").expect("written");
    let error = world.try_run("Base", 1, Some(path)).expect_err("refused").to_string();
    assert!(error.contains("not a state file"), "{error}");
}

#[test]
fn a_device_that_goes_back_in_time_is_noticed_across_runs() {
    static FROZEN: AtomicU64 = AtomicU64::new(0);
    let world = World::new();
    // Acknowledges and drops all writes once it is frozen: what a restored image looks like.
    world.lie("Old", |_, io| {
        let drop_it = FROZEN.load(Relaxed) == 1 && io.op == Op::Write;
        if drop_it { Answer::End(IoStatus::SUCCESS) } else { Answer::Pass }
    });
    let dir = tempfile::tempdir().expect("a folder");
    let state = || Some(dir.path().join("state"));
    assert_eq!(world.run("Old", 300, state()).wrong, None);
    FROZEN.store(1, Relaxed);
    let wrong = world.run("Old", 200, state()).wrong.expect("old contents");
    assert!(wrong.contains("last acknowledged write"), "{wrong}");
}
