//! Stores on bdevs, over real sockets, driven by a client written by hand. `pair`: two nodes; `failing`: bdevs that fail.

mod failing;
mod pair;
mod rig;

use bdev_rmr::store::{ImageError, Phase, data_offset, wipe};
use rig::{BLOCK, Client, POOL, Rig, letter_of, wait_until};
use rmr_engine::StoreConfig;
use rmr_engine::store::{OutCause, Service};
use rmr_proto::disk::Superblock;
use rmr_proto::envelope::{Kind, Status};
use rmr_proto::{
    BlockRange, Continuity, Epoch, IoOp, IoRequest, IoStatus, MEMBERS_MAX, MemberId, MemberSet, Msg, Origin,
    Promise, Proposal, Report, Seq, Stamp, Tag,
};
use std::sync::Arc;
use tgt_bdev::Bdev;

#[global_allocator]
static COUNTER: test_alloc_counter::Counter = test_alloc_counter::Counter;

const BLOCKS: u64 = (8 << 20) / BLOCK as u64;

/// The disk that reported: a start is adopted by no other.
fn stamp_of(report: &Report) -> Stamp {
    Stamp { incarnation: report.incarnation, counter: report.record.counter }
}

/// A pool of one leg, as a client sees it.
struct Pool {
    client: Client,
    epoch: Epoch,
    requests: u64,
    seq: u64,
}

impl Pool {
    /// Takes the store over; `None`: nothing was ever adopted there.
    fn start(mut client: Client, generation: u64, create: bool) -> (Self, Box<Report>) {
        let hailed = client.hail(0, Vec::new());
        assert_eq!(hailed.envelope.status, Status::Done);
        let superblock = Superblock::decode(&hailed.header).expect("its superblock");
        assert_eq!((superblock.pool, superblock.member), (POOL, MemberId::at(0)));
        let promise = Promise { generation, nonce: client.nonce };
        let asked = Msg::Promise { promise, takeover: true };
        let Msg::Promised(report) = client.ask(&asked, |msg| matches!(msg, Msg::Promised(_))) else {
            unreachable!("as asked")
        };
        assert_eq!(report.promise, promise);
        let epoch = Epoch { promise, version: 0 };
        let set = MemberSet::only(MemberId::at(0));
        let reference = MemberId::at(0);
        let mut last_in = [Epoch::default(); MEMBERS_MAX];
        last_in[0] = epoch;
        let mut peers = [Stamp::default(); MEMBERS_MAX];
        peers[0] = stamp_of(&report);
        let proposal = Proposal {
            epoch,
            origin: if create { Origin::Create { reference } } else { Origin::Assembly },
            set,
            members: set,
            blocks: BLOCKS,
            base: report.record.adopted,
            last_in,
            peers,
            ..Proposal::default()
        };
        client.ask(
            &Msg::Adopt(Box::new(proposal)),
            |msg| matches!(msg, Msg::Adopted { epoch: adopted, .. } if *adopted == epoch),
        );
        (Self { client, epoch, requests: 0, seq: 0 }, report)
    }

    fn request(&mut self, op: IoOp, first: u64, count: u32) -> IoRequest {
        self.requests += 1;
        let mut seq = Seq(0);
        if op.is_write() {
            self.seq += 1;
            seq = Seq(self.seq);
        }
        IoRequest {
            epoch: self.epoch,
            tag: Tag { slot: self.requests as u32 % 8, sending: self.requests as u32 },
            number: self.requests,
            op,
            range: BlockRange { first, count },
            seq,
            answered: Seq(self.seq.saturating_sub(1)),
            flushed: Seq(0),
            proved: false,
        }
    }

    fn write(&mut self, first: u64, data: &[u8]) -> IoStatus {
        let io = self.request(IoOp::Write, first, data.len() as u32 / BLOCK);
        self.client.io(io, Some(data)).0
    }

    fn read(&mut self, first: u64, count: u32) -> (IoStatus, Vec<u8>) {
        let io = self.request(IoOp::Read, first, count);
        self.client.io(io, None)
    }

    fn plain(&mut self, op: IoOp, first: u64, count: u32) -> IoStatus {
        let io = self.request(op, first, count);
        self.client.io(io, None).0
    }
}

