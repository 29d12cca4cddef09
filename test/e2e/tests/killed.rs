//! A process that is killed with writes under way: who gets its file next, and when.

#![allow(clippy::expect_used, missing_docs)]

use rmr_rpc::{Client, Error};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use test_e2e::target::Target;
use test_e2e::{PATIENCE, places};

const BYTES: u64 = 8 << 20;

/// A load generator that writes to `file`; killed when dropped.
struct Writer(Child);

impl Writer {
    fn start(program: &Path, dir: &Path, file: &Path) -> Writer {
        let create = json!({"method": "bdev_uring_create", "params": {"name": "U", "filename": file, "block_size": 4096}});
        let config = json!({"subsystems": [{"subsystem": "bdev", "config": [create]}]});
        let path = dir.join("writer.json");
        fs::write(&path, config.to_string()).expect("a file");
        let mut command = Command::new(program);
        command.args([
            "bdev",
            "--disable-cpumask-locks",
            "-q",
            "128",
            "-o",
            "4096",
            "-w",
            "randwrite",
            "-t",
            "60",
            "-c",
        ]);
        command.arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Writer(command.spawn().expect("the load generator"))
    }

    fn kill(mut self) {
        self.0.kill().expect("our child");
        self.0.wait().expect("our child");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn create(client: &mut Client, file: &Path) -> Result<(), String> {
    let params = json!({"name": "U", "filename": file, "block_size": 4096});
    match client.call("bdev_uring_create", Some(&params)) {
        Ok(_) => Ok(()),
        Err(Error::Refused { refusal, .. }) => Err(refusal.message),
        Err(other) => panic!("{other}"),
    }
}

/// Waits until the file has data, and so its writer the file.
fn wait_for_writes(file: &Path) {
    let since = Instant::now();
    while fs::read(file).expect("the file").iter().all(|byte| *byte == 0) {
        assert!(since.elapsed() < PATIENCE, "nothing is written");
    }
}

/// The lock belongs to the open file, which the kernel keeps until the last write under way has ended: whoever has the
/// file next sees it change no more.
#[test]
fn the_file_of_a_killed_writer_is_had_at_once_and_changes_no_more() {
    let (Some(program), Some(mut target)) = (places::rmr_perf(), Target::start(&[])) else { return };
    target.wait_ready();
    let mut client = target.client();
    for round in 0..3 {
        let file = target.dir().join(format!("disk{round}"));
        fs::File::create(&file).and_then(|file| file.set_len(BYTES)).expect("a file");
        let writer = Writer::start(&program, target.dir(), &file);
        wait_for_writes(&file);
        let refusal = create(&mut client, &file).expect_err("the writer has it");
        assert!(refusal.contains(&format!("process {}", writer.0.id())), "{refusal}");
        writer.kill();
        assert_eq!(create(&mut client, &file), Ok(()), "round {round}");
        let now = fs::read(&file).expect("the file");
        for _ in 0..5 {
            assert!(fs::read(&file).expect("the file") == now, "a dead process writes: round {round}");
        }
        client.call("bdev_uring_delete", Some(&json!({"name": "U"}))).expect("deleted");
    }
}

/// A target that is killed leaves its bdevs' files to the next one.
#[test]
fn a_target_that_is_killed_and_started_again_has_its_files() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("disk");
    fs::File::create(&file).and_then(|file| file.set_len(BYTES)).expect("a file");
    assert_eq!(create(&mut target.client(), &file), Ok(()));
    drop(target);
    let Some(mut again) = Target::start(&[]) else { return };
    again.wait_ready();
    assert_eq!(create(&mut again.client(), &file), Ok(()));
}
