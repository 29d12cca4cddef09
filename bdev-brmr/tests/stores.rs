//! The methods of stores, on a real reactor and bdevs in memory.

use bdev_brmr::store::{Home, Stores, register};
use bdev_malloc::MallocSpec;
use bdev_rmr::hail::Peer;
use bdev_rmr::store::{Peers, RangeJob};
use rmr_engine::StoreConfig;
use rmr_engine::store::{View, image};
use rmr_proto::disk::Superblock;
use rmr_proto::{Epoch, MemberId, MemberSet, Promise};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use test_bdevs::rig::Rig;
use tgt_bdev::{Bdev, Desc, Mode};
use tgt_reactor::{Handle, Reactors, SleepPolicy, StartOptions};
use tgt_rtrs::hub::SessionRef;

const POOL: &str = "0d9b1d2c-6f0e-4b51-9a3a-6f0f8a4f3e11";
const MIB: u64 = 1 << 20;

struct Nobody;

impl Peers for Nobody {
    fn session(&self, _: &Peer) -> Option<SessionRef> {
        None
    }
}

struct OneReactor(Handle);

impl Home for OneReactor {
    fn reactor(&self) -> Handle {
        self.0.clone()
    }

    fn reactors(&self) -> Vec<Handle> {
        vec![self.0.clone()]
    }

    fn peers(&self) -> Box<dyn Peers> {
        Box::new(Nobody)
    }

    fn data_max(&self) -> u32 {
        1 << 20
    }
}

struct Node {
    rig: Rig,
    stores: Arc<Stores>,
    handle: Handle,
    reactors: Option<Reactors>,
}

impl Node {
    fn start() -> Self {
        let options = StartOptions { cores: vec![0], sleep: SleepPolicy::ADAPTIVE, pin: false };
        let reactors = Reactors::start(&options).expect("reactors start where tests run");
        let handle = reactors.handles()[0].clone();
        let made = Mutex::new(None);
        let rig = Rig::new(|registry, bdevs| {
            let stores = Stores::new(bdevs, Box::new(OneReactor(handle.clone())));
            let subsystem = register(registry, &stores);
            registry.add_subsystem(subsystem);
            *made.lock().expect("nobody else") = Some(stores);
        });
        let stores = made.into_inner().expect("nobody else").expect("just made");
        Self { rig, stores, handle, reactors: Some(reactors) }
    }

    fn malloc(&self, name: &str, bytes: u64, block_size: u32) -> Arc<Bdev> {
        let num_blocks = bytes / u64::from(block_size);
        let spec =
            MallocSpec { name: name.into(), uuid: None, block_size, num_blocks, optimal_io_boundary: 0 };
        bdev_malloc::create(&self.rig.bdevs, spec).expect("memory")
    }

