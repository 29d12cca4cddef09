//! A client's lane and a server, joined by hand: frames go where the test takes them.

use std::collections::VecDeque;
use std::sync::Arc;
use tgt_rtrs::client::{self, Client, Config, UserNo};
use tgt_rtrs::frame::{Frame, Hand, KeyName, Limits, Request};
use tgt_rtrs::server::{self, Gate, GateAction, GateConfig, GateEvent, Server, ServerConfig};
use tgt_rtrs::{BufId, ConnId, Id, Key, PathNo, UserId};

pub(crate) const MS: u64 = 1_000_000;

/// Says whether two have the same key, and nothing more.
pub(crate) struct Secret(pub(crate) u8);

impl tgt_rtrs::Secret for Secret {
    fn hmac_sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = [self.0; 32];
        mac[..4].copy_from_slice(&tgt_rtrs::crc32c(&parts.concat()).to_le_bytes());
        mac
    }
}

pub(crate) fn key(secret: u8) -> Key {
    Key::new(KeyName::new("k").expect("short"), Box::new(Secret(secret)))
}

pub(crate) struct Pair {
    pub(crate) now: u64,
    pub(crate) client: Client,
    pub(crate) gate: Gate,
    pub(crate) server: Server,
    pub(crate) user: UserNo,
    /// Frames on their way, by direction. A test may take some out, or put some back.
    pub(crate) to_server: VecDeque<(ConnId, Frame)>,
    pub(crate) to_client: VecDeque<(ConnId, Frame)>,
    pub(crate) links: Vec<client::Link>,
    pub(crate) completed: Vec<(u64, Result<client::Answer, client::SessionDead>)>,
    pub(crate) permits: Vec<client::Permit>,
    pub(crate) executed: VecDeque<server::Execute>,
    pub(crate) closed: Vec<(&'static str, tgt_rtrs::Fault)>,
    pub(crate) released: u64,
    pub(crate) pings: u64,
    pub(crate) proved: Vec<ConnId>,
    pub(crate) dials: u64,
    /// Connections that the test made deaf and dumb.
    pub(crate) cut: Vec<ConnId>,
    /// What the streams of all connections show.
    pub(crate) signs: client::Signs,
    /// New connections get nowhere.
    pub(crate) dark: bool,
    client_actions: Vec<client::Action>,
    server_actions: Vec<server::Action>,
    gate_actions: Vec<GateAction>,
    nonce: u8,
}

impl Pair {
    pub(crate) fn new(paths: usize, depth: u16) -> Self {
        Self::with(paths, depth, Key::NONE, Key::NONE)
    }

    pub(crate) fn with(paths: usize, depth: u16, ours: Key, theirs: Key) -> Self {
        let config = Config::new(Id([1; 16]), Id([2; 16]), 0, 1);
        let mut client = Client::new(config, ours);
        let user = client.attach(UserId(0));
        for path in 0..paths {
            client.add_path(0, Id([10 + path as u8; 16])).expect("few");
        }
        let gate = GateConfig { insecure: true, ..GateConfig::new(Id([3; 16]), Arc::new(theirs)) };
        let limits = Limits { lease_ns: 3000 * MS, data_max: 1 << 20, user_max: 64, depth };
        Self {
            now: 1000 * MS,
            client,
            gate: Gate::new(gate),
            server: Server::new(ServerConfig { limits, ..ServerConfig::default() }),
            user,
            to_server: VecDeque::with_capacity(64),
            to_client: VecDeque::with_capacity(64),
            links: Vec::new(),
            completed: Vec::with_capacity(64),
            permits: Vec::new(),
            executed: VecDeque::with_capacity(64),
            closed: Vec::new(),
            released: 0,
            pings: 0,
            proved: Vec::new(),
            dials: 0,
            cut: Vec::new(),
            signs: client::Signs::default(),
            dark: false,
            client_actions: Vec::with_capacity(64),
            server_actions: Vec::with_capacity(64),
            gate_actions: Vec::new(),
            nonce: 0,
        }
    }

    /// Connects what wants to be connected and lets all frames pass.
    pub(crate) fn tick(&mut self) {
        self.client.on(self.now, client::Event::Tick, &mut self.client_actions);
        self.server.on(self.now, server::Event::Tick, &mut self.server_actions);
        self.gate.on(self.now, GateEvent::Tick, &mut self.gate_actions);
        self.settle();
        self.pass();
    }

