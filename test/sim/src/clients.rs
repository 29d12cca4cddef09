//! Driving the clients: their events, their processes, the load on them.

use crate::disk::Blocks;
use crate::host::Flight;
use crate::net::FIRST_CLIENT;
use crate::node::Buffers;
use crate::world::{Ev, MS, World, payload_of};
use rmr_engine::Completion;
use rmr_engine::client::{Client, ClientAction, ClientEvent, Phase, Request, StartOptions};
use rmr_proto::{BlockRange, BufId, IoOp, MemberId};

impl World {
    pub(crate) fn start_host(&mut self, host: usize, takeover: bool) {
        self.start_host_with(host, StartOptions { takeover, ..StartOptions::default() });
    }

    pub(crate) fn start_host_with(&mut self, host: usize, options: StartOptions) {
        self.only_client(host);
        if self.hosts[host].client.is_some() {
            // One that was fenced starts as if it had never served.
            self.hosts[host].served &= !self.is_fenced(host);
            self.client_event(host, ClientEvent::Start(options));
            self.start_pace(host);
            return;
        }
        let nonce = self.rng.u64(1..);
        let configured = match self.options.client_blocks {
            0 => Ok(self.geometry),
            blocks => self.geometry.with_blocks(blocks),
        };
        let configured = configured.unwrap_or_else(|error| panic!("options make no geometry: {error}"));
        let client = Client::new(configured, self.configured(), nonce, self.client_config());
        let state = &mut self.hosts[host];
        state.client = Some(client);
        state.life += 1;
        state.buffers = Buffers::default();
        (state.paced, state.served) = (false, false);
        let life = state.life;
        self.note(5, &(host, life));
        for member in 0..self.nodes.len() {
            if self.nodes[member].store.is_some() {
                self.client_event(host, ClientEvent::Up(MemberId::at(member)));
            }
        }
        self.client_event(host, ClientEvent::Start(options));
        self.at(self.now + 5 * MS, Ev::ClientTick { host, life });
        if self.options.pace_ns > 0 {
            self.start_pace(host);
        } else if self.hosts[host].loaded {
            self.at(self.now, Ev::Load { host, life });
        }
    }

    fn start_pace(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        if self.options.pace_ns > 0 && state.loaded && !state.paced {
            state.paced = true;
            let life = state.life;
            self.at(self.now, Ev::Load { host, life });
        }
    }

    /// kill -9 of a client.
    pub fn crash_host(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        if state.client.take().is_none() {
            return;
        }
        state.life += 1;
        let flights = std::mem::take(&mut state.flights);
        self.note(6, &host);
        self.forget_commands(host);
        for (user, flight) in flights {
            self.lose_flight(user, &flight);
        }
    }

    pub(crate) fn lose_flight(&mut self, user: u64, flight: &Flight) {
        if flight.op.is_write() {
            self.oracle.fail_write(flight.range, &flight.values);
        } else if flight.op == IoOp::Read {
            self.oracle.drop_read(user);
        }
    }

    pub(crate) fn client_tick(&mut self, host: usize, life: u64) {
        if self.hosts[host].life == life {
            self.client_event(host, ClientEvent::Tick);
            let jitter = self.rng.u64(0..MS / 2);
            self.at(self.now + 5 * MS + jitter, Ev::ClientTick { host, life });
        }
    }

