//! A queue pair on a stream: the commands of one connection, their memory, bytes in and out. Its reactor only.
//!
//! What has ended, and what became of the connection, is kept for its owner, who looks after each event.

use crate::codec::{self, Agreed, Fault, crc_of};
use crate::engine::{Act, Queue, Want};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tgt_bdev::{Bufs, Cx, Io, IoStatus};
use tgt_env::bufs::Lease;
use tgt_nvme::pdu::{DIGEST, IcResp};
use tgt_nvme::zerocopy::IntoBytes;
use tgt_nvme::{Command, Sgl};
use tgt_sock::{Cause, ConnectTo, Event, Group, Payload, Received, Refused, SockError, Stream, StreamId};

/// How long a controller that broke the protocol may take to hear it.
const TERMINATE_WITHIN: Duration = Duration::from_millis(200);

/// Whose a command is.
#[derive(Debug)]
pub(crate) enum Job {
    /// An IO without its memory, and where it goes back to.
    Io(Io, Rc<crate::channel::Sink>),
    /// A queue's connect.
    Connect,
    /// A step of an admin queue.
    Step,
    /// A keep-alive.
    Beat,
    /// A request to be told of events.
    Event,
}

/// Data that is copied into a capsule.
#[derive(Debug)]
pub(crate) enum Inline {
    None,
    Range([u8; 16]),
    Page(Box<[u8]>),
}

/// A command to be sent.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) job: Job,
    pub(crate) command: Command,
    /// Its data: read into it, or written from it.
    pub(crate) bufs: Bufs,
    pub(crate) writes: bool,
    pub(crate) inline: Inline,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) job: Job,
    pub(crate) status: IoStatus,
    pub(crate) answer: u64,
    pub(crate) bufs: Bufs,
}

/// What became of the connection.
#[derive(Debug)]
pub(crate) enum Told {
    /// It is open: commands may be sent.
    Open,
    /// It is over; all memory is back. `silent`: the controller may not know.
    Closed { why: String, silent: bool },
}

#[derive(Debug)]
enum Memory {
    Here(Bufs),
    Lent(Lease),
    Filling,
}

#[derive(Debug)]
struct Kept {
    ask: Ask,
    memory: Memory,
    order: u64,
    /// How it ended; its memory is still away.
    ended: Option<(IoStatus, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Off,
    /// Until the ICResp.
    Opening,
    Open,
    /// Whatever comes is thrown away.
    Closing,
}

/// Data that comes in.
#[derive(Clone, Copy, Debug)]
struct Fill {
    slot: u16,
    offset: u32,
    length: u32,
}

pub(crate) struct Qp {
    queue: Queue,
    phase: Phase,
    stream: Option<StreamId>,
    digests: (bool, bool),
    /// Most data in a capsule.
    capsule: u32,
    kept: Box<[Option<Kept>]>,
    order: u64,
    /// Data whose digest has not come yet.
    fill: Option<Fill>,
    fault: Option<String>,
    over: VecDeque<Over>,
    told: Option<Told>,
}

impl Qp {
    pub(crate) fn new(depth: u16, digests: (bool, bool)) -> Qp {
        Qp {
            queue: Queue::new(depth),
            phase: Phase::Off,
            stream: None,
            digests,
            capsule: 0,
            kept: (0..depth).map(|_| None).collect(),
            order: 0,
            fill: None,
            fault: None,
            over: VecDeque::with_capacity(usize::from(depth)),
            told: None,
        }
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self, group: &mut Group, to: &ConnectTo, user: u64) -> Result<(), SockError> {
        assert_eq!(self.phase, Phase::Off, "one connection at a time");
        let id = group.connect(to)?;
        let mut stream = group.stream(id).expect("a stream is there until its end was told");
        stream.set_user(user);
        // It waits for the connection; a stream that has failed already says so itself.
        let _ = stream.send(codec::ic_req(self.digests.0, self.digests.1).as_bytes());
        (self.phase, self.stream, self.capsule) = (Phase::Opening, Some(id), 0);
        (self.fill, self.fault) = (None, None);
        Ok(())
    }

    /// IO commands may carry so much data.
    pub(crate) fn set_capsule(&mut self, bytes: u32) {
        self.capsule = bytes;
    }

    pub(crate) fn is_off(&self) -> bool {
        self.phase == Phase::Off
    }

