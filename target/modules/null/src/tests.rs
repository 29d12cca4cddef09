use crate::{NullSpec, create};
use serde_json::json;
use test_bdevs::world::{World, do_io};
use tgt_bdev::{Bufs, DmaBuf, DoneQueue, Io, IoStatus, Op, Tag, Work};
use uuid::Uuid;

fn world() -> World {
    let world = World::new(1);
    let uuid = Some(Uuid::from_u128(7));
    create(&world.bdevs, NullSpec { name: "Null0".into(), uuid, block_size: 4096, num_blocks: 100 })
        .expect("made");
    world
}

#[test]
fn every_operation_succeeds_at_the_next_poll_in_order() {
    world().with_channel("Null0", |cx, channel| {
        let ops = [Op::Write, Op::Read, Op::WriteZeroes, Op::Unmap, Op::Flush, Op::Reset];
        for (tag, op) in ops.into_iter().enumerate() {
            let bytes = DmaBuf::alloc(4096).map(Bufs::from).expect("memory");
            let bufs = if op.has_data() { bytes } else { Bufs::none() };
            channel.submit(cx, Io::new(op, Tag(tag as u64), 1, 1, bufs)).expect("room");
        }
        let mut done = DoneQueue::default();
        assert_eq!(channel.poll(cx, &mut done), Work::Busy);
        for tag in 0..ops.len() as u64 {
            let finished = done.pop().expect("all have ended").finish();
            assert_eq!((finished.tag, finished.status), (Tag(tag), IoStatus::SUCCESS));
        }
        assert_eq!(channel.poll(cx, &mut done), Work::Idle);
    });
}

#[test]
fn there_is_never_anything_to_abort() {
    world().with_channel("Null0", |cx, channel| {
        let finished = do_io(cx, channel, Io::abort(Tag(1), Tag(2)));
        assert_eq!(finished.status, IoStatus::INVALID_FIELD);
    });
}

#[test]
fn a_saved_null_bdev_names_its_size_as_it_is_now() {
    let world = world();
    let bdev = world.bdevs.get("Null0").expect("there");
    bdev.resize(200);
    let entry = bdev.device().config(&bdev).expect("it is saved");
    let uuid = Uuid::from_u128(7).to_string();
    let params = json!({"name": "Null0", "num_blocks": 200, "block_size": 4096, "uuid": uuid});
    assert_eq!(entry, rpc_registry::ConfigEntry::new("bdev_null_create", params));
}
