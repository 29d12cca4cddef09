//! Frames on their way in: to the gate, to the engine, data straight into its memory.

use super::doors::{Door, gate};
use super::memory::Memory;
use super::{Conn, Current, Kept};
use crate::codec::{self, HEAD, Opened};
use crate::frame::{Frame, Request};
use crate::server::{Action, Event as Happened, GateAction, GateEvent, Place, Server};
use crate::tcp::crc_of;
use crate::{ConnId, Direction, Fault, SlotUse};
use tgt_reactor::Cx;
use tgt_sock::{Payload, Received};

/// What taking frames in needs of a port, its group being lent to the event.
pub(super) struct Intake<'a> {
    pub(super) doors: &'a mut [Door],
    pub(super) engine: &'a mut Server,
    pub(super) kept: &'a mut Vec<Vec<Kept>>,
    pub(super) memory: &'a mut Memory,
    pub(super) gate_actions: &'a mut Vec<GateAction>,
    pub(super) actions: &'a mut Vec<Action>,
}

impl Intake<'_> {
    pub(super) fn received(
        mut self,
        cx: &mut Cx,
        conns: &mut [Option<Conn>],
        mut received: Received<'_>,
    ) -> Result<(), Fault> {
        let id = ConnId(received.stream().user());
        let conn = conns.get_mut(id.0 as u32 as usize).and_then(Option::as_mut).filter(|conn| conn.id == id);
        let Some(conn) = conn else {
            // Closed here; its end is on its way.
            let len = received.bytes().len();
            received.consume(len);
            return Ok(());
        };
        let now = cx.now().as_ns();
        if conn.proved {
            self.engine.on(now, Happened::Heard { conn: id }, self.actions);
        }
        loop {
            if let Some(current) = &mut conn.current {
                let over = current.skip.min(received.bytes().len());
                received.consume(over);
                current.skip -= over;
                if current.skip > 0 {
                    return Ok(());
                }
                let request = current.request;
                conn.current = None;
                self.engine.on(now, Happened::Request { conn: id, request, buf: None }, self.actions);
            }
            let opened = codec::open(received.bytes(), &conn.expect)?;
            let Opened::Frame { frame, head, data, digest } = opened else { return Ok(()) };
            match frame {
                Frame::Hand(hand) => {
                    received.consume(head);
                    let hand = GateEvent::Hand { conn: id, hand: *hand };
                    if let Some(gate) = gate(self.doors, conn.door) {
                        gate.on(now, hand, self.gate_actions);
                    }
                    // What follows is read when the gate has said what it makes of this.
                    return Ok(());
                }
                Frame::Request(request) => {
                    let current =
                        self.begin_request(conn, request, digest, &received.bytes()[HEAD..head], data);
                    received.consume(head);
                    if !self.take_data(cx, conn, current, data, &mut received)? {
                        return Ok(());
                    }
                }
                frame => {
                    received.consume(head);
                    self.engine.on(now, Happened::Frame { conn: id, frame }, self.actions);
                }
            }
        }
    }

    fn begin_request(
        &mut self,
        conn: &Conn,
        request: Request,
        digest: Option<u32>,
        header: &[u8],
        data: usize,
    ) -> Current {
        let place = self.engine.place(conn.id, &request);
        let buf = match place {
            Place::Drop | Place::Bare | Place::Queue => None,
            Place::Bind => self.memory.bind(request.bytes),
            Place::Bound(buf) => Some(buf),
        };
        if place != Place::Drop
            && let Some(lane) = conn.lane
        {
            let SlotUse { slot, use_no } = request.at;
            let kept = &mut self.kept[lane.at as usize][usize::from(slot.0)];
            kept.use_no = use_no;
            kept.header.clear();
            kept.header.extend_from_slice(header);
        }
        let skip = if buf.is_none() { data } else { 0 };
        Current { request, digest, buf, skip }
    }

    /// Puts a request's data where it belongs. `false` = not all of it is here.
    fn take_data(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        current: Current,
        data: usize,
        received: &mut Received<'_>,
    ) -> Result<bool, Fault> {
        let Some(buf) = current.buf.filter(|_| current.request.direction == Direction::Write && data > 0)
        else {
            if current.skip > 0 {
                conn.current = Some(current);
            } else {
                let event = Happened::Request { conn: conn.id, request: current.request, buf: current.buf };
                self.engine.on(cx.now().as_ns(), event, self.actions);
            }
            return Ok(true);
        };
        let bufs = self.memory.take(buf);
        let payload = Payload { bufs, offset: 0, len: data as u32, tag: u64::from(buf.0) };
        let (request, digest) = (current.request, current.digest);
        let Some(payload) = received.payload(payload) else {
            conn.current = Some(Current { skip: 0, ..current });
            return Ok(false);
        };
        let fits = digest.is_none_or(|digest| digest == crc_of(&payload.bufs, payload.len));
        self.memory.put(buf, payload.bufs);
        if !fits {
            self.memory.release(cx, buf);
            return Err(Fault::Digest);
        }
        let event = Happened::Request { conn: conn.id, request, buf: Some(buf) };
        self.engine.on(cx.now().as_ns(), event, self.actions);
        Ok(true)
    }
}
