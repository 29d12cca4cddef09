//! The methods of a replicated device on real processes: growth, comparison of copies, take-over, and what is saved.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_e2e::PATIENCE;
use test_e2e::pool::{DEVICE, Nodes, compute, device, load, refused, wait_device, wait_up_to_date};
use test_e2e::target::Target;

const MIB: u64 = 1 << 20;
const MAPPED: u64 = 16 * MIB;
const LOOK: Duration = Duration::from_millis(5);

fn bdev(compute: &mut Target) -> Value {
    compute.call("bdev_get_bdevs", json!({"name": DEVICE}))[0].clone()
}

/// Starts a comparison, and what it found when it is over.
fn verify(compute: &mut Target, more: Value) -> Value {
    let mut params = json!({"name": DEVICE});
    for (name, value) in more.as_object().expect("members") {
        params[name] = value.clone();
    }
    compute.call("rmr_verify_pool", params);
    let begun = Instant::now();
    loop {
        let found = compute.call("rmr_get_verify", json!({"name": DEVICE}));
        if found["state"] != json!("running") {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end: {found}");
        sleep(LOOK);
    }
}

#[test]
fn a_device_grows_on_all_members_first_and_a_growth_that_cannot_be_is_refused_by_name() {
    let Some(mut nodes) = Nodes::start(2, MAPPED) else { return };
    let Some(mut host) = compute() else { return };
    host.call("bdev_brmr_create", nodes.device_of(2));
    nodes.wait_clean();
    let state = nodes.folder().join("state");
    for (size, code, words) in [
        (MAPPED + 1, -22, "multiple of 4096"),
        (MAPPED, -22, "not more than"),
        (MAPPED / 2, -22, "only grow"),
        (1 << 40, -28, "larger disk"),
    ] {
        let (got, said) = refused(&mut host, "bdev_brmr_resize", json!({"name": DEVICE, "size": size}));
        assert!(got == code && said.contains(words), "{size}: {got} {said}");
    }
    assert_eq!(bdev(&mut host)["num_blocks"], json!(MAPPED / 4096), "nothing changed");
    assert_eq!(host.call("bdev_brmr_resize", json!({"name": DEVICE, "size": 2 * MAPPED})), json!(true));
    assert_eq!(bdev(&mut host)["num_blocks"], json!(2 * MAPPED / 4096));
    assert_eq!(device(&mut host)["num_blocks"], json!(2 * MAPPED / 4096));
    load(&mut host, 500, &state);
    // One that was away hears of it when it comes back.
    nodes.kill(1);
    wait_up_to_date(&mut host, &[0]);
    host.call("bdev_brmr_resize", json!({"name": DEVICE, "size": 3 * MAPPED}));
    nodes.start_again(1);
    wait_up_to_date(&mut host, &[0, 1]);
    let mapped = |nodes: &mut Nodes, member| {
        nodes.node(member).call("brmr_get_stores", json!({}))[0]["mapped"].clone()
    };
    assert_eq!([mapped(&mut nodes, 0), mapped(&mut nodes, 1)], [json!(3 * MAPPED), json!(3 * MAPPED)]);
    // The whole is written from one end to the other by whoever assembles it next.
    let saved = host.call("framework_get_config", json!({"name": "bdev"}));
    let call = saved.as_array().expect("calls").iter().find(|call| call["method"] == "bdev_brmr_create");
    assert_eq!(call.expect("it is saved")["params"]["num_blocks"], json!(3 * MAPPED / 4096));
    assert!(host.stop().success());
    nodes.stop();
}

#[test]
fn copies_that_differ_are_found_and_repaired_as_far_as_it_is_known_who_is_right() {
    let Some(mut nodes) = Nodes::start(2, MAPPED) else { return };
    let Some(mut host) = compute() else { return };
    host.call("bdev_brmr_create", nodes.device_of(2));
    let state = nodes.folder().join("state");
    load(&mut host, 300, &state);
    nodes.wait_settled();
    let chunks = MAPPED / (128 << 10);
    let found = verify(&mut host, json!({}));
    assert_eq!(
        (&found["state"], &found["chunks"], &found["differed"]),
        (&json!("done"), &json!(chunks), &json!(0))
    );
    // A disk changes what it holds while nobody looks.
    let layout =
        nodes.node(1).call("rmr_get_store_metadata", json!({"pool": test_e2e::pool::POOL}))["layout"].clone();
    let data = layout["data_offset"].as_u64().expect("a number");
    nodes.kill(1);
    wait_up_to_date(&mut host, &[0]);
    let disk = File::options().write(true).open(nodes.disk(1)).expect("the disk");
    disk.write_all_at(&[0x5a; 4096], data + 5 * (128 << 10)).expect("a write");
    drop(disk);
    nodes.start_again(1);
    wait_up_to_date(&mut host, &[0, 1]);
    nodes.wait_clean();
    let found = verify(&mut host, json!({}));
    // Two copies, and nobody is in the majority.
    assert_eq!(
        (&found["differed"], &found["repaired"], &found["unresolved"]),
        (&json!(1), &json!(0), &json!(1))
    );
    assert_eq!(found["pinned"], json!([{"chunk": 5, "read_from": 0}]));
    let found = verify(&mut host, json!({"believe": 0, "first_chunk": 5}));
    assert_eq!((&found["chunks"], &found["repaired"]), (&json!(chunks - 5), &json!(1)), "{found}");
    nodes.wait_clean();
    let found = verify(&mut host, json!({}));
    assert_eq!((&found["differed"], &found["pinned"]), (&json!(0), &json!([])), "{found}");
    load(&mut host, 300, &state);
    // One that is told to take its time can be stopped.
    host.call("rmr_verify_pool", json!({"name": DEVICE, "pause_us": 3_600_000_000_u32}));
    host.call("rmr_stop_verify", json!({"name": DEVICE}));
    let found = host.call("rmr_get_verify", json!({"name": DEVICE}));
    assert_eq!(found["state"], json!("stopped"), "{found}");
    assert!(host.stop().success());
    nodes.stop();
}

#[test]
fn a_pool_is_taken_over_and_taken_back_and_the_one_that_lost_it_says_so() {
    let Some(nodes) = Nodes::start(2, MAPPED) else { return };
    let (Some(mut first), Some(mut second)) = (compute(), compute()) else { return };
    first.call("bdev_brmr_create", nodes.device_of(2));
    let mut wanted = nodes.device_of(2);
    wanted["wait_ms"] = json!(500);
    refused_while_held(&mut second, "bdev_brmr_create", wanted.clone());
    wanted["takeover"] = json!(true);
    wanted["wait_ms"] = json!(30_000);
    second.call("bdev_brmr_create", wanted);
    // Without having done any IO: an idle client that only sees its legs go must not take the pool back.
    wait_device(&mut first, "it hears of it", |device| device["state"] == "fenced");
    let (code, said) = refused(&mut second, "rmr_enable_pool", json!({"name": DEVICE}));
    assert!(code == -16 && said.contains("nothing to start"), "{code} {said}");
    refused_while_held(&mut first, "rmr_enable_pool", json!({"name": DEVICE, "wait_ms": 500}));
    assert!(second.stop().success());
    // It goes on trying, and the other's lease runs out.
    wait_up_to_date(&mut first, &[0, 1]);
    assert!(first.stop().success());
    nodes.stop();
}

/// Refused, as somebody else has it. On a slow machine the members may not have said so in the time that the call has.
fn refused_while_held(host: &mut Target, method: &str, params: Value) {
    let mut last = String::new();
    let said_so = (0..20).any(|_| {
        let (code, said) = refused(host, method, params.clone());
        last = format!("{code} {said}");
        // The one that waits to be let in again goes on waiting: asked again, it says for whom.
        said.contains("held by another client") && [-110, -16].contains(&code)
    });
    assert!(said_so, "{last}");
}

#[test]
fn what_a_device_was_made_with_is_saved_and_comes_back() {
    let Some(nodes) = Nodes::start(2, MAPPED) else { return };
    let Some(mut host) = compute() else { return };
    let mut wanted = nodes.device_of(2);
    wanted["io_timeout_ms"] = json!(7000);
    wanted["readonly"] = json!(true);
    host.call("bdev_brmr_create", wanted);
    let shown = bdev(&mut host)["supported_io_types"].clone();
    assert_eq!(
        (&shown["read"], &shown["write"], &shown["unmap"]),
        (&json!(true), &json!(false), &json!(false))
    );
    let config = |host: &mut Target| host.call("framework_get_config", json!({"name": "bdev"}));
    let saved = config(&mut host);
    let call = saved.as_array().expect("calls").iter().find(|call| call["method"] == "bdev_brmr_create");
    let params = call.expect("it is saved")["params"].clone();
    assert_eq!((&params["io_timeout_ms"], &params["readonly"]), (&json!(7000), &json!(true)), "{params}");
    assert!(host.stop().success());
    let file = nodes.folder().join("saved.json");
    let text = json!({"subsystems": [{"subsystem": "bdev", "config": saved}]});
    fs::write(&file, text.to_string()).expect("written");
    let mut again = Target::start(&["-c", file.to_str().expect("a path")]).expect("there was one before");
    again.wait_ready();
    assert_eq!(config(&mut again), saved);
    wait_up_to_date(&mut again, &[0, 1]);
    assert!(again.stop().success());
    nodes.stop();
}

#[test]
fn a_member_that_the_client_was_not_told_of_is_connected_by_add_leg_and_a_stranger_let_go() {
    let Some(mut nodes) = Nodes::start(3, MAPPED) else { return };
    let Some(mut host) = compute() else { return };
    host.call("bdev_brmr_create", nodes.device_of(2));
    nodes.node(0);
    let maintenance = |on: bool| json!({"name": DEVICE, "member_id": 1, "enable": on});
    wait_up_to_date(&mut host, &[0, 1]);
    host.call("rmr_set_leg_maintenance", maintenance(true));
    host.call("bdev_brmr_delete", json!({"name": DEVICE}));
    // This client is told of one member; the pool names two.
    host.call("bdev_brmr_create", nodes.device_of(1));
    let shown = device(&mut host);
    assert_eq!(
        (&shown["members"], shown["legs"].as_array().map(Vec::len)),
        (&json!([0, 1]), Some(1)),
        "{shown}"
    );
    let mut leg = nodes.member(1);
    leg["name"] = json!(DEVICE);
    assert_eq!(host.call("rmr_add_leg", leg), json!(true));
    host.call("rmr_set_leg_maintenance", maintenance(false));
    wait_up_to_date(&mut host, &[0, 1]);
    let saved = host.call("framework_get_config", json!({"name": "bdev"})).to_string();
    assert!(
        saved.contains(nodes.member(1)["paths"][0].as_str().expect("a path")),
        "its leg is saved: {saved}"
    );
    // A third comes, goes, and is not known any more.
    nodes.wait_clean();
    let mut leg = nodes.member(2);
    leg["name"] = json!(DEVICE);
    assert_eq!(host.call("rmr_add_leg", leg), json!(true));
    wait_up_to_date(&mut host, &[0, 1, 2]);
    nodes.wait_clean();
    let third = json!({"name": DEVICE, "member_id": 2});
    assert_eq!(host.call("rmr_remove_leg", third.clone()), json!(true));
    assert_eq!(device(&mut host)["members"], json!([0, 1]));
    let (code, said) = refused(&mut host, "rmr_remove_leg", third);
    assert!(code == -19 && said.contains("not a member"), "{code} {said}");
    assert!(host.stop().success());
    nodes.stop();
}

/// The page of a target's metrics address, which its log names.
fn metrics(target: &Target) -> String {
    let log = target.log();
    let address =
        log.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("the log names it");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("asked");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("text");
    page
}

/// The one sample of this name with these labels.
fn sample(page: &str, name: &str, label: &str) -> f64 {
    let mut found =
        page.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    let line = found.next().unwrap_or_else(|| panic!("no {name} with {label} in {page}"));
    assert!(found.next().is_none(), "more than one {name} with {label}");
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn monitors_see_who_is_up_to_date_what_is_to_be_copied_and_what_stopped_the_device() {
    let Some(mut nodes) = Nodes::start(2, MAPPED) else { return };
    let Some(mut host) = Target::start(&["--allow-load", "--metrics", "0"]) else { return };
    host.wait_ready();
    host.call("bdev_brmr_create", nodes.device_of(2));
    let state = nodes.folder().join("state");
    load(&mut host, 300, &state);
    wait_up_to_date(&mut host, &[0, 1]);
    let page = metrics(&host);
    assert_eq!(sample(&page, "rmr_device_serves", "Brmr0"), 1.0);
    assert_eq!(sample(&page, "rmr_device_up_to_date_members", "Brmr0"), 2.0);
    assert!(sample(&page, "rmr_device_stopped_seconds_total", "assembling") > 0.0);
    assert!(sample(&page, "rmr_leg_read_latency_seconds", "member=\"0\"") > 0.0);
    let changes = sample(&page, "rmr_device_stops_total", "changing");
    nodes.kill(1);
    wait_up_to_date(&mut host, &[0]);
    let page = metrics(&host);
    assert_eq!(sample(&page, "rmr_device_members", "Brmr0"), 2.0);
    assert_eq!(sample(&page, "rmr_device_up_to_date_members", "Brmr0"), 1.0);
    assert_eq!(sample(&page, "rmr_leg_connected", "member=\"1\""), 0.0);
    assert!(sample(&page, "rmr_device_stops_total", "changing") > changes);
    assert!(host.stop().success());
    nodes.stop();
}
