//! thread_get_stats, thread_get_pollers, thread_get_io_channels, thread_set_cpumask. A thread of SPDK's is a reactor
//! here.

use super::{Parts, no_answer};
use rpc_registry::{Method, Registry, RpcError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tgt_bdev::Bdevs;
use tgt_bdev::rpc::thread_id;
use tgt_env::clock::tick_rate;
use tgt_env::cores::CpuMask;
use tgt_reactor::{Handle, PollerStats};

#[derive(Serialize)]
struct Threads<T> {
    tick_rate: u64,
    threads: Vec<T>,
}

#[derive(Serialize)]
struct ThreadStats {
    name: String,
    id: u64,
    cpumask: String,
    busy: u64,
    idle: u64,
    active_pollers_count: usize,
    timed_pollers_count: usize,
    paused_pollers_count: usize,
}

#[derive(Serialize)]
struct ThreadPollers {
    name: String,
    id: u64,
    active_pollers: Vec<PollerInfo>,
    timed_pollers: Vec<PollerInfo>,
    /// Always empty: a poller is stopped, never paused.
    paused_pollers: [(); 0],
}

#[derive(Serialize)]
struct PollerInfo {
    name: String,
    id: u64,
    state: &'static str,
    run_count: u64,
    busy_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    period_ticks: Option<u64>,
}

#[derive(Serialize)]
struct ThreadChannels {
    name: String,
    io_channels: Vec<ChannelInfo>,
}

#[derive(Serialize)]
struct ChannelInfo {
    name: String,
    r#ref: usize,
}

/// Parameters of `thread_set_cpumask`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetCpumask {
    /// Number of the thread, as thread_get_stats shows it
    id: u64,
    /// Its mask, as it is: a reactor stays on its core
    cpumask: String,
}

pub(super) fn register(registry: &mut Registry, parts: &Parts) {
    let reactors = parts.reactors.clone();
    registry.add_no_params(
        Method::new("thread_get_stats", "Show what each reactor spends its time on")
            .spdk(true)
            .result_example(json!({"tick_rate": 2_600_000_000_u64, "threads": [{"name": "reactor_0", "id": 1,
                "cpumask": "1", "busy": 2_104_034_192_u64, "idle": 72_421_892_974_u64, "active_pollers_count": 1,
                "timed_pollers_count": 0, "paused_pollers_count": 0}]})),
        move || threads(&reactors, thread_stats),
    );
    let reactors = parts.reactors.clone();
    registry.add_no_params(
        Method::new("thread_get_pollers", "List the pollers of each reactor").spdk(true).result_example(
            json!({"tick_rate": 2_600_000_000_u64, "threads": [{"name": "reactor_0", "id": 1,
                "active_pollers": [{"name": "load", "id": 0, "state": "waiting", "run_count": 12345,
                "busy_count": 10000}], "timed_pollers": [], "paused_pollers": []}]}),
        ),
        move || threads(&reactors, thread_pollers),
    );
    let (reactors, bdevs) = (parts.reactors.clone(), parts.bdevs.clone());
    registry.add_no_params(
        Method::new("thread_get_io_channels", "List the bdevs that are open on each reactor, and how often")
            .spdk(true)
            .result_example(json!({"tick_rate": 2_600_000_000_u64, "threads": [{"name": "reactor_0",
                "io_channels": [{"name": "bdev_Malloc0", "ref": 1}]}]})),
        move || threads(&reactors, |reactor| Ok(thread_channels(reactor, &bdevs))),
    );
    let reactors = parts.reactors.clone();
    registry.add(
        Method::new(
            "thread_set_cpumask",
            "Move a thread; a reactor stays on its core, so only its own mask will do",
        )
        .spdk(true)
        .example(json!({"id": 1, "cpumask": "0x1"}))
        .result_example(json!(true)),
        move |params: SetCpumask| set_cpumask(&reactors, &params),
    );
}

fn threads<T>(
    reactors: &[Handle],
    one: impl Fn(&Handle) -> Result<T, RpcError>,
) -> Result<Threads<T>, RpcError> {
    let threads = reactors.iter().map(one).collect::<Result<_, _>>()?;
    Ok(Threads { tick_rate: tick_rate(), threads })
}

fn mask_of(reactor: &Handle) -> CpuMask {
    CpuMask::from_iter([reactor.core()])
}

/// A reactor's pollers: those polled every turn, and those with a period.
fn pollers(reactor: &Handle) -> Result<(Vec<PollerStats>, Vec<PollerStats>), RpcError> {
    let all = reactor.call(|reactor| reactor.poller_stats()).map_err(no_answer)?;
    Ok(all.into_iter().partition(|poller| poller.period.is_none()))
}

fn thread_stats(reactor: &Handle) -> Result<ThreadStats, RpcError> {
    let (active, timed) = pollers(reactor)?;
    let stats = reactor.stats().snapshot();
    Ok(ThreadStats {
        name: reactor.id().to_string(),
        id: thread_id(reactor.id()),
        cpumask: format!("{:x}", mask_of(reactor)),
        busy: stats.busy.0,
        idle: stats.idle.0,
        active_pollers_count: active.len(),
        timed_pollers_count: timed.len(),
        paused_pollers_count: 0,
    })
}

fn thread_pollers(reactor: &Handle) -> Result<ThreadPollers, RpcError> {
    let (active, timed) = pollers(reactor)?;
    let shown = |pollers: Vec<PollerStats>| pollers.into_iter().map(poller_info).collect();
    Ok(ThreadPollers {
        name: reactor.id().to_string(),
        id: thread_id(reactor.id()),
        active_pollers: shown(active),
        timed_pollers: shown(timed),
        paused_pollers: [],
    })
}

fn poller_info(poller: PollerStats) -> PollerInfo {
    let PollerStats { id, name, period, run_count, busy_count } = poller;
    // Asked between two turns, so none is running.
    PollerInfo { name, id: id.0, state: "waiting", run_count, busy_count, period_ticks: period.map(|p| p.0) }
}

fn thread_channels(reactor: &Handle, bdevs: &Bdevs) -> ThreadChannels {
    let open = |bdev: &tgt_bdev::Bdev| {
        let here = bdev.channels().iter().filter(|channel| channel.reactor == reactor.id()).count();
        (here > 0).then(|| ChannelInfo { name: format!("bdev_{}", bdev.name()), r#ref: here })
    };
    let io_channels = bdevs.all().iter().filter_map(|bdev| open(bdev)).collect();
    ThreadChannels { name: reactor.id().to_string(), io_channels }
}

fn set_cpumask(reactors: &[Handle], params: &SetCpumask) -> Result<bool, RpcError> {
    let SetCpumask { id, cpumask } = params;
    let Some(reactor) = reactors.iter().find(|reactor| thread_id(reactor.id()) == *id) else {
        let accepted = format!("1 to {}", reactors.len());
        let text = format!("Thread {id} does not exist, accepted: {accepted}");
        return Err(RpcError::invalid_params(text).parameter("id", id, accepted));
    };
    let own = mask_of(reactor);
    let refused = |text: String| {
        let accepted = own.to_string();
        Err(RpcError::invalid_params(text).parameter("cpumask", cpumask, accepted))
    };
    match cpumask.parse::<CpuMask>() {
        Ok(mask) if mask == own => Ok(true),
        Ok(mask) => refused(format!(
            "cpumask {mask} for thread {id}, accepted: {own}: a reactor owns its core for as long as it runs; start \
             the target with -m {mask} for other cores"
        )),
        Err(error) => refused(error.to_string()),
    }
}
