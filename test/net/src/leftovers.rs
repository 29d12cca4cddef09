//! Names of namespaces, and what is left of runs that were killed.
//!
//! A name is `rmr-net-<pid>-<start>-<number>-<node>`: the process it belongs to, when that was started (process ids
//! come again), the net's number in that process, the node.

use std::fs;

use crate::Error;
use crate::tools::run;

const PREFIX: &str = "rmr-net-";
/// Where `ip netns` keeps them.
pub(crate) const FOLDER: &str = "/run/netns";

/// The beginning of the names of this process's net `number`.
pub(crate) fn own_prefix(number: u32) -> Result<String, Error> {
    let pid = std::process::id();
    let start = start_time(pid).ok_or_else(|| Error::System {
        what: format!("/proc/{pid}/stat has no start time"),
        source: std::io::ErrorKind::InvalidData.into(),
    })?;
    Ok(format!("{PREFIX}{pid}-{start}-{number}-"))
}

/// When a process was started, in ticks since boot; none if there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows begins with field 3, and this is field 22.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// Whether a namespace is ours, and its process is gone.
fn is_left_over(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('-');
    let mut number = || parts.next()?.parse::<u64>().ok();
    match (number(), number()) {
        (Some(pid), Some(start)) => u32::try_from(pid).ok().and_then(start_time) != Some(start),
        _ => false,
    }
}

/// Removes what killed runs have left.
pub(crate) fn remove() -> Result<(), Error> {
    names()?.iter().filter(|name| is_left_over(name)).try_for_each(|name| remove_one(name))
}

/// All namespaces of this machine that have a name.
pub(crate) fn names() -> Result<Vec<String>, Error> {
    match fs::read_dir(FOLDER) {
        Ok(entries) => {
            Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::system(FOLDER)(error)),
    }
}

/// Kills what runs in a namespace of ours, and removes it. It may be gone already: another process cleans up as well.
pub(crate) fn remove_one(name: &str) -> Result<(), Error> {
    let gone = |error: Error| {
        if fs::exists(format!("{FOLDER}/{name}")).unwrap_or(true) { Err(error) } else { Ok(()) }
    };
    let pids = match run("ip", &["netns", "pids", name], "") {
        Ok(pids) => pids,
        Err(error) => return gone(error),
    };
    for pid in pids.split_whitespace().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
        // A thread of this very process is in it only while `Node::run` runs.
        if pid.as_raw_nonzero().get().unsigned_abs() != std::process::id() {
            // It may have ended by itself.
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    run("ip", &["netns", "del", name], "").map(drop).or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_no_living_process_is_left_over() {
        let own = own_prefix(0).expect("a prefix");
        let pid = std::process::id();
        assert!(!is_left_over(&format!("{own}a")));
        assert!(is_left_over(&format!("{PREFIX}{pid}-1-0-a")), "an earlier process with the same id");
        assert!(is_left_over(&format!("{PREFIX}4294967295-5-0-a")));
        for other in ["other", "rmr-net-", "rmr-net-x-y-0-a", "docker-12-13-a"] {
            assert!(!is_left_over(other), "{other}");
        }
    }
}
