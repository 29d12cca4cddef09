//! The methods of the NVMe over Fabrics target, and what is saved of it.

#![allow(clippy::expect_used, missing_docs)]

mod common;

use common::{Client, Process, calls_of};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const HOST: &str = "nqn.2014-08.org.example:host";

/// A loopback address of this test's own: tests run at once, and those of other checkouts.
fn own() -> Ipv4Addr {
    static TESTS: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + TESTS.fetch_add(1, Relaxed), high, low.clamp(1, 254))
}

fn address(own: Ipv4Addr, port: u16) -> Value {
    json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": own.to_string(), "trsvcid": port.to_string()})
}

/// A target with something of everything that can be saved.
fn furnished(own: Ipv4Addr) -> (Process, Client) {
    let process = Process::start(&["--no-huge", "-s", "512"]);
    let mut client = process.client();
    assert_eq!(client.get("framework_wait_init"), json!(true));
    let mut call = |method: &str, params: Value| client.call(method, params);
    call("bdev_null_create", json!({"name": "N1", "num_blocks": 64, "block_size": 4096}));
    call("bdev_null_create", json!({"name": "N2", "num_blocks": 64, "block_size": 512}));
    call(
        "nvmf_create_transport",
        json!({"trtype": "tcp", "max_queue_depth": 64, "in_capsule_data_size": 8192}),
    );
    let params = json!({"nqn": NQN, "serial_number": "S1", "ana_reporting": true, "max_namespaces": 4});
    call("nvmf_create_subsystem", params);
    call("nvmf_subsystem_add_host", json!({"nqn": NQN, "host": HOST}));
    call(
        "nvmf_subsystem_add_ns",
        json!({"nqn": NQN, "namespace": {"bdev_name": "N1", "nsid": 3, "eui64": "0011223344556677"}}),
    );
    assert_eq!(
        call("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": {"bdev_name": "N2"}})),
        json!(1)
    );
    call("nvmf_subsystem_add_listener", json!({"nqn": NQN, "listen_address": address(own, 4420)}));
    let state =
        json!({"nqn": NQN, "listen_address": address(own, 4420), "ana_state": "inaccessible", "anagrpid": 3});
    call("nvmf_subsystem_listener_set_ana_state", state);
    call("nvmf_discovery_add_referral", json!({"address": address(own, 8009)}));
    (process, client)
}

#[test]
fn a_saved_target_comes_back_as_it_was() {
    let own = own();
    let (process, mut client) = furnished(own);
    let (saved, shown) = (client.save(), client.get("nvmf_get_subsystems"));
    let listeners = client.call("nvmf_subsystem_get_listeners", json!({"nqn": NQN}));
    let methods = calls_of(&saved, "nvmf");
    let methods: Vec<&str> = methods.iter().map(|call| call["method"].as_str().expect("a name")).collect();
    let expect = [
        "nvmf_create_transport",
        "nvmf_discovery_add_referral",
        "nvmf_create_subsystem",
        "nvmf_subsystem_add_host",
        "nvmf_subsystem_add_ns",
        "nvmf_subsystem_add_ns",
        "nvmf_subsystem_add_listener",
        "nvmf_subsystem_listener_set_ana_state",
    ];
    assert_eq!(methods, expect);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), saved.to_string()).expect("written");
    process.stop();
    let again = Process::start(&["--no-huge", "-s", "512", "-c", file.path().to_str().expect("a path")]);
    let mut client = again.client();
    assert_eq!(client.get("framework_wait_init"), json!(true));
    assert_eq!(client.save().to_string(), saved.to_string());
    assert_eq!(client.get("nvmf_get_subsystems"), shown);
    assert_eq!(client.call("nvmf_subsystem_get_listeners", json!({"nqn": NQN})), listeners);
    TcpStream::connect((own, 4420)).expect("it listens again");
    again.stop();
}

