//! Hosts, network, time and faults, from one seed; and what must hold whatever happens.

use crate::client_host::{self, ClientHost};
use crate::net::{Piece, Secret, To, Wire};
use crate::server_host::{self, ServerHost};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use tgt_rtrs::client::{Config, Link, Policy};
use tgt_rtrs::frame::Limits;
use tgt_rtrs::server::{Execute, ServerConfig};
use tgt_rtrs::{ConnId, Direction, Fault, Id};

const MS: u64 = 1_000_000;

/// What a seed switches on.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) clients: usize,
    pub(crate) paths: usize,
    pub(crate) users: usize,
    pub(crate) depth: u16,
    pub(crate) buffers: usize,
    pub(crate) bytes_max: u32,
    pub(crate) requests: u64,
    pub(crate) gap_ns: u64,
    pub(crate) delay_ns: u64,
    /// How long a byte takes on the first path of each client; 0 = no time.
    pub(crate) byte_ns: u64,
    pub(crate) service_ns: u64,
    pub(crate) policy: Policy,
    pub(crate) keyed: bool,
    pub(crate) digest: bool,
    /// Rates of the hosts' clocks, per mille; the server's is the first.
    pub(crate) clocks: Vec<u64>,
    /// Faults, each by its weight; and the pause between two.
    pub(crate) faults: Vec<FaultKind>,
    pub(crate) fault_gap_ns: u64,
    pub(crate) faulty_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FaultKind {
    Reset,
    ResetAll,
    Cut,
    CutOneWay,
    CutAll,
    CutLong,
    PauseServer,
    PauseClient,
    RestartServer,
    RestartClient,
    Replay,
    EndLife,
    Path,
}

impl Options {
    /// What `seed` stands for.
    pub(crate) fn swarm(seed: u64) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed ^ 0x5e55);
        use FaultKind::*;
        let all = [
            Reset,
            ResetAll,
            Cut,
            CutOneWay,
            CutAll,
            CutLong,
            PauseServer,
            PauseClient,
            RestartServer,
            RestartClient,
            Replay,
            EndLife,
            Path,
        ];
        let faults = all.into_iter().filter(|_| rng.u8(..) < 100).collect();
        let clients = rng.usize(1..=3);
        Self {
            clients,
            paths: rng.usize(1..=4),
            users: rng.usize(1..=3),
            depth: *rng.choice(&[1, 2, 3, 8, 32]).expect("some"),
            buffers: rng.usize(1..=12),
            bytes_max: *rng.choice(&[0, 100, 5000]).expect("some"),
            requests: rng.u64(50..400),
            gap_ns: *rng.choice(&[MS / 10, MS, 20 * MS]).expect("some"),
            delay_ns: *rng.choice(&[MS / 50, MS, 30 * MS]).expect("some"),
            byte_ns: *rng.choice(&[0, 0, 0, 0, 20_000, 400_000]).expect("some"),
            service_ns: *rng.choice(&[MS / 10, 5 * MS, 400 * MS]).expect("some"),
            policy: *rng
                .choice(&[Policy::RoundRobin, Policy::MinInflight, Policy::MinLatency])
                .expect("some"),
            keyed: rng.bool(),
            digest: rng.bool(),
            clocks: (0..=clients).map(|_| rng.u64(900..1150)).collect(),
            faults,
            fault_gap_ns: *rng.choice(&[20 * MS, 200 * MS, 2000 * MS]).expect("some"),
            faulty_ns: rng.u64(1..20) * 1000 * MS,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) requests: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) executed: u64,
    pub(crate) deaths: u64,
    pub(crate) stalls: u64,
    pub(crate) resends: u64,
    /// Times a path fell, or could not come up.
    pub(crate) path_faults: u64,
    pub(crate) starved: u64,
    pub(crate) refused: u64,
    /// Requests that failed and had been executed.
    pub(crate) failed_executed: u64,
    pub(crate) faults: BTreeMap<String, u64>,
}