fn filled(blocks: u32, with: u8) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| (at as u8 ^ with).wrapping_add((at / BLOCK) as u8)).collect()
}

/// Everything a client does with one leg, twice, with the store closed between.
fn serves_and_keeps(rig: &Rig, bdev: &Arc<Bdev>) {
    rig.create(bdev, 0).expect("an empty bdev");
    rig.open(1, bdev).expect("it opens");
    let (mut pool, report) = Pool::start(rig.client(1, 11), 1, true);
    assert_eq!(report.record.adopted, Epoch::default(), "a new store");
    let (small, large) = (filled(1, 3), filled(64, 5));
    assert_eq!(pool.write(0, &small), IoStatus::Done);
    assert_eq!(pool.write(BLOCKS - 64, &large), IoStatus::Done);
    assert_eq!(pool.read(0, 1), (IoStatus::Done, small.clone()));
    assert_eq!(pool.read(BLOCKS - 64, 64), (IoStatus::Done, large.clone()));
    assert_eq!(pool.plain(IoOp::Flush, 0, 0), IoStatus::Done);
    assert_eq!(pool.plain(IoOp::Zero { unmap: true }, BLOCKS - 1, 1), IoStatus::Done);
    assert_eq!(pool.read(BLOCKS - 1, 1), (IoStatus::Done, vec![0; BLOCK as usize]));
    let status = rig.status(1);
    assert_eq!((status.phase, status.requests, status.on_disk, status.buffers), (Phase::Open, 0, 0, 0));
    assert_eq!(status.engine.expect("it runs").service, Service::Serving);
    // In the middle of the epoch.
    let closed = rig.close(1);
    assert!(!closed.cache_lost);
    assert!(bdev.openers().is_empty(), "the bdev is let go of");
    let answer = pool.client.hail(0, Vec::new());
    assert_eq!(answer.envelope.status, Status::NoPool);

    rig.open(1, bdev).expect("it opens again");
    let service = rig.status(1).engine.expect("it runs").service;
    assert_eq!(service, Service::Out(OutCause::Opened), "nobody is served before a newer epoch names it");
    let old = pool.read(0, 1);
    assert_eq!(old.0, IoStatus::NotServing);
    let (mut again, report) = Pool::start(pool.client, 2, false);
    assert_eq!(report.continuity, Continuity::SameBoot);
    assert_eq!(report.record.adopted.promise.generation, 1);
    assert_eq!(again.read(0, 1), (IoStatus::Done, small));
    let first = large.len() - BLOCK as usize;
    assert_eq!(again.read(BLOCKS - 64, 63), (IoStatus::Done, large[..first].to_vec()));
    rig.close(1);
}

#[test]
fn a_store_on_memory_serves_a_client_and_keeps_what_it_wrote() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, 512);
    serves_and_keeps(&rig, &bdev);
}

#[test]
fn a_store_on_a_file_serves_a_client_and_keeps_what_it_wrote() {
    let rig = Rig::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk");
    std::fs::File::create(&path).and_then(|file| file.set_len(32 << 20)).expect("room");
    let spec = bdev_uring::UringSpec {
        name: "u0".to_owned(),
        filename: path,
        block_size: Some(BLOCK),
        uuid: None,
        flavour: bdev_uring::Flavour::Uring,
    };
    let bdev = bdev_uring::create(&rig.bdevs, spec).expect("a file");
    serves_and_keeps(&rig, &bdev);
}

#[test]
fn a_request_of_an_older_epoch_does_not_execute() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let (mut old, _) = Pool::start(rig.client(1, 11), 1, true);
    assert_eq!(old.write(5, &filled(1, 1)), IoStatus::Done);
    let (mut new, _) = Pool::start(rig.client(1, 12), 2, false);
    assert_eq!(old.write(5, &filled(1, 2)), IoStatus::Fenced);
    assert_eq!(old.read(5, 1).0, IoStatus::Fenced);
    assert_eq!(new.read(5, 1), (IoStatus::Done, filled(1, 1)));
    // And an epoch that nobody adopted.
    new.epoch.version += 1;
    assert_eq!(new.write(5, &filled(1, 3)), IoStatus::WrongEpoch);
}

