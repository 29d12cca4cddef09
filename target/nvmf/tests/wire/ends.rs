//! How queues and controllers end, and what waits for that.

use crate::host::{HOST, Queue, inside, on_blocks, pattern};
use crate::{BLOCKS, NQN, Target};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use test_bdevs::world::wait_until;
use tgt_bdev::{BdevSpec, Channel, Cx, Device, DoneQueue, Io, Limits, Op, OpSet, Work};
use tgt_nvme::Command;
use tgt_nvme::command::nvm;
use tgt_nvme::register::CC;
use tgt_nvmf::model::AnaState;
use tgt_nvmf::portal::Counts;
use tgt_nvmf::{NamespaceSpec, TransportOptions};
use tgt_status::IoStatus;

/// IO queues, admin queues and IO in bdevs, of the first reactor.
fn now(target: &Target) -> (u64, u64, u64) {
    let counts = target.nvmf.counts().expect("an answer")[0].1;
    (counts.io_now, counts.admin_now, counts.in_bdevs)
}

#[test]
fn a_silent_host_loses_its_controller_and_one_that_speaks_does_not() {
    let options = TransportOptions { min_kato_ms: 300, kas_ms: 100, ..TransportOptions::default() };
    let target = Target::with(1, options);
    let mut admin = Queue::open(target.address, false);
    admin.connect(NQN, 0, 0xffff, 300).expect("a controller");
    admin.enable();
    let mut io = target.io(&admin, 1, false);
    let mut other = Queue::open(target.address, false);
    other.connect(NQN, 0, 0xffff, 300).expect("a controller");
    other.enable();
    let begun = Instant::now();
    while now(&target).1 == 2 {
        assert!(other.call(Command::new(0x18, 0, 0), &[]).0.status().is_ok());
        assert!(begun.elapsed().as_secs() < 20, "the silent one is still there");
    }
    assert!(begun.elapsed().as_millis() >= 250, "after {:?}", begun.elapsed());
    admin.expect_end();
    io.expect_end();
    assert!(other.call(Command::new(0x18, 0, 0), &[]).0.status().is_ok());
    wait_until("it is forgotten", || now(&target) == (0, 1, 0));
}

/// A device that keeps what it gets until it is told to go on, whatever else it is told.
struct Stuck(Arc<AtomicBool>);

struct StuckChannel {
    go_on: Arc<AtomicBool>,
    kept: VecDeque<Io>,
}

impl Device for Stuck {
    fn open_channel(&self, _cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        Ok(Box::new(StuckChannel { go_on: self.0.clone(), kept: VecDeque::new() }))
    }
}

impl Channel for StuckChannel {
    fn submit(&mut self, _cx: &mut Cx, io: Io) -> Result<(), Io> {
        self.kept.push_back(io);
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Cx, done: &mut DoneQueue) -> Work {
        while self.go_on.load(Ordering::SeqCst)
            && let Some(io) = self.kept.pop_front()
        {
            done.push(io.complete(IoStatus::SUCCESS));
        }
        if self.kept.is_empty() { Work::Idle } else { Work::Spin }
    }
}

/// Adds a stuck device as namespace 2. What lets it go on.
fn add_stuck(target: &Target) -> Arc<AtomicBool> {
    let go_on = Arc::new(AtomicBool::new(false));
    let spec = BdevSpec {
        name: "S1".to_owned(),
        aliases: Vec::new(),
        product_name: "stuck",
        uuid: uuid::Uuid::new_v4(),
        block_size: 512,
        num_blocks: BLOCKS,
        ops: OpSet::of(&[Op::Read, Op::Write]),
        limits: Limits::default(),
        numa_node: None,
        device: Arc::new(Stuck(go_on.clone())),
    };
    target.world.bdevs.register(spec).expect("a new name");
    let spec = NamespaceSpec { bdev: "S1".to_owned(), ..NamespaceSpec::default() };
    assert_eq!(target.nvmf.add_namespace(NQN, &spec).expect("a namespace"), 2);
    go_on
}

fn sum(target: &Target, of: impl Fn(&Counts) -> u64) -> u64 {
    target.nvmf.counts().expect("answers").iter().map(|(_, counts)| of(counts)).sum()
}