impl Stats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.failed += other.failed;
        self.executed += other.executed;
        self.deaths += other.deaths;
        self.stalls += other.stalls;
        self.resends += other.resends;
        self.path_faults += other.path_faults;
        self.starved += other.starved;
        self.refused += other.refused;
        self.failed_executed += other.failed_executed;
        for (name, count) in &other.faults {
            *self.faults.entry(name.clone()).or_default() += count;
        }
    }

    /// What happens seldom and must happen in many seeds.
    pub(crate) fn rare(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("answers", self.answered),
            ("failed requests", self.failed),
            ("failed requests that had been executed", self.failed_executed),
            ("deaths", self.deaths),
            ("stalls", self.stalls),
            ("resends", self.resends),
            ("lack of memory", self.starved),
            ("refusals", self.refused),
            ("all kinds of faults", u64::from(self.faults.len() >= 13)),
        ]
    }
}

enum Ev {
    Connected { client: usize, run: u64, conn: ConnId, path: usize },
    Deliver { wire: usize, to: To },
    TickClient { client: usize },
    TickServer,
    Submit { client: usize },
    Answer { run: u64, execute: Execute, tag: u64 },
    Fault,
}

/// Where a request stands, for the checker.
#[derive(Clone, Copy, Default, Debug)]
struct Fate {
    client: usize,
    executed: bool,
    failed: bool,
    done: bool,
    /// Its client's process is gone.
    orphan: bool,
    /// A user of the server has it.
    at_user: bool,
}

#[derive(Clone, Copy, Default)]
struct Route {
    /// Nothing passes before this, by direction.
    cut: [u64; 2],
}

struct Process<T> {
    host: T,
    /// How-manieth process of this host.
    run: u64,
    stopped_until: u64,
    tick_at: u64,
}

pub(crate) struct World {
    options: Options,
    rng: fastrand::Rng,
    trace: bool,
    now: u64,
    serial: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: HashMap<usize, Ev>,
    clients: Vec<Process<ClientHost>>,
    server: Process<ServerHost>,
    wires: Vec<Option<Wire>>,
    routes: Vec<Vec<Route>>,
    fates: Vec<Fate>,
    calm: bool,
    left: Vec<u64>,
    old_streams: Vec<Vec<u8>>,
    pub(crate) stats: Stats,
}

impl World {
    pub(crate) fn new(options: Options, seed: u64, trace: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let server = Process { host: new_server(&options), run: 0, stopped_until: 0, tick_at: 0 };
        let clients = (0..options.clients)
            .map(|no| Process {
                host: new_client(&options, no, &mut rng),
                run: 0,
                stopped_until: 0,
                tick_at: 0,
            })
            .collect();
        Self {
            routes: vec![vec![Route::default(); options.paths + 8]; options.clients],
            left: vec![options.requests; options.clients],
            options,
            rng,
            trace,
            now: MS,
            serial: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            clients,
            server,
            wires: Vec::new(),
            fates: Vec::new(),
            calm: false,
            old_streams: Vec::new(),
            stats: Stats::default(),
        }
    }

    pub(crate) fn run(&mut self) {
        for client in 0..self.clients.len() {
            self.at(0, Ev::Submit { client });
            self.at(0, Ev::TickClient { client });
        }
        self.at(0, Ev::TickServer);
        self.at(self.options.fault_gap_ns, Ev::Fault);
        let faulty = self.now + self.options.faulty_ns;
        self.run_until(faulty, |_| false);
        self.heal();
        // One after the other, if there is one slot or buffer.
        let options = &self.options;
        let slow = options.byte_ns * u64::from(2 * options.bytes_max + 1000);
        let each = 2 * options.service_ns + 10 * options.delay_ns + options.gap_ns + slow;
        let end = self.now + 60_000 * MS + options.requests * options.clients as u64 * each;
        self.run_until(end, World::is_over);
        assert!(self.is_over(), "not over long after the last fault: {}", self.what_is_left());
        self.is_clean();
    }

