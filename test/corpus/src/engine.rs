//! The engines of replication under fuzz: any decodable messages in any order, between ticks, answers of the disk and
//! restarts. Nothing may panic, write outside its areas, lose a buffer twice or grow without bound.
//!
//! The bytes are a program: each step takes an instruction and its operands. Half of the messages are made of any
//! bytes; the other half fits what stands (the promise, the epoch), or little would get past the first check.

use std::collections::BTreeSet;

use rmr_engine::client::{
    Client, ClientAction, ClientConfig, ClientEvent, Command, Request, ScrubCommand, ScrubRange, StartOptions,
};
use rmr_engine::store::{Store, format};
use rmr_engine::{DiskOp, Party, StoreAction, StoreConfig, StoreEvent};
use rmr_proto::disk::Superblock;
use rmr_proto::raw::RawHeader;
use rmr_proto::{
    BlockRange, BufId, ChunkBits, ChunkNo, Continuity, Epoch, Geometry, Incarnation, IoOp, IoReply,
    IoRequest, IoStatus, MEMBERS_MAX, MapSlice, MemberId, MemberSet, Msg, NoCopy, Origin, PoolId, Promise,
    Proposal, RegionMisses, RegionNo, Report, Seq, Stamp, SuspectRegion, Tag, crc32c, wire,
};

const POOL: PoolId = PoolId(*b"a fuzzed pool...");
const MS: u64 = 1_000_000;
/// Steps of one program: more would only be slow.
const STEPS_MAX: usize = 400;

/// The program: operands come from its front, zeroes when it has ended.
struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Mostly small; now and then at the far end.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::MAX - u64::from(self.byte()),
            253 => 1 << (self.byte() % 64),
            small => small.into(),
        }
    }

    fn bits(&mut self) -> ChunkBits {
        match self.byte() {
            255 => ChunkBits(u128::MAX),
            small => ChunkBits(u128::from(small) << (self.byte() % 120)),
        }
    }

    fn member(&mut self) -> MemberId {
        MemberId::at(usize::from(self.byte()) % MEMBERS_MAX)
    }

    fn members(&mut self) -> MemberSet {
        MemberSet(if self.flag() { 0b111 } else { self.byte() })
    }

    fn promise(&mut self, now: Promise) -> Promise {
        match self.byte() % 4 {
            0 | 1 => now,
            2 => Promise { generation: now.generation.wrapping_add(self.number()), nonce: self.number() },
            _ => Promise { generation: self.number(), nonce: self.number() },
        }
    }

    fn epoch(&mut self, now: Epoch) -> Epoch {
        match self.byte() % 4 {
            0 | 1 => now,
            2 => Epoch { version: now.version.wrapping_add(self.number()), ..now },
            _ => Epoch { promise: self.promise(now.promise), version: self.number() },
        }
    }

    fn misses(&mut self) -> RegionMisses {
        let mut misses = RegionMisses { region: RegionNo(self.number()), ..RegionMisses::default() };
        for _ in 0..self.byte() % 4 {
            misses.missed[self.member().index()] = self.bits();
        }
        misses.suspect = self.bits();
        misses
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 8).map(|_| one(self)).collect()
    }

    fn stamp(&mut self) -> Stamp {
        Stamp { incarnation: Incarnation(self.number() % 8), counter: self.number() }
    }

    fn range(&mut self) -> BlockRange {
        BlockRange { first: self.number(), count: self.number() as u32 }
    }

    /// Any bytes as a message, its header put right. `None`: they say nothing.
    fn raw_message(&mut self, buf: BufId) -> Option<Msg> {
        let (kind, count, flags) = (self.byte() % 40, self.byte() % 4, self.byte() % 4);
        let take = (usize::from(self.byte()) * 2).min(self.0.len());
        let (body, rest) = self.0.split_at(take);
        self.0 = rest;
        let mut bytes = vec![0; RawHeader::SIZE];
        bytes[..4].copy_from_slice(b"RMR1");
        bytes[4..6].copy_from_slice(&wire::VERSION.to_le_bytes());
        bytes[6] = kind;
        bytes[8..12].copy_from_slice(&(body.len() as u32).to_le_bytes());
        bytes[32] = count;
        bytes[36] = flags;
        bytes.extend_from_slice(body);
        let sum = crc32c(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        wire::decode(&bytes, Some(buf)).ok().map(|(_, msg)| msg)
    }
}

fn geometry() -> Geometry {
    // The last chunk is cut, and so is the last region.
    Geometry::new(62, 12, 2, 2).expect("a small geometry")
}

