//! rmr_run_load: checked load on a bdev of this target, for those who try it out and for tests. Control threads.

use super::Parts;
use perf_load::{JobReport, JobSpec, Limit, RunError, Workload};
use rpc_registry::{Method, Registry, RpcError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tgt_bdev::{Bdevs, Op, OpenError};
use tgt_reactor::Handle;

const EPERM: i32 = 1;
const EIO: i32 = 5;
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// A flush takes as long as the disk below.
const FLUSH_BOUND: Duration = Duration::from_secs(60);

/// Parameters of `rmr_run_load`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunLoad {
    /// Name of the bdev
    #[schemars(length(min = 1))]
    name: String,
    /// true: what the bdev holds may be overwritten
    overwrite: bool,
    /// Reads and writes to make, before all that was written is read back; default 1000
    #[schemars(range(min = 1))]
    requests: Option<u64>,
    /// At a time; default 8
    #[schemars(range(min = 1, max = 65536))]
    queue_depth: Option<u32>,
    /// Bytes of each; default 4096
    io_size: Option<u32>,
    /// Of the requests, how many are reads, in percent; default 50
    #[schemars(range(max = 100))]
    read_percent: Option<u8>,
    /// File in which is kept what is known of the writes: a later load with it checks first that all of them are still there
    #[schemars(length(min = 1))]
    state: Option<PathBuf>,
    /// It ends after so many seconds at the latest; default 60
    #[schemars(range(min = 1, max = 86400))]
    limit_s: Option<u32>,
}

/// What it saw.
#[derive(Serialize)]
struct Seen {
    ios: u64,
    io_size: u32,
    queue_depth: u32,
    seconds: f64,
    iops: f64,
    latency_us: Option<Latency>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

/// Adds the method.
pub(super) fn register(registry: &mut Registry, parts: &Parts) {
    let (bdevs, reactors, allowed) = (parts.bdevs.clone(), parts.reactors.clone(), parts.allow_load);
    registry.add(
        Method::new(
            "rmr_run_load",
            "Read and write all over a bdev, check every block that is read, and flush it; only with --allow-load",
        )
        .example(json!({"name": "Malloc0", "overwrite": true, "requests": 1000}))
        .result_example(
            json!({"ios": 1465, "io_size": 4096, "queue_depth": 8, "seconds": 0.125, "iops": 11720.0,
            "latency_us": {"p50": 410.5, "p99": 1280.0, "max": 2915.3}}),
        ),
        move |params: RunLoad| if allowed { run(&bdevs, &reactors, params) } else { Err(not_allowed()) },
    );
}

fn not_allowed() -> RpcError {
    let text = "load overwrites bdevs, and this target lets nobody run it: start it with --allow-load";
    RpcError::errno(EPERM, text)
}

fn run(bdevs: &Bdevs, reactors: &Arc<Vec<Handle>>, params: RunLoad) -> Result<Seen, RpcError> {
    if !params.overwrite {
        let text = format!("overwrite is false, accepted: true, as the load overwrites bdev {}", params.name);
        return Err(RpcError::invalid_params(text).parameter("overwrite", "false", "true"));
    }
    let bound = Duration::from_secs(params.limit_s.unwrap_or(60).into());
    let spec = JobSpec {
        bdev: params.name,
        reactor: 0,
        workload: Workload::Verify,
        read_percent: params.read_percent.unwrap_or(50),
        queue_depth: params.queue_depth.unwrap_or(8),
        io_bytes: params.io_size.unwrap_or(4096),
        limit: Limit::Ios(params.requests.unwrap_or(1000)),
        latency: true,
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
        go_on: false,
        state: params.state,
    };
    let mut late = false;
    let reports = perf_load::run(bdevs, reactors, std::slice::from_ref(&spec), |progress| {
        late |= progress.elapsed >= bound;
        !late
    });
    let reports = reports.map_err(refused)?;
    let [report] = &reports[..] else {
        return Err(RpcError::internal("the load ended without saying what it saw"));
    };
    let seen = judge(&spec, report, late.then_some(bound))?;
    flush(bdevs, reactors, &spec)?;
    Ok(seen)
}

/// What was written is durable when the load is over: a device that keeps track of what is not need not after it.
fn flush(bdevs: &Bdevs, reactors: &Arc<Vec<Handle>>, load: &JobSpec) -> Result<(), RpcError> {
    let can = bdevs.get(&load.bdev).is_some_and(|bdev| bdev.ops().contains(Op::Flush));
    if !can {
        return Ok(());
    }
    let spec = JobSpec {
        workload: Workload::Flush,
        queue_depth: 1,
        limit: Limit::Ios(1),
        state: None,
        ..load.clone()
    };
    let until = Instant::now() + FLUSH_BOUND;
    let reports = perf_load::run(bdevs, reactors, std::slice::from_ref(&spec), |_| Instant::now() < until);
    match reports.map_err(refused)?.first().map(|report| (report.ios, report.first_error)) {
        Some((1.., None)) => Ok(()),
        Some((_, Some(status))) => Err(RpcError::errno(
            EIO,
            format!("bdev {}: the flush at the end failed with {status:?}", load.bdev),
        )),
        _ => Err(RpcError::errno(
            EBUSY,
            format!("bdev {}: the flush at the end did not come to an end", load.bdev),
        )),
    }
}

/// What was seen, if nothing was wrong with it.
fn judge(spec: &JobSpec, report: &JobReport, cut: Option<Duration>) -> Result<Seen, RpcError> {
    if let Some(wrong) = &report.wrong {
        return Err(RpcError::internal(format!("WRONG after {} IOs: {wrong}", report.ios)));
    }
    if let Some(status) = report.first_error {
        let text = format!(
            "bdev {}: {} of {} IOs failed, the first with {status:?}",
            spec.bdev, report.errors, report.ios
        );
        return Err(RpcError::errno(EIO, text));
    }
    if let Some(bound) = cut {
        let text = format!(
            "cut off after {} s and {} IOs, and not all was read back: make `limit_s` more, or `requests` fewer",
            bound.as_secs(),
            report.ios
        );
        return Err(RpcError::errno(EBUSY, text));
    }
    let summary = report.summary();
    let us = |ns: u64| ns as f64 / 1e3;
    let latency = summary.latency_ns.map(|ns| Latency { p50: us(ns.p50), p99: us(ns.p99), max: us(ns.max) });
    Ok(Seen {
        ios: report.ios,
        io_size: spec.io_bytes,
        queue_depth: spec.queue_depth,
        seconds: summary.seconds,
        iops: summary.iops,
        latency_us: latency,
    })
}

/// A load that did not take place.
fn refused(error: RunError) -> RpcError {
    let errno = match &error {
        RunError::Spec(_) | RunError::Setup(..) => EINVAL,
        RunError::Open(OpenError::NotFound(_)) => ENODEV,
        RunError::Open(_) | RunError::Stuck(..) => EBUSY,
        RunError::Call(_) | RunError::NoReactor(..) => return RpcError::internal(error.to_string()),
    };
    RpcError::errno(errno, error.to_string())
}