    fn run_until(&mut self, end: u64, over: impl Fn(&Self) -> bool) {
        while let Some(&Reverse((at, _, id))) = self.queue.peek() {
            if at > end || over(self) {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            let event = self.events.remove(&id).expect("an event of the queue");
            self.step(event);
        }
        if !over(self) {
            self.now = self.now.max(end);
        }
    }

    fn at(&mut self, after: u64, event: Ev) {
        self.serial += 1;
        let id = self.serial as usize;
        self.events.insert(id, event);
        self.queue.push(Reverse((self.now + after, self.serial, id)));
    }

    fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12.6} {}", self.now as f64 / 1e9, text());
        }
    }

    /// The time as a host sees it: 0 = the server.
    fn clock(&self, host: usize) -> u64 {
        self.now * self.options.clocks[host] / 1000 + host as u64 * 1_000_000_000
    }

    fn until(&self, host: usize, clock: u64) -> u64 {
        let elapsed = clock.saturating_sub(host as u64 * 1_000_000_000);
        (elapsed * 1000).div_ceil(self.options.clocks[host]).saturating_sub(self.now)
    }

    fn step(&mut self, event: Ev) {
        // A stopped process takes things up where it was stopped.
        let stopped_until = match &event {
            Ev::Connected { client, .. } | Ev::TickClient { client } | Ev::Submit { client } => {
                self.clients[*client].stopped_until
            }
            Ev::Deliver { wire, to: To::Client } => self.wires[*wire]
                .as_ref()
                .map_or(0, |wire| self.clients.get(wire.client).map_or(0, |c| c.stopped_until)),
            Ev::Deliver { to: To::Server, .. } | Ev::TickServer | Ev::Answer { .. } => {
                self.server.stopped_until
            }
            Ev::Fault => 0,
        };
        if stopped_until > self.now {
            return self.at(stopped_until - self.now, event);
        }
        match event {
            Ev::Connected { client, run, conn, path } => self.connected(client, run, conn, path),
            Ev::Deliver { wire, to } => self.deliver(wire, to),
            Ev::TickClient { client } => {
                let clock = self.clock(client + 1);
                if self.clients[client].host.lane.next_timeout().is_some_and(|at| clock >= at) {
                    let mut out = Vec::new();
                    self.clients[client].host.tick(clock, &mut out);
                    self.client_out(client, out);
                }
                self.clients[client].tick_at = 0;
                self.arm_client(client);
            }
            Ev::TickServer => {
                let mut out = Vec::new();
                let clock = self.clock(0);
                if self.server.host.next_timeout().is_some_and(|at| clock >= at) {
                    let (wires, routes, now) = (&mut self.wires, &self.routes, self.now);
                    let known: Vec<u64> =
                        (0..wires.len()).map(|at| acknowledged(wires, routes, now, at, To::Client)).collect();
                    self.server.host.tick(clock, |wire| known[wire], &mut out);
                }
                self.server_out(out);
                self.server.tick_at = 0;
                self.arm_server();
            }
            Ev::Submit { client } => self.submit(client),
            Ev::Answer { run, execute, tag } => {
                if run == self.server.run {
                    self.fates[tag as usize].at_user = false;
                    let mut out = Vec::new();
                    let clock = self.clock(0);
                    self.server.host.answer(clock, execute, tag, &mut out);
                    self.server_out(out);
                }
            }
            Ev::Fault => self.fault(),
        }
    }

    fn arm_client(&mut self, client: usize) {
        let Some(at) = self.clients[client].host.lane.next_timeout() else { return };
        let after = self.until(client + 1, at);
        let armed = &mut self.clients[client].tick_at;
        if *armed == 0 || self.now + after < *armed {
            *armed = self.now + after;
            self.at(after, Ev::TickClient { client });
        }
    }

    fn arm_server(&mut self) {
        let Some(at) = self.server.host.next_timeout() else { return };
        let after = self.until(0, at);
        if self.server.tick_at == 0 || self.now + after < self.server.tick_at {
            self.server.tick_at = self.now + after;
            self.at(after, Ev::TickServer);
        }
    }

    fn submit(&mut self, client: usize) {
        if self.left[client] == 0 {
            return;
        }
        self.left[client] -= 1;
        let tag = self.fates.len() as u64;
        self.fates.push(Fate { client, ..Fate::default() });
        self.stats.requests += 1;
        let user = self.rng.usize(0..self.options.users);
        let direction = if self.rng.bool() { Direction::Read } else { Direction::Write };
        let bytes = if self.rng.u8(..) < 40 { 0 } else { self.rng.u32(0..=self.options.bytes_max) };
        let (mut out, clock) = (Vec::new(), self.clock(client + 1));
        self.clients[client].host.want(clock, user, tag, direction, bytes, &mut out);
        self.client_out(client, out);
        let gap = self.rng.u64(0..self.options.gap_ns * 2);
        self.at(gap, Ev::Submit { client });
    }

    fn nonce(&mut self) -> [u8; 32] {
        let mut nonce = [0; 32];
        nonce.fill_with(|| self.rng.u8(..));
        nonce
    }

    fn connected(&mut self, client: usize, run: u64, conn: ConnId, path: usize) {
        if run != self.clients[client].run {
            return;
        }
        let cut = self.routes[client][path].cut.iter().copied().max().unwrap_or(0);
        if cut > self.now {
            // The SYN is repeated until its caller has lost patience.
            return self.at((cut - self.now).min(100 * MS), Ev::Connected { client, run, conn, path });
        }
        let wire = self.wires.len();
        self.wires.push(Some(Wire::new(client, path)));
        let (nonce, clock) = (self.nonce(), self.clock(client + 1));
        let mut out = Vec::new();
        self.clients[client].host.connected(clock, conn, wire, nonce, &mut out);
        let nonce = self.nonce();
        let (mut server_out, clock) = (Vec::new(), self.clock(0));
        self.server.host.accepted(clock, wire, nonce, &mut server_out);
        self.client_out(client, out);
        self.server_out(server_out);
    }

    fn deliver(&mut self, at: usize, to: To) {
        let now = self.now;
        let Some(wire) = &mut self.wires[at] else { return };
        let (client, path) = (wire.client, wire.path);
        let cut = self.routes.get(client).map_or(0, |routes| routes[path].cut[to as usize]);
        let stream = &mut wire.streams[to as usize];
        stream.armed = false;
        let due = stream.pieces.front().map(|(at, _)| *at);
        let Some(due) = due else { return };
        let due = if cut > now { cut + 10 * MS } else { due };
        if due > now {
            return self.arm(at, to, due - now);
        }
        let (_, piece) = stream.pieces.pop_front().expect("just seen");
        if let Piece::Bytes(bytes) = &piece {
            stream.arrived += bytes.len() as u64;
        }
        match (to, piece) {
            (To::Client, Piece::Bytes(bytes)) => self.reach_client(client, at, Some(&bytes)),
            (To::Client, Piece::End) => self.reach_client(client, at, None),
            (To::Server, Piece::Bytes(bytes)) => {
                if let Some(wire) = &mut self.wires[at] {
                    wire.record.extend_from_slice(&bytes);
                }
                self.reach_server(at, Some(&bytes));
            }
            (To::Server, Piece::End) => self.reach_server(at, None),
        }
        self.arm(at, to, 0);
    }

    fn arm(&mut self, at: usize, to: To, after: u64) {
        let Some(wire) = &mut self.wires[at] else { return };
        let stream = &mut wire.streams[to as usize];
        if !stream.armed && !stream.pieces.is_empty() {
            stream.armed = true;
            self.at(after, Ev::Deliver { wire: at, to });
        }
    }

    fn reach_client(&mut self, client: usize, wire: usize, bytes: Option<&[u8]>) {
        if client >= self.clients.len() {
            return;
        }
        let clock = self.clock(client + 1);
        let host = &mut self.clients[client].host;
        let Some(conn) = host.conn_of(wire) else { return };
        let mut out = Vec::new();
        match bytes {
            Some(bytes) => host.received(clock, conn, bytes, &mut out),
            None => {
                host.failed(clock, conn, Fault::EndOfStream, &mut out);
                out.push(client_host::Out::Close { wire });
            }
        }
        self.client_out(client, out);
    }

    fn reach_server(&mut self, wire: usize, bytes: Option<&[u8]>) {
        let clock = self.clock(0);
        let host = &mut self.server.host;
        let Some(conn) = host.conn_of(wire) else { return };
        let mut out = Vec::new();
        match bytes {
            Some(bytes) => host.received(clock, conn, bytes, &mut out),
            None => {
                host.lost(clock, conn, Fault::EndOfStream, &mut out);
                out.push(server_host::Out::Close { wire });
            }
        }
        self.server_out(out);
    }

    fn send(&mut self, at: usize, to: To, bytes: &[u8]) {
        let (now, delay) = (self.now, self.options.delay_ns);
        let Some(wire) = &mut self.wires[at] else { return };
        // Of nobody: those that play old streams again.
        let byte_ns = if wire.path == 0 && wire.client != usize::MAX { self.options.byte_ns } else { 0 };
        wire.send(to, bytes, now, delay, byte_ns, &mut self.rng);
        self.arm(at, to, delay);
    }

    fn close(&mut self, at: usize, to: To) {
        let end = self.now + self.options.delay_ns;
        if let Some(wire) = &mut self.wires[at] {
            wire.end(to, end);
            let old = std::mem::take(&mut wire.record);
            if !old.is_empty() && self.old_streams.len() < 50 {
                self.old_streams.push(old);
            }
        }
        self.arm(at, to, self.options.delay_ns);
    }

    fn client_out(&mut self, client: usize, out: Vec<client_host::Out>) {
        for out in out {
            match out {
                client_host::Out::Connect { conn, path } => {
                    let run = self.clients[client].run;
                    self.at(2 * self.options.delay_ns, Ev::Connected { client, run, conn, path });
                }
                client_host::Out::Send { wire, bytes } => self.send(wire, To::Server, &bytes),
                client_host::Out::Close { wire } => self.close(wire, To::Server),
                client_host::Out::Look { wire, conn } => {
                    let known = acknowledged(&mut self.wires, &self.routes, self.now, wire, To::Server);
                    let (mut out, clock) = (Vec::new(), self.clock(client + 1));
                    self.clients[client].host.looked(clock, conn, known, &mut out);
                    self.client_out(client, out);
                }
                client_host::Out::Done { tag, result } => self.done(client, tag, result),
                client_host::Out::Told(link) => {
                    self.log(|| format!("client {client} is told {link:?}"));
                    match link {
                        Link::Stalled { .. } => self.stats.stalls += 1,
                        Link::Dead { .. } => self.stats.deaths += 1,
                        Link::Up { .. } => {
                            let late =
                                self.fates.iter().position(|f| f.client == client && f.failed && f.at_user);
                            assert_eq!(late, None, "a request of the old life is with a user in the new one");
                        }
                        _ => {}
                    }
                }
            }
        }
        self.arm_client(client);
    }

    fn server_out(&mut self, out: Vec<server_host::Out>) {
        for out in out {
            match out {
                server_host::Out::Send { wire, bytes } => self.send(wire, To::Client, &bytes),
                server_host::Out::Close { wire } => self.close(wire, To::Client),
                server_host::Out::Execute { execute, tag } => self.execute(execute, tag),
                server_host::Out::Up | server_host::Out::Down => {}
            }
        }
        self.arm_server();
    }

    fn execute(&mut self, execute: Execute, tag: u64) {
        self.log(|| format!("executes {tag} in {:?} {:?}", execute.lane, execute.at));
        let fate = &mut self.fates[tag as usize];
        assert!(!fate.executed, "request {tag} is executed twice");
        assert!(!fate.failed, "request {tag} is executed after its client was told that the session is dead");
        assert!(!fate.done, "request {tag} is executed after it was answered");
        (fate.executed, fate.at_user) = (true, true);
        self.stats.executed += 1;
        let run = self.server.run;
        let service = self.rng.u64(0..self.options.service_ns * 2);
        self.at(service, Ev::Answer { run, execute, tag });
    }

    fn done(&mut self, client: usize, tag: u64, result: Result<u16, ()>) {
        self.log(|| format!("client {client}: {tag} ends {result:?}"));
        let fate = &mut self.fates[tag as usize];
        assert!(!fate.done, "request {tag} ends twice");
        assert_eq!(fate.client, client, "request {tag} ends at another client");
        fate.done = true;
        match result {
            Ok(status) => {
                assert!(fate.executed, "request {tag} is answered and was not executed");
                assert_eq!(status, tag as u16, "the status of another answer");
                self.stats.answered += 1;
            }
            Err(()) => {
                fate.failed = true;
                self.stats.failed += 1;
                self.stats.failed_executed += u64::from(fate.executed);
            }
        }
    }

    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let gap = self.rng.u64(0..self.options.fault_gap_ns * 2);
        self.at(gap, Ev::Fault);
        let Some(&kind) = self.rng.choice(&self.options.faults) else { return };
        self.log(|| format!("fault: {kind:?}"));
        *self.stats.faults.entry(format!("{kind:?}")).or_default() += 1;
        let client = self.rng.usize(0..self.clients.len());
        let path = self.rng.usize(0..self.options.paths);
        let long = self.rng.u64(10..1500) * MS;
        match kind {
            FaultKind::Reset => self.reset(|wire| wire.client == client && wire.path == path),
            FaultKind::ResetAll => self.reset(|_| true),
            FaultKind::Cut => self.routes[client][path].cut = [self.now + long; 2],
            FaultKind::CutOneWay => self.routes[client][path].cut[self.rng.usize(0..2)] = self.now + long,
            FaultKind::CutAll => {
                self.routes[client].iter_mut().for_each(|route| route.cut = [self.now + long; 2])
            }
            FaultKind::CutLong => {
                let end = self.now + long * 12;
                let ways = self.rng.usize(0..3);
                for route in &mut self.routes[client] {
                    (0..2).filter(|&way| ways != way).for_each(|way| route.cut[way] = end);
                }
            }
            FaultKind::PauseServer => self.server.stopped_until = self.now + long * 3,
            FaultKind::PauseClient => self.clients[client].stopped_until = self.now + long * 5,
            FaultKind::RestartServer => self.restart_server(),
            FaultKind::RestartClient => self.restart_client(client),
            FaultKind::Replay => self.replay(),
            FaultKind::EndLife => {
                let (mut out, clock) = (Vec::new(), self.clock(client + 1));
                self.clients[client].host.end_life(clock, &mut out);
                self.client_out(client, out);
            }
            FaultKind::Path => {
                let (mut out, clock) = (Vec::new(), self.clock(client + 1));
                let id = Id(self.rng.u128(..).to_le_bytes());
                self.clients[client].host.change_path(clock, id, self.options.paths, &mut out);
                self.client_out(client, out);
            }
        }
    }

    fn reset(&mut self, which: impl Fn(&Wire) -> bool) {
        for at in 0..self.wires.len() {
            let Some(wire) = self.wires[at].as_mut().filter(|wire| which(wire)) else { continue };
            wire.reset(self.now, &mut self.rng);
            self.arm(at, To::Client, 0);
            self.arm(at, To::Server, 0);
        }
    }

    fn restart_server(&mut self) {
        self.server.run += 1;
        self.fates.iter_mut().for_each(|fate| fate.at_user = false);
        self.server.stopped_until = 0;
        self.stats.refused += self.server.host.refused;
        self.stats.starved += self.server.host.starved;
        self.server.host = new_server(&self.options);
        self.server.tick_at = 0;
        self.reset(|_| true);
    }

    fn restart_client(&mut self, client: usize) {
        let old = std::mem::replace(
            &mut self.clients[client].host,
            new_client(&self.options, client, &mut self.rng),
        );
        self.count_client(&old);
        self.clients[client].run += 1;
        self.clients[client].stopped_until = 0;
        self.clients[client].tick_at = 0;
        for fate in self.fates.iter_mut().filter(|fate| fate.client == client && !fate.done) {
            (fate.done, fate.orphan) = (true, true);
        }
        self.reset(|wire| wire.client == client);
        // The new process is another session: it does not wait for what the old one left with users.
        self.fates.iter_mut().filter(|fate| fate.client == client).for_each(|fate| fate.at_user = false);
        // What it had sent may still be executed; nobody was told anything.
        for fate in self.fates.iter_mut().filter(|fate| fate.orphan) {
            fate.done = false;
        }
        self.arm_client(client);
    }

    /// Somebody recorded a stream of a client's and plays it to the server again.
    fn replay(&mut self) {
        let Some(bytes) = self.rng.choice(&self.old_streams).cloned() else { return };
        let at = self.wires.len();
        // Of no client: nobody listens to the answers.
        self.wires.push(Some(Wire::new(usize::MAX, 0)));
        let (nonce, clock) = (self.nonce(), self.clock(0));
        let mut out = Vec::new();
        self.server.host.accepted(clock, at, nonce, &mut out);
        self.server_out(out);
        self.send(at, To::Server, &bytes);
    }

    fn heal(&mut self) {
        self.log(|| "healed".to_owned());
        self.calm = true;
        self.routes.iter_mut().flatten().for_each(|route| route.cut = [0; 2]);
        self.server.stopped_until = 0;
        self.clients.iter_mut().for_each(|client| client.stopped_until = 0);
    }

    fn is_over(&self) -> bool {
        self.left.iter().all(|&left| left == 0)
            && self.fates.iter().all(|fate| fate.done || fate.orphan)
            && self.clients.iter().all(|client| client.host.lane.life().is_some())
            && self.server.host.free.len() == self.options.buffers
    }

    fn what_is_left(&self) -> String {
        let open: Vec<_> =
            self.fates.iter().enumerate().filter(|(_, fate)| !fate.done && !fate.orphan).take(5).collect();
        let paths: Vec<_> = self.clients.iter().flat_map(|client| client.host.lane.paths()).collect();
        format!(
            "{open:?}, {} buffers free of {}, {paths:?}",
            self.server.host.free.len(),
            self.options.buffers
        )
    }

    /// Everything is back to where it began.
    fn is_clean(&mut self) {
        for client in &self.clients {
            assert_eq!(client.host.lane.under_way(), 0, "requests under way");
            let depth = client.host.lane.life().map_or(0, |(_, limits)| usize::from(limits.depth));
            assert_eq!(client.host.lane.free_permits(), depth, "permits that did not come back");
        }
        // Lanes of clients that are gone are forgotten.
        let end = self.now + 40_000 * MS;
        let lanes = self.clients.len();
        self.run_until(end, |world| world.server.host.engine.lanes() <= lanes);
        assert!(self.server.host.engine.lanes() <= lanes, "{} lanes", self.server.host.engine.lanes());
        self.stats.refused += self.server.host.refused;
        self.stats.starved += self.server.host.starved;
        let clients = std::mem::take(&mut self.clients);
        clients.iter().for_each(|client| self.count_client(&client.host));
    }

    fn count_client(&mut self, host: &ClientHost) {
        self.stats.resends += host.lane.paths().map(|(_, _, _, stats)| stats.resends).sum::<u64>();
        self.stats.path_faults += host.lane.paths().map(|(_, _, _, stats)| stats.faults).sum::<u64>();
    }
}

