//! What an IO, and an idle connection, must not cost.

#[path = "wire/host.rs"]
#[allow(dead_code)]
mod host;

use host::{Queue, inside, on_blocks, pattern};
use std::net::SocketAddr;
use std::sync::Arc;
use test_bdevs::world::{World, wait_until};
use tgt_nvme::Command;
use tgt_nvme::command::nvm;
use tgt_nvmf::model::{AnaState, SubsystemSpec};
use tgt_nvmf::{NamespaceSpec, Nvmf, TransportOptions};

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

fn target(world: &World) -> (Arc<Nvmf>, SocketAddr) {
    test_bdevs::world::disk(&world.bdevs, "M1", 2048);
    let nvmf = Nvmf::new(&world.bdevs, &Arc::new(world.reactors().to_vec()));
    nvmf.create_transport(TransportOptions::default()).expect("a transport");
    nvmf.create_subsystem(SubsystemSpec::new(NQN), true).expect("a subsystem");
    let spec = NamespaceSpec { bdev: "M1".to_owned(), ..NamespaceSpec::default() };
    nvmf.add_namespace(NQN, &spec).expect("a namespace");
    let address = nvmf.add_listener(NQN, ([127, 0, 0, 1], 0).into(), AnaState::Optimized);
    (nvmf, address.expect("a listener"))
}

/// Sixteen commands at a time, of each way that data travels; everything is answered when it returns.
fn exchange(queue: &mut Queue, data: &[u8], rounds: u16) {
    let commands = [
        on_blocks(nvm::READ, 0, 8),
        inside(on_blocks(nvm::WRITE, 8, 8)),
        on_blocks(nvm::WRITE, 16, 64),
        on_blocks(nvm::FLUSH, 0, 1),
    ];
    for _ in 0..rounds {
        for cid in 0..16u16 {
            let command = Command { cid: cid.into(), ..commands[usize::from(cid % 4)] };
            queue.submit(&command, if cid % 4 == 1 { &data[..4096] } else { &[] });
        }
        let mut answered = 0;
        while answered < 16 {
            let unit = queue.receive();
            match unit.common.kind {
                tgt_nvme::pdu::kind::R2T => {
                    let request = tgt_nvme::zerocopy::FromBytes::read_from_bytes(&unit.header[..]);
                    queue.send_data(&request.expect("24 bytes"), data);
                }
                tgt_nvme::pdu::kind::CAPSULE_RESP => answered += 1,
                _ => {}
            }
        }
    }
}

#[test]
fn an_io_allocates_nothing_with_and_without_digests() {
    let world = World::new(1);
    let (_nvmf, address) = target(&world);
    let allocations = || world.reactors()[0].call(|_| test_alloc_counter::allocations()).expect("an answer");
    for digests in [false, true] {
        let mut admin = Queue::open(address, digests);
        admin.connect(NQN, 0, 0xffff, 0).expect("a controller");
        admin.enable();
        let mut io = Queue::open(address, digests);
        io.connect(NQN, 1, admin.cntlid, 0).expect("an IO queue");
        let data = pattern(64 * 512, 3);
        // Queues grow to their load.
        exchange(&mut io, &data, 200);
        let before = allocations();
        exchange(&mut io, &data, 100);
        let few = allocations() - before;
        let before = allocations();
        exchange(&mut io, &data, 1000);
        let many = allocations() - before;
        // A message or two may fall into either run.
        assert!(many <= few + 8, "{few} allocations in 1,600 IOs, {many} in 16,000");
    }
}

#[test]
fn idle_connections_let_the_reactor_sleep_and_many_of_them_are_served() {
    const HOSTS: usize = 200;
    let world = World::new(1);
    let (nvmf, address) = target(&world);
    let queues: Vec<(Queue, Queue)> = (0..HOSTS)
        .map(|_| {
            let mut admin = Queue::open(address, false);
            admin.connect(NQN, 0, 0xffff, 0).expect("a controller");
            admin.enable();
            let mut io = Queue::open(address, false);
            io.connect(NQN, 1, admin.cntlid, 0).expect("an IO queue");
            (admin, io)
        })
        .collect();
    let counts = nvmf.counts().expect("an answer")[0].1;
    assert_eq!((counts.admin_now, counts.io_now, counts.memory_used), (HOSTS as u64, HOSTS as u64, 0));
    wait_until("it sleeps with all of them connected", || world.reactors()[0].stats().snapshot().asleep);
    for (_, mut io) in queues {
        assert!(io.call(on_blocks(nvm::READ, 0, 8), &[]).1.len() == 4096);
    }
}
