//! What one 4 KiB IO costs in the engines: nanoseconds and heap allocations, with 1, 2 and 3 legs.
//!
//! `cargo bench -p perf-engine --bench cost [-- --quick]`. Client and stores in one thread, messages handed over as
//! they are (not encoded), disks done at once, a tick of every engine each virtual 10 ms at 100,000 IOPS. Blocks are
//! drawn at random from 256 MiB whose 16 intent entries are live; so this is the cost without the intent log.

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use perf_engine::{Pattern, Rig, Shape, US};
use rmr_proto::{IoOp, MemberId};
use std::time::Instant;

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

const GIB: u64 = 1 << 30;
/// Blocks of the working set.
const BLOCKS: u64 = 65_536;
/// Virtual time between two requests.
const PACE_NS: u64 = 10 * US;

struct Case {
    op: IoOp,
    members: usize,
    lost: usize,
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (rounds, ios) = if quick { (3, 100_000) } else { (9, 300_000) };
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["IO", "members", "legs", "ns/IO: median (min..max)", "allocations/IO", "per million"]);
    for op in [IoOp::Write, IoOp::Read, IoOp::Flush] {
        for (members, lost) in [(1, 0), (2, 0), (3, 0), (3, 1)] {
            let case = Case { op, members, lost };
            table.add_row(row(&case, rounds, ios));
        }
    }
    println!("{table}");
}

fn row(case: &Case, rounds: usize, ios: u64) -> Vec<String> {
    let mut rig = Rig::new(Shape { members: case.members, device_bytes: GIB, disk_ns: 0 });
    for member in 0..case.lost {
        rig.lose(MemberId::at(case.members - 1 - member));
    }
    let mut pattern = Pattern::uniform(BLOCKS, 1);
    // Entries live, tables at their size.
    run(&mut rig, IoOp::Write, &mut pattern, 200_000);
    run(&mut rig, case.op, &mut pattern, 100_000);
    let (mut times, mut allocations) = (Vec::new(), 0);
    for _ in 0..rounds {
        let (before, began) = (test_alloc_counter::allocations(), Instant::now());
        run(&mut rig, case.op, &mut pattern, ios);
        times.push(began.elapsed().as_nanos() as f64 / ios as f64);
        allocations += test_alloc_counter::allocations() - before;
    }
    times.sort_by(f64::total_cmp);
    let all = rounds as u64 * ios;
    let time = format!("{:.0} ({:.0}..{:.0})", times[rounds / 2], times[0], times[rounds - 1]);
    let per_io = format!("{:.4}", allocations as f64 / all as f64);
    let per_million = format!("{:.0}", allocations as f64 * 1e6 / all as f64);
    vec![
        format!("{:?}", case.op),
        case.members.to_string(),
        rig.legs().to_string(),
        time,
        per_io,
        per_million,
    ]
}

/// # Panics
/// If a request fails.
fn run(rig: &mut Rig, op: IoOp, pattern: &mut Pattern, ios: u64) {
    rig.reset_counts();
    for _ in 0..ios {
        let block = pattern.block();
        rig.advance(rig.now() + PACE_NS);
        rig.submit(op, block, 1);
    }
    let counts = rig.counts();
    assert_eq!((counts.done, counts.failed), (ios, 0));
}
