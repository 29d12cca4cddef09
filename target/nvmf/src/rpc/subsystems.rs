//! Subsystems, their namespaces, their hosts.

use super::{method, only_target};
use crate::model::SubsystemSpec;
use crate::service::{NamespaceSpec, Nvmf};
use rpc_registry::{Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// Parameters of `nvmf_create_subsystem`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Its name: nqn.<year>-<month>.<reverse domain>:<anything>
    nqn: String,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
    /// At most 20 printable ASCII characters; default 20 zeroes
    serial_number: Option<String>,
    /// At most 40 printable ASCII characters; default "SPDK bdev Controller"
    model_number: Option<String>,
    /// Most namespaces, 1 to 1024; default, and 0: 32
    max_namespaces: Option<u32>,
    /// Let any host in; default false: those of nvmf_subsystem_add_host
    allow_any_host: Option<bool>,
    /// Tell hosts of asymmetric access (ANA), by listener and group of namespaces; default false
    ana_reporting: Option<bool>,
    /// Least number of a controller; default 1
    min_cntlid: Option<u16>,
    /// Greatest number of a controller; default 65519
    max_cntlid: Option<u16>,
    /// Only false: commands are not passed through
    passthrough: Option<bool>,
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

/// A namespace.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "one is accepted for SPDK's configurations")]
struct Space {
    /// Name, alias or UUID of a bdev that nobody writes to
    #[schemars(length(min = 1))]
    bdev_name: String,
    /// Its number; the lowest that is free without it
    nsid: Option<u32>,
    /// 16 bytes in hexadecimal; the UUID's without it
    nguid: Option<String>,
    /// 8 bytes in hexadecimal
    eui64: Option<String>,
    /// UUID; the bdev's without it
    uuid: Option<Uuid>,
    /// Group of asymmetric access; its number without it
    anagrpid: Option<u32>,
    /// Accepted, without effect: there is no metadata
    hide_metadata: Option<bool>,
}

/// Parameters of `nvmf_subsystem_add_ns`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddNs {
    /// Name of a subsystem
    nqn: String,
    /// What to add
    namespace: Space,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of `nvmf_subsystem_remove_ns`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RemoveNs {
    /// Name of a subsystem
    nqn: String,
    /// Number of a namespace
    nsid: u32,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of methods about a host.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfHost {
    /// Name of a subsystem
    nqn: String,
    /// Name of a host, as it stands in its /etc/nvme/hostnqn
    host: String,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

/// Parameters of `nvmf_subsystem_allow_any_host`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AllowAnyHost {
    /// Name of a subsystem
    nqn: String,
    /// true: any host may come; false: those of nvmf_subsystem_add_host
    allow_any_host: bool,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-4333-8444-555555555555";

pub(super) fn register(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let of = nvmf.clone();
    registry.add(
        method("nvmf_create_subsystem", "Make a subsystem: what hosts connect to")
            .example(
                json!({"nqn": NQN, "serial_number": "RMR1", "allow_any_host": true, "ana_reporting": true}),
            )
            .result_example(json!(true)),
        move |params: Create| create(&of, params),
    );
    register_namespaces(registry, nvmf);
    register_hosts(registry, nvmf);
}

fn register_namespaces(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_add_ns", "Add a bdev to a subsystem as a namespace")
            .example(json!({"nqn": NQN, "namespace": {"bdev_name": "Uring0"}}))
            .result_example(json!(1)),
        move |AddNs { nqn, namespace, tgt_name }: AddNs| {
            only_target(tgt_name.as_ref());
            let nguid = namespace.nguid.as_deref().map(|text| hex::<16>("nguid", text)).transpose()?;
            let eui64 = namespace.eui64.as_deref().map(|text| hex::<8>("eui64", text)).transpose()?;
            let spec = NamespaceSpec {
                bdev: namespace.bdev_name,
                nsid: namespace.nsid.filter(|nsid| *nsid > 0),
                nguid,
                eui64,
                uuid: namespace.uuid,
                ana_group: namespace.anagrpid.filter(|group| *group > 0),
            };
            Ok(of.add_namespace(&nqn, &spec)?)
        },
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_remove_ns", "Remove a namespace; its bdev stays")
            .example(json!({"nqn": NQN, "nsid": 1}))
            .result_example(json!(true)),
        move |RemoveNs { nqn, nsid, tgt_name }: RemoveNs| {
            only_target(tgt_name.as_ref());
            of.remove_namespace(&nqn, nsid)?;
            Ok(true)
        },
    );
}

fn register_hosts(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_add_host", "Let a host in")
            .example(json!({"nqn": NQN, "host": HOST}))
            .result_example(json!(true)),
        move |OfHost { nqn, host, tgt_name }: OfHost| {
            only_target(tgt_name.as_ref());
            of.add_host(&nqn, &host)?;
            Ok(true)
        },
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_remove_host", "Let a host in no more; its controllers end")
            .example(json!({"nqn": NQN, "host": HOST}))
            .result_example(json!(true)),
        move |OfHost { nqn, host, tgt_name }: OfHost| {
            only_target(tgt_name.as_ref());
            of.remove_host(&nqn, &host)?;
            Ok(true)
        },
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_subsystem_allow_any_host", "Let any host in, or only those of the list")
            .example(json!({"nqn": NQN, "allow_any_host": true}))
            .result_example(json!(true)),
        move |params: AllowAnyHost| {
            only_target(params.tgt_name.as_ref());
            of.allow_any_host(&params.nqn, params.allow_any_host)?;
            Ok(true)
        },
    );
}

/// After all that removes something from a subsystem.
pub(super) fn register_delete(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let of = nvmf.clone();
    registry.add(
        method("nvmf_delete_subsystem", "Delete a subsystem; its hosts lose it, its bdevs stay")
            .example(json!({"nqn": NQN}))
            .result_example(json!(true)),
        move |params: OfSubsystem| {
            only_target(params.tgt_name.as_ref());
            of.delete_subsystem(&params.nqn)?;
            Ok(true)
        },
    );
}

fn create(nvmf: &Nvmf, params: Create) -> Result<bool, RpcError> {
    only_target(params.tgt_name.as_ref());
    if params.passthrough == Some(true) {
        let text = "passthrough true; accepted: false: commands are not passed through to a device";
        return Err(RpcError::invalid_params(text).parameter("passthrough", true, "false"));
    }
    let usual = SubsystemSpec::new(&params.nqn);
    let spec = SubsystemSpec {
        serial: params.serial_number.unwrap_or(usual.serial),
        model: params.model_number.unwrap_or(usual.model),
        max_namespaces: params.max_namespaces.filter(|most| *most > 0).unwrap_or(usual.max_namespaces),
        min_cntlid: params.min_cntlid.unwrap_or(usual.min_cntlid),
        max_cntlid: params.max_cntlid.unwrap_or(usual.max_cntlid),
        ana_reporting: params.ana_reporting.unwrap_or(usual.ana_reporting),
        nqn: usual.nqn,
    };
    nvmf.create_subsystem(spec, params.allow_any_host.unwrap_or(false))?;
    Ok(true)
}

/// Bytes in hexadecimal; dashes are read over.
fn hex<const N: usize>(name: &str, text: &str) -> Result<[u8; N], RpcError> {
    let digits: Vec<u32> = text.chars().filter(|c| *c != '-').map_while(|c| c.to_digit(16)).collect();
    let all = text.chars().filter(|c| *c != '-').count();
    if digits.len() != 2 * N || all != 2 * N {
        let accepted = format!("{} hexadecimal digits", 2 * N);
        let text = format!("{name} {text:?}; accepted: {accepted}");
        return Err(RpcError::invalid_params(text).parameter(name, text_of(&digits), accepted));
    }
    Ok(std::array::from_fn(|at| (digits[2 * at] << 4 | digits[2 * at + 1]) as u8))
}

fn text_of(digits: &[u32]) -> String {
    digits.iter().filter_map(|digit| char::from_digit(*digit, 16)).collect()
}
