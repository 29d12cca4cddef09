//! bdev_get_iostat, bdev_reset_iostat, bdev_set_qd_sampling_period.

use super::{find, thread_id};
use crate::sampling::PERIOD_MIN;
use crate::{Bdev, Bdevs, IoStats, IoStatus, OpStats, QueueDepth, ResetMode, Ticks};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use tgt_env::clock::tick_rate;

const EINVAL: i32 = 22;

/// Names that one call may give, as in SPDK.
const NAMES_MAX: u32 = 1024;

/// Longest time between two looks at the queue depth.
const PERIOD_MAX: Duration = Duration::from_secs(60);

/// Parameters of `bdev_get_iostat`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetIostat {
    /// The bdev to show; older form of names
    name: Option<String>,
    /// The bdevs to show; all of them without it
    #[schemars(length(max = NAMES_MAX))]
    names: Option<Vec<String>>,
    /// Show each io channel by itself; needs exactly one name; default false
    per_channel: Option<bool>,
    /// What to forget once it was read; default none
    reset_mode: Option<Mode>,
}

/// Parameters of `bdev_reset_iostat`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ResetIostat {
    /// The bdev; all of them without it
    name: Option<String>,
    /// What to forget; default all
    mode: Option<Mode>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    All,
    Maxmin,
    Error,
    None,
}

/// The accounts of one bdev, its members in SPDK's order.
#[derive(Serialize)]
struct Accounts {
    bytes_read: u64,
    num_read_ops: u64,
    bytes_written: u64,
    num_write_ops: u64,
    bytes_unmapped: u64,
    num_unmap_ops: u64,
    bytes_copied: u64,
    num_copy_ops: u64,
    read_latency_ticks: u64,
    max_read_latency_ticks: u64,
    min_read_latency_ticks: u64,
    write_latency_ticks: u64,
    max_write_latency_ticks: u64,
    min_write_latency_ticks: u64,
    unmap_latency_ticks: u64,
    max_unmap_latency_ticks: u64,
    min_unmap_latency_ticks: u64,
    copy_latency_ticks: u64,
    max_copy_latency_ticks: u64,
    min_copy_latency_ticks: u64,
    io_error: Map<String, Value>,
}

/// Sampled queue depths, only while they are; times in microseconds.
#[derive(Serialize)]
struct Sampled {
    queue_depth_polling_period: u64,
    queue_depth: u64,
    io_time: u64,
    weighted_io_time: u64,
}

#[derive(Serialize)]
struct BdevAccounts {
    name: String,
    #[serde(flatten)]
    accounts: Accounts,
    #[serde(flatten)]
    sampled: Option<Sampled>,
}

#[derive(Serialize)]
struct ChannelAccounts {
    thread_id: u64,
    #[serde(flatten)]
    accounts: Accounts,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Iostat {
    Bdevs { tick_rate: u64, ticks: u64, bdevs: Vec<BdevAccounts> },
    Channels { tick_rate: u64, ticks: u64, name: String, channels: Vec<ChannelAccounts> },
}

/// Parameters of `bdev_set_qd_sampling_period`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetPeriod {
    /// Name, alias or UUID of the bdev
    name: String,
    /// Time between two looks in microseconds, 100 to 60000000; 0: do not look
    period: u64,
}

pub(super) fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_get_iostat", "Show how much IO bdevs have done, and how long it took")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .example(json!({"names": ["Malloc0"], "per_channel": false, "reset_mode": "none"}))
            .result_example(example()),
        move |params: GetIostat| get_iostat(&of, params),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_reset_iostat", "Forget how much IO bdevs have done")
            .spdk(true)
            .decode_error(codes::INTERNAL)
            .example(json!({"name": "Malloc0", "mode": "maxmin"}))
            .result_example(json!(true)),
        move |params: ResetIostat| reset_iostat(&of, params),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new(
            "bdev_set_qd_sampling_period",
            "Sample how many IOs a bdev has in flight; bdev_get_iostat shows it",
        )
        .spdk(true)
        .decode_error(codes::INTERNAL)
        .example(json!({"name": "Malloc0", "period": 1000}))
        .result_example(json!(true)),
        move |params: SetPeriod| sample(&of, &params),
    );
}

fn get_iostat(bdevs: &Bdevs, params: GetIostat) -> Result<Iostat, RpcError> {
    let names = match (params.name, params.names) {
        (Some(_), Some(_)) => {
            let text = "name and names are both given, accepted: one of them";
            return Err(RpcError::errno(EINVAL, text).detail("parameter", "name"));
        }
        (Some(name), None) => Some(vec![name]),
        (None, names) => names,
    };
    let chosen = match &names {
        Some(names) => names.iter().map(|name| find(bdevs, name)).collect::<Result<Vec<_>, _>>()?,
        None => bdevs.all(),
    };
    let mode = params.reset_mode.unwrap_or(Mode::None);
    let (tick_rate, ticks) = (tick_rate(), Ticks::now().0);
    if !params.per_channel.unwrap_or(false) {
        let bdevs = chosen.iter().map(|bdev| read_bdev(bdev, mode)).collect();
        return Ok(Iostat::Bdevs { tick_rate, ticks, bdevs });
    }
    match (chosen.as_slice(), names) {
        ([bdev], Some(_)) => {
            let channels = read_channels(bdev, mode);
            Ok(Iostat::Channels { tick_rate, ticks, name: bdev.name().to_owned(), channels })
        }
        (chosen, names) => {
            let given = if names.is_some() { chosen.len().to_string() } else { "no".to_owned() };
            let text = format!("per_channel is true with {given} names, accepted: exactly one in names");
            Err(RpcError::errno(EINVAL, text).parameter("per_channel", true, "false, or one name in names"))
        }
    }
}

