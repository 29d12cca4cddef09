//! `docs/300-administrators-guide.md`: its commands are run as they stand there, and the tests that it names are there.

#![allow(clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_e2e::calls::loopback_of;
use test_e2e::places::{rmr_rpc, root, target};

/// Some forty starts of processes and as many waits.
const BOUND: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(50);
/// Whatever happens, no process of the page is left.
const HEAD: &str = "set -eu\ntrap 'kill -9 $(jobs -p) 2>/dev/null || :' EXIT\n";

fn page() -> String {
    fs::read_to_string(root().join("docs/300-administrators-guide.md")).expect("the page")
}

/// All blocks of the shell, one after the other, each with the heading it stands under.
fn blocks(page: &str) -> Vec<(String, String)> {
    let (mut heading, mut block, mut found) = (String::new(), None::<String>, Vec::new());
    for line in page.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (Some(_), "```") => found.push((heading.clone(), block.take().expect("just seen"))),
            (Some(text), line) => *text += &format!("{line}\n"),
            (None, line) if line.starts_with("## ") => heading = line[3..].to_owned(),
            _ => {}
        }
    }
    found
}

#[test]
fn every_step_of_the_administrators_guide_does_what_it_says() {
    let (Some(tgt), Some(rpc)) = (target(), rmr_rpc()) else { return };
    let dir = TempDir::new().expect("a folder");
    let steps = blocks(&page());
    for step in [
        "Create a pool",
        "Add a leg",
        "Lose a node",
        "Lose a disk",
        "Lose the client",
        "Take over on another host",
        "Planned maintenance",
        "Remove a leg",
        "Forget a member",
        "Start by force",
    ] {
        assert!(steps.iter().any(|(heading, _)| heading == step), "no commands under {step:?}");
    }
    let mut script = HEAD.to_owned();
    for (heading, block) in &steps {
        script += &format!("echo '=== {}' >&2\n{block}", heading.replace('\'', ""));
    }
    // Tests run at once: a folder and an address of its own.
    let ours = dir.path().join("guide");
    assert!(script.contains("/tmp/guide") && script.contains("127.0.0.1"));
    let script = script.replace("/tmp/guide", ours.to_str().expect("a path"));
    let script = script.replace("127.0.0.1", &loopback_of(dir.path()).to_string());
    let programs = dir.path().join("bin");
    fs::create_dir(&programs).expect("a folder");
    for (name, program) in [("rmr_tgt", tgt), ("rmr-rpc", rpc)] {
        std::os::unix::fs::symlink(program.canonicalize().expect("it is there"), programs.join(name))
            .expect("a link");
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a path"));
    run(dir.path(), &script, &path);
    assert!(!ours.exists(), "the last step removes it");
}

/// Runs the script; what it said is in the panic if it fails.
fn run(dir: &Path, script: &str, path: &str) {
    let (file, said) = (dir.join("script"), dir.join("said"));
    fs::write(&file, script).expect("a file");
    let out = File::create(&said).expect("a file");
    let mut command = Command::new("bash");
    command.arg("-x").arg(&file).env("PATH", path).current_dir(dir).stdin(Stdio::null());
    command.stdout(out.try_clone().expect("the same file")).stderr(out);
    let mut shell = command.spawn().expect("a shell");
    let begun = Instant::now();
    let status = loop {
        match shell.try_wait().expect("our child") {
            Some(status) => break Some(status),
            None if begun.elapsed() > BOUND => {
                // The trap of the shell ends the others.
                let _asked = rustix::process::kill_process(
                    rustix::process::Pid::from_child(&shell),
                    rustix::process::Signal::TERM,
                );
                let _status = shell.wait();
                break None;
            }
            None => sleep(LOOK),
        }
    };
    let said = String::from_utf8_lossy(&fs::read(&said).expect("text")).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(60)..].join("\n");
    assert!(status.is_some_and(|status| status.success()), "{status:?} after {:?}\n{tail}", begun.elapsed());
}

/// Names of functions in the sources below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_the_guide_names_is_there() {
    let mut known = BTreeSet::new();
    for folder in ["test", "bdev-rmr", "bdev-brmr", "target"] {
        functions(&root().join(folder), &mut known);
    }
    let page = page();
    let table = page.split("## DRBD's test scenarios").nth(1).expect("the section");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 30, "{} rows", rows.len());
    for row in rows {
        let cell = row.split('|').nth(2).expect("two columns");
        let quoted = cell.split('`').skip(1).step_by(2);
        // Shorter ones are methods.
        let tests: Vec<&str> = quoted.filter(|name| name.split('_').count() > 3).collect();
        assert!(
            !tests.is_empty() || cell.contains("n/a: ") || cell.contains("missing"),
            "answered by nothing: {row}"
        );
        let gone: Vec<&&str> = tests.iter().filter(|name| !known.contains(**name)).collect();
        assert!(gone.is_empty(), "no such test: {gone:?}");
    }
}
