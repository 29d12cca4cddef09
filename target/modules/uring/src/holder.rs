//! Who uses a file or block device, as far as the kernel tells: words for a refusal, and whether to ask again.

use std::fs;
use std::path::Path;

/// Who has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Somebody, in words for the operator.
    Known(String),
    /// Nobody that can be seen: a process that is ending, or one hidden from us.
    Unseen,
}

/// Major and minor number of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceNumber {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl DeviceNumber {
    pub(crate) fn of(dev: u64) -> DeviceNumber {
        DeviceNumber { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) }
    }

    fn sysfs(self) -> String {
        format!("/sys/dev/block/{self}")
    }
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Who keeps a block device from being opened exclusively.
pub(crate) fn of_device(device: DeviceNumber) -> Holder {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for number in std::iter::once(device).chain(partitions(device)) {
        let what = if number == device { String::new() } else { format!("its partition {number} is ") };
        if let Some(place) = mounted_at(&mounts, number) {
            return Holder::Known(format!("{what}mounted at {place}"));
        }
        if let Some(swap) = swap_on(&swaps, number) {
            return Holder::Known(format!("{what}swap space ({swap})"));
        }
        if let Some(names) = stacked_on(number) {
            return Holder::Known(format!("{what}part of {names}"));
        }
    }
    Holder::Unseen
}

/// Who holds the lock of a file, if a living process does.
pub(crate) fn of_lock(dev: u64, inode: u64) -> Holder {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let Some(pid) = lock_owner(&locks, DeviceNumber::of(dev), inode) else { return Holder::Unseen };
    // Our own: a bdev that was just deleted and whose ring lets go of it right now.
    if pid == std::process::id() {
        return Holder::Unseen;
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(living) {
        Some(name) => Holder::Known(format!("process {pid} ({name}) has locked it")),
        None => Holder::Unseen,
    }
}

/// The name in a process's `stat`; none of one that has ended and only waits for its parent to look (Z), or that is just
/// going (X).
fn living(stat: &str) -> Option<&str> {
    let (head, rest) = stat.rsplit_once(')')?;
    let ended = rest.trim_start().starts_with(['Z', 'X', 'x']);
    head.split_once('(').map(|(_, name)| name).filter(|_| !ended)
}

/// The loop device that stands on this file.
pub(crate) fn loop_on(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let on_it = |name: &String| {
        let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
        backing.is_ok_and(|backing| Path::new(backing.trim_end_matches('\n')) == path)
    };
    names_in("/sys/block").filter(|name| name.starts_with("loop")).find(on_it)
}

fn names_in(folder: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn partitions(device: DeviceNumber) -> impl Iterator<Item = DeviceNumber> {
    let folder = device.sysfs();
    names_in(&folder).filter_map(move |name| {
        let below = format!("{folder}/{name}");
        let is_partition = Path::new(&below).join("partition").exists();
        is_partition
            .then(|| fs::read_to_string(format!("{below}/dev")).ok())
            .flatten()
            .and_then(|text| number(text.trim()))
    })
}

fn number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// A line of mountinfo: id, parent, device, root, place, …
fn mounted_at(mounts: &str, device: DeviceNumber) -> Option<String> {
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.len() > 4 && number(fields[2]) == Some(device))?;
    Some(line[4].to_owned())
}

fn swap_on(swaps: &str, device: DeviceNumber) -> Option<String> {
    let mut names = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let is_it = |name: &&str| {
        let there = rustix::fs::stat(*name);
        there.is_ok_and(|stat| stat.st_rdev != 0 && DeviceNumber::of(stat.st_rdev) == device)
    };
    names.find(is_it).map(str::to_owned)
}

fn stacked_on(device: DeviceNumber) -> Option<String> {
    let names: Vec<String> = names_in(&format!("{}/holders", device.sysfs())).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// A line of /proc/locks: number, kind, mode, access, process, device:inode (device in hex), …
fn lock_owner(locks: &str, device: DeviceNumber, inode: u64) -> Option<u32> {
    let place = format!("{:02x}:{:02x}:{inode}", device.major, device.minor);
    let mut lines = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|fields| fields.len() > 5 && fields[1] == "FLOCK" && fields[5] == place)?;
    line[4].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DeviceNumber = DeviceNumber { major: 259, minor: 3 };

    #[test]
    fn a_process_that_has_ended_holds_nothing_for_long() {
        assert_eq!(living("77 (rmr_tgt) S 1 77 77 0"), Some("rmr_tgt"));
        assert_eq!(living("77 (a) b) R 1 77"), Some("a) b"));
        for stat in ["77 (rmr_tgt) Z 1 77 77 0", "77 (rmr_tgt) X 0 0", "", "77"] {
            assert_eq!(living(stat), None, "{stat:?}");
        }
    }

    #[test]
    fn mounts_and_locks_are_found_by_their_device() {
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      40 22 259:3 / /srv/data rw - xfs /dev/nvme0n1p1 rw\n";
        assert_eq!(mounted_at(mounts, DISK).as_deref(), Some("/srv/data"));
        assert_eq!(mounted_at(mounts, DeviceNumber { major: 259, minor: 4 }), None);
        let locks =
            "1: POSIX  ADVISORY  WRITE 10 103:03:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 103:03:77 0 EOF\n";
        assert_eq!(lock_owner(locks, DISK, 77), Some(4711));
        assert_eq!(lock_owner(locks, DISK, 78), None);
    }

    #[test]
    fn a_device_that_nobody_uses_has_no_known_holder() {
        assert_eq!(of_device(DeviceNumber { major: 4095, minor: 1 }), Holder::Unseen);
    }

    #[test]
    fn the_root_file_system_is_named() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let on_disk = mounts
            .lines()
            .filter_map(|line| number(line.split(' ').nth(2)?))
            .find(|device| device.major != 0);
        let Some(device) = on_disk else {
            println!("skipped: nothing is mounted from a block device here");
            return;
        };
        assert!(matches!(of_device(device), Holder::Known(text) if text.starts_with("mounted at /")));
    }
}
