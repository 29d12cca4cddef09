use crate::rpc::register;
use crate::{ErrorLayer, Errors, Fault, Faults, Kind, Target, name_on};
use serde_json::{Value, json};
use std::sync::Arc;
use test_bdevs::rig::Rig;
use test_bdevs::world::{World, all_done, bytes, disk, do_io, filled};
use tgt_bdev::{Bufs, Cx, DoneQueue, Io, IoChannel, IoStatus, Op, Tag};

const BLOCK: u32 = 512;

/// A world with an error bdev `EE_M`.
fn world() -> (World, Arc<Faults>, Arc<Errors>) {
    let world = World::new(1);
    disk(&world.bdevs, "M", 64);
    let (stack, faults): (Arc<Errors>, Arc<Faults>) =
        (tgt_bdev::stack::Stack::new(&world.bdevs), Arc::default());
    let layer = ErrorLayer { base: "M".to_owned(), uuid: None, faults: faults.clone() };
    stack.create(&name_on("M"), "M", &["EE_M"], layer).expect("made");
    (world, faults, stack)
}

fn fault(kind: Kind, num: u32) -> Fault {
    Fault { kind, num, queue_depth: 0 }
}

fn io(op: Op, tag: u64) -> Io {
    let bufs = if op.has_data() { filled(BLOCK, 5) } else { Bufs::none() };
    Io::new(op, Tag(tag), 1, 1, bufs)
}

fn status(cx: &mut Cx, channel: &mut IoChannel, op: Op) -> IoStatus {
    do_io(cx, channel, io(op, 1)).status
}

const OPS: [(Target, Op); 4] = [
    (Target::Read, Op::Read),
    (Target::Write, Op::Write),
    (Target::Unmap, Op::Unmap),
    (Target::Flush, Op::Flush),
];

#[test]
fn so_many_of_one_kind_fail_as_told_and_nothing_else_does() {
    let (world, faults, _stack) = world();
    world.with_channel("EE_M", move |cx, channel| {
        let wanted = IoStatus::new(2, 0x81);
        for (target, op) in OPS {
            faults.set(target, fault(Kind::Status(wanted), 2));
            for (_, other) in OPS.into_iter().filter(|(_, other)| *other != op) {
                assert_eq!(status(cx, channel, other), IoStatus::SUCCESS);
            }
            let seen = [(); 3].map(|()| status(cx, channel, op));
            assert_eq!(seen, [wanted, wanted, IoStatus::SUCCESS]);
        }
        faults.set(Target::Read, fault(Kind::Status(wanted), 2));
        faults.clear();
        assert_eq!(status(cx, channel, Op::Read), IoStatus::SUCCESS);
    });
    assert_eq!(world.bdevs.get("M").expect("M").stats().write.ops, 4, "what failed never reached the base");
}

#[test]
fn only_io_that_finds_a_deep_queue_fails() {
    let (world, faults, _stack) = world();
    world.with_channel("EE_M", move |cx, channel| {
        faults.set(Target::Read, Fault { kind: Kind::Status(IoStatus::INTERNAL), num: 9, queue_depth: 3 });
        for tag in 0..5 {
            channel.submit(cx, io(Op::Read, tag)).expect("room");
        }
        let failed: Vec<_> =
            all_done(cx, channel, 5).into_iter().filter(|(_, status)| !status.is_ok()).collect();
        assert_eq!(failed, [(3, IoStatus::INTERNAL), (4, IoStatus::INTERNAL)]);
    });
}

#[test]
fn a_byte_is_changed_on_its_way_and_never_in_the_writers_memory() {
    let (world, faults, _stack) = world();
    world.with_channel("EE_M", move |cx, channel| {
        let corrupt = |offset| fault(Kind::Corrupt { offset, value: 0x0f }, 1);
        faults.set(Target::Write, corrupt(7));
        let written = do_io(cx, channel, io(Op::Write, 1));
        assert_eq!((written.status, bytes(&written.bufs)), (IoStatus::SUCCESS, vec![5; BLOCK as usize]));
        let mut there = vec![5; BLOCK as usize];
        there[7] ^= 0x0f;
        assert_eq!(bytes(&do_io(cx, channel, io(Op::Read, 1)).bufs), there);
        faults.set(Target::Read, corrupt(0));
        let mut changed = there.clone();
        changed[0] ^= 0x0f;
        assert_eq!(bytes(&do_io(cx, channel, io(Op::Read, 1)).bufs), changed);
        for beyond in [u64::from(BLOCK), u64::MAX] {
            faults.set(Target::Read, corrupt(beyond));
            assert_eq!(bytes(&do_io(cx, channel, io(Op::Read, 1)).bufs), there);
        }
        // A write that others read too.
        faults.set(Target::Write, corrupt(3));
        let lease = cx.lender().lend(filled(BLOCK, 5)).expect("room");
        let view = cx.lender().view(&lease);
        let written = do_io(cx, channel, Io::new(Op::Write, Tag(1), 1, 1, view));
        cx.lender().give_back(written.bufs);
        assert_eq!(bytes(&cx.lender().end(lease)), vec![5; BLOCK as usize]);
        assert_eq!(bytes(&do_io(cx, channel, io(Op::Read, 1)).bufs)[3], 5 ^ 0x0f);
    });
}

#[test]
fn io_without_a_slot_comes_again_by_itself() {
    let (world, faults, _stack) = world();
    world.with_channel("EE_M", move |cx, channel| {
        faults.set(Target::Write, fault(Kind::NoSlot, 5));
        for tag in 0..3 {
            channel.submit(cx, io(Op::Write, tag)).expect("room to wait");
        }
        assert_eq!(all_done(cx, channel, 3), [0, 1, 2].map(|tag| (tag, IoStatus::SUCCESS)));
    });
}

