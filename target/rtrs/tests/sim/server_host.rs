//! A server's process: gate and engine, its connections, its memory, and a user that does what it is asked.

use crate::net::{Secret, pattern};
use crate::pacing::Sender;
use crate::stream::Receiver;
use std::collections::HashMap;
use std::sync::Arc;
use tgt_rtrs::codec::{Expect, Side, encode_hand, head_of};
use tgt_rtrs::frame::{Frame, KeyName, Reply};
use tgt_rtrs::server::{
    Action, Answered, Event, Execute, Gate, GateAction, GateConfig, GateEvent, LaneRef, Link, Place, Server,
    ServerConfig,
};
use tgt_rtrs::{BufId, ConnId, Direction, Fault, Id, Key, SlotUse, crc32c};

/// What was said of a request at its header.
#[derive(Clone, Copy)]
struct Placed {
    keep: bool,
    buf: Option<BufId>,
}

struct Conn {
    wire: usize,
    receiver: Receiver<Option<Placed>>,
    digest: bool,
    proved: bool,
    came: u64,
    sender: Sender<Waiting>,
    /// Signs of it at the last look.
    looked: (u64, u64),
}

/// What waits to be sent.
enum Waiting {
    Frame(Vec<u8>),
    Reply(LaneRef, Reply),
}

/// User header, buffer, and bytes of data in it.
type KeptAnswer = (Vec<u8>, Option<BufId>, u32);

/// What the world has to do for it.
pub(crate) enum Out {
    Send {
        wire: usize,
        bytes: Vec<u8>,
    },
    Close {
        wire: usize,
    },
    /// The user was handed this.
    Execute {
        execute: Execute,
        tag: u64,
    },
    Up,
    Down,
}

pub(crate) struct ServerHost {
    gate: Gate,
    pub(crate) engine: Server,
    config: ServerConfig,
    conns: HashMap<ConnId, Conn>,
    places: Vec<u32>,
    /// Buffers, and which are free.
    memory: Vec<Vec<u8>>,
    pub(crate) free: Vec<BufId>,
    /// User headers of requests and answers.
    pub(crate) headers: HashMap<(LaneRef, SlotUse), Vec<u8>>,
    answers: HashMap<(LaneRef, SlotUse), KeptAnswer>,
    gate_actions: Vec<GateAction>,
    actions: Vec<Action>,
    bytes_max: u32,
    pub(crate) refused: u64,
    pub(crate) starved: u64,
}

impl ServerHost {
    pub(crate) fn new(
        config: ServerConfig,
        key: Option<Secret>,
        digest: bool,
        buffers: usize,
        buffer_bytes: usize,
    ) -> Self {
        let key = key.map_or(Key::NONE, |key| Key::new(KeyName::new("k").expect("short"), Box::new(key)));
        let insecure = key.name().is_none();
        let gate = GateConfig { insecure, digest, ..GateConfig::new(Id([9; 16]), Arc::new(key)) };
        Self {
            gate: Gate::new(gate),
            engine: Server::new(config.clone()),
            config,
            conns: HashMap::new(),
            places: Vec::new(),
            memory: vec![vec![0; buffer_bytes]; buffers],
            free: (0..buffers as u32).map(BufId).collect(),
            headers: HashMap::new(),
            answers: HashMap::new(),
            gate_actions: Vec::new(),
            actions: Vec::new(),
            bytes_max: buffer_bytes as u32,
            refused: 0,
            starved: 0,
        }
    }

