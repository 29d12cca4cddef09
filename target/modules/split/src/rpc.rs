//! bdev_split_create, bdev_split_delete. Control threads.

use crate::{Split, Splits};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tgt_bdev::stack::Stack;
use tgt_bdev::{Bdevs, rpc};

const EINVAL: i32 = 22;

/// Most parts of one base.
const PARTS_MAX: u32 = 1024;

/// Parameters of `bdev_split_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Name, alias or UUID of the bdev to split; if there is none yet, its parts appear with it
    #[schemars(length(min = 1))]
    base_bdev: String,
    /// Parts to make: 1 to 1024; fewer if the base has no room for as many of the given size
    split_count: u32,
    /// MiB of each part; default 0: the base divided
    split_size_mb: Option<u64>,
}

/// Parameters of `bdev_split_delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// The base bdev, named as when it was split
    base_bdev: String,
}

/// Adds the methods of the split bdevs.
pub fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) -> Arc<Splits> {
    let stack: Arc<Splits> = Stack::new(bdevs);
    let of = stack.clone();
    registry.add(
        Method::new("bdev_split_create", "Split a bdev into parts; an empty list if it is not there yet")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .aliases(&["construct_split_vbdev"])
            .example(json!({"base_bdev": "Malloc0", "split_count": 2}))
            .result_example(json!(["Malloc0p0", "Malloc0p1"])),
        move |params: Create| create(&of, params),
    );
    let (of, all) = (stack.clone(), bdevs.clone());
    registry.add(
        Method::new("bdev_split_delete", "Delete the parts of a bdev; the bdev itself stays")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .aliases(&["destruct_split_vbdev"])
            .example(json!({"base_bdev": "Malloc0"}))
            .result_example(json!(true)),
        move |Delete { base_bdev }: Delete| delete(&of, &all, &base_bdev),
    );
    stack
}

fn create(stack: &Splits, params: Create) -> Result<Vec<String>, RpcError> {
    let Create { base_bdev: base, split_count: count, split_size_mb } = params;
    if !(1..=PARTS_MAX).contains(&count) {
        let accepted = format!("1 to {PARTS_MAX}");
        let text = format!("split_count {count}, accepted: {accepted}");
        return Err(RpcError::errno(EINVAL, text).parameter("split_count", count, accepted));
    }
    let parts = stack.create(
        &base.clone(),
        &base.clone(),
        &[],
        Split { base, count, size_mib: split_size_mb.unwrap_or(0) },
    )?;
    Ok(parts.iter().map(|part| part.name().to_owned()).collect())
}

fn delete(stack: &Splits, bdevs: &Bdevs, base: &str) -> Result<bool, RpcError> {
    if stack.get(base).is_none() && bdevs.get(base).is_none() {
        return Err(rpc::no_such_bdev(bdevs, base));
    }
    stack.delete(base)?;
    Ok(true)
}
