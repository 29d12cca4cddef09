//! Range locks across reactors: writers, readers and owners of locks on two reactors and on threads, over a device that
//! notices whatever is inside a lock of somebody else, from the submission to the completion.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use test_bdevs::world::{World, wait_until};
use tgt_bdev::{
    Bdev, BdevSpec, Bufs, Channel, Cx, Device, DmaBuf, Done, DoneQueue, Event, Io, IoChannel, IoStatus,
    KeepsOut, Limits, Mode, Op, OpSet, RangeLock, Tag, Work,
};
use tgt_reactor::Poller;

const BLOCK: u32 = 512;
const BLOCKS: u64 = 16;

/// IO of an owner of a lock bears this plus the number of the lock as its tag.
const OWNERS: u64 = 1 << 32;

/// What everybody agrees on.
#[derive(Default)]
struct Watch {
    /// For each block: number of the lock that is held on it, and whether it keeps reads out; 0: none.
    locked: [AtomicU64; BLOCKS as usize],
    /// Locks that were asked for and not given back, in the order of asking.
    asked: Mutex<Vec<(u64, Range<u64>)>>,
    numbers: AtomicU64,
    held: AtomicU64,
    ios: AtomicU64,
    intruders: AtomicU64,
    out_of_order: AtomicU64,
    stop: AtomicBool,
    over: AtomicU64,
}

impl Watch {
    fn asked(&self) -> MutexGuard<'_, Vec<(u64, Range<u64>)>> {
        self.asked.lock().expect("nobody panics inside")
    }

    /// Asks for a lock so that the order of asking is known.
    fn ask<L>(&self, range: &Range<u64>, ask: impl FnOnce() -> L) -> (u64, L) {
        let mut asked = self.asked();
        let number = self.numbers.fetch_add(1, Relaxed) + 1;
        asked.push((number, range.clone()));
        (number, ask())
    }

    /// The lock is held from here on.
    fn enter(&self, number: u64, range: &Range<u64>, keeps_out: KeepsOut) {
        let earlier = self
            .asked()
            .iter()
            .any(|(other, theirs)| *other < number && theirs.start < range.end && range.start < theirs.end);
        self.out_of_order.fetch_add(u64::from(earlier), Relaxed);
        let mark = number << 1 | u64::from(keeps_out != KeepsOut::Writes);
        for block in range.clone() {
            let before = self.locked[block as usize].swap(mark, SeqCst);
            self.intruders.fetch_add(u64::from(before != 0), Relaxed);
        }
        self.held.fetch_add(1, Relaxed);
    }

    /// It is given back after this.
    fn leave(&self, number: u64, range: &Range<u64>) {
        range.clone().for_each(|block| self.locked[block as usize].store(0, SeqCst));
        self.asked().retain(|(other, _)| *other != number);
    }

    /// An IO is in the device, at its beginning or its end.
    fn look_at(&self, io: &Io) {
        for block in io.lba..io.lba + u64::from(io.blocks) {
            let mark = self.locked[block as usize].load(SeqCst);
            let own = io.tag.0 == OWNERS + (mark >> 1);
            let kept_out = mark != 0 && !own && (io.op.is_write() || mark & 1 == 1);
            self.intruders.fetch_add(u64::from(kept_out), Relaxed);
        }
    }
}

/// Holds each IO for a few polls.
struct Watcher(Arc<Watch>);

struct WatcherChannel {
    world: Arc<Watch>,
    inside: VecDeque<(u8, Io)>,
    rng: fastrand::Rng,
}

impl Device for Watcher {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        let rng = fastrand::Rng::with_seed(u64::from(cx.id().0) + 7);
        Ok(Box::new(WatcherChannel { world: self.0.clone(), inside: VecDeque::new(), rng }))
    }
}

impl Channel for WatcherChannel {
    fn submit(&mut self, _cx: &mut Cx, io: Io) -> Result<(), Io> {
        self.world.look_at(&io);
        self.inside.push_back((self.rng.u8(0..5), io));
        Ok(())
    }

    fn poll(&mut self, _cx: &mut Cx, done: &mut DoneQueue) -> Work {
        for _ in 0..self.inside.len() {
            let (polls, io) = self.inside.pop_front().expect("so many are inside");
            if polls > 0 {
                self.inside.push_back((polls - 1, io));
                continue;
            }
            self.world.look_at(&io);
            done.push(io.complete(IoStatus::SUCCESS));
        }
        if self.inside.is_empty() { Work::Idle } else { Work::Spin }
    }
}

