//! Boots guests. Each test is skipped in one line where there is no bed, and bounds itself by the guest's time limit.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use test_vm::{Disk, Error, Guest, tell_skipped};

/// The bound of every wait outside a guest.
const PATIENCE: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// A program of the host, at the same path in the guest.
const PROGRAM: &str = env!("CARGO_BIN_EXE_rmr-guest");

#[test]
fn what_a_command_says_and_how_it_ends_comes_back_and_the_host_is_not_written_to() {
    let Some(guest) = Guest::or_skip() else { return };
    let mark = std::env::temp_dir().join(format!("rmr-guest-mark-{}", std::process::id()));
    let mark = mark.display();
    let command = format!(
        "{PROGRAM} --help | head -1; echo to stderr >&2; touch {mark} && echo wrote; uname -r > {}/kernel; pwd; exit 7",
        test_vm::SHARE
    );
    let outcome = guest.run(&command).expect("an outcome");
    assert_eq!(outcome.status, 7);
    assert_eq!(
        outcome.stdout,
        "Run a command under a kernel of its own (QEMU without KVM; no root needed)\nwrote\n/root\n"
    );
    assert_eq!(outcome.stderr, "to stderr\n");
    assert!(!Path::new(&mark.to_string()).exists(), "the guest wrote to the host's root");
    let kernel = std::fs::read_to_string(outcome.share().join("kernel")).expect("the share");
    assert_eq!(kernel.trim(), test_vm::Bed::find().expect("a bed").release());
}

#[test]
fn a_disk_keeps_what_was_synced_when_the_power_is_cut_and_loses_the_rest_of_the_guest() {
    let Some(guest) = Guest::or_skip() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let image = dir.path().join("a,b.raw");
    std::fs::File::create(&image).and_then(|file| file.set_len(8 * MIB)).expect("an image");
    let guest = guest.module("nvme").module("virtio_blk").disk(Disk::nvme(0).file(&image).serial("KEPT"));
    let command = "printf synced | dd of=/dev/nvme0n1 conv=fsync; touch /run/share/synced; sleep 600";
    let mut running = guest.start(command).expect("a guest");
    running.wait_for("synced").expect("it gets there");
    running.cut_power();
    let guest = guest.disk(Disk::virtio(3 * MIB));
    let command =
        "head -c 6 /dev/nvme0n1; cat /sys/block/nvme0n1/device/serial /sys/block/vda/size; ls /run/share";
    let outcome = guest.run(command).expect("an outcome").expect_success();
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    // The second guest has a share of its own.
    assert_eq!(words, ["syncedKEPT", "6144", "command", "settings", "stderr", "stdout"]);
}

#[test]
fn connections_go_both_ways() {
    let Some(guest) = Guest::or_skip() else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let free =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let command = format!(
        "/run/bed/busybox nc -l -p 7777 > /run/share/heard & \
         until cat /proc/net/tcp /proc/net/tcp6 | grep -q ':1E61 '; do :; done; touch /run/share/listens; \
         echo from the guest | /run/bed/busybox nc 10.0.2.2 {port} > /run/share/answer; wait; cat /run/share/answer /run/share/heard"
    );
    let mut running = guest.forward(free.port(), 7777).start(&command).expect("a guest");
    running.wait_for("listens").expect("it gets there");
    let (mut stream, _) = accept(&listener);
    let mut heard = [0; 15];
    stream.read_exact(&mut heard).expect("what the guest says");
    assert_eq!(&heard, b"from the guest\n");
    stream.write_all(b"from the host\n").expect("it listens");
    drop(stream);
    let mut stream = connect(free);
    stream.write_all(b"through the door\n").expect("it listens");
    drop(stream);
    let outcome = running.wait().expect("an outcome").expect_success();
    assert_eq!(outcome.stdout, "from the host\nthrough the door\n");
}

#[test]
fn device_mapper_makes_a_disk_fail_and_logs_writes() {
    let Some(guest) = Guest::or_skip() else { return };
    if !["/usr/sbin/dmsetup", "/sbin/dmsetup"].iter().any(|path| Path::new(path).is_file()) {
        tell_skipped(&Error::Missing {
            what: "no dmsetup".to_owned(),
            remedy: "apt-get install dmsetup".to_owned(),
        });
        return;
    }
    let guest = guest.module("dm-flakey").module("dm-log-writes").module("virtio_blk");
    let guest = guest.disk(Disk::virtio(8 * MIB)).disk(Disk::virtio(8 * MIB));
    let command = "set -e\n\
        dmsetup create bad --table '0 2048 flakey /dev/vda 0 0 60 1 error_writes'\n\
        dmsetup create logged --table '0 2048 log-writes /dev/vda /dev/vdb'\n\
        dmsetup mknodes\n\
        if dd if=/dev/zero of=/dev/mapper/bad bs=4k count=1 oflag=direct 2> /dev/null; then echo written; else echo refused; fi\n\
        dd if=/dev/zero of=/dev/mapper/logged bs=4k count=1 oflag=direct 2> /dev/null\n\
        dmsetup message logged 0 mark here\n\
        dmsetup remove logged\n\
        od -A n -t u8 -j 16 -N 8 /dev/vdb\n";
    let outcome = guest.run(command).expect("an outcome").expect_success();
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert_eq!(words[0], "refused");
    // The number of entries in the log's first sector: the write, the mark, and the mark of the end.
    assert!(words[1].parse::<u64>().is_ok_and(|entries| entries >= 3), "{}", outcome.stdout);
}

#[test]
fn a_guest_that_takes_too_long_is_ended() {
    let Some(guest) = Guest::or_skip() else { return };
    let running = guest.limit(Duration::from_millis(200)).start("sleep 600").expect("a guest");
    let pid = running.pid();
    assert!(matches!(running.wait(), Err(Error::TimedOut { .. })));
    assert!(!is_there(pid), "QEMU is still there");
}

#[test]
fn a_guest_that_panics_is_no_success() {
    let Some(guest) = Guest::or_skip() else { return };
    let error = guest.run("echo before; echo c > /proc/sysrq-trigger; echo after").expect_err("it died");
    let Error::Died { report, .. } = error else { panic!("{error}") };
    assert!(
        report.contains("before\n") && !report.contains("after\n") && report.contains("sysrq"),
        "{report}"
    );
}

#[test]
fn qemu_ends_with_a_starter_that_is_killed() {
    let Some(_guest) = Guest::or_skip() else { return };
    let mut starter = Command::new(PROGRAM);
    let starter =
        starter.args(["run", "sleep 600"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut starter = starter.spawn().expect("it starts");
    let qemu = until("QEMU runs", || child_named(starter.id(), "qemu"));
    starter.kill().expect("our child");
    starter.wait().expect("our child");
    until("QEMU is gone", || (!is_there(qemu)).then_some(()));
}

/// The child of `parent` whose name begins with `name`. Only its main thread starts processes.
fn child_named(parent: u32, name: &str) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(name))
    })
}

/// Whether a process runs; one that has ended and is not collected yet does not.
fn is_there(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).expect("a mode");
    let (stream, peer) = until("the guest connects", || listener.accept().ok());
    stream.set_nonblocking(false).expect("a mode");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    (stream, peer)
}

fn connect(address: SocketAddr) -> TcpStream {
    until("QEMU listens", || TcpStream::connect(address).ok())
}

/// Waits until `look` finds something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
