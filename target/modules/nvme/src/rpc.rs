//! bdev_nvme_attach_controller, bdev_nvme_detach_controller, bdev_nvme_get_controllers, bdev_nvme_reset_controller. Control threads.

use crate::controller::{Controller, Phase};
use crate::error::NvmeError;
use crate::options::AttachOptions;
use crate::service::Controllers;
use rpc_registry::{ConfigEntry, Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Parameters of `bdev_nvme_attach_controller`. What stands here is what is supported; anything else is refused by its name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Attach {
    /// Name of the controller; its bdevs are called NAMEn1 and so on
    #[schemars(length(min = 1))]
    name: String,
    /// TCP
    trtype: String,
    /// IP address of the controller
    traddr: String,
    /// IPv4 or IPv6: what traddr is; checked
    adrfam: Option<String>,
    /// Port: 1 to 65535
    trsvcid: String,
    /// Name of the subsystem
    subnqn: String,
    /// Name of this host; default one for all that have none
    hostnqn: Option<String>,
    /// Digests of headers; default false
    hdgst: Option<bool>,
    /// Digests of data; default false
    ddgst: Option<bool>,
    /// Most IO queues, one for each reactor that uses it; default 127
    num_io_queues: Option<u16>,
    /// Entries of an IO queue: 2 to 1024; default 128
    io_queue_size: Option<u16>,
    /// Seconds from a loss until the controller is detached; -1: never; default 0: one attempt to come back, then IO fails
    ctrlr_loss_timeout_sec: Option<i32>,
    /// Seconds between attempts to come back; default 0
    reconnect_delay_sec: Option<u32>,
    /// Seconds from a loss until IO fails; default 0: it waits
    fast_io_fail_timeout_sec: Option<u32>,
    /// Keep-alive timeout, ms: 1000 and more; default 10000
    keep_alive_timeout_ms: Option<u32>,
}

/// Parameters of `bdev_nvme_detach_controller` and `bdev_nvme_reset_controller`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Of {
    /// Name of a controller
    name: String,
}

/// Parameters of `bdev_nvme_get_controllers`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Get {
    /// Name of a controller; all without it
    name: Option<String>,
}

impl From<NvmeError> for RpcError {
    fn from(error: NvmeError) -> RpcError {
        let text = error.to_string();
        match error {
            NvmeError::Value { name, value, accepted } => {
                RpcError::new(codes::INVALID_PARAMS, text).parameter(name, value, accepted)
            }
            error => RpcError::errno(error.errno(), text),
        }
    }
}

fn wrong(name: &'static str, value: &str, accepted: &str) -> NvmeError {
    NvmeError::Value { name, value: value.to_owned(), accepted: accepted.to_owned() }
}

fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

impl Attach {
    fn options(self) -> Result<AttachOptions, NvmeError> {
        if !self.trtype.eq_ignore_ascii_case("TCP") {
            return Err(wrong("trtype", &self.trtype, "TCP"));
        }
        let addresses = "an IPv4 or IPv6 address, without brackets; names are not looked up";
        let ip: IpAddr = self.traddr.parse().map_err(|_| wrong("traddr", &self.traddr, addresses))?;
        let port = self.trsvcid.parse::<u16>().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| wrong("trsvcid", &self.trsvcid, "a port: 1 to 65535"))?;
        if let Some(given) = self.adrfam.filter(|given| !given.eq_ignore_ascii_case(family(ip))) {
            return Err(wrong("adrfam", &given, &format!("{}, as traddr is {ip}; or none", family(ip))));
        }
        let usual = AttachOptions::new(&self.name, SocketAddr::new(ip, port), &self.subnqn);
        Ok(AttachOptions {
            hostnqn: self.hostnqn.unwrap_or(usual.hostnqn),
            hdgst: self.hdgst.unwrap_or(usual.hdgst),
            ddgst: self.ddgst.unwrap_or(usual.ddgst),
            num_io_queues: self.num_io_queues.unwrap_or(usual.num_io_queues),
            io_queue_size: self.io_queue_size.unwrap_or(usual.io_queue_size),
            ctrlr_loss_timeout_sec: self.ctrlr_loss_timeout_sec.unwrap_or(usual.ctrlr_loss_timeout_sec),
            reconnect_delay_sec: self.reconnect_delay_sec.unwrap_or(usual.reconnect_delay_sec),
            fast_io_fail_timeout_sec: self.fast_io_fail_timeout_sec.unwrap_or(usual.fast_io_fail_timeout_sec),
            keep_alive_timeout_ms: self.keep_alive_timeout_ms.unwrap_or(usual.keep_alive_timeout_ms),
            name: usual.name,
            address: usual.address,
            subnqn: usual.subnqn,
        })
    }
}