/// What the sender of bytes towards `to` knows of their arrival. Nothing tells it while the way back is cut.
fn acknowledged(wires: &mut [Option<Wire>], routes: &[Vec<Route>], now: u64, at: usize, to: To) -> u64 {
    let Some(wire) = &mut wires[at] else { return 0 };
    let back = if to == To::Server { To::Client } else { To::Server };
    let cut = routes.get(wire.client).map_or(0, |routes| routes[wire.path].cut[back as usize]);
    let stream = &mut wire.streams[to as usize];
    if cut <= now {
        stream.acknowledged = stream.arrived;
    }
    stream.acknowledged
}

fn secret(options: &Options) -> Option<Secret> {
    options.keyed.then_some(Secret(77))
}

fn new_server(options: &Options) -> ServerHost {
    let limits = Limits {
        lease_ns: 3000 * MS,
        data_max: options.bytes_max.max(1),
        user_max: 16,
        depth: options.depth,
    };
    let config = ServerConfig { limits, ..ServerConfig::default() };
    ServerHost::new(config, secret(options), options.digest, options.buffers, options.bytes_max as usize)
}

fn new_client(options: &Options, no: usize, rng: &mut fastrand::Rng) -> ClientHost {
    let host = Id([no as u8 + 1; 16]);
    let mut config = Config::new(Id::default(), host, 0, 1);
    (config.policy, config.digest) = (options.policy, options.digest);
    ClientHost::new(config, secret(options), options.users, options.paths, options.bytes_max, rng)
}
