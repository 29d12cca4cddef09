//! Both sides over real sockets: a pool on the first reactor, two nodes with a store each.

#[path = "../store/rig.rs"]
#[expect(dead_code, reason = "the other test drives a store by hand")]
mod rig;

use bdev_rmr::hail::Peer;
use bdev_rmr::pool::{self, LegSpec, LegState, PoolSpec, PoolView};
use bdev_rmr::store::RangeJob;
use rig::{BLOCK, POOL, Rig, session, wait_until};
use rmr_engine::client::{ClientConfig, Phase, StartOptions};
use rmr_proto::MemberId;
use std::sync::Arc;
use tgt_bdev::{Bdev, BdevSpec, Channel, Cx, Desc, Device, Limits, Mode, Op, OpSet};
use tgt_reactor::Handle;
use uuid::Uuid;

const BLOCKS: u64 = (8 << 20) / BLOCK as u64;

struct OnPool(Uuid, Handle);

impl Device for OnPool {
    fn open_channel(&self, cx: &mut Cx) -> Result<Box<dyn Channel>, String> {
        pool::open_channel(cx, &self.1, self.0)
    }
}

struct Pair {
    rig: Rig,
    disks: [Arc<Bdev>; 2],
    pool: Uuid,
}

impl Pair {
    fn start() -> Self {
        let rig = Rig::with_nodes(2);
        let disks = [0, 1].map(|member| {
            let disk = rig.malloc(&format!("M{member}"), 32 << 20, BLOCK);
            rig.create(&disk, member).expect("a new store");
            rig.open(member + 1, &disk).expect("it opens");
            disk
        });
        let pair = Self { rig, disks, pool: Uuid::from_bytes(POOL.0) };
        pair.open_pool();
        pair
    }

    fn open_pool(&self) {
        let leg = |member: u8| {
            let address = self.rig.addresses[usize::from(member)];
            let peer = Peer { member, paths: vec![address.to_string()], key: None };
            LegSpec { peer, session: session(&[address], [1; 16]) }
        };
        let spec = PoolSpec {
            name: "P".into(),
            pool: self.pool,
            legs: vec![leg(0), leg(1)],
            start: StartOptions::default(),
            io_timeout: None,
            client: ClientConfig::default(),
        };
        pool::open(&self.rig.handles[0], spec).expect("an answer").expect("it opens");
    }

    fn view(&self) -> PoolView {
        pool::view(&self.rig.handles[0], self.pool).expect("an answer").expect("it is open")
    }

    fn until_set(&self, members: &[usize]) {
        let want = members.iter().fold(rmr_proto::MemberSet::EMPTY, |set, m| set.with(MemberId::at(*m)));
        wait_until("the set is active", || {
            let status = self.view().status;
            status.is_some_and(|status| status.phase == Phase::Active && status.set == want)
        });
    }

    /// The pool as a bdev.
    fn device(&self) -> Arc<Desc> {
        let bdev = self.rig.bdevs.register(BdevSpec {
            name: "Pool".into(),
            aliases: Vec::new(),
            product_name: "a pool",
            uuid: self.pool,
            block_size: BLOCK,
            num_blocks: BLOCKS,
            ops: OpSet::of(&[Op::Read, Op::Write, Op::WriteZeroes, Op::Unmap, Op::Flush]),
            limits: Limits { max_rw_blocks: self.view().request_blocks, ..Limits::default() },
            numa_node: None,
            device: Arc::new(OnPool(self.pool, self.rig.handles[0].clone())),
        });
        drop(bdev.expect("a free name"));
        Arc::new(self.rig.bdevs.open("Pool", "a test", Mode::Write).expect("it opens"))
    }

    fn write(&self, device: &Arc<Desc>, offset: u64, bytes: Vec<u8>) {
        RangeJob::Write(vec![(offset, bytes)]).run(&self.rig.handles[0], device).expect("written");
    }

    fn read(&self, device: &Arc<Desc>, offset: u64, len: u64) -> Vec<u8> {
        RangeJob::Read { offset, len }.run(&self.rig.handles[0], device).expect("read")
    }

