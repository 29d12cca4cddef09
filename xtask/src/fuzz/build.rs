//! Building the fuzz targets without cargo-fuzz.

use std::path::PathBuf;

use toml::Value;

use crate::error::Error;
use crate::project::Project;
use crate::tool::{Tool, on_path};

/// The fuzz crate's folder, from the root.
pub(super) const CRATE: &str = "test/fuzz";

/// What cargo-fuzz passes: coverage counters and compared values for libFuzzer, and the address sanitizer; overflow
/// and `debug_assert!` are findings too.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "--cfg=fuzzing",
];

/// The names of the targets: the binaries the fuzz crate declares.
pub(super) fn targets(project: &Project) -> Result<Vec<String>, Error> {
    let manifest = format!("{CRATE}/Cargo.toml");
    let table = project.toml(&manifest)?;
    let bins = table.get("bin").and_then(Value::as_array).into_iter().flatten();
    let names = bins.filter_map(|bin| bin.get("name")?.as_str().map(str::to_owned));
    let names: Vec<String> = names.collect();
    if names.is_empty() { Err(Error::form(manifest, "declares no [[bin]]")) } else { Ok(names) }
}

/// Builds `targets` and returns the folder their binaries stand in.
pub(super) fn build(project: &Project, targets: &[String]) -> Result<PathBuf, Error> {
    if on_path("c++").is_none() {
        let remedy = "install g++ (Debian: apt-get install g++)".to_owned();
        return Err(Error::Missing { what: "a C++ compiler", why: "to build libFuzzer", remedy });
    }
    let host = host()?;
    // In a folder of its own: no other build uses these flags.
    let folder = project.build_dir()?.join("fuzz");
    let tool = Tool::cargo()
        .args(["build", "--release", "--locked"])
        // Naming the target keeps the flags away from build scripts and procedural macros.
        .args(["--target", &host])
        .dir(&project.root.join(CRATE))
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", FLAGS.join(" "))
        // The sanitizer's flag is unstable; this admits it on the stable toolchain.
        .env("RUSTC_BOOTSTRAP", "1");
    targets.iter().fold(tool, |tool, name| tool.args(["--bin", name])).run()?;
    Ok(folder.join(host).join("release"))
}

/// The triple of this machine, as rustc names it.
fn host() -> Result<String, Error> {
    let text = Tool::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").capture()?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Error::form("rustc -vV", "names no host"))
}
