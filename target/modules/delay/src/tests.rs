use crate::rpc::register;
use crate::{Bucket, Delay, Delays, Latencies};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use test_bdevs::rig::Rig;
use test_bdevs::world::{World, all_done, disk, do_io, filled};
use tgt_bdev::{Bufs, Io, IoStatus, Op, Tag};

const BLOCK: u32 = 512;
const HOUR: u64 = 3_600_000_000;

/// A world with a delay bdev `D`.
fn delayed(us: [u64; 4]) -> (World, Arc<Latencies>, Arc<Delays>) {
    let world = World::new(1);
    disk(&world.bdevs, "M", 64);
    let (stack, latencies): (Arc<Delays>, _) =
        (tgt_bdev::stack::Stack::new(&world.bdevs), Arc::new(Latencies::new(us)));
    let layer =
        Delay { name: "D".to_owned(), base: "M".to_owned(), uuid: None, latencies: latencies.clone() };
    stack.create("D", "M", &["D"], layer).expect("made");
    (world, latencies, stack)
}

fn read(tag: u64) -> Io {
    Io::new(Op::Read, Tag(tag), 0, 1, filled(BLOCK, 0))
}

fn write(tag: u64) -> Io {
    Io::new(Op::Write, Tag(tag), 0, 1, filled(BLOCK, 0))
}

#[test]
fn reads_and_writes_take_their_time_and_nothing_else_does() {
    let (world, _latencies, _stack) = delayed([3_000, 3_000, 20_000, 20_000]);
    world.with_channel("D", |cx, channel| {
        for (io, ms) in [(read(1), 3), (write(1), 20)] {
            cx.refresh_now();
            let began = Instant::now();
            assert_eq!(do_io(cx, channel, io).status, IoStatus::SUCCESS);
            assert!(began.elapsed() >= Duration::from_millis(ms), "{:?}", began.elapsed());
        }
        // Ended although a read that was submitted before is held back.
        channel.submit(cx, write(5)).expect("room");
        let others = [Op::Flush, Op::Unmap, Op::WriteZeroes];
        for op in others {
            channel.submit(cx, Io::new(op, Tag(6), 0, 1, Bufs::none())).expect("room");
        }
        assert_eq!(all_done(cx, channel, 3), [(6, IoStatus::SUCCESS); 3]);
        assert_eq!(all_done(cx, channel, 1), [(5, IoStatus::SUCCESS)]);
    });
}

/// With an average of nothing and a p99 of an hour, some IO of many does not come back.
#[test]
fn one_in_a_hundred_takes_the_longer_latency_and_can_be_aborted() {
    let (world, _latencies, _stack) = delayed([0, HOUR, 0, 0]);
    world.with_channel("D", |cx, channel| {
        let (mut done, mut ended) = (tgt_bdev::DoneQueue::default(), 0u64);
        for tag in 0..2000 {
            channel.submit(cx, read(tag)).expect("room");
            let _ = channel.poll(cx, &mut done);
            while let Some(one) = done.pop() {
                assert!(one.finish().status.is_ok());
                ended += 1;
            }
        }
        let held = u64::from(channel.in_flight());
        assert_eq!(ended + held, 2000);
        // 20 on average; beyond these bounds once in more than a billion runs.
        assert!((1..80).contains(&held), "{held} of 2000");
        for tag in 0..2000 {
            channel.submit_abort(cx, Tag(10_000 + tag), Tag(tag)).expect("room");
        }
        let all = all_done(cx, channel, 2000 + held as usize);
        let aborted = all.iter().filter(|(tag, status)| *tag < 2000 && *status == IoStatus::ABORTED).count();
        let answered = all.iter().filter(|(tag, status)| *tag >= 10_000 && status.is_ok()).count();
        assert_eq!((aborted as u64, answered as u64), (held, held));
    });
}

#[test]
fn a_latency_is_changed_while_io_goes_on() {
    let (world, latencies, _stack) = delayed([HOUR; 4]);
    world.with_channel("D", move |cx, channel| {
        channel.submit(cx, read(1)).expect("room");
        latencies.set(Bucket::AvgRead, 0);
        latencies.set(Bucket::P99Read, 0);
        assert_eq!(all_done(cx, channel, 1), [(1, IoStatus::SUCCESS)]);
    });
}

fn params(name: &str, latencies: [u64; 4]) -> Value {
    let mut params = json!({"name": name, "base_bdev_name": "M"});
    Latencies::new(latencies).write_to(&mut params);
    params
}

#[test]
fn made_changed_told_saved_and_deleted() {
    let rig = Rig::new(|registry, bdevs| {
        let bdev = tgt_bdev::rpc::register(registry, bdevs);
        registry.add_subsystem(bdev);
        register(registry, bdevs)
    });
    assert_eq!(rig.call("bdev_delay_create", params("D", [1, 2, 3, 4])), Ok(json!("D")));
    disk(&rig.bdevs, "M", 64);
    let change = |name: &str, kind: &str, us: u64| json!({"delay_bdev_name": name, "latency_type": kind, "latency_us": us});
    assert_eq!(rig.call("bdev_delay_update_latency", change("D", "p99_write", 9)), Ok(json!("true")));
    let bdev = rig.bdevs.get("D").expect("it");
    let told = bdev.device().driver_specific(&bdev);
    let delay = json!({"delay": params("D", [1, 2, 3, 9])});
    assert_eq!(told, delay);
    drop(bdev);
    let saved = rig.call("framework_get_config", json!({"name": "bdev"})).expect("saved");
    let ours = json!({"method": "bdev_delay_create", "params": params("D", [1, 2, 3, 9])});
    assert!(saved.as_array().expect("a list").contains(&ours), "{saved}");
    rig.refused("bdev_delay_update_latency", change("D", "p50_read", 9), -32603, "latency_type");
    rig.refused("bdev_delay_update_latency", change("D", "avg_read", HOUR + 1), -22, "latency_us");
    rig.refused("bdev_delay_update_latency", change("X", "avg_read", 1), -19, "\"X\"");
    rig.refused("bdev_delay_update_latency", change("M", "avg_read", 1), -22, "Malloc disk");
    rig.refused("bdev_delay_create", params("E", [5, 4, 1, 1]), -22, "p99_read_latency 4");
    rig.refused("bdev_delay_create", params("E", [5, 5, HOUR + 1, HOUR + 1]), -22, "avg_write_latency");
    rig.refused("bdev_delay_create", params("D", [1, 1, 1, 1]), -17, "\"D\"");
    rig.refused("bdev_delay_create", params("E", [1, 1, 1, 1]), -1, "\"D\" claims it");
    assert_eq!(rig.call("bdev_delay_delete", json!({"name": "D"})), Ok(json!(true)));
    rig.refused("bdev_delay_delete", json!({"name": "D"}), -19, "\"D\"");
}
