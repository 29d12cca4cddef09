//! What comes in: each request becomes an event of the engine, or is answered with why not.

use super::StoreDriver;
use crate::hail::Peer;
use crate::store::asks::AskKind;
use crate::store::buffers::Memory;
use crate::store::mail::{Arrived, LaneAt, Mail};
use crate::store::status::Phase;
use rmr_engine::store::Store;
use rmr_engine::{Party, StoreEvent};
use rmr_proto::envelope::{Envelope, Kind, Status};
use rmr_proto::{BufId, IoOp, IoRequest, MemberId, Msg, wire};
use tgt_bdev::Cx;
use tgt_rtrs::Direction;

impl StoreDriver {
    /// A read or write of a client. Its message stands behind the envelope.
    pub(in crate::store) fn on_io(
        &mut self,
        cx: &mut Cx,
        mail: &Mail,
        envelope: &Envelope,
        arrived: Arrived,
    ) {
        if let Err(status) = self.takes_requests() {
            return self.answer_status(cx, mail, Kind::Io, arrived, status);
        }
        let message = &arrived.incoming.header[Envelope::SIZE..];
        // The number is the buffer's once it is known that there is one.
        let decoded = wire::decode(message, Some(BufId(0)));
        let Ok((pool, Msg::Io(io, payload))) = decoded else {
            return self.answer_status(cx, mail, Kind::Io, arrived, Status::NotUnderstood);
        };
        let fits = pool == self.superblock.pool
            && envelope.from.is_none()
            && envelope.length as usize == message.len()
            && self.data_fits(&io, payload.is_some(), &arrived);
        if !fits {
            return self.answer_status(cx, mail, Kind::Io, arrived, Status::NotUnderstood);
        }
        let client = self.client(cx, mail, envelope.sender);
        let ask = match self.asks.put(arrived, AskKind::Io { client, tag: io.tag }) {
            Ok(ask) => ask,
            Err(arrived) => {
                return self.answer_status(cx, mail, Kind::Io, arrived, Status::NotUnderstood);
            }
        };
        let buf = payload.map(|_| self.buffers.put(Memory::Ask(ask)));
        let before = self.engine.as_ref().map_or(0, Store::requests);
        self.current = Some(ask);
        self.feed(cx, mail, StoreEvent::Msg(Party::Client(client), Msg::Io(io, buf)));
        self.current = None;
        // A number that the engine has seen before: it says nothing, and nobody else would.
        let taken = self.engine.as_ref().map_or(0, Store::requests) > before;
        if !taken && let Some(arrived) = self.asks.take(ask) {
            self.answer_status(cx, mail, Kind::Io, arrived, Status::NotUnderstood);
        }
    }

    /// Is the memory that came, or that an answer may have, just as long as the range?
    fn data_fits(&self, io: &IoRequest, payload: bool, arrived: &Arrived) -> bool {
        let bytes = u64::from(io.range.count) << self.superblock.geometry.block_shift();
        let (wanted, direction) = match io.op {
            IoOp::Read => (bytes, Direction::Read),
            IoOp::Write | IoOp::WriteFua => (bytes, Direction::Write),
            IoOp::Zero { .. } | IoOp::Flush => (0, arrived.incoming.execute.direction),
        };
        let carries = matches!(io.op, IoOp::Write | IoOp::WriteFua);
        let there = u64::from(arrived.incoming.execute.bytes);
        there == wanted && arrived.incoming.execute.direction == direction && payload == carries
    }

