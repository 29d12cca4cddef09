//! What the benches share: the core's clock, whether its sibling is busy, medians, tables.
#![allow(dead_code, reason = "each bench uses its part")]

use std::hint::black_box;
use std::time::{Duration, Instant};
use tgt_reactor::Handle;

/// How fast the core runs right now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Clock, from a chain of multiplications that wait for one another.
    pub(crate) ghz: f64,
    /// Independent additions per nanosecond: falls by a third or more when the sibling core is busy.
    pub(crate) adds_per_ns: f64,
}

/// Steps of each measurement: some 5 ms.
const STEPS: u64 = 6_000_000;

/// Cycles of a 64-bit multiplication (3 on AMD Zen 1 to 5 and on Intel since Nehalem) and an exclusive or.
const STEP_CYCLES: f64 = 4.0;

impl Pace {
    /// Measures the calling thread's core.
    pub(crate) fn measure() -> Pace {
        let began = Instant::now();
        let (mut x, mask) = (black_box(3u64), black_box(0x9E37_79B9_7F4A_7C15u64));
        // Squaring with a changing operand: a chain that no compiler shortens.
        for _ in 0..STEPS {
            x = x.wrapping_mul(x) ^ mask;
        }
        black_box(x);
        let ghz = STEP_CYCLES * STEPS as f64 / began.elapsed().as_nanos() as f64;
        let (began, mut sums) = (Instant::now(), [black_box(1u64); 4]);
        let step = black_box(7u64);
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = black_box(sum.wrapping_add(step));
            }
        }
        black_box(sums);
        let adds_per_ns = 4.0 * STEPS as f64 / began.elapsed().as_nanos() as f64;
        Pace { ghz, adds_per_ns }
    }

    /// Measures a reactor's core.
    pub(crate) fn of(reactor: &Handle) -> Pace {
        reactor.call(|_| Pace::measure()).expect("the reactor answers")
    }
}

/// One measured value with the pace around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    pub(crate) ghz: f64,
    pub(crate) adds_per_ns: f64,
}

/// Measures `rounds` times, with the pace before and after each round.
pub(crate) fn sample(reactor: &Handle, rounds: usize, mut measure: impl FnMut() -> f64) -> Vec<Sample> {
    let round = |_| {
        let before = Pace::of(reactor);
        let value = measure();
        let after = Pace::of(reactor);
        let ghz = (before.ghz + after.ghz) / 2.0;
        Sample { value, ghz, adds_per_ns: before.adds_per_ns.min(after.adds_per_ns) }
    };
    (0..rounds).map(round).collect()
}

/// The rounds in which nothing disturbed the core, judged by the best pace seen: at least one.
pub(crate) fn undisturbed(samples: &[Sample]) -> Vec<Sample> {
    let best = |of: fn(&Sample) -> f64| samples.iter().map(of).fold(0.0, f64::max);
    let (adds, ghz) = (best(|s| s.adds_per_ns), best(|s| s.ghz));
    let quiet = |s: &&Sample| s.adds_per_ns > 0.85 * adds && s.ghz > 0.93 * ghz;
    let kept: Vec<Sample> = samples.iter().filter(quiet).copied().collect();
    if kept.is_empty() {
        // No round had both the best clock and a quiet sibling: the quietest has to do.
        let quietest = samples.iter().max_by(|a, b| a.adds_per_ns.total_cmp(&b.adds_per_ns));
        return quietest.into_iter().copied().collect();
    }
    kept
}

/// Median, smallest, largest.
pub(crate) fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// `median (min..max)` with `digits` after the point.
pub(crate) fn show(values: Vec<f64>, digits: usize) -> String {
    let (median, min, max) = spread(values);
    format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
}

/// Whether a short run was asked for: `cargo bench -p rmr-perf -- --quick`.
pub(crate) fn quick() -> bool {
    std::env::args().any(|arg| arg == "--quick")
}

/// Time per round and number of rounds.
pub(crate) fn effort() -> (Duration, usize) {
    if quick() { (Duration::from_millis(100), 3) } else { (Duration::from_millis(400), 9) }
}

/// Says on what the figures were taken.
pub(crate) fn print_setting() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown").to_owned();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "processor {model}, Linux {}, {} cores",
        kernel.trim(),
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    if let Some(advice) = tgt_env::memory::memory().advice() {
        println!("memory: {advice}");
    }
}
