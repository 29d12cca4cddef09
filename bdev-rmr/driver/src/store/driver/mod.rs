//! One store: what comes in (`incoming`) becomes events of its engine; what the engine wants is done here.

mod incoming;

use super::asks::{AskKind, AskNo, Asks};
use super::buffers::{Buffers, Memory};
use super::clients::Clients;
use super::disk::{Disk, Ended, Home, What};
use super::image::{OpenOptions, OpenedStore};
use super::links::{Links, Peers, Sender};
use super::mail::{Arrived, Mail};
use super::node::StoreKey;
use super::status::{EngineStatus, Phase, StoreStatus};
use crc_fast::{CrcAlgorithm, Digest};
use rmr_engine::store::{Service, Store};
use rmr_engine::{DiskOp, Party, ResyncLimits, StoreAction, StoreEvent};
use rmr_proto::disk::Superblock;
use rmr_proto::envelope::{Envelope, Kind, Status};
use rmr_proto::{BufId, IoReply, MemberId, Msg, wire};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tgt_bdev::{Bufs, Cx, Desc, Event, Ticks, Work};
use tgt_rtrs::frame::USER_MAX;

/// The bdev, while the store has it.
struct Held {
    disk: Disk,
    /// Dropped after the channel.
    _desc: Arc<Desc>,
}

/// One store.
pub(super) struct StoreDriver {
    superblock: Superblock,
    sender: Sender,
    bdev: String,
    phase: Phase,
    why: Option<String>,
    since: SystemTime,
    engine: Option<Store>,
    options: OpenOptions,
    held: Option<Held>,
    /// Whoever opens the store again in this process names another boot.
    cache_lost: bool,
    asks: Asks,
    buffers: Buffers,
    clients: Clients,
    links: Links,
    out: Vec<StoreAction>,
    /// The read that the engine is being told of.
    current: Option<AskNo>,
    /// The header of the answer being given.
    header: Vec<u8>,
}

impl StoreDriver {
    /// Opens its channel on this reactor.
    pub(super) fn new(cx: &mut Cx, opened: OpenedStore) -> Result<Self, tgt_bdev::OpenError> {
        let OpenedStore { desc, store, superblock, data, options } = opened;
        let channel = desc.open_channel(cx)?;
        let bdev = desc.bdev().name().to_owned();
        let disk = Disk::new(channel, data, superblock.geometry.block_shift());
        let Superblock { pool, member, incarnation, .. } = superblock;
        let sender = Sender { pool, member, incarnation: incarnation.0 };
        Ok(Self {
            superblock,
            sender,
            bdev,
            phase: Phase::Open,
            why: None,
            since: SystemTime::now(),
            engine: Some(store),
            options,
            held: Some(Held { disk, _desc: desc }),
            cache_lost: false,
            asks: Asks::default(),
            buffers: Buffers::default(),
            clients: Clients::default(),
            links: Links::new(sender),
            out: Vec::new(),
            current: None,
            header: Vec::new(),
        })
    }

