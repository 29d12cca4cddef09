//! The methods of sessions, and what of them is saved. Control threads.
//!
//! `mod` transport and listeners · `peers` sessions and paths · `show` what the get methods answer.

mod peers;
mod show;

use crate::sessions::{ListenerSpec, Sessions, SessionsError, policy_name};
use rpc_registry::{ConfigEntry, Method, Registry, RpcError, Subsystem};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const ENOTSUP: i32 = 95;
const EINVAL: i32 = 22;

/// Parameters of `rtrs_create_transport`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateTransport {
    /// TCP; RDMA is not built
    trtype: String,
    /// Requests that a client may have under way on each of its reactors, 1 to 4096; default 256
    max_queue_depth: Option<u32>,
    /// Most bytes of data in one request: a multiple of 4096, up to 2097152; default 1048576
    max_io_size: Option<u64>,
}

/// Parameters of `rtrs_add_listener`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddListener {
    /// TCP; RDMA is not built
    trtype: String,
    /// IPv4 or IPv6: what traddr is; checked
    adrfam: Option<String>,
    /// Own IP address; 0.0.0.0 or :: for all
    traddr: String,
    /// Port: 1 to 65535
    trsvcid: String,
    /// Name of the key that every client must have under the same name; without one only clients on this host are let in, unless --insecure-sessions
    #[schemars(length(min = 1))]
    key: Option<String>,
    /// Digests (CRC32C) of data; used if either side wants them; default true
    data_digest: Option<bool>,
    /// Which reactor accepts there; connections go on to the reactors of their lanes; default: 0
    reactor: Option<u32>,
}

/// Parameters of `rtrs_remove_listener`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RemoveListener {
    /// TCP; RDMA is not built
    trtype: Option<String>,
    /// IPv4 or IPv6: what traddr is; checked
    adrfam: Option<String>,
    /// Own IP address, as it was added
    traddr: String,
    /// Port
    trsvcid: String,
}

/// Adds the methods of sessions to `registry`. The subsystem `rtrs` is given back: to be added after the keyring, before
/// what uses sessions.
pub fn register(registry: &mut Registry, sessions: &Arc<Sessions>) -> Subsystem {
    let of = sessions.clone();
    registry.add(
        Method::new("rtrs_create_transport", "Set what clients are allowed, once, before the first listener")
            .example(json!({"trtype": "TCP", "max_queue_depth": 256, "max_io_size": 1_048_576}))
            .result_example(json!(true)),
        move |params: CreateTransport| {
            tcp_only(&params.trtype)?;
            of.create_transport(params.max_queue_depth, params.max_io_size)?;
            Ok(true)
        },
    );
    let of = sessions.clone();
    registry.add(
        Method::new("rtrs_add_listener", "Let other hosts come in by an address")
            .example(json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4430"}))
            .result_example(json!(true)),
        move |params: AddListener| {
            tcp_only(&params.trtype)?;
            let address = address(params.adrfam.as_deref(), &params.traddr, &params.trsvcid)?;
            let digest = params.data_digest.unwrap_or(true);
            of.add_listener(&ListenerSpec { address, key: params.key, digest, reactor: params.reactor })?;
            Ok(true)
        },
    );
    let of = sessions.clone();
    registry.add_no_params(
        Method::new("rtrs_get_listeners", "List where other hosts come in, and who was refused")
            .result_example(show::listeners_example()),
        move || Ok(of.listeners()?.iter().map(show::listener).collect::<Vec<_>>()),
    );
    peers::register(registry, sessions);
    let of = sessions.clone();
    registry.add(
        Method::new(
            "rtrs_remove_listener",
            "End a listener and the connections that came through it; clients that have another way in go on",
        )
        .example(json!({"traddr": "127.0.0.1", "trsvcid": "4430"}))
        .result_example(json!(true)),
        move |params: RemoveListener| {
            params.trtype.as_deref().map_or(Ok(()), tcp_only)?;
            of.remove_listener(address(params.adrfam.as_deref(), &params.traddr, &params.trsvcid)?)?;
            Ok(true)
        },
    );
    let of = sessions.clone();
    Subsystem::new("rtrs").config(move || saved(&of))
}

/// The calls that bring all of it back: a session gets another UUID.
fn saved(sessions: &Sessions) -> Vec<ConfigEntry> {
    let transport = sessions.transport().map(|transport| {
        let (depth, bytes) = (transport.max_queue_depth, transport.max_io_size);
        let params = json!({"trtype": "TCP", "max_queue_depth": depth, "max_io_size": bytes});
        ConfigEntry::new("rtrs_create_transport", params)
    });
    let listeners = sessions.listener_specs().into_iter().map(|spec| {
        let family = if spec.address.is_ipv4() { "IPv4" } else { "IPv6" };
        let (ip, port) = (spec.address.ip().to_string(), spec.address.port().to_string());
        let mut params = json!({"trtype": "TCP", "adrfam": family, "traddr": ip, "trsvcid": port});
        put(&mut params, "key", spec.key);
        put(&mut params, "data_digest", (!spec.digest).then_some(false));
        put(&mut params, "reactor", spec.reactor);
        ConfigEntry::new("rtrs_add_listener", params)
    });
    let peers = sessions.created().into_iter().map(|spec| {
        let paths: Vec<String> = spec.paths.iter().map(ToString::to_string).collect();
        let mut params = json!({"paths": paths});
        put(&mut params, "key", spec.key);
        put(&mut params, "policy", spec.policy.map(policy_name));
        put(&mut params, "data_digest", (!spec.digest).then_some(false));
        ConfigEntry::new("rtrs_create_session", params)
    });
    transport.into_iter().chain(listeners).chain(peers).collect()
}

/// A member, if there is something to say.
fn put(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[name] = value.into();
    }
}

