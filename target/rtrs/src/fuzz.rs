//! What the fuzz targets of this crate run: any bytes as a stream of frames; any frames and events for either engine.

use crate::client::{self, Ask, Client, Config};
use crate::codec::{self, Expect, HEAD, Opened, Side};
use crate::frame::{
    Bye, ByeCause, Challenge, DATA_MAX, Frame, Hand, Hello, KeyName, Limits, Ping, Proof, Reply, Request,
    USER_MAX, Welcome,
};
use crate::hand::{Key, Transcript};
use crate::server::{
    Action, Answered, Event, Execute, Gate, GateAction, GateConfig, GateEvent, Place, Server, ServerConfig,
};
use crate::{BufId, ConnId, Direction, Fault, Id, Incarnation, Life, SlotNo, SlotUse, UserId, crc32c};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Takes the bytes as a stream of each side, as they are and with their checksums put right, before and after the
/// hand-shake.
///
/// # Panics
/// If the decoder breaks a promise: a frame that is not said again in the same bytes, or a length beyond the limits.
pub fn frames(data: &[u8]) {
    for from in [Side::Client, Side::Server] {
        let hand = Expect::hand(from);
        let plain = Expect { from, hand: false, digest: false, user_max: USER_MAX, data_max: DATA_MAX };
        for expect in
            [hand, plain, Expect { digest: true, ..plain }, Expect { user_max: 8, data_max: 9, ..plain }]
        {
            stream(data, &expect);
            stream(&mended(data), &expect);
        }
    }
}

fn stream(mut bytes: &[u8], expect: &Expect) {
    loop {
        match codec::open(bytes, expect) {
            Err(error) => return assert!(error.to_string().contains(": "), "{error:?} explains nothing"),
            Ok(Opened::Short(need)) => {
                assert!(
                    need > bytes.len() && need <= HEAD + usize::from(USER_MAX),
                    "{need} of {}",
                    bytes.len()
                );
                return;
            }
            Ok(Opened::Frame { frame, head, data, digest }) => {
                said_again(&frame, &bytes[..head], digest);
                assert!(data <= expect.data_max as usize && head - HEAD <= usize::from(USER_MAX));
                let Some(rest) = bytes.get(head + data..) else { return };
                bytes = rest;
            }
        }
    }
}

fn said_again(frame: &Frame, bytes: &[u8], digest: Option<u32>) {
    match frame {
        Frame::Hand(hand) => assert_eq!(codec::encode_hand(hand), bytes, "{frame:?}"),
        frame => assert_eq!(codec::head_of(frame, &bytes[HEAD..], digest), bytes[..HEAD], "{frame:?}"),
    }
}

/// The same stream with magic and checksums put right, as a peer that means harm would send it.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEAD) {
        let user = usize::from(u16::from_le_bytes([head[6], head[7]]));
        let long = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let end = (at + HEAD + user).min(bytes.len());
        let user_crc = crc32c(&bytes[at + HEAD..end]);
        let head = &mut bytes[at..at + HEAD];
        head[..4].copy_from_slice(b"RTS1");
        head[16..20].copy_from_slice(&user_crc.to_le_bytes());
        head[12..16].fill(0);
        let crc = crc32c(head);
        head[12..16].copy_from_slice(&crc.to_le_bytes());
        at += HEAD + user + long;
    }
    bytes
}

/// Bytes as choices; zeros when they have run out.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn at(&mut self) -> SlotUse {
        // Near what can be right, and now and then far from it.
        let (slot, use_no) = (self.next(), self.next());
        let use_no = if use_no > 250 { u32::MAX - u32::from(self.next()) } else { u32::from(use_no % 6) };
        SlotUse { slot: SlotNo(u16::from(slot % 6)), use_no }
    }
}

const LIMITS: Limits = Limits { lease_ns: 1000, data_max: 100, user_max: 8, depth: 4 };

