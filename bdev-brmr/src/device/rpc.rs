//! bdev_brmr_create, bdev_brmr_delete, bdev_brmr_get_devices. Control threads.

use super::create::{Wanted, look, no_answer};
use super::{Devices, PRODUCT_NAME, Replicated, legs, show, whole};
use bdev_rmr::hail::Peer;
use bdev_rmr::pool;
use rmr_engine::client::StartOptions;
use rmr_proto::{MEMBERS_MAX, MemberId, MemberSet};
use rpc_registry::{Method, Registry, RpcError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tgt_bdev::{Bdev, rpc};
use uuid::Uuid;

const EINVAL: i32 = 22;

/// How long a pool may take to assemble, unless the caller says.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A member of a pool.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Member {
    /// Its number: 0 to 7
    #[schemars(range(max = 7))]
    member_id: u8,
    /// Ways to its node's listeners: ip:ADDRESS:PORT or ip:SOURCE@ip:ADDRESS:PORT, IPv6 in brackets; the other nodes reach it the same way
    #[schemars(length(min = 1))]
    paths: Vec<String>,
    /// Name of the key that all nodes have for it
    #[schemars(length(min = 1))]
    key: Option<String>,
}

impl From<Member> for Peer {
    fn from(Member { member_id, paths, key }: Member) -> Self {
        Self { member: member_id, paths, key }
    }
}

/// Parameters of `bdev_brmr_create`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// Name of the new bdev
    #[schemars(length(min = 1))]
    name: String,
    /// UUID of the pool, as its stores were created with; the bdev's as well
    pool: Uuid,
    /// Its members; of a new pool all of them
    #[schemars(length(min = 1, max = 8))]
    members: Vec<Member>,
    /// Take it over from another client that is still alive; default false
    takeover: Option<bool>,
    /// Start with these members although others with newer data cannot be reached: what only those hold is lost
    force: Option<Vec<u8>>,
    /// After a split brain: start from this member's history and discard the others'
    accept: Option<u8>,
    /// A request that has not succeeded after this many ms fails; default 0: it waits for ever
    io_timeout_ms: Option<u64>,
    /// The bdev takes no writes; default false. The pool is held as by any client: nobody else can write either
    readonly: Option<bool>,
    /// How long the pool may take to assemble, in ms; default 10000
    wait_ms: Option<u64>,
    /// Bytes of a block; with num_blocks and request_blocks, as saved configurations have them: the bdev appears at once, and its requests wait until the pool is assembled
    block_size: Option<u32>,
    /// Blocks; see block_size
    num_blocks: Option<u64>,
    /// Longest request in blocks; see block_size
    request_blocks: Option<u32>,
}

/// Parameters of methods about one device.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfDevice {
    /// Name, alias or UUID of a replicated bdev
    name: String,
}

/// Parameters of `bdev_brmr_get_devices`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetDevices {
    /// Name, alias or UUID of the replicated bdev to show; all without it
    name: Option<String>,
}

/// Adds the methods of replicated devices.
pub fn register(registry: &mut Registry, devices: &Arc<Devices>) {
    let of = devices.clone();
    registry.add(
        Method::new(
            "bdev_brmr_create",
            "Assemble a pool and make its bdev; a new pool if all of its stores are new",
        )
        .example(json!({
            "name": "Brmr0",
            "pool": "6d2a6c59-8d8d-4c61-a3a5-2c25ad4d7c11",
            "members": [
                {"member_id": 0, "paths": ["ip:192.0.2.1:9400"]},
                {"member_id": 1, "paths": ["ip:192.0.2.2:9400"]},
            ],
        }))
        .result_example(json!("Brmr0")),
        move |params: Create| create(&of, params),
    );
    let of = devices.clone();
    registry.add(
        Method::new("bdev_brmr_delete", "Delete a replicated bdev and let its pool go; the stores keep all")
            .aliases(&["bdev_brmr_unmap"])
            .example(json!({"name": "Brmr0"}))
            .result_example(json!(true)),
        move |OfDevice { name }: OfDevice| of.delete(&name),
    );
    let of = devices.clone();
    registry.add(
        Method::new(
            "bdev_brmr_get_devices",
            "Replicated bdevs: their pools, legs, and why what is not up to date is not",
        )
        .example(json!({"name": "Brmr0"}))
        .result_example(json!([{
            "name": "Brmr0",
            "pool": "6d2a6c59-8d8d-4c61-a3a5-2c25ad4d7c11",
            "state": "active",
            "epoch": {"generation": 2, "version": 0},
            "members": [0, 1],
            "in_set": [0, 1],
            "up_to_date": [0, 1],
            "in_maintenance": [],
            "degraded": false,
            "waits_for": [],
            "given_up": {"members": [], "chunks": 0},
            "block_size": 4096,
            "chunk_size": 131072,
            "num_blocks": 262144,
            "legs": [{
                "member_id": 0,
                "session": "0b5fa1e5-94a5-4b84-9c1a-0a2a9df7ac1c",
                "state": "connected",
                "in_set": true,
                "up_to_date": true,
                "chunks_to_copy": 0,
                "why": null,
            }],
            "requests_under_way": 0,
        }])),
        move |GetDevices { name }: GetDevices| of.show(name.as_deref()),
    );
    legs::register(registry, devices);
    whole::register(registry, devices);
}

