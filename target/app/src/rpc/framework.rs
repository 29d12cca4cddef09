//! framework_start_init, framework_wait_init, framework_get_reactors.

use super::{Parts, machine, no_answer};
use crate::init::Init;
use rpc_registry::{Method, Phase, Registry, RpcError};
use serde::Serialize;
use serde_json::{Value, json};
use tgt_bdev::rpc::thread_id;
use tgt_env::clock::tick_rate;
use tgt_env::cores::{CpuMask, numa_node_of};
use tgt_reactor::Handle;

#[derive(Serialize)]
struct ReactorList {
    tick_rate: u64,
    pid: u32,
    reactors: Vec<ReactorInfo>,
}

/// One reactor, its members in SPDK's order.
#[derive(Serialize)]
struct ReactorInfo {
    lcore: u32,
    numa_id: u32,
    tid: u32,
    busy: u64,
    idle: u64,
    in_interrupt: bool,
    irq: u64,
    sys: u64,
    usr: u64,
    lw_threads: [ThreadOfReactor; 1],
}

#[derive(Serialize)]
struct ThreadOfReactor {
    name: String,
    id: u64,
    cpumask: String,
    elapsed: u64,
}

pub(super) fn register(registry: &mut Registry, parts: &Parts) {
    let init = parts.init.clone();
    registry.add_no_params_with(
        Method::new("framework_start_init", "Leave startup: after --wait-for-rpc, once the options are set")
            .spdk(true)
            .phase(Phase::Startup)
            .result_example(json!(true)),
        move |registry| start_init(registry, &init),
    );
    let init = parts.init.clone();
    registry.add_no_params_for(
        Method::new("framework_wait_init", "Wait until the target is up and its configuration is loaded")
            .spdk(true)
            .phase(Phase::Any)
            .result_example(json!(true)),
        move |asker| {
            init.wait(asker)
                .map(|()| true)
                .map_err(|why| RpcError::internal(format!("it does not come up: {why}")))
        },
    );
    let reactors = parts.reactors.clone();
    registry.add_no_params(
        Method::new("framework_get_reactors", "List the reactors, and what they spend their time on")
            .spdk(true)
            .result_example(example()),
        move || {
            let reactors = reactors.iter().map(reactor_info).collect::<Result<_, _>>()?;
            Ok(ReactorList { tick_rate: tick_rate(), pid: std::process::id(), reactors })
        },
    );
}

fn start_init(registry: &Registry, init: &Init) -> Result<bool, RpcError> {
    if !init.waits_for_rpc() {
        let text = "this target leaves startup by itself, as it was started without --wait-for-rpc; \
                    framework_wait_init waits for it";
        return Err(RpcError::internal(text));
    }
    // Of two callers one comes first; for the other the target is up as well.
    registry.enter_runtime();
    init.ready();
    Ok(true)
}

fn reactor_info(reactor: &Handle) -> Result<ReactorInfo, RpcError> {
    let (core, asleep) = (reactor.core(), reactor.stats().snapshot().asleep);
    // One that sleeps books its sleep when it wakes: wake it, so that its times are those of now.
    reactor.call(|_| ()).map_err(no_answer)?;
    let stats = reactor.stats().snapshot();
    let time = machine::core_time(core);
    let thread = ThreadOfReactor {
        name: reactor.id().to_string(),
        id: thread_id(reactor.id()),
        cpumask: format!("{:x}", CpuMask::from_iter([core])),
        elapsed: (stats.busy + stats.idle).0,
    };
    Ok(ReactorInfo {
        lcore: core,
        // A machine that does not tell has one node.
        numa_id: numa_node_of(core).unwrap_or(0),
        tid: stats.thread_id,
        busy: stats.busy.0,
        idle: stats.idle.0,
        in_interrupt: asleep,
        irq: time.irq,
        sys: time.system,
        usr: time.user,
        lw_threads: [thread],
    })
}

fn example() -> Value {
    json!({"tick_rate": 2_600_000_000_u64, "pid": 21185, "reactors": [{
        "lcore": 0, "numa_id": 0, "tid": 21190, "busy": 2_103_825_464_u64, "idle": 190_594_655_394_u64,
        "in_interrupt": false, "irq": 0, "sys": 77, "usr": 7334,
        "lw_threads": [{"name": "reactor_0", "id": 1, "cpumask": "1", "elapsed": 192_698_480_858_u64}]
    }]})
}