/// What the store has room for.
fn room() -> Geometry {
    geometry().with_blocks(100).expect("a small geometry")
}

// ---- the storage side ----

struct StoreRig {
    store: Store,
    config: StoreConfig,
    area: Vec<u8>,
    now: u64,
    boot: u64,
    next_buf: u32,
    bufs: BTreeSet<BufId>,
    disk: Vec<(DiskOp, bool)>,
}

/// Messages, ticks, answers of the disk and restarts for a store, in any order.
pub(crate) fn store_events(data: &[u8]) {
    let config = StoreConfig { journal_bytes: 4096, intents_soft_max: 2, ..StoreConfig::default() };
    let superblock = Superblock {
        pool: POOL,
        member: MemberId::at(0),
        incarnation: Incarnation(1),
        geometry: geometry(),
        zeroed: false,
        capacity: room().blocks(),
    };
    let area = format(&superblock, &config, MemberSet::first(3));
    let store = Store::open(&area, config, 1).expect("freshly formatted");
    let (now, boot, next_buf) = (1, 1, 0);
    let mut rig =
        StoreRig { store, config, area, now, boot, next_buf, bufs: BTreeSet::new(), disk: Vec::new() };
    let mut program = Program(data);
    for _ in 0..STEPS_MAX {
        if program.0.is_empty() {
            break;
        }
        rig.step(&mut program);
    }
}

impl StoreRig {
    fn step(&mut self, p: &mut Program<'_>) {
        match p.byte() % 16 {
            0 => {
                self.now += u64::from(p.byte()) * 10 * MS;
                self.event(StoreEvent::Tick);
            }
            1..=5 => self.disk_answer(p),
            6 => self.reopen(p.flag()),
            7 => {
                let buf = self.buffer();
                let msg = p.raw_message(buf);
                self.message(p, msg, buf);
            }
            8 => {
                // What every client begins with.
                let promise = self.store.view().record.promise;
                let promise = Promise { generation: promise.generation.saturating_add(1), nonce: 1 };
                self.event(StoreEvent::Msg(Party::Client(0), Msg::Promise { promise, takeover: true }));
            }
            9 => self.drain_disk(),
            _ => {
                let buf = self.buffer();
                let msg = self.fitting(p, buf);
                self.message(p, Some(msg), buf);
            }
        }
    }

    fn buffer(&mut self) -> BufId {
        self.next_buf += 1;
        BufId(self.next_buf)
    }

    fn message(&mut self, p: &mut Program<'_>, msg: Option<Msg>, buf: BufId) {
        let Some(msg) = msg else { return };
        if matches!(msg, Msg::Io(_, Some(_)) | Msg::IoReply(_, Some(_)) | Msg::CopyReply { buf: Some(_), .. })
        {
            self.bufs.insert(buf);
        }
        let of_member = matches!(
            msg,
            Msg::MapPull { .. }
                | Msg::MapSlice(_)
                | Msg::CopyRead { .. }
                | Msg::CopyReply { .. }
                | Msg::Cleared { .. }
                | Msg::ClearedAck { .. }
        );
        let from = match of_member ^ (p.byte() == 255) {
            true => Party::Member(p.member()),
            false => Party::Client(u32::from(p.byte() % 2)),
        };
        self.event(StoreEvent::Msg(from, msg));
    }

    fn event(&mut self, event: StoreEvent) {
        let mut out = Vec::new();
        self.store.on(self.now, event, &mut out);
        self.store.check();
        out.into_iter().for_each(|action| self.action(action));
        let regions = room().regions() as usize;
        assert!(self.store.live_entries() <= regions, "more entries than regions");
        assert!(self.store.view().misses.len() <= regions, "more maps than regions");
        assert!(self.store.dirty_chunks() <= room().chunks(), "more dirty chunks than chunks");
    }