/// What peers that have the key, or need none, may send a server: anything, in any order, with users that answer or do
/// not.
///
/// # Panics
/// If the server does, or its state is not as it must be.
pub fn server_events(data: &[u8]) {
    let mut choices = Choices(data);
    let config = ServerConfig { limits: LIMITS, keep_ns: 5000, lanes_max: 3, paths_max: 2, tick_ns: 100 };
    let mut peer = Peer::new(config);
    while !choices.0.is_empty() {
        peer.now += u64::from(choices.next() % 8) * 60;
        let conn = peer.conns.get(usize::from(choices.next() % 8)).copied().unwrap_or(ConnId(3));
        match choices.next() % 16 {
            0 | 1 => peer.connect(&mut choices),
            2..=7 => peer.request(conn, &mut choices),
            8 => {
                let stamp = peer.now.saturating_sub(u64::from(choices.next()) * 10);
                peer.frame(
                    conn,
                    Frame::Ping(Ping { seen: u32::from(choices.next() % 8), stamp, echo: stamp }),
                );
            }
            9 => {
                let at = choices.at();
                peer.frame(conn, Frame::Seen(at));
            }
            10 => {
                let bye = Bye { life: choices.next().is_multiple_of(2), why: ByeCause::Command };
                peer.frame(conn, Frame::Bye(bye));
            }
            11 | 12 => peer.answer(&mut choices),
            13 => peer.bind(),
            14 => peer.event(Event::Lost { conn, fault: Fault::EndOfStream }),
            _ => peer.event(Event::Tick),
        }
    }
}

struct Peer {
    now: u64,
    gate: Gate,
    server: Server,
    conns: Vec<ConnId>,
    executing: Vec<Execute>,
    actions: Vec<Action>,
    buffers: u32,
    /// And how large they are.
    held: Vec<(BufId, u32)>,
    nonce: u8,
}

impl Peer {
    fn new(config: ServerConfig) -> Self {
        let gate = Gate::new(GateConfig::new(Id([9; 16]), Arc::new(Key::NONE)));
        let (conns, executing, actions, held) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self {
            now: 10_000,
            gate,
            server: Server::new(config),
            conns,
            executing,
            actions,
            buffers: 0,
            held,
            nonce: 0,
        }
    }

    fn buf(&mut self, bytes: u32) -> BufId {
        assert!(bytes <= LIMITS.data_max, "memory for {bytes} bytes");
        self.buffers += 1;
        self.held.push((BufId(self.buffers), bytes));
        BufId(self.buffers)
    }

    /// A buffer that the server names is there and has this size.
    fn fits(&self, buf: BufId, bytes: u32) {
        assert!(self.held.contains(&(buf, bytes)), "{buf:?} is not one of {bytes} bytes: {:?}", self.held);
    }

