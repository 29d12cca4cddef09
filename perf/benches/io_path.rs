//! What an IO costs: cycles per IO through the block layer, load generator included, beside a bare copy.
//!
//! `cargo bench -p rmr-perf --bench io_path [-- --quick] [PART OF A NAME]`. Each row: rounds with the pace of the core measured before
//! and after; rounds in which the sibling core was busy or the clock dropped are left out. Run it on a quiet machine
//! with `echo 300 > /proc/sys/vm/nr_hugepages`.

mod common;

use bdev_passthru::Passthru;
use comfy_table::{Cell, Table};
use common::{Sample, effort, sample, show, undisturbed};
use perf_load::{JobSpec, Limit, Report, Workload};
use std::sync::Arc;
use test_bdevs::{hop, mirror2};
use tgt_bdev::stack::Stack;
use tgt_bdev::{Bdevs, DmaBuf, HistogramSpec};
use tgt_env::memory::{Memory, MemoryConfig};
use tgt_reactor::{Handle, Reactors, SleepPolicy, StartOptions};

const MALLOC_BYTES: u64 = 512 << 20;

/// A row of the table.
struct Case {
    name: &'static str,
    bdev: &'static str,
    io_bytes: u32,
    workload: Workload,
    queue_depth: u32,
    latency: bool,
}

fn cases() -> Vec<Case> {
    let case = |name, bdev, io_bytes, workload, queue_depth, latency| Case {
        name,
        bdev,
        io_bytes,
        workload,
        queue_depth,
        latency,
    };
    let mut cases = Vec::new();
    for workload in [Workload::RandRead, Workload::RandWrite] {
        for queue_depth in [1, 128] {
            cases.push(case("null", "Null0", 4096, workload, queue_depth, true));
            cases.push(case("null, histogram", "NullCounted", 4096, workload, queue_depth, true));
            cases.push(case("null, --no-latency", "Null0", 4096, workload, queue_depth, false));
        }
    }
    for queue_depth in [1, 128] {
        for workload in [Workload::RandRead, Workload::RandWrite] {
            cases.push(case("null, the same bytes", "NullBase", 4096, workload, queue_depth, true));
            cases.push(case("passthru on null", "Pass", 4096, workload, queue_depth, true));
            cases.push(case("passthru on passthru", "PassPass", 4096, workload, queue_depth, true));
            cases.push(case("split part of null", "NullSplitp1", 4096, workload, queue_depth, true));
        }
        cases.push(case("mirror2 of two null", "Mirror", 4096, Workload::RandWrite, queue_depth, true));
        cases.push(case("mirror2 of two null", "Mirror", 4096, Workload::RandRead, queue_depth, true));
        cases.push(case("null on another reactor", "Hop", 4096, Workload::RandRead, queue_depth, true));
    }
    for io_bytes in [4096, 128 << 10] {
        for workload in [Workload::RandRead, Workload::RandWrite] {
            for queue_depth in [1, 32, 128] {
                cases.push(case("malloc 512 MiB", "Malloc0", io_bytes, workload, queue_depth, true));
            }
        }
    }
    cases
}

fn make_bdevs(reactors: &[Handle]) -> Arc<Bdevs> {
    let bdevs = Bdevs::new();
    for name in ["Null0", "NullCounted", "Null1", "Null2", "NullBase", "NullUnder", "NullDeep", "NullSplit"] {
        let name = name.to_owned();
        let spec = bdev_null::NullSpec { name, uuid: None, block_size: 512, num_blocks: 1 << 21 };
        bdev_null::create(&bdevs, spec).expect("a null bdev");
    }
    let counted = bdevs.get("NullCounted").expect("just made");
    counted.set_histogram(Some(HistogramSpec::default()));
    let spec = bdev_malloc::MallocSpec {
        name: "Malloc0".to_owned(),
        uuid: None,
        block_size: 512,
        num_blocks: MALLOC_BYTES / 512,
        optimal_io_boundary: 0,
    };
    bdev_malloc::create(&bdevs, spec).expect("a malloc bdev");
    mirror2::create(&bdevs, "Mirror", ["Null1", "Null2"]);
    let passthrus = Stack::new(&bdevs);
    for (name, base) in [("Pass", "NullUnder"), ("PassUnder", "NullDeep"), ("PassPass", "PassUnder")] {
        let layer = Passthru { name: name.to_owned(), base: base.to_owned(), uuid: None };
        passthrus.create(name, base, &[name], layer).expect("a passthru bdev");
    }
    let split = bdev_split::Split { base: "NullSplit".to_owned(), count: 2, size_mib: 0 };
    Stack::new(&bdevs).create("NullSplit", "NullSplit", &[], split).expect("split bdevs");
    let other = reactors.last().expect("there is one");
    hop::create(&bdevs, "Hop", "Null0", other);
    bdevs
}

