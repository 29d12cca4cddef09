use crate::rpc::register;
use serde_json::{Value, json};
use std::sync::mpsc::sync_channel;
use test_bdevs::rig::Rig;
use test_bdevs::world::{World, bytes, disk, do_io, filled, wait_until};
use tgt_bdev::{Claim, Event, Io, IoStatus, Mode, Op, Tag};

const BLOCK: u32 = 512;

fn on(name: &str, base: &str) -> Value {
    json!({"name": name, "base_bdev_name": base})
}

fn names(rig: &Rig) -> Vec<String> {
    rig.bdevs.all().iter().map(|bdev| bdev.name().to_owned()).collect()
}

#[test]
fn it_claims_its_base_and_gives_it_back() {
    let rig = Rig::new(register);
    disk(&rig.bdevs, "M", 64);
    assert_eq!(rig.call("bdev_passthru_create", on("P", "M")), Ok(json!("P")));
    let (base, bdev) = (rig.bdevs.get("M").expect("M"), rig.bdevs.get("P").expect("P"));
    assert_eq!((base.claim(), bdev.num_blocks(), bdev.claim()), (Claim::ExclusiveWrite, 64, Claim::None));
    assert_eq!(
        bdev.device().driver_specific(&bdev),
        json!({"passthru": {"name": "P", "base_bdev_name": "M"}})
    );
    rig.refused("bdev_passthru_create", on("P", "M"), -17, "\"P\"");
    rig.refused("bdev_passthru_create", on("P2", "M"), -1, "\"P\" claims it (exclusive_write)");
    rig.refused("bdev_passthru_create", on("M", "P"), -17, "\"M\"");
    rig.refused("bdev_passthru_create", on("X", "X"), -22, "its own base");
    rig.refused("bdev_passthru_delete", json!({"name": "M"}), -22, "Malloc disk");
    rig.refused("bdev_passthru_delete", json!({"name": "none"}), -19, "\"none\"");
    let by_uuid = json!({"name": bdev.uuid().to_string()});
    drop(bdev);
    assert_eq!(rig.call("bdev_passthru_delete", by_uuid), Ok(json!(true)));
    assert_eq!((base.claim(), names(&rig)), (Claim::None, vec!["M".to_owned()]));
}

#[test]
fn it_appears_with_its_base_goes_with_it_and_comes_back() {
    let rig = Rig::new(register);
    assert_eq!(rig.call("bdev_passthru_create", on("Q", "P")), Ok(json!("Q")));
    assert_eq!(rig.call("bdev_passthru_create", on("P", "M")), Ok(json!("P")));
    rig.refused("bdev_passthru_create", on("P", "other"), -17, "waits for its base");
    assert!(names(&rig).is_empty());
    let mut uuids = Vec::new();
    for _ in 0..3 {
        disk(&rig.bdevs, "M", 64);
        assert_eq!(names(&rig), ["M", "P", "Q"]);
        uuids.push(rig.bdevs.get("Q").expect("Q").uuid());
        rig.bdevs.remove("M").expect("nobody else holds it");
        assert!(names(&rig).is_empty());
    }
    assert!(uuids.iter().all(|uuid| *uuid == uuids[0]), "the same bdev each time: {uuids:?}");
    assert_eq!(rig.call("bdev_passthru_delete", json!({"name": "P"})), Ok(json!(true)));
    disk(&rig.bdevs, "M", 64);
    assert_eq!(names(&rig), ["M"]);
}

#[test]
fn one_that_cannot_be_made_when_its_base_comes_waits_on() {
    let rig = Rig::new(register);
    rig.call("bdev_passthru_create", on("P", "M")).expect("it waits");
    disk(&rig.bdevs, "P", 64);
    // The name is taken: nothing but a line in the log, and the base stays free.
    let spec = bdev_null_like("M");
    rig.bdevs.register(spec).expect("M");
    assert_eq!((names(&rig).len(), rig.bdevs.get("M").expect("M").openers().len()), (2, 0));
    rig.bdevs.remove("M").expect("removed");
    rig.bdevs.remove("P").expect("removed");
    disk(&rig.bdevs, "M", 64);
    assert_eq!(names(&rig), ["M", "P"]);
}

/// A bdev of no module: another identity than malloc's.
fn bdev_null_like(name: &str) -> tgt_bdev::BdevSpec {
    struct Nothing;
    impl tgt_bdev::Device for Nothing {
        fn open_channel(&self, _: &mut tgt_bdev::Cx) -> Result<Box<dyn tgt_bdev::Channel>, String> {
            Err("nothing is there".to_owned())
        }
    }
    tgt_bdev::BdevSpec {
        name: name.to_owned(),
        aliases: Vec::new(),
        product_name: "nothing",
        uuid: uuid::Uuid::from_u128(8),
        block_size: BLOCK,
        num_blocks: 1,
        ops: tgt_bdev::OpSet::all(),
        limits: tgt_bdev::Limits::default(),
        numa_node: None,
        device: std::sync::Arc::new(Nothing),
    }
}

