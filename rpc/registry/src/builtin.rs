//! The methods that speak of the registry itself.

use crate::error::RpcError;
use crate::method::{Method, Phase};
use crate::registry::{Call, Registry};
use crate::subsystem::ConfigEntry;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// Parameters of `rpc_get_methods`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetMethods {
    /// Only methods that may be called in the current state; default false
    current: Option<bool>,
    /// Deprecated names as well; default false
    include_aliases: Option<bool>,
}

/// Parameters of `framework_get_config`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetConfig {
    /// Name of the subsystem
    name: String,
    /// Accepted for compatibility: calls are saved one by one, never as batches
    #[expect(dead_code, reason = "no writer makes batches, so both values give the same")]
    with_batches: Option<bool>,
}

pub(crate) fn register(registry: &mut Registry) {
    registry.add_scoped(
        Method::new("rpc_get_methods", "List the methods that may be called")
            .phase(Phase::Any)
            .spdk(true)
            .example(json!({"current": true}))
            .result_example(json!(["rpc_get_methods", "framework_get_subsystems"])),
        get_methods,
    );
    registry.add_no_params_with(
        Method::new("rmr_get_schema", "Describe every method: parameters as JSON Schema, examples, phase")
            .phase(Phase::Any)
            .result_example(json!({"methods": [{"name": "rpc_get_methods", "phase": "any"}]})),
        |registry| Ok(registry.schema()),
    );
    registry.add_no_params_with(
        Method::new("framework_get_subsystems", "List the subsystems in the order they depend on each other")
            .spdk(true)
            .result_example(json!([{"subsystem": "bdev", "depends_on": ["iobuf"]}])),
        |registry| Ok(get_subsystems(registry)),
    );
    registry.add_with(
        Method::new("framework_get_config", "Print the configuration of one subsystem as method calls")
            .spdk(true)
            .example(json!({"name": "bdev"}))
            .result_example(json!([
                {"method": "bdev_null_create", "params": {"name": "Null0", "num_blocks": 1024, "block_size": 512}}
            ])),
        get_config,
    );
}

fn get_methods(call: &Call<'_>, params: GetMethods) -> Result<Vec<&'static str>, RpcError> {
    let state = call.registry.state();
    let current = params.current.unwrap_or(false);
    let aliases = params.include_aliases.unwrap_or(false);
    let visible = call
        .registry
        .methods()
        .filter(|method| call.scope.allows(method.name) && (!current || method.phase.allows(state)));
    let names = visible.flat_map(|method| {
        let also = if aliases { method.aliases.as_slice() } else { &[] };
        std::iter::once(method.name).chain(also.iter().copied())
    });
    Ok(names.collect())
}

fn get_subsystems(registry: &Registry) -> Vec<Value> {
    let one = |subsystem: &crate::Subsystem| json!({"subsystem": subsystem.name, "depends_on": subsystem.depends_on});
    registry.subsystems().iter().map(one).collect()
}

fn get_config(registry: &Registry, params: GetConfig) -> Result<Option<Vec<ConfigEntry>>, RpcError> {
    let name = params.name;
    let Some(subsystem) = registry.subsystem(&name) else {
        let known: Vec<&str> = registry.subsystems().iter().map(|subsystem| subsystem.name).collect();
        let error = RpcError::invalid_params(format!("Subsystem '{name}' not found"));
        return Err(error.parameter("name", name, known.join(", ")));
    };
    Ok(subsystem.saved())
}
