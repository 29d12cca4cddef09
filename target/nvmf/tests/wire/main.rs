//! The target over real sockets, with a small host of its own that knows nothing but the specification's structures.

mod chaos;
mod control;
mod ends;
mod host;
mod io;
mod wrong;

use host::Queue;
use std::net::SocketAddr;
use std::sync::Arc;
use test_bdevs::world::World;
use tgt_nvmf::model::{AnaState, SubsystemSpec};
use tgt_nvmf::{NamespaceSpec, Nvmf, TransportOptions};

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const BLOCKS: u64 = 2048;

/// A target with one subsystem, and a disk in memory of 2048 blocks of 512 bytes as its namespace 1.
struct Target {
    nvmf: Arc<Nvmf>,
    address: SocketAddr,
    world: World,
}

impl Target {
    fn new() -> Target {
        Target::with(1, TransportOptions::default())
    }

    fn with(reactors: u32, options: TransportOptions) -> Target {
        let world = World::new(reactors);
        test_bdevs::world::disk(&world.bdevs, "M1", BLOCKS);
        let nvmf = Nvmf::new(&world.bdevs, &Arc::new(world.reactors().to_vec()));
        nvmf.create_transport(options).expect("a transport");
        let spec = SubsystemSpec { ana_reporting: true, ..SubsystemSpec::new(NQN) };
        nvmf.create_subsystem(spec, true).expect("a subsystem");
        let spec = NamespaceSpec { bdev: "M1".to_owned(), ..NamespaceSpec::default() };
        assert_eq!(nvmf.add_namespace(NQN, &spec).expect("a namespace"), 1);
        let any = ([127, 0, 0, 1], 0).into();
        let address = nvmf.add_listener(NQN, any, AnaState::Optimized).expect("a listener");
        Target { nvmf, address, world }
    }

    /// An enabled controller: its admin queue, and an IO queue.
    fn queues(&self, digests: bool) -> (Queue, Queue) {
        let mut admin = self.admin(digests);
        admin.enable();
        let io = self.io(&admin, 1, digests);
        (admin, io)
    }

    fn admin(&self, digests: bool) -> Queue {
        let mut admin = Queue::open(self.address, digests);
        admin.connect(NQN, 0, 0xffff, 0).expect("a controller");
        admin
    }

    fn io(&self, admin: &Queue, qid: u16, digests: bool) -> Queue {
        let mut io = Queue::open(self.address, digests);
        io.connect(NQN, qid, admin.cntlid, 0).expect("an IO queue");
        io
    }
}
