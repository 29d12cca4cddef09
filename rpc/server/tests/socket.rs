//! The socket in the file system: mode, lock, stale files, removal, stop.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{Client, Rig, registry};
use rpc_server::{Server, ServerConfig, ServerError};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const PING: &str = r#"{"id":1,"method":"ping"}"#;

fn start(path: &Path) -> Result<Server, ServerError> {
    Server::start(ServerConfig::new(path), registry(Arc::default(), Arc::default()))
}

fn refusal(path: &Path) -> String {
    match start(path) {
        Ok(_) => panic!("{} was served", path.display()),
        Err(why) => why.to_string(),
    }
}

#[test]
fn the_socket_and_its_lock_are_for_this_user_alone() {
    let rig = Rig::new();
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&rig.path), 0o600);
    assert_eq!(mode(&rig.dir.path().join("rpc.sock.lock")), 0o600);
    let wide = Rig::with(|config| config.mode = 0o666);
    assert_eq!(mode(&wide.path), 0o666);
}

#[test]
fn a_second_server_on_the_same_path_is_refused_with_the_owner_named() {
    let rig = Rig::new();
    let message = refusal(&rig.path);
    assert!(message.contains(&format!("in use by process {}", std::process::id())), "{message}");
    assert_eq!(rig.client().call(PING)["result"], true, "the first one serves on");
}

#[test]
fn a_stale_socket_is_replaced() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("rpc.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    std::fs::write(dir.path().join("rpc.sock.lock"), "1\n").expect("a lock file");
    let _server = start(&path).expect("a server");
    assert_eq!(Client::connect(&path).call(PING)["result"], true);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("precious");
    std::fs::write(&path, "data").expect("a file");
    assert!(refusal(&path).contains("a file that is not a socket is in the way"));
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "data");
}

#[test]
fn paths_that_cannot_be_are_refused_in_plain_words() {
    let dir = TempDir::new().expect("a folder");
    let long = dir.path().join("x".repeat(120));
    assert!(refusal(&long).contains("accepted: at most 107"));
    assert!(refusal(&dir.path().join("none/rpc.sock")).contains("cannot lock"));
    let target = dir.path().join("target");
    std::os::unix::fs::symlink(&target, dir.path().join("rpc.sock.lock")).expect("a link");
    assert!(refusal(&dir.path().join("rpc.sock")).contains("cannot lock"));
    assert!(!target.exists(), "a planted link is not followed");
}

#[test]
fn a_stop_removes_the_files_and_the_path_can_be_used_again() {
    let rig = Rig::new();
    let idle = rig.client();
    assert_eq!(rig.server.stop(), 0);
    assert_eq!(std::fs::read_dir(rig.dir.path()).expect("folder").count(), 0);
    assert_eq!(idle.rest(), "");
    let server = start(&rig.path).expect("a server");
    assert_eq!(Client::connect(&rig.path).call(PING)["result"], true);
    drop(server);
    assert_eq!(std::fs::read_dir(rig.dir.path()).expect("folder").count(), 0);
}

#[test]
fn a_stop_leaves_a_socket_that_is_no_longer_ours() {
    let rig = Rig::new();
    std::fs::remove_file(&rig.path).expect("remove");
    let _other = UnixListener::bind(&rig.path).expect("a socket");
    rig.server.stop();
    assert!(rig.path.exists());
}

#[test]
fn a_stop_lets_answers_leave_and_does_not_wait_for_handlers_that_hang() {
    let rig = Rig::new();
    let mut client = rig.client();
    client.send(r#"{"id":1,"method":"wait"}"#);
    rig.gate.wait_inside(1);
    let gate = Arc::clone(&rig.gate);
    let stopper = std::thread::spawn(move || rig.server.stop());
    // The stop has begun when new connections are refused.
    let end = std::time::Instant::now() + common::BOUND;
    while std::os::unix::net::UnixStream::connect(&rig.path).is_ok() {
        assert!(std::time::Instant::now() < end, "the stop never began");
    }
    gate.open();
    assert_eq!(client.reply()["result"], true);
    assert_eq!(stopper.join().expect("stop"), 0);

    let rig = Rig::new();
    let hanging = rig.client();
    hanging.send(r#"{"id":1,"method":"wait"}"#);
    rig.gate.wait_inside(1);
    assert_eq!(rig.server.stop(), 1);
    rig.gate.open();
}

#[test]
fn a_stop_ends_clients_that_do_not_read() {
    let rig = Rig::new();
    let deaf = rig.client();
    deaf.send(r#"{"id":1,"method":"big","params":{"bytes":20000000}}"#);
    // The first bytes are there: the thread is writing, and stays so.
    let mut first = [0];
    std::io::Read::read_exact(&mut deaf.stream(), &mut first).expect("a byte");
    assert_eq!(rig.server.stop(), 0);
}
