//! What an IO costs: cycles per IO through the block layer.
use perf_load::{JobSpec, Limit, Report, Workload};
use std::time::{Duration, Instant};
use tgt_bdev::Bdevs;
use tgt_reactor::{Reactors, SleepPolicy, StartOptions};

fn clock_ghz() -> f64 {
    let begin = Instant::now();
    let mut x = std::hint::black_box(3u64);
    let n = 50_000_000u64;
    for _ in 0..n {
        x = x.wrapping_mul(0x9E3779B97F4A7C15);
        std::hint::black_box(&x);
    }
    3.0 * n as f64 / begin.elapsed().as_nanos() as f64
}

fn main() {
    let core: u32 = std::env::var("CORE").ok().and_then(|c| c.parse().ok()).unwrap_or(1);
    let reactors = Reactors::start(&StartOptions { cores: vec![core], sleep: SleepPolicy::ADAPTIVE, pin: true }).unwrap();
    let bdevs = Bdevs::new();
    bdev_null::create(&bdevs, bdev_null::NullSpec { name: "Null0".into(), uuid: None, block_size: 512, num_blocks: 1 << 21 }).unwrap();
    bdev_malloc::create(&bdevs, bdev_malloc::MallocSpec { name: "Malloc0".into(), uuid: None, block_size: 512, num_blocks: 1 << 20, optimal_io_boundary: 0 }).unwrap();
    for (bdev, io_bytes) in [("Null0", 4096), ("Malloc0", 4096), ("Malloc0", 131072)] {
        for workload in [Workload::RandRead, Workload::RandWrite] {
            for queue_depth in [1, 128] {
                for latency in [true, false] {
                    if bdev == "Malloc0" && !latency { continue }
                    let job = JobSpec { bdev: bdev.into(), reactor: 0, workload, read_percent: 0, queue_depth, io_bytes, limit: Limit::Time(Duration::from_millis(700)), latency, seed: 1 };
                    let ghz = reactors.handles()[0].call(|_| clock_ghz()).unwrap();
                    let reports = perf_load::run(&bdevs, reactors.handles(), &[job], |_| true).unwrap();
                    let total = Report::of(&reports.iter().collect::<Vec<_>>());
                    let lat = total.latency_ns.unwrap_or_default();
                    println!("{bdev:8} {io_bytes:6} {:10} qd {queue_depth:3} latency {latency:5}: {:8.2} M/s {:8.0} MiB/s {:6.1} cycles at {ghz:.2} GHz, mean {:.0} p50 {} p99 {} max {}", workload.name(), total.iops / 1e6, total.mib_s, ghz * 1e9 / total.iops, lat.mean, lat.p50, lat.p99, lat.max);
                }
            }
        }
    }
    println!("{:?}", reactors.stop());
}
