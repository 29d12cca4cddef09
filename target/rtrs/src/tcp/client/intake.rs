//! Frames on their way in to a lane: answers straight into the memory of their requests.

use super::lane::kept_tag;
use super::{Conn, Lane, Memory};
use crate::client;
use crate::codec::{self, Expect, HEAD, Opened, Side};
use crate::frame::{Frame, Hand};
use crate::tcp::crc_of;
use crate::{ConnId, Fault};
use tgt_reactor::Cx;
use tgt_sock::{Payload, Received};

/// Frames on their way in.
impl Lane {
    pub(super) fn received(&mut self, cx: &mut Cx, id: ConnId, mut received: Received<'_>) {
        let place = id.0 as usize & 0xffff;
        let Some(mut conn) = self.conns.get_mut(place).and_then(|conn| conn.take_if(|conn| conn.id == id))
        else {
            // Closed here; its end is on its way.
            let len = received.bytes().len();
            return received.consume(len);
        };
        self.engine.on(cx.now().as_ns(), client::Event::Heard { conn: id }, &mut self.actions);
        let result = self.take_frames(cx, &mut conn, &mut received);
        self.conns[place] = Some(conn);
        if let Err(fault) = result {
            // Closed by the action that the engine answers with.
            self.engine.distrust(cx.now().as_ns(), id, fault, &mut self.actions);
        }
    }

    fn take_frames(
        &mut self,
        cx: &mut Cx,
        conn: &mut Conn,
        received: &mut Received<'_>,
    ) -> Result<(), Fault> {
        while let Opened::Frame { frame, head, data, digest } = codec::open(received.bytes(), &conn.expect)? {
            let Frame::Reply(reply) = frame else {
                received.consume(head);
                enter(conn, &frame);
                self.engine.on(
                    cx.now().as_ns(),
                    client::Event::Frame { conn: conn.id, frame },
                    &mut self.actions,
                );
                continue;
            };
            let expected =
                self.engine.expected(conn.id, reply.at).filter(|expected| reply.bytes <= expected.bytes);
            let kept = self.kept.get_mut(usize::from(reply.at.slot.0)).and_then(Option::as_mut);
            let (Some(_), Some(kept)) = (expected, kept) else {
                return Err(Fault::Protocol("an answer to what was not asked"));
            };
            kept.answer.clear();
            kept.answer.extend_from_slice(&received.bytes()[HEAD..head]);
            received.consume(head);
            if data > 0 {
                let Memory::Here(bufs) = std::mem::replace(&mut kept.memory, Memory::Filling) else {
                    return Err(Fault::Protocol("two answers to one request at a time"));
                };
                conn.current = Some((reply, digest));
                let payload = Payload { bufs, offset: 0, len: data as u32, tag: kept_tag(reply.at) };
                let Some(payload) = received.payload(payload) else { return Ok(()) };
                self.answered(cx, conn, payload)?;
            } else {
                self.engine.on(
                    cx.now().as_ns(),
                    client::Event::Frame { conn: conn.id, frame },
                    &mut self.actions,
                );
            }
        }
        Ok(())
    }

    /// All data of an answer is there.
    fn answered(&mut self, cx: &mut Cx, conn: &mut Conn, payload: Payload) -> Result<(), Fault> {
        let (reply, digest) = conn.current.take().expect("an answer was awaited");
        let kept = self.kept[usize::from(reply.at.slot.0)].as_mut().expect("kept while its memory is filled");
        let fits = digest.is_none_or(|digest| digest == crc_of(&payload.bufs, payload.len));
        kept.memory = Memory::Here(payload.bufs);
        if !fits {
            return Err(Fault::Digest);
        }
        let frame = Frame::Reply(reply);
        self.engine.on(cx.now().as_ns(), client::Event::Frame { conn: conn.id, frame }, &mut self.actions);
        Ok(())
    }

    /// `Some` = the connection is not ours any more: the memory goes back to its request.
    pub(super) fn filled(&mut self, cx: &mut Cx, id: ConnId, payload: Payload) -> Option<Payload> {
        let place = id.0 as usize & 0xffff;
        let Some(mut conn) = self.conns.get_mut(place).and_then(|conn| conn.take_if(|conn| conn.id == id))
        else {
            return Some(payload);
        };
        self.engine.on(cx.now().as_ns(), client::Event::Heard { conn: id }, &mut self.actions);
        let result = self.answered(cx, &mut conn, payload);
        self.conns[place] = Some(conn);
        if let Err(fault) = result {
            // Closed by the action that the engine answers with.
            self.engine.distrust(cx.now().as_ns(), id, fault, &mut self.actions);
        }
        None
    }
}

/// After the challenge both sides know whether data has digests; after the welcome, the limits.
fn enter(conn: &mut Conn, frame: &Frame) {
    let Frame::Hand(hand) = frame else { return };
    match &**hand {
        Hand::Challenge(challenge) => conn.digest = challenge.digest,
        Hand::Welcome(welcome) => {
            let (from, digest) = (Side::Server, conn.digest);
            let (user_max, data_max) = (welcome.limits.user_max, welcome.limits.data_max);
            conn.expect = Expect { from, hand: false, digest, user_max, data_max };
        }
        _ => {}
    }
}