#[test]
fn a_host_waits_until_its_dead_queue_has_nothing_in_a_bdev_any_more() {
    let target = Target::with(2, TransportOptions::default());
    let go_on = add_stuck(&target);
    let (_admin, mut io) = target.queues(false);
    let (_other_admin, mut path) = target.queues(false);
    let stranger_nqn = "nqn.2014-08.org.example:stranger";
    let mut stranger_admin = Queue::open(target.address, false);
    stranger_admin.host_nqn = stranger_nqn.to_owned();
    stranger_admin.connect(NQN, 0, 0xffff, 0).expect("a controller");
    stranger_admin.enable();
    let mut stranger = Queue::open(target.address, false);
    stranger.host_nqn = stranger_nqn.to_owned();
    stranger.connect(NQN, 1, stranger_admin.cntlid, 0).expect("an IO queue");
    let (old, new) = (pattern(4096, 1), pattern(4096, 2));
    let mut write = inside(on_blocks(nvm::WRITE, 0, 8));
    (write.cid, write.nsid) = (1.into(), 2.into());
    io.submit(&write, &old);
    wait_until("the bdev has it", || sum(&target, |counts| counts.in_bdevs) == 1);
    drop(io);
    let fence = target.nvmf.tables().subsystem(NQN).expect("there").fence(HOST);
    wait_until("the queue is known to be dead", || !fence.is_open());
    // The host tries again over its other path; another host goes on.
    path.submit(&Command { cid: 2.into(), ..inside(on_blocks(nvm::WRITE, 64, 8)) }, &new);
    wait_until("the second path waits", || sum(&target, |counts| counts.waiting) == 1);
    assert!(stranger.call(inside(on_blocks(nvm::WRITE, 32, 8)), &new).0.status().is_ok());
    assert!(stranger.call(on_blocks(nvm::READ, 64, 8), &[]).1 == [0; 4096], "it has not been written");
    assert!(!fence.is_open());
    go_on.store(true, Ordering::SeqCst);
    assert!(path.completion().status().is_ok());
    assert!(stranger.call(on_blocks(nvm::READ, 64, 8), &[]).1 == new);
    assert!(fence.is_open());
}

#[test]
fn a_command_that_waits_when_its_queue_dies_never_starts() {
    let target = Target::new();
    let go_on = add_stuck(&target);
    let (_admin, mut first) = target.queues(false);
    let (other_admin, mut second) = target.queues(false);
    let mut third = target.io(&other_admin, 2, false);
    let mut write = inside(on_blocks(nvm::WRITE, 0, 8));
    (write.cid, write.nsid) = (1.into(), 2.into());
    first.submit(&write, &pattern(4096, 1));
    wait_until("the bdev has it", || sum(&target, |counts| counts.in_bdevs) == 1);
    drop(first);
    let fence = target.nvmf.tables().subsystem(NQN).expect("there").fence(HOST);
    wait_until("the queue is known to be dead", || !fence.is_open());
    second.submit(&Command { cid: 2.into(), ..inside(on_blocks(nvm::WRITE, 64, 8)) }, &pattern(4096, 2));
    wait_until("it waits", || sum(&target, |counts| counts.waiting) == 1);
    drop(second);
    wait_until("it is thrown away", || sum(&target, |counts| counts.waiting) == 0);
    go_on.store(true, Ordering::SeqCst);
    wait_until("the fence is open", || fence.is_open());
    assert!(third.call(on_blocks(nvm::READ, 64, 8), &[]).1 == [0; 4096], "it was not written");
    wait_until("all memory is back", || sum(&target, |counts| counts.memory_used) == 0);
}

#[test]
fn a_reset_controller_loses_its_io_queues_and_takes_new_ones() {
    let target = Target::new();
    let (mut admin, mut io) = target.queues(false);
    assert!(admin.property(true, CC, 0).status().is_ok());
    io.expect_end();
    let mut early = Queue::open(target.address, false);
    assert!(early.connect(NQN, 1, admin.cntlid, 0).is_err(), "not enabled");
    admin.enable();
    assert_eq!(early.connect(NQN, 1, admin.cntlid, 0), Ok(()));
    assert!(early.call(on_blocks(nvm::READ, 0, 8), &[]).0.status().is_ok());
}

#[test]
fn whatever_is_deleted_takes_its_hosts_with_it_and_lets_its_bdev_go() {
    let target = Target::with(2, TransportOptions::default());
    let open = || !target.world.bdevs.get("M1").expect("a bdev").openers().is_empty();
    let (mut admin, mut io) = target.queues(true);
    target.nvmf.remove_listener(NQN, target.address).expect("it listens");
    admin.expect_end();
    io.expect_end();
    assert!(std::net::TcpStream::connect(target.address).is_err(), "nobody listens");
    let address = target.nvmf.add_listener(NQN, target.address, AnaState::Optimized).expect("again");
    assert_eq!(address, target.address);
    let (mut admin, mut io) = target.queues(true);
    target.nvmf.remove_namespace(NQN, 1).expect("it is there");
    assert!(!open(), "the bdev is let go at once");
    let (completion, _) = io.call(on_blocks(nvm::READ, 0, 8), &[]);
    assert_eq!(completion.status(), IoStatus::INVALID_NAMESPACE);
    let spec = NamespaceSpec { bdev: "M1".to_owned(), ..Default::default() };
    target.nvmf.add_namespace(NQN, &spec).expect("again");
    assert!(io.call(on_blocks(nvm::READ, 0, 8), &[]).0.status().is_ok());
    target.nvmf.delete_subsystem(NQN).expect("it is there");
    admin.expect_end();
    io.expect_end();
    assert!(!open(), "the bdev is let go at once");
    target.world.bdevs.remove("M1").expect("nobody has it");
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let target = Target::with(2, TransportOptions::default());
    for round in 0..30u8 {
        let (mut admin, mut io) = target.queues(round % 2 == 0);
        // In the middle of a unit, of data, of a command.
        match round % 4 {
            0 => io.send(&[4, 0, 72]),
            1 => io.submit(&on_blocks(nvm::WRITE, 0, 8), &[]),
            2 => io.submit(&on_blocks(nvm::READ, 0, 8), &[]),
            _ => admin.send(&[4]),
        }
    }
    wait_until("all are forgotten", || {
        let counts = target.nvmf.counts().expect("answers");
        counts.iter().all(|(_, c)| {
            (c.io_now, c.admin_now, c.unassociated, c.memory_used, c.in_bdevs) == (0, 0, 0, 0, 0)
        })
    });
    assert!(target.nvmf.tables().subsystem(NQN).expect("there").controllers().is_empty());
}

