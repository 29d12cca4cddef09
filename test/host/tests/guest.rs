//! `setup.sh` and the target under a real kernel, in a guest. Skipped in one line where there are none.

use std::time::Duration;

use test_e2e::places;
use test_host::root;
use test_vm::{Disk, Guest};

const MIB: u64 = 1 << 20;

/// Three controllers, known by their serial numbers: one free, one mounted, and one mounted only in a mount namespace
/// that no process is in: the kernel's own answer is then the only one that shows it.
const SETUP: &str = r#"
setup() { echo "$1:"; shift; env HUGEMEM=16 PCI_FORCE="$FORCE" "$@" 2>&1; echo "status $?"; }
by_serial() { for c in /sys/class/nvme/nvme*; do
    if [ "$(tr -d ' ' < $c/serial)" = "$1" ]; then basename "$c"; fi; done; }
bdf() { basename "$(readlink -f /sys/class/nvme/$1/device)"; }
until [ -b /dev/nvme0n1 ] && [ -b /dev/nvme1n1 ] && [ -b /dev/nvme2n1 ]; do sleep 0.1; done
FREE=$(by_serial FREE) MOUNTED=$(by_serial MOUNTED) PINNED=$(by_serial PINNED)
FREE_BDF=$(bdf $FREE) MOUNTED_BDF=$(bdf $MOUNTED) PINNED_BDF=$(bdf $PINNED)
printf payload | dd of=/dev/${FREE}n1 conv=fsync 2>/dev/null
for disk in $MOUNTED $PINNED; do /run/bed/busybox mke2fs /dev/${disk}n1 >/dev/null 2>&1 || exit 90; done
mkdir /run/pin /run/a && mount -t tmpfs none /run/pin && mount --make-private /run/pin && touch /run/pin/ns || exit 91
mount /dev/${MOUNTED}n1 /mnt || exit 92
unshare --mount=/run/pin/ns mount /dev/${PINNED}n1 /run/a || exit 93
FORCE=
setup status "$SETUP" status
setup config "$SETUP"
FORCE="$MOUNTED_BDF $PINNED_BDF"
setup forced "$SETUP"
ls /dev/nvme*n1 /dev/vfio
basename "$(readlink /sys/bus/pci/devices/$FREE_BDF/driver)"
setup reset "$SETUP" reset
tries=0
until [ -b /dev/${FREE}n1 ] || [ $tries = 100 ]; do sleep 0.1; tries=$((tries + 1)); done
head -c 7 /dev/${FREE}n1; echo
cat /proc/sys/vm/nr_hugepages
echo "names $FREE_BDF $MOUNTED_BDF $PINNED_BDF $FREE $MOUNTED $PINNED"
"#;

#[test]
fn setup_binds_a_free_controller_leaves_used_ones_and_brings_it_back() {
    let Some(guest) = Guest::or_skip() else { return };
    let disk = |serial: &str| Disk::nvme(16 * MIB).serial(serial);
    let guest = guest.iommu().module("nvme").module("ext4").module("vfio_iommu_type1");
    let guest = guest.disk(disk("FREE")).disk(disk("MOUNTED")).disk(disk("PINNED"));
    let script = root().join("scripts/setup.sh");
    let command = format!("SETUP={}\n{SETUP}", script.display());
    let out = guest.run(&command).expect("an outcome").expect_success().stdout;
    let names = out.lines().last().and_then(|line| line.strip_prefix("names ")).expect("the last line");
    let names: Vec<&str> = names.split(' ').collect();
    let [free, mounted, pinned, free_name, mounted_name, pinned_name] = names[..] else { panic!("{out}") };
    let part = |from: &str, to: &str| -> String {
        let start = out.find(&format!("{from}:\n")).unwrap_or_else(|| panic!("no {from}: {out}"));
        let end = out[start..].find(to).unwrap_or_else(|| panic!("no {to} after {from}: {out}"));
        out[start..start + end].to_owned()
    };
    let config = part("config", "forced:");
    assert!(config.contains(&format!("{free}: bound to vfio-pci (was: nvme)")), "{out}");
    assert!(config.contains(&format!("{mounted}: left alone: {mounted_name}n1 is mounted on /mnt")), "{out}");
    assert!(
        config.contains(&format!("{pinned}: left alone: {pinned_name}n1 holds ext2; PCI_FORCE")),
        "{out}"
    );
    assert!(config.contains("raised to 8 of 2048 KiB") && config.contains("status 0"), "{out}");
    let forced = part("forced", "reset:");
    assert!(forced.contains(&format!("{free}: left alone: bound to vfio-pci")), "{out}");
    assert!(forced.contains(&format!("{mounted}: left alone: {mounted_name}n1 is mounted on /mnt")), "{out}");
    let held =
        format!("{pinned}: left alone: {pinned_name}n1 is held by the kernel: Device or resource busy");
    assert!(forced.contains(&held), "{out}");
    assert!(!forced.contains(&format!("/dev/{free_name}n1")), "it is gone from /dev: {out}");
    assert!(forced.contains(&format!("/dev/{mounted_name}n1")), "the mounted one is not: {out}");
    assert!(forced.ends_with("vfio-pci\n"), "{out}");
    let reset = part("reset", "names ");
    assert!(reset.contains(&format!("{free}: given back to nvme")) && reset.contains("status 0"), "{out}");
    assert!(reset.contains("\npayload\n"), "its data is as it was: {out}");
    assert!(reset.ends_with("\n8\n"), "hugepages stay: {out}");
}