    pub(super) fn key(&self) -> StoreKey {
        StoreKey { pool: self.superblock.pool, member: self.superblock.member }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// A flush failed, and that is not durable.
    pub(super) fn cache_lost(&self) -> bool {
        self.cache_lost
    }

    pub(super) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    pub(super) fn set_limits(&mut self, limits: ResyncLimits) {
        self.options.limits = limits;
        if let Some(engine) = &mut self.engine {
            engine.set_resync_limits(limits);
        }
    }

    // The turn.

    /// What the disk has done, what time it is, what links have to say.
    pub(super) fn poll(&mut self, cx: &mut Cx, mail: &Mail, peers: &dyn Peers) -> Work {
        let mut work = self.poll_disk(cx, mail);
        let now = cx.now().as_ns();
        if self.phase == Phase::Open
            && let Some(engine) = &self.engine
        {
            if now >= engine.next_timeout() {
                self.feed(cx, mail, StoreEvent::Tick);
                work = work.max(Work::Busy);
            }
            if self.links.poll(cx, &mail.hub, peers) {
                work = work.max(Work::Busy);
            }
            let due = self.engine.as_ref().map_or(u64::MAX, Store::next_timeout);
            cx.wake_at(Ticks::from_duration(Duration::from_nanos(due)));
        }
        self.finish_closing();
        work
    }

    fn poll_disk(&mut self, cx: &mut Cx, mail: &Mail) -> Work {
        let Some(held) = &mut self.held else { return Work::Idle };
        let mut work = held.disk.poll(cx);
        while let Some(event) = self.held.as_mut().and_then(|held| held.disk.take_event()) {
            work = Work::Busy;
            match event {
                Event::Removed => {
                    self.close(cx, mail, Phase::Closing, &format!("bdev {:?} was removed", self.bdev));
                }
                Event::Resized(_) | Event::Late(_) => {}
            }
        }
        while let Some(ended) = self.held.as_mut().and_then(|held| held.disk.next()) {
            work = Work::Busy;
            self.on_ended(cx, mail, ended);
        }
        work
    }

    fn on_ended(&mut self, cx: &mut Cx, mail: &Mail, ended: Ended) {
        let Ended { what, home, bufs, status, flush } = ended;
        let ok = status.is_ok();
        if !ok {
            self.note_failure(what.op(), status, flush);
        }
        let crc = matches!(what, What::Checksum(_)).then(|| ok.then(|| crc_of(&bufs)));
        let memory = self.home_again(cx, mail, home, bufs, matches!(what, What::Read(_)));
        if self.engine.is_none() {
            return;
        }
        let event = match (what, crc) {
            (What::Checksum(op), crc) => StoreEvent::Checksum { op, crc: crc.flatten() },
            (What::Read(op), _) => {
                let buf = memory.filter(|_| ok).map(|memory| self.buffers.put(memory));
                StoreEvent::Disk { op, ok, buf }
            }
            (What::Done(op), _) => StoreEvent::Disk { op, ok, buf: None },
        };
        self.feed(cx, mail, event);
    }

    /// Memory comes back from the disk. What the engine does not want is done with: a letter whose data is written is
    /// answered, and so is what a closing store held.
    fn home_again(
        &mut self,
        cx: &mut Cx,
        mail: &Mail,
        home: Home,
        bufs: Bufs,
        wanted: bool,
    ) -> Option<Memory> {
        let Home::Ask(ask) = home else { return wanted.then_some(Memory::Own(bufs)) };
        self.asks.give_back(ask, bufs);
        let kind = self.asks.kind(ask)?;
        if kind == AskKind::Letter || self.engine.is_none() {
            let (kind, status) = match kind {
                AskKind::Letter => (Kind::Letter, Status::Done),
                AskKind::Io { .. } => (Kind::Io, Status::NoPool),
            };
            let arrived = self.asks.take(ask)?;
            self.answer_status(cx, mail, kind, arrived, status);
            return None;
        }
        wanted.then_some(Memory::Ask(ask))
    }

    fn note_failure(&mut self, op: DiskOp, status: tgt_bdev::IoStatus, flush: bool) {
        tracing::warn!(bdev = self.bdev, ?op, status = status.text(), "a store's disk failed");
        if op == DiskOp::Meta && self.phase == Phase::Open {
            self.why = Some(format!("bdev {:?} failed to write metadata: {}", self.bdev, status.text()));
        }
        // With an engine it is the engine's to remember.
        self.cache_lost |= flush && self.engine.is_none();
    }

    // Out of the engine.

    fn feed(&mut self, cx: &mut Cx, mail: &Mail, event: StoreEvent) {
        let Some(engine) = &mut self.engine else { return };
        let mut out = std::mem::take(&mut self.out);
        engine.on(cx.now().as_ns(), event, &mut out);
        let latched = engine.service() == Service::Latched;
        for action in out.drain(..) {
            self.act(cx, mail, action);
        }
        self.out = out;
        if latched && self.phase == Phase::Open {
            let why = self.why.take().unwrap_or_else(|| "its disk took no metadata".to_owned());
            self.close(cx, mail, Phase::Latched, &why);
        }
    }

    fn act(&mut self, cx: &mut Cx, mail: &Mail, action: StoreAction) {
        match action {
            StoreAction::Send(Party::Client(client), Msg::IoReply(reply, buf)) => {
                self.reply(cx, mail, client, reply, buf);
            }
            StoreAction::Send(Party::Client(client), msg) => {
                let mut letter = self.clients.blank();
                wire::encode_to(self.superblock.pool, &msg, &mut letter);
                self.clients.post(client, letter);
                self.deliver(cx, mail, client);
            }
            StoreAction::Send(Party::Member(member), msg) => self.send(cx, mail, member, &msg),
            StoreAction::Release(buf) => {
                self.release(cx, mail, buf);
            }
            action => self.act_on_disk(cx, action),
        }
    }

    fn act_on_disk(&mut self, cx: &mut Cx, action: StoreAction) {
        let Some(Held { disk, .. }) = &mut self.held else { return };
        match action {
            StoreAction::Write { op, range, buf, fua, .. } => {
                let (bufs, home) = match buf.and_then(|buf| self.buffers.take(buf)) {
                    Some(Memory::Ask(ask)) => (self.asks.lend(ask), Home::Ask(ask)),
                    Some(Memory::Own(bufs)) => (bufs, Home::Own),
                    None => (Bufs::none(), Home::Own),
                };
                disk.write(cx, op, range, (bufs, home), fua || self.options.write_through);
            }
            StoreAction::Read { op: op @ DiskOp::Request(_), range } if self.current.is_some() => {
                let into = self.current.map(|ask| (self.asks.lend(ask), ask));
                disk.read(cx, What::Read(op), range, into);
            }
            StoreAction::Read { op, range } => disk.read(cx, What::Read(op), range, None),
            StoreAction::Checksum { op, range } => disk.read(cx, What::Checksum(op), range, None),
            StoreAction::Flush { op } => disk.flush(cx, op),
            StoreAction::MetaWrite { offset, bytes } => disk.meta(cx, offset, &bytes),
            StoreAction::Send(..) | StoreAction::Release(_) => unreachable!("not for the disk"),
        }
    }

    /// The engine's answer to a read or write.
    fn reply(&mut self, cx: &mut Cx, mail: &Mail, client: u32, reply: IoReply, buf: Option<BufId>) {
        let memory = buf.and_then(|buf| self.buffers.take(buf));
        let Some(mut arrived) = self.asks.of(client, reply.tag).and_then(|ask| self.asks.take(ask)) else {
            tracing::error!(?reply, "an answer to a request that is not here");
            return;
        };
        let bytes = match memory {
            None => 0,
            Some(Memory::Ask(_)) => arrived.incoming.bufs.len(),
            // Read before there was a request to read it into: that memory is answered from.
            Some(Memory::Own(read)) => {
                arrived.incoming.bufs = read;
                arrived.incoming.bufs.len()
            }
        };
        self.header.clear();
        self.sender.envelope(None, Kind::Io, 0).encode_to(&mut self.header);
        wire::encode_to(self.superblock.pool, &Msg::IoReply(reply, buf), &mut self.header);
        Envelope::close(&mut self.header);
        self.answer(cx, mail, arrived, bytes);
    }

    fn send(&mut self, cx: &mut Cx, mail: &Mail, to: MemberId, msg: &Msg) {
        let mut header = self.links.blank();
        self.sender.envelope(Some(to), Kind::Letter, 0).encode_to(&mut header);
        wire::encode_to(self.superblock.pool, msg, &mut header);
        Envelope::close(&mut header);
        let letter = &header[Envelope::SIZE..];
        let payload = match msg {
            Msg::CopyReply { buf: Some(buf), .. } => self.buffers.take(*buf),
            _ => None,
        };
        let bufs = match payload {
            Some(Memory::Own(bufs)) => bufs,
            // Nobody passes a request's memory on.
            Some(memory @ Memory::Ask(_)) => {
                let buf = self.buffers.put(memory);
                return self.release(cx, mail, buf);
            }
            None if header.len() > usize::from(USER_MAX) => {
                match super::disk::memory(cx, letter.len() as u32) {
                    Ok(mut bufs) => {
                        bufs.copy_from_slice(0, letter);
                        header.truncate(Envelope::SIZE);
                        bufs
                    }
                    // As if it were lost.
                    Err(error) => return tracing::warn!(%error, "no memory for a letter to a member"),
                }
            }
            None => Bufs::none(),
        };
        self.links.post(to, header, bufs);
    }

    /// The engine does not want a buffer.
    fn release(&mut self, cx: &mut Cx, mail: &Mail, buf: BufId) {
        let Some(Memory::Ask(ask)) = self.buffers.take(buf) else { return };
        // That of a read or write is answered by the engine.
        if self.asks.kind(ask) == Some(AskKind::Letter)
            && let Some(arrived) = self.asks.take(ask)
        {
            self.answer_status(cx, mail, Kind::Letter, arrived, Status::Done);
        }
    }

    /// Gives a client its letters, as far as it has asked for them.
    fn deliver(&mut self, cx: &mut Cx, mail: &Mail, client: u32) {
        let in_header = usize::from(USER_MAX) - Envelope::SIZE;
        let room = |arrived: &Arrived| in_header.max(arrived.incoming.execute.bytes as usize);
        let Some((mut collect, letter)) = self.clients.deliver(client, room) else { return };
        self.header.clear();
        let letter = match letter {
            Ok(letter) => letter,
            Err(length) => {
                let envelope = self.sender.envelope(None, Kind::Collect, length);
                Envelope { status: Status::Larger, ..envelope }.encode_to(&mut self.header);
                return self.answer(cx, mail, collect, 0);
            }
        };
        self.sender.envelope(None, Kind::Collect, letter.len()).encode_to(&mut self.header);
        let mut bytes = 0;
        if letter.len() <= in_header {
            self.header.extend_from_slice(&letter);
        } else {
            collect.incoming.bufs.copy_from_slice(0, &letter);
            bytes = letter.len() as u32;
        }
        self.clients.recycle(letter);
        self.answer(cx, mail, collect, bytes);
    }

    /// Answers with no more than a status.
    fn answer_status(&mut self, cx: &mut Cx, mail: &Mail, kind: Kind, arrived: Arrived, status: Status) {
        self.header.clear();
        Envelope { status, ..self.sender.envelope(None, kind, 0) }.encode_to(&mut self.header);
        self.answer(cx, mail, arrived, 0);
    }

    fn answer(&mut self, cx: &mut Cx, mail: &Mail, arrived: Arrived, bytes: u32) {
        mail.answer(cx, arrived, bytes, &self.header);
    }

    // The end.

    /// Ends the engine's work: everything that does not wait for the disk is answered now.
    pub(super) fn close(&mut self, cx: &mut Cx, mail: &Mail, phase: Phase, why: &str) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        let status = if phase == Phase::Latched { Status::Latched } else { Status::NoPool };
        tracing::warn!(bdev = self.bdev, member = %self.sender.member, why, "a store is {}", phase.name());
        (self.phase, self.why, self.since) = (phase, Some(why.to_owned()), SystemTime::now());
        self.cache_lost |= self.engine.as_ref().is_some_and(Store::lost_cache_unnoted);
        if phase != Phase::Latched {
            // What the disk still has ends without it. A latched one goes on until it has answered for that.
            self.engine = None;
            while let Some(arrived) = self.asks.take_any() {
                self.answer_status(cx, mail, Kind::Io, arrived, status);
            }
            self.buffers = Buffers::default();
        }
        while let Some(collect) = self.clients.take_any() {
            self.answer_status(cx, mail, Kind::Collect, collect, status);
        }
        self.links.end(cx, &mail.hub);
        self.finish_closing();
    }

