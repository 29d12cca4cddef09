//! One state of the small world.

use crate::config::{Budget, Config};
use crate::fingerprint::{Printed, of};
use crate::node::Node;
use crate::oracle::{Begun, Oracle, Value};
use rmr_engine::client::{Client, ClientAction, ClientEvent, Phase, StartOptions};
use rmr_engine::store::{Service, Store, image};
use rmr_engine::{Party, StoreAction, StoreEvent};
use rmr_proto::disk::Superblock;
use rmr_proto::{Geometry, Incarnation, IoOp, MemberId, MemberSet, Msg, PoolId};
use std::sync::Arc;

/// Endpoints from here on are clients, one number for each life.
pub(crate) const FIRST_CLIENT: u32 = 8;
/// Clients that may live at a time.
pub(crate) const HOSTS: usize = 2;

/// A request of a client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Flight {
    pub(crate) user: u64,
    pub(crate) op: IoOp,
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) value: Value,
    pub(crate) begun: Begun,
}

/// A client process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Host {
    pub(crate) client: Client,
    pub(crate) endpoint: u32,
    pub(crate) flights: Vec<Flight>,
    /// Members whose session is up.
    pub(crate) up: MemberSet,
}

/// A message under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Flying {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) msg: Msg,
}

pub(crate) type Parcel = Arc<Printed<Flying>>;

/// One state. What a step does not touch is shared with the state before.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) nodes: Vec<Arc<Printed<Node>>>,
    pub(crate) hosts: [Option<Arc<Printed<Host>>>; HOSTS],
    /// In the order they were sent; between two endpoints they arrive in order.
    pub(crate) net: Vec<Parcel>,
    /// Come at any time, or never.
    pub(crate) ghosts: Vec<Parcel>,
    pub(crate) oracle: Arc<Printed<Oracle>>,
    pub(crate) budget: Budget,
    pub(crate) now: u64,
    pub(crate) lives: u32,
    pub(crate) users: u64,
}

pub(crate) fn geometry(config: &Config) -> Geometry {
    Geometry::new(config.blocks, 12, 0, config.region_shift).expect("the sizes of a small world are in range")
}

fn superblock(config: &Config, member: usize) -> Superblock {
    Superblock {
        pool: PoolId(*b"the small pool!!"),
        member: MemberId::at(member),
        incarnation: Incarnation(member as u64 + 1),
        geometry: geometry(config),
        capacity: config.blocks,
        zeroed: false,
    }
}

impl World {
    /// A pool whose client is active with every member and in which nothing is missed.
    pub(crate) fn whole(config: &Config) -> Result<Self, String> {
        let members = MemberSet::first(config.members);
        let node = |member: usize| {
            let area = rmr_engine::store::format(&superblock(config, member), &config.store(), members);
            let durable = rmr_engine::store::read_view(&geometry(config), &config.store(), &area)
                .expect("a fresh store can be read");
            Arc::new(Printed::new(Node {
                store: None,
                durable,
                boot: 1,
                data: vec![0; config.blocks as usize],
                cache: Vec::new(),
                queue: Vec::new(),
                committing: false,
            }))
        };
        let mut world = Self {
            nodes: (0..config.members).map(node).collect(),
            hosts: [None, None],
            net: Vec::new(),
            ghosts: Vec::new(),
            oracle: Arc::new(Printed::new(Oracle::new(config.blocks, config.members))),
            budget: config.budget,
            now: 1,
            lives: 0,
            users: 0,
        };
        for member in 0..config.members {
            world.start_node(config, member);
        }
        world.start_client(config, 0)?;
        for _ in 0..200 {
            world.settle(config)?;
            if world.is_whole() {
                return Ok(world);
            }
            world.tick(config)?;
        }
        Err("the pool never became whole".to_owned())
    }

    /// Delivers everything in order and lets the disks finish.
    fn settle(&mut self, config: &Config) -> Result<(), String> {
        loop {
            if !self.net.is_empty() {
                self.deliver(config, 0)?;
            } else if let Some(node) = self.nodes.iter().position(|n| n.committing || !n.queue.is_empty()) {
                let nth = (!self.nodes[node].queue.is_empty()).then_some(0);
                self.disk(config, node, nth)?;
            } else {
                return Ok(());
            }
        }
    }

    fn is_whole(&self) -> bool {
        let Some(host) = &self.hosts[0] else { return false };
        let clean = |n: &Arc<Printed<Node>>| {
            n.store.as_ref().is_some_and(|s| s.service() == Service::Serving && s.dirty_chunks() == 0)
                && n.cache.is_empty()
        };
        let all = host.client.set().len() == self.nodes.len();
        host.client.phase() == Phase::Active && all && self.nodes.iter().all(clean)
    }

