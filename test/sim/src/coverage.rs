//! Which event met which state of the engine: counted before the engine sees the event.

use crate::world::World;
use rmr_engine::client::ClientEvent;
use rmr_engine::store::{OutCause, Service};
use rmr_engine::{DiskOp, StoreEvent};
use rmr_proto::{IoOp, IoStatus, Msg, Origin};
use std::collections::BTreeMap;

/// Machine, state, event.
pub type Pair = (&'static str, &'static str, &'static str);

/// How often each pair was met.
pub type Pairs = BTreeMap<Pair, u64>;

const SERVICE: &[&str] = &["opened", "promised", "disk error", "serving", "latched"];
const FENCE: &[&str] = &[
    "no fence",
    "promise, drains",
    "promise, flushes",
    "promise, commits",
    "adoption, drains",
    "adoption, flushes",
    "adoption, commits",
];
const JOINING: &[&str] =
    &["not joining", "pulls maps", "commits maps", "has maps", "pulls changes", "commits changes", "ready"];
const COPY: &[&str] = &[
    "no copy",
    "waits for answers",
    "marks",
    "a peer reads",
    "waits for its entry",
    "writes",
    "flushes",
    "tells",
    "clears",
];
const CLIENT: &[&str] = &[
    "idle",
    "assembling, promises are asked for",
    "assembling, suspects are asked for",
    "assembling, a set is proposed",
    "active",
    "active, an outsider is asked",
    "active, a joiner fetches maps",
    "active, frozen",
    "active, a joiner fetches what changed",
    "changing, a join is proposed",
    "changing, a shrink is proposed",
    "fenced",
];
const STORE_EVENTS: &[&str] = &[
    "tick",
    "promise",
    "query",
    "adopt create",
    "adopt assembly",
    "adopt shrink",
    "adopt join",
    "join",
    "join, last",
    "read",
    "write",
    "write, proved",
    "flush",
    "beat",
    "pull",
    "pull, last",
    "slice",
    "slice, last",
    "copy read",
    "copy reply",
    "copy reply, refused",
    "cleared",
    "cleared ack",
    "disk: request",
    "disk: request failed",
    "disk: fence",
    "disk: fence failed",
    "disk: metadata",
    "disk: metadata failed",
    "disk: copy",
    "disk: copy failed",
    "disk: copy flush",
    "disk: copy flush failed",
    "disk: source",
    "disk: checksum",
    "suspect pull",
    "verdicts",
    "check",
    "repair",
];
const CLIENT_EVENTS: &[&str] = &[
    "start",
    "submit",
    "up",
    "down",
    "tick",
    "promised",
    "refused",
    "refused, leased",
    "query reply",
    "adopted",
    "adopt refused",
    "join ready",
    "join ready, last",
    "io done",
    "io not clean",
    "io wrong epoch",
    "io not serving",
    "io fenced",
    "io disk error",
    "beat reply",
    "beat reply, not serving",
    "beat reply, stuck",
    "suspects",
    "verdicts ack",
    "checked",
    "repaired",
    "command",
    "scrub",
    "resize",
];

/// Every machine with its states and events.
pub const MACHINES: &[(&str, &[&str], &[&str])] = &[
    ("client", CLIENT, CLIENT_EVENTS),
    ("service", SERVICE, STORE_EVENTS),
    ("fence", FENCE, STORE_EVENTS),
    ("joining", JOINING, STORE_EVENTS),
    ("copy", COPY, STORE_EVENTS),
];

fn store_event(event: &StoreEvent) -> &'static str {
    match event {
        StoreEvent::Tick => "tick",
        StoreEvent::Msg(_, msg) => match msg {
            Msg::Promise { .. } => "promise",
            Msg::Query { .. } => "query",
            Msg::Adopt(p) => match p.origin {
                Origin::Create { .. } => "adopt create",
                Origin::Assembly => "adopt assembly",
                Origin::Shrink => "adopt shrink",
                Origin::Join { .. } => "adopt join",
            },
            Msg::Join { last: false, .. } => "join",
            Msg::Join { .. } => "join, last",
            Msg::Io(io, _) => match io.op {
                IoOp::Read => "read",
                IoOp::Flush => "flush",
                _ if io.proved => "write, proved",
                _ => "write",
            },
            Msg::Beat { .. } => "beat",
            Msg::MapPull { attempt, .. } if attempt & 1 == 1 => "pull, last",
            Msg::MapPull { .. } => "pull",
            Msg::MapSlice(slice) if slice.attempt & 1 == 1 => "slice, last",
            Msg::MapSlice(_) => "slice",
            Msg::CopyRead { .. } => "copy read",
            Msg::CopyReply { buf: Some(_), .. } => "copy reply",
            Msg::CopyReply { .. } => "copy reply, refused",
            Msg::Cleared { .. } => "cleared",
            Msg::ClearedAck { .. } => "cleared ack",
            Msg::SuspectPull { .. } => "suspect pull",
            Msg::Verdicts { .. } => "verdicts",
            Msg::Check { .. } => "check",
            Msg::Repair { .. } => "repair",
            _ => "other message",
        },
        StoreEvent::Disk { op, ok, .. } => match (op, ok) {
            (DiskOp::Request(_), true) => "disk: request",
            (DiskOp::Request(_), false) => "disk: request failed",
            (DiskOp::Fence, true) => "disk: fence",
            (DiskOp::Fence, false) => "disk: fence failed",
            (DiskOp::Meta, true) => "disk: metadata",
            (DiskOp::Meta, false) => "disk: metadata failed",
            (DiskOp::Copy(_), true) => "disk: copy",
            (DiskOp::Copy(_), false) => "disk: copy failed",
            (DiskOp::CopyFlush(_), true) => "disk: copy flush",
            (DiskOp::CopyFlush(_), false) => "disk: copy flush failed",
            (DiskOp::Source(_) | DiskOp::Check(_), _) => "disk: source",
        },
        StoreEvent::Checksum { .. } => "disk: checksum",
    }
}

