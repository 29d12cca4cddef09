//! One leg of one pool on a storage node: admission, state, timers.
//!
//! ```text
//!            opened                    promise (drain, flush, persist)
//!   closed ──────────▶ Out(Opened) ────────────────▶ Out(Promised) ◀───────────┐
//!                          ▲                              │ adoption           │ promise
//!            disk or flush │ error                        ▼ (drain, flush,     │
//!                     Out(DiskError) ◀─────────────── Serving   persist) ──────┘
//!   any ── metadata write failed ──▶ Latched (until opened again)
//! ```

mod copy;
mod fence;
mod intent;
mod io;
mod join;
mod meta;
mod pace;
mod repair;
mod source;

pub use meta::{View, format, image, read_view};
pub use pace::Resync;

use crate::event::{DiskOp, Now, OpenError, Party, StoreAction, StoreConfig, StoreEvent};
use crate::mutant::Mutant;
use meta::Meta;
use rmr_proto::disk::Superblock;
use rmr_proto::{Continuity, Geometry, IoStatus, MEMBERS_MAX, MemberId, Msg, Promise, RegionNo, Seq, Stamp};
use std::collections::BTreeMap;

/// Why a store does not serve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OutCause {
    /// Opened; no newer epoch has named it yet.
    Opened,
    /// Promised to a client that has not assembled yet, or left out of its set.
    Promised,
    /// Its disk failed a write or a flush.
    DiskError,
}

/// May the store serve?
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Service {
    /// Not in the set.
    Out(OutCause),
    /// In the set of the adopted epoch.
    Serving,
    /// A metadata write failed: nothing until it is opened again.
    Latched,
}

/// One leg, storage side.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    superblock: Superblock,
    config: StoreConfig,
    boot: u64,
    service: Service,
    continuity: Continuity,
    /// The promise was given since the store was opened.
    promised_here: bool,
    client: Option<Party>,
    lease_until: Now,
    meta: Meta,
    fence: Option<fence::Fence>,
    ahead: fence::Ahead,
    entries: BTreeMap<RegionNo, intent::Entry>,
    uses: intent::Uses,
    answered: Seq,
    flushed: Seq,
    requests: io::Requests,
    copies: copy::Copies,
    sources: source::Sources,
    joining: Option<join::Joining>,
    /// Whom the last word was given to, in which attempt, and how many chunks had been called clean by then.
    last_word: Option<(MemberId, u64, u64)>,
    /// Until then nothing is called clean here: a joiner has asked for the last word, and would be refused.
    quiet_until: Now,
    changes: BTreeMap<RegionNo, u64>,
    change: u64,
    /// Writes, copies' writes and flushes that the disk has.
    on_disk: u32,
    last_tick: Now,
}

impl Store {
    /// Opens a store: `area` is its metadata area as read from disk, `boot` names this boot of the host (never 0), or
    /// anything new after [`Store::lost_cache_unnoted`].
    ///
    /// The driver must have made sure that no IO of an earlier opener is still under way.
    pub fn open(area: &[u8], config: StoreConfig, boot: u64) -> Result<Self, OpenError> {
        let need = 2 * rmr_proto::disk::PAGE as u64;
        if (area.len() as u64) < need {
            return Err(OpenError::Area { got: area.len() as u64, need });
        }
        let mut superblock = Superblock::decode_either(area, &area[rmr_proto::disk::PAGE..])?;
        let read = meta::read(&superblock.room(), &config, area)?;
        let record = read.view.record;
        // From here on the size is that of the epoch adopted; on disk the superblock stays as it was made.
        superblock.geometry = superblock.geometry.with_blocks(record.blocks)?;
        let entries: BTreeMap<_, _> = read
            .view
            .intents
            .iter()
            .map(|r| (*r, intent::Entry::found(superblock.geometry.all_of(*r))))
            .collect();
        let continuity = match record.boot {
            b if b == boot => Continuity::SameBoot,
            _ => Continuity::Broken,
        };
        let serve = Mutant::ServeAfterOpen.on() && !record.set.is_empty();
        Ok(Self {
            superblock,
            config,
            boot,
            service: if serve { Service::Serving } else { Service::Out(OutCause::Opened) },
            continuity,
            promised_here: serve,
            client: None,
            lease_until: 0,
            meta: Meta::new(superblock.room(), superblock.member, &config, read),
            fence: None,
            ahead: fence::Ahead::default(),
            uses: intent::Uses::of(&entries),
            entries,
            answered: Seq(0),
            flushed: Seq(0),
            requests: io::Requests::default(),
            copies: copy::Copies::new(config.resync),
            sources: source::Sources::default(),
            joining: None,
            last_word: None,
            quiet_until: 0,
            changes: BTreeMap::new(),
            // Not 0: a joiner that has seen no change yet asks for what came since, and not for everything again.
            change: u64::from(!Mutant::DeltaOfAll.on()),
            on_disk: 0,
            last_tick: 0,
        })
    }

