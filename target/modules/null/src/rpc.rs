//! bdev_null_create, bdev_null_delete, bdev_null_resize. Control threads.

use crate::{NullSpec, PRODUCT_NAME, create};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tgt_bdev::{Bdev, Bdevs, rpc};
use uuid::Uuid;

const EINVAL: i32 = 22;
const MIB: u64 = 1 << 20;

/// Parameters of `bdev_null_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Name of the new bdev
    #[schemars(length(min = 1))]
    name: String,
    /// Number of blocks
    num_blocks: u64,
    /// Bytes per block: a multiple of 512 from 512 to 65536
    block_size: u32,
    /// UUID; drawn at random without it
    uuid: Option<Uuid>,
    /// Bytes that hardware would write at once: a multiple of 512; checked, no effect
    physical_block_size: Option<u32>,
    /// Bytes of metadata per block: only 0
    md_size: Option<u32>,
    /// Protection information: only 0
    dif_type: Option<i32>,
    /// Format of protection information: only 0
    dif_pi_format: Option<u32>,
    /// Where protection information stands: only false
    dif_is_head_of_md: Option<bool>,
    /// Preferred write granularity in blocks: only 0
    preferred_write_granularity: Option<u32>,
    /// Preferred write alignment in blocks: only 0
    preferred_write_alignment: Option<u32>,
    /// Optimal write size in blocks: only 0
    optimal_write_size: Option<u32>,
    /// Preferred unmap granularity in blocks: only 0
    preferred_unmap_granularity: Option<u32>,
    /// Preferred unmap alignment in blocks: only 0
    preferred_unmap_alignment: Option<u32>,
}

/// Parameters of `bdev_null_delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// Name, alias or UUID of a null bdev
    name: String,
}

/// Parameters of `bdev_null_resize`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Resize {
    /// Name, alias or UUID of a null bdev
    name: String,
    /// New size in MiB; not smaller than the present one
    new_size: u64,
}

/// Adds the methods of the null bdev.
pub fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_null_create", "Make a bdev that completes everything and stores nothing")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .aliases(&["construct_null_bdev"])
            .example(json!({"name": "Null0", "num_blocks": 131_072, "block_size": 512}))
            .result_example(json!("Null0")),
        move |params: Create| null_create(&of, params),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_null_delete", "Delete a null bdev")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .aliases(&["delete_null_bdev"])
            .example(json!({"name": "Null0"}))
            .result_example(json!(true)),
        move |params: Delete| null_delete(&of, &params.name),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_null_resize", "Make a null bdev larger")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .example(json!({"name": "Null0", "new_size": 128}))
            .result_example(json!(true)),
        move |params: Resize| null_resize(&of, &params),
    );
}

fn null_create(bdevs: &Bdevs, params: Create) -> Result<String, RpcError> {
    check(&params)?;
    let Create { name, uuid, block_size, num_blocks, .. } = params;
    let bdev = create(bdevs, NullSpec { name, uuid, block_size, num_blocks })?;
    Ok(bdev.name().to_owned())
}

fn check(params: &Create) -> Result<(), RpcError> {
    rpc::physical_block_size(params.physical_block_size)?;
    rpc::only_zero(
        "bdevs of this target have no metadata",
        &[
            ("md_size", params.md_size.unwrap_or(0).into()),
            ("dif_type", params.dif_type.unwrap_or(0).into()),
            ("dif_pi_format", params.dif_pi_format.unwrap_or(0).into()),
            ("dif_is_head_of_md", params.dif_is_head_of_md.unwrap_or(false).into()),
        ],
    )?;
    rpc::only_zero(
        "a null bdev does not prefer one size to another",
        &[
            ("preferred_write_granularity", params.preferred_write_granularity.unwrap_or(0).into()),
            ("preferred_write_alignment", params.preferred_write_alignment.unwrap_or(0).into()),
            ("optimal_write_size", params.optimal_write_size.unwrap_or(0).into()),
            ("preferred_unmap_granularity", params.preferred_unmap_granularity.unwrap_or(0).into()),
            ("preferred_unmap_alignment", params.preferred_unmap_alignment.unwrap_or(0).into()),
        ],
    )
}

fn null_delete(bdevs: &Bdevs, name: &str) -> Result<bool, RpcError> {
    let bdev = rpc::find(bdevs, name)?;
    rpc::owned_by(PRODUCT_NAME, &bdev)?;
    bdevs.remove_this(&bdev).map_err(|error| rpc::removal_refused(bdevs, error))?;
    Ok(true)
}

