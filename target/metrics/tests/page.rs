//! Whole pages of a small target without a process: figures of real IO, read by a strict parser.

#![allow(clippy::expect_used, missing_docs)]

#[path = "common/strict.rs"]
mod strict;

use perf_load::{JobSpec, Limit, Workload};
use std::sync::Arc;
use std::time::Instant;
use strict::{read, value};
use tgt_bdev::{Bdevs, HistogramSpec};
use tgt_keyring::Keyring;
use tgt_metrics::{Sources, page};
use tgt_reactor::{Reactors, SleepPolicy, StartOptions};
use tgt_rtrs::Id;
use tgt_rtrs::sessions::{ListenerSpec, PathSpec, PeerSpec, Sessions, SessionsOptions};

struct World {
    reactors: Reactors,
    sources: Sources,
}

fn world(names: &[&str]) -> World {
    let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
    let reactors = Reactors::start(&options).expect("a reactor");
    let bdevs = Bdevs::new();
    for name in names {
        let spec =
            bdev_null::NullSpec { name: (*name).to_owned(), uuid: None, block_size: 512, num_blocks: 1024 };
        bdev_null::create(&bdevs, spec).expect("a bdev");
    }
    let sessions = Sessions::start(SessionsOptions {
        reactors: reactors.handles().clone(),
        keyring: Keyring::new(),
        host: Id([7; 16]),
        insecure: false,
        tell: Box::new(|_| ()),
    });
    let sources = Sources {
        bdevs,
        sessions: sessions.expect("a thread"),
        reactors: reactors.handles().clone(),
        replication: None,
        version: "1.2.3",
        spdk_version: "26.09".to_owned(),
        started: Instant::now(),
    };
    World { reactors, sources }
}

impl World {
    fn load(&self, bdev: &str, workload: Workload, ios: u64) {
        let job = JobSpec {
            bdev: bdev.to_owned(),
            reactor: 0,
            workload,
            read_percent: 0,
            queue_depth: 4,
            io_bytes: 4096,
            limit: Limit::Ios(ios),
            latency: false,
            seed: 1,
            go_on: false,
            state: None,
        };
        perf_load::run(&self.sources.bdevs, self.reactors.handles(), &[job], |_| true).expect("a run");
    }
}

#[test]
fn an_idle_target_has_its_version_its_reactors_its_memory_and_no_bdevs() {
    let world = world(&[]);
    let families = read(&page(&world.sources));
    assert_eq!(value(&families, "rmr_target_info", &[("version", "1.2.3"), ("spdk_version", "26.09")]), 1.0);
    assert_eq!(value(&families, "rmr_reactor_answers", &[("reactor", "reactor_0")]), 1.0);
    assert!(value(&families, "process_resident_memory_bytes", &[]) > 0.0);
    assert!(families.keys().all(|name| !name.starts_with("rmr_bdev_")), "{:?}", families.keys());
    for name in families.keys() {
        let known = tgt_metrics::families::ALL.iter().find(|family| family.name == *name).expect(name);
        assert_eq!(families[name].kind, known.kind.name(), "{name}");
    }
}

#[test]
fn ios_bytes_and_latencies_are_those_that_were_done() {
    let world = world(&["N0", "N1"]);
    let bdev = world.sources.bdevs.get("N0").expect("it was made");
    bdev.set_histogram(Some(HistogramSpec::default()));
    bdev.sample_queue_depth(std::time::Duration::from_millis(1)).expect("a sampler");
    world.load("N0", Workload::Write, 1000);
    world.load("N0", Workload::Read, 500);
    let families = read(&page(&world.sources));
    let of = |name: &str, op: &str| value(&families, name, &[("bdev", "N0"), ("op", op)]);
    assert_eq!(
        (of("rmr_bdev_ios_total", "write"), of("rmr_bdev_bytes_total", "write")),
        (1000.0, 4_096_000.0)
    );
    assert_eq!((of("rmr_bdev_ios_total", "read"), of("rmr_bdev_ios_total", "unmap")), (500.0, 0.0));
    assert_eq!(of("rmr_bdev_io_latency_seconds_count", "all"), 1500.0);
    let sum = of("rmr_bdev_latency_seconds_total", "write") + of("rmr_bdev_latency_seconds_total", "read");
    assert!(sum > 0.0 && of("rmr_bdev_latency_max_seconds", "write") <= sum);
    let other = value(&families, "rmr_bdev_ios_total", &[("bdev", "N1"), ("op", "write")]);
    assert_eq!(other, 0.0);
    assert_eq!(value(&families, "rmr_bdev_size_bytes", &[("bdev", "N1")]), 524_288.0);
    assert!(value(&families, "rmr_bdev_queue_depth", &[("bdev", "N0")]) >= 0.0);
    let sampled = &families["rmr_bdev_queue_depth"].samples;
    assert_eq!(sampled.len(), 1, "N1 is not sampled");
}

#[test]
fn counters_never_shrink_while_a_reactor_sleeps_and_works() {
    let world = world(&["N0"]);
    let mut before = read(&page(&world.sources));
    for _ in 0..5 {
        world.load("N0", Workload::Write, 100);
        let now = read(&page(&world.sources));
        for (name, family) in before.iter().filter(|(_, family)| family.kind == "counter") {
            for (sample, labels, old) in &family.samples {
                let labels: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let new = value(&now, sample, &labels);
                assert!(new >= *old, "{name} {labels:?}: {old} then {new}");
            }
        }
        before = now;
    }
}