    /// Lets go of the bdev when the disk has nothing any more.
    fn finish_closing(&mut self) {
        let idle = self.held.as_ref().is_none_or(|held| held.disk.under_way() == 0);
        if self.phase == Phase::Closing && idle {
            (self.held, self.phase) = (None, Phase::Closed);
        }
    }

    pub(super) fn status(&self) -> StoreStatus {
        let (clients, unread) = self.clients.figures();
        let engine = self.engine.as_ref().map(|engine| EngineStatus {
            service: engine.service(),
            fencing: engine.is_fencing(),
            record: engine.durable().record,
            dirty_chunks: engine.dirty_chunks(),
            entries: engine.live_entries(),
            copying: engine.copying(),
            resync: engine.resync(),
            limits: self.options.limits,
        });
        StoreStatus {
            superblock: self.superblock,
            bdev: self.bdev.clone(),
            phase: self.phase,
            why: self.why.clone(),
            since: self.since,
            engine,
            requests: self.asks.len(),
            on_disk: self.held.as_ref().map_or(0, |held| held.disk.under_way()),
            buffers: self.buffers.in_use(),
            clients,
            letters_dropped: unread + self.links.dropped(),
            links: self.links.status(),
        }
    }
}

fn crc_of(bufs: &Bufs) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    bufs.by_window(bufs.len(), |bytes| digest.update(bytes));
    digest.finalize() as u32
}