#[test]
fn what_is_pending_is_resumed_aborted_or_reset() {
    let (world, faults, _stack) = world();
    world.with_channel("EE_M", move |cx, channel| {
        let hold = |cx: &mut Cx, channel: &mut IoChannel, tags: std::ops::Range<u64>| {
            faults.set(Target::Write, fault(Kind::Pending, (tags.end - tags.start) as u32));
            for tag in tags {
                channel.submit(cx, io(Op::Write, tag)).expect("room");
            }
            let mut none = DoneQueue::default();
            let _ = channel.poll(cx, &mut none);
            assert!(none.is_empty());
            faults.clone()
        };
        hold(cx, channel, 1..4).resume_pending();
        assert_eq!(all_done(cx, channel, 3), [1, 2, 3].map(|tag| (tag, IoStatus::SUCCESS)));
        hold(cx, channel, 4..6).clear();
        channel.submit_abort(cx, Tag(10), Tag(4)).expect("room");
        assert_eq!(all_done(cx, channel, 2), [(4, IoStatus::ABORTED), (10, IoStatus::SUCCESS)]);
        channel.submit_abort(cx, Tag(11), Tag(4)).expect("room");
        assert_eq!(all_done(cx, channel, 1), [(11, IoStatus::INVALID_FIELD)]);
        channel.submit(cx, io(Op::Reset, 12)).expect("room");
        assert_eq!(all_done(cx, channel, 2), [(5, IoStatus::ABORTED), (12, IoStatus::SUCCESS)]);
    });
}

#[test]
fn what_is_pending_ends_when_the_base_is_removed() {
    let (world, faults, _stack) = world();
    let bdevs = world.bdevs.clone();
    let remover = world.with_channel("EE_M", move |cx, channel| {
        faults.set(Target::Read, fault(Kind::Pending, 1));
        channel.submit(cx, io(Op::Read, 1)).expect("room");
        let remover = std::thread::spawn(move || bdevs.remove("M"));
        assert_eq!(all_done(cx, channel, 1), [(1, IoStatus::INVALID_NAMESPACE)]);
        remover
    });
    assert_eq!(remover.join().expect("no panic"), Ok(()));
    assert!(world.bdevs.all().is_empty());
}

#[test]
fn methods_refuse_by_name_and_value() {
    let rig = Rig::new(|registry, bdevs| {
        let bdev = tgt_bdev::rpc::register(registry, bdevs);
        registry.add_subsystem(bdev);
        register(registry, bdevs)
    });
    let create = |base: &str| json!({"base_name": base});
    assert_eq!(rig.call("bdev_error_create", create("M")), Ok(json!(true)));
    rig.refused("bdev_error_create", create("M"), -17, "EE_M");
    disk(&rig.bdevs, "M", 64);
    let bdev = rig.bdevs.get("EE_M").expect("it came with its base");
    assert_eq!(bdev.device().driver_specific(&bdev), json!({"error_disk": {"base_bdev": "M"}}));
    drop(bdev);
    let saved = rig.call("framework_get_config", json!({"name": "bdev"})).expect("saved");
    let ours = json!({"method": "bdev_error_create", "params": {"base_name": "M"}});
    assert!(saved.as_array().expect("a list").contains(&ours), "{saved}");
    let with = |more: Value| {
        let mut params = json!({"name": "EE_M", "io_type": "read", "error_type": "failure"});
        params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        params
    };
    let inject = "bdev_error_inject_error";
    for good in [
        json!({}),
        json!({"io_type": "all", "error_type": "nvme_failure", "nvme_sct": 2, "nvme_sc": 129, "num": 3}),
        json!({"error_type": "corrupt_data", "corrupt_offset": 9, "corrupt_value": 255}),
        json!({"io_type": "all", "error_type": "corrupt_data", "corrupt_value": 1}),
        json!({"error_type": "pending", "queue_depth": 4}),
        json!({"error_type": "nomem", "num": 0}),
        json!({"io_type": "clear"}),
    ] {
        assert_eq!(rig.call(inject, with(good.clone())), Ok(json!(true)), "{good}");
    }
    assert_eq!(rig.call("bdev_error_resume_pending", json!({"name": "EE_M"})), Ok(json!(true)));
    rig.refused(inject, with(json!({"name": "EE_X"})), -19, "EE_X");
    rig.refused(inject, with(json!({"name": "M"})), -22, "Malloc disk");
    rig.refused(inject, with(json!({"io_type": "write_zeroes"})), -32603, "io_type");
    rig.refused(inject, with(json!({"error_type": "corrupt_data"})), -22, "corrupt_value");
    let flush = json!({"io_type": "flush", "error_type": "corrupt_data", "corrupt_value": 1});
    rig.refused(inject, with(flush), -22, "no data");
    rig.refused(inject, with(json!({"error_type": "nvme_failure"})), -22, "is success");
    rig.refused(inject, with(json!({"error_type": "nvme_failure", "nvme_sct": 8})), -22, "nvme_sct 8");
    rig.refused(inject, with(json!({"error_type": "nvme_failure", "nvme_sc": 256})), -22, "nvme_sc 256");
    rig.refused("bdev_error_resume_pending", json!({"name": "EE_X"}), -19, "EE_X");
    assert_eq!(rig.call("bdev_error_delete", json!({"name": "EE_M"})), Ok(json!(true)));
    rig.refused("bdev_error_delete", json!({"name": "EE_M"}), -19, "EE_M");
}
