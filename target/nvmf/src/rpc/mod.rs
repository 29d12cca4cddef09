//! The methods, with SPDK's names, parameters and answers, and what of the target is saved. Control threads.
//!
//! `mod` addresses and errors · `options` before the target is up · `transport` · `subsystems` with hosts and namespaces · `listeners` with referrals · `show` what the get
//! methods answer · `saved` the configuration.

mod listeners;
mod options;
mod saved;
mod show;
mod subsystems;
mod transport;

use crate::error::NvmfError;
use crate::service::Nvmf;
use rpc_registry::{Method, Registry, RpcError, Subsystem, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Where to listen.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListenAddress {
    /// TCP; RDMA is not built
    trtype: String,
    /// IPv4 or IPv6: what traddr is; checked
    adrfam: Option<String>,
    /// IP address; 0.0.0.0 or :: for all of this host
    traddr: String,
    /// Port: 1 to 65535
    trsvcid: String,
}

/// Adds the methods of the target to `registry`. The subsystem `nvmf` is given back: to be added after `bdev` and all that makes bdevs.
pub fn register(registry: &mut Registry, nvmf: &Arc<Nvmf>) -> Subsystem {
    options::register(registry, nvmf);
    transport::register(registry, nvmf);
    subsystems::register(registry, nvmf);
    listeners::register(registry, nvmf);
    show::register(registry, nvmf);
    subsystems::register_delete(registry, nvmf);
    let of = nvmf.clone();
    Subsystem::new("nvmf").config(move || saved::saved(&of))
}

fn method(name: &'static str, summary: &'static str) -> Method {
    Method::new(name, summary).spdk(true)
}

/// There is one target; whatever name a client gives it is its name.
fn only_target(_name: Option<&String>) {}

fn tcp_only(trtype: &str) -> Result<(), RpcError> {
    if trtype.eq_ignore_ascii_case("TCP") {
        return Ok(());
    }
    let why = if trtype.eq_ignore_ascii_case("RDMA") {
        "it is not built into this target"
    } else {
        "there is none"
    };
    let text = format!("trtype {trtype:?}: {why}; accepted: \"TCP\"");
    Err(RpcError::invalid_params(text).parameter("trtype", trtype, "TCP"))
}

impl ListenAddress {
    fn socket(&self) -> Result<SocketAddr, RpcError> {
        tcp_only(&self.trtype)?;
        let wrong = |name: &str, value: &str, accepted: &str| {
            let text = format!("{name} {value:?}; accepted: {accepted}");
            RpcError::invalid_params(text).parameter(name, value, accepted)
        };
        let addresses = "an IPv4 or IPv6 address, without brackets; names are not looked up";
        let ip: IpAddr = self.traddr.parse().map_err(|_| wrong("traddr", &self.traddr, addresses))?;
        let digits = self.trsvcid.bytes().all(|byte| byte.is_ascii_digit());
        let port = self.trsvcid.parse::<u16>().ok().filter(|port| digits && *port > 0);
        let port = port.ok_or_else(|| wrong("trsvcid", &self.trsvcid, "a port: 1 to 65535"))?;
        match &self.adrfam {
            Some(given) if !given.eq_ignore_ascii_case(family(ip)) => {
                let accepted = format!("{}, as traddr is {ip}; or none", family(ip));
                Err(wrong("adrfam", given, &accepted))
            }
            _ => Ok((ip, port).into()),
        }
    }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// An address as SPDK writes it.
fn address(of: SocketAddr) -> Value {
    json!({
        "trtype": "TCP",
        "adrfam": family(of.ip()),
        "traddr": of.ip().to_string(),
        "trsvcid": of.port().to_string(),
    })
}

impl From<NvmfError> for RpcError {
    /// SPDK's code for nearly all that can be wrong here is -32602; the errno stands beside it.
    fn from(error: NvmfError) -> RpcError {
        let code = match &error {
            NvmfError::Call(_) | NvmfError::TransportExists => codes::INTERNAL,
            _ => codes::INVALID_PARAMS,
        };
        let answer = RpcError::new(code, error.to_string()).detail("errno", -error.errno());
        match error {
            NvmfError::Value { name, value, accepted } => answer.parameter(name, value, accepted),
            _ => answer,
        }
    }
}