fn watched(world: &World) -> (Arc<Bdev>, Arc<Watch>) {
    let shared = Arc::<Watch>::default();
    let spec = BdevSpec {
        name: "W".to_owned(),
        aliases: Vec::new(),
        product_name: "watcher",
        uuid: uuid::Uuid::new_v4(),
        block_size: BLOCK,
        num_blocks: BLOCKS,
        ops: OpSet::of(&[Op::Read, Op::Write, Op::Unmap, Op::Flush]),
        limits: Limits::default(),
        numa_node: None,
        device: Arc::new(Watcher(shared.clone())),
    };
    (world.bdevs.register(spec).expect("a valid spec"), shared)
}

fn some_range(rng: &mut fastrand::Rng) -> Range<u64> {
    let start = rng.u64(0..BLOCKS);
    start..(start + rng.u64(1..5)).min(BLOCKS)
}

fn io(op: Op, tag: u64, range: &Range<u64>) -> Io {
    let blocks = (range.end - range.start) as u32;
    let bytes = match op {
        Op::Unmap => 0,
        Op::CompareAndWrite => 2 * blocks * BLOCK,
        _ => blocks * BLOCK,
    };
    let bufs = if bytes == 0 { Bufs::none() } else { Bufs::from(DmaBuf::alloc(bytes).expect("memory")) };
    Io::new(op, Tag(tag), range.start, blocks, bufs)
}

/// Reads, writes, unmaps, and compares and writes, eight at a time.
struct Crowd {
    channel: IoChannel,
    done: DoneQueue,
    rng: fastrand::Rng,
    world: Arc<Watch>,
    removed: bool,
}

impl Poller for Crowd {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let _ = self.channel.poll(cx, &mut self.done);
        self.removed |= self.channel.take_event() == Some(Event::Removed);
        while let Some(done) = self.done.pop() {
            let status = Done::finish(done).status;
            let fine =
                [IoStatus::SUCCESS, IoStatus::COMPARE_FAILURE, IoStatus::INVALID_NAMESPACE].contains(&status);
            assert!(fine, "{status}");
            self.world.ios.fetch_add(1, Relaxed);
        }
        let ending = self.removed || self.world.stop.load(Relaxed);
        while !ending && self.channel.in_flight() < 8 {
            let op = self.rng.choice([Op::Read, Op::Write, Op::Write, Op::Unmap, Op::CompareAndWrite]);
            let io = io(op.expect("one of them"), 0, &some_range(&mut self.rng));
            self.channel.submit(cx, io).expect("eight find room");
        }
        if ending && self.channel.in_flight() == 0 {
            self.world.over.fetch_add(1, Relaxed);
            return Work::Over;
        }
        Work::Busy
    }

    fn name(&self) -> &str {
        "crowd"
    }
}

/// Locks ranges, writes and reads inside, and gives them back, again and again; now and then it gives up early.
struct Owner {
    channel: IoChannel,
    done: DoneQueue,
    rng: fastrand::Rng,
    world: Arc<Watch>,
    removed: bool,
    lock: Option<(u64, Range<u64>, KeepsOut, RangeLock)>,
    /// IO under the lock is still to be done; none: it is not held yet.
    left: Option<u8>,
}

impl Owner {
    fn ask(&mut self, cx: &Cx) {
        let range = some_range(&mut self.rng);
        let keeps_out = if self.rng.bool() { KeepsOut::Writes } else { KeepsOut::ReadsAndWrites };
        let channel = &self.channel;
        let (number, lock) =
            self.world.ask(&range, || channel.ask_lock(cx, std::slice::from_ref(&range), keeps_out));
        match lock {
            Ok(lock) => self.lock = Some((number, range, keeps_out, lock)),
            // Removed meanwhile.
            Err(_) => self.world.leave(number, &(0..0)),
        }
    }

    fn give_back(&mut self) {
        if let Some((number, range, _, lock)) = self.lock.take() {
            self.world.leave(number, if self.left.take().is_some() { &range } else { &(0..0) });
            drop(lock);
        }
    }
}

impl Poller for Owner {
    fn poll(&mut self, cx: &mut Cx) -> Work {
        let _ = self.channel.poll(cx, &mut self.done);
        self.removed |= self.channel.take_event() == Some(Event::Removed);
        std::iter::from_fn(|| self.done.pop()).for_each(|done| drop(done.finish()));
        let ending = self.removed || self.world.stop.load(Relaxed);
        if self.channel.in_flight() > 0 {
            return Work::Busy;
        }
        if ending {
            self.give_back();
            self.world.over.fetch_add(1, Relaxed);
            return Work::Over;
        }
        match (&self.lock, self.left) {
            (None, _) => self.ask(cx),
            (Some((_, _, _, lock)), None) if !lock.is_held() => {
                if self.rng.u32(0..2000) == 0 {
                    self.give_back();
                }
            }
            (Some((number, range, keeps_out, _)), None) => {
                self.world.enter(*number, range, *keeps_out);
                self.left = Some(self.rng.u8(0..4));
            }
            (Some(_), Some(0)) => self.give_back(),
            (Some((number, range, _, lock)), Some(left)) => {
                let op = if self.rng.bool() { Op::Read } else { Op::Write };
                let io = io(op, OWNERS + number, range);
                self.channel.submit_under(cx, lock, io).expect("one finds room");
                self.left = Some(left - 1);
            }
        }
        Work::Busy
    }