    /// As [`Self::tick`], with every frame shown to `change` first.
    pub(crate) fn tick_with(&mut self, change: impl Fn(&mut Frame)) {
        self.client.on(self.now, client::Event::Tick, &mut self.client_actions);
        self.server.on(self.now, server::Event::Tick, &mut self.server_actions);
        self.settle();
        while !self.to_server.is_empty() || !self.to_client.is_empty() {
            if let Some((conn, mut frame)) = self.to_server.pop_front() {
                change(&mut frame);
                self.reach_server(conn, frame);
            }
            if let Some((conn, mut frame)) = self.to_client.pop_front() {
                change(&mut frame);
                self.reach_client(conn, frame);
            }
        }
    }

    /// The client's time passes; nothing is delivered.
    pub(crate) fn tick_client(&mut self) {
        self.client.on(self.now, client::Event::Tick, &mut self.client_actions);
        self.settle();
    }

    /// The server has forgotten all its lanes.
    pub(crate) fn forget(&mut self) {
        let limits = Limits { lease_ns: 3000 * MS, data_max: 1 << 20, user_max: 64, depth: 4 };
        self.server = Server::new(ServerConfig { limits, ..ServerConfig::default() });
    }

    /// Time passes, in steps in which nothing is late.
    pub(crate) fn wait(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.now += 5 * MS;
            self.tick();
        }
    }

    /// Lets all frames pass that are on their way.
    pub(crate) fn pass(&mut self) {
        while !self.to_server.is_empty() || !self.to_client.is_empty() {
            if let Some((conn, frame)) = self.to_server.pop_front() {
                self.reach_server(conn, frame);
            }
            if let Some((conn, frame)) = self.to_client.pop_front() {
                self.reach_client(conn, frame);
            }
        }
    }

    pub(crate) fn reach_server(&mut self, conn: ConnId, frame: Frame) {
        if self.cut.contains(&conn) {
            return;
        }
        let place = server_conn(conn);
        match frame {
            Frame::Hand(hand) => {
                let event = GateEvent::Hand { conn: place, hand: *hand };
                self.gate.on(self.now, event, &mut self.gate_actions);
            }
            Frame::Request(request) => {
                let buf = match self.server.place(place, &request) {
                    server::Place::Bind => Some(BufId(u32::from(request.at.slot.0))),
                    server::Place::Bound(buf) => Some(buf),
                    _ => None,
                };
                let event = server::Event::Request { conn: place, request, buf };
                self.server.on(self.now, event, &mut self.server_actions);
            }
            frame => self.server.on(
                self.now,
                server::Event::Frame { conn: place, frame },
                &mut self.server_actions,
            ),
        }
        self.settle();
    }

    /// What the server would do with the bytes of this.
    pub(crate) fn place(&mut self, conn: ConnId, request: &Request) -> server::Place {
        self.server.place(server_conn(conn), request)
    }

    /// A write reaches a server that has memory for it only afterwards.
    pub(crate) fn starve(&mut self, conn: ConnId, request: Request) {
        let conn = server_conn(conn);
        assert_eq!(self.server.place(conn, &request), server::Place::Bind);
        self.server.on(
            self.now,
            server::Event::Request { conn, request, buf: None },
            &mut self.server_actions,
        );
        let waiter = self.server.waiting().expect("it waits");
        let event = server::Event::Bound { waiter, buf: BufId(0) };
        self.server.on(self.now, event, &mut self.server_actions);
        self.settle();
    }

    pub(crate) fn reach_client(&mut self, conn: ConnId, frame: Frame) {
        if !self.cut.contains(&conn) {
            self.client.on(self.now, client::Event::Frame { conn, frame }, &mut self.client_actions);
            self.settle();
        }
    }

    pub(crate) fn submit(&mut self, tag: u64, direction: tgt_rtrs::Direction, bytes: u32) {
        let permit = self.client.permit(self.user).expect("a life").expect("a permit");
        self.submit_with(permit, tag, direction, bytes);
    }

    pub(crate) fn submit_with(
        &mut self,
        permit: client::Permit,
        tag: u64,
        direction: tgt_rtrs::Direction,
        bytes: u32,
    ) {
        let ask = client::Ask { tag, direction, bytes, user_len: 8 };
        self.client.submit(self.now, permit, ask, &mut self.client_actions).expect("taken");
        self.settle();
    }