    /// A fingerprint that does not depend on how the state came to be.
    pub(crate) fn print(&self, config: &Config) -> u128 {
        let nodes: Vec<u128> = self.nodes.iter().map(|node| node.print).collect();
        let hosts: Vec<u128> = self.hosts.iter().map(|host| host.as_ref().map_or(0, |h| h.print)).collect();
        let mut net: Vec<(u32, u32, usize, u128)> = Vec::with_capacity(self.net.len());
        for (nth, parcel) in self.net.iter().enumerate() {
            let place = net.iter().filter(|(f, t, ..)| (*f, *t) == (parcel.from, parcel.to)).count();
            let place = if config.in_order { nth } else { place };
            net.push((parcel.from, parcel.to, place, parcel.print));
        }
        net.sort_unstable();
        let mut ghosts: Vec<u128> = self.ghosts.iter().map(|parcel| parcel.print).collect();
        ghosts.sort_unstable();
        of(&(nodes, hosts, net, ghosts, self.oracle.print, self.budget, self.now, (self.lives, self.users)))
    }

    // ---- engines ----

    pub(crate) fn store_event(
        &mut self,
        config: &Config,
        node: usize,
        event: StoreEvent,
    ) -> Result<(), String> {
        let mut state = (**self.nodes[node]).clone();
        if let Some(store) = &mut state.store {
            let mut out = Vec::new();
            store.on(self.now, event, &mut out);
            store.check();
            self.take(node, &mut state, out);
        }
        self.put_node(config, node, state)
    }

    /// Messages go to the network, the rest to the disk.
    pub(crate) fn take(&mut self, node: usize, state: &mut Node, out: Vec<StoreAction>) {
        for action in out {
            match action {
                StoreAction::Send(party, msg) => {
                    let to = match party {
                        Party::Client(endpoint) => endpoint,
                        Party::Member(member) => member.index() as u32,
                    };
                    self.send(node as u32, to, msg);
                }
                other => state.take(other),
            }
        }
    }

    /// Puts a changed node back; a prompt disk finishes all it has first.
    pub(crate) fn put_node(&mut self, config: &Config, node: usize, mut state: Node) -> Result<(), String> {
        if config.prompt_disks {
            loop {
                let mut out = Vec::new();
                if !state.queue.is_empty() {
                    let event = state.finish(0);
                    if let (Some(store), Some(event)) = (&mut state.store, event) {
                        store.on(self.now, event, &mut out);
                    }
                } else if state.committing {
                    out = state.commit(self.now);
                } else {
                    break;
                }
                state.store.as_ref().inspect(|store| store.check());
                self.take(node, &mut state, out);
            }
        }
        self.nodes[node] = Arc::new(Printed::new(state));
        Ok(())
    }

    pub(crate) fn send(&mut self, from: u32, to: u32, msg: Msg) {
        self.net.push(Arc::new(Printed::new(Flying { from, to, msg })));
    }

    pub(crate) fn client_event(&mut self, host: usize, event: ClientEvent) -> Result<(), String> {
        let Some(state) = &self.hosts[host] else { return Ok(()) };
        let mut state = (***state).clone();
        let mut out = Vec::new();
        state.client.on(self.now, event, &mut out);
        state.client.check();
        let endpoint = state.endpoint;
        let mut ended = Vec::new();
        for action in out {
            match action {
                ClientAction::Send(member, msg) => {
                    if state.up.has(member) {
                        self.send(endpoint, member.index() as u32, msg);
                    }
                }
                ClientAction::Complete { user, result, buf } => ended.push((user, result, buf)),
                ClientAction::Release(_) | ClientAction::Commanded { .. } | ClientAction::Resized(_) => {}
            }
        }
        let flights = std::mem::take(&mut state.flights);
        let (over, left): (Vec<_>, Vec<_>) =
            flights.into_iter().partition(|f| ended.iter().any(|(user, ..)| *user == f.user));
        state.flights = left;
        self.hosts[host] = Some(Arc::new(Printed::new(state)));
        for flight in over {
            let Some((_, result, buf)) = ended.iter().find(|(user, ..)| *user == flight.user) else {
                continue;
            };
            self.ended(host, &flight, result.is_ok(), *buf)?;
        }
        Ok(())
    }

    pub(crate) fn start_node(&mut self, config: &Config, node: usize) {
        let mut state = (**self.nodes[node]).clone();
        let area = image(&superblock(config, node), &config.store(), &state.durable);
        let store = Store::open(&area, config.store(), state.boot).expect("what a view says can be opened");
        state.store = Some(store);
        self.nodes[node] = Arc::new(Printed::new(state));
    }

    pub(crate) fn start_client(&mut self, config: &Config, host: usize) -> Result<(), String> {
        self.lives += 1;
        let members = MemberSet::first(config.members);
        let client = Client::new(geometry(config), members, self.lives.into(), config.client());
        let endpoint = FIRST_CLIENT + self.lives;
        let state = Host { client, endpoint, flights: Vec::new(), up: members };
        self.hosts[host] = Some(Arc::new(Printed::new(state)));
        for member in members.iter() {
            self.client_event(host, ClientEvent::Up(member))?;
        }
        self.client_event(
            host,
            ClientEvent::Start(StartOptions { takeover: true, ..StartOptions::default() }),
        )
    }
}
