//! nvmf_set_config, nvmf_set_max_subsystems: before the target is up.

use super::method;
use crate::service::Nvmf;
use rpc_registry::{Phase, Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Commands that are passed through.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Passthru {
    /// Only false: identify is answered by the target
    identify_ctrlr: bool,
}

/// Parameters of `nvmf_set_config`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some are accepted for SPDK's configurations")]
struct Config {
    /// Commands that are passed through to a device: none
    admin_cmd_passthru: Option<Passthru>,
    /// Accepted, without effect: connections go to all reactors
    poll_groups_mask: Option<String>,
    /// match_any: hosts are told of all listeners of what they may use
    discovery_filter: Option<String>,
    /// Accepted, without effect: there is no authentication
    dhchap_digests: Option<Vec<String>>,
    /// Accepted, without effect: there is no authentication
    dhchap_dhgroups: Option<Vec<String>>,
}

/// Parameters of `nvmf_set_max_subsystems`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MaxSubsystems {
    /// Most subsystems, 1 to 65536; default 1024
    #[schemars(range(min = 1, max = 65_536))]
    max_subsystems: u32,
}

pub(super) fn register(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    registry.add(
        method("nvmf_set_config", "Accept SPDK's configuration of its target")
            .phase(Phase::Startup)
            .example(
                json!({"admin_cmd_passthru": {"identify_ctrlr": false}, "discovery_filter": "match_any"}),
            )
            .result_example(json!(true)),
        |params: Config| set_config(&params),
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_set_max_subsystems", "Set how many subsystems there may be")
            .phase(Phase::Startup)
            .example(json!({"max_subsystems": 1024}))
            .result_example(json!(true)),
        move |MaxSubsystems { max_subsystems }: MaxSubsystems| {
            of.tables().set_max_subsystems(max_subsystems);
            Ok(true)
        },
    );
}

fn set_config(params: &Config) -> Result<bool, RpcError> {
    if params.admin_cmd_passthru.as_ref().is_some_and(|commands| commands.identify_ctrlr) {
        let text = "admin_cmd_passthru.identify_ctrlr true; accepted: false: no command is passed through";
        return Err(RpcError::invalid_params(text).parameter("identify_ctrlr", true, "false"));
    }
    match params.discovery_filter.as_deref() {
        None | Some("match_any") => Ok(true),
        Some(other) => {
            let text = format!("discovery_filter {other:?}; accepted: \"match_any\"");
            Err(RpcError::invalid_params(text).parameter("discovery_filter", other, "match_any"))
        }
    }
}