    fn name(&self) -> &str {
        "owner"
    }
}

/// Two crowds and two owners on each of two reactors.
fn start(world: &World, shared: &Arc<Watch>) -> u64 {
    let desc = Arc::new(world.bdevs.open("W", "crowd", Mode::Write).expect("free"));
    let mut pollers = 0;
    for reactor in &world.reactors()[..2] {
        for _ in 0..2 {
            let seed = 100 + pollers;
            let (desc, crowd, owner) = (desc.clone(), shared.clone(), shared.clone());
            let open = {
                let desc = desc.clone();
                move |reactor: &mut tgt_reactor::Reactor| desc.open_channel(reactor.cx()).expect("opens")
            };
            let make = move |reactor: &mut tgt_reactor::Reactor| Crowd {
                channel: desc.open_channel(reactor.cx()).expect("opens"),
                done: DoneQueue::default(),
                rng: fastrand::Rng::with_seed(seed),
                world: crowd,
                removed: false,
            };
            reactor.spawn(make).expect("an answer");
            let make = move |reactor: &mut tgt_reactor::Reactor| Owner {
                channel: open(reactor),
                done: DoneQueue::default(),
                rng: fastrand::Rng::with_seed(seed + 50),
                world: owner,
                removed: false,
                lock: None,
                left: None,
            };
            reactor.spawn(make).expect("an answer");
            pollers += 2;
        }
    }
    pollers
}

/// What a thread does meanwhile: locks, and pauses of the whole.
fn lock_as_a_thread(bdev: &Arc<Bdev>, shared: &Watch, rounds: u64) {
    let mut rng = fastrand::Rng::with_seed(3);
    let patience = Duration::from_secs(20);
    for round in 0..rounds {
        if round % 5 == 0 {
            let quiet = bdev.quiesce(patience).expect("it becomes quiet");
            // Nobody counts an IO while nothing can end.
            assert!(shared.locked.iter().all(|mark| mark.load(SeqCst) == 0), "a pause overlaps every lock");
            drop(quiet);
            continue;
        }
        let range = some_range(&mut rng);
        let keeps_out = KeepsOut::ReadsAndWrites;
        let ask = || bdev.lock_ranges(std::slice::from_ref(&range), keeps_out, patience);
        // Asking and waiting are one for a thread: its place in the order is not known to others.
        let lock = ask().expect("it is granted");
        let number = shared.numbers.fetch_add(1, Relaxed) + 1;
        for block in range.clone() {
            let before = shared.locked[block as usize].swap(number << 1 | 1, SeqCst);
            shared.intruders.fetch_add(u64::from(before != 0), Relaxed);
        }
        range.clone().for_each(|block| shared.locked[block as usize].store(0, SeqCst));
        drop(lock);
    }
}

fn assert_undisturbed(shared: &Watch) {
    let [intruders, out_of_order] =
        [&shared.intruders, &shared.out_of_order].map(|count| count.load(Relaxed));
    assert_eq!((intruders, out_of_order), (0, 0), "intruders, out of order");
}

#[test]
fn nothing_of_others_is_inside_a_held_lock_and_locks_come_in_order_on_two_reactors() {
    let world = World::new(2);
    let (bdev, shared) = watched(&world);
    let pollers = start(&world, &shared);
    lock_as_a_thread(&bdev, &shared, 200);
    wait_until("owners hold locks and the crowd goes on", || {
        shared.held.load(Relaxed) > 2_000 && shared.ios.load(Relaxed) > 10_000
    });
    shared.stop.store(true, Relaxed);
    wait_until("all are over", || shared.over.load(Relaxed) == pollers);
    assert_undisturbed(&shared);
}

#[test]
fn a_bdev_is_removed_while_its_blocks_are_locked_and_waited_for() {
    for round in 0..5 {
        let world = World::new(2);
        let (bdev, shared) = watched(&world);
        let pollers = start(&world, &shared);
        wait_until("locks are held", || shared.held.load(Relaxed) > 20 * (round + 1));
        let quiet = bdev.quiesce(Duration::from_secs(20)).expect("it becomes quiet");
        world.bdevs.remove("W").expect("everybody lets go");
        drop(quiet);
        wait_until("all are over", || shared.over.load(Relaxed) == pollers);
        assert_undisturbed(&shared);
    }
}
