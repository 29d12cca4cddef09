//! One lane: its requests and connections, and what its engine wants done.

use super::{ClientEvent, Conn, Done, Io, Kept, LANE_SHIFT, Lane, LaneNo, Memory, Refusal, Submission};
use crate::client::{self, Action, Answer, Ask, Link, SessionDead, Signs, UserNo};
use crate::codec::{self, Expect, Side};
use crate::frame::Frame;
use crate::pace::{self, Pace};
use crate::tcp::{crc_of, errno_of, fault_of, has_plenty, head_of, look, nonce};
use crate::{ConnId, Direction, Fault, PathNo, SlotUse};
use std::collections::VecDeque;
use tgt_env::bufs::Bufs;
use tgt_reactor::Cx;
use tgt_sock::{ConnectTo, Event, Payload, Progress, Refused, Stream};

impl Lane {
    pub(super) fn submit(
        &mut self,
        cx: &mut Cx,
        io: &mut Io,
        user: UserNo,
        request: Submission<'_>,
    ) -> Result<(), (Bufs, Refusal)> {
        let handed =
            self.handed.iter().position(|(no, _)| *no == user).map(|at| self.handed.swap_remove(at).1);
        let permit = match handed.map_or_else(|| self.engine.permit(user), |permit| Ok(Some(permit))) {
            Ok(Some(permit)) => permit,
            Ok(None) => return Err((request.bufs, Refusal::Wait)),
            Err(error) => return Err((request.bufs, error.into())),
        };
        let Submission { tag, direction, header, bufs } = request;
        let user_len = u16::try_from(header.len()).unwrap_or(u16::MAX);
        let ask = Ask { tag, direction, bytes: bufs.len(), user_len };
        let at = match self.engine.submit(cx.now().as_ns(), permit, ask, &mut self.actions) {
            Ok(at) => at,
            Err((permit, error)) => {
                self.engine.give_back(permit, &mut self.actions);
                return Err((bufs, error.into()));
            }
        };
        let memory = match direction {
            Direction::Write if !bufs.is_empty() => {
                Memory::Lent(cx.lender().lend(bufs).expect("fewer leases than permits and buffers"))
            }
            _ => Memory::Here(bufs),
        };
        let mut kept_header = io.spare.pop().unwrap_or_default();
        kept_header.extend_from_slice(header);
        let answer = io.spare.pop().unwrap_or_default();
        let place = usize::from(at.slot.0);
        if self.kept.len() <= place {
            self.kept.resize_with(place + 1, || None);
        }
        self.kept[place] = Some(Kept { at, user, tag, header: kept_header, answer, memory, digest: None });
        Ok(())
    }