#[test]
fn a_client_is_heard_and_each_collect_ends() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    let beat = Msg::Beat { epoch: pool.epoch, answered: Seq(0), flushed: Seq(0), counters: [0; MEMBERS_MAX] };
    let heard = pool.client.ask(&beat, |msg| matches!(msg, Msg::BeatReply { .. }));
    assert!(matches!(heard, Msg::BeatReply { serving: true, .. }), "{heard:?}");
    // One waits; a newer one takes its place; then a letter comes.
    let first = pool.client.start_collect(4096);
    let second = pool.client.start_collect(4096);
    let ended = pool.client.wait(first);
    assert_eq!((ended.envelope.status, ended.envelope.length), (Status::Done, 0), "nothing, and no error");
    assert!(pool.client.answer(second).is_none(), "there is nothing to say");
    assert_eq!(pool.client.letter(&beat), Status::Done);
    let answer = pool.client.wait(second);
    assert!(matches!(letter_of(&answer), Msg::BeatReply { .. }));
    // The last one ends with the store, and with its lane.
    let third = pool.client.start_collect(4096);
    wait_until("it is there", || rig.status(1).clients == 1);
    rig.close(1);
    assert_eq!(pool.client.wait(third).envelope.status, Status::NoPool);
}

#[test]
fn a_letter_that_needs_more_room_says_how_much_and_stays() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let mut client = rig.client(1, 11);
    // A report is larger than a header has room for.
    let promise = Promise { generation: 1, nonce: 11 };
    assert_eq!(client.letter(&Msg::Promise { promise, takeover: false }), Status::Done);
    let small = client.start_collect(0);
    let answer = client.wait(small);
    assert_eq!(answer.envelope.status, Status::Larger);
    let room = answer.envelope.length;
    assert!(room > 480, "{room}");
    let fits = client.start_collect(room);
    let answer = client.wait(fits);
    assert!(matches!(letter_of(&answer), Msg::Promised(_)), "the same letter");
}

#[test]
fn what_is_not_understood_is_refused_and_harms_nobody() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    assert_eq!(rig.client(1, 9).hail(3, Vec::new()).envelope.status, Status::OtherMember);
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    // Each request is for one member: a session that leads elsewhere harms nobody.
    pool.client.member = 3;
    let meant_for_another = pool.client.envelope(Kind::Collect, 0).encode();
    let tag = pool.client.start([&meant_for_another[..], &POOL.0].concat(), Err(4096));
    assert_eq!(pool.client.wait(tag).envelope.status, Status::OtherMember);
    pool.client.member = 0;
    let io = pool.request(IoOp::Write, 0, 1);
    let message = rmr_proto::wire::encode(POOL, &Msg::Io(io, Some(rmr_proto::BufId(0))));
    let good = [&pool.client.envelope(Kind::Io, message.len()).encode()[..], &message].concat();
    let refused = |client: &mut Client, header: Vec<u8>, data: Result<&[u8], u32>, status: Status| {
        let tag = client.start(header, data);
        assert_eq!(client.wait(tag).envelope.status, status);
    };
    let block = filled(1, 1);
    let client = &mut pool.client;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        // Not what follows the sender's nonce: that is another client then, whom the engine refuses.
        if !(16..24).contains(&at) {
            let status = if (48..64).contains(&at) { Status::NoPool } else { Status::NotUnderstood };
            refused(client, bad, Ok(&block), status);
        }
    }
    for short in [0, 1, 31, 32, 50, 71, good.len() - 1] {
        refused(client, good[..short].to_vec(), Ok(&block), Status::NotUnderstood);
    }
    refused(client, good.clone(), Ok(&[]), Status::NotUnderstood);
    refused(client, good.clone(), Ok(&filled(2, 1)), Status::NotUnderstood);
    refused(client, good.clone(), Err(BLOCK), Status::NotUnderstood);
    // None of it was executed, and the request itself still is; a second copy of its number is not.
    assert_eq!(client.io(io, Some(&block)).0, IoStatus::Done);
    refused(client, good, Ok(&block), Status::NotUnderstood);
    let mut zero = pool.request(IoOp::Zero { unmap: false }, 0, 1);
    assert_eq!(pool.client.io(zero, None).0, IoStatus::Done);
    zero.tag.sending += 1000;
    let tag = pool.client.start_io(zero, None);
    assert_eq!(pool.client.wait(tag).envelope.status, Status::NotUnderstood, "the engine has nothing to say");
    let status = rig.status(1);
    assert_eq!((status.phase, status.requests, status.buffers), (Phase::Open, 0, 0));
}

