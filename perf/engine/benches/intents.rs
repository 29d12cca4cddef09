//! What the intent log costs: writes of metadata per write of data, by pattern, with all legs and with one lost.
//!
//! `cargo bench -p perf-engine --bench intents [-- --quick]`. Two or three members, a device of 1 TiB; 4 KiB writes at
//! 100,000 IOPS, at most 128 under way; every disk operation takes 50 µs, data and metadata alike. Counts are exact
//! and the same in each run. Per leg = sum over the legs divided by their number.

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use perf_engine::{MS, Pattern, Rig, Shape, US};
use rmr_proto::{IoOp, MemberId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const TIB: u64 = 1 << 40;
const PACE_NS: u64 = 10 * US;
const DEPTH: usize = 128;
/// A row ends here even if it has not made all its writes; how many it made stands in the table.
const LONGEST: Duration = Duration::from_secs(12);

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let writes = if quick { 200_000 } else { 1_000_000 };
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "pattern",
        "legs",
        "writes",
        "metadata writes per data write and leg",
        "bytes",
        "KiB of metadata per MiB of data",
        "own flushes",
        "live entries, most",
        "entries at the end",
        "GiB suspect after a power loss",
        "MiB suspect after a client crash",
        "marked regions",
        "wall ns/write",
    ]);
    for (members, lost) in [(2, 0), (3, 1)] {
        for name in ["sequential", "4 KiB random in 1 GiB", "4 KiB random in 1 TiB", "Zipf 0.99 in 1 TiB"] {
            let row = row(name, members, lost, writes);
            eprintln!("{}", row.join(" | "));
            table.add_row(row);
        }
    }
    println!("{table}");
}

fn pattern(name: &str) -> Pattern {
    match name {
        "sequential" => Pattern::sequential(TIB / 4096),
        "4 KiB random in 1 GiB" => Pattern::uniform((1 << 30) / 4096, 1),
        "4 KiB random in 1 TiB" => Pattern::uniform(TIB / 4096, 1),
        _ => Pattern::zipf(28, 1),
    }
}

fn row(name: &str, members: usize, lost: usize, writes: u64) -> Vec<String> {
    let mut rig = Rig::new(Shape { members, device_bytes: TIB, disk_ns: 50 * US });
    for member in 0..lost {
        rig.lose(MemberId::at(members - 1 - member));
    }
    let mut pattern = pattern(name);
    rig.reset_counts();
    let began = Instant::now();
    let mut written = 0;
    while written < writes && began.elapsed() < LONGEST {
        written += 1;
        let block = pattern.block();
        rig.advance(rig.now() + PACE_NS);
        rig.wait_below(DEPTH);
        rig.submit(IoOp::Write, block, 1);
    }
    rig.wait_below(1);
    let wall = began.elapsed().as_nanos() as f64 / written as f64;
    let (counts, legs) = (rig.counts(), rig.legs() as f64);
    assert_eq!((counts.done, counts.failed), (written, 0), "{name}");
    let (entries, marked) = (rig.entries(), rig.marked_regions());
    rig.advance(rig.now() + MS);
    // With many live entries an assembly may be more than a store can take: said in the table, not hidden.
    let changed = catch_unwind(AssertUnwindSafe(|| rig.change_client()));
    let suspect = changed
        .map_or("a store panicked".into(), |()| format!("{:.1}", rig.counts().suspect_chunks as f64 / 8.0));
    let per_write = |count: u64| count as f64 / legs / written as f64;
    vec![
        name.into(),
        format!("{legs} of {members}"),
        written.to_string(),
        format!("{:.5}", per_write(counts.meta_writes)),
        format!("{:.1}", per_write(counts.meta_bytes)),
        format!("{:.2}", per_write(counts.meta_bytes) / 4.0),
        format!("{:.0}", counts.flushes as f64 / legs),
        counts.entries_max.to_string(),
        entries.to_string(),
        format!("{:.2}", entries as f64 / 64.0),
        suspect,
        marked.to_string(),
        format!("{wall:.0}"),
    ]
}