fn reset_iostat(bdevs: &Bdevs, params: ResetIostat) -> Result<bool, RpcError> {
    let mode = params.mode.unwrap_or(Mode::All);
    match params.name {
        Some(name) => reset(&*find(bdevs, &name)?, mode),
        None => bdevs.all().iter().for_each(|bdev| reset(bdev, mode)),
    }
    Ok(true)
}

fn reset(bdev: &Bdev, mode: Mode) {
    match mode {
        Mode::All => bdev.reset_stats(ResetMode::All),
        Mode::Maxmin => bdev.reset_stats(ResetMode::MaxMin),
        Mode::Error => bdev.reset_stats(ResetMode::Errors),
        Mode::None => {}
    }
}

fn read_bdev(bdev: &Bdev, mode: Mode) -> BdevAccounts {
    let accounts = accounts(bdev, &bdev.stats());
    reset(bdev, mode);
    BdevAccounts { name: bdev.name().to_owned(), accounts, sampled: bdev.queue_depth_sampled().map(sampled) }
}

fn sampled(depth: QueueDepth) -> Sampled {
    let micros = |time: Duration| time.as_micros() as u64;
    Sampled {
        queue_depth_polling_period: micros(depth.period),
        queue_depth: depth.depth,
        io_time: micros(depth.busy),
        weighted_io_time: micros(depth.weighted),
    }
}

fn sample(bdevs: &Bdevs, params: &SetPeriod) -> Result<bool, RpcError> {
    let bdev = find(bdevs, &params.name)?;
    let period = Duration::from_micros(params.period);
    if !period.is_zero() && !(PERIOD_MIN..=PERIOD_MAX).contains(&period) {
        let accepted = "0 to stop, or 100..60000000 (microseconds)";
        let text = format!("period is {}, accepted: {accepted}", params.period);
        return Err(RpcError::errno(EINVAL, text).parameter("period", params.period, accepted));
    }
    let failed = |error| RpcError::internal(format!("sampling could not be started: {error}"));
    bdev.sample_queue_depth(period).map_err(failed)?;
    Ok(true)
}

fn read_channels(bdev: &Bdev, mode: Mode) -> Vec<ChannelAccounts> {
    let channels = bdev.channels();
    let one = |channel: &crate::ChannelInfo| ChannelAccounts {
        thread_id: thread_id(channel.reactor),
        accounts: accounts(bdev, &channel.stats),
    };
    let accounts = channels.iter().map(one).collect();
    reset(bdev, mode);
    accounts
}

fn accounts(bdev: &Bdev, stats: &IoStats) -> Accounts {
    let bytes = |op: &OpStats| op.blocks * u64::from(bdev.block_size());
    let IoStats { read, write, unmap, copy, errors } = stats;
    Accounts {
        bytes_read: bytes(read),
        num_read_ops: read.ops,
        bytes_written: bytes(write),
        num_write_ops: write.ops,
        bytes_unmapped: bytes(unmap),
        num_unmap_ops: unmap.ops,
        bytes_copied: bytes(copy),
        num_copy_ops: copy.ops,
        read_latency_ticks: read.ticks.0,
        max_read_latency_ticks: read.ticks_max.0,
        min_read_latency_ticks: read.ticks_min.0,
        write_latency_ticks: write.ticks.0,
        max_write_latency_ticks: write.ticks_max.0,
        min_write_latency_ticks: write.ticks_min.0,
        unmap_latency_ticks: unmap.ticks.0,
        max_unmap_latency_ticks: unmap.ticks_max.0,
        min_unmap_latency_ticks: unmap.ticks_min.0,
        copy_latency_ticks: copy.ticks.0,
        max_copy_latency_ticks: copy.ticks_max.0,
        min_copy_latency_ticks: copy.ticks_min.0,
        io_error: io_error(errors),
    }
}

/// Failures under SPDK's few names for them.
fn io_error(errors: &[(IoStatus, u64)]) -> Map<String, Value> {
    let mut counts = Map::new();
    for (status, count) in errors {
        let sum = counts.get(error_name(*status)).and_then(Value::as_u64).unwrap_or(0) + count;
        counts.insert(error_name(*status).to_owned(), sum.into());
    }
    counts
}

fn error_name(status: IoStatus) -> &'static str {
    match status {
        IoStatus::ABORTED | IoStatus::ABORTED_SQ_DELETION | IoStatus::ABORTED_BY_HOST => "aborted",
        IoStatus::COMPARE_FAILURE => "miscompare",
        IoStatus::NAMESPACE_NOT_READY_RETRY => "nomem",
        IoStatus::INTERNAL => "failed",
        _ => "nvme_error",
    }
}

fn example() -> Value {
    json!({"tick_rate": 2_600_000_000_u64, "ticks": 6_186_424_782_342_u64, "bdevs": [{
        "name": "Malloc0", "bytes_read": 74752, "num_read_ops": 6, "bytes_written": 0, "num_write_ops": 0,
        "bytes_unmapped": 0, "num_unmap_ops": 0, "bytes_copied": 0, "num_copy_ops": 0,
        "read_latency_ticks": 519_688, "max_read_latency_ticks": 135_122, "min_read_latency_ticks": 38532,
        "write_latency_ticks": 0, "max_write_latency_ticks": 0, "min_write_latency_ticks": 0,
        "unmap_latency_ticks": 0, "max_unmap_latency_ticks": 0, "min_unmap_latency_ticks": 0,
        "copy_latency_ticks": 0, "max_copy_latency_ticks": 0, "min_copy_latency_ticks": 0, "io_error": {}
    }]})
}
