//! framework_get_scheduler, framework_set_scheduler: reactors own their cores, so there is one scheduler, SPDK's
//! `static`, and nothing to set.

use rpc_registry::{ConfigEntry, Method, Phase, Registry, RpcError, Subsystem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tgt_reactor::Handle;

/// The one scheduler.
const STATIC: &str = "static";

/// Parameters of `framework_set_scheduler`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetScheduler {
    /// Only static: reactors own their cores
    name: String,
    /// Period in microseconds; no effect, as nothing is moved
    #[expect(dead_code, reason = "accepted for SPDK's configurations")]
    period: Option<u64>,
}

/// Its members in SPDK's order.
#[derive(Serialize)]
struct Scheduler {
    scheduler_name: &'static str,
    scheduler_period: u64,
    isolated_core_mask: &'static str,
    scheduling_core: u32,
}

/// Adds the methods. The subsystem is given back, to be added in its place.
pub(super) fn register(registry: &mut Registry, reactors: &Arc<Vec<Handle>>) -> Subsystem {
    let scheduling_core = reactors.first().map_or(0, Handle::core);
    let scheduler = move || Scheduler {
        scheduler_name: STATIC,
        scheduler_period: 0,
        isolated_core_mask: "0",
        scheduling_core,
    };
    registry.add_no_params(
        Method::new(
            "framework_get_scheduler",
            "Show the scheduler: reactors own their cores, nothing is moved",
        )
        .spdk(true)
        .phase(Phase::Any)
        .result_example(json!({"scheduler_name": "static", "scheduler_period": 0, "isolated_core_mask": "0",
                "scheduling_core": 0})),
        move || Ok(scheduler()),
    );
    registry.add(
        Method::new("framework_set_scheduler", "Choose the scheduler; there is one: static")
            .spdk(true)
            .phase(Phase::Any)
            .example(json!({"name": "static"}))
            .result_example(json!(true)),
        |SetScheduler { name, .. }| set(&name),
    );
    let saved = || vec![ConfigEntry::new("framework_set_scheduler", json!({"name": STATIC}))];
    Subsystem::new("scheduler").config(saved)
}

fn set(name: &str) -> Result<bool, RpcError> {
    if name == STATIC {
        return Ok(true);
    }
    let text = format!("scheduler {name:?}, accepted: \"{STATIC}\": reactors own their cores");
    Err(RpcError::invalid_params(text).parameter("name", name, STATIC))
}
