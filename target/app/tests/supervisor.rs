//! What the process tells whoever set NOTIFY_SOCKET: a real socket, no systemd.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{BINARY, BOUND, Process, core, example};
use rustix::process::Signal;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use tempfile::TempDir;

/// Starts the binary with `args`, a supervisor's socket named `name`, and a watchdog if `allowed_us` says so.
fn start(name: &str, allowed_us: Option<u64>, args: &[&str]) -> Process {
    let dir = TempDir::new().expect("a folder");
    let socket = dir.path().join("rpc.sock");
    let mut command = Command::new(BINARY);
    command.args(["--disable-cpumask-locks", "-m", &format!("[{}]", core()), "-r"]).arg(&socket).args(args);
    command.env("NOTIFY_SOCKET", name);
    if let Some(allowed) = allowed_us {
        command.env("WATCHDOG_USEC", allowed.to_string());
    }
    Process::spawn(dir, socket, command)
}

fn next(heard: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    loop {
        match heard.recv(&mut buffer) {
            // A wait with a bound is not begun again by the kernel when a signal comes.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            length => return String::from_utf8(buffer[..length.expect("in time")].to_vec()).expect("text"),
        }
    }
}

#[test]
fn it_says_when_it_serves_then_that_it_is_alive_and_then_that_it_stops() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("notify");
    let heard = UnixDatagram::bind(&path).expect("a socket");
    heard.set_read_timeout(Some(BOUND)).expect("a bound");
    let name = path.to_str().expect("text");
    let config = example("malloc.json");
    let process = start(name, Some(100_000), &["-c", config.to_str().expect("text")]);
    let ready = next(&heard);
    assert!(ready.starts_with("READY=1\nSTATUS=rmr_tgt "), "{ready:?}");
    // By then everything is up: this call is refused before.
    let bdevs = process.client().get("bdev_get_bdevs");
    assert_eq!(bdevs.as_array().map(Vec::len), Some(1), "{bdevs}");
    for _ in 0..5 {
        assert_eq!(next(&heard), "WATCHDOG=1\n");
    }
    process.signal(Signal::TERM);
    let stopping = std::iter::repeat_with(|| next(&heard)).find(|said| said != "WATCHDOG=1\n");
    assert_eq!(stopping.as_deref(), Some("STOPPING=1\nSTATUS=stopping\n"));
    process.stop_after_signal();
    heard.set_nonblocking(true).expect("a mode");
    assert!(heard.recv(&mut [0; 64]).is_err(), "nothing is said after the last word");
}

#[test]
fn a_name_without_a_file_will_do_and_without_a_watchdog_it_says_no_more() {
    let name = format!("rmr-tgt-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let heard = UnixDatagram::bind_addr(&address).expect("a socket");
    heard.set_read_timeout(Some(BOUND)).expect("a bound");
    let process = start(&format!("@{name}"), None, &["--wait-for-rpc"]);
    let ready = next(&heard);
    assert!(ready.starts_with("READY=1\nSTATUS=started with --wait-for-rpc: rmr_tgt "), "{ready:?}");
    process.signal(Signal::TERM);
    assert_eq!(next(&heard), "STOPPING=1\nSTATUS=stopping\n");
    process.stop_after_signal();
}

#[test]
fn a_start_that_fails_is_never_called_ready() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("notify");
    let heard = UnixDatagram::bind(&path).expect("a socket");
    heard.set_nonblocking(true).expect("a mode");
    let mut process = start(path.to_str().expect("text"), None, &["-c", "/no/such/file"]);
    assert_eq!(process.wait().code(), Some(5));
    assert!(heard.recv(&mut [0; 64]).is_err(), "it said something");
}

#[test]
fn a_supervisor_that_does_not_listen_is_a_warning() {
    let mut process = start("/no/such/socket", None, &[]);
    process.wait_for_log("NOTIFY_SOCKET=\"/no/such/socket\" is not told");
    process.client().get("rmr_get_version");
    process.stop();
}
