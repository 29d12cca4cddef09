//! framework_enable_cpumask_locks, framework_disable_cpumask_locks.

use crate::claims::Claims;
use rpc_registry::{Method, Phase, Registry, RpcError};
use serde_json::json;
use std::sync::Arc;

pub(super) fn register(registry: &mut Registry, claims: &Arc<Claims>) {
    let of = claims.clone();
    registry.add_no_params(
        Method::new("framework_enable_cpumask_locks", "Claim this target's cores with lock files")
            .spdk(true)
            .phase(Phase::Any)
            .result_example(json!(true)),
        move || of.take().map(|()| true).map_err(|error| RpcError::internal(error.to_string())),
    );
    let of = claims.clone();
    registry.add_no_params(
        Method::new("framework_disable_cpumask_locks", "Give up the claims on this target's cores")
            .spdk(true)
            .phase(Phase::Any)
            .result_example(json!(true)),
        move || {
            of.give_up();
            Ok(true)
        },
    );
}
