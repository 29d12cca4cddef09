//! The initiator against the product's own target, over real sockets.

use bdev_nvme::{AttachOptions, Controllers, NvmeError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use test_bdevs::world::{World, all_done, bytes, do_io, filled, wait_until};
use tgt_bdev::{Bufs, Io, IoStatus, Op, Tag};
use tgt_nvmf::model::{AnaState, SubsystemSpec};
use tgt_nvmf::{NamespaceSpec, Nvmf, TransportOptions};

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const BLOCKS: u64 = 8192;

/// A target whose namespace 1 is a disk in memory.
struct Target {
    nvmf: Arc<Nvmf>,
    address: SocketAddr,
    world: World,
}

impl Target {
    fn new() -> Target {
        let world = World::new(2);
        test_bdevs::world::disk(&world.bdevs, "M1", BLOCKS);
        let nvmf = Nvmf::new(&world.bdevs, &Arc::new(world.reactors().to_vec()));
        nvmf.create_transport(TransportOptions::default()).expect("a transport");
        let mut target = Target { nvmf, address: ([127, 0, 0, 1], 0).into(), world };
        target.export();
        target
    }

    /// The subsystem, at the address that it has or gets.
    fn export(&mut self) {
        self.nvmf.create_subsystem(SubsystemSpec::new(NQN), true).expect("a subsystem");
        self.add("M1");
        self.address = self.nvmf.add_listener(NQN, self.address, AnaState::Optimized).expect("a listener");
    }

    fn add(&self, bdev: &str) {
        let spec = NamespaceSpec { bdev: bdev.to_owned(), ..NamespaceSpec::default() };
        self.nvmf.add_namespace(NQN, &spec).expect("a namespace");
    }

    fn options(&self) -> AttachOptions {
        AttachOptions::new("Nvme0", self.address, NQN)
    }
}

fn host(reactors: u32) -> (World, Arc<Controllers>) {
    let world = World::new(reactors);
    let controllers = Controllers::new(&world.bdevs, &Arc::new(world.reactors().to_vec()));
    (world, controllers)
}

fn pattern(len: u32, seed: u64) -> Bufs {
    let mut bufs = filled(len, 0);
    let mut random = fastrand::Rng::with_seed(seed);
    let data: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
    bufs.copy_from_slice(0, &data);
    bufs
}

#[test]
fn what_is_written_is_read_with_and_without_digests() {
    let target = Target::new();
    for (hdgst, ddgst) in [(false, false), (true, false), (false, true), (true, true)] {
        let (world, controllers) = host(1);
        let options = AttachOptions { hdgst, ddgst, ..target.options() };
        assert_eq!(controllers.attach(options).expect("it attaches"), ["Nvme0n1"]);
        let bdev = world.bdevs.get("Nvme0n1").expect("a bdev");
        assert_eq!((bdev.num_blocks(), bdev.block_size()), (BLOCKS, 512));
        let far = target.world.bdevs.get("M1").expect("the disk");
        assert_eq!(bdev.uuid(), far.uuid());
        world.with_channel("Nvme0n1", move |cx, channel| {
            let mut random = fastrand::Rng::with_seed(7);
            for round in 0..200 {
                // In the capsule, by R2T, and longer than one transfer.
                let blocks = [1, 7, 8, 9, 64, 256, 600][random.usize(..7)];
                let lba = random.u64(..BLOCKS - u64::from(blocks));
                let written = bytes(&pattern(blocks * 512, round));
                let io = Io::new(Op::Write, Tag(1), lba, blocks, pattern(blocks * 512, round));
                assert_eq!(do_io(cx, channel, io).status, IoStatus::SUCCESS);
                let io = Io::new(Op::Read, Tag(2), lba, blocks, filled(blocks * 512, 0));
                let read = do_io(cx, channel, io);
                assert_eq!(read.status, IoStatus::SUCCESS);
                assert!(bytes(&read.bufs) == written, "{blocks} blocks at {lba}");
            }
            for (op, bufs, status) in [
                (Op::Flush, Bufs::none(), IoStatus::SUCCESS),
                (Op::WriteZeroes, Bufs::none(), IoStatus::SUCCESS),
                (Op::Compare, filled(8 * 512, 0), IoStatus::SUCCESS),
                (Op::Compare, filled(8 * 512, 1), IoStatus::COMPARE_FAILURE),
                (Op::Unmap, Bufs::none(), IoStatus::SUCCESS),
            ] {
                assert_eq!(do_io(cx, channel, Io::new(op, Tag(3), 16, 8, bufs)).status, status, "{op:?}");
            }
        });
        controllers.detach("Nvme0").expect("it goes");
        assert!(world.bdevs.all().is_empty());
    }
}

#[test]
fn more_io_than_slots_from_two_reactors_all_ends() {
    let target = Target::new();
    let (world, controllers) = host(2);
    controllers.attach(AttachOptions { io_queue_size: 8, ..target.options() }).expect("it attaches");
    for reactor in world.reactors() {
        let desc = world.bdevs.open("Nvme0n1", "test", tgt_bdev::Mode::Write).expect("opens");
        let ended = reactor.call_within(std::time::Duration::from_secs(60), move |reactor| {
            let mut channel = desc.open_channel(reactor.cx()).expect("a channel");
            for tag in 0..500 {
                let io = Io::new(Op::Write, Tag(tag), tag * 8, 8, filled(4096, tag as u8));
                channel.submit(reactor.cx(), io).expect("room to wait");
            }
            all_done(reactor.cx(), &mut channel, 500)
        });
        assert!(ended.expect("an answer").iter().all(|(_, status)| status.is_ok()));
    }
    controllers.detach("Nvme0").expect("it goes");
}

#[test]
fn io_under_way_survives_a_target_that_goes_and_comes_back() {
    let mut target = Target::new();
    let (world, controllers) = host(1);
    let options = AttachOptions { ctrlr_loss_timeout_sec: -1, reconnect_delay_sec: 1, ..target.options() };
    controllers.attach(options).expect("it attaches");
    let (started, on_start) = channel();
    let (gone, on_gone) = channel();
    let test = std::thread::spawn(move || {
        world.with_channel("Nvme0n1", move |cx, channel| {
            let first = Io::new(Op::Write, Tag(0), 0, 8, filled(4096, 1));
            assert_eq!(do_io(cx, channel, first).status, IoStatus::SUCCESS);
            started.send(()).expect("the test listens");
            on_gone.recv().expect("the target is gone");
            for tag in 0..300 {
                let io = Io::new(Op::Write, Tag(tag), tag * 8, 8, filled(4096, tag as u8));
                channel.submit(cx, io).expect("room to wait");
            }
            let ended = all_done(cx, channel, 300);
            assert!(ended.iter().all(|(_, status)| status.is_ok()), "{ended:?}");
            for tag in [0, 150, 299] {
                let read = do_io(cx, channel, Io::new(Op::Read, Tag(1), tag * 8, 8, filled(4096, 0)));
                assert_eq!((read.status, bytes(&read.bufs)), (IoStatus::SUCCESS, vec![tag as u8; 4096]));
            }
        });
        world
    });
    on_start.recv().expect("it runs");
    target.nvmf.delete_subsystem(NQN).expect("deleted");
    gone.send(()).expect("the test listens");
    target.export();
    let world = test.join().expect("it went well");
    controllers.detach("Nvme0").expect("it goes");
    drop(world);
}

#[test]
fn without_hope_io_fails_and_a_reset_brings_it_back() {
    let mut target = Target::new();
    let (world, controllers) = host(1);
    controllers.attach(target.options()).expect("it attaches");
    target.nvmf.delete_subsystem(NQN).expect("deleted");
    let read = || {
        world.with_channel("Nvme0n1", |cx, channel| {
            do_io(cx, channel, Io::new(Op::Read, Tag(1), 0, 8, filled(4096, 0))).status
        })
    };
    assert_eq!(read(), IoStatus::PATH_ERROR);
    assert!(matches!(controllers.reset("Nvme0"), Err(NvmeError::Reset { .. })));
    target.export();
    controllers.reset("Nvme0").expect("it is back");
    assert_eq!(read(), IoStatus::SUCCESS);
    controllers.detach("Nvme0").expect("it goes");
}

/// Nothing polls and nothing comes: only the time wakes the reactor.
#[test]
fn a_reactor_that_sleeps_comes_back_after_its_delay() {
    let target = Target::new();
    let (_world, controllers) = host(1);
    let options = AttachOptions { ctrlr_loss_timeout_sec: -1, reconnect_delay_sec: 1, ..target.options() };
    controllers.attach(options).expect("it attaches");
    for _ in 0..2 {
        controllers.reset("Nvme0").expect("it is back");
    }
    controllers.detach("Nvme0").expect("it goes");
}

#[test]
fn a_controller_that_is_lost_for_too_long_is_detached() {
    let target = Target::new();
    let (world, controllers) = host(1);
    let options = AttachOptions { ctrlr_loss_timeout_sec: 1, reconnect_delay_sec: 1, ..target.options() };
    controllers.attach(options.clone()).expect("it attaches");
    target.nvmf.delete_subsystem(NQN).expect("deleted");
    wait_until("its bdev is gone", || world.bdevs.all().is_empty());
    wait_until("it is detached", || matches!(controllers.detach("Nvme0"), Err(NvmeError::NotFound(_))));
}

#[test]
fn namespaces_come_grow_and_go() {
    let target = Target::new();
    let (world, controllers) = host(1);
    controllers.attach(target.options()).expect("it attaches");
    let second = test_bdevs::world::disk(&target.world.bdevs, "M2", 64);
    target.add("M2");
    wait_until("the second namespace is a bdev", || world.bdevs.get("Nvme0n2").is_some());
    second.resize(128);
    wait_until("it has grown", || world.bdevs.get("Nvme0n2").is_some_and(|bdev| bdev.num_blocks() == 128));
    target.nvmf.remove_namespace(NQN, 2).expect("removed");
    wait_until("it is gone", || world.bdevs.get("Nvme0n2").is_none());
    assert!(world.bdevs.get("Nvme0n1").is_some());
    controllers.detach("Nvme0").expect("it goes");
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let target = Target::new();
    let (world, controllers) = host(1);
    let options = target.options();
    let error = |options: AttachOptions| controllers.attach(options).expect_err("refused").to_string();
    let other = AttachOptions { subnqn: "nqn.2016-06.io.spdk:other".to_owned(), ..options.clone() };
    assert!(error(other).contains("could not be attached"));
    assert!(error(AttachOptions { io_queue_size: 1, ..options.clone() }).contains("io_queue_size"));
    let delay = AttachOptions { reconnect_delay_sec: 1, ..options.clone() };
    assert!(error(delay).contains("reconnect_delay_sec"));
    let loss = AttachOptions { ctrlr_loss_timeout_sec: 5, ..options.clone() };
    assert!(error(loss).contains("reconnect_delay_sec"));
    assert!(matches!(controllers.detach("Nvme0"), Err(NvmeError::NotFound(_))));
    assert!(world.bdevs.all().is_empty());
    controllers.attach(options.clone()).expect("it attaches");
    assert!(matches!(controllers.attach(options), Err(NvmeError::Exists(_))));
    controllers.detach("Nvme0").expect("it goes");
}
