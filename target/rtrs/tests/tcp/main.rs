//! Sessions on real sockets, under real reactors.

#[path = "../common/mod.rs"]
mod common;

use common::process::{self, Process};
use common::proxy::Proxy;
use common::{ClientRig, Load, Recorder, ServerRig, any_key, executed, key, loopback, wait_until};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tgt_rtrs::client::Link;
use tgt_rtrs::codec::{self, Expect, Opened, Side};
use tgt_rtrs::frame::{Frame, Hand, Hello, KeyName, RefuseCause};
use tgt_rtrs::{Death, Id, Incarnation, Key};

const PLENTY: u64 = 64 << 20;

fn all_done(client: &ClientRig, count: u64) {
    client.wait_for("all requests end", |log| log.done + log.failed >= count);
    let log = client.log.lock().expect("a log");
    assert_eq!((log.done, log.failed), (count, 0), "{log:?}");
}

#[test]
fn requests_of_all_sizes_go_both_ways_over_two_paths() {
    let server = ServerRig::start(any_key(), loopback(), PLENTY);
    let client = ClientRig::start(any_key(), &[server.address, server.address]);
    client.load(Load { requests: 2000, depth: 64, bytes_max: 20_000 });
    all_done(&client, 2000);
    client.load(Load { requests: 100, depth: 300, bytes_max: 1 << 20 });
    all_done(&client, 2100);
    assert_eq!(server.executed.load(SeqCst), 2100);
    wait_until("all data memory comes back", || server.figures.lock().expect("figures").2 == 0);
}

#[test]
fn a_connection_killed_under_load_costs_no_request() {
    let server = ServerRig::start(Key::NONE, loopback(), PLENTY);
    let (one, two) = (Proxy::new(server.address), Proxy::new(server.address));
    let client = ClientRig::start(Key::NONE, &[one.address, two.address]);
    client.load(Load { requests: 20_000, depth: 64, bytes_max: 9000 });
    for round in 1..=6 {
        client.wait_for("load goes on", |log| log.done >= round * 3000);
        if round % 2 == 0 { one.kill() } else { two.kill() }
    }
    all_done(&client, 20_000);
    assert_eq!(server.executed.load(SeqCst), 20_000, "each once");
    let log = client.log.lock().expect("a log");
    assert!(log.faults.len() >= 6, "{:?}", log.faults);
    assert!(!log.links.iter().any(|link| matches!(link, Link::Dead { .. })), "{:?}", log.links);
}

#[test]
fn all_paths_killed_at_once_stall_and_resume() {
    let server = ServerRig::start(Key::NONE, loopback(), PLENTY);
    let proxy = Proxy::new(server.address);
    let client = ClientRig::start(Key::NONE, &[proxy.address]);
    client.load(Load { requests: 5000, depth: 32, bytes_max: 9000 });
    client.wait_for("load goes on", |log| log.done >= 1000);
    proxy.kill();
    all_done(&client, 5000);
    assert_eq!(server.executed.load(SeqCst), 5000, "each once");
    let log = client.log.lock().expect("a log");
    assert!(
        matches!(log.links[..], [Link::Up { .. }, Link::Stalled { .. }, Link::Resumed]),
        "{:?}",
        log.links
    );
}

#[test]
fn a_silent_path_is_noticed_and_left() {
    let server = ServerRig::start(Key::NONE, loopback(), PLENTY);
    let silent = Proxy::new(server.address);
    let client = ClientRig::start(Key::NONE, &[silent.address, server.address]);
    client.load(Load { requests: 30_000, depth: 32, bytes_max: 4096 });
    client.wait_for("load goes on", |log| log.done >= 1000);
    silent.mute(true);
    all_done(&client, 30_000);
    client.wait_for("the silence is noticed", |log| {
        log.faults.iter().any(|fault| fault.contains("nothing was heard"))
    });
    assert_eq!(server.executed.load(SeqCst), 30_000, "each once");
}

#[test]
fn bits_that_turn_on_the_way_are_noticed_and_cost_no_request() {
    let server = ServerRig::start(Key::NONE, loopback(), PLENTY);
    let bad = Proxy::new(server.address);
    let client = ClientRig::start(Key::NONE, &[bad.address, server.address]);
    client.wait_for("both paths are up", |log| log.up.len() == 2);
    bad.corrupt(true);
    client.load(Load { requests: u64::MAX, depth: 64, bytes_max: 60_000 });
    // In headers, in data on its way here, and in what the server says it found.
    client.wait_for("bits are noticed", |log| {
        let said = |words: &str| log.faults.iter().any(|fault| fault.contains(words));
        said("digest") && said("crc32c") && log.faults.len() > 10
    });
    bad.corrupt(false);
    client.wait_for("both paths are up again", |log| log.up.len() == 2);
    client.finish();
    let log = client.log.lock().expect("a log");
    assert_eq!(log.failed, 0, "{:?}", log.links);
    assert_eq!(server.executed.load(SeqCst), log.done, "each once");
    drop(log);
    wait_until("all data memory comes back", || server.figures().2 == 0);
}