    /// Takes one event in and appends what is to be done.
    pub fn on(&mut self, now: Now, event: StoreEvent, out: &mut Vec<StoreAction>) {
        match event {
            StoreEvent::Msg(from, msg) => self.on_msg(now, from, msg, out),
            StoreEvent::Disk { op, ok, buf } => self.on_disk_done(now, op, ok, buf, out),
            StoreEvent::Checksum { op: DiskOp::Check(slot), crc } => self.on_checksum(now, slot, crc, out),
            StoreEvent::Checksum { .. } => {}
            StoreEvent::Tick => self.on_tick(now, out),
        }
        if self.meta.failed() && self.service != Service::Latched {
            self.set_service(Service::Latched);
            self.abandon_all(out);
        }
    }

    /// When [`StoreEvent::Tick`] is wanted next.
    pub fn next_timeout(&self) -> Now {
        self.last_tick + self.config.tick_ns
    }

    fn on_msg(&mut self, now: Now, from: Party, msg: Msg, out: &mut Vec<StoreAction>) {
        if self.service == Service::Latched {
            release(msg, out);
            return;
        }
        match (from, msg) {
            (Party::Client(_), Msg::Io(io, buf)) => self.on_request(now, from, io, buf, out),
            (Party::Client(_), Msg::Beat { epoch, answered, flushed, counters }) => {
                self.on_beat(now, from, epoch, (answered, flushed), &counters, out);
            }
            (Party::Client(_), Msg::Promise { promise, takeover }) => {
                self.on_promise(now, from, promise, takeover, out);
            }
            (Party::Client(_), Msg::Query { promise, regions }) => {
                self.on_query(from, promise, &regions, out)
            }
            (Party::Client(_), Msg::SuspectPull { promise, cursor }) => {
                self.on_suspect_pull(from, promise, cursor, out);
            }
            (Party::Client(_), Msg::Verdicts { epoch, part, verdicts }) => {
                self.on_verdicts(from, epoch, part, verdicts, out);
            }
            (Party::Client(_), Msg::Adopt(proposal)) => self.on_adopt(now, from, proposal, out),
            (Party::Client(_), Msg::Join { epoch, set, attempt, last, anew, blocks })
                if blocks <= self.superblock.capacity =>
            {
                self.on_join(now, from, (epoch, set, attempt, last, anew), out);
            }
            (Party::Member(_), Msg::MapPull { epoch, attempt, stamp, since, cursor }) => {
                self.on_pull(now, from, (epoch, attempt), stamp, (since, cursor), out);
            }
            (Party::Member(peer), Msg::MapSlice(slice)) => self.on_slice(now, peer, &slice, out),
            (Party::Member(peer), Msg::CopyRead { epoch, copy, chunk }) => {
                self.on_copy_read(peer, epoch, copy, chunk, out);
            }
            (Party::Member(peer), Msg::CopyReply { epoch, copy, last, why, buf }) => {
                let answer = buf.ok_or(why);
                self.on_copy_reply(now, peer, (epoch, copy, last), answer, out);
            }
            (Party::Client(_), Msg::Check { epoch, tag, chunk }) => {
                self.on_check(from, (epoch, tag), chunk, out)
            }
            (Party::Client(_), Msg::Repair { epoch, tag, number, answered, chunk }) => {
                self.on_repair(now, from, (epoch, tag, number), answered, chunk, out);
            }
            (Party::Member(peer), Msg::Cleared { epoch, region, chunks }) => {
                self.on_cleared(peer, epoch, region, chunks, out);
            }
            (Party::Member(peer), Msg::ClearedAck { epoch, region, chunks }) => {
                self.on_cleared_ack(now, peer, epoch, region, chunks, out);
            }
            (_, other) => release(other, out),
        }
        self.meta.pump(out);
    }