    /// The server's user answers what it was handed first.
    pub(crate) fn answer(&mut self) {
        let server::Execute { lane, at, buf, .. } = self.executed.pop_front().expect("something to answer");
        let answered = server::Answered { lane, at, result: Ok(7), bytes: 0, user_len: 8, buf };
        self.server.on(self.now, server::Event::Answer(answered), &mut self.server_actions);
        self.settle();
    }

    pub(crate) fn conn(&self, path: u16) -> ConnId {
        *self.proved.iter().rfind(|conn| conn.0 as u16 == path).expect("it was up once")
    }

    pub(crate) fn lose(&mut self, conn: ConnId) {
        let fault = tgt_rtrs::Fault::EndOfStream;
        self.client.on(self.now, client::Event::Lost { conn, fault }, &mut self.client_actions);
        self.settle();
    }

    pub(crate) fn end_life(&mut self) {
        self.client.end_life(self.now, &mut self.client_actions);
        self.settle();
    }

    fn settle(&mut self) {
        while !(self.client_actions.is_empty()
            && self.server_actions.is_empty()
            && self.gate_actions.is_empty())
        {
            let mut actions = std::mem::take(&mut self.client_actions);
            actions.drain(..).for_each(|action| self.act(action));
            if self.client_actions.is_empty() {
                self.client_actions = actions;
            }
            let mut actions = std::mem::take(&mut self.server_actions);
            actions.drain(..).for_each(|action| self.act_server(action));
            if self.server_actions.is_empty() {
                self.server_actions = actions;
            }
            let mut actions = std::mem::take(&mut self.gate_actions);
            actions.drain(..).for_each(|action| self.act_gate(action));
            if self.gate_actions.is_empty() {
                self.gate_actions = actions;
            }
        }
    }

    fn act(&mut self, action: client::Action) {
        match action {
            client::Action::Connect { conn, path } => self.connect(conn, path),
            client::Action::Send { conn, frame } => {
                self.pings += u64::from(matches!(frame, Frame::Ping(_)));
                self.to_server.push_back((conn, frame));
            }
            client::Action::Look { conn } => {
                let event = client::Event::Looked { conn, signs: self.signs };
                self.client.on(self.now, event, &mut self.client_actions);
            }
            client::Action::Close { fault, .. } => self.closed.push(("client", fault)),
            client::Action::Complete { tag, result, .. } => self.completed.push((tag, result)),
            client::Action::Permit { permit, .. } => self.permits.push(permit),
            client::Action::Link(link) => self.links.push(link),
            client::Action::Path(_) => {}
        }
    }

    fn connect(&mut self, conn: ConnId, _: PathNo) {
        self.dials += 1;
        if self.dark {
            return;
        }
        self.nonce += 1;
        let nonce = [self.nonce; 32];
        let accepted = GateEvent::Accepted { conn: server_conn(conn), source: 5, loopback: true, nonce };
        self.gate.on(self.now, accepted, &mut self.gate_actions);
        self.client.on(self.now, client::Event::Connected { conn, nonce }, &mut self.client_actions);
    }

    fn act_server(&mut self, action: server::Action) {
        match action {
            server::Action::Send { conn, frame } => self.to_client.push_back((client_conn(conn), frame)),
            server::Action::Reply { conn, reply, .. } => {
                self.to_client.push_back((client_conn(conn), Frame::Reply(reply)));
            }
            server::Action::Close { fault, .. } => self.closed.push(("server", fault)),
            server::Action::Execute(execute) => self.executed.push_back(execute),
            server::Action::Release { .. } => self.released += 1,
            server::Action::Free(_) | server::Action::Link(_) => {}
        }
    }

    fn act_gate(&mut self, action: GateAction) {
        match action {
            GateAction::Send { conn, hand } => {
                self.to_client.push_back((client_conn(conn), Frame::Hand(Box::<Hand>::new(hand))));
            }
            GateAction::Close { fault, .. } => self.closed.push(("gate", fault)),
            GateAction::Admit { conn, admission } => {
                self.proved.push(client_conn(conn));
                self.server.on(self.now, server::Event::Admit { conn, admission }, &mut self.server_actions);
            }
        }
    }
}

/// The server's number of a connection has its place in the low half.
fn server_conn(conn: ConnId) -> ConnId {
    ConnId((conn.0 & 0xffff) << 32 | (conn.0 >> 16))
}

fn client_conn(conn: ConnId) -> ConnId {
    ConnId((conn.0 & 0xffff_ffff) << 16 | (conn.0 >> 32))
}
