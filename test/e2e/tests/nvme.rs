//! The NVMe/TCP initiator in one process, the target in another that is killed under load.

#![allow(clippy::expect_used, missing_docs)]

use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use test_e2e::target::Target;
use test_e2e::{PATIENCE, places};

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const BYTES: u64 = 16 << 20;

fn port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    free.expect("a port").port()
}

fn address(port: u16) -> Value {
    json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": port.to_string()})
}

fn call(method: &str, params: Value) -> Value {
    json!({"method": method, "params": params})
}

/// The configuration of a target that exports `file`.
fn exporter(dir: &Path, port: u16) -> String {
    let file = dir.join("disk");
    fs::File::create(&file).and_then(|file| file.set_len(BYTES)).expect("a file");
    let uuid = "11111111-2222-4333-8444-555555555555";
    let disk = json!({"name": "U", "filename": file, "block_size": 4096, "uuid": uuid});
    let config = json!({"subsystems": [
        {"subsystem": "bdev", "config": [call("bdev_uring_create", disk)]},
        {"subsystem": "nvmf", "config": [
            call("nvmf_create_transport", json!({"trtype": "TCP"})),
            call("nvmf_create_subsystem", json!({"nqn": NQN, "allow_any_host": true})),
            call("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": {"bdev_name": "U"}})),
            call("nvmf_subsystem_add_listener", json!({"nqn": NQN, "listen_address": address(port)})),
        ]},
    ]});
    let path = dir.join("exporter.json");
    fs::write(&path, config.to_string()).expect("a file");
    path.to_str().expect("a path").to_owned()
}

fn attach(port: u16, digests: bool) -> Value {
    let mut params = address(port);
    for (name, value) in [
        ("name", json!("Nvme0")),
        ("subnqn", json!(NQN)),
        ("hdgst", json!(digests)),
        ("ddgst", json!(digests)),
        ("ctrlr_loss_timeout_sec", json!(-1)),
        ("reconnect_delay_sec", json!(1)),
    ] {
        params[name] = value;
    }
    params
}

fn completed(target: &mut Target) -> u64 {
    let stats = target.call("nvmf_get_stats", json!({}));
    let groups = stats["poll_groups"].as_array().expect("groups").iter();
    groups.map(|group| group["completed_nvme_io"].as_u64().expect("a number")).sum()
}

/// Waits until the load goes through this exporter.
fn wait_for_io(target: &mut Target) {
    let (since, before) = (Instant::now(), completed(target));
    while completed(target) < before + 200 {
        assert!(since.elapsed() < 2 * PATIENCE, "no IO comes:\n{}", target.log());
    }
}

/// Every block is stamped and checked; a block that is lost, old or torn ends the load with an error.
#[test]
fn checked_load_goes_on_while_its_target_is_killed_and_started_again() {
    let Some(program) = places::rmr_perf() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let port = port();
    let config = exporter(dir.path(), port);
    for digests in [false, true] {
        let Some(mut target) = Target::start(&["-c", &config]) else { return };
        target.wait_ready();
        let load = dir.path().join("load.json");
        let attach = call("bdev_nvme_attach_controller", attach(port, digests));
        let subsystems = json!({"subsystems": [{"subsystem": "bdev", "config": [attach]}]});
        fs::write(&load, subsystems.to_string()).expect("a file");
        let mut command = Command::new(&program);
        command.args([
            "bdev",
            "--disable-cpumask-locks",
            "-q",
            "32",
            "-o",
            "16k",
            "-w",
            "verify",
            "-t",
            "8",
            "-c",
        ]);
        command.arg(&load).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = command.spawn().expect("the load generator");
        for _ in 0..2 {
            wait_for_io(&mut target);
            // SIGKILL, with writes under way.
            drop(target);
            target = Target::start(&["-c", &config]).expect("there was one");
            target.wait_ready();
        }
        wait_for_io(&mut target);
        let ended = running.wait_with_output().expect("its end");
        let (said, erred) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success(), "digests {digests}: {}\n{said}\n{erred}", ended.status);
    }
}

#[test]
fn an_attached_controller_is_shown_saved_and_attached_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let port = port();
    let config = exporter(dir.path(), port);
    let Some(mut target) = Target::start(&["-c", &config]) else { return };
    target.wait_ready();
    let Some(mut host) = Target::start(&[]) else { return };
    host.wait_ready();
    let names = host.call("bdev_nvme_attach_controller", attach(port, false));
    assert_eq!(names, json!(["Nvme0n1"]));
    let bdevs = host.call("bdev_get_bdevs", json!({"name": "Nvme0n1"}));
    assert_eq!(bdevs[0]["product_name"], json!("NVMe disk"));
    assert_eq!(bdevs[0]["uuid"], json!("11111111-2222-4333-8444-555555555555"));
    let shown = host.call("bdev_nvme_get_controllers", json!({}));
    assert_eq!(shown[0]["ctrlrs"][0]["state"], json!("enabled"));
    assert_eq!(shown[0]["ctrlrs"][0]["trid"]["subnqn"], json!(NQN));
    assert_eq!(host.call("bdev_nvme_reset_controller", json!({"name": "Nvme0"})), json!(true));
    let saved = host.call("framework_get_config", json!({"name": "bdev"}));
    let path = dir.path().join("host.json");
    let subsystems = json!({"subsystems": [{"subsystem": "bdev", "config": saved}]});
    fs::write(&path, subsystems.to_string()).expect("a file");
    assert_eq!(host.call("bdev_nvme_detach_controller", json!({"name": "Nvme0"})), json!(true));
    assert_eq!(host.call("bdev_get_bdevs", json!({})), json!([]));
    host.stop();
    let Some(mut again) = Target::start(&["-c", path.to_str().expect("a path")]) else { return };
    again.wait_ready();
    let come_back = again.call("framework_get_config", json!({"name": "bdev"}));
    assert_eq!(come_back.to_string(), saved.to_string());
    let mut params = attach(port, false);
    params["multipath"] = json!("failover");
    let refusal = again.client().call("bdev_nvme_attach_controller", Some(&params));
    assert!(refusal.expect_err("not supported").to_string().contains("multipath"));
    again.stop();
}
