//! The systemd unit and the Debian package. Skipped in one line without systemd's and Debian's tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use test_host::{Machine, root, skip};

/// What the package installs, beyond folders, examples and man pages.
const FILES: &[(&str, &str)] = &[
    ("-rwxr-xr-x", "usr/bin/rmr_tgt"),
    ("-rwxr-xr-x", "usr/bin/rmr-rpc"),
    ("-rwxr-xr-x", "usr/bin/rmr-perf"),
    ("-rwxr-xr-x", "usr/lib/rmr_tgt/setup.sh"),
    ("-rw-r--r--", "usr/lib/systemd/system/rmr_tgt.service"),
    ("-rw-r--r--", "etc/default/rmr_tgt"),
    ("-rw-r--r--", "usr/share/doc/rmr-tgt/README.md"),
    ("-rw-r--r--", "usr/share/doc/rmr-tgt/copyright"),
];

/// Directives that hide what the target needs: hugepages, /dev/vfio, disks, the socket in /var/tmp.
const BREAKING: &[&str] = &[
    "PrivateDevices",
    "DevicePolicy",
    "DeviceAllow",
    "ProtectClock",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
];

fn unit() -> String {
    fs::read_to_string(root().join("scripts/rmr_tgt.service")).expect("the unit")
}

/// The unit's directives; comments are none.
fn directives(unit: &str) -> Vec<(&str, &str)> {
    unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn the_unit_sets_nothing_that_hides_memory_or_devices() {
    let unit = unit();
    let directives = directives(&unit);
    for name in BREAKING {
        assert!(directives.iter().all(|(set, _)| set != name), "{name}");
    }
    for wanted in [("Type", "notify"), ("WatchdogSec", "30"), ("LimitMEMLOCK", "infinity")] {
        assert!(directives.contains(&wanted), "{wanted:?}");
    }
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    if !Machine::has_program("systemd-analyze") {
        return skip("no systemd-analyze");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("rmr_tgt.service");
    // The binary need not be installed, nor the package's files.
    let unit = unit().replace("/usr/bin/rmr_tgt ", "/bin/true ").replace("Documentation=", "#Documentation=");
    fs::write(&path, unit).expect("a copy");
    let said =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().expect("it starts");
    let text = String::from_utf8_lossy(&said.stderr);
    // Other units of this machine may have faults of their own.
    let ours: Vec<&str> = text.lines().filter(|line| line.contains("rmr_tgt")).collect();
    assert!(ours.is_empty() && said.status.success(), "{}: {text}", said.status);
}

#[test]
fn the_package_holds_what_it_should_and_nothing_else() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let there =
        Command::new(&cargo).args(["deb", "--version"]).output().is_ok_and(|said| said.status.success());
    if !there || !Machine::has_program("dpkg-deb") || !Machine::has_program("dpkg-shlibdeps") {
        return skip("no cargo-deb, or no dpkg (`cargo install cargo-deb`, `apt-get install dpkg-dev`)");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let release = dir.path().join("release");
    fs::create_dir(&release).expect("a folder");
    // Any programs will do: the list is under test, not the build.
    for name in ["rmr_tgt", "rmr-rpc", "rmr-perf"] {
        fs::copy("/bin/true", release.join(name)).expect("a program");
    }
    let deb = dir.path().join("rmr-tgt.deb");
    let mut make = Command::new("timeout");
    make.arg("120")
        .arg(&cargo)
        .args(["deb", "--package", "rmr_tgt", "--no-build", "--no-strip", "--output"])
        .arg(&deb);
    let made = make.current_dir(root()).env("CARGO_TARGET_DIR", dir.path()).output().expect("it starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(files(&deb), expected());
}

/// Modes and names of the files in a package.
fn files(deb: &Path) -> BTreeSet<(String, String)> {
    let list = Command::new("dpkg-deb").arg("--contents").arg(deb).output().expect("it starts");
    let list = String::from_utf8(list.stdout).expect("text");
    let words = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let files = words.filter(|words| !words[0].starts_with('d'));
    let named = files.map(|words| (words[0].to_owned(), words[5].trim_start_matches("./").to_owned()));
    named.collect()
}

fn expected() -> BTreeSet<(String, String)> {
    let owned = |(mode, name): &(&str, &str)| (mode.to_string(), name.to_string());
    let mut expected: BTreeSet<_> = FILES.iter().map(owned).collect();
    let mut add = |folder: &str, end: &str, place: &str, more: &str| {
        let entries = fs::read_dir(root().join(folder)).expect("the folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        for name in names.filter(|name| name.ends_with(end)) {
            expected.insert(("-rw-r--r--".to_owned(), format!("{place}/{name}{more}")));
        }
    };
    add("config", ".json", "usr/share/doc/rmr-tgt/examples", "");
    add("config/pool", ".json", "usr/share/doc/rmr-tgt/examples/pool", "");
    add("docs/man", ".1", "usr/share/man/man1", ".gz");
    add("docs/man", ".8", "usr/share/man/man8", ".gz");
    expected
}
