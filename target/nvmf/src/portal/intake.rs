//! Bytes in: units are taken apart, data goes to its memory.

use super::Core;
use super::answers::{crc_of, sent};
use super::conn::{Conn, Next, Part, Partner, Phase, State};
use super::fused::{forget_first, join};
use super::plan::{Inflow, Kind, Plan};
use crate::codec::encode::{self, Agreed};
use crate::codec::{self, Fault, Opened, at, crc32c, digest};
use std::time::Duration;
use tgt_bdev::{Bufs, Cx};
use tgt_nvme::command::FABRICS;
use tgt_nvme::pdu::{DIGEST, Data, FatalError, IcReq, flag};
use tgt_nvme::zerocopy::IntoBytes;
use tgt_nvme::{Command, status};
use tgt_sock::{Payload, Received, Stream};
use tgt_status::IoStatus;

/// How long a host that was told why its connection ends may take to close it.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Core {
    pub(super) fn received(&mut self, cx: &mut Cx, mut received: Received<'_>) {
        let no = received.stream().user();
        if no == 0 {
            // On its way to another reactor: what came is kept, and goes with it.
            return;
        }
        let Some(mut conn) = self.conns.take(no) else {
            received.consume(received.bytes().len());
            return;
        };
        if let Err(fault) = self.take_in(cx, &mut conn, &mut received) {
            self.fail(&mut conn, &mut received, fault);
        }
        if !conn.is_heard() {
            received.consume(received.bytes().len());
        }
        self.conns.put(conn);
    }

    fn take_in(&mut self, cx: &mut Cx, conn: &mut Conn, received: &mut Received<'_>) -> Result<(), Fault> {
        if let Some(half) = conn.queue.as_mut().and_then(|queue| queue.admin.as_mut()) {
            half.heard = cx.now();
        }
        while conn.is_heard() {
            match conn.next {
                Next::Data(_) => return Ok(()),
                Next::Skip(left) => {
                    let now = (left as usize).min(received.bytes().len());
                    received.consume(now);
                    conn.next = if now == left as usize { Next::Unit } else { Next::Skip(left - now as u32) };
                    if conn.next != Next::Unit {
                        return Ok(());
                    }
                }
                Next::Digest(part) => {
                    let Some(told) = received.bytes().first_chunk::<DIGEST>() else { return Ok(()) };
                    let told = u32::from_le_bytes(*told);
                    received.consume(DIGEST);
                    conn.next = Next::Unit;
                    let (home, base) = conn.home(part.slot);
                    let right = crc_of(&conn.slot(home).bufs, base + part.offset, part.len) == told;
                    self.data_is_here(cx, conn, received.stream(), part, right);
                }
                Next::Unit => {
                    if !self.take_unit(cx, conn, received)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes one unit. `false`: more bytes are needed.
    fn take_unit(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        received: &mut Received<'_>,
    ) -> Result<bool, Fault> {
        match codec::open(received.bytes(), &conn.expect)? {
            Opened::More => return Ok(false),
            Opened::Capsule { command, head, data } => {
                let io = conn.queue.as_ref().is_some_and(|queue| queue.qid > 0);
                if io && command.opcode != FABRICS {
                    return self.take_io(cx, conn, received, &command, head, data);
                }
                return Ok(self.take_control(cx, conn, received, &command, head, data));
            }
            Opened::Data { data, head } => {
                let part = check_data(conn, &data)?;
                received.consume(head);
                self.feed(cx, conn, received, part);
            }
            Opened::IcReq(request) => {
                received.consume(size_of::<IcReq>());
                self.begin(conn, received.stream(), &request);
            }
            Opened::Terminated(request) => {
                let (error, info) = (request.error.get(), request.info.get());
                tracing::warn!("host {} ends its connection: error {error}, {info}", conn.peer);
                self.doomed.push(conn.no);
                conn.phase = Phase::Ending;
            }
        }
        Ok(true)
    }

    /// The first unit: how both sides speak from here on.
    fn begin(&mut self, conn: &mut Conn, stream: &mut Stream<'_>, request: &IcReq) {
        let (header_digest, data_digest) = (request.digests & 1 != 0, request.digests & 2 != 0);
        // At most 128: checked by the codec.
        let align = (request.data_align + 1) * 4;
        conn.agreed = Agreed { header_digest, data_digest, align };
        (conn.expect.header_digest, conn.expect.data_digest) = (header_digest, data_digest);
        (conn.expect.fresh, conn.phase) = (false, Phase::Open);
        let response = encode::ic_resp(&conn.agreed, conn.expect.data_max);
        sent(stream.send(response.as_bytes()), stream);
    }

    /// A command of the control half: with all of its data at hand, which is copied.
    fn take_control(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        received: &mut Received<'_>,
        command: &Command,
        head: usize,
        data: u32,
    ) -> bool {
        let data_end = head + data as usize;
        let end = data_end + digest(conn.expect.data_digest && data > 0);
        let Some(unit) = received.bytes().get(..end) else { return false };
        received.consume(end);
        let (data, told) = (&unit[head..data_end], &unit[data_end..]);
        if !told.is_empty() && told != crc32c(data).to_le_bytes() {
            self.respond(conn, received.stream(), command, status::TRANSIENT_TRANSPORT_ERROR, 0);
            return true;
        }
        self.on_control(cx, conn, received.stream(), command, data);
        true
    }

    /// An IO command. Whatever it needs that is not there, the units behind it do not wait for it.
    fn take_io(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        received: &mut Received<'_>,
        command: &Command,
        head: usize,
        data: u32,
    ) -> Result<bool, Fault> {
        let behind = data as usize + digest(conn.expect.data_digest && data > 0);
        let mut judged = self.judge(conn, command, data);
        let mut bufs = Bufs::none();
        if let Ok((plan, _)) = judged
            && let Some(bytes) = needed_at_once(&plan)
        {
            match self.memory.take(bytes) {
                Some(taken) => bufs = taken,
                // The write of the pair could not be placed either.
                None if plan.kind == Kind::FusedCompare => judged = Err(IoStatus::NAMESPACE_NOT_READY_RETRY),
                // It is kept beside, once all of it is here.
                None if received.bytes().len() < head + behind => return Ok(false),
                None => {}
            }
        }
        let (plan, lane) = match self.pair(conn, received.stream(), command, judged) {
            Ok(judged) => judged,
            Err(status) => {
                self.memory.give(bufs);
                received.consume(head);
                conn.next = Next::Skip(behind as u32);
                self.counts.completed += 1;
                self.respond(conn, received.stream(), command, status, 0);
                return Ok(true);
            }
        };
        let Some(slot) = conn.place_command(command, plan, lane) else {
            self.memory.give(bufs);
            return Err(Fault::sequence("more commands than the queue holds"));
        };
        join(conn, slot);
        let has_memory = !bufs.is_empty() || plan.kind == Kind::FusedWrite;
        conn.slot(slot).bufs = bufs;
        received.consume(head);
        match plan.inflow {
            Inflow::Capsule if has_memory => {
                conn.slot(slot).state = State::Receiving;
                self.feed(cx, conn, received, Part { slot, offset: 0, len: data });
            }
            Inflow::Capsule => self.stash(conn, received, slot, data as usize, behind),
            Inflow::None | Inflow::Requested => self.go_on(cx, conn, received.stream(), slot),
        }
        Ok(true)
    }

    /// Keeps data for which there is no memory. A wrong digest is found now.
    fn stash(&mut self, conn: &mut Conn, received: &mut Received<'_>, slot: u16, data: usize, behind: usize) {
        let bytes = &received.bytes()[..behind];
        received.consume(behind);
        let (data, told) = bytes.split_at(data);
        if !told.is_empty() && told != crc32c(data).to_le_bytes() {
            conn.slot(slot).state = State::Receiving;
            return self.finish(conn, received.stream(), slot, status::TRANSIENT_TRANSPORT_ERROR);
        }
        conn.slot(slot).stash.extend_from_slice(data);
        self.let_wait(conn, slot);
    }

    /// The next bytes are a piece of a command's data.
    fn feed(&mut self, cx: &mut Cx, conn: &mut Conn, received: &mut Received<'_>, part: Part) {
        let (home, base) = conn.home(part.slot);
        let bufs = std::mem::replace(&mut conn.slot(home).bufs, Bufs::none());
        let offset = base + part.offset;
        let payload = Payload { bufs, offset, len: part.len, tag: part.slot.into() };
        match received.payload(payload) {
            Some(payload) => {
                conn.slot(home).bufs = payload.bufs;
                self.part_is_here(cx, conn, received.stream(), part);
            }
            None => conn.next = Next::Data(part),
        }
    }

    /// A piece that came straight to its memory is complete.
    pub(super) fn filled(&mut self, cx: &mut Cx, stream: &mut Stream<'_>, payload: Payload) {
        let Some(mut conn) = self.conns.take(stream.user()) else { return self.memory.give(payload.bufs) };
        match conn.next {
            Next::Data(part) if conn.is_heard() => {
                let (home, _) = conn.home(part.slot);
                conn.slot(home).bufs = payload.bufs;
                self.part_is_here(cx, &mut conn, stream, part);
            }
            _ => self.memory.give(payload.bufs),
        }
        self.conns.put(conn);
    }

    fn part_is_here(&mut self, cx: &mut Cx, conn: &mut Conn, stream: &mut Stream<'_>, part: Part) {
        if conn.expect.data_digest {
            conn.next = Next::Digest(part);
        } else {
            conn.next = Next::Unit;
            self.data_is_here(cx, conn, stream, part, true);
        }
    }

    /// A piece of a command's data is here and was compared with its digest.
    fn data_is_here(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        stream: &mut Stream<'_>,
        part: Part,
        right: bool,
    ) {
        let of = conn.slot(part.slot);
        if !right {
            of.verdict.get_or_insert(status::TRANSIENT_TRANSPORT_ERROR);
        }
        of.filled += part.len;
        if of.filled < of.plan.bytes {
            return;
        }
        match (of.partner, of.plan.kind, of.verdict) {
            (Partner::First(_) | Partner::Second(_), ..) => self.settle_pair(cx, conn, stream, part.slot),
            (_, _, Some(verdict)) => {
                forget_first(conn, part.slot);
                self.finish(conn, stream, part.slot, verdict);
            }
            (_, Kind::FusedCompare, None) => of.state = State::Paired,
            _ => self.go_on(cx, conn, stream, part.slot),
        }
    }

    /// Tells the host what was wrong; nothing it sends matters any more.
    fn fail(&mut self, conn: &mut Conn, received: &mut Received<'_>, fault: Fault) {
        let Fault { error, info, why } = fault;
        tracing::warn!("connection of {} ends: {why} ({error:?}, field at {info})", conn.peer);
        let wrong = received.bytes();
        let header = wrong.get(2).map_or(0, |len| usize::from(*len)).min(wrong.len());
        let (bytes, len) = encode::terminate(fault, &wrong[..header]);
        let stream = received.stream();
        sent(stream.send(&bytes[..len]), stream);
        stream.finish(LAST_WORDS);
        conn.phase = Phase::Ending;
        self.doomed.push(conn.no);
    }
}

/// Bytes that a command must have before its capsule is taken: data is in it, or the other half of a pair will need them.
fn needed_at_once(plan: &Plan) -> Option<u32> {
    match (plan.kind, plan.inflow) {
        (Kind::FusedCompare, _) => Some(plan.bytes * 2),
        (Kind::FusedWrite, _) | (_, Inflow::None | Inflow::Requested) => None,
        (_, Inflow::Capsule) => Some(plan.bytes),
    }
}

/// Whether data was asked for, and where it belongs.
fn check_data(conn: &Conn, data: &Data) -> Result<Part, Fault> {
    let slot = data.tag.get();
    let awaited = conn.slots.get(usize::from(slot));
    let awaited = awaited.filter(|of| of.state == State::Receiving && of.plan.inflow == Inflow::Requested);
    let Some(of) = awaited else { return Err(Fault::field(at::TAG, "data that was not asked for")) };
    if of.command.cid != data.cid {
        return Err(Fault::field(at::CID, "data of another command than was asked for"));
    }
    let (offset, len) = (data.offset.get(), data.length.get());
    if offset != of.filled {
        return Err(Fault::field(at::OFFSET, "data that is not the next"));
    }
    let left = of.plan.bytes - of.filled;
    if len > left {
        let why = "data beyond what was asked for";
        return Err(Fault { error: FatalError::DataOutOfRange, info: at::OFFSET, why });
    }
    if (data.common.flags & flag::LAST != 0) != (len == left) {
        return Err(Fault::field(at::FLAGS, "the last data is not marked, or other data is"));
    }
    Ok(Part { slot, offset, len })
}
