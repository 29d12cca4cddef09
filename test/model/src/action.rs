//! What can happen next, and its effect.

use crate::config::{Config, TICK_NS};
use crate::fingerprint::Printed;
use crate::node::{pack, unpack};
use crate::world::{FIRST_CLIENT, Flight, HOSTS, World};
use rmr_engine::client::{ClientEvent, Phase, Request};
use rmr_engine::{Party, StoreEvent};
use rmr_proto::{BlockRange, BufId, IoOp, MemberId};
use std::sync::Arc;

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// The nth message under way arrives; it is the oldest between its endpoints.
    Deliver(usize),
    /// It becomes a ghost.
    Stray(usize),
    /// It arrives, and a ghost of it stays.
    Double(usize),
    Ghost(usize),
    /// The disk finishes its nth operation, or the commit under way.
    Disk {
        node: usize,
        nth: Option<usize>,
    },
    Kill(usize),
    /// The nth way in which the cache may survive.
    Power {
        node: usize,
        nth: usize,
    },
    Start(usize),
    /// A client takes its session with a member for gone.
    Drop {
        host: usize,
        node: usize,
    },
    Up {
        host: usize,
        node: usize,
    },
    Crash(usize),
    StartClient(usize),
    Submit {
        host: usize,
        op: IoOp,
        first: u64,
        count: u32,
    },
    Tick,
}

impl World {
    /// Everything that can happen next.
    pub(crate) fn actions(&self, config: &Config) -> Vec<Action> {
        let mut actions = Vec::new();
        self.message_actions(config, &mut actions);
        self.node_actions(config, &mut actions);
        for host in 0..HOSTS {
            self.host_actions(config, host, &mut actions);
        }
        if self.budget.ticks > 0 && self.is_still(config) {
            actions.push(Action::Tick);
        }
        actions
    }

    /// In an orderly world processes start, and time passes, only while no message is under way.
    fn is_still(&self, config: &Config) -> bool {
        !config.in_order || self.net.is_empty()
    }

    fn message_actions(&self, config: &Config, actions: &mut Vec<Action>) {
        let heads = if config.in_order { 1 } else { self.net.len() };
        for (nth, parcel) in self.net.iter().enumerate().take(heads) {
            if self.net[..nth].iter().any(|p| (p.from, p.to) == (parcel.from, parcel.to)) {
                continue;
            }
            actions.push(Action::Deliver(nth));
            if self.budget.ghosts > 0 {
                actions.push(Action::Stray(nth));
            }
            if self.budget.doubles > 0 {
                actions.push(Action::Double(nth));
            }
        }
        actions.extend((0..self.ghosts.len()).map(Action::Ghost));
    }

    fn node_actions(&self, config: &Config, actions: &mut Vec<Action>) {
        for (node, state) in self.nodes.iter().enumerate() {
            actions.extend((0..state.queue.len()).map(|nth| Action::Disk { node, nth: Some(nth) }));
            if state.committing {
                actions.push(Action::Disk { node, nth: None });
            }
            if state.store.is_some() {
                if self.budget.kills > 0 {
                    actions.push(Action::Kill(node));
                }
            } else if state.queue.is_empty() && self.is_still(config) {
                actions.push(Action::Start(node));
            }
            if self.budget.powers > 0 {
                let ways: usize = (0..config.blocks).map(|block| state.unflushed(block) + 1).product();
                actions.extend((0..ways).map(|nth| Action::Power { node, nth }));
            }
        }
    }

    fn host_actions(&self, config: &Config, host: usize, actions: &mut Vec<Action>) {
        let b = &self.budget;
        let Some(state) = &self.hosts[host] else {
            let alone = self.hosts.iter().all(Option::is_none);
            if !self.is_still(config) {
                return;
            }
            if (alone && host == 0) || (!alone && host == 1 && b.takeovers > 0) {
                actions.push(Action::StartClient(host));
            }
            return;
        };
        for node in 0..config.members {
            match state.up.has(MemberId::at(node)) {
                true if b.drops > 0 => actions.push(Action::Drop { host, node }),
                false if self.nodes[node].store.is_some() && self.is_still(config) => {
                    actions.push(Action::Up { host, node })
                }
                _ => {}
            }
        }
        if b.client_crashes > 0 {
            actions.push(Action::Crash(host));
        }
        let serving = matches!(state.client.phase(), Phase::Active | Phase::Changing);
        if !serving || !state.client.has_room() {
            return;
        }
        let mut submit = |op, first, count| actions.push(Action::Submit { host, op, first, count });
        for block in 0..config.blocks {
            if b.writes > 0 {
                submit(IoOp::Write, block, 1);
            }
            if b.reads > 0 {
                submit(IoOp::Read, block, 1);
            }
        }
        if b.wide_writes > 0 && config.blocks > 1 {
            submit(IoOp::Write, 0, 2);
        }
        if b.flushes > 0 {
            submit(IoOp::Flush, 0, 1);
        }
    }

