//! rtrs_create_session and what is done with sessions.

use super::show;
use crate::client;
use crate::sessions::{PathSpec, PeerSpec, Sessions, SessionsError};
use rpc_registry::{Method, Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// How a path is chosen for a request.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Policy {
    RoundRobin,
    MinInflight,
    MinLatency,
}

impl From<Policy> for client::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::RoundRobin => Self::RoundRobin,
            Policy::MinInflight => Self::MinInflight,
            Policy::MinLatency => Self::MinLatency,
        }
    }
}

/// Parameters of `rtrs_create_session`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateSession {
    /// Ways to the peer's listeners: ip:ADDRESS:PORT or ip:SOURCE@ip:ADDRESS:PORT, IPv6 in brackets
    #[schemars(length(min = 1))]
    paths: Vec<String>,
    /// Name of the key that the peer's listener asks for, in both keyrings; needed unless the peer is on this host or both targets run with --insecure-sessions
    #[schemars(length(min = 1))]
    key: Option<String>,
    /// How a path is chosen for a request; default: min_inflight
    policy: Option<Policy>,
    /// Digests (CRC32C) of data; used if either side wants them; default true
    data_digest: Option<bool>,
}

/// Parameters of methods about one session.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfSession {
    /// UUID of the session, or a path that no other has
    session: String,
}

/// Parameters of `rtrs_get_sessions`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetSessions {
    /// UUID of the session to show, or a path of it; all without it, those of clients included
    session: Option<String>,
}

/// Parameters of `rtrs_add_path` and `rtrs_remove_path`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfPath {
    /// UUID of the session, or a path that no other has
    session: String,
    /// ip:ADDRESS:PORT or ip:SOURCE@ip:ADDRESS:PORT, IPv6 in brackets
    path: String,
}

/// Parameters of `rtrs_set_multipath_policy`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetPolicy {
    /// UUID of the session, or a path that no other has
    session: String,
    /// One after the other, the one with the fewest requests under way, or the one whose beats come back soonest
    policy: Policy,
}

pub(super) fn register(registry: &mut Registry, sessions: &Arc<Sessions>) {
    const NAMED: &str = "ip:127.0.0.1:4430";
    let of = sessions.clone();
    registry.add(
        Method::new("rtrs_create_session", "Connect to a peer and stay connected, before anything uses it")
            .example(json!({"paths": [NAMED], "policy": "min_inflight"}))
            .result_example(json!(show::EXAMPLE_SESSION)),
        move |params: CreateSession| Ok(create(&of, params)?),
    );
    let of = sessions.clone();
    registry.add(
        Method::new("rtrs_get_sessions", "List sessions to peers and of clients, with their lanes and paths")
            .example(json!({}))
            .result_example(show::sessions_example()),
        move |params: GetSessions| get(&of, params.session.as_deref()),
    );
    let of = sessions.clone();
    registry.add(
        Method::new("rtrs_add_path", "Add a way to a session's peer")
            .example(json!({"session": NAMED, "path": "ip:127.0.0.1@ip:127.0.0.1:4430"}))
            .result_example(json!(true)),
        move |params: OfPath| {
            of.add_path(&params.session, path(&params.path)?)?;
            Ok(true)
        },
    );
    let of = sessions.clone();
    registry.add(
        Method::new("rtrs_set_multipath_policy", "Choose how a session's paths are chosen for requests")
            .example(json!({"session": NAMED, "policy": "min_latency"}))
            .result_example(json!(true)),
        move |params: SetPolicy| {
            of.set_policy(&params.session, params.policy.into())?;
            Ok(true)
        },
    );
    let of = sessions.clone();
    registry.add(
        Method::new("rtrs_reconnect_session", "Try all paths of a session that are not up at once")
            .example(json!({"session": NAMED}))
            .result_example(json!(true)),
        move |params: OfSession| {
            of.reconnect(&params.session)?;
            Ok(true)
        },
    );
    let of = sessions.clone();
    registry.add(
        Method::new(
            "rtrs_remove_path",
            "Take a way to a session's peer away; what was under way on it goes by others",
        )
        .example(json!({"session": NAMED, "path": "ip:127.0.0.1@ip:127.0.0.1:4430"}))
        .result_example(json!(true)),
        move |params: OfPath| {
            of.remove_path(&params.session, path(&params.path)?)?;
            Ok(true)
        },
    );
    let of = sessions.clone();
    registry.add(
        Method::new("rtrs_delete_session", "End a session that rtrs_create_session made and nothing uses")
            .example(json!({"session": NAMED}))
            .result_example(json!(true)),
        move |params: OfSession| {
            of.delete(&params.session)?;
            Ok(true)
        },
    );
}

fn create(sessions: &Sessions, params: CreateSession) -> Result<String, SessionsError> {
    let paths = params.paths.iter().map(|text| path(text)).collect::<Result<_, _>>()?;
    let spec = PeerSpec {
        paths,
        key: params.key,
        policy: params.policy.map(Into::into),
        digest: params.data_digest.unwrap_or(true),
    };
    Ok(sessions.create(&spec)?.to_string())
}

fn path(text: &str) -> Result<PathSpec, SessionsError> {
    Ok(text.parse::<PathSpec>()?)
}

fn get(sessions: &Sessions, which: Option<&str>) -> Result<Vec<serde_json::Value>, RpcError> {
    let ours = sessions.sessions()?;
    let served = sessions.served()?;
    let one = match which {
        // One of a client's has no path from here: its UUID alone names it.
        Some(name) => match served.iter().find(|served| served.id.to_string() == name.to_ascii_lowercase()) {
            Some(served) => return Ok(vec![show::served(served)]),
            None => Some(sessions.id_of(name)?),
        },
        None => None,
    };
    let host = sessions.host();
    let mut all: Vec<_> = ours
        .iter()
        .filter(|info| one.is_none_or(|id| info.id == id))
        .map(|info| show::session(info, host))
        .collect();
    if one.is_none() {
        all.extend(served.iter().map(show::served));
    }
    Ok(all)
}
