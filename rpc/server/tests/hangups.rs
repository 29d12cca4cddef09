//! Clients that hang up while their call is under way.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{BOUND, Client, Rig};
use rpc_server::{CONNECTIONS_MAX, LEFT_BEHIND_MAX};
use std::time::Instant;

const PING: &str = r#"{"id":1,"method":"ping"}"#;
/// Is in its handler until the test opens the gate.
const WAIT: &str = r#"{"id":1,"method":"wait"}"#;
/// Is in its handler until its asker has gone.
const WAIT_FOR_ASKER: &str = r#"{"id":1,"method":"wait_for_asker"}"#;

/// `count` clients, each in a handler.
fn in_handlers(rig: &Rig, request: &str, count: usize, inside_before: usize) -> Vec<Client> {
    let clients: Vec<Client> = (0..count).map(|_| rig.client()).collect();
    clients.iter().for_each(|client| client.send(request));
    rig.gate.wait_inside(inside_before + count);
    clients
}

#[test]
fn those_who_hang_up_in_a_slow_call_leave_their_seats_to_others_at_once() {
    let rig = Rig::new();
    for round in 0..LEFT_BEHIND_MAX / CONNECTIONS_MAX {
        // All seats are had again: nothing was given back late.
        drop(in_handlers(&rig, WAIT, CONNECTIONS_MAX, round * CONNECTIONS_MAX));
    }
    rig.gate.open();
}

#[test]
fn with_too_many_left_behind_newcomers_are_told_and_who_is_connected_is_served() {
    let rig = Rig::new();
    let mut connected = rig.client();
    assert_eq!(connected.call(PING)["result"], true);
    let mut inside = 0;
    while inside < LEFT_BEHIND_MAX {
        let count = (LEFT_BEHIND_MAX - inside).min(CONNECTIONS_MAX - 1);
        drop(in_handlers(&rig, WAIT, count, inside));
        inside += count;
    }
    let mut late = rig.client();
    let reply = late.reply();
    assert_eq!(reply["error"]["code"], -11);
    let text = reply["error"]["message"].as_str().expect("text");
    assert!(text.contains("128 clients that hung up are still under way"), "{text}");
    assert_eq!(late.line(), "", "the connection must end");
    assert_eq!(connected.call(PING)["result"], true);
    rig.gate.open();
    let end = Instant::now() + BOUND;
    loop {
        let mut client = rig.client();
        client.try_send(PING);
        if client.reply()["result"] == true {
            return;
        }
        assert!(Instant::now() < end, "those left behind must end");
        std::thread::yield_now();
    }
}

#[test]
fn a_handler_that_waits_is_told_that_its_asker_has_gone() {
    let rig = Rig::new();
    let stays = rig.client();
    stays.send(WAIT_FOR_ASKER);
    rig.gate.wait_inside(1);
    drop(in_handlers(&rig, WAIT_FOR_ASKER, CONNECTIONS_MAX - 1, 1));
    rig.left.wait_inside(CONNECTIONS_MAX - 1);
    assert_eq!(rig.left.came(), CONNECTIONS_MAX - 1, "who stays is waited for");
    stays.stream().shutdown(std::net::Shutdown::Both).expect("open");
    rig.left.wait_inside(CONNECTIONS_MAX);
}

#[test]
fn who_only_stops_sending_still_gets_the_answer() {
    let rig = Rig::new();
    let client = rig.client();
    client.send(WAIT);
    rig.gate.wait_inside(1);
    client.stream().shutdown(std::net::Shutdown::Write).expect("open");
    // Others come and go meanwhile, so the server has looked.
    for _ in 0..3 {
        assert_eq!(rig.client().call(PING)["result"], true);
    }
    rig.gate.open();
    assert!(client.rest().contains(r#""result":true"#), "the asker is still there");
}

#[test]
fn a_call_goes_on_and_the_rest_that_was_sent_is_done_when_its_client_hangs_up() {
    let rig = Rig::new();
    let quiet = r#"{"method":"wait"}"#;
    let client = rig.client();
    client.send(quiet.repeat(3));
    rig.gate.wait_inside(1);
    drop(client);
    assert_eq!(rig.client().call(PING)["result"], true);
    rig.gate.open();
    rig.gate.wait_inside(3);
}

#[test]
fn a_stop_counts_the_left_behind() {
    let rig = Rig::new();
    drop(in_handlers(&rig, WAIT, 5, 0));
    assert_eq!(rig.client().call(PING)["result"], true, "the server has noticed");
    assert_eq!(rig.server.stop(), 5);
    rig.gate.open();
}

#[test]
fn a_stop_ends_handlers_that_wait_for_their_askers_sake() {
    let rig = Rig::new();
    let asking = in_handlers(&rig, WAIT_FOR_ASKER, 5, 0);
    // They are cut off: how many of them have ended by then is a matter of luck.
    assert!(rig.server.stop() <= 5);
    rig.left.wait_inside(5);
    asking.into_iter().for_each(|client| drop(client.rest()));
}
