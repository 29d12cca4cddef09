//! bdev_passthru_create, bdev_passthru_delete. Control threads.

use crate::{PRODUCT_NAME, Passthru, Passthrus};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tgt_bdev::stack::Stack;
use tgt_bdev::{Bdevs, rpc};
use uuid::Uuid;

/// Parameters of `bdev_passthru_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Name of the new bdev
    #[schemars(length(min = 1))]
    name: String,
    /// Name, alias or UUID of the bdev below; if there is none yet, the new bdev appears with it
    #[schemars(length(min = 1))]
    base_bdev_name: String,
    /// UUID; derived from the base's without it
    uuid: Option<Uuid>,
}

/// Parameters of `bdev_passthru_delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// Name of a passthru bdev
    name: String,
}

/// Adds the methods of the passthru bdev.
pub fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) -> Arc<Passthrus> {
    let stack: Arc<Passthrus> = Stack::new(bdevs);
    let of = stack.clone();
    registry.add(
        Method::new("bdev_passthru_create", "Make a bdev that is another one under a second name")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .aliases(&["construct_passthru_bdev"])
            .example(json!({"name": "Passthru0", "base_bdev_name": "Malloc0p0"}))
            .result_example(json!("Passthru0")),
        move |Create { name, base_bdev_name: base, uuid }: Create| {
            of.create(&name, &base.clone(), &[&name], Passthru { name: name.clone(), base, uuid })?;
            Ok(name)
        },
    );
    let (of, all) = (stack.clone(), bdevs.clone());
    registry.add(
        Method::new("bdev_passthru_delete", "Delete a passthru bdev; its base stays")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .aliases(&["delete_passthru_bdev"])
            .example(json!({"name": "Passthru0"}))
            .result_example(json!(true)),
        move |Delete { name }: Delete| delete(&of, &all, &name),
    );
    stack
}

fn delete(stack: &Passthrus, bdevs: &Bdevs, name: &str) -> Result<bool, RpcError> {
    stack.delete(&rpc::stacked(PRODUCT_NAME, bdevs, name)?)?;
    Ok(true)
}
