//! What a server executed, written down so that it outlives the server's process.

use super::Log;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Time of all processes of this machine.
pub(crate) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Writes down tags and times. What was written outlives the process that is killed right after.
pub(crate) struct Recorder(File);

impl Recorder {
    pub(crate) fn new(at: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(at).expect("a file"))
    }

    pub(crate) fn executed(&mut self, tag: u64) {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&tag.to_le_bytes());
        entry[8..].copy_from_slice(&now_ns().to_le_bytes());
        assert_eq!(self.0.write(&entry).expect("room on the disk"), 16, "an entry is written whole");
    }
}

/// Compares what all servers executed with what their client was told: each at most once, and what was answered exactly
/// once, and nothing of a failed life after the next was told to be up. Returns how many were executed after the client's session was told to be dead, and failed.
pub(crate) fn check(at: &Path, log: &Log) -> usize {
    let bytes = std::fs::read(at).expect("what was written down");
    let mut executed = HashMap::new();
    for entry in bytes.chunks_exact(16) {
        let word = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
        let tag = word(0);
        assert!(executed.insert(tag, word(8)).is_none(), "{tag} was executed twice");
        assert!(log.done_tags.contains(&tag) || log.failed_tags.contains(&tag), "{tag} was never asked for");
    }
    assert!(log.done_tags.is_disjoint(&log.failed_tags), "a request ended twice");
    let lost = log.done_tags.iter().find(|tag| !executed.contains_key(tag));
    assert_eq!(lost, None, "answered, but not executed");
    let after = |tag: &&u64| {
        executed.get(tag).zip(log.begun_ns).is_some_and(|(at, begun)| log.died_ns.is_some() && *at > begun)
    };
    assert_eq!(log.failed_tags.iter().find(after), None, "executed when the next life was up");
    let late = |tag: &&u64| executed.get(tag).zip(log.died_ns).is_some_and(|(at, died)| *at > died);
    log.failed_tags.iter().filter(late).count()
}