#[test]
fn a_lane_that_is_killed_leaves_nothing_behind_and_the_next_goes_on() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    assert_eq!(pool.write(1, &filled(1, 9)), IoStatus::Done);
    pool.client.start_collect(4096);
    for block in 0..64 {
        let io = pool.request(IoOp::Write, 100 + block, 1);
        pool.client.start_io(io, Some(&filled(1, block as u8)));
    }
    pool.client.detach();
    wait_until("all that came is over", || {
        let status = rig.status(1);
        (status.requests, status.on_disk, status.buffers) == (0, 0, 0)
    });
    pool.client = rig.client(1, 11);
    assert_eq!(pool.read(1, 1), (IoStatus::Done, filled(1, 9)), "the same client, the same epoch");
    let beat = Msg::Beat { epoch: pool.epoch, answered: Seq(0), flushed: Seq(0), counters: [0; MEMBERS_MAX] };
    pool.client.ask(&beat, |msg| matches!(msg, Msg::BeatReply { .. }));
    assert_eq!(rig.status(1).clients, 1, "it is the one it was");
}

#[test]
fn a_bdev_that_is_removed_closes_its_store_and_says_so() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(1, &bdev).expect("it opens");
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    let collect = pool.client.start_collect(4096);
    rig.bdevs.remove("m0").expect("the store lets go of it");
    assert_eq!(pool.client.wait(collect).envelope.status, Status::NoPool);
    let status = rig.status(1);
    assert_eq!(status.phase, Phase::Closed);
    assert!(status.why.is_some_and(|why| why.contains("removed")));
    let io = pool.request(IoOp::Read, 0, 1);
    let tag = pool.client.start_io(io, None);
    assert_eq!(pool.client.wait(tag).envelope.status, Status::NoPool);
    rig.close(1);
}

fn exercise(pool: &mut Pool, requests: u64, data: &[u8]) {
    for at in 0..requests {
        assert_eq!(pool.write(at % 64, data), IoStatus::Done);
        assert_eq!(pool.read(at % 64, 2).0, IoStatus::Done);
    }
}

#[test]
fn a_store_is_reached_from_every_reactor_of_its_node() {
    let rig = Rig::with(2, true);
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    rig.create(&bdev, 0).expect("an empty bdev");
    let mut client = rig.client(1, 11);
    assert_eq!(client.hail(0, Vec::new()).envelope.status, Status::NoPool, "not open yet");
    // Sessions end on the first of the two, the store lives on the second.
    rig.open(2, &bdev).expect("it opens");
    wait_until("the first knows", || client.hail(0, Vec::new()).envelope.status == Status::Done);
    let (mut pool, _) = Pool::start(client, 1, true);
    let data = filled(2, 1);
    exercise(&mut pool, 50, &data);
    let first = data[..BLOCK as usize].to_vec();
    assert!(pool.read(0, 1) == (IoStatus::Done, first.clone()));
    // A client of the other reactor, which has lanes by the same names.
    let (mut other, _) = Pool::start(rig.client(2, 12), 2, false);
    assert_eq!(pool.write(5, &data), IoStatus::Fenced);
    let waits = other.client.start_collect(4096);
    let collect = pool.client.start_collect(4096);
    pool.client.start_collect(4096);
    assert_eq!(pool.client.wait(collect).envelope.status, Status::Done);
    pool.client.detach();
    wait_until("its lane is gone", || rig.served_lanes(1) == 0);
    assert!(other.read(0, 1) == (IoStatus::Done, first));
    assert!(other.client.answer(waits).is_none(), "the end of the other's lane is not its own");
    assert_eq!(rig.status(2).clients, 2);
    rig.close(2);
    assert_eq!(other.client.wait(waits).envelope.status, Status::NoPool);
    let mut late = rig.client(1, 13);
    assert_eq!(late.hail(0, Vec::new()).envelope.status, Status::NoPool);
    // And on the first after all.
    wait_until("the second's store is forgotten", || rig.open(1, &bdev).is_ok());
    assert_eq!(late.hail(0, Vec::new()).envelope.status, Status::Done);
}