    pub(super) fn on(
        &mut self,
        cx: &mut Cx,
        conn: ConnId,
        event: Event<'_>,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        match event {
            Event::Connected(_) => {
                let nonce = nonce();
                self.engine.on(cx.now().as_ns(), client::Event::Connected { conn, nonce }, &mut self.actions);
            }
            Event::Received(received) => self.received(cx, conn, received),
            Event::Filled { payload, .. } => {
                if let Some(payload) = self.filled(cx, conn, payload) {
                    self.unfilled(payload, events, spare);
                }
            }
            Event::Sent { payload, .. } | Event::Unsent { payload, .. } => {
                self.room = Some(conn);
                cx.lender().give_back(payload.bufs);
                self.leave(cx, payload.tag, events, spare);
            }
            Event::Unfilled { payload, .. } => self.unfilled(payload, events, spare),
            Event::Room(_) => self.room = Some(conn),
            Event::Closed { cause, .. } => {
                self.streams -= 1;
                self.closed(cx, conn, cause);
            }
            Event::Accepted { .. } | Event::AcceptFailed { .. } => unreachable!("a client does not listen"),
        }
    }

    fn closed(&mut self, cx: &mut Cx, id: ConnId, cause: tgt_sock::Cause) {
        let place = id.0 as usize & 0xffff;
        if self.conns.get(place).and_then(Option::as_ref).is_some_and(|conn| conn.id == id) {
            self.conns[place] = None;
            let fault = fault_of(cause);
            self.engine.on(cx.now().as_ns(), client::Event::Lost { conn: id, fault }, &mut self.actions);
        }
    }

    /// A stream ended before it had filled a request's memory.
    pub(super) fn unfilled(
        &mut self,
        payload: Payload,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        let (bufs, tag) = (payload.bufs, payload.tag);
        if let Some(kept) = self.kept.iter_mut().flatten().find(|kept| kept_tag(kept.at) == tag) {
            kept.memory = Memory::Here(bufs);
            return;
        }
        let at =
            self.leaving.iter().position(|(kept, _)| kept_tag(kept.at) == tag).expect("memory has an owner");
        let (mut kept, result) = self.leaving.swap_remove(at);
        kept.memory = Memory::Here(bufs);
        self.done(kept, result, events, spare);
    }

    /// A stream has given memory back that it had been lent.
    pub(super) fn leave(
        &mut self,
        cx: &mut Cx,
        tag: u64,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        let Some(at) = self.leaving.iter().position(|(kept, _)| kept_tag(kept.at) == tag) else { return };
        let (kept, result) = self.leaving.swap_remove(at);
        self.complete(cx, kept, result, events, spare);
    }

    pub(super) fn complete(
        &mut self,
        cx: &mut Cx,
        mut kept: Kept,
        result: Result<Answer, SessionDead>,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        kept.memory = match kept.memory {
            Memory::Lent(lease) if cx.lender().away(&lease) == 0 => Memory::Here(cx.lender().end(lease)),
            memory => memory,
        };
        if matches!(kept.memory, Memory::Here(_)) {
            self.done(kept, result, events, spare);
        } else {
            self.leaving.push((kept, result));
        }
    }

    fn done(
        &mut self,
        kept: Kept,
        result: Result<Answer, SessionDead>,
        events: &mut VecDeque<(LaneNo, ClientEvent)>,
        spare: &mut Vec<Vec<u8>>,
    ) {
        let Memory::Here(bufs) = kept.memory else { unreachable!("its memory is back") };
        let mut header = kept.header;
        header.clear();
        spare.push(header);
        let done = Done { user: kept.user, tag: kept.tag, result, header: kept.answer, bufs };
        events.push_back((self.no, ClientEvent::Done(done)));
    }

    pub(super) fn act(&mut self, cx: &mut Cx, io: &mut Io) {
        if let Some(conn) = self.room.take() {
            self.drain(cx, io, conn);
        }
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            actions.drain(..).for_each(|action| self.act_on(cx, io, action));
            if self.actions.is_empty() {
                self.actions = actions;
            }
        }
    }

    fn act_on(&mut self, cx: &mut Cx, io: &mut Io, action: Action) {
        match action {
            Action::Connect { conn, path } => self.connect(cx, io, conn, path),
            Action::Send { conn, frame } => {
                let Some(to) = self.conns.get_mut(conn.0 as usize & 0xffff).and_then(Option::as_mut) else {
                    return;
                };
                if to.id == conn {
                    match frame {
                        Frame::Ping(_) | Frame::Seen(_) => to.urgent.push_back(frame),
                        frame => to.backlog.push_back(frame),
                    }
                    self.drain(cx, io, conn);
                }
            }
            Action::Look { conn } => self.look(cx, io, conn),
            Action::Close { conn, .. } => {
                let place = &mut self.conns[conn.0 as usize & 0xffff];
                if let Some(closed) = place.take_if(|there| there.id == conn)
                    && let Some(mut stream) = io.group.stream(closed.stream)
                {
                    stream.abort();
                }
            }
            Action::Complete { at, result, .. } => {
                let kept = self.kept[usize::from(at.slot.0)].take().expect("a request is kept until it ends");
                self.complete(cx, kept, result, &mut io.events, &mut io.spare);
            }
            Action::Permit { user, permit } => {
                self.handed.push((user, permit));
                io.events.push_back((self.no, ClientEvent::Room(user)));
            }
            Action::Link(link) => {
                if matches!(link, Link::Dead { .. }) {
                    self.handed.clear();
                }
                io.events.push_back((self.no, ClientEvent::Link(link)));
            }
            Action::Path(change) => io.events.push_back((self.no, ClientEvent::Path(change))),
        }
    }

    /// Tells the engine how far a connection's stream has come. More may go out on it then.
    fn look(&mut self, cx: &mut Cx, io: &mut Io, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0 as usize & 0xffff).and_then(Option::as_mut) else { return };
        let Some(mut stream) = io.group.stream(conn.stream).filter(|_| conn.id == id) else { return };
        let (now, Progress { received, queued, acknowledged }) = (cx.now().as_ns(), look(&mut stream));
        conn.pace.look(now, queued, acknowledged);
        let signs = Signs { came: received, queued, acknowledged };
        self.engine.on(now, client::Event::Looked { conn: id, signs }, &mut self.actions);
        self.drain(cx, io, id);
    }

    fn connect(&mut self, cx: &mut Cx, io: &mut Io, id: ConnId, path: PathNo) {
        let place = usize::from(path.0);
        let address = self.addresses[place].clone().expect("a path has an address");
        if !self.anywhere && !address.to.ip().to_canonical().is_loopback() {
            let event = client::Event::Lost { conn: id, fault: Fault::KeyNeeded };
            return self.engine.on(cx.now().as_ns(), event, &mut self.actions);
        }
        let (source, timeout) = (address.from, self.connect_within);
        let to = ConnectTo { address: address.to, source, timeout, socket: address.socket };
        match io.group.connect(&to) {
            Ok(stream) => {
                self.streams += 1;
                if let Some(mut stream) = io.group.stream(stream) {
                    stream.set_user(u64::from(self.no.0) << LANE_SHIFT | id.0);
                }
                self.conns[place] = Some(Conn {
                    id,
                    stream,
                    expect: Expect::hand(Side::Server),
                    digest: false,
                    current: None,
                    urgent: VecDeque::new(),
                    pace: Pace::new(pace::FLOOR),
                    seen: 0,
                    backlog: VecDeque::new(),
                });
            }
            Err(error) => {
                tracing::warn!(%error, to = %address.to, "a path of a session cannot be connected");
                let fault = Fault::System { errno: errno_of(&error) };
                self.engine.on(cx.now().as_ns(), client::Event::Lost { conn: id, fault }, &mut self.actions);
            }
        }
    }

    /// Moves what waits to be sent on a connection into its stream's queue, as much as that takes.
    fn drain(&mut self, cx: &mut Cx, io: &mut Io, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0 as usize & 0xffff).and_then(Option::as_mut) else { return };
        let Some(mut stream) = io.group.stream(conn.stream).filter(|_| conn.id == id) else { return };
        while let Some(frame) = conn.urgent.front() {
            match stream.send(&codec::head_of(frame, &[], None)) {
                Ok(()) => {
                    if let Some(Frame::Ping(ping)) = conn.urgent.pop_front() {
                        conn.seen = ping.seen;
                    }
                }
                Err(Refused::Full) => return,
                Err(Refused::Ending) => break,
            }
        }
        while let Some(frame) = conn.backlog.front_mut() {
            let sent = match frame {
                Frame::Hand(hand) => stream.send(&codec::encode_hand(hand)),
                Frame::Request(_) if has_plenty(&stream, &conn.pace) => return,
                Frame::Request(request) => {
                    if conn.seen.wrapping_sub(request.seen) as i32 > 0 {
                        request.seen = conn.seen;
                    }
                    let kept = self.kept.get_mut(usize::from(request.at.slot.0)).and_then(Option::as_mut);
                    // What has ended meanwhile is not sent: it was answered on another connection.
                    match kept.filter(|kept| kept.at == request.at) {
                        Some(kept) => send_request(cx, &mut stream, conn.digest, frame, kept),
                        None => Ok(()),
                    }
                }
                frame => stream.send(&codec::head_of(frame, &[], None)),
            };
            match sent {
                Ok(()) => drop(conn.backlog.pop_front()),
                Err(Refused::Full) => return,
                // Its end is told by `Closed`.
                Err(Refused::Ending) => return conn.backlog.clear(),
            }
        }
    }
}

fn send_request(
    cx: &mut Cx,
    stream: &mut Stream<'_>,
    digest: bool,
    frame: &Frame,
    kept: &mut Kept,
) -> Result<(), Refused> {
    let Memory::Lent(lease) = &kept.memory else {
        let (head, len) = head_of(frame, &kept.header, None);
        return stream.send(&head[..len]);
    };
    let bufs = cx.lender().view(lease);
    let digest = digest.then(|| *kept.digest.get_or_insert_with(|| crc_of(&bufs, bufs.len())));
    let (head, len) = head_of(frame, &kept.header, digest);
    stream.send_with(&head[..len], Payload::whole(bufs, kept_tag(kept.at))).map_err(|(refused, payload)| {
        cx.lender().give_back(payload.bufs);
        refused
    })
}

pub(super) fn kept_tag(at: SlotUse) -> u64 {
    u64::from(at.slot.0) << 32 | u64::from(at.use_no)
}