    /// The world after `action`; `Err`: a promise is broken.
    pub(crate) fn apply(&self, config: &Config, action: Action) -> Result<Self, String> {
        let mut next = self.clone();
        next.act(config, action)?;
        next.net.retain(|p| !next_is_gone(&next.hosts, p.to));
        next.ghosts.retain(|p| !next_is_gone(&next.hosts, p.to));
        next.check(config)?;
        Ok(next)
    }

    fn act(&mut self, config: &Config, action: Action) -> Result<(), String> {
        match action {
            Action::Deliver(nth) => self.deliver(config, nth),
            Action::Stray(nth) => {
                self.budget.ghosts -= 1;
                let parcel = self.net.remove(nth);
                self.ghosts.push(parcel);
                Ok(())
            }
            Action::Double(nth) => {
                self.budget.doubles -= 1;
                self.ghosts.push(self.net[nth].clone());
                self.deliver(config, nth)
            }
            Action::Ghost(nth) => {
                let parcel = self.ghosts.remove(nth);
                self.net.insert(0, parcel);
                self.deliver(config, 0)
            }
            Action::Disk { node, nth } => self.disk(config, node, nth),
            Action::Kill(node) => {
                self.budget.kills -= 1;
                let mut state = (**self.nodes[node]).clone();
                state.kill();
                self.put_node(config, node, state)
            }
            Action::Power { node, nth } => self.power(config, node, nth),
            Action::Start(node) => {
                self.start_node(config, node);
                Ok(())
            }
            Action::Drop { host, node } => {
                self.budget.drops -= 1;
                self.session(host, node, false)
            }
            Action::Up { host, node } => self.session(host, node, true),
            Action::Crash(host) => {
                self.budget.client_crashes -= 1;
                self.crash(host);
                Ok(())
            }
            Action::StartClient(host) => {
                self.budget.takeovers -= u8::from(host > 0);
                self.start_client(config, host)
            }
            Action::Submit { host, op, first, count } => self.submit(host, op, first, count),
            Action::Tick => {
                self.budget.ticks -= 1;
                self.tick(config)
            }
        }
    }

    pub(crate) fn deliver(&mut self, config: &Config, nth: usize) -> Result<(), String> {
        let parcel = self.net.remove(nth);
        let msg = parcel.msg.clone();
        if parcel.to >= FIRST_CLIENT {
            let host = self.hosts.iter().position(|h| h.as_ref().is_some_and(|h| h.endpoint == parcel.to));
            let from = MemberId::at(parcel.from as usize);
            return host.map_or(Ok(()), |host| self.client_event(host, ClientEvent::Msg(from, msg)));
        }
        let from = match parcel.from {
            FIRST_CLIENT.. => Party::Client(parcel.from),
            member => Party::Member(MemberId::at(member as usize)),
        };
        self.store_event(config, parcel.to as usize, StoreEvent::Msg(from, msg))
    }

    pub(crate) fn disk(&mut self, config: &Config, node: usize, nth: Option<usize>) -> Result<(), String> {
        let mut state = (**self.nodes[node]).clone();
        let out = match nth {
            None => state.commit(self.now),
            Some(nth) => {
                let event = state.finish(nth);
                let mut out = Vec::new();
                if let (Some(store), Some(event)) = (&mut state.store, event) {
                    store.on(self.now, event, &mut out);
                    store.check();
                }
                out
            }
        };
        self.take(node, &mut state, out);
        self.put_node(config, node, state)
    }