#[test]
fn reads_and_writes_of_a_live_region_allocate_nothing() {
    for home in [1, 2] {
        allocates_nothing(home);
    }
}

/// With the sessions on the first reactor of the node, and the store on this one.
fn allocates_nothing(home: usize) {
    let rig = Rig::with(2, true);
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    rig.create(&bdev, 0).expect("an empty bdev");
    rig.open(home, &bdev).expect("it opens");
    let mut first = rig.client(1, 10);
    wait_until("the first knows", || first.hail(0, Vec::new()).envelope.status == Status::Done);
    let (mut pool, _) = Pool::start(rig.client(1, 11), 1, true);
    let data = filled(2, 1);
    let mut run = |requests: u64| exercise(&mut pool, requests, &data);
    // Of the node's reactors: the session's side of it, the driver, the engine, the bdev.
    let of = |at: usize| rig.handles[at].call(|_| test_alloc_counter::allocations()).expect("an answer");
    let counted = || of(1) + of(2);
    run(500);
    let fewest = (0..5)
        .map(|_| {
            let before = counted();
            run(200);
            counted() - before
        })
        .min();
    // A commit, or a beat of the session, may fall into some of the rounds.
    assert_eq!(fewest, Some(0), "allocations of 400 requests");
}

#[test]
fn a_new_store_is_these_bytes_for_ever() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, 512);
    rig.create(&bdev, 3).expect("an empty bdev");
    let area = rig.read_bytes(&bdev, 0, 4 << 20);
    let hex: String = area[..64].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "524d5253544f524501000000c8e22e2507070707070707070707070707070707\
         500000000000000000080000000000000c04070300000000001d000000000000"
    );
    assert_eq!(area[..4096], area[4096..8192], "two copies");
    assert_eq!(
        (&area[8192..8196], &area[8192 + (1 << 20)..][..4]),
        (&b"RMRP"[..], &b"RMRP"[..]),
        "the journal, twice"
    );
    let superblock = Superblock::decode(&area).expect("a store");
    assert_eq!(data_offset(&superblock, &StoreConfig::default()), 3 << 20);
    assert_eq!(superblock.capacity, ((32 << 20) - (3 << 20)) / u64::from(BLOCK));
    assert!(area[3 << 20..].iter().all(|byte| *byte == 0), "the data is not touched");
    assert_eq!(rmr_proto::crc32c(&area[..3 << 20]), 0x380d6ef1);
}

#[test]
fn a_store_is_made_where_nothing_is_and_opened_where_it_was_made() {
    let rig = Rig::start();
    let bdev = rig.malloc("m0", 32 << 20, BLOCK);
    assert!(matches!(rig.read(&bdev), Err(ImageError::NoStore { .. })));
    rig.create(&bdev, 0).expect("an empty bdev");
    let error = rig.create(&bdev, 0).expect_err("not twice");
    assert!(error.to_string().contains("member 0 of pool 07070707"), "{error}");
    let small = rig.malloc("m1", 8 << 20, BLOCK);
    let error = rig.create(&small, 0).expect_err("8 MiB and metadata");
    assert!(error.to_string().contains("mapped_size is 8388608"), "{error}");
    let opened = rig.read(&bdev).expect("it opens");
    let error = rig.read(&bdev).expect_err("it is claimed");
    assert!(error.to_string().contains("claim"), "{error}");
    let was = *opened.superblock();
    drop(opened);
    let another = Superblock { incarnation: rmr_proto::Incarnation(1), ..was };
    let error = wipe(&rig.handles[1], &bdev, &another).expect_err("another disk");
    assert!(error.to_string().contains("not the disk"), "{error}");
    wipe(&rig.handles[1], &bdev, &was).expect("it is closed");
    assert!(matches!(rig.read(&bdev), Err(ImageError::NoStore { .. })));
}
