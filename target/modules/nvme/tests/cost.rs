//! What an IO must not cost.

use bdev_nvme::{AttachOptions, Controllers};
use std::sync::Arc;
use std::time::{Duration, Instant};
use test_bdevs::world::{World, filled};
use tgt_bdev::{Bufs, Cx, DoneQueue, Io, IoChannel, Op, Tag};
use tgt_nvmf::model::{AnaState, SubsystemSpec};
use tgt_nvmf::{NamespaceSpec, Nvmf, TransportOptions};

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

/// Writes in the capsule, writes by R2T and reads, one after the other, with the buffers that they gave back.
fn exchange(cx: &mut Cx, channel: &mut IoChannel, bufs: &mut [Bufs; 3], rounds: u32) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut done = DoneQueue::with_capacity(64);
    let before = test_alloc_counter::allocations();
    for _ in 0..rounds {
        for (at, (op, blocks)) in [(Op::Write, 8), (Op::Write, 128), (Op::Read, 128)].into_iter().enumerate()
        {
            let lent = std::mem::replace(&mut bufs[at], Bufs::none());
            channel.submit(cx, Io::new(op, Tag(1), 0, blocks, lent)).expect("room");
            let ended = loop {
                assert!(Instant::now() < deadline, "an IO does not end");
                cx.refresh_now();
                cx.uring().pump().expect("the ring works");
                let _ = channel.poll(cx, &mut done);
                if let Some(done) = done.pop() {
                    break done.finish();
                }
            };
            assert!(ended.status.is_ok());
            bufs[at] = ended.bufs;
        }
    }
    test_alloc_counter::allocations() - before
}

#[test]
fn an_io_allocates_nothing_with_and_without_digests() {
    let far = World::new(1);
    test_bdevs::world::disk(&far.bdevs, "M1", 2048);
    let nvmf = Nvmf::new(&far.bdevs, &Arc::new(far.reactors().to_vec()));
    nvmf.create_transport(TransportOptions::default()).expect("a transport");
    nvmf.create_subsystem(SubsystemSpec::new(NQN), true).expect("a subsystem");
    let spec = NamespaceSpec { bdev: "M1".to_owned(), ..NamespaceSpec::default() };
    nvmf.add_namespace(NQN, &spec).expect("a namespace");
    let address = nvmf.add_listener(NQN, ([127, 0, 0, 1], 0).into(), AnaState::Optimized).expect("listens");
    for digests in [false, true] {
        let world = World::new(1);
        let controllers = Controllers::new(&world.bdevs, &Arc::new(world.reactors().to_vec()));
        let options =
            AttachOptions { hdgst: digests, ddgst: digests, ..AttachOptions::new("Nvme0", address, NQN) };
        controllers.attach(options).expect("it attaches");
        let (few, many) = world.with_channel("Nvme0n1", |cx, channel| {
            let mut bufs = [filled(4096, 1), filled(65_536, 2), filled(65_536, 0)];
            // Queues grow to their load.
            exchange(cx, channel, &mut bufs, 100);
            (exchange(cx, channel, &mut bufs, 50), exchange(cx, channel, &mut bufs, 500))
        });
        // A keep-alive may fall into either run.
        assert!(many <= few + 8, "digests {digests}: {few} allocations in 150 IOs, {many} in 1,500");
        controllers.detach("Nvme0").expect("it goes");
    }
}
