//! bdev_set_io_trace, bdev_get_io_trace.

use super::{find, thread_id};
use crate::trace::TRACED_MAX;
use crate::{Bdev, Bdevs, ChannelTrace, IoStatus, Ticks, TracedIo};
use rpc_registry::{Method, Registry, RpcError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use tgt_env::clock::tick_rate;

/// Parameters of `bdev_set_io_trace`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Set {
    /// Note one of so many IOs of each io channel, and forget what was noted before; 0: none
    every: u32,
    /// Name, alias or UUID of the bdev; all that there are now without it
    name: Option<String>,
}

/// Parameters of `bdev_get_io_trace`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Get {
    /// Name, alias or UUID of the bdev; all that are traced without it
    name: Option<String>,
    /// Most records of each io channel, the newest; default 256, which is all that are kept
    count: Option<u32>,
}

#[derive(Serialize)]
struct Shown {
    /// Ticks a second.
    tick_rate: u64,
    /// Now.
    ticks: u64,
    bdevs: Vec<ShownBdev>,
}

#[derive(Serialize)]
struct ShownBdev {
    name: String,
    /// 0: it is not traced.
    every: u32,
    channels: Vec<ShownChannel>,
}

#[derive(Serialize)]
struct ShownChannel {
    thread_id: u64,
    opener: String,
    /// Sampled IOs that have ended since the trace was set.
    sampled: u64,
    /// The oldest first.
    ios: Vec<ShownIo>,
}

#[derive(Serialize)]
struct ShownIo {
    op: &'static str,
    lba: u64,
    blocks: u32,
    submit_ticks: u64,
    latency_ns: u64,
    status: String,
}

pub(super) fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_set_io_trace", "Note one of so many IOs: what it was, when it began and ended")
            .example(json!({"every": 10000}))
            .result_example(json!(true)),
        move |params: Set| set(&of, &params),
    );
    let of = bdevs.clone();
    registry.add(
        Method::new("bdev_get_io_trace", "Show the IOs that were noted, by io channel")
            .example(json!({"count": 2}))
            .result_example(
                json!({"tick_rate": 2_600_000_000_u64, "ticks": 6_186_424_782_342_u64, "bdevs": [
                    {"name": "Malloc0", "every": 10000, "channels": [
                        {"thread_id": 1, "opener": "load", "sampled": 512, "ios": [
                            {"op": "read", "lba": 4096, "blocks": 8, "submit_ticks": 6_186_424_700_000_u64,
                             "latency_ns": 3100, "status": "success"}
                        ]}
                    ]}
                ]}),
            ),
        move |params: Get| get(&of, &params),
    );
}

fn set(bdevs: &Bdevs, params: &Set) -> Result<bool, RpcError> {
    for bdev in chosen(bdevs, params.name.as_deref())? {
        bdev.set_io_trace(params.every);
    }
    Ok(true)
}

fn get(bdevs: &Bdevs, params: &Get) -> Result<Shown, RpcError> {
    let count = params.count.map_or(TRACED_MAX, |count| count as usize);
    let mut bdevs = chosen(bdevs, params.name.as_deref())?;
    bdevs.retain(|bdev| params.name.is_some() || bdev.io_trace_every() > 0);
    let bdevs = bdevs.iter().map(|bdev| shown(bdev, count)).collect();
    Ok(Shown { tick_rate: tick_rate(), ticks: Ticks::now().0, bdevs })
}

fn chosen(bdevs: &Bdevs, name: Option<&str>) -> Result<Vec<Arc<Bdev>>, RpcError> {
    name.map_or_else(|| Ok(bdevs.all()), |name| Ok(vec![find(bdevs, name)?]))
}

fn shown(bdev: &Bdev, count: usize) -> ShownBdev {
    let channels = bdev.io_trace(count).into_iter().map(|channel| {
        let ChannelTrace { reactor, opener, sampled, ios } = channel;
        let ios = ios.iter().map(shown_io).collect();
        ShownChannel { thread_id: thread_id(reactor), opener: opener.to_string(), sampled, ios }
    });
    ShownBdev { name: bdev.name().to_owned(), every: bdev.io_trace_every(), channels: channels.collect() }
}

fn shown_io(io: &TracedIo) -> ShownIo {
    let status =
        if io.status == IoStatus::SUCCESS { io.status.text().to_owned() } else { io.status.to_string() };
    ShownIo {
        op: io.op.name(),
        lba: io.lba,
        blocks: io.blocks,
        submit_ticks: io.submitted.0,
        latency_ns: (io.done - io.submitted).as_ns(),
        status,
    }
}