    fn connect(&mut self, choices: &mut Choices<'_>) {
        if self.conns.len() >= 40 {
            return;
        }
        self.nonce += 1;
        let conn = ConnId(self.conns.len() as u64);
        let (session, path, number) = (choices.next() % 2, choices.next() % 3, choices.next() % 4);
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            lane: 0,
            lanes: 1,
            connection: u32::from(number),
            digest: false,
            incarnation: Incarnation(u64::from(choices.next() % 3)),
            session: Id([session; 16]),
            path: Id([path; 16]),
            host: Id([1; 16]),
            nonce: [7; 32],
            key: KeyName::NONE,
        };
        let mut out = Vec::new();
        let accepted = GateEvent::Accepted { conn, source: 1, loopback: true, nonce: [self.nonce; 32] };
        self.gate.on(self.now, accepted, &mut out);
        self.gate.on(self.now, GateEvent::Hand { conn, hand: Hand::Hello(hello) }, &mut out);
        let Some(GateAction::Send { hand: Hand::Challenge(challenge), .. }) = out.pop() else {
            panic!("a hello is challenged: {out:?}");
        };
        let known = choices.next();
        let life = known.is_multiple_of(3).then(|| Life(u64::from_le_bytes([known / 3 % 4; 8]).max(1)));
        let mut transcript = Transcript::new(hello, challenge);
        let proof = transcript.prove(&Key::NONE, Proof { life, mac: [0; 32] });
        self.gate.on(self.now, GateEvent::Hand { conn, hand: Hand::Proof(proof) }, &mut out);
        let Some(GateAction::Admit { admission, .. }) = out.pop() else {
            panic!("a proof is admitted: {out:?}")
        };
        self.conns.push(conn);
        self.event(Event::Admit { conn, admission });
    }

    fn request(&mut self, conn: ConnId, choices: &mut Choices<'_>) {
        let (at, kind) = (choices.at(), choices.next());
        let direction = if kind.is_multiple_of(2) { Direction::Read } else { Direction::Write };
        let bytes = u32::from(kind / 2 % 4) * 40;
        let (sending, seen) = (u32::from(choices.next() % 4), u32::from(choices.next() % 4));
        let request = Request { at, sending, user: UserId(0), direction, bytes, user_len: 8, seen };
        let buf = match self.server.place(conn, &request) {
            Place::Bind => choices.next().is_multiple_of(2).then(|| self.buf(request.bytes)),
            Place::Bound(buf) => {
                self.fits(buf, request.bytes);
                Some(buf)
            }
            Place::Drop | Place::Bare | Place::Queue => None,
        };
        self.event(Event::Request { conn, request, buf });
    }

    fn frame(&mut self, conn: ConnId, frame: Frame) {
        self.event(Event::Frame { conn, frame });
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        if self.executing.is_empty() {
            return;
        }
        let which = usize::from(choices.next()) % self.executing.len();
        let Execute { lane, at, bytes, direction, buf, .. } = self.executing.swap_remove(which);
        let bytes = if direction == Direction::Read { bytes } else { 0 };
        self.event(Event::Answer(Answered { lane, at, result: Ok(0), bytes, user_len: 0, buf }));
    }

    fn bind(&mut self) {
        if let Some(waiter) = self.server.waiting() {
            let buf = self.buf(waiter.bytes);
            self.event(Event::Bound { waiter, buf });
        }
    }

    fn event(&mut self, event: Event) {
        self.server.on(self.now, event, &mut self.actions);
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Execute(execute) => {
                    execute.buf.into_iter().for_each(|buf| self.fits(buf, execute.bytes));
                    self.executing.push(execute);
                }
                Action::Free(buf) | Action::Release { buf: Some(buf), .. } => {
                    let at = self.held.iter().position(|(held, _)| *held == buf);
                    self.held.swap_remove(at.unwrap_or_else(|| panic!("{buf:?} is let go twice")));
                }
                _ => {}
            }
        }
        self.server.check();
    }
}

/// What a server may send a client after the hand-shake: anything, in any order.
///
/// # Panics
/// If the client does, or its state is not as it must be.
pub fn client_events(data: &[u8]) {
    let mut choices = Choices(data);
    let mut host = Host::new();
    let user = host.client.attach(UserId(0));
    for path in 0..2 {
        host.client.add_path(0, Id([path; 16])).expect("few");
    }
    while !choices.0.is_empty() {
        host.now += u64::from(choices.next() % 4) * 40_000_000;
        let conn = host.conns.get(usize::from(choices.next() % 4)).copied().unwrap_or(ConnId(7));
        let frame = match choices.next() % 12 {
            0..=2 => {
                let (at, bytes) = (choices.at(), u32::from(choices.next() % 3) * 50);
                Frame::Reply(Reply { at, result: Ok(1), bytes, user_len: 0 })
            }
            3 => Frame::Wait(choices.at()),
            4 => Frame::Grant(choices.at()),
            5 => Frame::Pong { stamp: host.now, echo: host.now },
            6 => Frame::Bye(Bye { life: choices.next().is_multiple_of(4), why: ByeCause::Command }),
            7 | 8 => {
                let write = choices.next() % 2 == 1;
                host.submit(user, if write { Direction::Write } else { Direction::Read });
                continue;
            }
            9 => {
                host.event(client::Event::Lost { conn, fault: Fault::EndOfStream });
                continue;
            }
            10 => {
                let mut bytes = || u64::from(choices.next() % 8);
                let (came, acknowledged) = (bytes(), bytes());
                let signs = client::Signs { came, queued: acknowledged + bytes(), acknowledged };
                host.event(client::Event::Looked { conn, signs });
                continue;
            }
            _ => {
                host.event(client::Event::Tick);
                continue;
            }
        };
        host.event(client::Event::Frame { conn, frame });
    }
}

