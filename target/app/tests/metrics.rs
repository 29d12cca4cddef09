//! `--metrics` on the binary: what a scrape gets, and what the log and the exit code say.

#![allow(clippy::expect_used, missing_docs)]

mod common;
#[path = "../../metrics/tests/common/strict.rs"]
#[allow(dead_code)]
mod strict;

use common::{BOUND, Process, core, example};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use strict::{read, value};

/// A target that serves metrics, and where.
fn start(more: &[&str]) -> (Process, String) {
    let core = core().to_string();
    let mut args = vec!["-m", "", "--disable-cpumask-locks", "--metrics", "0"];
    let mask = format!("[{core}]");
    args[1] = &mask;
    args.extend(more);
    let mut process = Process::start(&args);
    let line = process.wait_for_log("figures for Prometheus on http://");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    (process, address.to_owned())
}

/// Head and body of what is answered to `request`.
fn ask(address: &str, request: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(BOUND)).expect("a bound");
    stream.write_all(request).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    (head.to_owned(), body.to_owned())
}

#[test]
fn a_scrape_brings_a_strict_page_of_what_the_target_has() {
    let config = example("two-bdevs.json");
    let (process, address) = start(&["-c", config.to_str().expect("a path")]);
    assert!(address.starts_with("127.0.0.1:"), "a port alone is on the loopback: {address}");
    let mut client = process.client();
    client.get("framework_wait_init");
    client.call("bdev_null_create", json!({"name": "odd \"name\"", "num_blocks": 8, "block_size": 512}));
    let (head, body) = ask(&address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    let families = read(&body);
    assert_eq!(value(&families, "rmr_bdev_size_bytes", &[("bdev", "odd \"name\"")]), 4096.0);
    assert_eq!(value(&families, "rmr_reactor_answers", &[("core", &core().to_string())]), 1.0);
    let bdevs = client.get("bdev_get_bdevs").as_array().expect("a list").len();
    assert_eq!(families["rmr_bdev_info"].samples.len(), bdevs);
    let mapped: f64 = families["rmr_memory_mapped_bytes"].samples.iter().map(|sample| sample.2).sum();
    assert_eq!(mapped, client.get("rmr_get_memory")["mapped_bytes"].as_f64().expect("a number"));
    process.stop();
}

#[test]
fn what_is_no_request_for_the_page_is_told_so_and_the_target_goes_on() {
    let (process, address) = start(&[]);
    for (request, status) in [
        (&b"\x16\x03\x01\x02\x00\x01"[..], "400"),
        (b"GET /metrics HTTP/1.1\r\nHo", "400"),
        (b"{\"jsonrpc\": \"2.0\"}", "400"),
        (b"GET / HTTP/1.0\r\n\r\n", "404"),
        (b"DELETE /metrics HTTP/1.0\r\n\r\n", "405"),
        (&[b'A'; 64 << 10], "4"),
    ] {
        let (head, _) = ask(&address, request);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{:?}: {head}",
            request.escape_ascii().to_string()
        );
    }
    let (head, body) = ask(&address, b"GET /metrics HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && body.contains("rmr_target_info"), "{head}");
    process.stop();
}

#[test]
fn metrics_are_off_unless_asked_for_and_an_address_that_is_taken_ends_the_start() {
    let mask = format!("[{}]", core());
    let mut plain = Process::start(&["-m", &mask, "--disable-cpumask-locks"]);
    plain.wait_for_log("ready after");
    assert!(!plain.stop().contains("Prometheus"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let mut refused = Process::launch(&["-m", &mask, "--disable-cpumask-locks", "--metrics", &address]);
    assert_eq!(refused.wait().code(), Some(6));
    let log = refused.rest_of_log();
    assert!(log.contains(&address) && log.contains("--metrics"), "{log}");
}
