//! The uring bdev on real block devices, under a kernel of its own: whose device it refuses, and what it says when one
//! fails, lies, or goes away. Skipped in one line where there are no guests.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::Value;
use std::time::Duration;
use test_e2e::places;
use test_vm::{Disk, Error, Guest, Outcome, tell_skipped};

const MIB: u64 = 1 << 20;

/// What the commands below have in common. `U` is a uring bdev on the device `$1`.
const COMMON: &str = r#"
rpc() { $RPC -s /run/rpc.sock --json "$@"; }
config() { printf '{"subsystems":[{"subsystem":"bdev","config":[{"method":"bdev_uring_create","params":{"name":"U","filename":"%s","block_size":4096}}]}]}' $1 > /run/cfg.json; }
LOAD="$PERF bdev -c /run/cfg.json -m 0x1 -w verify -q 16 -o 4096"
tries() { # a command that comes true within a minute
    n=0; until "$@"; do n=$((n + 1)); [ $n -lt 600 ] || { echo "never: $*"; exit 99; }; sleep 0.1; done; }
count() { rpc bdev_get_iostat --name U 2>/dev/null | tr -d ' \n' | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
more() { now=$(count $1); [ "${now:-0}" -gt $2 ]; }
"#;

/// A guest with these disks, and its command; none where it cannot be had.
struct Bed {
    guest: Guest,
    head: String,
}

impl Bed {
    fn new(disks: &[u64], modules: &[&str], tools: &[&str]) -> Option<Bed> {
        let guest = Guest::or_skip()?.memory(768).limit(Duration::from_secs(180)).module("virtio_blk");
        let (target, perf, rpc) = (places::target()?, places::rmr_perf()?, places::rmr_rpc()?);
        let there = |tool: &&&str| {
            ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
                .iter()
                .any(|dir| std::path::Path::new(dir).join(tool).is_file())
        };
        if let Some(tool) = tools.iter().find(|tool| !there(tool)) {
            let (what, remedy) = (format!("no {tool}"), "apt-get install dmsetup util-linux".to_owned());
            tell_skipped(&Error::Missing { what, remedy });
            return None;
        }
        let guest = modules.iter().fold(guest, |guest, module| guest.module(module));
        let guest = disks.iter().fold(guest, |guest, bytes| guest.disk(Disk::virtio(*bytes)));
        let head =
            format!("TARGET={}\nPERF={}\nRPC={}\n{COMMON}", target.display(), perf.display(), rpc.display());
        Some(Bed { guest, head })
    }

    fn run(&self, command: &str) -> Outcome {
        self.guest.run(&format!("{}{command}", self.head)).expect("an outcome")
    }
}

/// What was said between the lines `== name` and the next one of its kind.
fn part<'a>(out: &'a str, name: &str) -> &'a str {
    let mut parts = out.split("== ").filter_map(|part| part.split_once('\n'));
    parts.find(|(head, _)| *head == name).unwrap_or_else(|| panic!("no {name}: {out}")).1
}

/// The result of a load: its one line of JSON, and its exit code.
fn result(out: &str, name: &str) -> (Value, String) {
    let part = part(out, name);
    let line = part
        .lines()
        .find(|line| line.starts_with('{'))
        .unwrap_or_else(|| panic!("no result of {name}: {out}"));
    let code = part.lines().find_map(|line| line.strip_prefix("status ")).unwrap_or_default().to_owned();
    (serde_json::from_str(line).expect("JSON"), code)
}

const IN_USE: &str = r#"
$TARGET -m 0x1 -r /run/rpc.sock 2> /run/share/log & pid=$!
tries rpc framework_wait_init > /dev/null 2>&1
try() { echo "== $1"; rpc bdev_uring_create --name U --filename $2 2>&1; echo "status $?"; }
/run/bed/busybox mke2fs /dev/vda > /dev/null 2>&1 && mount /dev/vda /mnt || exit 90
try mounted /dev/vda
umount /mnt
try free /dev/vda
echo "== ours"; mount /dev/vda /mnt 2>&1; echo "status $?"
rpc bdev_uring_delete --name U > /dev/null || exit 91
mkswap /dev/vdb > /dev/null 2>&1 && swapon /dev/vdb || exit 92
try swap /dev/vdb
dmsetup create held --table '0 2048 linear /dev/vdc 0' && dmsetup mknodes || exit 93
try dm /dev/vdc
blockdev --setro /dev/vdd || exit 94
try readonly /dev/vdd
echo "== aio"; rpc bdev_aio_create --name R --filename /dev/vdd --readonly true 2>&1; echo "status $?"
echo "== alive"; rpc bdev_get_bdevs; kill -TERM $pid; wait $pid; echo "status $?"
config /dev/vde
echo "== load"; $LOAD --ios 3000 --json; echo "status $?"
"#;