#[test]
fn too_little_memory_waits_and_fails_nothing() {
    let server = ServerRig::start(Key::NONE, loopback(), 128 << 10);
    let client = ClientRig::start(Key::NONE, &[server.address, server.address]);
    client.load(Load { requests: 1000, depth: 128, bytes_max: 60_000 });
    all_done(&client, 1000);
    assert_eq!(server.executed.load(SeqCst), 1000, "each once");
    wait_until("all data memory comes back", || server.figures.lock().expect("figures").2 == 0);
}

#[test]
fn a_wrong_key_is_refused_on_both_sides() {
    let server = ServerRig::start(any_key(), loopback(), PLENTY);
    for wrong in [key(b"0123456789abcdeX"), Key::NONE] {
        let client = ClientRig::start(wrong, &[server.address]);
        client.wait_for("the refusal", |log| log.faults.iter().any(|fault| fault.contains("key")));
        assert!(client.log.lock().expect("a log").links.is_empty());
    }
}

#[test]
fn a_client_without_a_key_does_not_leave_its_host() {
    // Addresses of documentation: nothing is sent there.
    for address in ["192.0.2.1:1234", "[2001:db8::1]:1234"] {
        let client = ClientRig::start(Key::NONE, &[address.parse().expect("an address")]);
        client.wait_for("the refusal", |log| log.faults.iter().any(|fault| fault.contains("no key")));
    }
}

#[test]
fn sessions_work_over_ipv6() {
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        println!("skipped: this machine has no IPv6 loopback");
        return;
    };
    drop(probe);
    let server = ServerRig::start(any_key(), "[::1]:0".parse().expect("an address"), PLENTY);
    let client = ClientRig::start(any_key(), &[server.address]);
    client.load(Load { requests: 100, depth: 8, bytes_max: 5000 });
    all_done(&client, 100);
}

#[test]
fn another_version_is_told_what_is_spoken_here() {
    let server = ServerRig::start(Key::NONE, loopback(), PLENTY);
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.set_read_timeout(Some(common::PATIENCE)).expect("a bound");
    let hello = Hello {
        version_min: 7,
        version_max: 9,
        lane: 0,
        lanes: 1,
        connection: 1,
        digest: false,
        incarnation: Incarnation(1),
        session: Id([1; 16]),
        path: Id([2; 16]),
        host: Id([3; 16]),
        nonce: [4; 32],
        key: KeyName::NONE,
    };
    stream.write_all(&codec::encode_hand(&Hand::Hello(hello))).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer and the end");
    let Ok(Opened::Frame { frame: Frame::Hand(hand), .. }) =
        codec::open(&answer, &Expect::hand(Side::Server))
    else {
        panic!("{answer:?}");
    };
    let why = RefuseCause::Version { low: 1, high: 1 };
    assert!(matches!(*hand, Hand::Refuse(refuse) if refuse.why == why), "{hand:?}");
}

#[test]
fn noise_and_half_open_connections_do_not_keep_others_out() {
    let server = ServerRig::start(Key::NONE, loopback(), PLENTY);
    let mut open = Vec::new();
    for n in 0..300u32 {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        let noise: Vec<u8> = (0..n % 200).map(|_| fastrand::u8(..)).collect();
        // The server may have closed it by now.
        let _ = stream.write_all(&noise);
        open.push(stream);
    }
    let client = ClientRig::start(Key::NONE, &[server.address]);
    client.load(Load { requests: 100, depth: 8, bytes_max: 5000 });
    all_done(&client, 100);
}

#[test]
fn an_idle_client_and_server_sleep() {
    let server = ServerRig::start(Key::NONE, loopback(), PLENTY);
    let client = ClientRig::start(Key::NONE, &[server.address]);
    client.load(Load { requests: 10, depth: 1, bytes_max: 100 });
    all_done(&client, 10);
    // Beats need a turn each; a reactor that never sleeps takes thousands a millisecond.
    wait_until("both sleep", || client.is_asleep() && server.is_asleep());
}

#[test]
fn a_server_killed_with_its_process_ends_the_life_and_a_new_one_begins() {
    let mut process = Process::start(process::server(loopback(), None));
    let address = process.address();
    let client = ClientRig::start(any_key(), &[address, address]);
    client.load(Load { requests: u64::MAX, depth: 32, bytes_max: 9000 });
    client.wait_for("load goes on", |log| log.done >= 1000);
    process.kill();
    client.wait_for("the stall is told", |log| matches!(log.links.last(), Some(Link::Stalled { .. })));
    let _again = Process::start(process::server(address, None));
    client.wait_for("the death is told", |log| {
        log.links.iter().any(|link| matches!(link, Link::Dead { why: Death::Forgotten }))
    });
    let failed = client.log.lock().expect("a log").failed;
    assert_eq!(failed, 32, "what was under way failed, once each");
    let done = client.log.lock().expect("a log").done;
    client.wait_for("a new life", |log| log.done >= done + 1000);
    client.finish();
}