    /// Any other message. It stands behind the envelope, or in `data`; in the first case data is its payload.
    pub(in crate::store) fn on_letter(
        &mut self,
        cx: &mut Cx,
        mail: &Mail,
        (envelope, data): (&Envelope, Option<&[u8]>),
        arrived: Arrived,
    ) {
        if let Err(status) = self.takes_requests() {
            return self.answer_status(cx, mail, Kind::Letter, arrived, status);
        }
        let message = data.unwrap_or(&arrived.incoming.header[Envelope::SIZE..]);
        let has_payload = data.is_none() && arrived.incoming.execute.bytes > 0;
        let decoded = wire::decode(message, has_payload.then_some(BufId(0)));
        let (mut msg, fits) = match decoded {
            Ok((_, Msg::Io(..))) | Err(_) => {
                return self.answer_status(cx, mail, Kind::Letter, arrived, Status::NotUnderstood);
            }
            Ok((pool, msg)) => {
                let fits = self.payload_fits(&msg, has_payload, &arrived);
                (msg, fits && pool == self.superblock.pool && envelope.from != Some(self.sender.member))
            }
        };
        if !fits {
            return self.answer_status(cx, mail, Kind::Letter, arrived, Status::NotUnderstood);
        }
        let party = match envelope.from {
            Some(member) => Party::Member(member),
            None => Party::Client(self.client(cx, mail, envelope.sender)),
        };
        if let Msg::CopyReply { buf: Some(buf), .. } = &mut msg {
            // Answered when the engine gives the memory back.
            let ask = self.asks.put(arrived, AskKind::Letter).expect("letters have no tag to meet another's");
            *buf = self.buffers.put(Memory::Ask(ask));
            return self.feed(cx, mail, StoreEvent::Msg(party, msg));
        }
        self.feed(cx, mail, StoreEvent::Msg(party, msg));
        // What made the store close itself is no letter's fault.
        self.answer_status(cx, mail, Kind::Letter, arrived, Status::Done);
    }

    /// Only a chunk travels with a letter, and all of it.
    fn payload_fits(&self, msg: &Msg, has_payload: bool, arrived: &Arrived) -> bool {
        match msg {
            Msg::CopyReply { buf: Some(_), .. } => {
                let geometry = &self.superblock.geometry;
                let block = 1u64 << geometry.block_shift();
                let (there, chunk) =
                    (u64::from(arrived.incoming.execute.bytes), block << geometry.chunk_shift());
                has_payload && there > 0 && there <= chunk && there.is_multiple_of(block)
            }
            Msg::IoReply(..) => false,
            _ => !has_payload,
        }
    }

    /// A client asks for letters.
    pub(in crate::store) fn on_collect(
        &mut self,
        cx: &mut Cx,
        mail: &Mail,
        envelope: &Envelope,
        arrived: Arrived,
    ) {
        if let Err(status) = self.takes_requests() {
            return self.answer_status(cx, mail, Kind::Collect, arrived, status);
        }
        if envelope.from.is_some() || arrived.incoming.execute.direction != Direction::Read {
            return self.answer_status(cx, mail, Kind::Collect, arrived, Status::NotUnderstood);
        }
        let client = self.client(cx, mail, envelope.sender);
        if let Some(older) = self.clients.collect(client, arrived) {
            self.answer_status(cx, mail, Kind::Collect, older, Status::Done);
        }
        self.deliver(cx, mail, client);
    }

    /// Somebody says whom he means, and a client where the others are.
    pub(in crate::store) fn on_hail(
        &mut self,
        cx: &mut Cx,
        mail: &Mail,
        from: Option<MemberId>,
        peers: Vec<Peer>,
        arrived: Arrived,
    ) {
        let status = self.takes_requests().err().unwrap_or(Status::Done);
        if status == Status::Done && from.is_none() {
            self.links.set_peers(cx, &mail.hub, peers);
        }
        let superblock = self.superblock.encode();
        self.header.clear();
        Envelope { status, ..self.sender.envelope(None, Kind::Hail, superblock.len()) }
            .encode_to(&mut self.header);
        self.header.extend_from_slice(&superblock);
        self.answer(cx, mail, arrived, 0);
    }

    /// What came on this lane and waits for letters has nobody to go to.
    pub(in crate::store) fn on_lane_down(&mut self, cx: &mut Cx, mail: &Mail, lane: LaneAt) {
        while let Some(collect) = self.clients.take_of_lane(lane) {
            self.answer_status(cx, mail, Kind::Collect, collect, Status::Done);
        }
    }

    fn takes_requests(&self) -> Result<(), Status> {
        match self.phase {
            Phase::Open => Ok(()),
            Phase::Latched => Err(Status::Latched),
            Phase::Closing | Phase::Closed => Err(Status::NoPool),
        }
    }

    /// What the engine calls the client with this nonce.
    fn client(&mut self, cx: &mut Cx, mail: &Mail, nonce: u64) -> u32 {
        let no = self.clients.number(nonce);
        let asks = &self.asks;
        if let Some(collect) = self.clients.forget(|other| !asks.any_of(other)) {
            self.answer_status(cx, mail, Kind::Collect, collect, Status::Done);
        }
        no
    }
}