#[test]
fn a_name_may_hold_what_the_format_gives_a_meaning() {
    let name = "a\"b\\c\nd{}=,";
    let world = world(&[name]);
    let families = read(&page(&world.sources));
    assert_eq!(value(&families, "rmr_bdev_info", &[("bdev", name), ("product", "Null disk")]), 1.0);
}

#[test]
fn reactors_that_have_stopped_are_reported_and_hold_nothing_up() {
    let World { reactors, sources } = world(&[]);
    assert!(reactors.stop().is_empty());
    let families = read(&page(&Sources { bdevs: Arc::clone(&sources.bdevs), ..sources }));
    assert_eq!(value(&families, "rmr_reactor_answers", &[("core", "0")]), 0.0);
}

#[test]
fn a_session_and_its_path_are_there_at_both_ends() {
    let world = world(&[]);
    assert!(read(&page(&world.sources)).keys().all(|name| !name.starts_with("rmr_session_")));
    // Found free, and let go again: the port of a listener is named.
    let free = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let sessions = &world.sources.sessions;
    sessions
        .add_listener(&ListenerSpec { address, key: None, digest: true, reactor: None })
        .expect("it listens");
    let session =
        sessions.create(&PeerSpec::new(vec![PathSpec::to(address)])).expect("a session").to_string();
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    let up = [("session", session.as_str()), ("state", "up")];
    let families = loop {
        let families = read(&page(&world.sources));
        if value(&families, "rmr_session_lanes", &up) == 1.0
            && families.contains_key("rmr_session_path_round_trip_seconds")
        {
            break families;
        }
        assert!(Instant::now() < deadline, "it does not come up");
    };
    let (host, path) = (Id([7; 16]).to_string(), format!("ip:{address}"));
    for role in ["client", "server"] {
        let labels = [("session", session.as_str()), ("role", role), ("peer", &host)];
        assert_eq!(value(&families, "rmr_session_info", &labels), 1.0);
    }
    let of_path = [("session", session.as_str()), ("path", &path)];
    for (name, wanted) in
        [("lanes_up", 1.0), ("connects_total", 1.0), ("requests_total", 0.0), ("faults_total", 0.0)]
    {
        assert_eq!(value(&families, &format!("rmr_session_path_{name}"), &of_path), wanted, "{name}");
    }
    let of_lane = [("session", session.as_str()), ("peer", &host), ("lane", "0")];
    assert_eq!(value(&families, "rmr_session_served_connections", &of_lane), 1.0);
    assert_eq!(value(&families, "rmr_session_served_requests_total", &of_lane), 0.0);
    assert!(value(&families, "rmr_session_path_round_trip_seconds", &of_path) < 1.0);
}

#[test]
fn devices_and_stores_are_told_with_what_keeps_them_waiting() {
    use tgt_metrics::replication::{Device, Leg, Replication, ReplicationSource, Stops, Store};
    let mut world = world(&[]);
    let look = || Replication {
        devices: vec![Device {
            name: "Brmr0".to_owned(),
            pool: "p".to_owned(),
            serves: true,
            members: 2,
            up_to_date: 1,
            generation: 7,
            requests: 3,
            stops: vec![Stops { kind: "changing", count: 4, seconds: 0.5, seconds_max: 0.25 }],
            legs: vec![
                Leg { member: 0, connected: true, up_to_date: true, read_seconds: Some(0.001) },
                Leg { member: 1, connected: false, up_to_date: false, read_seconds: None },
            ],
        }],
        stores: vec![Store {
            pool: "p".to_owned(),
            member: 1,
            serves: false,
            dirty_bytes: 4096,
            copied_bytes: 8192,
            overwritten_bytes: 0,
            intents: 5,
            copying: 2,
            requests: 1,
            letters_dropped: 6,
        }],
    };
    world.sources.replication = Some(ReplicationSource::new(look));
    let read = read(&page(&world.sources));
    for (name, labels, expect) in [
        ("rmr_device_serves", vec![("bdev", "Brmr0"), ("pool", "p")], 1.0),
        ("rmr_device_up_to_date_members", vec![("bdev", "Brmr0"), ("pool", "p")], 1.0),
        ("rmr_device_generation", vec![("bdev", "Brmr0"), ("pool", "p")], 7.0),
        ("rmr_device_stopped_max_seconds", vec![("bdev", "Brmr0"), ("kind", "changing")], 0.25),
        ("rmr_leg_connected", vec![("bdev", "Brmr0"), ("member", "1")], 0.0),
        ("rmr_leg_read_latency_seconds", vec![("bdev", "Brmr0"), ("member", "0")], 0.001),
        ("rmr_store_dirty_bytes", vec![("pool", "p"), ("member", "1")], 4096.0),
        ("rmr_store_letters_dropped_total", vec![("pool", "p"), ("member", "1")], 6.0),
    ] {
        assert_eq!(value(&read, name, &labels), expect, "{name}");
    }
    assert_eq!(read["rmr_leg_read_latency_seconds"].samples.len(), 1, "one leg was not measured");
    assert!(world.reactors.stop().is_empty());
}