    pub(crate) fn has_room(&self) -> bool {
        self.phase == Phase::Open && self.queue.has_room()
    }

    pub(crate) fn next_over(&mut self) -> Option<Over> {
        self.over.pop_front()
    }

    pub(crate) fn take_told(&mut self) -> Option<Told> {
        self.told.take()
    }

    /// Ends the connection; `Told::Closed` follows, unless there is none.
    pub(crate) fn close(&mut self, group: &mut Group, why: &str) {
        if self.phase == Phase::Off {
            return;
        }
        self.phase = Phase::Closing;
        self.fault.get_or_insert_with(|| why.to_owned());
        if let Some(mut stream) = self.stream.and_then(|id| group.stream(id)) {
            stream.abort();
        }
    }

    /// What was under way when the connection ended, in the order in which it was first sent.
    pub(crate) fn take_held(&mut self, cx: &mut Cx) -> Vec<Ask> {
        assert_eq!(self.phase, Phase::Off, "the memory is back when the connection is over");
        let mut held: Vec<Kept> = self.kept.iter_mut().filter_map(Option::take).collect();
        held.sort_by_key(|kept| kept.order);
        held.into_iter()
            .map(|mut kept| {
                kept.ask.bufs = back(cx, kept.memory);
                kept.ask
            })
            .collect()
    }