    fn ok(&self, method: &str, params: Value) -> Value {
        self.rig.call(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn stores(&self) -> Value {
        self.ok("brmr_get_stores", json!({}))
    }

    /// Refused with these words, and neither bdevs nor stores nor the disks have changed.
    fn refused(&self, method: &str, params: Value, code: i64, words: &str) {
        let before = (self.without_age(), self.disks());
        self.rig.refused(method, params, code, words);
        assert_eq!((self.without_age(), self.disks()), before, "{words}");
    }

    fn without_age(&self) -> Value {
        let mut stores = self.stores();
        for store in stores.as_array_mut().expect("a list") {
            let store = store.as_object_mut().expect("a store");
            ["changed_ms_ago", "disk_ops"].iter().for_each(|passing| drop(store.remove(*passing)));
        }
        stores
    }

    /// The first megabyte of every bdev that no store has: one that is open writes its journal anew.
    fn disks(&self) -> Vec<u32> {
        let all = self.rig.bdevs.all();
        let closed = all.iter().filter(|bdev| bdev.openers().is_empty());
        closed.map(|bdev| rmr_proto::crc32c(&self.read(bdev, MIB))).collect()
    }

    fn read(&self, bdev: &Arc<Bdev>, len: u64) -> Vec<u8> {
        let desc = Arc::new(Desc::open(bdev, "test", Mode::Read).expect("it can be read"));
        RangeJob::Read { offset: 0, len }.run(&self.handle, &desc).expect("it is read")
    }

    fn write(&self, bdev: &Arc<Bdev>, offset: u64, bytes: Vec<u8>) {
        let desc = Arc::new(Desc::open(bdev, "test", Mode::Write).expect("nobody claims it"));
        RangeJob::Write(vec![(offset, bytes)]).run(&self.handle, &desc).expect("it is written");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let stuck = self.reactors.take().map(Reactors::stop);
        if !std::thread::panicking() {
            assert_eq!(stuck, Some(vec![]), "all pollers have drained");
        }
    }
}

#[test]
fn a_store_is_made_closed_opened_again_and_deleted() {
    let node = Node::start();
    let bdev = node.malloc("m0", 64 * MIB, 512);
    let new =
        json!({"pool": POOL, "bdev": "m0", "member_id": 3, "mapped_size": 32 * MIB, "chunk_size": 65536});
    assert_eq!(node.ok("brmr_create_store", new), json!(true));
    let stores = node.stores();
    let store = &stores[0];
    assert_eq!(
        [&store["pool"], &store["bdev"], &store["member_id"], &store["state"], &store["service"]],
        [&json!(POOL), &json!("m0"), &json!(3), &json!("open"), &json!("out")]
    );
    assert_eq!([&store["mapped"], &store["chunk_size"]], [&json!(32 * MIB), &json!(65536)]);
    assert!(store["capacity"].as_u64().expect("bytes") > 60 * MIB, "{store}");
    assert_eq!(bdev.openers().len(), 1, "it is claimed");
    let pools = node.ok("rmr_get_server_pools", json!({"name": POOL}));
    assert_eq!([&pools[0]["state"], &pools[0]["members"]], [&json!("REGISTERED"), &json!([3])]);

    assert_eq!(node.ok("brmr_remove_store", json!({"pool": POOL})), json!(true));
    assert_eq!((node.stores(), bdev.openers().len()), (json!([]), 0));
    let again = json!({"pool": POOL, "bdev": "m0", "mapped_size": 32 * MIB});
    assert_eq!(node.ok("brmr_add_store", again), json!(true));
    assert_eq!(node.stores()[0]["incarnation"], store["incarnation"], "the same disk");

    assert_eq!(node.ok("brmr_delete_store", json!({"pool": POOL})), json!(true));
    assert!(node.read(&bdev, 8192).iter().all(|byte| *byte == 0));
    node.refused("brmr_add_store", json!({"pool": POOL, "bdev": "m0"}), -6, "holds no store");
    let new = json!({"pool": POOL, "bdev": "m0", "member_id": 3});
    node.ok("brmr_create_store", new);
    assert_ne!(node.stores()[0]["incarnation"], store["incarnation"], "another life");
}

#[test]
fn each_call_that_cannot_be_is_refused_by_name_and_changes_nothing() {
    let node = Node::start();
    node.malloc("m0", 64 * MIB, 4096);
    node.malloc("tiny", 2 * MIB, 4096);
    node.malloc("wide", 64 * MIB, 8192);
    let with = |member: &str, value: Value| {
        let mut params = json!({"pool": POOL, "bdev": "m0", "member_id": 0});
        params[member] = value;
        params
    };
    let create = "brmr_create_store";
    node.refused(create, json!({"bdev": "m0", "member_id": 0}), -32602, "pool");
    node.refused(create, json!({"pool": POOL, "member_id": 0}), -32602, "bdev");
    node.refused(create, json!({"pool": POOL, "bdev": "m0"}), -32602, "member_id");
    node.refused(create, with("mode", json!("replace")), -32602, "mode");
    node.refused(create, with("pool", json!("p1")), -22, "\"p1\"; accepted: a UUID, or a label");
    node.refused(create, with("uuid", json!("0d9b1d2c-6f0e-4b51-9a3a-000000000000")), -22, "uuid is");
    node.refused(create, with("bdev", json!("m7")), -19, "no bdev named \"m7\"");
    node.refused(create, with("member_id", json!(8)), -22, "member_id is 8; accepted: 0 to 7");
    node.refused(create, with("mapped_size", json!("1G")), -32602, "mapped_size");
    node.refused(create, with("mapped_size", json!(0)), -22, "mapped_size is 0");
    node.refused(create, with("mapped_size", json!(4097)), -22, "a multiple of 4096");
    node.refused(create, with("mapped_size", json!(64 * MIB)), -22, "the rest is for metadata");
    node.refused(
        create,
        with("chunk_size", json!(100_000)),
        -22,
        "chunk_size is 100000; accepted: a power of two",
    );
    node.refused(create, with("chunk_size", json!(2 * MIB)), -22, "max_io_size of rtrs_create_transport");
    node.refused(create, with("block_size", json!(8192)), -22, "block_size is 8192");
    node.refused(create, with("block_size", json!(512)), -22, "not more than the pool's");
    node.refused(create, with("bdev", json!("tiny")), -22, "mapped_size is 0");
    node.refused(create, with("bdev", json!("wide")), -22, "blocks of 8192 bytes");
    for method in ["brmr_remove_store", "brmr_delete_store", "rmr_get_store_metadata", "rmr_set_sync_limit"] {
        node.refused(method, json!({"pool": POOL}), -19, "no store of pool 0d9b1d2c");
        node.refused(method, json!({"pool": "p1"}), -22, "\"p1\"");
    }
    let add = "brmr_add_store";
    node.refused(add, json!({"pool": POOL, "bdev": "m0"}), -6, "brmr_create_store makes one");
    node.refused(add, json!({"pool": POOL, "bdev": "m0", "mode": "new"}), -32602, "mode");
    node.refused(
        add,
        json!({"pool": POOL, "bdev": "m0", "member_id": 1}),
        -22,
        "nothing without mode=replace",
    );
    node.refused(add, json!({"pool": POOL, "bdev": "m0", "mode": "replace"}), -22, "member_id is missing");
    let replace = json!({"pool": POOL, "bdev": "m0", "mode": "replace", "member_id": 1});
    node.refused(add, replace, -22, "mapped_size is missing");
}

#[test]
fn a_bdev_that_holds_something_or_is_somebodys_is_refused() {
    let node = Node::start();
    let (bdev, other) = (node.malloc("m0", 64 * MIB, 512), node.malloc("m1", 64 * MIB, 512));
    let new = |bdev: &str| json!({"pool": POOL, "bdev": bdev, "member_id": 0});
    node.write(&bdev, 1024, [0x53, 0xef].repeat(256));
    node.refused("brmr_create_store", new("m0"), -39, "an ext file system; wipe the start");
    node.write(&bdev, 0, vec![0; 8192]);
    let opened = Desc::open(&bdev, "somebody", Mode::Write).expect("nobody claims it");
    node.refused("brmr_create_store", new("m0"), -16, "\"somebody\"");
    drop(opened);
    node.ok("brmr_create_store", new("m0"));
    node.refused("brmr_create_store", new("m1"), -17, "open on bdev \"m0\"");
    node.refused("brmr_add_store", json!({"pool": POOL, "bdev": "m1"}), -17, "open on bdev \"m0\"");
    node.ok("brmr_remove_store", json!({"pool": POOL}));
    // What a store is cannot be made anew, opened as another's, as another size, or when its superblocks are torn.
    node.refused("brmr_create_store", new("m0"), -39, "holds member 0 of pool 0d9b1d2c");
    let mut replace = new("m0");
    (replace["mode"], replace["mapped_size"]) = (json!("replace"), json!(MIB));
    node.refused("brmr_add_store", replace, -39, "brmr_add_store opens the store that is there");
    let foreign = json!({"pool": "0d9b1d2c-6f0e-4b51-9a3a-6f0f8a4f3e12", "bdev": "m0"});
    node.refused("brmr_add_store", foreign, -22, "not of 0d9b1d2c-6f0e-4b51-9a3a-6f0f8a4f3e12");
    let sized = json!({"pool": POOL, "bdev": "m0", "mapped_size": MIB});
    node.refused("brmr_add_store", sized, -22, "mapped_size is 1048576; the store on bdev \"m0\" has");
    let start = node.read(&bdev, 8192);
    node.write(&bdev, 0, vec![0; 4096]);
    node.ok("brmr_add_store", json!({"pool": POOL, "bdev": "m0"}));
    node.ok("brmr_remove_store", json!({"pool": POOL}));
    let torn = [vec![0; 4096], start[4096..4112].to_vec(), vec![1; 4080]].concat();
    node.write(&bdev, 0, torn);
    node.refused("brmr_add_store", json!({"pool": POOL, "bdev": "m0"}), -6, "damaged superblock");
    node.refused("brmr_create_store", new("m0"), -39, "damaged superblock");
    // Metadata behind the superblocks.
    node.write(&bdev, 0, start);
    node.write(&bdev, 8192, vec![0; 3 << 20]);
    node.refused("brmr_add_store", json!({"pool": POOL, "bdev": "m0"}), -5, "has to be replaced");
    let replace = json!({"pool": POOL, "bdev": "m1", "mode": "replace", "member_id": 0, "mapped_size": MIB});
    node.ok("brmr_add_store", replace);
    assert_eq!((other.openers().len(), &node.stores()[0]["mapped"]), (1, &json!(MIB)));
}

#[test]
fn what_a_pool_took_in_is_deleted_by_force_only() {
    let node = Node::start();
    let bdev = node.malloc("m0", 64 * MIB, 4096);
    node.ok("brmr_create_store", json!({"pool": POOL, "bdev": "m0", "member_id": 0}));
    node.ok("brmr_remove_store", json!({"pool": POOL}));
    // As a client leaves it that has taken it into a set.
    let superblock = Superblock::decode(&node.read(&bdev, 4096)).expect("a store");
    let mut view = View::default();
    view.record.promise = Promise { generation: 4, nonce: 1 };
    view.record.adopted = Epoch { promise: view.record.promise, version: 2 };
    view.record.blocks = superblock.geometry.blocks();
    (view.record.set, view.record.members) = (MemberSet::first(2), MemberSet::first(2));
    view.record.boot = 1;
    node.write(&bdev, 0, image(&superblock, &StoreConfig::default(), &view));
    node.ok("brmr_add_store", json!({"pool": POOL, "bdev": "m0"}));
    let pools = node.ok("rmr_get_server_pools", json!({}));
    assert_eq!([&pools[0]["state"], &pools[0]["set"]], [&json!("NO_IO"), &json!([0, 1])]);
    assert_eq!(pools[0]["epoch"]["generation"], json!(4));
    let metadata = node.ok("rmr_get_store_metadata", json!({"pool": POOL}));
    assert_eq!(metadata["record"]["adopted"]["version"], json!(2));
    assert_eq!(metadata["superblock"]["member_id"], json!(MemberId::at(0).index()));
    assert!(metadata["layout"]["data_offset"].as_u64().expect("bytes").is_multiple_of(MIB));
    node.refused("brmr_delete_store", json!({"pool": POOL}), -16, "give \"force\": true");
    node.ok("brmr_delete_store", json!({"pool": POOL, "force": true}));
    assert_eq!(node.stores(), json!([]));
    node.refused("brmr_add_store", json!({"pool": POOL, "bdev": "m0"}), -6, "holds no store");
}

#[test]
fn a_configuration_opens_stores_by_label_and_never_makes_one() {
    let node = Node::start();
    node.malloc("m0", 64 * MIB, 4096);
    let new = json!({"pool": "p1", "uuid": POOL, "bdev": "m0", "member_id": 1, "write_through": true});
    node.ok("brmr_create_store", new);
    node.refused(
        "rmr_set_sync_limit",
        json!({"pool": "p1", "busy_share_pct": 101}),
        -32602,
        "busy_share_pct",
    );
    node.ok("rmr_set_sync_limit", json!({"pool": "p1", "mbytes_per_sec": 200}));
    assert_eq!(node.stores()[0]["name"], json!("p1"));
    let sync = &node.ok("rmr_get_server_pools", json!({"name": "p1"}))[0]["sync"];
    assert_eq!([&sync["mbytes_per_sec"], &sync["min_mbytes_per_sec"]], [&json!(200), &json!(8)]);
    let other = json!({"pool": "p1", "uuid": "0d9b1d2c-6f0e-4b51-9a3a-6f0f8a4f3e12", "bdev": "m0"});
    node.refused("brmr_add_store", other, -22, "\"p1\" is the label of pool 0d9b1d2c");
    let saved = node.stores.config();
    assert!(saved.iter().all(|call| call.method != "brmr_create_store"));
    let before = node.without_age();
    node.ok("brmr_remove_store", json!({"pool": "p1"}));
    assert!(node.stores.config().is_empty());
    for call in saved {
        node.ok(&call.method, call.params.expect("parameters"));
    }
    assert_eq!(node.without_age(), before, "as it was");
    let sync = &node.ok("rmr_get_server_pools", json!({"name": "p1"}))[0]["sync"];
    assert_eq!(sync["mbytes_per_sec"], json!(200));
}

#[test]
fn a_disk_that_took_the_name_of_a_stores_is_not_deleted() {
    let node = Node::start();
    node.malloc("m0", 64 * MIB, 4096);
    node.ok("brmr_create_store", json!({"pool": POOL, "bdev": "m0", "member_id": 0}));
    node.rig.bdevs.remove("m0").expect("the store lets go of it");
    let other = node.malloc("m0", 64 * MIB, 4096);
    node.write(&other, 0, vec![7; 8192]);
    let error =
        node.rig.call("brmr_delete_store", json!({"pool": POOL, "force": true})).expect_err("not its disk");
    assert!(error.message.contains("not the disk that the store was on"), "{error}");
    assert!(node.read(&other, 8192).iter().all(|byte| *byte == 7));
    assert_eq!(node.stores(), json!([]), "the store is gone all the same");
}

#[test]
fn a_store_whose_bdev_went_away_says_why_and_can_be_added_again() {
    let node = Node::start();
    node.malloc("m0", 64 * MIB, 4096);
    let second = node.malloc("m1", 64 * MIB, 4096);
    node.ok("brmr_create_store", json!({"pool": POOL, "bdev": "m0", "member_id": 0, "mapped_size": MIB}));
    node.rig.bdevs.remove("m0").expect("the store lets go of it");
    let stores = node.stores();
    assert_eq!(stores[0]["state"], json!("closed"));
    assert!(stores[0]["why"].as_str().is_some_and(|why| why.contains("\"m0\" was removed")), "{stores}");
    assert_eq!(node.ok("rmr_get_server_pools", json!({}))[0]["state"], json!("NO_IO"));
    node.refused("brmr_delete_store", json!({"pool": POOL}), -16, "force");
    let replace = json!({"pool": POOL, "bdev": "m1", "mode": "replace", "member_id": 0, "mapped_size": MIB});
    node.ok("brmr_add_store", replace);
    assert_eq!((node.stores()[0]["state"].as_str(), second.openers().len()), (Some("open"), 1));
    assert_eq!(node.stores().as_array().map(Vec::len), Some(1));
}

#[test]
fn two_members_of_a_pool_share_a_process_only_if_that_is_said() {
    let node = Node::start();
    node.malloc("m0", 64 * MIB, 4096);
    node.malloc("m1", 64 * MIB, 4096);
    node.ok("brmr_create_store", json!({"pool": POOL, "bdev": "m0", "member_id": 0}));
    let second = json!({"pool": POOL, "bdev": "m1", "member_id": 1});
    node.refused("brmr_create_store", second.clone(), -17, "open on bdev \"m0\"");
    let mut shared = second;
    shared["share_node"] = json!(true);
    node.ok("brmr_create_store", shared.clone());
    shared["bdev"] = json!("m0");
    node.refused("brmr_create_store", shared, -17, "open on bdev \"m1\"");
    let members: Vec<_> =
        node.stores().as_array().expect("a list").iter().map(|store| store["member_id"].clone()).collect();
    assert_eq!(members, [0, 1]);
    node.refused("brmr_remove_store", json!({"pool": POOL}), -16, "members [0, 1]");
}