    fn on_disk_done(
        &mut self,
        now: Now,
        op: DiskOp,
        ok: bool,
        buf: Option<rmr_proto::BufId>,
        out: &mut Vec<StoreAction>,
    ) {
        match op {
            DiskOp::Meta => {
                if self.meta.on_written(ok, out) {
                    self.on_commit(now, out);
                }
            }
            DiskOp::Fence => self.on_fence_flushed(ok, out),
            DiskOp::Request(slot) => self.on_request_done(now, slot, ok, buf, out),
            DiskOp::Copy(id) => self.on_copy_written(now, id, ok, out),
            DiskOp::CopyFlush(id) => {
                self.on_copy_flushed(now, id, ok, out);
                self.step_copies(now, out);
            }
            DiskOp::Source(slot) => self.on_source_read(now, slot, ok, buf, out),
            DiskOp::Check(_) => {}
        }
        self.step_fence(out);
        self.meta.pump(out);
    }

    fn on_commit(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        self.fence_committed(now, out);
        self.wake_intents(now, out);
        self.send_acks(out);
        self.copies_committed(now, out);
        self.join_committed(now, out);
        self.step_copies(now, out);
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<StoreAction>) {
        self.last_tick = now;
        if self.service == Service::Latched {
            return;
        }
        self.copies.pace.tick(now);
        self.clear_entries(now, usize::MAX);
        self.wake_roomless(now, out);
        self.step_copies(now, out);
        self.step_join(now, out);
        self.meta.pump(out);
    }

    fn on_beat(
        &mut self,
        now: Now,
        from: Party,
        epoch: rmr_proto::Epoch,
        horizons: (Seq, Seq),
        counters: &[u64; MEMBERS_MAX],
        out: &mut Vec<StoreAction>,
    ) {
        let serving = self.accepts(epoch).is_ok();
        if serving {
            self.lease_until = now + self.config.lease_ns;
            self.take_horizons(horizons.0, horizons.1);
            for (index, counter) in counters.iter().enumerate() {
                let peer = &mut self.meta.ram.record.peers[index];
                if *counter > peer.counter {
                    peer.counter = *counter;
                    self.meta.note_peers();
                }
            }
            self.step_copies(now, out);
        }
        let (dirty_chunks, pressure) = (self.dirty_chunks(), self.pressure());
        let counter = self.meta.durable.record.counter;
        let stuck = self.is_stuck();
        let reply = Msg::BeatReply { epoch, serving, dirty_chunks, pressure, stuck, counter };
        out.push(StoreAction::Send(from, reply));
    }

    /// Horizons of the current epoch; they never go back.
    fn take_horizons(&mut self, answered: Seq, flushed: Seq) {
        self.answered = self.answered.max(answered);
        if flushed > self.flushed {
            self.flushed = flushed;
            self.flushed_further();
        }
    }

    /// May a request of `epoch` execute? Exactly the adopted epoch, under exactly its promise, serving, no fence.
    fn accepts(&self, epoch: rmr_proto::Epoch) -> Result<(), IoStatus> {
        if Mutant::AnyEpoch.on() && self.service == Service::Serving {
            return Ok(());
        }
        let record = &self.meta.ram.record;
        let fenced_by = self.fence.as_ref().and_then(fence::Fence::promise).unwrap_or(record.promise);
        if fenced_by.max(record.promise) > epoch.promise {
            return Err(IoStatus::Fenced);
        }
        if self.service != Service::Serving {
            return Err(IoStatus::NotServing);
        }
        if self.fence.is_some() || record.adopted != epoch {
            return Err(IoStatus::WrongEpoch);
        }
        Ok(())
    }