    /// Sends a command.
    ///
    /// # Errors
    /// There is no room, or no connection: it comes back.
    #[expect(
        clippy::result_large_err,
        reason = "it comes back to be kept; a box would be an allocation per IO"
    )]
    pub(crate) fn submit(&mut self, cx: &mut Cx, group: &mut Group, mut ask: Ask) -> Result<(), Ask> {
        if !self.has_room() {
            return Err(ask);
        }
        let Some(mut stream) = self.stream.and_then(|id| group.stream(id)) else { return Err(ask) };
        let bytes = ask.bufs.len();
        let inside = ask.writes && bytes <= self.capsule;
        let want = match (ask.writes, bytes) {
            (_, 0) => Want::Nothing,
            (true, _) if inside => Want::Nothing,
            (true, bytes) => Want::Write(bytes),
            (false, bytes) => Want::Read(bytes),
        };
        let Some(slot) = self.queue.start(want) else { return Err(ask) };
        ask.command.cid = self.queue.cid(slot).into();
        match &ask.inline {
            Inline::None if bytes == 0 => {}
            Inline::None if inside => ask.command.sgl = Sgl::new(Sgl::IN_CAPSULE, bytes),
            Inline::None => ask.command.sgl = Sgl::new(Sgl::TRANSPORT, bytes),
            Inline::Range(data) => ask.command.sgl = Sgl::new(Sgl::IN_CAPSULE, data.len() as u32),
            Inline::Page(data) => ask.command.sgl = Sgl::new(Sgl::IN_CAPSULE, data.len() as u32),
        }
        let own = std::mem::replace(&mut ask.bufs, Bufs::none());
        let memory = if ask.writes {
            Memory::Lent(cx.lender().lend(own).expect("fewer leases than commands and buffers"))
        } else {
            Memory::Here(own)
        };
        self.order += 1;
        let kept = self.kept[usize::from(slot)].insert(Kept { ask, memory, order: self.order, ended: None });
        if let Err(refused) = send(cx, &mut stream, self.queue.agreed(), kept, slot, inside.then_some(bytes))
            && refused == Refused::Full
        {
            // A queue that holds everything its slots can send is never full: half a command must not stay on the stream.
            self.fault.get_or_insert_with(|| "the stream's queue is full".to_owned());
            stream.abort();
        }
        Ok(())
    }

    /// Something happened on its stream.
    pub(crate) fn on(&mut self, cx: &mut Cx, event: Event<'_>) {
        match event {
            Event::Received(received) => self.received(cx, received),
            Event::Filled { payload, .. } => {
                self.arrived(payload.tag as u16, payload.bufs);
                // With a digest it is judged when that has come.
                if !self.queue.agreed().data_digest {
                    self.intact(cx, true);
                }
            }
            Event::Unfilled { payload, .. } => self.arrived(payload.tag as u16, payload.bufs),
            Event::Sent { payload, .. } => {
                let (slot, bytes) = (payload.tag as u16, payload.len);
                cx.lender().give_back(payload.bufs);
                self.queue.gave(slot, bytes);
                self.finish(cx, slot);
            }
            Event::Unsent { payload, .. } => {
                let slot = payload.tag as u16;
                cx.lender().give_back(payload.bufs);
                self.finish(cx, slot);
            }
            Event::Closed { cause, .. } => self.closed(cause),
            Event::Connected(_) | Event::Room(_) => {}
            Event::Accepted { .. } | Event::AcceptFailed { .. } => unreachable!("nothing listens here"),
        }
    }

    fn closed(&mut self, cause: Cause) {
        (self.phase, self.stream, self.fill) = (Phase::Off, None, None);
        let silent = matches!(cause, Cause::TimedOut | Cause::Unreachable(_));
        let why = self.fault.take().unwrap_or_else(|| cause.to_string());
        self.told = Some(Told::Closed { why, silent });
    }

    fn received(&mut self, cx: &mut Cx, mut received: Received<'_>) {
        if self.phase == Phase::Closing || self.fault.is_some() {
            let len = received.bytes().len();
            return received.consume(len);
        }
        if let Err(fault) = self.take(cx, &mut received) {
            self.fault = Some(fault.to_string());
            let len = received.bytes().len();
            received.consume(len);
            let stream = received.stream();
            // If it takes no more it ends without it.
            let _ = stream.send(codec::terminate(fault).as_bytes());
            stream.finish(TERMINATE_WITHIN);
        }
    }

    fn take(&mut self, cx: &mut Cx, received: &mut Received<'_>) -> Result<(), Fault> {
        if self.phase == Phase::Opening {
            let Some(agreed) = codec::ic_resp(received.bytes(), self.digests.0, self.digests.1)? else {
                return Ok(());
            };
            received.consume(size_of::<IcResp>());
            self.queue.begin(agreed);
            (self.phase, self.told) = (Phase::Open, Some(Told::Open));
        }
        loop {
            if self.fill.is_some() && !self.take_digest(cx, received) {
                return Ok(());
            }
            let Some((act, head)) = self.queue.judge(received.bytes())? else { return Ok(()) };
            received.consume(head);
            match act {
                Act::Take { slot, offset, length, .. } => {
                    let kept = self.kept[usize::from(slot)].as_mut().expect("a command that is out is kept");
                    let Memory::Here(bufs) = std::mem::replace(&mut kept.memory, Memory::Filling) else {
                        unreachable!("the memory of a read is with us, or being filled");
                    };
                    self.fill = Some(Fill { slot, offset, length });
                    let payload = Payload { bufs, offset, len: length, tag: u64::from(slot) };
                    let Some(payload) = received.payload(payload) else { return Ok(()) };
                    self.arrived(slot, payload.bufs);
                    if !self.queue.agreed().data_digest {
                        self.intact(cx, true);
                    }
                }
                Act::Give { slot, tag, offset, length } => {
                    let kept = self.kept[usize::from(slot)].as_ref().expect("a command that is out is kept");
                    let cid = self.queue.cid(slot);
                    let part = Part { slot, cid, tag, offset, length };
                    give(cx, received.stream(), self.queue.agreed(), kept, part)
                        .map_err(|_| Fault::sequence("more data is asked for than a stream holds"))?;
                }
                Act::End { slot, status, answer } => self.end(cx, slot, status, answer),
                Act::Terminated { error } => {
                    self.fault = Some(format!("the controller ended the connection: error {error}"));
                    received.stream().abort();
                    return Ok(());
                }
            }
        }
    }

    /// Takes the digest behind data. False: it is not all here.
    fn take_digest(&mut self, cx: &mut Cx, received: &mut Received<'_>) -> bool {
        let Some(fill) = self.fill else { return true };
        let Some(told) = received.bytes().first_chunk::<DIGEST>() else { return false };
        let told = u32::from_le_bytes(*told);
        received.consume(DIGEST);
        let kept = self.kept[usize::from(fill.slot)].as_ref();
        let right = match kept.map(|kept| &kept.memory) {
            Some(Memory::Here(bufs)) => crc_of(bufs, fill.offset, fill.length) == told,
            _ => false,
        };
        if !right {
            tracing::warn!("data of an NVMe controller came with a wrong digest; its command fails");
        }
        self.intact(cx, right);
        true
    }

    /// Memory that a stream has filled, or will not fill any more.
    fn arrived(&mut self, slot: u16, bufs: Bufs) {
        let kept = self.kept[usize::from(slot)].as_mut().expect("memory has an owner");
        kept.memory = Memory::Here(bufs);
    }

    fn intact(&mut self, cx: &mut Cx, right: bool) {
        if let Some(fill) = self.fill.take()
            && let Some(status) = self.queue.filled(fill.slot, right)
        {
            self.end(cx, fill.slot, status, 0);
        }
    }

    fn end(&mut self, cx: &mut Cx, slot: u16, status: IoStatus, answer: u64) {
        if let Some(kept) = self.kept[usize::from(slot)].as_mut() {
            kept.ended = Some((status, answer));
        }
        self.finish(cx, slot);
    }

    /// Hands a command out that has ended and whose memory is back.
    fn finish(&mut self, cx: &mut Cx, slot: u16) {
        let is_back = |kept: &mut Kept| match &kept.memory {
            _ if kept.ended.is_none() => false,
            Memory::Here(_) => true,
            Memory::Lent(lease) => cx.lender().away(lease) == 0,
            Memory::Filling => false,
        };
        let Some(kept) = self.kept[usize::from(slot)].take_if(is_back) else { return };
        let (status, answer) = kept.ended.expect("just seen");
        let bufs = back(cx, kept.memory);
        self.queue.release(slot);
        self.over.push_back(Over { job: kept.ask.job, status, answer, bufs });
    }
}