#[test]
fn a_server_process_stopped_for_three_times_the_detection_time_costs_no_request() {
    let mut process = Process::start(process::server(loopback(), None));
    let address = process.address();
    let client = ClientRig::start(any_key(), &[address, address]);
    client.load(Load { requests: u64::MAX, depth: 32, bytes_max: 9000 });
    client.wait_for("load goes on", |log| log.done >= 1000);
    let (stopped, since) = (process.stop(), Instant::now());
    client.wait_for("the stall is told", |log| matches!(log.links.last(), Some(Link::Stalled { .. })));
    wait_until("three times the detection time", || since.elapsed() > Duration::from_millis(1950));
    drop(stopped);
    client.wait_for("it resumes", |log| matches!(log.links.last(), Some(Link::Resumed)));
    let done = client.log.lock().expect("a log").done;
    client.wait_for("load goes on", |log| log.done >= done + 1000);
    client.finish();
    let log = client.log.lock().expect("a log");
    assert_eq!(log.failed, 0, "{:?}", log.links);
}

#[test]
fn a_client_that_reads_nothing_any_more_is_let_go() {
    let server = ServerRig::start(any_key(), loopback(), 4 * PLENTY);
    let mut client = Process::start(process::client_of_large_requests(server.address));
    assert_eq!(client.hear(), "starts");
    assert_eq!(client.ask(), "up");
    assert_eq!(client.ask(), "loaded");
    wait_until("its connection is there", || connections_to(server.address) == 1);
    let stopped = client.stop();
    wait_until("the server gives it up", || server.figures().1 == 0);
    // More waits to be sent than a stream's queue and the kernel take; nobody will ever take it.
    wait_until("nothing is left of its connection", || connections_to(server.address) == 0);
    drop(stopped);
    wait_until("it comes back", || server.figures().1 == 1);
}

/// Open connections that a listener of this process has accepted.
fn connections_to(listener: SocketAddr) -> usize {
    let sockets = std::fs::read_dir("/proc/self/fd").expect("own files").flatten();
    let names = sockets.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let inodes: HashSet<String> = names
        .filter_map(|name| Some(name.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let own = format!(":{:04X}", listener.port());
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Local address, state (10 = listens) and inode.
    fields.filter(|of| of[1].ends_with(&own) && of[3] != "0A" && inodes.contains(of[9])).count()
}

#[test]
fn what_a_stopped_server_had_not_handed_out_is_not_executed_after_the_session_is_dead() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("executed");
    let server = ServerRig::recording(Key::NONE, loopback(), PLENTY, Some(Recorder::new(&record)));
    let client = ClientRig::start(Key::NONE, &[server.address, server.address]);
    client.wait_for("both paths are up", |log| log.up.len() == 2);
    server.stuck.store(true, SeqCst);
    // Each path's come in one piece: all but the first are taken in, checked, and wait for their user.
    client.load(Load { requests: 32, depth: 32, bytes_max: 4096 });
    client.wait_for("the death is told", |log| matches!(log.links.last(), Some(Link::Dead { .. })));
    server.stuck.store(false, SeqCst);
    client.wait_for("a new life", |log| matches!(log.links.last(), Some(Link::Up { .. })));
    client.load(Load { requests: 100, depth: 8, bytes_max: 4096 });
    client.wait_for("the new life works", |log| log.done == 100);
    client.finish();
    let log = client.log.lock().expect("a log");
    assert_eq!(log.failed, 32, "{:?}", log.links);
    assert_eq!(executed::check(&record, &log), 0, "executed late");
    drop(log);
    wait_until("all memory comes back", || server.figures() == (1, 2, 0));
}

#[test]
fn hundreds_of_sessions_share_a_port_and_each_works() {
    let server = ServerRig::start(Key::NONE, loopback(), PLENTY);
    let clients = ClientRig::many((0..200).map(|_| Key::NONE).collect(), &[server.address]);
    clients.wait_for("all are up", |log| log.links.len() >= 200);
    assert_eq!(server.figures.lock().expect("figures").0, 200, "lanes");
    let log = clients.log.lock().expect("a log");
    assert!(log.links.iter().all(|link| matches!(link, Link::Up { .. })), "{:?}", log.faults);
    drop(log);
    drop(clients);
    wait_until("none is left", || server.figures.lock().expect("figures").1 == 0);
}