    pub(crate) fn client_event(&mut self, host: usize, event: ClientEvent) {
        self.cover_client(host, &event);
        let mut out = std::mem::take(&mut self.client_out);
        let now = self.now;
        if let Some(client) = &mut self.hosts[host].client {
            client.on(now, event, &mut out);
            client.check();
            let split = !self.forced && (client.sees_split_brain() || client.lets_in_anew());
            if client.phase() == Phase::Active && client.epoch() != self.last_epoch {
                self.last_epoch = client.epoch();
                // A growth may become active without the client that was asked for it.
                if client.geometry().blocks() > self.geometry.blocks() {
                    self.geometry = *client.geometry();
                }
                if self.stats.epochs == 0 {
                    // Whoever was formatted for the pool and heard of before it was made is a member, and no stranger,
                    // also if the first client to serve does so without it.
                    client.members().iter().for_each(|member| self.kept_out[member.index()] = None);
                }
                self.stats.epochs += 1;
            }
            self.note_served(host);
            self.check_kept_out(host);
            if split {
                self.fail("another history is reported, and nothing was ever forced".into());
            }
        }
        let scrub = self.scrub_of(host);
        if scrub.mismatches > self.rotten {
            self.fail(format!("a scrub found legs to differ where nothing rotted: {scrub:?}"));
        }
        for action in out.drain(..) {
            self.client_action(host, action);
        }
        self.client_out = out;
    }

    pub(crate) fn client_action(&mut self, host: usize, action: ClientAction) {
        match action {
            ClientAction::Send(member, msg) => {
                let payload = payload_of(&msg).and_then(|buf| self.hosts[host].buffers.get(buf));
                self.send(FIRST_CLIENT + host, member.index(), msg, payload);
            }
            ClientAction::Complete { user, result, buf } => {
                let blocks = buf.and_then(|buf| self.hosts[host].buffers.take(buf));
                self.completed(host, user, result, blocks);
            }
            ClientAction::Resized(result) => {
                if let Ok(geometry) =
                    result.map(|blocks| self.geometry.with_blocks(blocks.max(self.geometry.blocks())))
                {
                    self.geometry = geometry.unwrap_or(self.geometry);
                    self.count("grown");
                }
                self.resized = Some(result);
            }
            ClientAction::Release(buf) => {
                self.hosts[host].buffers.take(buf);
            }
            ClientAction::Commanded { tag, result } => self.commanded(host, tag, result),
        }
    }

    pub(crate) fn completed(&mut self, host: usize, user: u64, result: Completion, blocks: Option<Blocks>) {
        self.note(7, &(host, user, result));
        let Some(flight) = self.hosts[host].flights.remove(&user) else {
            self.fail(format!("request {user} completed twice"));
            return;
        };
        if let Some(buf) = flight.buf {
            self.hosts[host].buffers.take(buf);
        }
        match result {
            Ok(()) => self.stats.ios += 1,
            Err(_) => self.stats.errors += 1,
        }
        match (flight.op, result) {
            (_, Err(_)) => self.lose_flight(user, &flight),
            (IoOp::Read, Ok(())) => match &blocks {
                Some(read) if read.len() == flight.range.count as usize => {
                    if let Err(what) = self.oracle.end_read(user, read) {
                        self.fail(what);
                    }
                }
                other => self.fail(format!("a read of {:?} came back with {other:?}", flight.range)),
            },
            (IoOp::Flush, Ok(())) => self.oracle.end_flush(flight.flush_began),
            (_, Ok(())) => self.acked(host, &flight),
        }
        self.results.insert(user, (result, blocks));
        if self.results.len() > 64 {
            self.results.pop_first();
        }
        if self.hosts[host].loaded && self.options.pace_ns == 0 {
            let (life, pause) = (self.hosts[host].life, self.rng.u64(0..2 * self.options.think_ns));
            self.at(self.now + pause, Ev::Load { host, life });
        }
    }

    pub(crate) fn acked(&mut self, host: usize, flight: &Flight) {
        self.check_misses_durable(host, flight.range);
        for (block, value) in (flight.range.first..flight.range.end()).zip(flight.values.iter()) {
            let holders = self.clean_legs(host, self.geometry.chunk_of(block));
            self.oracle.ack_write(block, *value, holders, flight.op == IoOp::WriteFua);
        }
    }