/// Where a controller is, as SPDK writes it.
pub(crate) fn trid(of: &AttachOptions) -> Value {
    json!({
        "trtype": "TCP",
        "adrfam": family(of.address.ip()),
        "traddr": of.address.ip().to_string(),
        "trsvcid": of.address.port().to_string(),
        "subnqn": of.subnqn,
    })
}

/// The call that attaches a controller again.
pub(crate) fn saved(of: &AttachOptions) -> ConfigEntry {
    let params = json!({
        "name": of.name,
        "trtype": "TCP",
        "adrfam": family(of.address.ip()),
        "traddr": of.address.ip().to_string(),
        "trsvcid": of.address.port().to_string(),
        "subnqn": of.subnqn,
        "hostnqn": of.hostnqn,
        "hdgst": of.hdgst,
        "ddgst": of.ddgst,
        "num_io_queues": of.num_io_queues,
        "io_queue_size": of.io_queue_size,
        "ctrlr_loss_timeout_sec": of.ctrlr_loss_timeout_sec,
        "reconnect_delay_sec": of.reconnect_delay_sec,
        "fast_io_fail_timeout_sec": of.fast_io_fail_timeout_sec,
        "keep_alive_timeout_ms": of.keep_alive_timeout_ms,
    });
    ConfigEntry::new("bdev_nvme_attach_controller", params)
}

fn shown(of: &Controller) -> Value {
    let state = of.state();
    let phase = match state.phase {
        Phase::Live => "enabled",
        Phase::Failed => "failed",
        Phase::Connecting => "resetting",
        Phase::Waiting => "reconnect_is_delayed",
        Phase::Ended => "deleting",
    };
    json!({"name": of.options.name, "ctrlrs": [{
        "state": phase,
        "cntlid": state.cntlid,
        "trid": trid(&of.options),
        "host": {"nqn": of.options.hostnqn},
        "numa_id": -1,
        "model_number": state.abilities.model,
        "serial_number": state.abilities.serial,
        "firmware_revision": state.abilities.firmware,
        "last_error": state.last_error,
    }]})
}

fn method(name: &'static str, summary: &'static str) -> Method {
    Method::new(name, summary).spdk(true)
}

/// Adds the methods.
pub fn register(registry: &mut Registry, controllers: &Arc<Controllers>) {
    let of = controllers.clone();
    registry.add(
        method("bdev_nvme_attach_controller", "Connect to an NVMe controller over TCP; its namespaces become bdevs")
            .example(json!({"name": "Nvme0", "trtype": "TCP", "adrfam": "IPv4", "traddr": "192.168.0.2", "trsvcid": "4420", "subnqn": "nqn.2016-06.io.spdk:cnode1"}))
            .result_example(json!(["Nvme0n1"])),
        move |params: Attach| Ok(of.attach(params.options()?)?),
    );
    let of = controllers.clone();
    registry.add(
        method(
            "bdev_nvme_detach_controller",
            "Remove the bdevs of an NVMe controller and end its connection",
        )
        .example(json!({"name": "Nvme0"}))
        .result_example(json!(true)),
        move |params: Of| Ok(of.detach(&params.name).map(|()| true)?),
    );
    let of = controllers.clone();
    registry.add(
        method(
            "bdev_nvme_reset_controller",
            "Connect anew to an NVMe controller; what is under way is sent again",
        )
        .example(json!({"name": "Nvme0"}))
        .result_example(json!(true)),
        move |params: Of| Ok(of.reset(&params.name).map(|()| true)?),
    );
    let of = controllers.clone();
    registry.add(
        method("bdev_nvme_get_controllers", "The NVMe controllers that are attached")
            .example(json!({"name": "Nvme0"}))
            .result_example(json!([])),
        move |params: Get| -> Result<Vec<Value>, RpcError> {
            match params.name {
                Some(name) => Ok(vec![shown(&*of.find(&name)?)]),
                None => Ok(of.all().iter().map(|controller| shown(controller)).collect()),
            }
        },
    );
}