    /// The one place that changes [`Store::service`].
    fn set_service(&mut self, to: Service) {
        use Service::{Latched, Out, Serving};
        let legal = match (self.service, to) {
            (Latched, _) => false,
            (_, Latched) | (Out(_), Serving) | (Serving, Out(_) | Serving) => true,
            (Out(_), Out(cause)) => cause != OutCause::Opened,
        };
        assert!(legal, "store {}: service {:?} cannot become {to:?}", self.member(), self.service);
        self.meta.counts = to == Serving;
        self.service = to;
    }

    /// The disk failed: out of the set until a newer epoch names this store.
    fn fail_disk(&mut self, cache_lost: bool) {
        if self.service == Service::Serving {
            self.set_service(Service::Out(OutCause::DiskError));
        }
        if cache_lost {
            self.continuity = Continuity::Broken;
            self.meta.ram.record.boot = 0;
            self.meta.touch_record();
        }
    }

    /// A flush failed, and that is not durable: whoever opens the store again must name another `boot`, because what it
    /// held of unflushed writes may be gone.
    pub fn lost_cache_unnoted(&self) -> bool {
        self.meta.ram.record.boot == 0 && self.meta.durable.record.boot != 0
    }

    /// Which member this is.
    pub fn member(&self) -> MemberId {
        self.superblock.member
    }

    /// Sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.superblock.geometry
    }

    /// The disk as peers know it: the counter stands still while the store is outside the set.
    fn stamp(&self) -> Stamp {
        Stamp { incarnation: self.superblock.incarnation, counter: self.meta.durable.record.counter }
    }

    /// May it serve, and if not why.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Wanted metadata, for status and checkers.
    pub fn view(&self) -> &View {
        &self.meta.ram
    }

    /// Durable metadata, for status and checkers.
    pub fn durable(&self) -> &View {
        &self.meta.durable
    }

    /// Is a promise or adoption being carried out?
    pub fn is_fencing(&self) -> bool {
        self.fence.is_some()
    }

    /// Chunks of the device not clean here.
    pub fn dirty_chunks(&self) -> u64 {
        self.meta.dirty_chunks()
    }

    /// Requests that were taken and are not answered. One that was seen before is not taken, and never answered.
    pub fn requests(&self) -> usize {
        self.requests.used()
    }

    /// Live intent entries.
    pub fn live_entries(&self) -> usize {
        self.entries.len()
    }

    /// Chunks that are being copied to this store.
    pub fn copying(&self) -> usize {
        self.copies.under_way()
    }

    /// The promise in force.
    pub fn promise(&self) -> Promise {
        self.meta.ram.record.promise
    }

    /// Notes that what a joiner would have to know about `region` changed.
    fn changed(&mut self, region: RegionNo) {
        self.change += 1;
        self.changes.insert(region, self.change);
    }

    /// Asserts what must hold whatever comes in.
    pub fn check(&self) {
        let record = &self.meta.ram.record;
        assert!(
            record.adopted.promise <= record.promise,
            "adopted an epoch newer than any promise: {record:?}"
        );
        if self.service == Service::Serving && self.fence.is_none() && !Mutant::ServeAfterOpen.on() {
            assert!(record.set.has(self.member()), "serving outside the set: {record:?}");
            assert_eq!(
                self.meta.durable.record.adopted, record.adopted,
                "serving an epoch that is not durable"
            );
        }
        for (region, misses) in &self.meta.ram.misses {
            // Marks may be durable before the epoch that makes the device so large.
            let all = self.superblock.room().all_of(*region);
            let beyond = |bits: rmr_proto::ChunkBits| !bits.minus(all).is_empty();
            assert!(!misses.missed.iter().any(|m| beyond(*m)), "misses beyond the device in {region:?}");
            assert!(misses.lost.minus(misses.suspect).is_empty(), "lost and not suspect in {region:?}");
        }
        for region in self.entries.keys() {
            assert!(self.meta.ram.intents.contains(region), "entry of {region:?} is not in the metadata");
        }
        assert_eq!(self.uses.len(), self.entries.len(), "every entry has its place in the order of use");
    }
}

/// Gives back the buffer of a message that is not used.
fn release(msg: Msg, out: &mut Vec<StoreAction>) {
    if let Msg::Io(_, Some(buf)) | Msg::IoReply(_, Some(buf)) | Msg::CopyReply { buf: Some(buf), .. } = msg {
        out.push(StoreAction::Release(buf));
    }
}