    fn power(&mut self, config: &Config, node: usize, mut nth: usize) -> Result<(), String> {
        self.budget.powers -= 1;
        let mut state = (**self.nodes[node]).clone();
        let mut kept = Vec::new();
        for block in 0..config.blocks {
            let ways = state.unflushed(block) + 1;
            kept.push(nth % ways);
            nth /= ways;
        }
        state.lose_power(&kept);
        self.nodes[node] = Arc::new(Printed::new(state));
        let mut oracle = (**self.oracle).clone();
        oracle.lost_power(node);
        self.oracle = Arc::new(Printed::new(oracle));
        for host in self.hosts.iter_mut().flatten() {
            if !host.flights.is_empty() {
                let mut state = (***host).clone();
                state.flights.iter_mut().for_each(|flight| flight.begun.lost_power(node));
                *host = Arc::new(Printed::new(state));
            }
        }
        Ok(())
    }

    fn session(&mut self, host: usize, node: usize, up: bool) -> Result<(), String> {
        let Some(state) = &self.hosts[host] else { return Ok(()) };
        let mut state = (***state).clone();
        let member = MemberId::at(node);
        state.up = if up { state.up.with(member) } else { state.up.without(member) };
        self.hosts[host] = Some(Arc::new(Printed::new(state)));
        self.client_event(host, if up { ClientEvent::Up(member) } else { ClientEvent::Down(member) })
    }

    fn crash(&mut self, host: usize) {
        let Some(state) = self.hosts[host].take() else { return };
        let mut oracle = (**self.oracle).clone();
        for flight in state.flights.iter().filter(|f| f.op.is_write()) {
            oracle.fail_write(flight.value);
        }
        self.oracle = Arc::new(Printed::new(oracle));
    }

    fn submit(&mut self, host: usize, op: IoOp, first: u64, count: u32) -> Result<(), String> {
        let b = &mut self.budget;
        match op {
            IoOp::Read => b.reads -= 1,
            IoOp::Flush => b.flushes -= 1,
            _ if count > 1 => b.wide_writes -= 1,
            _ => b.writes -= 1,
        }
        self.users += 1;
        let user = self.users;
        let mut oracle = (**self.oracle).clone();
        let (value, begun) = match op.is_write() {
            true => oracle.begin_write(first as usize..first as usize + count as usize),
            false => (0, oracle.begin()),
        };
        self.oracle = Arc::new(Printed::new(oracle));
        let buf: Option<BufId> = op.is_write().then(|| pack((0..count).map(|_| value)));
        if let Some(state) = &self.hosts[host] {
            let mut state = (***state).clone();
            state.flights.push(Flight { user, op, first, count, value, begun });
            self.hosts[host] = Some(Arc::new(Printed::new(state)));
        }
        let range = BlockRange { first, count };
        let request = Request { user, op, range, buf, deadline: u64::MAX };
        self.client_event(host, ClientEvent::Submit(request))
    }

    /// A request ended: what the oracle makes of it.
    pub(crate) fn ended(
        &mut self,
        host: usize,
        flight: &Flight,
        ok: bool,
        buf: Option<BufId>,
    ) -> Result<(), String> {
        let mut oracle = (**self.oracle).clone();
        let blocks = flight.first..flight.first + u64::from(flight.count);
        match flight.op {
            IoOp::Read if ok => {
                let packed = buf.ok_or("a read came back without its bytes")?;
                for (at, block) in blocks.enumerate() {
                    oracle.end_read(block as usize, unpack(packed.0, at as u64), &flight.begun)?;
                }
            }
            IoOp::Flush if ok => oracle.end_flush(&flight.begun),
            IoOp::Read | IoOp::Flush => {}
            _ if ok => {
                for block in blocks {
                    self.check_misses_durable(host, block)?;
                    oracle.ack_write(
                        block as usize,
                        flight.value,
                        &flight.begun,
                        self.clean_legs(host, block),
                    );
                }
            }
            _ => oracle.fail_write(flight.value),
        }
        self.oracle = Arc::new(Printed::new(oracle));
        Ok(())
    }

    pub(crate) fn tick(&mut self, config: &Config) -> Result<(), String> {
        self.now += TICK_NS;
        for node in 0..self.nodes.len() {
            self.store_event(config, node, StoreEvent::Tick)?;
        }
        (0..HOSTS).try_for_each(|host| self.client_event(host, ClientEvent::Tick))
    }
}

fn next_is_gone(hosts: &[Option<Arc<Printed<crate::world::Host>>>; HOSTS], to: u32) -> bool {
    to >= FIRST_CLIENT && !hosts.iter().flatten().any(|host| host.endpoint == to)
}