#[test]
fn a_queue_that_comes_while_an_old_one_drains_has_its_namespaces() {
    let target = Target::new();
    let go_on = add_stuck(&target);
    let (admin, mut old) = target.queues(false);
    let mut write = inside(on_blocks(nvm::WRITE, 0, 8));
    (write.cid, write.nsid) = (1.into(), 2.into());
    old.submit(&write, &pattern(4096, 1));
    wait_until("the bdev has it", || sum(&target, |counts| counts.in_bdevs) == 1);
    drop((admin, old));
    wait_until("only what drains is left", || sum(&target, |counts| counts.admin_now) == 0);
    let (_admin, mut new) = target.queues(false);
    new.submit(&Command { cid: 5.into(), ..on_blocks(nvm::READ, 0, 8) }, &[]);
    wait_until("it waits", || sum(&target, |counts| counts.waiting) == 1);
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(new.finish(5, &[]).1, [0; 4096]);
    drop(new);
    // And when the last one has gone, the next one finds them again.
    wait_until("all have gone", || sum(&target, |counts| counts.io_now) == 0);
    let (_admin, mut next) = target.queues(false);
    assert_eq!(next.call(on_blocks(nvm::READ, 0, 8), &[]).1, [0; 4096]);
}

/// A write to namespace 1 that waits behind a dead queue of its host, whose own write is stuck in namespace 2.
struct Held {
    /// Lets the stuck one go on.
    go_on: Arc<AtomicBool>,
    path: Queue,
    /// Their controllers live as long as these.
    _admins: [Queue; 2],
}

fn held_write(target: &Target) -> Held {
    let go_on = add_stuck(target);
    let (first, mut dying) = target.queues(false);
    let (second, mut path) = target.queues(false);
    let mut write = inside(on_blocks(nvm::WRITE, 0, 8));
    (write.cid, write.nsid) = (1.into(), 2.into());
    dying.submit(&write, &pattern(4096, 1));
    wait_until("the bdev has it", || sum(target, |counts| counts.in_bdevs) == 1);
    drop(dying);
    let fence = target.nvmf.tables().subsystem(NQN).expect("there").fence(HOST);
    wait_until("the queue is known to be dead", || !fence.is_open());
    path.submit(&Command { cid: 2.into(), ..inside(on_blocks(nvm::WRITE, 0, 8)) }, &pattern(4096, 2));
    wait_until("it waits", || sum(target, |counts| counts.waiting) == 1);
    Held { go_on, path, _admins: [first, second] }
}

#[test]
fn a_command_that_waits_never_reaches_another_namespace_of_the_same_number() {
    let target = Target::new();
    test_bdevs::world::disk(&target.world.bdevs, "M9", BLOCKS);
    let Held { go_on, mut path, _admins } = held_write(&target);
    target.nvmf.remove_namespace(NQN, 1).expect("it is there");
    let spec = NamespaceSpec { bdev: "M9".to_owned(), nsid: Some(1), ..NamespaceSpec::default() };
    assert_eq!(target.nvmf.add_namespace(NQN, &spec).expect("another"), 1);
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(path.completion().status(), IoStatus::INVALID_NAMESPACE);
    assert!(path.call(on_blocks(nvm::READ, 0, 8), &[]).1 == [0; 4096], "the other namespace was not written");
}

#[test]
fn a_command_that_waits_does_not_start_over_a_path_that_became_inaccessible() {
    let target = Target::new();
    let Held { go_on, mut path, _admins } = held_write(&target);
    let set = |state| target.nvmf.set_ana_state(NQN, target.address, None, state).expect("it listens");
    set(AnaState::Inaccessible);
    go_on.store(true, Ordering::SeqCst);
    assert_eq!(path.completion().status(), tgt_nvme::status::ANA_INACCESSIBLE);
    set(AnaState::Optimized);
    assert!(path.call(on_blocks(nvm::READ, 0, 8), &[]).1 == [0; 4096], "it was not written");
}
