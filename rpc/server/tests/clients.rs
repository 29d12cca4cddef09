//! Clients that misbehave harm nobody but themselves.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{BOUND, Rig};
use rpc_server::CONNECTIONS_MAX;
use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

const PING: &str = r#"{"id":1,"method":"ping"}"#;

/// Tries until it works, with a bound: for what the server notices in its own time.
fn eventually(what: &str, mut attempt: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !attempt() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn half_a_request_just_waits_and_may_be_finished_later() {
    let rig = Rig::new();
    let mut slow = rig.client();
    slow.send(&PING[..7]);
    assert_eq!(rig.client().call(PING)["result"], true);
    assert_eq!(slow.call(&PING[7..])["result"], true);
}

#[test]
fn a_slow_call_does_not_hold_up_other_connections() {
    let rig = Rig::new();
    let mut slow = rig.client();
    slow.send(r#"{"id":1,"method":"wait"}"#);
    rig.gate.wait_inside(1);
    assert_eq!(rig.client().call(PING)["result"], true);
    rig.gate.open();
    assert_eq!(slow.reply()["result"], true);
}

#[test]
fn a_client_that_never_reads_is_dropped_and_others_are_served() {
    let rig = Rig::with(|config| config.write_timeout = Duration::from_millis(50));
    let deaf = rig.client();
    deaf.send(r#"{"id":1,"method":"big","params":{"bytes":20000000}}"#);
    assert_eq!(rig.client().call(PING)["result"], true);
    // Dropped: a write fails once the server has closed its end.
    eventually("a client that never reads must be dropped", || deaf.stream().write_all(b" ").is_err());
    assert_eq!(rig.client().call(PING)["result"], true);
}

#[test]
fn a_client_that_sends_for_ever_without_reading_is_held_by_its_own_socket() {
    let rig = Rig::with(|config| config.write_timeout = Duration::from_millis(50));
    let deaf = rig.client();
    let flood = PING.repeat(1000);
    eventually("a flood without reading must end", || deaf.stream().write_all(flood.as_bytes()).is_err());
    assert_eq!(rig.client().call(PING)["result"], true);
}

#[test]
fn a_client_may_go_in_the_middle_of_anything() {
    let rig = Rig::new();
    for part in [1, 7, PING.len()] {
        rig.client().send(&PING[..part]);
    }
    let waiting = rig.client();
    waiting.send(r#"{"id":1,"method":"wait"}"#);
    rig.gate.wait_inside(1);
    waiting.stream().shutdown(Shutdown::Both).expect("shutdown");
    drop(waiting);
    rig.gate.open();
    assert_eq!(rig.client().call(PING)["result"], true);
}

#[test]
fn sixty_four_clients_are_served_and_the_next_is_told_so() {
    let rig = Rig::new();
    let mut clients: Vec<_> = (0..CONNECTIONS_MAX).map(|_| rig.client()).collect();
    for client in &mut clients {
        assert_eq!(client.call(PING)["result"], true);
    }
    let mut late = rig.client();
    let reply = late.reply();
    assert_eq!(reply["error"]["code"], -11);
    assert!(reply["error"]["message"].as_str().expect("text").contains("64 connections are open"), "{reply}");
    assert_eq!(late.line(), "", "the connection must end");
    assert_eq!(clients[63].call(PING)["result"], true);
    clients.pop();
    eventually("a seat given back must be free again", || {
        let mut client = rig.client();
        client.try_send(PING);
        client.reply()["result"] == true
    });
}
