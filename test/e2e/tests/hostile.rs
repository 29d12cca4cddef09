//! Clients that misbehave, while another one works.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::json;
use std::net::Shutdown;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_e2e::places::tell;
use test_e2e::raw::Raw;
use test_e2e::target::Target;

/// Connections at once, as in SPDK.
const CONNECTIONS_MAX: usize = 64;
/// Far above what is aimed at (10 ms), which is a figure and no test; whoever waits for another client takes longer.
const BOUND: Duration = Duration::from_secs(1);
const CALLS: usize = 1000;

/// One client's misbehaviour, from connecting to being thrown out.
type Deed = fn(&Path);

/// Noise; the answer is an error, and the end of the connection.
fn garbage(socket: &Path) {
    let mut raw = Raw::connect(socket);
    raw.send(b"\x00\xff{]} hello \x7f");
    if let Some(answer) = raw.answer() {
        assert_eq!(answer["error"]["code"], -32700, "{answer}");
        assert_eq!(raw.answer(), None, "the connection ends");
    }
}

/// Half a request, then the end.
fn half_a_request(socket: &Path) {
    let mut raw = Raw::connect(socket);
    raw.send(br#"{"jsonrpc":"2.0","id":1,"method":"bdev_get_b"#);
    raw.stream().shutdown(Shutdown::Write).expect("open");
    if let Some(answer) = raw.answer() {
        assert!(answer["error"]["code"].is_number(), "{answer}");
    }
}

/// A request of 300 KiB, over SPDK's limit of 256.
fn too_long(socket: &Path) {
    let mut raw = Raw::connect(socket);
    let request =
        format!(r#"{{"id":1,"method":"bdev_get_bdevs","params":{{"name":"{}"}}}}"#, "x".repeat(300 << 10));
    // It may be thrown out before it has sent everything.
    let sent = raw.try_send(request.as_bytes());
    match raw.answer() {
        Some(answer) => assert_eq!(answer["error"]["code"], -32700, "{answer}"),
        None => drop(sent),
    }
}

/// Asks for much, and never reads: its answers fill the socket's buffers, then its requests do.
fn never_reads(socket: &Path) {
    let mut raw = Raw::connect(socket);
    let timeout = Some(Duration::from_millis(200));
    raw.stream().set_write_timeout(timeout).expect("a bound");
    let request = r#"{"id":1,"method":"rmr_get_schema"}"#.repeat(1000);
    while raw.try_send(request.as_bytes()).is_ok() {}
}

fn median_and_p99(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Tells the thread beside to end, also when this one panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long `CALLS` calls of an honest client take, each, while `deed` is done again and again beside it, and how
/// often that was: once at least.
fn beside(target: &mut Target, deed: Deed) -> (Vec<Duration>, usize) {
    let (done, deeds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let socket = target.socket();
    let mut client = target.client();
    thread::scope(|scope| {
        let end = Done(&done);
        let other = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                deed(&socket);
                deeds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut times = Vec::with_capacity(CALLS);
        while times.len() < CALLS || (deeds.load(Ordering::Relaxed) == 0 && !other.is_finished()) {
            let started = Instant::now();
            client.call("bdev_get_bdevs", None).expect("an answer");
            times.push(started.elapsed());
        }
        drop(end);
        other.join().expect("what the other one was answered is as it must be");
        (times, deeds.load(Ordering::Relaxed))
    })
}

#[test]
fn a_client_that_misbehaves_does_not_hold_up_another() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    target.call("bdev_null_create", json!({"name": "Null0", "num_blocks": 2048, "block_size": 512}));
    let kinds: [(&str, Deed); 5] = [
        ("a client that does nothing", |_| thread::yield_now()),
        ("garbage", garbage),
        ("half a request", half_a_request),
        ("300 KiB", too_long),
        ("never reading", never_reads),
    ];
    for (name, deed) in kinds {
        let (mut times, deeds) = beside(&mut target, deed);
        let calls = times.len();
        let (median, p99) = median_and_p99(&mut times);
        tell(&format!("beside {name} ({deeds} times): {calls} calls, median {median:?}, p99 {p99:?}"));
        assert!(p99 < BOUND, "beside {name}: p99 {p99:?}");
    }
    assert!(target.stop().success());
}

#[test]
fn as_many_connections_as_spdk_allows_work_at_once_and_one_more_is_told() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    let request = r#"{"id":7,"method":"bdev_get_bdevs"}"#;
    // The last connection of `wait_ready` may still be on its way out.
    let mut open: Vec<Raw> = Vec::new();
    let end = Instant::now() + test_e2e::PATIENCE;
    while open.len() < CONNECTIONS_MAX {
        let mut raw = Raw::connect(&target.socket());
        match raw.ask(request) {
            answer if answer.get("result").is_some() => open.push(raw),
            answer => assert!(Instant::now() < end, "{}: {answer}", open.len()),
        }
    }
    let mut times = Vec::new();
    for _ in 0..10 {
        for raw in &mut open {
            let started = Instant::now();
            assert_eq!(raw.ask(request)["id"], 7);
            times.push(started.elapsed());
        }
    }
    let calls = times.len();
    let (median, p99) = median_and_p99(&mut times);
    tell(&format!("{CONNECTIONS_MAX} connections in turn: {calls} calls, median {median:?}, p99 {p99:?}"));
    assert!(p99 < BOUND, "p99 {p99:?}");
    let mut one_more = Raw::connect(&target.socket());
    let answer = one_more.answer().expect("a reason");
    assert_eq!(answer["error"]["code"], -11, "{answer}");
    assert_eq!(one_more.answer(), None, "and the end");
    assert!(target.stop().success());
}
