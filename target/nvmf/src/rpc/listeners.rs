//! Listeners, asymmetric access, referrals.

use super::{ListenAddress, address, method, only_target};
use crate::model::{AnaState, Referral};
use crate::service::Nvmf;
use rpc_registry::{Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tgt_nvme::fabrics::DISCOVERY_NQN;

/// How good a path is.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum State {
    Optimized,
    NonOptimized,
    Inaccessible,
}

impl From<State> for AnaState {
    fn from(state: State) -> AnaState {
        match state {
            State::Optimized => AnaState::Optimized,
            State::NonOptimized => AnaState::NonOptimized,
            State::Inaccessible => AnaState::Inaccessible,
        }
    }
}

/// Parameters of `nvmf_subsystem_add_listener`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    /// Name of a subsystem
    nqn: String,
    /// Where
    listen_address: ListenAddress,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
    /// Only false: TLS is not built
    secure_channel: Option<bool>,
    /// State of asymmetric access of all groups at first; default optimized
    ana_state: Option<State>,
    /// Accepted, without effect: there is one way to use sockets
    sock_impl: Option<String>,
}

/// Parameters of `nvmf_subsystem_remove_listener`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// Name of a subsystem
    nqn: String,
    /// Where
    listen_address: ListenAddress,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of `nvmf_subsystem_listener_set_ana_state`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetAna {
    /// Name of a subsystem that was made with ana_reporting
    nqn: String,
    /// Which of its listeners
    listen_address: ListenAddress,
    /// The new state
    ana_state: State,
    /// Group of namespaces; all without it
    anagrpid: Option<u32>,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of `nvmf_discovery_add_referral`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddReferral {
    /// Where the other discovery subsystem is
    address: ListenAddress,
    /// It wants a secure channel; default false
    secure_channel: Option<bool>,
    /// Its name; default that of all discovery subsystems
    subnqn: Option<String>,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of `nvmf_discovery_remove_referral`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RemoveReferral {
    /// Where the other discovery subsystem is
    address: ListenAddress,
    /// Its name; default that of all discovery subsystems
    subnqn: Option<String>,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of `nvmf_discovery_get_referrals`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetReferrals {
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

pub(super) fn register(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let here = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"});
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_add_listener", "Let hosts come in to a subsystem by an address")
            .example(json!({"nqn": NQN, "listen_address": here}))
            .result_example(json!(true)),
        move |params: Add| {
            only_target(params.tgt_name.as_ref().or(params.sock_impl.as_ref()));
            no_tls(params.secure_channel)?;
            let state = params.ana_state.unwrap_or(State::Optimized);
            of.add_listener(&params.nqn, params.listen_address.socket()?, state.into())?;
            Ok(true)
        },
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_remove_listener", "Listen there no more; controllers that came in there end")
            .example(json!({"nqn": NQN, "listen_address": here}))
            .result_example(json!(true)),
        move |params: Remove| {
            only_target(params.tgt_name.as_ref());
            of.remove_listener(&params.nqn, params.listen_address.socket()?)?;
            Ok(true)
        },
    );
    let of = nvmf.clone();
    registry.add(
        method(
            "nvmf_subsystem_listener_set_ana_state",
            "Set how good the path over a listener is, and tell hosts",
        )
        .example(json!({"nqn": NQN, "listen_address": here, "ana_state": "non_optimized"}))
        .result_example(json!(true)),
        move |params: SetAna| {
            only_target(params.tgt_name.as_ref());
            let address = params.listen_address.socket()?;
            of.set_ana_state(&params.nqn, address, params.anagrpid, params.ana_state.into())?;
            Ok(true)
        },
    );
    register_referrals(registry, nvmf);
}

fn register_referrals(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let there = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "192.0.2.7", "trsvcid": "8009"});
    let of = nvmf.clone();
    registry.add(
        method("nvmf_discovery_add_referral", "Tell hosts that ask for discovery of another place to ask")
            .example(json!({"address": there}))
            .result_example(json!(true)),
        move |params: AddReferral| {
            only_target(params.tgt_name.as_ref());
            of.add_referral(Referral {
                address: params.address.socket()?,
                subnqn: params.subnqn.unwrap_or_else(|| DISCOVERY_NQN.to_owned()),
                secure_channel: params.secure_channel.unwrap_or(false),
            })?;
            Ok(true)
        },
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_discovery_get_referrals", "List the other places to ask")
            .example(json!({}))
            .result_example(json!([{"address": there, "secure_channel": false, "subnqn": DISCOVERY_NQN}])),
        move |params: GetReferrals| {
            only_target(params.tgt_name.as_ref());
            let shown = |referral: &Referral| {
                json!({
                    "address": address(referral.address),
                    "secure_channel": referral.secure_channel,
                    "subnqn": referral.subnqn,
                })
            };
            Ok(of.tables().referrals().iter().map(shown).collect::<Vec<_>>())
        },
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_discovery_remove_referral", "Tell hosts of another place to ask no more")
            .example(json!({"address": there}))
            .result_example(json!(true)),
        move |params: RemoveReferral| {
            only_target(params.tgt_name.as_ref());
            let nqn = params.subnqn.as_deref().unwrap_or(DISCOVERY_NQN);
            of.remove_referral(params.address.socket()?, nqn)?;
            Ok(true)
        },
    );
}

fn no_tls(secure_channel: Option<bool>) -> Result<(), RpcError> {
    if secure_channel != Some(true) {
        return Ok(());
    }
    let text = "secure_channel true; accepted: false: TLS is not built into this target";
    Err(RpcError::invalid_params(text).parameter("secure_channel", true, "false"))
}