fn null_resize(bdevs: &Bdevs, params: &Resize) -> Result<bool, RpcError> {
    let bdev = rpc::find(bdevs, &params.name)?;
    rpc::owned_by(PRODUCT_NAME, &bdev)?;
    let num_blocks = blocks_of(&bdev, params.new_size)?;
    if num_blocks != bdev.num_blocks() {
        bdev.resize(num_blocks);
    }
    Ok(true)
}

/// The number of whole blocks in `new_size` MiB.
fn blocks_of(bdev: &Bdev, new_size: u64) -> Result<u64, RpcError> {
    let block_size = u64::from(bdev.block_size());
    let least = (bdev.num_blocks() * block_size).div_ceil(MIB);
    let most = (1 << 63) / MIB;
    if (least..=most).contains(&new_size) {
        return Ok(new_size * MIB / block_size);
    }
    let accepted = format!("{least} (its present size) to {most} MiB");
    let text = format!("new_size {new_size} MiB for {:?}, accepted: {accepted}", bdev.name());
    Err(RpcError::errno(EINVAL, text).parameter("new_size", new_size, accepted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use test_bdevs::rig::Rig;

    fn rig() -> Rig {
        Rig::new(register)
    }

    fn null0() -> Value {
        json!({"name": "Null0", "num_blocks": 2048, "block_size": 512, "uuid": "11111111-2222-4333-8444-555555555555"})
    }

    #[test]
    fn made_resized_and_deleted() {
        let rig = rig();
        assert_eq!(rig.call("bdev_null_create", null0()), Ok(json!("Null0")));
        assert_eq!(rig.call("bdev_null_resize", json!({"name": "Null0", "new_size": 4})), Ok(json!(true)));
        assert_eq!(rig.bdevs.get("Null0").expect("it").num_blocks(), 8192);
        let uuid = json!({"name": "11111111-2222-4333-8444-555555555555"});
        assert_eq!(rig.call("bdev_null_delete", uuid), Ok(json!(true)));
        assert!(rig.bdevs.all().is_empty());
    }

    #[test]
    fn what_cannot_be_made_is_refused_by_name_and_value_and_leaves_nothing() {
        let rig = rig();
        rig.call("bdev_null_create", null0()).expect("the first");
        let with = |member: &str, value: Value| {
            let mut params = json!({"name": "Null1", "num_blocks": 2048, "block_size": 512});
            params[member] = value;
            params
        };
        rig.refused("bdev_null_create", null0(), -17, "\"Null0\"");
        let uuid = with("uuid", json!("11111111-2222-4333-8444-555555555555"));
        rig.refused("bdev_null_create", uuid, -17, "UUID of bdev \"Null0\"");
        rig.refused("bdev_null_create", with("block_size", json!(500)), -22, "multiples of 512");
        rig.refused("bdev_null_create", with("num_blocks", json!(0)), -22, "0 blocks");
        rig.refused("bdev_null_create", with("num_blocks", json!(u64::MAX)), -22, "2^63");
        rig.refused("bdev_null_create", with("name", json!("")), -32603, "\"name\"");
        rig.refused("bdev_null_create", with("md_size", json!(8)), -22, "md_size is 8");
        rig.refused("bdev_null_create", with("dif_type", json!(-1)), -22, "dif_type is -1");
        rig.refused("bdev_null_create", with("dif_is_head_of_md", json!(true)), -22, "dif_is_head_of_md");
        rig.refused("bdev_null_create", with("optimal_write_size", json!(8)), -22, "optimal_write_size is 8");
        rig.refused("bdev_null_create", with("physical_block_size", json!(100)), -22, "physical_block_size");
        rig.refused("bdev_null_create", with("colour", json!(1)), -32603, "unknown parameter");
    }

    #[test]
    fn only_null_bdevs_are_resized_and_deleted_here_and_only_upwards() {
        let rig = rig();
        rig.call("bdev_null_create", null0()).expect("the first");
        rig.refused("bdev_null_delete", json!({"name": "Nul"}), -19, "no bdev named \"Nul\"");
        rig.refused("bdev_null_resize", json!({"name": "Nul", "new_size": 4}), -19, "no bdev named \"Nul\"");
        rig.refused("bdev_null_resize", json!({"name": "Null0", "new_size": 0}), -22, "1 (its present size)");
        let huge = json!({"name": "Null0", "new_size": u64::MAX});
        rig.refused("bdev_null_resize", huge, -22, "accepted: 1 (its present size) to 8796093022208 MiB");
    }
}
