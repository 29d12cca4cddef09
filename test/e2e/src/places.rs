//! Where the programs are that the tests run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The root of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two folders below the root").to_owned()
}

/// The binary of the target.
pub fn target() -> Option<PathBuf> {
    binary("rmr_tgt", "RMR_TGT")
}

/// The native client.
pub fn rmr_rpc() -> Option<PathBuf> {
    binary("rmr-rpc", "RMR_RPC")
}

/// The load generator.
pub fn rmr_perf() -> Option<PathBuf> {
    binary("rmr-perf", "RMR_PERF")
}

/// The Python environment that holds SPDK's client.
pub fn venv() -> Option<PathBuf> {
    let folder = named("RMR_VENV").unwrap_or_else(|| root().join(".build/venv"));
    let there = folder.join("bin/spdk-rpc").is_file();
    or_skip(
        there.then_some(folder),
        "SPDK's client is not installed: `cargo xtask ci` makes it, or set RMR_VENV",
    )
}

/// Says why a test does nothing, in one line, when `what` is missing.
pub fn or_skip<T>(what: Option<T>, why: &str) -> Option<T> {
    if what.is_none() {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        tell(&format!("skipped: {name}: {why}"));
    }
    what
}

/// One line for whoever runs the tests: a figure, or what was skipped. Past libtest, which keeps to itself what a test
/// that passes prints.
pub fn tell(line: &str) {
    // Nobody who reads it, nobody who misses it.
    let _lost = writeln!(std::io::stderr(), "{line}");
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// The binary that the variable names, else the newest in the build folder.
fn binary(name: &str, variable: &str) -> Option<PathBuf> {
    let built = || {
        let candidates = ["release", "debug"].map(|profile| root().join(".build").join(profile).join(name));
        candidates.into_iter().filter_map(|path| Some((made(&path)?, path))).max().map(|(_, path)| path)
    };
    let why = format!("no {name}: build it with `cargo build -p {name}`, or set {variable}");
    or_skip(named(variable).or_else(built), &why)
}

fn made(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}