    pub(crate) fn accepted(&mut self, now: u64, wire: usize, nonce: [u8; 32], out: &mut Vec<Out>) {
        let taken: Vec<u32> = self.conns.keys().map(|conn| conn.0 as u32).collect();
        let place = (0..).find(|place| !taken.contains(place)).expect("a place");
        if self.places.len() <= place as usize {
            self.places.resize(place as usize + 1, 0);
        }
        self.places[place as usize] += 1;
        let conn = ConnId(u64::from(self.places[place as usize]) << 32 | u64::from(place));
        let receiver = Receiver::new(Expect::hand(Side::Client));
        let (sender, looked) = (Sender::new(self.bytes_max), (0, 0));
        let conn_of_it = Conn { wire, receiver, digest: false, proved: false, came: 0, sender, looked };
        self.conns.insert(conn, conn_of_it);
        let event = GateEvent::Accepted { conn, source: 1, loopback: false, nonce };
        self.gate.on(now, event, &mut self.gate_actions);
        self.settle(now, out);
    }

    pub(crate) fn conn_of(&self, wire: usize) -> Option<ConnId> {
        self.conns.iter().find(|(_, conn)| conn.wire == wire).map(|(id, _)| *id)
    }

    pub(crate) fn lost(&mut self, now: u64, id: ConnId, fault: Fault, out: &mut Vec<Out>) {
        if let Some(mut conn) = self.conns.remove(&id) {
            self.abandon(&mut conn);
            match conn.proved {
                true => self.engine.on(now, Event::Lost { conn: id, fault }, &mut self.actions),
                false => self.gate.on(now, GateEvent::Lost { conn: id }, &mut self.gate_actions),
            }
        }
        self.settle(now, out);
    }

    /// A stream ends in the middle of data: its buffer goes free.
    fn abandon(&mut self, conn: &mut Conn) {
        if let Some(Some(Placed { buf: Some(buf), .. })) = conn.receiver.abandon() {
            self.release(buf);
        }
    }

    fn release(&mut self, buf: BufId) {
        assert!(!self.free.contains(&buf), "{buf:?} is free twice");
        self.memory[buf.0 as usize].fill(0xee);
        self.free.push(buf);
    }

    /// Looks at how far the connections have come; `acknowledged` knows what the other host has of a wire's bytes.
    fn look_at_all(&mut self, now: u64, acknowledged: impl Fn(usize) -> u64, out: &mut Vec<Out>) {
        let proved: Vec<ConnId> =
            self.conns.iter().filter(|(_, conn)| conn.proved).map(|(id, _)| *id).collect();
        for id in proved {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            let signs = (conn.came, acknowledged(conn.wire));
            conn.sender.look(now, signs.1);
            if std::mem::replace(&mut conn.looked, signs) != signs {
                self.engine.on(now, Event::Heard { conn: id }, &mut self.actions);
            }
            self.drain(id, out);
        }
    }

    /// Sends what waits on a connection, as far as it may; before its end all but data.
    fn drain(&mut self, id: ConnId, out: &mut Vec<Out>) {
        while let Some(conn) = self.conns.get_mut(&id) {
            let admits = conn.sender.admits();
            let may_go = |waiting: &mut Waiting| admits || matches!(waiting, Waiting::Frame(_));
            let Some(waiting) = conn.sender.waiting.pop_front_if(may_go) else { return };
            let (wire, digest) = (conn.wire, conn.digest);
            let bytes = match waiting {
                Waiting::Frame(bytes) => bytes,
                Waiting::Reply(lane, reply) => match self.reply_bytes(lane, reply, digest) {
                    Some(bytes) => bytes,
                    None => continue,
                },
            };
            self.conns.get_mut(&id).expect("just there").sender.sent(bytes.len());
            out.push(Out::Send { wire, bytes });
        }
    }

    /// What the client has meanwhile said it has is not kept any more.
    fn reply_bytes(&self, lane: LaneRef, reply: Reply, digest: bool) -> Option<Vec<u8>> {
        let kept = self.answers.get(&(lane, reply.at)).filter(|_| self.engine.is_answered(lane, reply.at));
        let (header, buf, bytes) = kept?;
        let data = buf.map_or(&[][..], |buf| &self.memory[buf.0 as usize][..*bytes as usize]);
        let head = head_of(&Frame::Reply(reply), header, digest.then(|| crc32c(data)));
        Some([&head[..], header, data].concat())
    }