#[test]
fn the_target_runs_in_a_guest_and_answers() {
    let Some(guest) = Guest::or_skip() else { return };
    let (Some(target), Some(client)) = (places::target(), places::rmr_rpc()) else { return };
    let config = root().join("config/two-bdevs.json");
    let command = format!(
        "{target} -m 0x1 -c {config} -r /run/rpc.sock 2> /run/share/log & pid=$!\n\
         rpc() {{ {client} -s /run/rpc.sock --json \"$@\"; }}\n\
         rpc wait && rpc bdev_get_bdevs --name Malloc0 && kill -TERM $pid && wait $pid",
        target = target.display(),
        client = client.display(),
        config = config.display(),
    );
    let outcome = guest.memory(768).limit(Duration::from_secs(180)).run(&command).expect("an outcome");
    let log = std::fs::read_to_string(outcome.share().join("log")).expect("the target's log");
    assert_eq!(outcome.status, 0, "{outcome:?}\n{log}");
    assert!(outcome.stdout.contains("\"Malloc0\"") && outcome.stdout.contains("16384"), "{}", outcome.stdout);
    assert!(log.contains("SIGTERM: stopping"), "{log}");
}

/// The unit as it is, but for where its binary is: /home, where a checkout may be, is hidden from it.
const UNIT: &str = r#"
mkdir -p /run/t /run/systemd/system/rmr_tgt.service.d && cp $TARGET $CLIENT $CONFIG /run/t || exit 90
sed "s|/usr/bin/rmr_tgt|/run/t/rmr_tgt|" $UNIT > /run/systemd/system/rmr_tgt.service
printf '[Service]\nWatchdogSec=5\n' > /run/systemd/system/rmr_tgt.service.d/sooner.conf
echo 'RMR_TGT_ARGS="-m 0x1 -c /run/t/malloc.json"' > /etc/default/rmr_tgt
echo 128 > /proc/sys/vm/nr_hugepages
systemctl daemon-reload
start() { systemctl --job-mode=ignore-dependencies "$1" rmr_tgt; }
start start || { systemctl status --no-pager -l rmr_tgt; exit 91; }
systemctl show rmr_tgt -P StatusText
/run/t/rmr-rpc --json bdev_get_bdevs
/run/t/rmr-rpc --json rmr_get_memory
kill -STOP $(systemctl show rmr_tgt -P MainPID)
tries=0
until [ "$(systemctl show rmr_tgt -P NRestarts)" = 1 ] || [ $tries = 100 ]; do sleep 0.2; tries=$((tries + 1)); done
echo "restarts $(systemctl show rmr_tgt -P NRestarts)"
start stop
systemctl show rmr_tgt -p Result -p SubState
"#;

#[test]
fn under_systemd_in_its_sandbox_the_target_has_hugepages_and_is_started_again_when_it_hangs() {
    let Some(guest) = Guest::or_skip() else { return };
    let (Some(target), Some(client)) = (places::target(), places::rmr_rpc()) else { return };
    if !std::path::Path::new("/lib/systemd/systemd").exists() {
        return test_host::skip("no systemd");
    }
    let set = |name: &str, path: &std::path::Path| format!("{name}={}\n", path.display());
    let variables = [
        set("TARGET", &target),
        set("CLIENT", &client),
        set("CONFIG", &root().join("config/malloc.json")),
        set("UNIT", &root().join("scripts/rmr_tgt.service")),
    ];
    let command = format!("{}{UNIT}", variables.concat());
    let outcome = guest.memory(900).systemd().run(&command).expect("an outcome").expect_success();
    let out = &outcome.stdout;
    assert!(out.starts_with("rmr_tgt "), "its own status text comes first: {outcome:?}");
    assert!(out.contains("\"Malloc0\""), "{outcome:?}");
    let hugepages =
        out.split("\"hugepage_bytes\":").nth(1).and_then(|rest| rest.trim().split([',', '\n']).next());
    assert!(hugepages.is_some_and(|bytes| bytes.parse::<u64>().is_ok_and(|bytes| bytes > 0)), "{outcome:?}");
    assert!(out.contains("restarts 1\n"), "{outcome:?}");
    assert!(out.contains("SubState=dead"), "{outcome:?}");
}