fn tcp_only(trtype: &str) -> Result<(), RpcError> {
    if trtype.eq_ignore_ascii_case("TCP") {
        return Ok(());
    }
    let (errno, why) = match trtype {
        rdma if rdma.eq_ignore_ascii_case("RDMA") => (ENOTSUP, "RDMA is not built into this target"),
        _ => (EINVAL, "there is no such transport"),
    };
    let text = format!("trtype {trtype:?}: {why}; accepted: \"TCP\"");
    Err(RpcError::errno(errno, text).parameter("trtype", trtype, "TCP"))
}

fn address(adrfam: Option<&str>, traddr: &str, trsvcid: &str) -> Result<SocketAddr, RpcError> {
    let wrong = |name: &str, value: &str, accepted: &str| {
        let text = format!("{name} {value:?}; accepted: {accepted}");
        RpcError::errno(EINVAL, text).parameter(name, value, accepted)
    };
    let ip: IpAddr = traddr.parse().map_err(|_| {
        wrong(
            "traddr",
            traddr,
            "an IPv4 or IPv6 address of this host, without brackets; names are not looked up",
        )
    })?;
    let digits = trsvcid.bytes().all(|byte| byte.is_ascii_digit());
    let port = trsvcid.parse::<u16>().ok().filter(|_| digits);
    let port = port.ok_or_else(|| wrong("trsvcid", trsvcid, "a port: 1 to 65535"))?;
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    match adrfam {
        Some(given) if !given.eq_ignore_ascii_case(family) => {
            Err(wrong("adrfam", given, &format!("{family}, as traddr is {traddr}; or none")))
        }
        _ => Ok((ip, port).into()),
    }
}

impl From<SessionsError> for RpcError {
    fn from(error: SessionsError) -> RpcError {
        let answer = RpcError::errno(error.errno(), error.to_string());
        match error.parameter() {
            Some((name, value, accepted)) => answer.parameter(name, value, accepted),
            None => answer,
        }
    }
}
