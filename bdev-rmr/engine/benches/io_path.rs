//! Nanoseconds of engine per 4 KiB IO, both sides, without any IO: `cargo bench -p rmr-engine`.

#[path = "../tests/common/mod.rs"]
mod common;

use common::Direct;
use rmr_proto::IoOp;
use std::time::Instant;

const ROUNDS: u64 = 200_000;

fn main() {
    println!("ns per 4 KiB IO, client and all stores together, median of 5 runs of {ROUNDS}");
    for legs in 1..=3 {
        let mut pool = Direct::new(legs);
        for (name, op) in [("write", IoOp::Write), ("read", IoOp::Read)] {
            let mut runs: Vec<f64> = (0..5).map(|_| run(&mut pool, op)).collect();
            runs.sort_by(f64::total_cmp);
            println!("{legs} legs, {name}: {:.0} ns", runs[2]);
        }
    }
}

fn run(pool: &mut Direct, op: IoOp) -> f64 {
    let start = Instant::now();
    for n in 0..ROUNDS {
        pool.io(op, n * 7919 % 65_536);
    }
    start.elapsed().as_nanos() as f64 / ROUNDS as f64
}