    fn action(&mut self, action: StoreAction) {
        match action {
            StoreAction::Send(
                _,
                Msg::Io(_, Some(buf)) | Msg::IoReply(_, Some(buf)) | Msg::CopyReply { buf: Some(buf), .. },
            )
            | StoreAction::Release(buf) => assert!(self.bufs.remove(&buf), "{buf:?} was given back twice"),
            StoreAction::Send(..) => {}
            StoreAction::Write { op, range, buf, .. } => {
                assert!(self.store.geometry().holds(range), "{range:?} is outside the device");
                assert!(buf.is_none_or(|buf| self.bufs.remove(&buf)), "{buf:?} was given back twice");
                self.disk.push((op, false));
            }
            StoreAction::Read { op, range } => {
                assert!(self.store.geometry().holds(range), "{range:?} is outside the device");
                self.disk.push((op, true));
            }
            StoreAction::Checksum { op, range } => {
                assert!(self.store.geometry().holds(range), "{range:?} is outside the device");
                self.disk.push((op, false));
            }
            StoreAction::Flush { op } => self.disk.push((op, false)),
            StoreAction::MetaWrite { offset, bytes } => {
                let place = self.area.get_mut(offset as usize..offset as usize + bytes.len());
                place.expect("metadata is written inside its area").copy_from_slice(&bytes);
                self.disk.push((DiskOp::Meta, false));
            }
        }
    }

    fn disk_answer(&mut self, p: &mut Program<'_>) {
        if self.disk.is_empty() {
            return;
        }
        let (op, read) = self.disk.remove(usize::from(p.byte()) % self.disk.len());
        let ok = p.byte() < 250;
        self.answer(op, read, ok);
    }

    fn drain_disk(&mut self) {
        for _ in 0..200 {
            if self.disk.is_empty() {
                return;
            }
            let (op, read) = self.disk.remove(0);
            self.answer(op, read, true);
        }
    }

    fn answer(&mut self, op: DiskOp, read: bool, ok: bool) {
        if matches!(op, DiskOp::Check(_)) {
            self.event(StoreEvent::Checksum { op, crc: ok.then_some(self.now as u32) });
            return;
        }
        let buf = (read && ok).then(|| self.buffer());
        self.bufs.extend(buf);
        self.event(StoreEvent::Disk { op, ok, buf });
    }

    /// The process dies; what the disk was given stays.
    fn reopen(&mut self, power: bool) {
        self.boot += u64::from(power);
        self.disk.clear();
        self.bufs.clear();
        self.store = Store::open(&self.area, self.config, self.boot).expect("whole metadata opens");
        self.store.check();
    }

    fn fitting(&mut self, p: &mut Program<'_>, buf: BufId) -> Msg {
        let record = self.store.view().record;
        let epoch = p.epoch(record.adopted);
        let payload = p.flag().then_some(buf);
        match p.byte() % 16 {
            0 => Msg::Promise { promise: p.promise(record.promise), takeover: p.flag() },
            1 => Msg::Query { promise: p.promise(record.promise), regions: p.list(|p| RegionNo(p.number())) },
            2 | 3 => Msg::Adopt(Box::new(self.proposal(p))),
            4 => {
                let (set, attempt, last, anew) = (p.members(), p.number(), p.flag(), p.flag());
                Msg::Join { epoch, set, attempt, last, anew, blocks: p.number() }
            }
            5..=7 => {
                let op = match p.byte() % 6 {
                    0 => IoOp::Read,
                    1 => IoOp::Flush,
                    2 => IoOp::Zero { unmap: p.flag() },
                    3 => IoOp::WriteFua,
                    _ => IoOp::Write,
                };
                let (number, range, seq) = (p.number(), p.range(), Seq(p.number()));
                let (answered, flushed, proved) = (Seq(p.number()), Seq(p.number()), p.flag());
                let tag = Tag { slot: p.byte().into(), sending: 1 };
                Msg::Io(
                    IoRequest { epoch, tag, number, op, range, seq, answered, flushed, proved },
                    payload.filter(|_| matches!(op, IoOp::Write | IoOp::WriteFua)),
                )
            }
            8 => Msg::Beat {
                epoch,
                answered: Seq(p.number()),
                flushed: Seq(p.number()),
                counters: std::array::from_fn(|_| p.number()),
            },
            9 => Msg::MapPull {
                epoch,
                attempt: p.number(),
                stamp: p.stamp(),
                since: p.number(),
                cursor: RegionNo(p.number()),
            },
            10 => Msg::MapSlice(Box::new(MapSlice {
                epoch,
                attempt: p.number(),
                at: p.number(),
                cursor: RegionNo(p.number()),
                next: p.flag().then(|| RegionNo(p.number())),
                all_missed: p.flag(),
                regions: p.list(Program::misses),
            })),
            11 => Msg::CopyRead { epoch, copy: p.number(), chunk: ChunkNo(p.number()) },
            12 => {
                let (copy, last) = (p.number(), Seq(p.number()));
                let why = [NoCopy::NotNow, NoCopy::Unclean, NoCopy::Unreadable][p.number() as usize % 3];
                Msg::CopyReply { epoch, copy, last, why, buf: payload }
            }
            13 => Msg::Cleared { epoch, region: RegionNo(p.number()), chunks: p.bits() },
            14 if p.flag() => {
                let (tag, chunk) = (Tag { slot: p.byte().into(), sending: 1 }, ChunkNo(p.number()));
                match p.flag() {
                    true => Msg::Check { epoch, tag, chunk },
                    false => {
                        let (number, answered) = (p.number(), Seq(p.number()));
                        Msg::Repair { epoch, tag, number, answered, chunk }
                    }
                }
            }
            14 => Msg::ClearedAck { epoch, region: RegionNo(p.number()), chunks: p.bits() },
            _ if p.flag() => {
                Msg::SuspectPull { promise: p.promise(record.promise), cursor: RegionNo(p.number()) }
            }
            _ => {
                let next =
                    Epoch { promise: record.promise, version: record.adopted.version.saturating_add(1) };
                Msg::Verdicts {
                    epoch: p.epoch(next),
                    part: u32::from(p.byte() % 4),
                    verdicts: p.list(Program::misses),
                }
            }
        }
    }