    pub(crate) fn tick(&mut self, now: u64, acknowledged: impl Fn(usize) -> u64, out: &mut Vec<Out>) {
        self.look_at_all(now, acknowledged, out);
        self.gate.on(now, GateEvent::Tick, &mut self.gate_actions);
        self.engine.on(now, Event::Tick, &mut self.actions);
        self.settle(now, out);
    }

    pub(crate) fn next_timeout(&self) -> Option<u64> {
        [self.gate.next_timeout(), self.engine.next_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn received(&mut self, now: u64, id: ConnId, bytes: &[u8], out: &mut Vec<Out>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.receiver.push(bytes);
            conn.came += bytes.len() as u64;
            if conn.proved {
                self.engine.on(now, Event::Heard { conn: id }, &mut self.actions);
            }
        }
        while let Some(conn) = self.conns.get_mut(&id) {
            let (engine, free, starved) = (&mut self.engine, &mut self.free, &mut self.starved);
            let next = conn.receiver.next(|frame, _| {
                let Frame::Request(request) = frame else { return None };
                let mut bind = || {
                    *starved += u64::from(free.is_empty());
                    free.pop()
                };
                Some(match engine.place(id, request) {
                    Place::Drop => Placed { keep: false, buf: None },
                    Place::Bare | Place::Queue => Placed { keep: true, buf: None },
                    Place::Bind => Placed { keep: true, buf: bind() },
                    Place::Bound(buf) => Placed { keep: true, buf: Some(buf) },
                })
            });
            match next {
                Ok(None) => break,
                Ok(Some(whole)) => self.take(now, id, whole),
                // Bytes of others' making: those that play old streams again.
                Err(fault) => {
                    self.refused += 1;
                    let wire = conn.wire;
                    self.lost(now, id, fault, out);
                    out.push(Out::Close { wire });
                }
            }
            self.settle(now, out);
        }
        self.settle(now, out);
    }

    fn take(&mut self, now: u64, id: ConnId, whole: crate::stream::Whole<Option<Placed>>) {
        let crate::stream::Whole { frame, user, data, note } = whole;
        match frame {
            Frame::Hand(hand) => {
                self.gate.on(now, GateEvent::Hand { conn: id, hand: *hand }, &mut self.gate_actions)
            }
            Frame::Request(request) => {
                let placed = note.expect("asked at its header");
                let lane = self.engine.lane_of(id);
                if let (Some(buf), Direction::Write) = (placed.buf, request.direction) {
                    self.memory[buf.0 as usize][..data.len()].copy_from_slice(&data);
                }
                if let (true, Some(lane)) = (placed.keep, lane) {
                    self.headers.insert((lane, request.at), user);
                }
                self.engine.on(now, Event::Request { conn: id, request, buf: placed.buf }, &mut self.actions);
            }
            frame => self.engine.on(now, Event::Frame { conn: id, frame }, &mut self.actions),
        }
    }

    /// The user is done with it.
    pub(crate) fn answer(&mut self, now: u64, execute: Execute, tag: u64, out: &mut Vec<Out>) {
        let bytes = if execute.direction == Direction::Read { execute.bytes } else { 0 };
        if let (Some(buf), true) = (execute.buf, bytes > 0) {
            self.memory[buf.0 as usize][..bytes as usize].copy_from_slice(&pattern(tag ^ 1, bytes as usize));
        }
        let header = tag.to_le_bytes().to_vec();
        let (lane, at, buf) = (execute.lane, execute.at, execute.buf);
        let answered =
            Answered { lane, at, result: Ok(tag as u16), bytes, user_len: header.len() as u16, buf };
        self.answers.insert((lane, at), (header, buf, bytes));
        self.engine.on(now, Event::Answer(answered), &mut self.actions);
        self.settle(now, out);
    }

    fn settle(&mut self, now: u64, out: &mut Vec<Out>) {
        loop {
            for action in std::mem::take(&mut self.gate_actions) {
                self.act_gate(now, action, out);
            }
            for action in std::mem::take(&mut self.actions) {
                self.act(action, out);
            }
            if let Some(waiter) = self.engine.waiting()
                && let Some(buf) = self.free.pop()
            {
                self.engine.on(now, Event::Bound { waiter, buf }, &mut self.actions);
            }
            if self.gate_actions.is_empty() && self.actions.is_empty() {
                break;
            }
        }
        self.engine.check();
    }

    fn act_gate(&mut self, now: u64, action: GateAction, out: &mut Vec<Out>) {
        match action {
            GateAction::Send { conn, hand } => {
                if let Some(to) = self.conns.get_mut(&conn) {
                    if let tgt_rtrs::frame::Hand::Challenge(challenge) = &hand {
                        to.digest = challenge.digest;
                    }
                    let bytes = encode_hand(&hand);
                    to.sender.sent(bytes.len());
                    out.push(Out::Send { wire: to.wire, bytes });
                }
            }
            GateAction::Close { conn, .. } => {
                self.refused += 1;
                if let Some(conn) = self.conns.remove(&conn) {
                    out.push(Out::Close { wire: conn.wire });
                }
            }
            GateAction::Admit { conn, admission } => {
                let to = self.conns.get_mut(&conn).expect("it was just heard");
                to.proved = true;
                let limits = self.config.limits;
                to.receiver.expect = Expect {
                    from: Side::Client,
                    hand: false,
                    digest: to.digest,
                    user_max: limits.user_max,
                    data_max: limits.data_max,
                };
                self.engine.on(now, Event::Admit { conn, admission }, &mut self.actions);
            }
        }
    }

    fn act(&mut self, action: Action, out: &mut Vec<Out>) {
        match action {
            Action::Send { conn, frame } => {
                let Some(to) = self.conns.get_mut(&conn) else { return };
                let bytes = bytes_of(&frame);
                if matches!(frame, Frame::Pong { .. }) {
                    to.sender.sent(bytes.len());
                    return out.push(Out::Send { wire: to.wire, bytes });
                }
                to.sender.waiting.push_back(Waiting::Frame(bytes));
                self.drain(conn, out);
            }
            Action::Reply { conn, lane, reply } => {
                assert!(self.answers.contains_key(&(lane, reply.at)), "what is answered is kept");
                let Some(to) = self.conns.get_mut(&conn) else { return };
                to.sender.waiting.push_back(Waiting::Reply(lane, reply));
                self.drain(conn, out);
            }
            Action::Close { conn, .. } => {
                if let Some(mut conn) = self.conns.remove(&conn) {
                    self.abandon(&mut conn);
                    for waiting in conn.sender.waiting.drain(..) {
                        // What data there is no room for is left out before the end.
                        if let Waiting::Frame(bytes) = waiting {
                            out.push(Out::Send { wire: conn.wire, bytes });
                        }
                    }
                    out.push(Out::Close { wire: conn.wire });
                }
            }
            Action::Execute(execute) => {
                let header = self.headers.get(&(execute.lane, execute.at)).expect("kept from its arrival");
                let tag = u64::from_le_bytes(header[..].try_into().expect("8 bytes"));
                if execute.direction == Direction::Write && execute.bytes > 0 {
                    let buf = execute.buf.expect("data lies somewhere");
                    let data = &self.memory[buf.0 as usize][..execute.bytes as usize];
                    assert_eq!(data, pattern(tag, data.len()), "the data of another request");
                }
                out.push(Out::Execute { execute, tag });
            }
            Action::Release { lane, at, buf } => {
                self.headers.remove(&(lane, at));
                self.answers.remove(&(lane, at));
                buf.into_iter().for_each(|buf| self.release(buf));
            }
            Action::Free(buf) => self.release(buf),
            Action::Link(Link::Up { .. }) => out.push(Out::Up),
            Action::Link(Link::Down { .. }) => out.push(Out::Down),
        }
    }
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Hand(hand) => encode_hand(hand),
        frame => head_of(frame, &[], None).to_vec(),
    }
}