#[test]
fn a_resize_of_the_base_passes_through_to_openers_at_the_top() {
    let world = World::new(1);
    let stack: std::sync::Arc<crate::Passthrus> = tgt_bdev::stack::Stack::new(&world.bdevs);
    for (name, base) in [("Q", "P"), ("P", "M")] {
        let layer = crate::Passthru { name: name.to_owned(), base: base.to_owned(), uuid: None };
        stack.create(name, base, &[name], layer).expect("made");
    }
    disk(&world.bdevs, "M", 64);
    let (base, bdevs) = (world.bdevs.get("M").expect("M"), world.bdevs.clone());
    world.with_channel("Q", move |cx, channel| {
        let write = do_io(cx, channel, Io::new(Op::Write, Tag(1), 5, 20, filled(20 * BLOCK, 3)));
        assert_eq!(write.status, IoStatus::SUCCESS);
        let read = do_io(cx, channel, Io::new(Op::Read, Tag(1), 4, 22, filled(22 * BLOCK, 9)));
        let data = bytes(&read.bufs);
        let block = BLOCK as usize;
        assert_eq!((data[0], data[block], data[20 * block], data[21 * block]), (0, 3, 3, 0));
        std::thread::scope(|scope| scope.spawn(|| base.resize(32)).join()).expect("resized");
        // Noticed at the next poll.
        let near = do_io(cx, channel, Io::new(Op::Read, Tag(1), 0, 1, filled(BLOCK, 9)));
        assert_eq!(near.status, IoStatus::SUCCESS);
        let beyond = do_io(cx, channel, Io::new(Op::Read, Tag(1), 40, 1, filled(BLOCK, 9)));
        assert_eq!(beyond.status, IoStatus::LBA_OUT_OF_RANGE);
        assert_eq!(
            (channel.take_event(), bdevs.get("Q").expect("Q").num_blocks()),
            (Some(Event::Resized(32)), 32)
        );
    });
}

/// The removal of the base waits for the opener at the top, whose IO fails meanwhile.
#[test]
fn the_base_is_removed_under_an_open_channel() {
    let world = World::new(1);
    let stack: std::sync::Arc<crate::Passthrus> = tgt_bdev::stack::Stack::new(&world.bdevs);
    let layer = crate::Passthru { name: "P".to_owned(), base: "M".to_owned(), uuid: None };
    stack.create("P", "M", &["P"], layer).expect("it waits");
    disk(&world.bdevs, "M", 64);
    let desc = world.bdevs.open("P", "test", Mode::Write).expect("opens");
    let (said, hears) = sync_channel(1);
    let watch = move |reactor: &mut tgt_reactor::Reactor| Watcher {
        channel: Some(desc.open_channel(reactor.cx()).expect("opens")),
        _desc: desc,
        said,
    };
    world.reactors()[0].spawn(watch).expect("an answer");
    world.bdevs.remove("M").expect("the watcher lets go");
    assert_eq!(hears.recv().expect("it said"), IoStatus::INVALID_NAMESPACE);
    wait_until("both are gone", || world.bdevs.all().is_empty());
}

/// Closes when its bdev is removed, after an IO that must fail.
struct Watcher {
    channel: Option<tgt_bdev::IoChannel>,
    _desc: tgt_bdev::Desc,
    said: std::sync::mpsc::SyncSender<IoStatus>,
}

impl tgt_reactor::Poller for Watcher {
    fn poll(&mut self, cx: &mut tgt_bdev::Cx) -> tgt_bdev::Work {
        let channel = self.channel.as_mut().expect("open until it is over");
        let _ = channel.poll(cx, &mut tgt_bdev::DoneQueue::default());
        if channel.take_event() != Some(Event::Removed) {
            return tgt_bdev::Work::Idle;
        }
        let read = Io::new(Op::Read, Tag(1), 0, 1, filled(BLOCK, 0));
        self.said.send(do_io(cx, channel, read).status).expect("the test waits");
        tgt_bdev::Work::Over
    }

    fn name(&self) -> &str {
        "watcher"
    }
}

#[test]
fn saved_as_it_was_made_there_or_not() {
    let rig = Rig::new(|registry, bdevs| {
        let bdev = tgt_bdev::rpc::register(registry, bdevs);
        registry.add_subsystem(bdev);
        register(registry, bdevs);
    });
    let uuid = "11111111-2222-4333-8444-555555555555";
    let calls = [on("Q", "P"), json!({"name": "P", "base_bdev_name": "M", "uuid": uuid})];
    for call in &calls {
        rig.call("bdev_passthru_create", call.clone()).expect("it waits");
    }
    let saved = || {
        let saved = rig.call("framework_get_config", json!({"name": "bdev"})).expect("saved");
        let calls = saved.as_array().expect("a list").iter();
        let ours = calls.filter(|call| call["method"] == "bdev_passthru_create");
        ours.map(|call| call["params"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(saved(), calls);
    disk(&rig.bdevs, "M", 64);
    assert_eq!((saved(), names(&rig).len()), (calls.to_vec(), 3));
    assert_eq!(rig.bdevs.get("P").expect("P").uuid().to_string(), uuid);
}