#[test]
fn what_is_shown_has_spdks_shape() {
    let own = own();
    let (process, mut client) = furnished(own);
    let shown = client.get("nvmf_get_subsystems");
    assert_eq!(
        shown[0],
        json!({"nqn": "nqn.2014-08.org.nvmexpress.discovery", "subtype": "Discovery", "listen_addresses": [], "allow_any_host": true, "hosts": []})
    );
    assert_eq!(shown[1]["hosts"], json!([{"nqn": HOST}]));
    assert_eq!(shown[1]["listen_addresses"], json!([address(own, 4420)]));
    let space = &shown[1]["namespaces"][1];
    assert_eq!(
        (&space["nsid"], &space["eui64"], &space["anagrpid"]),
        (&json!(3), &json!("0011223344556677"), &json!(3))
    );
    let nguid = space["uuid"].as_str().expect("a UUID").replace('-', "").to_uppercase();
    assert_eq!(space["nguid"], json!(nguid));
    let bdevs = client.call("bdev_get_bdevs", json!({"name": "N1"}));
    assert_eq!((&bdevs[0]["claimed"], &bdevs[0]["claim_type"]), (&json!(true), &json!("exclusive_write")));
    let stats = client.get("nvmf_get_stats");
    assert_eq!(stats["poll_groups"][0]["transports"], json!([{"trtype": "TCP"}]));
    let transports = client.get("nvmf_get_transports");
    assert_eq!((&transports[0]["max_queue_depth"], &transports[0]["kas"]), (&json!(64), &json!(100)));
    process.stop();
}

#[test]
fn what_is_refused_names_what_is_wrong_and_changes_nothing() {
    let own = own();
    let (process, mut client) = furnished(own);
    let saved = client.save();
    let _taken = TcpListener::bind((own, 4421)).expect("a port of an address of our own");
    let space = |bdev: &str, nsid: u32| json!({"nqn": NQN, "namespace": {"bdev_name": bdev, "nsid": nsid}});
    for (method, params, words) in [
        ("nvmf_create_transport", json!({"trtype": "TCP"}), "exists already"),
        ("nvmf_create_transport", json!({"trtype": "RDMA"}), "not built"),
        ("nvmf_create_subsystem", json!({"nqn": NQN}), "exists already"),
        ("nvmf_create_subsystem", json!({"nqn": "cnode2"}), "nqn \"cnode2\"; accepted:"),
        ("nvmf_delete_subsystem", json!({"nqn": "nqn.2016-06.io.spdk:x"}), "there is no subsystem"),
        ("nvmf_subsystem_add_ns", space("N9", 2), "N9"),
        ("nvmf_subsystem_add_ns", space("N1", 2), "claim"),
        ("nvmf_subsystem_add_ns", space("N1", 3), "has a namespace 3 already"),
        ("nvmf_subsystem_add_ns", space("N1", 5), "nsid 5; accepted: 1 to 4"),
        ("nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 2}), "has no namespace 2"),
        ("nvmf_subsystem_add_host", json!({"nqn": NQN, "host": HOST}), "already"),
        ("nvmf_subsystem_remove_host", json!({"nqn": NQN, "host": "nqn.2014-08.org.example:x"}), "no host"),
        ("nvmf_subsystem_add_listener", json!({"nqn": NQN, "listen_address": address(own, 4420)}), "already"),
        (
            "nvmf_subsystem_add_listener",
            json!({"nqn": NQN, "listen_address": address(own, 4421)}),
            "choose another",
        ),
        (
            "nvmf_subsystem_remove_listener",
            json!({"nqn": NQN, "listen_address": address(own, 4421)}),
            "does not listen",
        ),
    ] {
        let answer = client.ask(method, Some(&params));
        let said =
            answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{method} {params}: {answer}"));
        assert!(said.contains(words), "{method} {params}: {said}");
        assert!(
            answer["error"]["code"].as_i64().is_some_and(|code| code == -32602 || code == -32603),
            "{answer}"
        );
    }
    assert_eq!(client.save().to_string(), saved.to_string());
    process.stop();
}