/// Nanoseconds per IO of one round.
fn round(bdevs: &Bdevs, reactors: &[Handle], case: &Case) -> f64 {
    let job = JobSpec {
        bdev: case.bdev.to_owned(),
        reactor: 0,
        workload: case.workload,
        read_percent: 0,
        queue_depth: case.queue_depth,
        io_bytes: case.io_bytes,
        limit: Limit::Time(effort().0),
        latency: case.latency,
        seed: 1,
        go_on: false,
        state: None,
    };
    let reports = perf_load::run(bdevs, reactors, &[job], |_| true).expect("the run ends");
    assert_eq!(reports[0].errors, 0);
    1e9 / Report::of(&reports.iter().collect::<Vec<_>>()).iops
}

/// Nanoseconds per copy by the C library between a large memory and 128 buffers, on a reactor's core: the floor that a
/// memory disk is compared with.
fn bare_copy(reactor: &Handle, io_bytes: usize, into_memory: bool) -> f64 {
    let time = effort().0;
    let copy = move |_: &mut tgt_reactor::Reactor| {
        // The same pages as the memory disk has, in pieces of the largest buffer.
        let piece = DmaBuf::MAX_LEN as usize;
        let make = |_| DmaBuf::alloc_zeroed(DmaBuf::MAX_LEN).expect("memory");
        let mut memory: Vec<DmaBuf> = (0..MALLOC_BYTES as usize / piece).map(make).collect();
        let mut buffers: Vec<DmaBuf> =
            (0..128).map(|_| DmaBuf::alloc(io_bytes as u32).expect("memory")).collect();
        let mut rng = fastrand::Rng::with_seed(1);
        let (began, mut copies) = (std::time::Instant::now(), 0u64);
        while began.elapsed() < time {
            for buffer in &mut buffers {
                let at = rng.usize(0..piece / io_bytes) * io_bytes;
                let index = rng.usize(0..memory.len());
                let place = &mut memory[index].as_mut_slice()[at..at + io_bytes];
                if into_memory {
                    place.copy_from_slice(buffer.as_slice());
                } else {
                    buffer.as_mut_slice().copy_from_slice(place);
                }
                copies += 1;
            }
        }
        began.elapsed().as_nanos() as f64 / copies as f64
    };
    reactor.call_within(std::time::Duration::from_secs(60), copy).expect("the copies end")
}

fn row(name: &str, what: &str, io_bytes: u32, samples: &[Sample]) -> Vec<Cell> {
    let quiet = undisturbed(samples);
    let of = |value: fn(&Sample) -> f64| quiet.iter().map(value).collect::<Vec<f64>>();
    let cycles = of(|s| s.value * s.ghz);
    let rate = of(|s| 1e3 / s.value);
    let gib = quiet.iter().map(|s| f64::from(io_bytes) / s.value / 1.073_741_824).collect();
    [
        name.to_owned(),
        what.to_owned(),
        show(cycles, 1),
        show(rate, 2),
        show(gib, 2),
        show(of(|s| s.ghz), 2),
        format!("{}/{}", quiet.len(), samples.len()),
    ]
    .map(Cell::new)
    .to_vec()
}

fn main() {
    Memory::init(MemoryConfig::default()).expect("memory");
    common::print_setting();
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(2) as u32;
    let options = StartOptions { cores: (0..count).collect(), sleep: SleepPolicy::ADAPTIVE, pin: true };
    let reactors = Reactors::start(&options).expect("reactors");
    let bdevs = make_bdevs(reactors.handles());
    let (first, rounds) = (&reactors.handles()[0], effort().1);
    let mut table = Table::new();
    table.set_header(["what", "workload", "cycles per IO", "M IO/s", "GiB/s", "GHz", "rounds kept"]);
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    for case in cases().into_iter().filter(|case| wanted.as_ref().is_none_or(|part| case.name.contains(part)))
    {
        let samples = sample(first, rounds, || round(&bdevs, reactors.handles(), &case));
        let what = format!("{} {} qd {}", case.workload.name(), case.io_bytes, case.queue_depth);
        table.add_row(row(case.name, &what, case.io_bytes, &samples));
    }
    for io_bytes in [4096, 128 << 10] {
        for (what, into_memory) in [("read", false), ("write", true)] {
            let samples = sample(first, rounds, || bare_copy(first, io_bytes, into_memory));
            table.add_row(row(
                "bare copy, 512 MiB",
                &format!("{what} {io_bytes}"),
                io_bytes as u32,
                &samples,
            ));
        }
    }
    println!("{table}");
    println!("median (smallest..largest) of the rounds kept; {:?} per round", effort().0);
    assert!(reactors.stop().is_empty(), "a reactor did not stop");
}
