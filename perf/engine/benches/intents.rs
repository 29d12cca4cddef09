//! What the intent log costs: writes of metadata per write of data, by pattern, with all legs and with one lost.
//!
//! `cargo bench -p perf-engine --bench intents [-- --quick]`. Two or three members, a device of 1 TiB; 4 KiB writes at
//! 100,000 IOPS, at most 128 under way; every disk operation takes 50 µs, data and metadata alike. Counts are exact
//! and the same in each run. Per leg = sum over the legs divided by their number.

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use perf_engine::{MS, Pattern, Rig, Shape, US};
use rmr_proto::{IoOp, MemberId};
use std::time::Instant;

const TIB: u64 = 1 << 40;
const PACE_NS: u64 = 10 * US;
const DEPTH: usize = 128;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let writes = if quick { 200_000 } else { 2_000_000 };
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
    for (members, lost) in [(2, 0), (3, 0), (3, 1)] {
        for name in ["sequential", "4 KiB random in 1 GiB", "4 KiB random in 1 TiB", "Zipf 0.99 in 1 TiB"] {
            let row = std::panic::catch_unwind(|| row(name, members, lost, writes));
            table.add_row(
                row.unwrap_or_else(|_| vec![name.into(), format!("{members}-{lost}"), "panicked".into()]),
            );
            eprintln!("{name}, {members} members, {lost} lost: done");
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
    for _ in 0..writes {
        let block = pattern.block();
        rig.advance(rig.now() + PACE_NS);
        rig.wait_below(DEPTH);
        rig.submit(IoOp::Write, block, 1);
    }
    rig.wait_below(1);
    let wall = began.elapsed().as_nanos() as f64 / writes as f64;
    let (counts, legs) = (rig.counts(), rig.legs() as f64);
    assert_eq!((counts.done, counts.failed), (writes, 0), "{name}");
    let (entries, marked) = (rig.entries(), rig.marked_regions());
    rig.advance(rig.now() + MS);
    rig.change_client();
    let suspect = rig.counts().suspect_chunks;
    let per_write = |count: u64| count as f64 / legs / writes as f64;
    vec![
        name.into(),
        format!("{} of {members}", rig.legs()),
        writes.to_string(),
        format!("{:.5}", per_write(counts.meta_writes)),
        format!("{:.1}", per_write(counts.meta_bytes)),
        format!("{:.2}", per_write(counts.meta_bytes) / 4.0),
        format!("{:.0}", counts.flushes as f64 / legs),
        counts.entries_max.to_string(),
        entries.to_string(),
        format!("{:.2}", entries as f64 / 64.0),
        format!("{:.1}", suspect as f64 / 8.0),
        marked.to_string(),
        format!("{wall:.0}"),
    ]
}