fn create(devices: &Devices, params: Create) -> Result<String, RpcError> {
    let start = start_options(params.takeover, params.force.as_deref(), params.accept)?;
    let known = match (params.block_size, params.num_blocks, params.request_blocks) {
        (None, None, None) => None,
        (Some(size), Some(blocks), Some(longest)) if longest > 0 => Some((size, blocks, longest)),
        _ => {
            let text = "block_size, num_blocks and request_blocks: accepted: all three, as saved, or none";
            return Err(RpcError::errno(EINVAL, text));
        }
    };
    let wanted = Wanted {
        name: params.name,
        pool: params.pool,
        members: params.members.into_iter().map(Peer::from).collect(),
        start,
        io_timeout: params.io_timeout_ms.filter(|ms| *ms > 0).map(Duration::from_millis),
        readonly: params.readonly.unwrap_or(false),
        known,
        patience: params.wait_ms.map_or(PATIENCE, Duration::from_millis),
    };
    Ok(devices.create(wanted)?.name().to_owned())
}

/// How a pool is to be started, as calls say it.
pub(super) fn start_options(
    takeover: Option<bool>,
    force: Option<&[u8]>,
    accept: Option<u8>,
) -> Result<StartOptions, RpcError> {
    Ok(StartOptions {
        takeover: takeover.unwrap_or(false),
        force: set(force.unwrap_or(&[]), "force")?,
        accept: accept.map(|id| member(id, "accept")).transpose()?,
    })
}

pub(super) fn member(id: u8, parameter: &str) -> Result<MemberId, RpcError> {
    MemberId::new(id).ok_or_else(|| {
        let text = format!("{parameter} {id}, accepted: 0 to {}", MEMBERS_MAX - 1);
        RpcError::errno(EINVAL, text).parameter(parameter, id, "0 to 7")
    })
}

fn set(ids: &[u8], parameter: &str) -> Result<MemberSet, RpcError> {
    ids.iter().try_fold(MemberSet::EMPTY, |set, id| Ok(set.with(member(*id, parameter)?)))
}

impl Devices {
    /// A replicated bdev by name.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Bdev>, RpcError> {
        let bdev = rpc::find(&self.bdevs, name)?;
        rpc::owned_by(PRODUCT_NAME, &bdev)?;
        Ok(bdev)
    }

    fn delete(&self, name: &str) -> Result<bool, RpcError> {
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        let (home, pool) = (device.home.clone(), device.pool);
        self.bdevs.remove_this(&bdev).map_err(|error| rpc::removal_refused(&self.bdevs, error))?;
        pool::close(&home, pool).map_err(no_answer)?;
        Ok(true)
    }

    fn show(&self, name: Option<&str>) -> Result<Value, RpcError> {
        let bdevs = match name {
            Some(name) => vec![self.find(name)?],
            None => self.bdevs.all().into_iter().filter(|b| b.product_name() == PRODUCT_NAME).collect(),
        };
        let mut told = Vec::new();
        for bdev in bdevs {
            let device = replicated(&bdev);
            let mut one = show::pool(device.pool, &look(&device.home, device.pool)?);
            one["name"] = json!(bdev.name());
            told.push(one);
        }
        Ok(Value::Array(told))
    }
}

pub(super) fn replicated(bdev: &Bdev) -> &Replicated {
    let device: &dyn Any = &**bdev.device();
    device.downcast_ref().expect("looked at by its product name")
}
