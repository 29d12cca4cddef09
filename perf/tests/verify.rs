//! Checked load on a file, as processes: what the next one finds after `kill -9`, and what it says of a disk that lies.

#![allow(clippy::expect_used, missing_docs)]

mod run;

use run::{Ended, Running, first_core, perf_with};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tempfile::TempDir;

const BLOCK: usize = 4096;
const MIB: u64 = 1 << 20;

/// What a stamped block begins with (`perf/load/src/verify/stamp.rs`).
const STAMP: &[u8] = b"rmrperf1";

/// A file, the state file of the load on it, and the configuration that makes it the bdev `U`.
struct Disk {
    dir: TempDir,
    config: String,
}

impl Disk {
    fn new(bytes: u64) -> Disk {
        let dir = TempDir::new().expect("a folder");
        let file = dir.path().join("disk");
        fs::File::create(&file).and_then(|file| file.set_len(bytes)).expect("a file");
        let create = format!(
            r#"{{"method":"bdev_uring_create","params":{{"name":"U","filename":{file:?},"block_size":{BLOCK}}}}}"#
        );
        let config = format!(r#"{{"subsystems":[{{"subsystem":"bdev","config":[{create}]}}]}}"#);
        Disk { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn options(&self, more: &str) -> String {
        format!("-w verify -q 32 -o {BLOCK} --state {} {more}", self.path("state").display())
    }

    /// A load of so many IOs, to its end.
    fn load(&self, ios: u32) -> Ended {
        perf_with(&self.config, &first_core(), &self.options(&format!("--ios {ios} --json")))
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path("disk")).expect("the file")
    }
}

/// Moments: while it reads back what earlier runs wrote, and while it writes.
#[test]
fn a_load_killed_at_any_moment_finds_all_that_was_acknowledged_when_it_is_run_again() {
    let disk = Disk::new(8 * MIB);
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..5 {
        let ios = rng.u64(1..6000);
        let mut running = Running::start(&disk.config, &disk.options("-t 600"));
        println!("seed {seed}, round {round}: killed after {ios} IOs");
        running.wait_for_ios("U", ios);
        running.kill();
    }
    let stamped = disk.bytes().chunks(BLOCK).filter(|block| block.starts_with(STAMP)).count() as u64;
    let last = disk.load(1000);
    let json = last.json(0);
    assert_eq!(
        (json["total"]["errors"].as_u64(), json["total"].get("wrong")),
        (Some(0), None),
        "seed {seed}"
    );
    // What was written is read back twice, before and after its own load.
    assert!(json["total"]["ios"].as_u64() >= Some(1000 + 2 * stamped) && stamped > 0, "seed {seed}: {json}");
}

/// What a disk may do to what it was given.
type Lie = fn(now: &mut [u8], before: &[u8]);

/// Each place is written in every load: 64 places, 2,000 IOs, half of them writes.
#[test]
fn a_disk_that_went_back_in_time_or_was_damaged_between_two_runs_is_found_out_every_time() {
    let disk = Disk::new(64 * BLOCK as u64);
    disk.load(2000).json(0);
    let before = disk.bytes();
    disk.load(2000).json(0);
    let (now, state) = (disk.bytes(), fs::read(disk.path("state")).expect("the state file"));
    assert!(
        now.chunks(BLOCK).zip(before.chunks(BLOCK)).all(|(now, before)| now != before),
        "all were written"
    );
    let lies: [(&str, Lie, &str); 5] = [
        ("an older copy of all", |now, before| now.copy_from_slice(before), "holds write "),
        (
            "an older copy of one block",
            |now, before| now[7 * BLOCK..8 * BLOCK].copy_from_slice(&before[7 * BLOCK..8 * BLOCK]),
            "LBA 7 holds write ",
        ),
        ("one bit", |now, _| now[9 * BLOCK + 3000] ^= 4, "damaged"),
        ("zeroes", |now, _| now[11 * BLOCK..12 * BLOCK].fill(0), "LBA 11 holds zeroes"),
        ("another place's block", |now, _| now.copy_within(13 * BLOCK..14 * BLOCK, 12 * BLOCK), "of LBA 13"),
    ];
    for (lie, tell, says) in lies {
        let mut bytes = now.clone();
        tell(&mut bytes, &before);
        let file = fs::File::options().write(true).open(disk.path("disk")).expect("the file");
        file.write_all_at(&bytes, 0).expect("written");
        fs::write(disk.path("state"), &state).expect("written");
        // A finding is not forgotten by having been told.
        for _ in 0..2 {
            let json = disk.load(2000).json(1);
            let wrong = json["total"]["wrong"].as_str().unwrap_or_default();
            assert!(wrong.contains(says) && wrong.contains("acknowledged"), "{lie}: {json}");
        }
    }
    fs::write(disk.path("disk"), &now).expect("written");
    fs::write(disk.path("state"), &state).expect("written");
    disk.load(2000).json(0);
}
