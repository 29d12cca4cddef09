//! Test programs, several at once: many of them wait more than they compute.
//!
//! Cargo builds them and says where they are; each then runs in the folder of its package, as cargo would run it. What
//! one prints is shown when it has ended, whole.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::Error;
use crate::step::shown;
use crate::tool::Tool;

/// How many of the slowest are named at the end.
const SLOWEST: usize = 8;

/// One test program.
#[derive(Debug)]
pub(super) struct Program {
    /// Package and target, as `tgt-env (lib)`.
    name: String,
    path: PathBuf,
    dir: PathBuf,
    /// In `tests/`: these wait longest, and go first.
    long: bool,
}

/// A line that cargo prints with `--message-format json`. All others have no executable.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds what `cargo` (`cargo test` with its arguments) would run.
pub(super) fn build(cargo: Tool) -> Result<Vec<Program>, Error> {
    let lines = cargo.args(["--no-run", "--message-format", "json-render-diagnostics"]).run_captured()?;
    let mut programs: Vec<Program> =
        lines.lines().filter_map(|line| program(line).transpose()).collect::<Result<_, _>>()?;
    programs.sort_by_key(|program| !program.long);
    Ok(programs)
}

fn program(line: &str) -> Result<Option<Program>, Error> {
    let read: Artifact = serde_json::from_str(line).map_err(|why| Error::form("cargo test --no-run", why))?;
    let Artifact { executable: Some(path), manifest_path: Some(manifest), target: Some(target), profile } =
        read
    else {
        return Ok(None);
    };
    if !profile.is_some_and(|profile| profile.test) {
        return Ok(None);
    }
    let dir = manifest.parent().unwrap_or(Path::new("/")).to_owned();
    let package = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = target.kind.join(", ");
    let name = format!("{package}: {} ({kind})", target.name);
    Ok(Some(Program { name, path, dir, long: kind == "test" }))
}

/// How one ended.
struct Ended {
    name: String,
    status: ExitStatus,
    took: Duration,
}

/// Runs them, `at_once` at a time; `with` gives each its environment. All run, whatever fails.
pub(super) fn run(
    programs: Vec<Program>,
    at_once: usize,
    with: impl Fn(Tool) -> Tool + Sync,
) -> Result<(), Error> {
    let count = programs.len();
    println!("running {count} test programs, {at_once} at once");
    let (waiting, ended) = (Mutex::new(VecDeque::from(programs)), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = || -> Result<(), Error> {
        while let Some(program) = next() {
            let one = run_one(program, &with)?;
            ended.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        // A worker that panics is a bug of this program, and ends it.
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker"))
    })?;
    verdict(ended.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn run_one(program: Program, with: impl Fn(Tool) -> Tool) -> Result<Ended, Error> {
    let Program { name, path, dir, .. } = program;
    let begun = Instant::now();
    let tool = with(Tool::new(&path)).env("CARGO_MANIFEST_DIR", &dir).dir(&dir);
    let (status, out, said) = tool.outcome()?;
    let took = begun.elapsed();
    // In one call, so that no other's lines come between.
    print!("\n--- {name}, {}\n{said}{out}", shown(took));
    Ok(Ended { name, status, took })
}

fn verdict(mut ended: Vec<Ended>) -> Result<(), Error> {
    ended.sort_by_key(|one| std::cmp::Reverse(one.took));
    println!("\nthe slowest of {}:", ended.len());
    for one in ended.iter().take(SLOWEST) {
        println!("  {:>12}  {}", shown(one.took), one.name);
    }
    let failed = ended.iter().filter(|one| !one.status.success());
    crate::error::verdict(failed.map(|one| format!("{} ended with {}", one.name, one.status)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///p/a#0.1.0","manifest_path":"/p/a/Cargo.toml",
        "target":{"kind":["test"],"name":"b","src_path":"/p/a/tests/b.rs"},"profile":{"test":true},"executable":"/o/b-1"}"#;

    #[test]
    fn a_test_program_is_known_by_its_executable_and_profile() {
        let found = program(LINE).expect("a line of cargo").expect("a test");
        assert_eq!((found.name.as_str(), found.dir.as_path()), ("a: b (test)", Path::new("/p/a")));
        assert!(found.long && found.path == Path::new("/o/b-1"));
        assert!(program(&LINE.replace(r#""test":true"#, r#""test":false"#)).expect("a line").is_none());
        assert!(program(r#"{"reason":"build-finished","success":true}"#).expect("a line").is_none());
        assert!(program("nonsense").is_err());
    }

    #[test]
    fn all_run_and_one_that_fails_is_named() {
        let make =
            |path: &str| Program { name: path.into(), path: path.into(), dir: "/".into(), long: false };
        assert!(run(vec![make("true"), make("true"), make("true")], 2, |tool| tool).is_ok());
        let error = run(vec![make("false"), make("true")], 1, |tool| tool).expect_err("one failed");
        assert!(error.to_string().contains("false ended with"), "{error}");
    }
}
