//! Sessions between two targets, by RPC alone.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_e2e::PATIENCE;
use test_e2e::calls::{key_file, loopback_of};
use test_e2e::target::Target;

const KEY: &[u8] = b"a key that two targets have";

/// Two targets, and two addresses of the server's, which nobody else uses.
struct Two {
    server: Target,
    client: Target,
    ways: [Ipv4Addr; 2],
}

impl Two {
    fn start() -> Option<Self> {
        let (mut server, mut client) = (Target::start(&[])?, Target::start(&[])?);
        server.wait_ready();
        client.wait_ready();
        let [_, b, c, d] = loopback_of(server.dir()).octets();
        let other = Ipv4Addr::new(127, b, c, d ^ 1);
        let two = Self { server, client, ways: [Ipv4Addr::new(127, b, c, d), other] };
        Some(two)
    }

    /// A listener on each way, with the key of that name.
    fn listen(&mut self, key: Option<&str>) {
        for way in self.ways {
            self.server.call("rtrs_add_listener", listener(way, key));
        }
    }

    fn path(&self, way: usize) -> String {
        format!("ip:{}:4430", self.ways[way])
    }

    fn paths(&self) -> Vec<String> {
        vec![self.path(0), self.path(1)]
    }

    /// The client's session.
    fn session(&mut self) -> Value {
        let all = self.client.call("rtrs_get_sessions", json!({}));
        all[0].clone()
    }

    fn wait_session(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let session = self.session();
            if condition(&session) {
                return session;
            }
            let in_vain = || format!("waited in vain: {what}: {session:#}\n{}", self.server.log());
            assert!(begun.elapsed() < PATIENCE, "{}", in_vain());
            sleep(Duration::from_millis(1));
        }
    }
}

fn listener(at: Ipv4Addr, key: Option<&str>) -> Value {
    let mut params = json!({"trtype": "TCP", "traddr": at.to_string(), "trsvcid": "4430"});
    if let Some(key) = key {
        params["key"] = key.into();
    }
    params
}

fn add_key(target: &mut Target, bytes: &[u8]) {
    let path = target.dir().join("key0");
    key_file(&path, bytes);
    target.call("keyring_file_add_key", json!({"name": "key0", "path": path}));
}

fn all_up(session: &Value) -> bool {
    let paths = session["paths"].as_array().expect("paths");
    session["state"] == "up" && paths.iter().all(|path| path["state"] == "up")
}

fn refusal(target: &mut Target, method: &str, params: Value) -> String {
    let error = target.client().call(method, Some(&params)).expect_err("it is refused");
    error.to_string()
}

/// The kinds of notifications about sessions, with what they are about.
fn told(target: &mut Target) -> Vec<(String, String)> {
    let all = target.call("notify_get_notifications", json!({}));
    let ours = all.as_array().expect("a list").iter().filter_map(|one| {
        let kind = one["type"].as_str()?.strip_prefix("rtrs_")?.to_owned();
        Some((kind, one["ctx"].as_str()?.to_owned()))
    });
    ours.collect()
}

#[test]
fn two_targets_with_a_key_are_joined_by_two_paths_and_say_so() {
    let Some(mut two) = Two::start() else { return };
    add_key(&mut two.server, KEY);
    add_key(&mut two.client, KEY);
    two.listen(Some("key0"));
    let paths = two.paths();
    let session = two.client.call("rtrs_create_session", json!({"paths": paths, "key": "key0"}));
    let shown = two.wait_session("both paths are up", all_up);
    assert_eq!(shown["session"], session);
    assert_eq!(
        (&shown["role"], &shown["key"], &shown["policy"]),
        (&json!("client"), &json!("key0"), &json!("min_inflight"))
    );
    assert_eq!((&shown["queue_depth"], &shown["max_io_size"]), (&json!(256), &json!(1 << 20)));
    let served = two.server.call("rtrs_get_sessions", json!({}))[0].clone();
    assert_eq!((&served["role"], &served["session"]), (&json!("server"), &session));
    assert_eq!(served["peer_host"], shown["host"], "each knows who the other is");
    assert_eq!(served["lanes"][0]["connections"].as_array().map(Vec::len), Some(2));
    let keys = two.server.call("keyring_get_keys", json!({}));
    assert_eq!(keys[0]["refcnt"], 3, "the keyring and two listeners hold the key");
    let kinds: Vec<String> = told(&mut two.client).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "path_up").count(), 2, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "session_up").count(), 1, "{kinds:?}");
    // The same peer again is the same session; with another key it is a mistake.
    let again = json!({"paths": [paths[1], paths[0]], "key": "key0"});
    assert_eq!(two.client.call("rtrs_create_session", again), session);
    let other = refusal(&mut two.client, "rtrs_create_session", json!({"paths": paths}));
    assert!(other.contains("key0") && other.contains("no key"), "{other}");
    two.client.call("rtrs_delete_session", json!({"session": session}));
    let begun = Instant::now();
    while two.server.call("rtrs_get_sessions", json!({})) != json!([]) {
        assert!(begun.elapsed() < PATIENCE, "the server hears of the end at once");
    }
    assert_eq!(two.client.call("rtrs_get_sessions", json!({})), json!([]));
    assert!(
        told(&mut two.client)
            .iter()
            .any(|(kind, about)| kind == "session_down" && about.contains("by command"))
    );
    let log = two.server.log() + &two.client.log();
    assert!(!log.contains(std::str::from_utf8(KEY).expect("text")), "a key shows nowhere");
    assert!(two.client.stop().success() && two.server.stop().success());
}

