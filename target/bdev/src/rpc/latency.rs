//! bdev_enable_histogram, bdev_get_histogram, bdev_get_histogram_borders.

use super::find;
use crate::histogram::{Counts, GRANULARITY_MAX, HistogramSpec};
use crate::{Bdevs, Op};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tgt_env::clock::tick_rate;

const EFAULT: i32 = 14;
const EINVAL: i32 = 22;

/// Borders that one call may give.
const BORDERS_MAX: u32 = 1024;

/// Longest latency that can be asked for: a day.
const NSEC_MAX: u64 = 86_400_000_000_000;

/// Parameters of `bdev_enable_histogram`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Enable {
    /// Name, alias or UUID of the bdev
    name: String,
    /// true: count afresh; false: stop, and forget what was counted
    enable: bool,
    /// Count only this operation, named as in supported_io_types of bdev_get_bdevs; all of them without it
    opc: Option<String>,
    /// log2 of the buckets for each doubling of the latency, 1 to 12; default 7
    granularity: Option<u8>,
    /// Shortest latency told apart, in nanoseconds; default 1000
    min_nsec: Option<u64>,
    /// Longest latency told apart, in nanoseconds, a day at most; default 120000000000
    max_nsec: Option<u64>,
}

/// Parameters of `bdev_get_histogram`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Get {
    /// Name, alias or UUID of the bdev
    name: String,
}

/// Parameters of `bdev_get_histogram_borders`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetBorders {
    /// Name, alias or UUID of the bdev
    name: String,
    /// Latencies in microseconds, ascending
    #[schemars(length(min = 1, max = BORDERS_MAX))]
    borders: Vec<u64>,
}

/// A histogram, its members in SPDK's order.
#[derive(Serialize)]
struct Shown {
    /// Base64 of the counts, 64 bits little-endian each.
    histogram: String,
    granularity: u8,
    min_range: u32,
    max_range: u32,
    tsc_rate: u64,
}

#[derive(Serialize)]
struct BordersCount {
    borders_count: Vec<u64>,
}

pub(super) fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_enable_histogram", "Start or stop counting how long each IO of a bdev takes")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .example(json!({"name": "Malloc0", "enable": true, "opc": "read"}))
            .result_example(json!(true)),
        move |params: Enable| enable(&of, &params),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_get_histogram", "Show the counted latencies of a bdev, as buckets in base64")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .example(json!({"name": "Malloc0"}))
            .result_example(
                json!({"histogram": "AAAAAAAAAAAAAA...AAAAAAAAA==", "granularity": 7, "min_range": 5,
                "max_range": 32, "tsc_rate": 2_300_000_000_u64}),
            ),
        move |params: Get| Ok(shown(&counts(&of, &params.name)?)),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new(
            "bdev_get_histogram_borders",
            "Show how many IOs took up to each latency: one count before, between and after the borders",
        )
        .spdk(true)
        .decode_error(codes::INTERNAL)
        .example(json!({"name": "Malloc0", "borders": [10, 50, 100, 1000, 10000]}))
        .result_example(json!({"borders_count": [42, 42, 133, 1024, 2002, 2018]})),
        move |params: GetBorders| get_borders(&of, &params),
    );
}

fn enable(bdevs: &Bdevs, params: &Enable) -> Result<bool, RpcError> {
    let bdev = find(bdevs, &params.name)?;
    let spec = spec(params)?;
    bdev.set_histogram(params.enable.then_some(spec));
    Ok(true)
}

fn spec(params: &Enable) -> Result<HistogramSpec, RpcError> {
    let default = HistogramSpec::default();
    let granularity = params.granularity.unwrap_or(default.granularity);
    if !(1..=GRANULARITY_MAX).contains(&granularity) {
        return Err(refuse("granularity", granularity, "integer 1..12"));
    }
    let min = params.min_nsec.map_or(default.min, Duration::from_nanos);
    let max = params.max_nsec.unwrap_or(default.max.as_nanos() as u64);
    if max > NSEC_MAX {
        return Err(refuse("max_nsec", max, "integer 1..86400000000000"));
    }
    let max = Duration::from_nanos(max);
    if min >= max {
        let accepted = format!("less than max_nsec, which is {}", max.as_nanos());
        return Err(refuse("min_nsec", min.as_nanos() as u64, &accepted));
    }
    let op = params.opc.as_deref().map(operation).transpose()?;
    Ok(HistogramSpec { op, granularity, min, max })
}

fn operation(name: &str) -> Result<Op, RpcError> {
    let found = Op::ALL.into_iter().find(|op| op.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = Op::ALL.iter().map(|op| op.name()).collect();
        refuse("opc", name, &names.join(", "))
    })
}

fn refuse(parameter: &'static str, value: impl Into<serde_json::Value>, accepted: &str) -> RpcError {
    let value = value.into();
    let text = format!("{parameter} is {value}, accepted: {accepted}");
    RpcError::errno(EINVAL, text).parameter(parameter, value, accepted)
}

/// SPDK answers -14 when nothing is counted.
fn counts(bdevs: &Bdevs, name: &str) -> Result<Counts, RpcError> {
    let bdev = find(bdevs, name)?;
    let text = format!("latencies of bdev {name:?} are not counted: call bdev_enable_histogram first");
    bdev.histogram().ok_or_else(|| RpcError::errno(EFAULT, text).detail("parameter", "name"))
}

fn shown(counts: &Counts) -> Shown {
    let bytes: Vec<u8> = counts.counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let (min_range, max_range) = counts.spec.ranges();
    Shown {
        histogram: STANDARD.encode(bytes),
        granularity: counts.spec.granularity,
        min_range,
        max_range,
        tsc_rate: tick_rate(),
    }
}

fn get_borders(bdevs: &Bdevs, params: &GetBorders) -> Result<BordersCount, RpcError> {
    let counts = counts(bdevs, &params.name)?;
    if !params.borders.is_sorted() {
        return Err(refuse("borders", params.borders.clone(), "latencies in ascending order"));
    }
    let borders: Vec<Duration> = params.borders.iter().map(|us| Duration::from_micros(*us)).collect();
    Ok(BordersCount { borders_count: counts.between(&borders) })
}
