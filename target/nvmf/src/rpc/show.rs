//! nvmf_get_subsystems, nvmf_subsystem_get_listeners, _get_controllers, _get_qpairs, nvmf_get_stats.

use super::{address, method, only_target};
use crate::error::NvmfError;
use crate::model::{Controller, ControllerKind, Listener, Namespace, QueueInfo, Subsystem};
use crate::service::Nvmf;
use rpc_registry::{Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tgt_bdev::rpc::thread_id;
use uuid::Uuid;

/// Parameters of `nvmf_get_subsystems`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetSubsystems {
    /// Only the subsystem of this name
    nqn: Option<String>,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of methods about one subsystem.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfSubsystem {
    /// Name of a subsystem
    nqn: String,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of `nvmf_get_stats`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetStats {
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

pub(super) fn register(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let here = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"});
    let of = nvmf.clone();
    registry.add(
        method("nvmf_get_subsystems", "List subsystems, the discovery subsystem first")
            .example(json!({"nqn": NQN}))
            .result_example(json!([{
                "nqn": NQN, "subtype": "NVMe", "listen_addresses": [here], "allow_any_host": true, "hosts": [],
                "serial_number": "RMR1", "model_number": "SPDK bdev Controller", "max_namespaces": 32,
                "passthrough": false, "min_cntlid": 1, "max_cntlid": 65519, "dmrsl": 0, "wzsl": 0,
                "namespaces": [{
                    "nsid": 1, "bdev_name": "Uring0", "name": "Uring0",
                    "nguid": "26A85821736C4E9092A048DB101E741C", "uuid": "26a85821-736c-4e90-92a0-48db101e741c",
                    "anagrpid": 1,
                }],
            }])),
        move |params: GetSubsystems| {
            only_target(params.tgt_name.as_ref());
            subsystems(&of, params.nqn.as_deref())
        },
    );
    let of = nvmf.clone();
    registry.add(
        method(
            "nvmf_subsystem_get_listeners",
            "List where hosts come in to a subsystem, and how good the paths are",
        )
        .example(json!({"nqn": NQN}))
        .result_example(
            json!([{"address": here, "ana_states": [{"ana_group": 1, "ana_state": "optimized"}]}]),
        ),
        move |params: OfSubsystem| {
            only_target(params.tgt_name.as_ref());
            let subsystem = find(&of, &params.nqn)?;
            let listeners = subsystem.state().listeners.clone();
            Ok(listeners.iter().map(|one| listener(&subsystem, one)).collect::<Vec<_>>())
        },
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_get_controllers", "List the hosts that are connected to a subsystem")
            .example(json!({"nqn": NQN}))
            .result_example(json!([{
                "cntlid": 1, "cntrltype": "io", "hostnqn": "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555",
                "hostid": "11111111-2222-4333-8444-555555555555", "num_io_qpairs": 2,
            }])),
        move |params: OfSubsystem| {
            only_target(params.tgt_name.as_ref());
            Ok(find(&of, &params.nqn)?.controllers().iter().map(|one| controller(one)).collect::<Vec<_>>())
        },
    );
    register_queues(registry, nvmf);
}

fn register_queues(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_get_qpairs", "List the connections of a subsystem's hosts")
            .example(json!({"nqn": NQN}))
            .result_example(json!([{
                "cntlid": 1, "qid": 0, "state": "enabled", "thread": 1,
                "hostnqn": "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555",
                "listen_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "4420"},
                "peer_address": {"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "50000"},
            }])),
        move |params: OfSubsystem| {
            only_target(params.tgt_name.as_ref());
            let mut all = Vec::new();
            for controller in find(&of, &params.nqn)?.controllers() {
                for queue in controller.queues() {
                    all.push(qpair(&of, &controller, &queue)?);
                }
            }
            Ok(all)
        },
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_get_stats", "Show what each reactor's connections did").example(json!({})).result_example(
            json!({"tick_rate": 2_600_000_000u64, "poll_groups": [{
                "name": "nvmf_tgt_poll_group_000", "admin_qpairs": 1, "io_qpairs": 2, "current_admin_qpairs": 1,
                "current_io_qpairs": 2, "current_unassociated_qpairs": 0, "pending_bdev_io": 0,
                "completed_nvme_io": 4711, "transports": [{"trtype": "TCP"}],
            }]}),
        ),
        move |params: GetStats| {
            only_target(params.tgt_name.as_ref());
            stats(&of)
        },
    );
}

fn find(nvmf: &Nvmf, nqn: &str) -> Result<Arc<Subsystem>, NvmfError> {
    nvmf.tables().subsystem(nqn).ok_or_else(|| NvmfError::NoSubsystem(nqn.to_owned()))
}

fn subsystems(nvmf: &Nvmf, nqn: Option<&str>) -> Result<Vec<Value>, RpcError> {
    let all = match nqn {
        Some(nqn) => vec![find(nvmf, nqn)?],
        None => {
            std::iter::once(nvmf.tables().discovery().clone()).chain(nvmf.tables().subsystems()).collect()
        }
    };
    Ok(all.iter().map(|one| subsystem(one)).collect())
}

fn subsystem(of: &Subsystem) -> Value {
    let state = of.state();
    let listeners: Vec<Value> = state.listeners.iter().map(|listener| address(listener.address)).collect();
    let hosts: Vec<Value> = state.hosts.iter().map(|host| json!({"nqn": host})).collect();
    let mut shown = json!({
        "nqn": of.nqn(),
        "subtype": if of.is_discovery() { "Discovery" } else { "NVMe" },
        "listen_addresses": listeners,
        "allow_any_host": state.allow_any_host,
        "hosts": hosts,
    });
    if of.is_discovery() {
        return shown;
    }
    let spec = &of.spec;
    shown["serial_number"] = json!(spec.serial);
    shown["model_number"] = json!(spec.model);
    shown["max_namespaces"] = json!(spec.max_namespaces);
    shown["passthrough"] = json!(false);
    shown["min_cntlid"] = json!(spec.min_cntlid);
    shown["max_cntlid"] = json!(spec.max_cntlid);
    // No limits beyond the longest transfer.
    shown["dmrsl"] = json!(0);
    shown["wzsl"] = json!(0);
    let namespaces = state.namespaces.values().map(|one| namespace(one, spec.ana_reporting));
    shown["namespaces"] = namespaces.collect();
    shown
}

fn namespace(of: &Namespace, ana: bool) -> Value {
    let name = of.bdev().name();
    let nguid = Uuid::from_bytes(of.identity.nguid).simple().to_string().to_uppercase();
    let mut shown = json!({"nsid": of.nsid, "bdev_name": name, "name": name, "nguid": nguid});
    if of.identity.eui64 != [0; 8] {
        shown["eui64"] = json!(format!("{:016X}", u64::from_be_bytes(of.identity.eui64)));
    }
    shown["uuid"] = json!(of.identity.uuid);
    if ana {
        shown["anagrpid"] = json!(of.ana_group.load(Relaxed));
    }
    shown
}

fn listener(subsystem: &Subsystem, of: &Listener) -> Value {
    let mut shown = json!({"address": address(of.address)});
    if subsystem.spec.ana_reporting {
        let states =
            (1..=of.groups()).map(|group| json!({"ana_group": group, "ana_state": of.state(group).name()}));
        shown["ana_states"] = states.collect();
    }
    shown
}

fn controller(of: &Controller) -> Value {
    let kind = match of.kind {
        ControllerKind::Io => "io",
        ControllerKind::Discovery => "discovery",
    };
    let queues = of.queues().iter().filter(|queue| queue.qid > 0 && !queue.life.is_over()).count();
    json!({
        "cntlid": of.cntlid,
        "cntrltype": kind,
        "hostnqn": of.host_nqn,
        "hostid": Uuid::from_bytes(of.host_id),
        "num_io_qpairs": queues,
    })
}

fn qpair(nvmf: &Nvmf, controller: &Controller, queue: &QueueInfo) -> Result<Value, RpcError> {
    let state = if queue.life.is_over() { "deactivating" } else { "enabled" };
    let mut shown = json!({
        "cntlid": controller.cntlid,
        "qid": queue.qid,
        "state": state,
        "thread": thread_id(queue.at.reactor),
        "hostnqn": controller.host_nqn,
    });
    // It may go at any moment; the member is left out then.
    if let Some(local) = nvmf.local_end(queue.at)? {
        shown["listen_address"] = address(local);
    }
    shown["peer_address"] = address(queue.peer);
    Ok(shown)
}

fn stats(nvmf: &Nvmf) -> Result<Value, RpcError> {
    let group = |(reactor, counts): (tgt_reactor::ReactorId, crate::portal::Counts)| {
        json!({
            "name": format!("nvmf_tgt_poll_group_{:03}", reactor.0),
            "admin_qpairs": counts.admin_queues,
            "io_qpairs": counts.io_queues,
            "current_admin_qpairs": counts.admin_now,
            "current_io_qpairs": counts.io_now,
            "current_unassociated_qpairs": counts.unassociated,
            "pending_bdev_io": counts.waiting,
            "completed_nvme_io": counts.completed,
            "transports": [{"trtype": "TCP"}],
        })
    };
    let groups: Vec<Value> = nvmf.counts()?.into_iter().map(group).collect();
    Ok(json!({"tick_rate": tgt_env::clock::tick_rate(), "poll_groups": groups}))
}
