use crate::rpc::register;
use crate::{Split, Splits};
use serde_json::{Value, json};
use std::sync::Arc;
use test_bdevs::rig::Rig;
use test_bdevs::world::{World, bytes, disk, do_io, filled};
use tgt_bdev::{Bufs, Claim, Io, IoStatus, Op, Tag};

const BLOCK: u32 = 512;
const MIB_BLOCKS: u64 = 2048;

fn of(base: &str, count: u32) -> Value {
    json!({"base_bdev": base, "split_count": count})
}

#[test]
fn parts_are_made_and_deleted_together() {
    let rig = Rig::new(register);
    disk(&rig.bdevs, "M", 4 * MIB_BLOCKS + 1);
    assert_eq!(rig.call("bdev_split_create", of("M", 3)), Ok(json!(["Mp0", "Mp1", "Mp2"])));
    let part = rig.bdevs.get("Mp2").expect("the third");
    let third = (4 * MIB_BLOCKS + 1) / 3;
    assert_eq!(part.num_blocks(), third);
    let specific = json!({"split": {"base_bdev": "M", "offset_blocks": 2 * third}});
    assert_eq!(part.device().driver_specific(&part), specific);
    drop(part);
    assert_eq!(rig.bdevs.get("M").expect("M").claim(), Claim::ExclusiveWrite);
    rig.refused("bdev_split_create", of("M", 2), -17, "\"M\"");
    rig.refused("bdev_split_delete", json!({"base_bdev": "Mp0"}), -19, "\"Mp0\"");
    rig.refused("bdev_split_delete", json!({"base_bdev": "N"}), -19, "no bdev named \"N\"");
    assert_eq!(rig.call("bdev_split_delete", json!({"base_bdev": "M"})), Ok(json!(true)));
    assert_eq!((rig.bdevs.all().len(), rig.bdevs.get("M").expect("M").claim()), (1, Claim::None));
}

#[test]
fn sizes_that_do_not_fit_are_refused_and_too_many_parts_are_fewer_as_in_spdk() {
    let rig = Rig::new(register);
    disk(&rig.bdevs, "M", 4 * MIB_BLOCKS + 1);
    let sized =
        |count: u32, size: u64| json!({"base_bdev": "M", "split_count": count, "split_size_mb": size});
    rig.refused("bdev_split_create", of("M", 0), -22, "split_count 0");
    rig.refused("bdev_split_create", of("M", 5000), -22, "split_count 5000");
    rig.refused("bdev_split_create", sized(2, 5), -22, "do not hold one part of 5 MiB");
    rig.refused("bdev_split_create", sized(2, u64::MAX), -22, "MiB");
    assert_eq!(rig.call("bdev_split_create", sized(9, 2)), Ok(json!(["Mp0", "Mp1"])));
    disk(&rig.bdevs, "Small", 3);
    rig.refused("bdev_split_create", of("Small", 4), -22, "3 blocks do not make 4 parts");
}

#[test]
fn a_part_whose_name_is_taken_leaves_none_of_them() {
    let rig = Rig::new(register);
    disk(&rig.bdevs, "M", MIB_BLOCKS);
    disk(&rig.bdevs, "Mp1", 3);
    rig.refused("bdev_split_create", of("M", 3), -17, "\"Mp1\"");
    assert_eq!(rig.bdevs.get("M").expect("M").claim(), Claim::None);
}

#[test]
fn parts_come_and_go_with_their_base_and_are_saved_as_one_call() {
    let rig = Rig::new(|registry, bdevs| {
        let bdev = tgt_bdev::rpc::register(registry, bdevs);
        registry.add_subsystem(bdev);
        register(registry, bdevs)
    });
    assert_eq!(rig.call("bdev_split_create", of("M", 2)), Ok(json!([])));
    for _ in 0..2 {
        disk(&rig.bdevs, "M", MIB_BLOCKS);
        let names: Vec<_> = rig.bdevs.all().iter().map(|bdev| bdev.name().to_owned()).collect();
        assert_eq!(names, ["M", "Mp0", "Mp1"]);
        rig.bdevs.get("M").expect("M").resize(2 * MIB_BLOCKS);
        assert_eq!(rig.bdevs.get("Mp1").expect("it").num_blocks(), MIB_BLOCKS / 2, "parts keep their place");
        let saved = rig.call("framework_get_config", json!({"name": "bdev"})).expect("saved");
        let ours = json!({"method": "bdev_split_create",
            "params": {"base_bdev": "M", "split_count": 2, "split_size_mb": 0}});
        assert_eq!(saved.as_array().expect("a list").iter().filter(|call| **call == ours).count(), 1);
        rig.bdevs.remove("M").expect("nobody else holds it");
        assert!(rig.bdevs.all().is_empty());
    }
}

#[test]
fn a_part_is_its_place_on_the_base_and_nothing_else() {
    let world = World::new(1);
    let stack: Arc<Splits> = tgt_bdev::stack::Stack::new(&world.bdevs);
    disk(&world.bdevs, "M", 64);
    let split = Split { base: "M".to_owned(), count: 4, size_mib: 0 };
    assert_eq!(stack.create("M", "M", &[], split).expect("made").len(), 4);
    for (part, byte) in [("Mp0", 1), ("Mp1", 2), ("Mp2", 3), ("Mp3", 4)] {
        world.with_channel(part, move |cx, channel| {
            let write = do_io(cx, channel, Io::new(Op::Write, Tag(1), 0, 16, filled(16 * BLOCK, byte)));
            assert_eq!(write.status, IoStatus::SUCCESS);
            let beyond = do_io(cx, channel, Io::new(Op::Read, Tag(1), 15, 2, filled(2 * BLOCK, 0)));
            assert_eq!(beyond.status, IoStatus::LBA_OUT_OF_RANGE);
        });
    }
    world.with_channel("Mp2", |cx, channel| {
        let unmap = do_io(cx, channel, Io::new(Op::Unmap, Tag(1), 3, 13, Bufs::none()));
        assert_eq!(unmap.status, IoStatus::SUCCESS);
        channel.submit_abort(cx, Tag(9), Tag(4)).expect("room");
        assert_eq!(test_bdevs::world::next_done(cx, channel).status, IoStatus::INVALID_FIELD);
    });
    stack.delete("M").expect("deleted");
    world.with_channel("M", |cx, channel| {
        let read = do_io(cx, channel, Io::new(Op::Read, Tag(1), 0, 64, filled(64 * BLOCK, 9)));
        let data = bytes(&read.bufs);
        let block = |at: usize| data[at * BLOCK as usize];
        assert_eq!([0, 15, 16, 31, 32, 34, 35, 47, 48, 63].map(block), [1, 1, 2, 2, 3, 3, 0, 0, 4, 4]);
    });
}
