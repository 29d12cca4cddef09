//! Calls through a registry, on bdevs that do nothing.

use crate::{Bdev, BdevSpec, Bdevs, Channel, Claim, Cx, Desc, Device, Limits, Mode, Op, OpSet};
use rpc_registry::{ConfigEntry, Registry, RpcError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const UUID: &str = "11111111-2222-4333-8444-555555555555";

struct Dummy;

impl Device for Dummy {
    fn open_channel(&self, _cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        Err("not in these tests".to_owned())
    }

    fn config(&self, bdev: &Bdev) -> Option<ConfigEntry> {
        Some(ConfigEntry::new("dummy_create", json!({"name": bdev.name()})))
    }
}

fn add(bdevs: &Bdevs, name: &str, uuid: Uuid) -> Arc<Bdev> {
    let spec = BdevSpec {
        name: name.to_owned(),
        aliases: vec![],
        product_name: "Dummy disk",
        uuid,
        block_size: 512,
        num_blocks: 131_072,
        ops: OpSet::all().without(Op::Unmap),
        limits: Limits::default(),
        numa_node: Some(0),
        device: Arc::new(Dummy),
    };
    bdevs.register(spec).expect("registered")
}

fn startup() -> (Registry, Arc<Bdevs>) {
    let (mut registry, bdevs) = (Registry::new(), Bdevs::new());
    let subsystem = super::register(&mut registry, &bdevs);
    registry.add_subsystem(subsystem);
    (registry, bdevs)
}

fn running() -> (Registry, Arc<Bdevs>) {
    let (registry, bdevs) = startup();
    assert!(registry.enter_runtime());
    add(&bdevs, "a", UUID.parse().expect("a UUID"));
    (registry, bdevs)
}

fn refused(registry: &Registry, method: &str, params: Value, code: i64, words: &str) {
    let error: RpcError = registry.call_value(method, Some(&params)).expect_err(words);
    assert!(error.code == code && error.message.contains(words), "{method} {params}: {error}");
}

#[test]
fn a_bdev_is_shown_exactly_as_spdk_shows_one() {
    let (registry, bdevs) = running();
    let desc = Desc::open(&bdevs.get("a").expect("it"), "test", Mode::Write).expect("open");
    let text = |params: &Value| registry.call_value("bdev_get_bdevs", Some(params)).expect("it").to_string();
    let shown = text(&json!({"name": UUID}));
    let expect = concat!(
        r#"[{"name":"a","aliases":["11111111-2222-4333-8444-555555555555"],"product_name":"Dummy disk","#,
        r#""block_size":512,"num_blocks":131072,"preferred_write_alignment":0,"preferred_write_granularity":0,"#,
        r#""optimal_write_size":0,"preferred_unmap_alignment":0,"preferred_unmap_granularity":0,"#,
        r#""uuid":"11111111-2222-4333-8444-555555555555","numa_id":0,"assigned_rate_limits":{"rw_ios_per_sec":0,"#,
        r#""rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":0},"claimed":false,"zoned":false,"#,
        r#""supported_io_types":{"read":true,"write":true,"unmap":false,"flush":true,"reset":true,"#,
        r#""nvme_admin":false,"nvme_io":false,"nvme_io_md":false,"write_zeroes":true,"zcopy":false,"#,
        r#""get_zone_info":false,"zone_management":false,"zone_append":false,"compare":true,"#,
        r#""compare_and_write":true,"abort":true,"seek_hole":false,"seek_data":false,"copy":true,"#,
        r#""nvme_iov_md":false,"nvme_nssr":false,"write_uncorrectable":false},"driver_specific":{}}]"#,
    );
    assert_eq!(shown, expect);
    desc.claim(Claim::ExclusiveWrite).expect("claim");
    assert!(text(&json!({})).contains(r#""claimed":true,"claim_type":"exclusive_write","zoned""#));
}

#[test]
fn a_bdev_that_is_late_is_waited_for_and_one_that_never_comes_is_timed_out() {
    let (registry, bdevs) = running();
    std::thread::scope(|scope| {
        let params = json!({"name": "late", "timeout": 60_000});
        let waiting =
            scope.spawn(move || registry.call_value("bdev_get_bdevs", Some(&params)).map(|_| registry));
        add(&bdevs, "late", Uuid::from_u128(7));
        let registry = waiting.join().expect("no panic").expect("it appeared");
        refused(&registry, "bdev_get_bdevs", json!({"name": "b", "timeout": 1}), -110, "within 1 ms");
        refused(&registry, "bdev_get_bdevs", json!({"name": "b"}), -19, "no bdev named \"b\"");
        refused(&registry, "bdev_get_bdevs", json!({"name": 1}), -32603, "\"name\"");
    });
    assert!(bdevs.get_within("late", Duration::ZERO).is_some());
}

#[test]
fn iostat_has_spdks_members_and_refuses_what_is_ambiguous() {
    let (registry, bdevs) = running();
    add(&bdevs, "b", Uuid::from_u128(2));
    let call = |params: Value| registry.call_value("bdev_get_iostat", Some(&params));
    let all = call(json!({})).expect("all");
    let members: Vec<&String> = all["bdevs"][0].as_object().expect("an object").keys().collect();
    let expect = "name,bytes_read,num_read_ops,bytes_written,num_write_ops,bytes_unmapped,num_unmap_ops,\
        bytes_copied,num_copy_ops,read_latency_ticks,max_read_latency_ticks,min_read_latency_ticks,\
        write_latency_ticks,max_write_latency_ticks,min_write_latency_ticks,unmap_latency_ticks,\
        max_unmap_latency_ticks,min_unmap_latency_ticks,copy_latency_ticks,max_copy_latency_ticks,\
        min_copy_latency_ticks,io_error";
    assert_eq!(members, expect.split(',').collect::<Vec<_>>());
    assert_eq!(all["bdevs"].as_array().expect("an array").len(), 2);
    let one = call(json!({"name": "b"})).expect("one");
    assert_eq!(one["bdevs"][0]["name"], "b");
    let channels = call(json!({"names": ["b"], "per_channel": true})).expect("channels");
    let members: Vec<&String> = channels.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["tick_rate", "ticks", "name", "channels"]);
    for (params, code, words) in [
        (json!({"name": "a", "names": ["a"]}), -22, "name and names are both given"),
        (json!({"per_channel": true}), -22, "with no names"),
        (json!({"names": ["a", "b"], "per_channel": true}), -22, "with 2 names"),
        (json!({"names": ["a", "c"]}), -19, "no bdev named \"c\""),
        (json!({"reset_mode": "some"}), -32603, "\"reset_mode\""),
    ] {
        refused(&registry, "bdev_get_iostat", params, code, words);
    }
    assert_eq!(registry.call_value("bdev_reset_iostat", None), Ok(json!(true)));
    refused(&registry, "bdev_reset_iostat", json!({"name": "c"}), -19, "no bdev named \"c\"");
}

#[test]
fn options_are_kept_saved_and_refused_as_a_whole() {
    let (registry, bdevs) = startup();
    let saved = || registry.subsystem("bdev").and_then(|bdev| bdev.saved()).expect("a writer");
    let params = |entry: &ConfigEntry| entry.params.clone().expect("params");
    let spdks = json!({"bdev_io_pool_size": 65535, "bdev_io_cache_size": 256, "bdev_auto_examine": true,
        "iobuf_small_cache_size": 128, "iobuf_large_cache_size": 16});
    assert_eq!(params(&saved()[0]), spdks);
    let bad = json!({"bdev_io_pool_size": 100, "bdev_io_cache_size": 51, "bdev_auto_examine": false});
    refused(&registry, "bdev_set_options", bad, -32602, "Pool size 100 too small for cache size 51");
    assert_eq!(params(&saved()[0]), spdks);
    let good = json!({"bdev_io_pool_size": 102, "bdev_io_cache_size": 51});
    assert_eq!(registry.call_value("bdev_set_options", Some(&good)), Ok(json!(true)));
    assert!(registry.enter_runtime());
    refused(&registry, "bdev_set_options", json!({}), -1, "before framework is initialized");
    add(&bdevs, "a", Uuid::from_u128(1));
    let entries = saved();
    assert_eq!(params(&entries[0])["bdev_io_pool_size"], 102);
    let methods: Vec<&str> = entries.iter().map(|entry| entry.method.as_str()).collect();
    assert_eq!(methods, ["bdev_set_options", "dummy_create", "bdev_wait_for_examine"]);
}

#[test]
fn registering_resizing_and_removing_is_notified_in_order() {
    let (registry, bdevs) = running();
    bdevs.get("a").expect("it").resize(262_144);
    bdevs.remove("a").expect("nobody has it open");
    let call = |params: Value| registry.call_value("notify_get_notifications", Some(&params));
    let event = |kind: &str, id: u64| json!({"type": kind, "ctx": "a", "id": id});
    let all = json!([event("bdev_register", 0), event("bdev_resize", 1), event("bdev_unregister", 2)]);
    assert_eq!(call(json!({})), Ok(all));
    assert_eq!(call(json!({"id": 1, "max": 1})), Ok(json!([event("bdev_resize", 1)])));
}

#[test]
fn examine_answers_for_bdevs_that_exist() {
    let (registry, _bdevs) = running();
    assert_eq!(registry.call_value("bdev_examine", Some(&json!({"name": "a"}))), Ok(json!(true)));
    assert_eq!(registry.call_value("bdev_wait_for_examine", None), Ok(json!(true)));
    refused(&registry, "bdev_examine", json!({"name": "b"}), -19, "no bdev named \"b\"");
    refused(&registry, "bdev_examine", json!({}), -32602, "\"name\" is missing");
}

#[test]
fn rate_limits_are_set_shown_saved_and_taken_away() {
    let (registry, _bdevs) = running();
    let call = |method: &str, params: Value| registry.call_value(method, Some(&params)).expect(method);
    let limits = || call("bdev_get_bdevs", json!({"name": "a"}))[0]["assigned_rate_limits"].clone();
    let saved = || {
        let entries = registry.subsystem("bdev").expect("it").saved().expect("a writer");
        let is_limit = |entry: &Value| entry["method"] == "bdev_set_qos_limit";
        entries.iter().map(|entry| json!(entry)).find(is_limit)
    };
    assert_eq!(saved(), None);
    call("bdev_set_qos_limit", json!({"name": "a", "rw_ios_per_sec": 1500, "w_mbytes_per_sec": 7}));
    call("bdev_set_qos_limit", json!({"name": "a", "r_mbytes_per_sec": 3}));
    let all =
        json!({"rw_ios_per_sec": 1500, "rw_mbytes_per_sec": 0, "r_mbytes_per_sec": 3, "w_mbytes_per_sec": 7});
    assert_eq!(limits(), all);
    assert_eq!(saved().expect("saved")["params"]["rw_ios_per_sec"], 1500);
    for limit in ["rw_ios_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec"] {
        call("bdev_set_qos_limit", json!({"name": "a", limit: 0}));
    }
    assert_eq!(saved(), None);
    refused(&registry, "bdev_set_qos_limit", json!({"name": "a"}), -22, "no limit is given");
    refused(&registry, "bdev_set_qos_limit", json!({"name": "b", "rw_ios_per_sec": 1}), -19, "no bdev named");
}

#[test]
fn a_histogram_has_the_shape_that_clients_decode() {
    let (registry, _bdevs) = running();
    let call = |method: &str, params: Value| registry.call_value(method, Some(&params)).expect(method);
    refused(&registry, "bdev_get_histogram", json!({"name": "a"}), -14, "bdev_enable_histogram");
    let enable = |more: Value| {
        let mut params = json!({"name": "a", "enable": true});
        params.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        params
    };
    call("bdev_enable_histogram", enable(json!({"opc": "read", "granularity": 3})));
    let shown = call("bdev_get_histogram", json!({"name": "a"}));
    let range = |name: &str| shown[name].as_u64().expect("a number");
    let buckets = (range("max_range") - range("min_range") + 1) << range("granularity");
    let base64_len = (buckets * 8).div_ceil(3) * 4;
    assert_eq!(shown["histogram"].as_str().map(|text| text.len() as u64), Some(base64_len));
    let borders = json!({"name": "a", "borders": [10, 100]});
    assert_eq!(call("bdev_get_histogram_borders", borders), json!({"borders_count": [0, 0, 0]}));
    refused(&registry, "bdev_enable_histogram", enable(json!({"opc": "reed"})), -22, "read, write");
    refused(&registry, "bdev_enable_histogram", enable(json!({"granularity": 13})), -22, "1..12");
    refused(
        &registry,
        "bdev_enable_histogram",
        enable(json!({"min_nsec": 9, "max_nsec": 9})),
        -22,
        "min_nsec",
    );
    refused(
        &registry,
        "bdev_get_histogram_borders",
        json!({"name": "a", "borders": [9, 1]}),
        -22,
        "ascending",
    );
    call("bdev_enable_histogram", json!({"name": "a", "enable": false}));
    refused(&registry, "bdev_get_histogram", json!({"name": "a"}), -14, "not counted");
}

#[test]
fn queue_depths_appear_in_iostat_only_while_they_are_sampled() {
    let (registry, _bdevs) = running();
    let call = |method: &str, params: Value| registry.call_value(method, Some(&params)).expect(method);
    let shown = || call("bdev_get_iostat", json!({"names": ["a"]}))["bdevs"][0].clone();
    assert_eq!(shown().get("queue_depth"), None);
    call("bdev_set_qd_sampling_period", json!({"name": "a", "period": 1000}));
    assert_eq!(shown()["queue_depth_polling_period"], 1000);
    assert_eq!(shown()["queue_depth"], 0);
    call("bdev_set_qd_sampling_period", json!({"name": "a", "period": 0}));
    assert_eq!(shown().get("queue_depth"), None);
    refused(
        &registry,
        "bdev_set_qd_sampling_period",
        json!({"name": "a", "period": 5}),
        -22,
        "100..60000000",
    );
}

#[test]
fn io_traces_are_set_for_one_or_all_bdevs_and_shown_for_those_that_are_traced() {
    let (registry, bdevs) = running();
    add(&bdevs, "b", Uuid::from_u128(2));
    let set = |params: Value| registry.call_value("bdev_set_io_trace", Some(&params));
    let every = |params: Value| {
        let answer = registry.call_value("bdev_get_io_trace", Some(&params)).expect("an answer");
        assert!(answer["tick_rate"].as_u64() > Some(0) && answer["ticks"].as_u64() > Some(0), "{answer}");
        let of = |bdev: &Value| (bdev["name"].clone(), bdev["every"].clone());
        answer["bdevs"].as_array().expect("bdevs").iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(every(json!({})), []);
    assert_eq!(every(json!({"name": "a"})), [("a".into(), 0.into())]);
    assert_eq!(set(json!({"every": 7, "name": "b"})), Ok(json!(true)));
    assert_eq!(every(json!({"count": 1})), [("b".into(), 7.into())]);
    assert_eq!(set(json!({"every": 9})), Ok(json!(true)));
    assert_eq!(every(json!({})), [("a".into(), 9.into()), ("b".into(), 9.into())]);
    assert_eq!(set(json!({"every": 0})), Ok(json!(true)));
    assert_eq!(every(json!({})), []);
    refused(&registry, "bdev_set_io_trace", json!({"every": 1, "name": "c"}), -19, "no bdev named \"c\"");
    refused(&registry, "bdev_set_io_trace", json!({}), -32602, "every");
    refused(&registry, "bdev_get_io_trace", json!({"name": "c"}), -19, "no bdev named \"c\"");
}
