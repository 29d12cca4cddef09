use crate::{JobSpec, Limit, Report, RunError, SpecError, Workload, run};
use bdev_null::NullSpec;
use std::sync::Arc;
use std::time::Duration;
use tgt_bdev::{
    BdevSpec, Bdevs, Channel, Cx, Device, Done, DoneQueue, Io, IoStatus, Limits, Mode, OpSet, Work,
};
use tgt_reactor::{Reactors, SleepPolicy, StartOptions};
use uuid::Uuid;

fn world(reactors: u32) -> (Reactors, Arc<Bdevs>) {
    let cores = (0..reactors).collect();
    let options = StartOptions { cores, sleep: SleepPolicy::ADAPTIVE, pin: false };
    let bdevs = Bdevs::new();
    for name in ["N0", "N1"] {
        let spec = NullSpec { name: name.into(), uuid: None, block_size: 512, num_blocks: 1024 };
        bdev_null::create(&bdevs, spec).expect("a null bdev");
    }
    (Reactors::start(&options).expect("reactors"), bdevs)
}

fn job(bdev: &str, limit: Limit) -> JobSpec {
    JobSpec {
        bdev: bdev.to_owned(),
        reactor: 0,
        workload: Workload::RandRw,
        read_percent: 50,
        queue_depth: 16,
        io_bytes: 4096,
        limit,
        latency: true,
        seed: 1,
        go_on: false,
        state: None,
    }
}

/// A device that fails every IO after the hundredth, and takes four at a time.
struct Failing;

struct FailingChannel {
    held: Vec<Io>,
    served: u32,
}

impl Device for Failing {
    fn open_channel(&self, _cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        Ok(Box::new(FailingChannel { held: Vec::new(), served: 0 }))
    }
}

impl Channel for FailingChannel {
    fn submit(&mut self, _cx: &mut Cx, io: Io) -> Result<(), Io> {
        if self.held.len() == 4 {
            return Err(io);
        }
        self.held.push(io);
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Cx, done: &mut DoneQueue) -> Work {
        for io in self.held.drain(..) {
            self.served += 1;
            let failed = self.served > 100;
            let ended: Done = io.complete(if failed { IoStatus::WRITE_FAULT } else { IoStatus::SUCCESS });
            done.push(ended);
        }
        Work::Spin
    }
}

fn failing(bdevs: &Bdevs) {
    let spec = BdevSpec {
        name: "Failing".into(),
        aliases: Vec::new(),
        product_name: "failing",
        uuid: Uuid::new_v4(),
        block_size: 512,
        num_blocks: 1024,
        ops: OpSet::all(),
        limits: Limits::default(),
        numa_node: None,
        device: Arc::new(Failing),
    };
    bdevs.register(spec).expect("registered");
}

#[test]
fn a_counted_run_does_exactly_that_many() {
    let (reactors, bdevs) = world(1);
    for ios in [0, 1, 15, 16, 17, 5000] {
        let reports = run(&bdevs, reactors.handles(), &[job("N0", Limit::Ios(ios))], |_| true).expect("ends");
        assert_eq!((reports[0].ios, reports[0].bytes, reports[0].errors), (ios, ios * 4096, 0));
    }
    let stats = bdevs.get("N0").expect("there").stats();
    assert_eq!(stats.read.ops + stats.write.ops, 1 + 15 + 16 + 17 + 5000);
    assert!(bdevs.get("N0").expect("there").openers().is_empty(), "everything is closed afterwards");
    assert!(reactors.stop().is_empty());
}

#[test]
fn jobs_on_several_bdevs_and_reactors_run_at_once_and_add_up() {
    let (reactors, bdevs) = world(2);
    let jobs = [job("N0", Limit::Ios(1000)), JobSpec { reactor: 1, ..job("N1", Limit::Ios(3000)) }];
    let reports = run(&bdevs, reactors.handles(), &jobs, |_| true).expect("ends");
    let total = Report::of(&reports.iter().collect::<Vec<_>>());
    assert_eq!((total.ios, reports[1].reactor), (4000, 1));
    let sum: f64 = reports.iter().map(|report| report.summary().iops).sum();
    assert!((total.iops - sum).abs() < 1.0);
    assert!(reactors.stop().is_empty());
}

#[test]
fn a_timed_run_ends_by_itself_and_a_watcher_can_end_it_sooner() {
    let (reactors, bdevs) = world(1);
    let timed = [job("N0", Limit::Time(Duration::from_millis(50)))];
    let reports = run(&bdevs, reactors.handles(), &timed, |_| true).expect("ends");
    assert!(reports[0].elapsed >= Duration::from_millis(50) && reports[0].ios > 16);
    let endless = [job("N0", Limit::Time(Duration::from_secs(3600)))];
    let reports = run(&bdevs, reactors.handles(), &endless, |progress| progress.ios < 1000).expect("ends");
    assert!(reports[0].ios >= 1000);
    assert!(reactors.stop().is_empty());
}

#[test]
fn the_first_error_ends_a_job_and_nothing_is_left_in_flight() {
    let (reactors, bdevs) = world(1);
    failing(&bdevs);
    let reports = run(&bdevs, reactors.handles(), &[job("Failing", Limit::Ios(1_000_000))], |_| true);
    let report = &reports.expect("it ends")[0];
    assert_eq!(report.first_error, Some(IoStatus::WRITE_FAULT));
    assert!(report.errors >= 1 && report.ios < 200, "{report:?}");
    assert!(reactors.stop().is_empty());
}

/// A failing second job leaves no first job running.
#[test]
fn what_is_wrong_is_said_and_nothing_is_left_running() {
    let (reactors, bdevs) = world(1);
    let good = job("N0", Limit::Time(Duration::from_secs(3600)));
    let base = job("N1", Limit::Ios(1));
    let bad = [
        JobSpec { queue_depth: 0, ..base.clone() },
        JobSpec { queue_depth: 100_000, ..base.clone() },
        JobSpec { io_bytes: 0, ..base.clone() },
        JobSpec { io_bytes: 700, ..base.clone() },
        JobSpec { io_bytes: 1 << 20, ..base.clone() },
        JobSpec { read_percent: 101, ..base.clone() },
        JobSpec { reactor: 7, ..base.clone() },
        JobSpec { bdev: "Nope".into(), ..base.clone() },
    ];
    for spec in bad {
        let outcome = run(&bdevs, reactors.handles(), &[good.clone(), spec.clone()], |_| true);
        assert!(outcome.is_err(), "{spec:?}");
        assert!(bdevs.get("N0").expect("there").openers().is_empty());
    }
    let message = SpecError::QueueDepth(0).to_string();
    assert!(message.contains("-q") && message.contains("65536"), "{message}");
    let claimed = bdevs.open("N0", "owner", Mode::Read).expect("free");
    claimed.claim(tgt_bdev::Claim::ExclusiveWrite).expect("free");
    assert!(matches!(run(&bdevs, reactors.handles(), &[good], |_| true), Err(RunError::Open(_))));
    assert!(reactors.stop().is_empty());
}
