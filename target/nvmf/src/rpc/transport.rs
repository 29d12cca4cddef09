//! nvmf_create_transport, nvmf_get_transports.

use super::{method, only_target, tcp_only};
use crate::options::TransportOptions;
use crate::service::Nvmf;
use rpc_registry::{Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Parameters of `nvmf_create_transport`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some are accepted for SPDK's configurations")]
struct Create {
    /// TCP; RDMA is not built
    trtype: String,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
    /// Most commands on an IO queue, 2 to 4096; default 128
    max_queue_depth: Option<u16>,
    /// Most IO queues of a controller; default 127
    max_io_qpairs_per_ctrlr: Option<u16>,
    /// Most data in an IO command's capsule, bytes: a multiple of 16 up to 65536; default 4096
    in_capsule_data_size: Option<u32>,
    /// Longest transfer of a command, bytes: a power of two from 8192; default 131072
    max_io_size: Option<u32>,
    /// Most commands on an admin queue, 32 to 4096; default 128
    max_aq_depth: Option<u16>,
    /// Let the last data stand for the completion of a read, where the host has switched flow control off; default true
    c2h_success: Option<bool>,
    /// Granularity of the keep-alive timer, in 100 ms; default 100
    kas: Option<u16>,
    /// Shortest keep-alive timeout, ms; default 10000
    min_kato: Option<u32>,
    /// Accepted, without effect: a buffer is as large as its IO
    io_unit_size: Option<u32>,
    /// Accepted, without effect: buffers come from the reactors' memory
    num_shared_buffers: Option<u32>,
    /// Accepted, without effect
    buf_cache_size: Option<u32>,
    /// Accepted, without effect
    iobuf_small_cache_size: Option<u32>,
    /// Accepted, without effect
    iobuf_large_cache_size: Option<u32>,
    /// Accepted, without effect: reads are sent from the bdev's buffer anyway
    zcopy: Option<bool>,
    /// Only false: there is no protection information
    dif_insert_or_strip: Option<bool>,
    /// Accepted, without effect
    sock_priority: Option<u32>,
    /// Accepted, without effect
    acceptor_backlog: Option<i32>,
    /// Accepted, without effect: listeners are polled with everything else
    acceptor_poll_rate: Option<u32>,
    /// Accepted, without effect
    abort_timeout_sec: Option<u32>,
    /// Accepted, without effect
    ack_timeout: Option<u32>,
    /// Accepted, without effect
    control_msg_num: Option<u16>,
    /// Accepted, without effect
    data_wr_pool_size: Option<u32>,
    /// Accepted, without effect: no command is passed through
    disable_command_passthru: Option<bool>,
}

/// Parameters of `nvmf_get_transports`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Get {
    /// Only the transport of this type
    trtype: Option<String>,
    /// Accepted, without effect: there is one target
    tgt_name: Option<String>,
}

pub(super) fn register(registry: &mut Registry, nvmf: &Arc<Nvmf>) {
    let of = nvmf.clone();
    registry.add(
        method("nvmf_create_transport", "Begin to speak NVMe over TCP; once, before the first listener")
            .example(json!({"trtype": "TCP", "max_queue_depth": 128, "max_io_size": 131_072}))
            .result_example(json!(true)),
        move |params: Create| create(&of, &params),
    );
    let of = nvmf.clone();
    registry.add(
        method("nvmf_get_transports", "Show the options of the transport")
            .example(json!({"trtype": "TCP"}))
            .result_example(json!([shown(&TransportOptions::default())])),
        move |params: Get| {
            only_target(params.tgt_name.as_ref());
            params.trtype.as_deref().map_or(Ok(()), tcp_only)?;
            Ok(of.tables().options().iter().map(shown).collect::<Vec<_>>())
        },
    );
}

fn create(nvmf: &Nvmf, params: &Create) -> Result<bool, RpcError> {
    tcp_only(&params.trtype)?;
    only_target(params.tgt_name.as_ref());
    if params.dif_insert_or_strip == Some(true) {
        let text = "dif_insert_or_strip true; accepted: false: namespaces have no protection information";
        return Err(RpcError::invalid_params(text).parameter("dif_insert_or_strip", true, "false"));
    }
    let usual = TransportOptions::default();
    nvmf.create_transport(TransportOptions {
        max_queue_depth: params.max_queue_depth.unwrap_or(usual.max_queue_depth),
        max_io_qpairs_per_ctrlr: params.max_io_qpairs_per_ctrlr.unwrap_or(usual.max_io_qpairs_per_ctrlr),
        in_capsule_data_size: params.in_capsule_data_size.unwrap_or(usual.in_capsule_data_size),
        max_io_size: params.max_io_size.unwrap_or(usual.max_io_size),
        max_aq_depth: params.max_aq_depth.unwrap_or(usual.max_aq_depth),
        c2h_success: params.c2h_success.unwrap_or(usual.c2h_success),
        min_kato_ms: params.min_kato.unwrap_or(usual.min_kato_ms),
        kas_ms: params.kas.map_or(usual.kas_ms, |kas| u32::from(kas) * 100),
        memory_max: usual.memory_max,
    })?;
    Ok(true)
}

/// The transport as SPDK shows it. What has no effect here is shown with SPDK's defaults.
pub(super) fn shown(options: &TransportOptions) -> Value {
    json!({
        "trtype": "TCP",
        "max_queue_depth": options.max_queue_depth,
        "max_io_qpairs_per_ctrlr": options.max_io_qpairs_per_ctrlr,
        "in_capsule_data_size": options.in_capsule_data_size,
        "max_io_size": options.max_io_size,
        "max_aq_depth": options.max_aq_depth,
        "iobuf_small_cache_size": u32::MAX,
        "iobuf_large_cache_size": u32::MAX,
        "dif_insert_or_strip": false,
        "zcopy": false,
        "c2h_success": options.c2h_success,
        "sock_priority": 0,
        "abort_timeout_sec": 1,
        "ack_timeout": 0,
        "data_wr_pool_size": 0,
        "disable_command_passthru": false,
        "kas": options.kas_ms / 100,
        "min_kato": options.min_kato_ms,
    })
}