    fn until_clean(&self) {
        wait_until("both legs hold everything", || {
            [1, 2]
                .iter()
                .all(|node| self.rig.status(*node).engine.is_some_and(|engine| engine.dirty_chunks == 0))
        });
    }
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (seed.wrapping_mul(31) ^ at.wrapping_mul(0x9e37_79b9) >> 7) as u8).collect()
}

#[test]
fn what_is_written_is_read_and_a_leg_that_was_away_copies_what_it_missed() {
    let pair = Pair::start();
    pair.until_set(&[0, 1]);
    let device = pair.device();
    pair.write(&device, 0, pattern(1, 1 << 20));
    assert!(pair.read(&device, 0, 1 << 20) == pattern(1, 1 << 20));
    pair.until_clean();
    // One store is closed; the pool goes on without it.
    let _closed = pair.rig.close(2);
    pair.until_set(&[0]);
    pair.write(&device, 1 << 20, pattern(2, 2 << 20));
    assert!(pair.read(&device, 1 << 20, 2 << 20) == pattern(2, 2 << 20));
    let legs = pair.view().legs;
    assert!(
        matches!(&legs[1].state, LegState::Refused(why) if why.contains("no store of this pool")),
        "{legs:?}"
    );
    pair.rig.open(2, &pair.disks[1]).expect("it opens again");
    pair.until_set(&[0, 1]);
    pair.until_clean();
    // Now the other is closed: all reads come from the one that was away.
    let _closed = pair.rig.close(1);
    pair.until_set(&[1]);
    assert!(pair.read(&device, 0, 1 << 20) == pattern(1, 1 << 20));
    assert!(pair.read(&device, 1 << 20, 2 << 20) == pattern(2, 2 << 20));
    drop(device);
    pair.rig.bdevs.remove("Pool").expect("nobody has it open");
    assert_eq!(pool::close(&pair.rig.handles[0], pair.pool).ok(), Some(true));
}

#[test]
fn a_pool_is_assembled_again_by_another_client() {
    let pair = Pair::start();
    pair.until_set(&[0, 1]);
    let device = pair.device();
    pair.write(&device, 4096, pattern(3, 8192));
    drop(device);
    pair.rig.bdevs.remove("Pool").expect("nobody has it open");
    assert_eq!(pool::close(&pair.rig.handles[0], pair.pool).ok(), Some(true));
    pair.open_pool();
    pair.until_set(&[0, 1]);
    let device = pair.device();
    assert!(pair.read(&device, 4096, 8192) == pattern(3, 8192));
    let view = pair.view();
    assert_eq!((view.under_way, view.buffers), (0, 0), "nothing is kept");
}

#[test]
fn requests_of_other_reactors_go_to_the_pools_home_and_back() {
    let pair = Pair::start();
    pair.until_set(&[0, 1]);
    let device = pair.device();
    let threads = [1, 2].map(|reactor: u64| {
        let (device, handle) = (device.clone(), pair.rig.handles[reactor as usize].clone());
        std::thread::spawn(move || {
            for round in 0..20 {
                let (offset, bytes) = (reactor << 20, pattern(reactor + 2 * round, 1 << 20));
                RangeJob::Write(vec![(offset, bytes.clone())]).run(&handle, &device).expect("written");
                let read = RangeJob::Read { offset, len: 1 << 20 }.run(&handle, &device).expect("read");
                assert!(read == bytes, "reactor {reactor}, round {round}");
            }
        })
    });
    threads.into_iter().for_each(|thread| thread.join().expect("all rounds"));
    // What one wrote the others read.
    assert!(pair.read(&device, 1 << 20, 1 << 20) == pattern(1 + 38, 1 << 20));
    assert!(pair.read(&device, 2 << 20, 1 << 20) == pattern(2 + 38, 1 << 20));
    let view = pair.view();
    assert_eq!((view.under_way, view.buffers), (0, 0), "nothing is kept");
}