fn client_event(event: &ClientEvent) -> &'static str {
    match event {
        ClientEvent::Start(_) => "start",
        ClientEvent::Command { .. } => "command",
        ClientEvent::Scrub(_) => "scrub",
        ClientEvent::Resize { .. } => "resize",
        ClientEvent::Submit(_) => "submit",
        ClientEvent::Up(_) => "up",
        ClientEvent::Down(_) => "down",
        ClientEvent::Tick => "tick",
        ClientEvent::Msg(_, msg) => match msg {
            Msg::Promised(_) => "promised",
            Msg::Refused { lease_ns: 0, .. } => "refused",
            Msg::Refused { .. } => "refused, leased",
            Msg::QueryReply { .. } => "query reply",
            Msg::Adopted { .. } => "adopted",
            Msg::AdoptRefused { .. } => "adopt refused",
            Msg::JoinReady { last: false, .. } => "join ready",
            Msg::JoinReady { .. } => "join ready, last",
            Msg::IoReply(reply, _) => match reply.status {
                IoStatus::Done => "io done",
                IoStatus::NotClean => "io not clean",
                IoStatus::WrongEpoch => "io wrong epoch",
                IoStatus::NotServing => "io not serving",
                IoStatus::Fenced => "io fenced",
                IoStatus::DiskError => "io disk error",
            },
            Msg::BeatReply { serving: false, .. } => "beat reply, not serving",
            Msg::BeatReply { stuck: true, .. } => "beat reply, stuck",
            Msg::BeatReply { .. } => "beat reply",
            Msg::Suspects { .. } => "suspects",
            Msg::VerdictsAck { .. } => "verdicts ack",
            Msg::Checked { .. } => "checked",
            Msg::Repaired { .. } => "repaired",
            _ => "other message",
        },
    }
}

impl World {
    /// Counts what `event` finds at a store.
    pub(crate) fn cover_store(&mut self, node: usize, event: &StoreEvent) {
        let Some(store) = self.nodes[node].store.as_ref().filter(|_| self.options.coverage) else { return };
        let event = store_event(event);
        let service = match store.service() {
            Service::Out(OutCause::Opened) => "opened",
            Service::Out(OutCause::Promised) => "promised",
            Service::Out(OutCause::DiskError) => "disk error",
            Service::Serving => "serving",
            Service::Latched => "latched",
        };
        let copies = if store.copying() == 0 { Some("no copy") } else { None };
        let copies = copies.into_iter().chain(store.copy_names()).map(|name| ("copy", name));
        let rest = [("service", service), ("fence", store.fence_name()), ("joining", store.joining_name())];
        for (machine, state) in rest.into_iter().chain(copies) {
            *self.stats.pairs.entry((machine, state, event)).or_default() += 1;
        }
    }

    /// Counts what `event` finds at a client.
    pub(crate) fn cover_client(&mut self, host: usize, event: &ClientEvent) {
        let Some(client) = self.hosts[host].client.as_ref().filter(|_| self.options.coverage) else { return };
        *self.stats.pairs.entry(("client", client.state_name(), client_event(event))).or_default() += 1;
    }
}

/// What was met with its count, then what was never met.
pub fn report(pairs: &Pairs) -> String {
    let mut text = String::new();
    for (machine, states, events) in MACHINES {
        for state in *states {
            let count = |event: &&&str| pairs.get(&(*machine, *state, **event)).copied().unwrap_or(0);
            let met: Vec<String> = events
                .iter()
                .filter(|event| count(event) > 0)
                .map(|event| format!("{event} {}", count(&event)))
                .collect();
            text += &format!("{machine} | {state}: {}\n", met.join(", "));
        }
    }
    text += "\nnever met:\n";
    for (machine, states, events) in MACHINES {
        for state in *states {
            let met = |event: &&&str| pairs.contains_key(&(*machine, *state, **event));
            let never: Vec<&str> = events.iter().filter(|event| !met(event)).copied().collect();
            if !never.is_empty() {
                text += &format!("{machine} | {state}: {}\n", never.join(", "));
            }
        }
    }
    text
}
