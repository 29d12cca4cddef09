//! A Linux guest in QEMU with a disk of ours. Skipped in one line where there are no guests.

#![allow(clippy::expect_used, missing_docs)]

mod process;

use std::path::Path;
use std::time::Duration;

use process::{DISK_BYTES, Target};
use test_vhost::front::until;
use test_vm::{Guest, Running};

const MEMORY_MIB: u32 = 512;

/// A guest whose `/dev/vda` is the target's disk.
fn guest(socket: &Path, device: &str) -> Option<Guest> {
    let guest = Guest::or_skip()?.memory(MEMORY_MIB).module("virtio_blk").module("ext4");
    let memory = format!("memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on");
    let chardev = format!("socket,id=c0,path={},reconnect=1", socket.display());
    let device = format!("vhost-user-blk-pci,chardev=c0,{device}");
    Some(guest.limit(Duration::from_secs(110)).qemu_args([
        "-object",
        &memory,
        "-numa",
        "node,memdev=mem",
        "-chardev",
        &chardev,
        "-device",
        &device,
    ]))
}

const USE: &str = r#"
set -e
cat /sys/block/vda/size /sys/block/vda/serial; echo
ls /sys/block/vda/mq | wc -l
dd if=/dev/urandom of=/run/data bs=1M count=4 2> /dev/null
dd if=/run/data of=/dev/vda bs=64k oflag=direct 2> /dev/null
dd if=/dev/vda bs=1M count=4 iflag=direct 2> /dev/null | cmp - /run/data && echo same
blkdiscard -z -o 0 -l 1048576 /dev/vda
dd if=/dev/vda bs=1M count=1 iflag=direct 2> /dev/null | tr -d '\0' | wc -c
blkdiscard /dev/vda && echo discarded
mkfs.ext4 -q /dev/vda
mount -t ext4 /dev/vda /mnt
cp /run/data /mnt/data && cp -r /etc/init.d /mnt/ && sync
umount /mnt
mount -t ext4 /dev/vda /mnt && cmp /mnt/data /run/data && umount /mnt
e2fsck -fn /dev/vda > /dev/null 2>&1 && echo clean
dmesg | grep -c 'I/O error' || true
"#;

const GROWS: &str = r#"
before=$(cat /sys/block/vda/size); touch /run/share/sized
n=0; until [ $(cat /sys/block/vda/size) != $before ]; do n=$((n + 1)); [ $n -lt 600 ]; sleep 0.1; done
cat /sys/block/vda/size
dd if=/dev/urandom of=/run/data bs=4k count=1 2> /dev/null
dd if=/run/data of=/dev/vda bs=4k seek=$((before / 8)) oflag=direct 2> /dev/null
dd if=/dev/vda bs=4k skip=$((before / 8)) count=1 iflag=direct 2> /dev/null | cmp - /run/data && echo same
"#;

/// Writes and reads back, round after round, until it is told to end.
const LOAD: &str = r#"
dd if=/dev/urandom of=/run/data bs=64k count=4 2> /dev/null
n=0
while [ ! -e /run/share/enough ]; do
    at=$((n % 64 * 64))
    dd if=/run/data of=/dev/vda bs=4k seek=$at oflag=direct 2> /dev/null || exit 91
    dd if=/dev/vda bs=4k skip=$at count=64 iflag=direct 2> /dev/null | cmp - /run/data || exit 92
    n=$((n + 1)); echo $n > /run/share/now; mv /run/share/now /run/share/rounds
done
if dmesg | grep 'I/O error'; then exit 93; fi
"#;

fn rounds(running: &Running) -> u32 {
    let text = std::fs::read_to_string(running.share().join("rounds")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// One boot for all of it: they are what takes the time.
fn is_used(device: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    // Looked for first, so that nothing is started where there are no guests.
    let Some(guest) = guest(&dir.path().join("c"), device) else { return };
    let mut target = Target::start(dir.path());
    until("it listens", || target.socket().exists().then_some(()));
    let mut running = guest.start(&format!("{USE}{GROWS}{LOAD}")).expect("a guest");
    running.wait_for("sized").expect("it gets there");
    target.grow(2 * DISK_BYTES);
    running.wait_for("rounds").expect("it gets there");
    for _ in 0..2 {
        let before = rounds(&running);
        target.kill();
        target.start_again();
        // QEMU tries once a second.
        until("the guest goes on", || (rounds(&running) > before + 2).then_some(()));
    }
    std::fs::write(running.share().join("enough"), "").expect("the share");
    let outcome = running.wait().expect("an outcome").expect_success();
    let said: Vec<&str> = outcome.stdout.split_whitespace().collect();
    let [sectors, grown] = [DISK_BYTES / 512, 2 * DISK_BYTES / 512].map(|sectors| sectors.to_string());
    let used = [&sectors, "D", "1", "same", "0", "discarded", "clean", "0"];
    assert_eq!(said[..used.len()], used, "{}", outcome.console);
    assert_eq!(said[used.len()..], [&grown, "same"], "{}", outcome.console);
}

#[test]
fn a_guest_uses_its_disk_sees_it_grow_and_does_not_notice_that_the_target_is_killed() {
    is_used("num-queues=2");
}

#[test]
fn so_does_a_guest_with_packed_rings() {
    is_used("num-queues=1,packed=on");
}