fn back(cx: &mut Cx, memory: Memory) -> Bufs {
    match memory {
        Memory::Here(bufs) => bufs,
        Memory::Lent(lease) => cx.lender().end(lease),
        Memory::Filling => unreachable!("a stream gives memory back before it ends"),
    }
}

/// A command, with its data if that is `inside`.
fn send(
    cx: &mut Cx,
    stream: &mut Stream<'_>,
    agreed: &Agreed,
    kept: &Kept,
    slot: u16,
    inside: Option<u32>,
) -> Result<(), Refused> {
    let copied: &[u8] = match &kept.ask.inline {
        Inline::None => &[],
        Inline::Range(range) => range,
        Inline::Page(page) => page,
    };
    if let (Some(bytes), Memory::Lent(lease)) = (inside.filter(|bytes| *bytes > 0), &kept.memory) {
        let head = codec::capsule(agreed, kept.ask.command, bytes);
        let view = cx.lender().view(lease);
        let digest = agreed.data_digest.then(|| crc_of(&view, 0, bytes));
        let payload = Payload { bufs: view, offset: 0, len: bytes, tag: u64::from(slot) };
        return lend(cx, stream, head.bytes(), payload, digest);
    }
    stream.send(codec::capsule(agreed, kept.ask.command, copied.len() as u32).bytes())?;
    stream.send(copied)?;
    if agreed.data_digest && !copied.is_empty() {
        stream.send(&codec::crc32c(copied).to_le_bytes())?;
    }
    Ok(())
}

/// Data that the controller asks for.
struct Part {
    slot: u16,
    cid: u16,
    tag: u16,
    offset: u32,
    length: u32,
}

fn give(
    cx: &mut Cx,
    stream: &mut Stream<'_>,
    agreed: &Agreed,
    kept: &Kept,
    part: Part,
) -> Result<(), Refused> {
    let Memory::Lent(lease) = &kept.memory else { unreachable!("what is written is lent") };
    let end = part.offset + part.length;
    let mut offset = part.offset;
    while offset < end {
        let len = (end - offset).min(agreed.data_max);
        let head = codec::data(agreed, part.cid, part.tag, offset, len, offset + len == end);
        let view = cx.lender().view(lease);
        let digest = agreed.data_digest.then(|| crc_of(&view, offset, len));
        let payload = Payload { bufs: view, offset, len, tag: u64::from(part.slot) };
        lend(cx, stream, head.bytes(), payload, digest)?;
        offset += len;
    }
    Ok(())
}

fn lend(
    cx: &mut Cx,
    stream: &mut Stream<'_>,
    head: &[u8],
    payload: Payload,
    digest: Option<u32>,
) -> Result<(), Refused> {
    stream.send_with(head, payload).map_err(|(refused, payload)| {
        cx.lender().give_back(payload.bufs);
        refused
    })?;
    digest.map_or(Ok(()), |digest| stream.send(&digest.to_le_bytes()))
}
