//! vhost_create_blk_controller, vhost_delete_controller, vhost_get_controllers, vhost_controller_set_coalescing. Control
//! threads.

use std::sync::Arc;

use rpc_registry::{ConfigEntry, Method, Registry, RpcError, Subsystem, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::controller::Controller;
use crate::{BlkSpec, Controllers, VhostError};

/// Parameters of `vhost_create_blk_controller`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Name of the controller, and of its socket in the directory that -S names
    #[schemars(length(min = 1))]
    ctrlr: String,
    /// Name, alias or UUID of the bdev
    #[schemars(length(min = 1))]
    dev_name: String,
    /// Cores of its queues, of those of this target; default: all of them
    cpumask: Option<String>,
    /// Whether the guest may only read; default false
    readonly: Option<bool>,
    /// Whether packed rings are offered; default false
    packed_ring: Option<bool>,
    /// vhost_user_blk, the only transport there is
    transport: Option<String>,
}

/// Parameters of `vhost_delete_controller`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// Name of a controller that no virtual machine uses
    ctrlr: String,
}

/// Parameters of `vhost_get_controllers`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Get {
    /// Name of the controller to show; all without it
    name: Option<String>,
}

/// Parameters of `vhost_controller_set_coalescing`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetCoalescing {
    /// Name of a controller
    ctrlr: String,
    /// Longest time that an interrupt is held back, µs, up to 1000000; 0: none is
    delay_base_us: u32,
    /// Requests a second and queue from which on they are
    iops_threshold: u32,
}

/// What `vhost_get_controllers` tells of a controller.
#[derive(Serialize)]
struct Info {
    ctrlr: String,
    cpumask: String,
    delay_base_us: u32,
    iops_threshold: u32,
    socket: String,
    sessions: Vec<SessionInfo>,
    backend_specific: Value,
}

#[derive(Serialize)]
struct SessionInfo {
    vid: u64,
    id: u64,
    name: String,
    started: bool,
    max_queues: usize,
    inflight_task_cnt: u32,
    /// Requests taken by the queues that run.
    requests: u64,
}

const TRANSPORT: &str = "vhost_user_blk";

/// Adds the methods of vhost controllers. The subsystem `vhost_blk` is given back: to be added after what makes bdevs.
pub fn register(registry: &mut Registry, controllers: &Arc<Controllers>) -> Subsystem {
    let of = controllers.clone();
    registry.add(
        Method::new(
            "vhost_create_blk_controller",
            "Make a bdev a disk of virtual machines, on a vhost-user socket",
        )
        .spdk(true)
        .decode_error(codes::INVALID_PARAMS)
        .aliases(&["construct_vhost_blk_controller"])
        .example(json!({"ctrlr": "VhostBlk0", "dev_name": "Passthru0", "cpumask": "0x1"}))
        .result_example(json!(true)),
        move |params: Create| create(&of, params),
    );
    let of = controllers.clone();
    registry.add(
        Method::new("vhost_delete_controller", "Delete a vhost controller that no virtual machine uses")
            .spdk(true)
            .aliases(&["remove_vhost_controller"])
            .example(json!({"ctrlr": "VhostBlk0"}))
            .result_example(json!(true)),
        move |params: Delete| {
            of.delete(&params.ctrlr)?;
            Ok(true)
        },
    );
    let of = controllers.clone();
    registry.add(
        Method::new(
            "vhost_get_controllers",
            "List vhost controllers, and the virtual machines that are connected",
        )
        .spdk(true)
        .example(json!({"name": "VhostBlk0"}))
        .result_example(json!([{
            "ctrlr": "VhostBlk0", "cpumask": "0x1", "delay_base_us": 100, "iops_threshold": 60000,
            "socket": "/var/tmp/VhostBlk0",
            "sessions": [],
            "backend_specific": {"block": {"readonly": false, "bdev": "Passthru0", "transport": TRANSPORT}}
        }])),
        move |params: Get| {
            let found = params.name.map(|name| of.find(&name)).transpose()?;
            let shown = found.map_or_else(|| of.all(), |one| vec![one]);
            Ok(shown.iter().map(|controller| info(controller)).collect::<Vec<_>>())
        },
    );
    let of = controllers.clone();
    registry.add(
        Method::new(
            "vhost_controller_set_coalescing",
            "Hold interrupts of a vhost controller back while it is busy",
        )
        .spdk(true)
        .aliases(&["set_vhost_controller_coalescing"])
        .example(json!({"ctrlr": "VhostBlk0", "delay_base_us": 100, "iops_threshold": 60000}))
        .result_example(json!(true)),
        move |params: SetCoalescing| {
            of.set_coalescing(&params.ctrlr, params.delay_base_us, params.iops_threshold)?;
            Ok(true)
        },
    );
    let of = controllers.clone();
    Subsystem::new("vhost_blk")
        .config(move || of.all().iter().flat_map(|controller| saved(controller)).collect())
}

