//! What `rtrs_get_sessions` and `rtrs_get_listeners` answer.

use crate::Id;
use crate::client::PathState;
use crate::sessions::{LaneInfo, ListenerInfo, PathInfo, ServedInfo, SessionInfo, policy_name};
use crate::tcp::ServedPath;
use serde_json::{Value, json};
use std::time::SystemTime;

/// The session of the examples.
pub(super) const EXAMPLE_SESSION: &str = "5c1e7a40-93b2-4f0e-8d55-2b1f6f0c9a77";

/// How long ago, ms. The system's clock may have been set back since: then zero.
fn ms_since(when: SystemTime) -> u64 {
    when.elapsed().map_or(0, |past| u64::try_from(past.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn listener(info: &ListenerInfo) -> Value {
    let address = info.spec.address;
    let figures = info.figures;
    let last = figures.and_then(|figures| figures.last_refused).map(|(fault, from, when)| {
        json!({"from": from.to_string(), "reason": fault.to_string(), "ago_ms": ms_since(when)})
    });
    json!({
        "trtype": "TCP",
        "adrfam": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "traddr": address.ip().to_string(),
        "trsvcid": address.port().to_string(),
        "key": info.spec.key,
        "key_error": info.key_fault,
        "reactor": info.reactor,
        "connections": info.connections,
        "admitted": figures.map_or(0, |figures| figures.admitted),
        "refused": figures.map_or(0, |figures| figures.refused),
        "last_refused": last,
    })
}

pub(super) fn session(info: &SessionInfo, host: Id) -> Value {
    let limits = info.lanes.iter().find_map(|lane| lane.up).map(|up| up.limits);
    json!({
        "session": info.id.to_string(),
        "role": "client",
        "state": state_of(&info.lanes),
        "host": host.to_string(),
        "peer_host": info.peer.map(|peer| peer.to_string()),
        "same_peer_as": info.same_peer.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "key": info.spec.key,
        "key_error": info.key_fault,
        "policy": info.spec.policy.map(policy_name),
        "data_digest": info.spec.digest,
        "created_by_rpc": info.pinned,
        "users": info.lanes.iter().map(|lane| lane.users).sum::<u32>(),
        "queue_depth": limits.map(|limits| limits.depth),
        "max_io_size": limits.map(|limits| limits.data_max),
        "lanes": info.lanes.iter().map(lane).collect::<Vec<_>>(),
        "paths": info.paths.iter().map(path).collect::<Vec<_>>(),
    })
}

/// The worst of the lanes' states.
fn state_of(lanes: &[LaneInfo]) -> &'static str {
    let worst = ["down", "connecting", "stalled"]
        .into_iter()
        .find(|state| lanes.iter().any(|lane| lane.state() == *state));
    worst.unwrap_or(if lanes.is_empty() { "unused" } else { "up" })
}

fn lane(lane: &LaneInfo) -> Value {
    let reason = match lane.up {
        Some(up) => up.stalled.map(|fault| fault.to_string()),
        None => lane.died.map(|why| why.to_string()),
    };
    json!({
        "reactor": lane.reactor.0,
        "state": lane.state(),
        "reason": reason,
        "life_since_ms": ms_since(lane.since),
        "last_death": lane.died.map(|why| why.to_string()),
        "incarnation": lane.incarnation.0,
        "lives": lane.lives,
        "users": lane.users,
        "under_way": lane.under_way,
        "waiting_users": lane.waiting,
    })
}

fn path(info: &PathInfo) -> Value {
    let (up, all) = (info.up(), info.lanes.len());
    let state = match info.lanes.first() {
        None => "unused",
        Some(_) if up == all => "up",
        Some(_) if up > 0 => "partly_up",
        Some(lane) => match lane.state {
            PathState::Waiting { .. } => "down",
            _ => "connecting",
        },
    };
    let change = info.last_change();
    json!({
        "path": info.spec.to_string(),
        "state": state,
        "reason": change.and_then(|(_, fault)| fault).map(|fault| fault.to_string()),
        "changed_ms": change.map(|(when, _)| ms_since(when)),
        "latency_ns": info.latency_ns(),
        "requests": info.sum(|stats| stats.requests),
        "answers": info.sum(|stats| stats.answers),
        "bytes_written": info.sum(|stats| stats.bytes_out),
        "bytes_read": info.sum(|stats| stats.bytes_in),
        "resends": info.sum(|stats| stats.resends),
        "connects": info.sum(|stats| stats.ups),
        "faults": info.sum(|stats| stats.faults),
    })
}

pub(super) fn served(info: &ServedInfo) -> Value {
    let lanes = info.lanes.iter().map(|lane| {
        json!({
            "reactor": lane.reactor.0,
            "number": lane.number,
            "life_since_ms": ms_since(lane.since),
            "connections": lane.connections.iter().map(|path| path.from.to_string()).collect::<Vec<_>>(),
            "requests": lane.stats.requests,
            "answers": lane.stats.answers,
            "bytes_written": lane.stats.bytes_in,
            "bytes_read": lane.stats.bytes_out,
            "paths": lane.connections.iter().map(served_path).collect::<Vec<_>>(),
        })
    });
    json!({
        "session": info.id.to_string(),
        "role": "server",
        "peer_host": info.peer.to_string(),
        "lanes": lanes.collect::<Vec<_>>(),
    })
}

fn served_path(path: &ServedPath) -> Value {
    json!({
        "from": path.from.to_string(),
        "path": path.path.to_string(),
        "requests": path.stats.requests,
        "answers": path.stats.answers,
        "bytes_written": path.stats.bytes_in,
        "bytes_read": path.stats.bytes_out,
    })
}

pub(super) fn listeners_example() -> Value {
    json!([{"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4430", "key": null,
        "key_error": null, "reactor": 0, "connections": 1, "admitted": 1, "refused": 0, "last_refused": null}])
}

pub(super) fn sessions_example() -> Value {
    let host = "0d9e3f1a-6a52-4b1c-9f26-1c7a5be40d11";
    json!([
        {"session": EXAMPLE_SESSION, "role": "client", "state": "up", "host": host, "peer_host": host,
            "same_peer_as": [], "key": null, "key_error": null, "policy": "min_latency", "data_digest": true,
            "created_by_rpc": true, "users": 0, "queue_depth": 256, "max_io_size": 1_048_576,
            "lanes": [{"reactor": 0, "state": "up", "reason": null, "life_since_ms": 4011, "last_death": null,
                "incarnation": 1, "lives": 1, "users": 0, "under_way": 0, "waiting_users": 0}],
            "paths": [{"path": "ip:127.0.0.1:4430", "state": "up", "reason": null, "changed_ms": 4011,
                "latency_ns": 52_300, "requests": 0, "answers": 0, "bytes_written": 0, "bytes_read": 0,
                "resends": 0, "connects": 1, "faults": 0}]},
        {"session": EXAMPLE_SESSION, "role": "server", "peer_host": host,
            "lanes": [{"reactor": 0, "number": 0, "life_since_ms": 4011, "connections": ["127.0.0.1:53202"],
                "requests": 0, "answers": 0, "bytes_written": 0, "bytes_read": 0,
                "paths": [{"from": "127.0.0.1:53202", "path": "8f0d1c52-77aa-4b3e-9a06-5d1e2f3c4b5a",
                    "requests": 0, "answers": 0, "bytes_written": 0, "bytes_read": 0}]}]}
    ])
}