#[test]
fn a_device_in_use_is_refused_in_words_and_a_free_one_keeps_what_it_is_given() {
    let Some(bed) = Bed::new(&[8 * MIB; 5], &["ext4", "dm-mod"], &["dmsetup", "mkswap", "blockdev"]) else {
        return;
    };
    let out = bed.run(IN_USE).expect_success().stdout;
    for (name, says) in [
        ("mounted", "mounted at /mnt"),
        ("swap", "swap space (/dev/vdb)"),
        ("dm", "part of dm-0"),
        ("readonly", "read-only"),
    ] {
        let part = part(&out, name);
        assert!(part.contains(says) && !part.contains("status 0"), "{name}: {out}");
    }
    assert!(part(&out, "free").contains("status 0"), "it was the mount that kept it: {out}");
    assert!(!part(&out, "ours").contains("status 0"), "nobody mounts what a bdev stands on: {out}");
    assert!(part(&out, "aio").contains("status 0"), "{out}");
    let alive = part(&out, "alive");
    assert!(alive.contains("\"R\"") && !alive.contains("\"U\"") && alive.ends_with("status 0\n"), "{out}");
    let (json, code) = result(&out, "load");
    assert_eq!((code.as_str(), &json["total"]["errors"]), ("0", &0.into()), "{out}");
    assert!(json["total"]["ios"].as_u64() >= Some(3000), "{out}");
}

/// `U` stands on a dm-flakey that is good, then fails or drops writes, then is good again.
const FLAKEY: &str = r#"
table() { echo "0 16384 flakey /dev/vda 0 $1"; }
switch() { dmsetup suspend --noflush --nolockfs bad && dmsetup load bad --table "$(table "$1")" && dmsetup resume bad || exit 90; }
dmsetup create bad --table "$(table '60 0')" && dmsetup mknodes || exit 91
config /dev/mapper/bad
echo "== fails"
$LOAD -f -t 90 --json --state /run/state -r /run/rpc.sock > /run/result & pid=$!
tries more num_write_ops 200
switch '0 60 1 error_writes'
tries more nvme_error 20
switch '60 0'
writes=$(count num_write_ops)
tries more num_write_ops $((writes + 100))
rpc bdev_get_iostat --name U | tr -d ' \n' > /run/share/iostat
kill -INT $pid; wait $pid; echo "status $?"; cat /run/result
echo "== again"; $LOAD --ios 500 --json --state /run/state; echo "status $?"
switch '0 60 1 drop_writes'
echo "== drops"; $LOAD --ios 3000 --json --state /run/state; echo "status $?"
"#;

#[test]
fn a_device_that_fails_writes_is_told_and_trusted_again_and_one_that_drops_them_is_found_out() {
    let Some(bed) = Bed::new(&[8 * MIB], &["dm-flakey"], &["dmsetup"]) else { return };
    let outcome = bed.run(FLAKEY).expect_success();
    let out = &outcome.stdout;
    let (json, code) = result(out, "fails");
    let total = &json["total"];
    // Each failed write was told as failed: what it left behind is one of two, and no acknowledged write is missing.
    assert_eq!((code.as_str(), total.get("wrong"), &json["ended_early"]), ("1", None, &true.into()), "{out}");
    let first = json["bdevs"][0]["first_error"].as_str().expect("words");
    assert!(first.contains("write fault"), "{first}");
    let accounts = std::fs::read_to_string(outcome.share().join("iostat")).expect("the accounts");
    let failed = accounts.split("\"nvme_error\":").nth(1).and_then(|rest| rest.split(['}', ',']).next());
    assert_eq!(failed.and_then(|failed| failed.parse().ok()), total["errors"].as_u64(), "{accounts}\n{out}");
    let (json, code) = result(out, "again");
    assert_eq!((code.as_str(), &json["total"]["errors"]), ("0", &0.into()), "{out}");
    let (json, code) = result(out, "drops");
    let wrong = json["total"]["wrong"].as_str().unwrap_or_default();
    assert!(code == "1" && wrong.contains("the last acknowledged write was"), "{out}");
}

/// The disk goes while a checked load is on `U`; a memory bdev beside it is loaded by the same process.
const VANISHES: &str = r#"
config /dev/vda
sed -i 's|^{"subsystems":\[{"subsystem":"bdev","config":\[|&{"method":"bdev_malloc_create","params":{"name":"M","num_blocks":1024,"block_size":4096}},|' /run/cfg.json
of() { rpc bdev_get_iostat --name $1 2>/dev/null | tr -d ' \n' | sed -n "s/.*\"num_read_ops\":\([0-9]*\).*/\1/p"; }
reads() { now=$(of $1); [ "${now:-0}" -gt $2 ]; }
echo "== load"
$LOAD -f -t 90 --json -b U -b M -r /run/rpc.sock > /run/result & pid=$!
tries more num_write_ops 200
echo 1 > /sys/block/vda/device/../remove || exit 90
tries more nvme_error 100
before=$(of M); tries reads M $((before + 200))
kill -INT $pid; wait $pid; echo "status $?"; cat /run/result
echo "== gone"; $LOAD --ios 10 2>&1; echo "status $?"
"#;

#[test]
fn a_device_that_vanishes_fails_its_io_and_nobody_elses() {
    let Some(bed) = Bed::new(&[8 * MIB], &[], &[]) else { return };
    let out = bed.run(VANISHES).expect_success().stdout;
    let (json, code) = result(&out, "load");
    assert_eq!(
        (code.as_str(), json["total"].get("wrong"), &json["ended_early"]),
        ("1", None, &true.into()),
        "{out}"
    );
    let errors = |bdev: usize| json["bdevs"][bdev]["errors"].as_u64();
    assert!(errors(0) > Some(100) && errors(1) == Some(0), "{out}");
    let gone = part(&out, "gone");
    assert!(gone.contains("/dev/vda") && gone.contains("status 5"), "{out}");
}
