//! bdev_uring_create, bdev_uring_rescan, bdev_uring_delete, and the same of aio. Control threads.

use crate::{CreateError, Flavour, RescanError, UringSpec, create, delete, rescan};
use rpc_registry::{Method, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use tgt_bdev::{Bdevs, rpc};
use uuid::Uuid;

const EBUSY: i32 = 16;
const EINVAL: i32 = 22;

/// Parameters of `bdev_uring_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateUring {
    /// Name of the new bdev
    #[schemars(length(min = 1))]
    name: String,
    /// Path of a file or block device
    #[schemars(length(min = 1))]
    filename: String,
    /// Bytes per block: a power of two from 512 to 65536; the least that the backing takes without it, or with 0
    block_size: Option<u32>,
    /// UUID; drawn at random without it
    uuid: Option<Uuid>,
}

/// Parameters of `bdev_aio_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CreateAio {
    /// Name of the new bdev
    #[schemars(length(min = 1))]
    name: String,
    /// Path of a file or block device
    #[schemars(length(min = 1))]
    filename: String,
    /// Bytes per block: a power of two from 512 to 65536; the least that the backing takes without it, or with 0
    block_size: Option<u32>,
    /// Open it for reading only; default false
    readonly: Option<bool>,
    /// Offer unmap, and zero ranges without writing them; default false
    fallocate: Option<bool>,
    /// UUID; drawn at random without it
    uuid: Option<Uuid>,
    /// For block devices: never block on submission; io_uring never does, so it changes nothing here; default false
    nowait: Option<bool>,
}

/// Parameters of `bdev_uring_rescan` and `bdev_uring_delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfUring {
    /// Name, alias or UUID of a uring bdev
    name: String,
}

/// Parameters of `bdev_aio_rescan` and `bdev_aio_delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfAio {
    /// Name, alias or UUID of an aio bdev
    name: String,
}

impl From<CreateError> for RpcError {
    fn from(error: CreateError) -> RpcError {
        let (errno, text) = (error.errno(), error.to_string());
        match error {
            CreateError::Register(error) => error.into(),
            CreateError::BlockSize { given, least, .. } => {
                let accepted = format!("a power of two from {least} to 65536");
                RpcError::errno(errno, text).parameter("block_size", given, accepted)
            }
            CreateError::NoWait(_) => {
                RpcError::errno(errno, text).parameter("nowait", true, "false, for a file")
            }
            CreateError::Kernel { path, .. }
            | CreateError::Kind { path, .. }
            | CreateError::InUse { path, .. }
            | CreateError::AlreadyOpen { path, .. }
            | CreateError::Size { path, .. } => {
                let accepted = "a regular file or block device that nobody else uses";
                RpcError::errno(errno, text).parameter("filename", path.display(), accepted)
            }
        }
    }
}

impl From<RescanError> for RpcError {
    fn from(error: RescanError) -> RpcError {
        let text = error.to_string();
        match error {
            RescanError::Backing(error) => error.into(),
            RescanError::Shrunk { .. } => RpcError::errno(EBUSY, text),
            RescanError::NotOurs(_) | RescanError::Empty { .. } => RpcError::errno(EINVAL, text),
        }
    }
}

/// Adds the methods of both flavours.
pub fn register(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    register_create(registry, bdevs);
    let of = bdevs.clone();
    registry.add(
        method("bdev_uring_rescan", "Take over the present size of a uring bdev's file or device", &[])
            .example(json!({"name": "Uring0"}))
            .result_example(json!(true)),
        move |params: OfUring| rescan_named(&of, &params.name, Flavour::Uring),
    );
    let of = bdevs.clone();
    registry.add(
        method("bdev_aio_rescan", "Take over the present size of an aio bdev's file or device", &[])
            .example(json!({"name": "Aio0"}))
            .result_example(json!(true)),
        move |params: OfAio| rescan_named(&of, &params.name, AIO),
    );
    let of = bdevs.clone();
    registry.add(
        method(
            "bdev_uring_delete",
            "Delete a uring bdev; its file or device stays as it is",
            &["delete_uring_bdev"],
        )
        .example(json!({"name": "Uring0"}))
        .result_example(json!(true)),
        move |params: OfUring| delete_named(&of, &params.name, Flavour::Uring),
    );
    let of = bdevs.clone();
    registry.add(
        method(
            "bdev_aio_delete",
            "Delete an aio bdev; its file or device stays as it is",
            &["delete_aio_bdev"],
        )
        .example(json!({"name": "Aio0"}))
        .result_example(json!(true)),
        move |params: OfAio| delete_named(&of, &params.name, AIO),
    );
}

/// For its product name.
const AIO: Flavour = Flavour::Aio { readonly: false, fallocate: false, nowait: false };

fn method(name: &'static str, summary: &'static str, aliases: &[&'static str]) -> Method {
    Method::new(name, summary).spdk(true).decode_error(codes::INTERNAL).aliases(aliases)
}

fn register_create(registry: &mut Registry, bdevs: &Arc<Bdevs>) {
    let of = bdevs.clone();
    registry.add(
        method("bdev_uring_create", "Make a bdev on a file or block device", &["construct_uring_bdev"])
            .example(json!({"name": "Uring0", "filename": "/var/tmp/uring0.img", "block_size": 512}))
            .result_example(json!("Uring0")),
        move |params: CreateUring| {
            let CreateUring { name, filename, block_size, uuid } = params;
            let (filename, flavour) = (PathBuf::from(filename), Flavour::Uring);
            make(&of, UringSpec { name, filename, block_size, uuid, flavour })
        },
    );
    let of = bdevs.clone();
    registry.add(
        method(
            "bdev_aio_create",
            "Make a bdev on a file or block device, by the name SPDK has for it",
            &["construct_aio_bdev"],
        )
        .example(json!({"name": "Aio0", "filename": "/var/tmp/aio0.img", "block_size": 512}))
        .result_example(json!("Aio0")),
        move |params: CreateAio| {
            let CreateAio { name, filename, block_size, readonly, fallocate, uuid, nowait } = params;
            let flavour = Flavour::Aio {
                readonly: readonly.unwrap_or(false),
                fallocate: fallocate.unwrap_or(false),
                nowait: nowait.unwrap_or(false),
            };
            make(&of, UringSpec { name, filename: PathBuf::from(filename), block_size, uuid, flavour })
        },
    );
}

fn make(bdevs: &Bdevs, spec: UringSpec) -> Result<String, RpcError> {
    // Before the file is opened: a name that is taken must not even touch it.
    if let Some(other) = bdevs.get(&spec.name) {
        return Err(tgt_bdev::RegisterError::Exists(spec.name, other.name().to_owned()).into());
    }
    Ok(create(bdevs, spec)?.name().to_owned())
}

fn rescan_named(bdevs: &Bdevs, name: &str, flavour: Flavour) -> Result<bool, RpcError> {
    let bdev = rpc::find(bdevs, name)?;
    rpc::owned_by(flavour.product_name(), &bdev)?;
    rescan(&bdev)?;
    Ok(true)
}

fn delete_named(bdevs: &Bdevs, name: &str, flavour: Flavour) -> Result<bool, RpcError> {
    let bdev = rpc::find(bdevs, name)?;
    rpc::owned_by(flavour.product_name(), &bdev)?;
    delete(bdevs, bdev).map_err(|error| rpc::removal_refused(bdevs, error))?;
    Ok(true)
}
