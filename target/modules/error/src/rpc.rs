//! bdev_error_create, bdev_error_delete, bdev_error_inject_error, bdev_error_resume_pending. Control threads.

use crate::{ErrorLayer, Errors, Fault, Faults, Kind, PRODUCT_NAME, Target, name_on};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tgt_bdev::stack::Stack;
use tgt_bdev::{Bdevs, IoStatus, rpc};
use uuid::Uuid;

const EINVAL: i32 = 22;

/// Parameters of `bdev_error_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Name, alias or UUID of the bdev below; if there is none yet, the new bdev appears with it. The new bdev's name is
    /// EE_ and this
    #[schemars(length(min = 1))]
    base_name: String,
    /// UUID; derived from the base's without it
    uuid: Option<Uuid>,
}

/// Parameters of `bdev_error_delete` and `bdev_error_resume_pending`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfError {
    /// Name of an error bdev
    name: String,
}

/// Which IO.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum IoType {
    Clear,
    Read,
    Write,
    Unmap,
    Flush,
    All,
}

/// What happens to it.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ErrorType {
    Failure,
    NvmeFailure,
    Pending,
    CorruptData,
    Nomem,
}

/// Parameters of `bdev_error_inject_error`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Inject {
    /// Name of an error bdev
    name: String,
    /// Which IO it happens to; clear: none any more
    io_type: IoType,
    /// What happens
    error_type: ErrorType,
    /// Status code type for nvme_failure, 0 to 7; default 0
    nvme_sct: Option<u32>,
    /// Status code for nvme_failure, 0 to 255; default 0
    nvme_sc: Option<u32>,
    /// How many IOs it happens to; default 1
    num: Option<u32>,
    /// Only to IO that finds at least so many others in flight; default 0
    queue_depth: Option<u64>,
    /// For corrupt_data: the byte of the IO's data to change; default 0
    corrupt_offset: Option<u64>,
    /// For corrupt_data: what the byte is xored with, 1 to 255
    corrupt_value: Option<u8>,
}

/// Adds the methods of the error bdev.
pub fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) -> Arc<Errors> {
    let stack: Arc<Errors> = Stack::new(bdevs);
    let method = |name, summary| Method::new(name, summary).spdk(true).decode_error(codes::INTERNAL);
    let of = stack.clone();
    registry.add(
        method("bdev_error_create", "Make a bdev that fails on request")
            .aliases(&["construct_error_bdev"])
            .example(json!({"base_name": "Null0"}))
            .result_example(json!(true)),
        move |Create { base_name: base, uuid }: Create| {
            let name = name_on(&base);
            let layer = ErrorLayer { base: base.clone(), uuid, faults: Arc::default() };
            of.create(&name, &base, &[&name], layer)?;
            Ok(true)
        },
    );
    let (of, all) = (stack.clone(), bdevs.clone());
    registry.add(
        method("bdev_error_delete", "Delete an error bdev; its base stays")
            .aliases(&["delete_error_bdev"])
            .example(json!({"name": "EE_Null0"}))
            .result_example(json!(true)),
        move |OfError { name }: OfError| {
            of.delete(&rpc::stacked(PRODUCT_NAME, &all, &name)?)?;
            Ok(true)
        },
    );
    let (of, all) = (stack.clone(), bdevs.clone());
    registry.add(
        method("bdev_error_inject_error", "Let an error bdev do wrong")
            .example(json!({"name": "EE_Null0", "io_type": "read", "error_type": "failure", "num": 1}))
            .result_example(json!(true)),
        move |params: Inject| inject(&of, &all, &params),
    );
    let (of, all) = (stack.clone(), bdevs.clone());
    registry.add(
        method("bdev_error_resume_pending", "Let the IO go on that an error bdev holds back")
            .example(json!({"name": "EE_Null0"}))
            .result_example(json!(true)),
        move |OfError { name }: OfError| {
            faults(&of, &all, &name)?.resume_pending();
            Ok(true)
        },
    );
    stack
}

fn faults(stack: &Errors, bdevs: &Bdevs, name: &str) -> Result<Arc<Faults>, RpcError> {
    let name = rpc::stacked(PRODUCT_NAME, bdevs, name)?;
    let (layer, _) = stack.get(&name).ok_or_else(|| rpc::no_such_bdev(bdevs, &name))?;
    Ok(layer.faults.clone())
}

fn inject(stack: &Errors, bdevs: &Bdevs, params: &Inject) -> Result<bool, RpcError> {
    let faults = faults(stack, bdevs, &params.name)?;
    let targets: &[Target] = match params.io_type {
        IoType::Clear => {
            faults.clear();
            return Ok(true);
        }
        IoType::Read => &[Target::Read],
        IoType::Write => &[Target::Write],
        IoType::Unmap => &[Target::Unmap],
        IoType::Flush => &[Target::Flush],
        IoType::All if params.error_type == ErrorType::CorruptData => &[Target::Read, Target::Write],
        IoType::All => &Target::ALL,
    };
    let kind = kind(params, targets)?;
    let (num, queue_depth) = (params.num.unwrap_or(1), params.queue_depth.unwrap_or(0));
    targets.iter().for_each(|target| faults.set(*target, Fault { kind, num, queue_depth }));
    Ok(true)
}

fn kind(params: &Inject, targets: &[Target]) -> Result<Kind, RpcError> {
    match params.error_type {
        ErrorType::Failure => Ok(Kind::Status(IoStatus::INTERNAL)),
        ErrorType::Pending => Ok(Kind::Pending),
        ErrorType::Nomem => Ok(Kind::NoSlot),
        ErrorType::NvmeFailure => nvme_status(params.nvme_sct.unwrap_or(0), params.nvme_sc.unwrap_or(0)),
        ErrorType::CorruptData => {
            if targets.iter().any(|target| !matches!(target, Target::Read | Target::Write)) {
                return Err(refused("io_type", "unmap or flush", "read, write or all: others have no data"));
            }
            let value = params.corrupt_value.unwrap_or(0);
            if value == 0 {
                return Err(refused("corrupt_value", "0 or left out", "1 to 255: 0 changes nothing"));
            }
            Ok(Kind::Corrupt { offset: params.corrupt_offset.unwrap_or(0), value })
        }
    }
}

fn nvme_status(sct: u32, sc: u32) -> Result<Kind, RpcError> {
    let sct =
        u8::try_from(sct).ok().filter(|sct| *sct < 8).ok_or_else(|| refused("nvme_sct", sct, "0 to 7"))?;
    let sc = u8::try_from(sc).map_err(|_| refused("nvme_sc", sc, "0 to 255"))?;
    let status = IoStatus::new(sct, sc);
    if status.is_ok() {
        return Err(refused(
            "nvme_sc",
            "0 with nvme_sct 0",
            "another: type 0, code 0 is success, and nothing would be done",
        ));
    }
    Ok(Kind::Status(status))
}

fn refused(parameter: &str, value: impl ToString, accepted: &str) -> RpcError {
    let value = value.to_string();
    RpcError::errno(EINVAL, format!("{parameter} {value}, accepted: {accepted}"))
        .parameter(parameter, value, accepted)
}
