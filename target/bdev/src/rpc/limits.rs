//! bdev_set_qos_limit.

use super::find;
use crate::{Bdev, Bdevs, RateLimits};
use rpc_registry::{ConfigEntry, Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

const EINVAL: i32 = 22;

/// Parameters of `bdev_set_qos_limit`. What is left out stays as it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetQosLimit {
    /// Name, alias or UUID of the bdev
    name: String,
    /// Reads and writes a second, kept exactly; 0: no limit
    rw_ios_per_sec: Option<u64>,
    /// Megabytes (2^20 bytes) read and written a second; 0: no limit
    rw_mbytes_per_sec: Option<u64>,
    /// Megabytes read a second; 0: no limit
    r_mbytes_per_sec: Option<u64>,
    /// Megabytes written a second; 0: no limit
    w_mbytes_per_sec: Option<u64>,
}

pub(super) fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    let bdevs = bdevs.clone();
    registry.add(
        Method::new("bdev_set_qos_limit", "Limit how fast a bdev is read and written; 0 takes a limit away")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .example(json!({"name": "Malloc0", "rw_ios_per_sec": 20000, "r_mbytes_per_sec": 100}))
            .result_example(json!(true)),
        move |params: SetQosLimit| set(&bdevs, &params),
    );
}

fn set(bdevs: &Bdevs, params: &SetQosLimit) -> Result<bool, RpcError> {
    let bdev = find(bdevs, &params.name)?;
    let given =
        [params.rw_ios_per_sec, params.rw_mbytes_per_sec, params.r_mbytes_per_sec, params.w_mbytes_per_sec];
    if given.iter().all(Option::is_none) {
        let accepted =
            "at least one of rw_ios_per_sec, rw_mbytes_per_sec, r_mbytes_per_sec, w_mbytes_per_sec";
        return Err(RpcError::errno(EINVAL, format!("no limit is given, accepted: {accepted}")));
    }
    let old = bdev.rate_limits();
    bdev.set_rate_limits(RateLimits {
        rw_ios_per_sec: params.rw_ios_per_sec.unwrap_or(old.rw_ios_per_sec),
        rw_mbytes_per_sec: params.rw_mbytes_per_sec.unwrap_or(old.rw_mbytes_per_sec),
        r_mbytes_per_sec: params.r_mbytes_per_sec.unwrap_or(old.r_mbytes_per_sec),
        w_mbytes_per_sec: params.w_mbytes_per_sec.unwrap_or(old.w_mbytes_per_sec),
    });
    Ok(true)
}

/// The call that sets the limits of `bdev` again; none if it has none.
pub(super) fn saved(bdev: &Bdev) -> Option<ConfigEntry> {
    let limits = bdev.rate_limits();
    let mut params = json!({"name": bdev.name()});
    let Value::Object(all) = json!(limits) else { return None };
    params.as_object_mut()?.extend(all);
    limits.any().then(|| ConfigEntry::new("bdev_set_qos_limit", params))
}