    fn proposal(&self, p: &mut Program<'_>) -> Proposal {
        let record = self.store.view().record;
        let origin = match p.byte() % 5 {
            0 => Origin::Create { reference: p.member() },
            1 => Origin::Shrink,
            2 => Origin::Join { member: p.member() },
            _ => Origin::Assembly,
        };
        let next = Epoch { promise: record.promise, version: record.adopted.version.saturating_add(1) };
        Proposal {
            epoch: p.epoch(next),
            origin,
            zeroed: p.byte() & 3 == 3,
            set: p.members(),
            members: p.members(),
            blocks: if p.byte() < 200 { 62 } else { p.number() },
            reference: p.flag().then(|| p.member()),
            base: p.epoch(record.adopted),
            peers: std::array::from_fn(|_| p.stamp()),
            resting: if p.flag() { MemberSet::EMPTY } else { p.members() },
            last_in: std::array::from_fn(|_| p.epoch(record.adopted)),
            keeper: (p.byte() & 7 == 7).then(|| p.member()),
            forced: p.byte() & 7 == 7,
            verdicts: p.list(Program::misses),
            parts: u32::from(p.byte() % 8 / 6),
        }
    }
}

// ---- the compute side ----

struct ClientRig {
    client: Client,
    now: u64,
    user: u64,
    next_buf: u32,
    /// Buffers that came with messages.
    bufs: BTreeSet<BufId>,
    asked: Vec<(MemberId, Msg)>,
}

/// Requests, sessions that come and go, ticks, and messages of members, in any order.
pub(crate) fn client_events(data: &[u8]) {
    let config = ClientConfig { requests_max: 8, batch_regions: 2, ..ClientConfig::default() };
    let client = Client::new(geometry(), MemberSet::first(3), 1, config);
    let mut rig =
        ClientRig { client, now: 1, user: 0, next_buf: 0, bufs: BTreeSet::new(), asked: Vec::new() };
    let mut program = Program(data);
    for _ in 0..STEPS_MAX {
        if program.0.is_empty() {
            break;
        }
        rig.step(&mut program);
    }
}

impl ClientRig {
    fn step(&mut self, p: &mut Program<'_>) {
        match p.byte() % 16 {
            0 => {
                self.now += u64::from(p.byte()) * 20 * MS;
                self.event(ClientEvent::Tick);
            }
            1 => {
                let options = StartOptions {
                    takeover: p.flag(),
                    force: if p.byte() < 224 { MemberSet::EMPTY } else { p.members() },
                    accept: (p.byte() >= 224).then(|| p.member()),
                };
                self.event(ClientEvent::Start(options));
            }
            2 => self.event(ClientEvent::Up(MemberId::at(usize::from(p.byte()) % 3))),
            3 => self.event(ClientEvent::Down(MemberId::at(usize::from(p.byte()) % 3))),
            4 if p.byte() < 64 => self.manage(p),
            4 | 5 => self.submit(p),
            6 => {
                let from = p.member();
                let buf = self.buffer();
                if let Some(msg) = p.raw_message(buf) {
                    self.message(from, msg, buf);
                }
            }
            _ => self.answer(p),
        }
    }

    fn buffer(&mut self) -> BufId {
        self.next_buf += 1;
        BufId(self.next_buf)
    }