    /// Hands a request to a client. `None`: it has no room, or there is no client.
    pub(crate) fn submit(&mut self, host: usize, op: IoOp, range: BlockRange) -> Option<u64> {
        if !self.hosts[host].client.as_ref()?.has_room() {
            return None;
        }
        let user = self.next_user;
        self.next_user += 1;
        let zero = matches!(op, IoOp::Zero { .. });
        let mut value = || {
            self.next_value += 1;
            if zero { 0 } else { self.next_value }
        };
        let values: Blocks =
            if op.is_write() { (0..range.count).map(|_| value()).collect() } else { Blocks::from([]) };
        let mut flush_began = 0;
        match op {
            IoOp::Read => self.oracle.invoke_read(user, range),
            IoOp::Flush => flush_began = self.oracle.begin_flush(),
            _ => self.oracle.invoke_write(range, &values),
        }
        let buf: Option<BufId> =
            (op.is_write() && !zero).then(|| self.hosts[host].buffers.put(values.clone()));
        self.hosts[host].flights.insert(user, Flight { op, range, values, flush_began, buf });
        let deadline = self.now + self.options.deadline_ns;
        self.client_event(host, ClientEvent::Submit(Request { user, op, range, buf, deadline }));
        Some(user)
    }

    /// A load that does not wait for answers: one request, now and then as many as there is room for.
    fn paced_load(&mut self, host: usize, life: u64) {
        let state = &mut self.hosts[host];
        if state.life != life || !state.loaded {
            state.paced &= state.life != life;
            return;
        }
        let pause = self.rng.u64(0..2 * self.options.pace_ns);
        self.at(self.now + pause, Ev::Load { host, life });
        let most = if self.rng.u8(0..16) == 0 { self.options.depth } else { 1 };
        for _ in 0..most {
            let state = &self.hosts[host];
            let fenced = state.client.as_ref().is_none_or(|client| client.phase() == Phase::Fenced);
            if fenced || state.flights.len() >= self.options.depth {
                return;
            }
            let (op, range) = self.random_request();
            self.submit(host, op, range);
        }
    }

    pub(crate) fn load(&mut self, host: usize, life: u64) {
        if self.options.pace_ns > 0 {
            return self.paced_load(host, life);
        }
        let state = &self.hosts[host];
        let busy = state.flights.len() >= self.options.depth;
        let fenced = state.client.as_ref().is_none_or(|client| client.phase() == Phase::Fenced);
        if state.life != life || busy || !state.loaded {
            return;
        }
        if fenced {
            self.at(self.now + 50 * MS, Ev::Load { host, life });
            return;
        }
        let (op, range) = self.random_request();
        if self.submit(host, op, range).is_none() {
            self.at(self.now + MS, Ev::Load { host, life });
        } else if self.hosts[host].flights.len() < self.options.depth {
            let pause = self.rng.u64(0..2 * self.options.think_ns);
            self.at(self.now + pause, Ev::Load { host, life });
        }
    }

    pub(crate) fn random_request(&mut self) -> (IoOp, BlockRange) {
        let blocks = self.geometry.blocks();
        let everywhere = blocks > self.options.blocks && self.rng.u8(0..3) == 0;
        let hot = if everywhere { blocks } else { self.options.hot_blocks.max(1) };
        let first = self.rng.u64(0..hot);
        let longest = (blocks - first).min(if self.rng.u8(0..8) == 0 { 12 } else { 3 });
        let range = BlockRange { first, count: self.rng.u64(1..=longest) as u32 };
        if self.rng.u8(0..100) < self.options.writes_pct {
            let op = match self.rng.u8(0..20) {
                0 => IoOp::WriteFua,
                1 if !(range.first..range.end()).any(|block| self.oracle.allows(block, 0)) => {
                    IoOp::Zero { unmap: self.rng.bool() }
                }
                _ => IoOp::Write,
            };
            return (op, range);
        }
        let flush = self.rng.u8(0..100) < self.options.flush_pct;
        (if flush { IoOp::Flush } else { IoOp::Read }, range)
    }
}