#[test]
fn a_wrong_key_is_said_to_be_wrong_on_both_sides_and_an_exchanged_one_is_taken_by_itself() {
    let Some(mut two) = Two::start() else { return };
    add_key(&mut two.server, KEY);
    add_key(&mut two.client, b"a key that only one of them has");
    two.listen(Some("key0"));
    let path = two.path(0);
    two.client.call("rtrs_create_session", json!({"paths": [path], "key": "key0"}));
    let says_key =
        |session: &Value| session["paths"][0]["reason"].as_str().is_some_and(|why| why.contains("key"));
    let shown = two.wait_session("the client says why", says_key);
    assert_eq!(
        (&shown["state"], &shown["paths"][0]["state"]),
        (&json!("connecting"), &json!("down")),
        "{shown}"
    );
    let listeners = two.server.call("rtrs_get_listeners", json!({}));
    let last = &listeners[0]["last_refused"];
    assert!(last["reason"].as_str().is_some_and(|why| why.contains("key")), "{listeners}");
    assert!(two.server.log().contains("not let in"), "{}", two.server.log());
    assert!(told(&mut two.client).iter().any(|(kind, about)| kind == "path_down" && about.contains("key")));
    // Exchanged whole, as the operator's page says.
    let (new, key) = (two.client.dir().join("key0.new"), two.client.dir().join("key0"));
    key_file(&new, KEY);
    fs::rename(&new, &key).expect("exchanged");
    two.wait_session("it comes up by itself", all_up);
    assert!(two.client.stop().success() && two.server.stop().success());
}

#[test]
fn a_listener_that_goes_leaves_the_other_path_and_is_found_again_when_it_is_back() {
    let Some(mut two) = Two::start() else { return };
    two.listen(None);
    let paths = two.paths();
    two.client.call("rtrs_create_session", json!({"paths": paths}));
    two.wait_session("both paths are up", all_up);
    let second = listener(two.ways[1], None);
    let mut gone = second.clone();
    gone["trtype"] = "TCP".into();
    two.server.call("rtrs_remove_listener", gone);
    let shown = two.wait_session("one path is down", |session| session["paths"][1]["state"] == "down");
    assert_eq!(
        (&shown["state"], &shown["lanes"][0]["lives"]),
        (&json!("up"), &json!(1)),
        "the session lives on"
    );
    assert_eq!(two.server.call("rtrs_get_listeners", json!({})).as_array().map(Vec::len), Some(1));
    two.server.call("rtrs_add_listener", second);
    let named = two.path(0);
    two.client.call("rtrs_reconnect_session", json!({"session": named}));
    let shown = two.wait_session("both are up again", all_up);
    assert_eq!(shown["lanes"][0]["lives"], 1);
    assert_eq!(shown["paths"][1]["connects"], 2, "{shown}");
    // All ways gone: it waits, and goes on in a new life or in the old one.
    for way in two.ways {
        two.server.call("rtrs_remove_listener", listener(way, None));
    }
    two.wait_session("no path is up", |session| session["state"] == "stalled" || session["state"] == "down");
    two.listen(None);
    two.wait_session("it is back", all_up);
    assert!(two.client.stop().success() && two.server.stop().success());
}