fn create(controllers: &Controllers, params: Create) -> Result<bool, RpcError> {
    if let Some(transport) = params.transport.filter(|name| name != TRANSPORT) {
        let text = format!("transport {transport:?}; accepted: {TRANSPORT:?}, or none");
        return Err(RpcError::invalid_params(text).parameter("transport", transport, TRANSPORT));
    }
    controllers.create(&BlkSpec {
        name: params.ctrlr,
        bdev: params.dev_name,
        cpumask: params.cpumask,
        readonly: params.readonly.unwrap_or(false),
        packed_ring: params.packed_ring.unwrap_or(false),
    })?;
    Ok(true)
}

fn info(controller: &Controller) -> Info {
    let coalescing = controller.coalescing();
    let session = controller.status().map(|status| SessionInfo {
        vid: status.number,
        id: 0,
        name: format!("{}s{}", controller.name, status.number),
        started: !status.queues.is_empty(),
        max_queues: status.max_queues,
        inflight_task_cnt: status.queues.iter().map(|queue| queue.under_way()).sum(),
        requests: status.queues.iter().map(|queue| queue.requests()).sum(),
    });
    let bdev = controller.bdev().map(|bdev| bdev.name().to_owned());
    Info {
        ctrlr: controller.name.clone(),
        cpumask: controller.cpumask.clone(),
        delay_base_us: coalescing.delay_base_us,
        iops_threshold: coalescing.iops_threshold,
        socket: controller.path.display().to_string(),
        sessions: session.into_iter().collect(),
        backend_specific: json!({
            "block": {"readonly": controller.readonly, "bdev": bdev, "transport": TRANSPORT}
        }),
    }
}

/// The calls that bring a controller back; none for one whose bdev is gone.
fn saved(controller: &Controller) -> Vec<ConfigEntry> {
    if controller.bdev().is_none() {
        return Vec::new();
    }
    let mut params = json!({"ctrlr": controller.name, "dev_name": controller.bdev_name});
    if let Some(mask) = &controller.asked_cpumask {
        params["cpumask"] = json!(mask);
    }
    for (name, given) in [("readonly", controller.readonly), ("packed_ring", controller.packed_ring)] {
        if given {
            params[name] = json!(true);
        }
    }
    let made = ConfigEntry::new("vhost_create_blk_controller", params);
    let coalescing = controller.coalescing();
    let set = (coalescing.delay_base_us > 0).then(|| {
        let params = json!({
            "ctrlr": controller.name,
            "delay_base_us": coalescing.delay_base_us,
            "iops_threshold": coalescing.iops_threshold,
        });
        ConfigEntry::new("vhost_controller_set_coalescing", params)
    });
    std::iter::once(made).chain(set).collect()
}

/// SPDK answers -32602 with the system's words, whatever is wrong.
impl From<VhostError> for RpcError {
    fn from(error: VhostError) -> RpcError {
        let text = RpcError::errno(error.errno(), error.to_string()).message;
        let answer = RpcError::invalid_params(text).detail("errno", -error.errno());
        match &error {
            VhostError::Name { name, .. } => answer.parameter("ctrlr", name, "a file name without /"),
            VhostError::Mask { mask, ours } => answer.parameter("cpumask", mask, format!("cores of {ours}")),
            VhostError::Delay(delay) => answer.parameter("delay_base_us", delay, "0 to 1000000"),
            _ => answer,
        }
    }
}
