//! bdev_get_bdevs.

use super::find;
use crate::{Bdev, Bdevs, Claim, Op, RateLimits};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ETIMEDOUT: i32 = 110;

/// The longest wait: a day. A call that asks for more waits so long.
const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// Parameters of `bdev_get_bdevs`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetBdevs {
    /// Name, alias or UUID of the one to show; all of them without it
    name: Option<String>,
    /// How long to wait for it to appear, in milliseconds, a day at most; counts with a name only; default 0
    timeout: Option<u64>,
}

/// One bdev, its members in SPDK's order.
#[derive(Serialize)]
struct BdevInfo {
    name: String,
    aliases: Vec<String>,
    product_name: &'static str,
    block_size: u32,
    num_blocks: u64,
    preferred_write_alignment: u32,
    preferred_write_granularity: u32,
    optimal_write_size: u32,
    preferred_unmap_alignment: u32,
    preferred_unmap_granularity: u32,
    uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    numa_id: Option<u32>,
    assigned_rate_limits: RateLimits,
    claimed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim_type: Option<&'static str>,
    zoned: bool,
    supported_io_types: Value,
    driver_specific: Value,
}

pub(super) fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    let bdevs = bdevs.clone();
    registry.add(
        Method::new("bdev_get_bdevs", "List all bdevs, or show one")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .example(json!({"name": "Malloc0", "timeout": 1000}))
            .result_example(example()),
        move |params: GetBdevs| get_bdevs(&bdevs, params),
    );
}

fn get_bdevs(bdevs: &Bdevs, params: GetBdevs) -> Result<Vec<BdevInfo>, RpcError> {
    let Some(name) = params.name else {
        return Ok(bdevs.all().iter().map(|bdev| info(bdev)).collect());
    };
    let Some(timeout_ms) = params.timeout.filter(|timeout| *timeout > 0) else {
        return Ok(vec![info(&*find(bdevs, &name)?)]);
    };
    let found = bdevs.get_within(&name, Duration::from_millis(timeout_ms.min(TIMEOUT_MS_MAX)));
    let late = || {
        let text = format!("no bdev named {name:?} appeared within {timeout_ms} ms");
        RpcError::errno(ETIMEDOUT, text).detail("parameter", "name").detail("value", name.as_str())
    };
    Ok(vec![info(&*found.ok_or_else(late)?)])
}

fn info(bdev: &Bdev) -> BdevInfo {
    let claim = bdev.claim();
    BdevInfo {
        name: bdev.name().to_owned(),
        aliases: bdev.aliases(),
        product_name: bdev.product_name(),
        block_size: bdev.block_size(),
        num_blocks: bdev.num_blocks(),
        preferred_write_alignment: 0,
        preferred_write_granularity: 0,
        optimal_write_size: 0,
        preferred_unmap_alignment: 0,
        preferred_unmap_granularity: 0,
        uuid: bdev.uuid().to_string(),
        numa_id: bdev.numa_node(),
        assigned_rate_limits: bdev.rate_limits(),
        claimed: claim != Claim::None,
        claim_type: (claim != Claim::None).then(|| claim.name()),
        zoned: false,
        supported_io_types: supported_io_types(bdev),
        driver_specific: bdev.device().driver_specific(bdev),
    }
}

/// Every kind of IO that SPDK knows, in its order.
fn supported_io_types(bdev: &Bdev) -> Value {
    let has = |op| bdev.ops().contains(op);
    json!({
        "read": has(Op::Read),
        "write": has(Op::Write),
        "unmap": has(Op::Unmap),
        "flush": has(Op::Flush),
        "reset": has(Op::Reset),
        "nvme_admin": false,
        "nvme_io": false,
        "nvme_io_md": false,
        "write_zeroes": has(Op::WriteZeroes),
        "zcopy": false,
        "get_zone_info": false,
        "zone_management": false,
        "zone_append": false,
        "compare": has(Op::Compare),
        "compare_and_write": has(Op::CompareAndWrite),
        "abort": has(Op::Abort),
        "seek_hole": false,
        "seek_data": false,
        "copy": has(Op::Copy),
        "nvme_iov_md": false,
        "nvme_nssr": false,
        "write_uncorrectable": false,
    })
}

fn example() -> Value {
    json!([{
        "name": "Malloc0",
        "aliases": ["11111111-2222-4333-8444-555555555555"],
        "product_name": "Malloc disk",
        "block_size": 512,
        "num_blocks": 131_072,
        "preferred_write_alignment": 0,
        "preferred_write_granularity": 0,
        "optimal_write_size": 0,
        "preferred_unmap_alignment": 0,
        "preferred_unmap_granularity": 0,
        "uuid": "11111111-2222-4333-8444-555555555555",
        "assigned_rate_limits": RateLimits::default(),
        "claimed": true,
        "claim_type": "exclusive_write",
        "zoned": false,
        "supported_io_types": {"read": true, "write": true, "unmap": true, "flush": true, "reset": true,
            "nvme_admin": false, "nvme_io": false, "nvme_io_md": false, "write_zeroes": true, "zcopy": false,
            "get_zone_info": false, "zone_management": false, "zone_append": false, "compare": true,
            "compare_and_write": true, "abort": true, "seek_hole": false, "seek_data": false, "copy": true,
            "nvme_iov_md": false, "nvme_nssr": false, "write_uncorrectable": false},
        "driver_specific": {}
    }])
}