    /// Membership, size and scrubs.
    fn manage(&mut self, p: &mut Program<'_>) {
        let (member, force, on) = (p.member(), p.flag(), p.flag());
        let command = match p.byte() % 8 {
            0 => Command::Add { member },
            1 => Command::Remove { member, force },
            2 => Command::Maintenance { member, on },
            3 => Command::Replace { member, force },
            4 => Command::Discard { member, force },
            5 => return self.event(ClientEvent::Resize { blocks: 60 + p.number() % 64 }),
            6 => return self.event(ClientEvent::Scrub(ScrubCommand::Stop)),
            _ => {
                let (first, end) = (ChunkNo(p.number()), ChunkNo(p.number()));
                let (believe, pace_ns) = (p.flag().then(|| p.member()), p.number());
                let range = ScrubRange { first, end, believe, pace_ns };
                return self.event(ClientEvent::Scrub(ScrubCommand::Start(range)));
            }
        };
        self.user += 1;
        self.event(ClientEvent::Command { tag: self.user, command });
    }

    fn submit(&mut self, p: &mut Program<'_>) {
        if !self.client.has_room() {
            return;
        }
        let op = match p.byte() % 4 {
            0 => IoOp::Read,
            1 => IoOp::Flush,
            2 => IoOp::Zero { unmap: p.flag() },
            _ => IoOp::Write,
        };
        self.user += 1;
        let buf = (op == IoOp::Write).then_some(BufId(0));
        let range = if op == IoOp::Flush { BlockRange::default() } else { p.range() };
        let deadline = self.now + u64::from(p.byte()) * 100 * MS;
        self.event(ClientEvent::Submit(Request { user: self.user, op, range, buf, deadline }));
    }

    fn message(&mut self, from: MemberId, msg: Msg, buf: BufId) {
        if matches!(msg, Msg::Io(_, Some(_)) | Msg::IoReply(_, Some(_)) | Msg::CopyReply { buf: Some(_), .. })
        {
            self.bufs.insert(buf);
        }
        self.event(ClientEvent::Msg(from, msg));
    }

    fn event(&mut self, event: ClientEvent) {
        let mut out = Vec::new();
        self.client.on(self.now, event, &mut out);
        self.client.check();
        assert!(self.client.under_way() <= 8, "more requests than slots");
        for action in out {
            match action {
                ClientAction::Send(to, msg) => self.asked.push((to, msg)),
                ClientAction::Complete { buf, .. } => {
                    assert!(buf.is_none_or(|buf| self.bufs.remove(&buf)), "{buf:?} was given back twice");
                }
                ClientAction::Commanded { .. } => {}
                ClientAction::Resized(result) => {
                    assert!(result.is_err() || result == Ok(self.client.geometry().blocks()), "{result:?}");
                }
                ClientAction::Release(buf) => {
                    assert!(self.bufs.remove(&buf), "{buf:?} was given back twice");
                }
            }
        }
        assert!(self.bufs.is_empty(), "a buffer stays with the client: {:?}", self.bufs);
        let len = self.asked.len();
        self.asked.drain(..len.saturating_sub(64));
    }

    /// An answer to something the client has asked, right or not.
    fn answer(&mut self, p: &mut Program<'_>) {
        if self.asked.is_empty() {
            return;
        }
        let (to, msg) = self.asked[self.asked.len() - 1 - usize::from(p.byte()) % self.asked.len()].clone();
        let honest = p.byte() < 200;
        let from = if honest { to } else { p.member() };
        let buf = self.buffer();
        let Some(answer) = self.answer_to(p, msg, from, honest, buf) else { return };
        self.message(from, answer, buf);
    }

