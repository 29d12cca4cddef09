//! bdev_delay_create, bdev_delay_update_latency, bdev_delay_delete. Control threads.

use crate::latency::LATENCY_US_MAX;
use crate::{Bucket, Delay, Delays, Latencies, PRODUCT_NAME};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tgt_bdev::stack::Stack;
use tgt_bdev::{Bdevs, rpc};
use uuid::Uuid;

const EINVAL: i32 = 22;

/// Parameters of `bdev_delay_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Name of the new bdev
    #[schemars(length(min = 1))]
    name: String,
    /// Name, alias or UUID of the bdev below; if there is none yet, the new bdev appears with it
    #[schemars(length(min = 1))]
    base_bdev_name: String,
    /// What 99 of 100 reads take, in microseconds, an hour at most
    avg_read_latency: u64,
    /// What one of 100 reads takes, in microseconds; not less than the average
    p99_read_latency: u64,
    /// What 99 of 100 writes take, in microseconds, an hour at most
    avg_write_latency: u64,
    /// What one of 100 writes takes, in microseconds; not less than the average
    p99_write_latency: u64,
    /// UUID; derived from the base's without it
    uuid: Option<Uuid>,
}

/// One of the four latencies.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum LatencyType {
    AvgRead,
    P99Read,
    AvgWrite,
    P99Write,
}

/// Parameters of `bdev_delay_update_latency`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Update {
    /// Name of a delay bdev
    delay_bdev_name: String,
    /// Which latency to change
    latency_type: LatencyType,
    /// The new latency in microseconds, an hour at most
    latency_us: u64,
}

/// Parameters of `bdev_delay_delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// Name of a delay bdev
    name: String,
}

impl From<LatencyType> for Bucket {
    fn from(kind: LatencyType) -> Bucket {
        match kind {
            LatencyType::AvgRead => Bucket::AvgRead,
            LatencyType::P99Read => Bucket::P99Read,
            LatencyType::AvgWrite => Bucket::AvgWrite,
            LatencyType::P99Write => Bucket::P99Write,
        }
    }
}

/// Adds the methods of the delay bdev.
pub fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) -> Arc<Delays> {
    let stack: Arc<Delays> = Stack::new(bdevs);
    let method = |name, summary| Method::new(name, summary).spdk(true).decode_error(codes::INTERNAL);
    let of = stack.clone();
    registry.add(
        method("bdev_delay_create", "Make a bdev that answers later than the one below it")
            .example(json!({"name": "Delay0", "base_bdev_name": "Malloc0p1", "avg_read_latency": 10,
                "p99_read_latency": 50, "avg_write_latency": 30, "p99_write_latency": 90}))
            .result_example(json!("Delay0")),
        move |params: Create| create(&of, params),
    );
    let (of, all) = (stack.clone(), bdevs.clone());
    registry.add(
        method("bdev_delay_update_latency", "Change one latency of a delay bdev")
            .example(json!({"delay_bdev_name": "Delay0", "latency_type": "avg_read", "latency_us": 100}))
            .result_example(json!("true")),
        move |params: Update| update(&of, &all, &params),
    );
    let (of, all) = (stack.clone(), bdevs.clone());
    registry.add(
        method("bdev_delay_delete", "Delete a delay bdev; its base stays")
            .example(json!({"name": "Delay0"}))
            .result_example(json!(true)),
        move |Delete { name }: Delete| {
            of.delete(&rpc::stacked(PRODUCT_NAME, &all, &name)?)?;
            Ok(true)
        },
    );
    stack
}

fn check(parameter: &str, us: u64) -> Result<(), RpcError> {
    if us <= LATENCY_US_MAX {
        return Ok(());
    }
    let accepted = format!("0 to {LATENCY_US_MAX} microseconds");
    let text = format!("{parameter} {us}, accepted: {accepted}");
    Err(RpcError::errno(EINVAL, text).parameter(parameter, us, accepted))
}

fn check_pair(direction: &str, avg: u64, p99: u64) -> Result<(), RpcError> {
    check(&format!("avg_{direction}_latency"), avg)?;
    let name = format!("p99_{direction}_latency");
    check(&name, p99)?;
    if p99 >= avg {
        return Ok(());
    }
    let accepted = format!("{avg} (the average) or more");
    Err(RpcError::errno(EINVAL, format!("{name} {p99}, accepted: {accepted}")).parameter(name, p99, accepted))
}

fn create(stack: &Delays, params: Create) -> Result<String, RpcError> {
    let Create { name, base_bdev_name: base, uuid, .. } = params;
    check_pair("read", params.avg_read_latency, params.p99_read_latency)?;
    check_pair("write", params.avg_write_latency, params.p99_write_latency)?;
    let latencies = Arc::new(Latencies::new([
        params.avg_read_latency,
        params.p99_read_latency,
        params.avg_write_latency,
        params.p99_write_latency,
    ]));
    stack.create(&name, &base.clone(), &[&name], Delay { name: name.clone(), base, uuid, latencies })?;
    Ok(name)
}

/// SPDK answers with a text.
fn update(stack: &Delays, bdevs: &Bdevs, params: &Update) -> Result<&'static str, RpcError> {
    let name = rpc::stacked(PRODUCT_NAME, bdevs, &params.delay_bdev_name)?;
    check("latency_us", params.latency_us)?;
    let (delay, _) = stack.get(&name).ok_or_else(|| rpc::no_such_bdev(bdevs, &name))?;
    delay.latencies.set(params.latency_type.into(), params.latency_us);
    Ok("true")
}