#[test]
fn paths_and_policy_can_be_changed_and_all_of_it_is_saved() {
    let Some(mut two) = Two::start() else { return };
    let limits = json!({"trtype": "TCP", "max_queue_depth": 32, "max_io_size": 65536});
    two.server.call("rtrs_create_transport", limits);
    two.listen(None);
    let (first, second) = (two.path(0), two.path(1));
    let session = two.client.call("rtrs_create_session", json!({"paths": [first], "data_digest": false}));
    two.client.call("rtrs_add_path", json!({"session": session, "path": second}));
    two.client.call("rtrs_set_multipath_policy", json!({"session": first, "policy": "round_robin"}));
    let shown = two.wait_session("both paths are up", all_up);
    assert_eq!((&shown["queue_depth"], &shown["max_io_size"]), (&json!(32), &json!(65536)));
    assert_eq!(shown["policy"], "round_robin");
    two.client.call("rtrs_remove_path", json!({"session": session, "path": first}));
    let last = refusal(&mut two.client, "rtrs_remove_path", json!({"session": session, "path": second}));
    assert!(last.contains("the only path"), "{last}");
    let shown =
        two.wait_session("one path is left", |session| session["paths"].as_array().map(Vec::len) == Some(1));
    assert_eq!((&shown["paths"][0]["path"], &shown["state"]), (&json!(second), &json!("up")));
    let config = |target: &mut Target| target.call("framework_get_config", json!({"name": "rtrs"}));
    let (of_server, of_client) = (config(&mut two.server), config(&mut two.client));
    assert_eq!(of_server.as_array().map(Vec::len), Some(3), "{of_server}");
    // One target takes both parts, and saves the same again. The other ones have to let go of the addresses first.
    assert!(two.client.stop().success() && two.server.stop().success());
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("saved.json");
    let calls: Vec<Value> = [&of_server, &of_client]
        .into_iter()
        .flat_map(|part| part.as_array().expect("calls").clone())
        .collect();
    let text = json!({"subsystems": [{"subsystem": "rtrs", "config": calls}]}).to_string();
    fs::write(&file, text).expect("written");
    let mut both = Target::start(&["-c", file.to_str().expect("a path")]).expect("there was one before");
    both.wait_ready();
    assert_eq!(config(&mut both), Value::Array(calls));
    assert!(both.stop().success());
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_accepted() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    let own = loopback_of(target.dir());
    let at = |port: &str| json!({"trtype": "TCP", "traddr": own.to_string(), "trsvcid": port});
    target.call("rtrs_add_listener", at("4430"));
    let taken = std::net::TcpListener::bind((own, 4431)).expect("a port");
    let with = |name: &str, value: Value| {
        let mut params = at("4432");
        params[name] = value;
        params
    };
    let path = format!("ip:{own}:4430");
    target.call("rtrs_create_session", json!({"paths": [path]}));
    for (method, params, words) in [
        ("rtrs_create_transport", json!({"trtype": "TCP"}), "before the first listener"),
        ("rtrs_create_transport", json!({"trtype": "RDMA"}), "RDMA is not built"),
        ("rtrs_create_transport", json!({"trtype": "TCP", "max_queue_depth": 0}), "1 to 4096"),
        ("rtrs_create_transport", json!({"trtype": "TCP", "max_io_size": 5000}), "multiple of 4096"),
        ("rtrs_add_listener", at("4430"), "already"),
        ("rtrs_add_listener", at("4431"), "in use"),
        ("rtrs_add_listener", at("0"), "port 0"),
        ("rtrs_add_listener", at("http"), "1 to 65535"),
        ("rtrs_add_listener", with("trtype", json!("RDMA")), "RDMA is not built"),
        ("rtrs_add_listener", with("trtype", json!("FC")), "no such transport"),
        ("rtrs_add_listener", with("adrfam", json!("IPv6")), "IPv4"),
        ("rtrs_add_listener", with("traddr", json!("localhost")), "names are not looked up"),
        ("rtrs_add_listener", with("traddr", json!("192.0.2.1")), "--insecure-sessions"),
        ("rtrs_add_listener", with("key", json!("key7")), "there is no key"),
        ("rtrs_add_listener", with("reactor", json!(1)), "0 to 0"),
        ("rtrs_remove_listener", at("4433"), "4430"),
        ("rtrs_create_session", json!({"paths": []}), "paths"),
        ("rtrs_create_session", json!({"paths": ["1.2.3.4:5"]}), "accepted: ip:ADDRESS:PORT"),
        ("rtrs_create_session", json!({"paths": ["ip:192.0.2.1:5"]}), "--insecure-sessions"),
        ("rtrs_create_session", json!({"paths": [path, path]}), "twice"),
        (
            "rtrs_create_session",
            json!({"paths": [path], "policy": "min_latency"}),
            "rtrs_set_multipath_policy",
        ),
        ("rtrs_create_session", json!({"paths": [path], "policy": "best"}), "min_inflight"),
        ("rtrs_add_path", json!({"session": path, "path": path}), "twice"),
        ("rtrs_remove_path", json!({"session": path, "path": "ip:127.0.0.1:1"}), "has no path"),
        ("rtrs_delete_session", json!({"session": "5c1e7a40-93b2-4f0e-8d55-2b1f6f0c9a77"}), &path),
        ("rtrs_reconnect_session", json!({"session": "all"}), &path),
    ] {
        let said = refusal(&mut target, method, params.clone());
        assert!(said.contains(words), "{method} {params}: {said}");
    }
    drop(taken);
    let host = "0d9e3f1a-6a52-4b1c-9f26-1c7a5be40d11";
    let mut named = Target::start(&["--host-id", host, "--insecure-sessions"]).expect("there was one before");
    named.wait_ready();
    named.call("rtrs_create_session", json!({"paths": ["ip:192.0.2.1:4430"]}));
    assert_eq!(named.call("rtrs_get_sessions", json!({}))[0]["host"], host);
    assert!(named.stop().success() && target.stop().success());
}