    fn answer_to(
        &self,
        p: &mut Program<'_>,
        msg: Msg,
        from: MemberId,
        honest: bool,
        buf: BufId,
    ) -> Option<Msg> {
        Some(match msg {
            Msg::Promise { promise, .. } if p.byte() < 32 => {
                Msg::Refused { asked: promise, stands: p.promise(promise), lease_ns: p.number() }
            }
            Msg::Promise { promise, .. } => Msg::Promised(Box::new(report(p, promise, honest))),
            Msg::Query { promise, regions } if honest => {
                let one = |region: &RegionNo| RegionMisses { region: *region, ..p.misses() };
                Msg::QueryReply { promise, misses: regions.iter().map(one).collect() }
            }
            Msg::Query { promise, .. } => {
                Msg::QueryReply { promise: p.promise(promise), misses: p.list(Program::misses) }
            }
            Msg::SuspectPull { promise, cursor } => {
                let next = p.flag().then(|| RegionNo(p.number()));
                Msg::Suspects { promise, cursor, next, suspects: suspects(p, honest) }
            }
            Msg::Verdicts { epoch, part, .. } => Msg::VerdictsAck { epoch: p.epoch(epoch), part },
            Msg::Adopt(proposal) if honest => Msg::Adopted { epoch: proposal.epoch, counter: p.number() },
            Msg::Adopt(proposal) => Msg::AdoptRefused { epoch: p.epoch(proposal.epoch) },
            Msg::Join { epoch, attempt, last, .. } => {
                let stamp = if honest { stamp_of(from) } else { p.stamp() };
                Msg::JoinReady { stamp, epoch: p.epoch(epoch), attempt, last }
            }
            Msg::Io(io, _) => {
                let status = match if honest { 0 } else { p.byte() % 6 } {
                    0 => IoStatus::Done,
                    1 => IoStatus::NotClean,
                    2 => IoStatus::DiskError,
                    3 => IoStatus::WrongEpoch,
                    4 => IoStatus::Fenced,
                    _ => IoStatus::NotServing,
                };
                let payload = if honest { io.op == IoOp::Read } else { p.flag() };
                let reply = IoReply {
                    epoch: p.epoch(io.epoch),
                    tag: if honest { io.tag } else { Tag { slot: p.number() as u32, ..io.tag } },
                    status,
                    missed: if honest { 0 } else { p.number() },
                    dirty_chunks: p.number(),
                    pressure: p.flag(),
                    counter: p.number(),
                };
                Msg::IoReply(reply, payload.then_some(buf))
            }
            Msg::Check { epoch, tag, .. } => Msg::Checked {
                epoch: p.epoch(epoch),
                tag,
                status: if honest { IoStatus::Done } else { IoStatus::DiskError },
                crc: u32::from(p.flag()),
            },
            Msg::Repair { epoch, tag, .. } => {
                let status = if honest { IoStatus::Done } else { IoStatus::NotClean };
                Msg::Repaired { epoch: p.epoch(epoch), tag, status }
            }
            Msg::Beat { epoch, .. } => Msg::BeatReply {
                epoch: p.epoch(epoch),
                serving: honest || p.flag(),
                dirty_chunks: p.number(),
                pressure: p.flag(),
                stuck: !honest && p.flag(),
                counter: p.number(),
            },
            _ => return None,
        })
    }
}

fn stamp_of(member: MemberId) -> Stamp {
    Stamp { incarnation: Incarnation(member.index() as u64 + 1), counter: 1 }
}

/// What a store could say of itself, or, if it is not honest, could not.
fn report(p: &mut Program<'_>, promise: Promise, honest: bool) -> Report {
    let mut report = Report { promise, incarnation: Incarnation(1), ..Report::default() };
    let record = &mut report.record;
    (record.promise, record.members, record.counter) = (promise, MemberSet::first(3), 1);
    (report.capacity, report.dirty_chunks) = (p.number(), u64::from(p.flag()));
    record.blocks = if p.byte() < 240 { 62 } else { p.number() };
    if p.byte() >= 64 {
        record.adopted = Epoch { promise: Promise { generation: 0, nonce: 1 }, version: p.number() };
        record.set = MemberSet(p.byte() & 7);
    }
    if !honest {
        record.promise = p.promise(promise);
        record.adopted = p.epoch(record.adopted);
        (record.set, record.members, record.counter) = (p.members(), p.members(), p.number());
        record.origin = Origin::Join { member: p.member() };
        record.peers = std::array::from_fn(|_| p.stamp());
        report.continuity = if p.flag() { Continuity::Unbroken } else { Continuity::SameBoot };
    }
    report.suspects = suspects(p, honest);
    report.next = (p.byte() < 64).then(|| RegionNo(p.number()));
    report
}

fn suspects(p: &mut Program<'_>, honest: bool) -> Vec<SuspectRegion> {
    let mut found = p.list(|p| SuspectRegion {
        region: RegionNo(if honest { p.number() % 4 } else { p.number() }),
        written: p.bits(),
        proved: p.bits(),
    });
    if honest {
        found.sort_by_key(|suspect| suspect.region);
        found.dedup_by_key(|suspect| suspect.region);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random programs, always the same.
    #[test]
    fn engines_stand_any_messages_in_any_order() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..3_000 {
            let program: Vec<u8> = (0..rng.usize(0..3_000)).map(|_| rng.u8(..)).collect();
            store_events(&program);
            client_events(&program);
        }
    }
}