/// A client whose connections are made and welcomed at once.
struct Host {
    now: u64,
    client: Client,
    conns: Vec<ConnId>,
    permits: Vec<client::Permit>,
    out: Vec<client::Action>,
    tag: u64,
    under_way: HashSet<u64>,
    said: HashMap<ConnId, Transcript>,
    lives: u64,
}

impl Host {
    fn new() -> Self {
        Self {
            now: 1000,
            client: Client::new(Config::new(Id([1; 16]), Id([2; 16]), 0, 1), Key::NONE),
            conns: Vec::new(),
            permits: Vec::new(),
            out: Vec::new(),
            tag: 0,
            under_way: HashSet::new(),
            said: HashMap::new(),
            lives: 1,
        }
    }

    fn submit(&mut self, user: client::UserNo, direction: Direction) {
        let permit = self.permits.pop().or_else(|| self.client.permit(user).ok().flatten());
        let Some(permit) = permit else { return };
        self.tag += 1;
        let ask = Ask { tag: self.tag, direction, bytes: 50, user_len: 8 };
        if let Err((permit, _)) = self.client.submit(self.now, permit, ask, &mut self.out) {
            self.client.give_back(permit, &mut self.out);
        } else {
            self.under_way.insert(self.tag);
        }
        self.settle();
    }

    fn event(&mut self, event: client::Event) {
        self.client.on(self.now, event, &mut self.out);
        self.settle();
    }

    fn settle(&mut self) {
        while !self.out.is_empty() {
            for action in std::mem::take(&mut self.out) {
                self.act(action);
            }
        }
        self.client.check();
    }

    fn act(&mut self, action: client::Action) {
        match action {
            client::Action::Connect { conn, .. } => {
                self.conns.insert(0, conn);
                self.conns.truncate(4);
                let connected = client::Event::Connected { conn, nonce: [5; 32] };
                self.client.on(self.now, connected, &mut self.out);
            }
            client::Action::Send { conn, frame: Frame::Hand(hand) } => {
                if let Some(answer) = self.welcome(conn, &hand) {
                    let frame = Frame::Hand(Box::new(answer));
                    self.client.on(self.now, client::Event::Frame { conn, frame }, &mut self.out);
                }
            }
            client::Action::Complete { tag, .. } => assert!(self.under_way.remove(&tag), "{tag} ends twice"),
            client::Action::Permit { permit, .. } => self.permits.push(permit),
            client::Action::Link(client::Link::Dead { .. }) => {
                assert!(self.under_way.is_empty(), "requests outlive their life: {:?}", self.under_way);
                self.lives += 1;
                self.permits.clear();
            }
            _ => {}
        }
    }

    /// What a server answers in a hand-shake.
    fn welcome(&mut self, conn: ConnId, hand: &Hand) -> Option<Hand> {
        match hand {
            Hand::Hello(hello) => {
                let host = Id([3; 16]);
                let challenge = Challenge { version: 1, digest: true, host, nonce: [6; 32], stamp: self.now };
                self.said.insert(conn, Transcript::new(*hello, challenge));
                Some(Hand::Challenge(challenge))
            }
            Hand::Proof(proof) => {
                let mut transcript = self.said.remove(&conn)?;
                assert!(transcript.accept(&Key::NONE, *proof), "a client proves what it was asked");
                let (life, stamp) = (Life(self.lives), self.now);
                let welcome = Welcome { life, stamp, limits: LIMITS, mac: [0; 32] };
                let mac = transcript.welcome_mac(&Key::NONE, welcome);
                Some(Hand::Welcome(Welcome { mac, ..welcome }))
            }
            _ => None,
        }
    }
}

/// Takes `data` as the text of a path. Never panics; what is a path is written back as one that means the same.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<crate::sessions::PathSpec>() {
        Ok(path) => {
            assert!(path.to.port() != 0 && path.from.is_none_or(|from| from.is_ipv4() == path.to.is_ipv4()));
            let written = path.to_string();
            assert_eq!(written.parse(), Ok(path), "{text:?} is written back as {written:?}");
        }
        Err(error) => assert!(error.to_string().contains(crate::sessions::PATH_ACCEPTED), "{error}"),
    }
}
