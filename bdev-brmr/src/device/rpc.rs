//! bdev_brmr_create, bdev_brmr_delete, bdev_brmr_get_devices, rmr_add_leg, rmr_remove_leg, rmr_set_leg_maintenance. Control
//! threads.

use super::create::{Wanted, look, no_answer};
use super::{Devices, PRODUCT_NAME, Replicated, show};
use bdev_rmr::hail::Peer;
use bdev_rmr::pool;
use rmr_engine::client::{Command, StartOptions};
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

const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ETIMEDOUT: i32 = 110;

/// How long a pool may take to assemble, unless the caller says.
const PATIENCE: Duration = Duration::from_secs(10);
/// A command of the engine ends by itself before this.
const COMMAND: Duration = Duration::from_secs(60);

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

/// Parameters of `rmr_add_leg`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddLeg {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Number of the new member: 0 to 7; its store must be new
    #[schemars(range(max = 7))]
    member_id: u8,
    /// Ways to its node's listeners
    #[schemars(length(min = 1))]
    paths: Vec<String>,
    /// Name of the key that all nodes have for it
    #[schemars(length(min = 1))]
    key: Option<String>,
}

/// Parameters of `rmr_remove_leg`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RemoveLeg {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Number of the member that is to leave
    #[schemars(range(max = 7))]
    member_id: u8,
    /// Even though it may hold the last copy of some data, which is lost then; default false
    force: Option<bool>,
}

/// Parameters of `rmr_set_leg_maintenance`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Maintenance {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Number of the member
    #[schemars(range(max = 7))]
    member_id: u8,
    /// true: it leaves the set and stays out; false: it comes back and copies what it missed
    enable: bool,
}

/// Parameters of `rmr_replace_leg` and `rmr_discard_leg`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OfLeg {
    /// Name, alias or UUID of a replicated bdev
    name: String,
    /// Number of the member
    #[schemars(range(max = 7))]
    member_id: u8,
    /// Even though it may hold the last copy of some data, which is lost then; default false
    force: Option<bool>,
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
    register_legs(registry, devices);
}

fn register_legs(registry: &mut Registry, devices: &Arc<Devices>) {
    let of = devices.clone();
    registry.add(
        Method::new("rmr_add_leg", "Add a member with a new store to a pool; it copies everything")
            .example(json!({"name": "Brmr0", "member_id": 2, "paths": ["ip:192.0.2.3:9400"]}))
            .result_example(json!(true)),
        move |AddLeg { name, member_id, paths, key }: AddLeg| {
            of.add_leg(&name, Peer { member: member_id, paths, key })
        },
    );
    let of = devices.clone();
    registry.add(
        Method::new("rmr_remove_leg", "Take a member out of a pool for good")
            .example(json!({"name": "Brmr0", "member_id": 2}))
            .result_example(json!(true)),
        move |RemoveLeg { name, member_id, force }: RemoveLeg| {
            of.remove_leg(&name, member_id, force.unwrap_or(false))
        },
    );
    let of = devices.clone();
    registry.add(
        Method::new(
            "rmr_set_leg_maintenance",
            "Keep a member out of the set while its node is worked on, or let it in again",
        )
        .example(json!({"name": "Brmr0", "member_id": 1, "enable": true}))
        .result_example(json!(true)),
        move |Maintenance { name, member_id, enable: on }: Maintenance| {
            let member = MemberId::at(usize::from(member_id));
            of.command(&name, Command::Maintenance { member, on }, None)
        },
    );
    let of = devices.clone();
    registry.add(
        Method::new("rmr_replace_leg", "Say that a member has another, empty disk: it copies everything")
            .example(json!({"name": "Brmr0", "member_id": 1}))
            .result_example(json!(true)),
        move |OfLeg { name, member_id, force }: OfLeg| {
            let (member, force) = (MemberId::at(usize::from(member_id)), force.unwrap_or(false));
            of.command(&name, Command::Replace { member, force }, None)
        },
    );
    let of = devices.clone();
    registry.add(
        Method::new(
            "rmr_discard_leg",
            "Give up what a member wrote in another history: it copies everything",
        )
        .example(json!({"name": "Brmr0", "member_id": 1}))
        .result_example(json!(true)),
        move |OfLeg { name, member_id, force }: OfLeg| {
            let (member, force) = (MemberId::at(usize::from(member_id)), force.unwrap_or(false));
            of.command(&name, Command::Discard { member, force }, None)
        },
    );
}

fn create(devices: &Devices, params: Create) -> Result<String, RpcError> {
    let start = StartOptions {
        takeover: params.takeover.unwrap_or(false),
        force: set(params.force.as_deref().unwrap_or(&[]), "force")?,
        accept: params.accept.map(|id| member(id, "accept")).transpose()?,
    };
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
        known,
        patience: params.wait_ms.map_or(PATIENCE, Duration::from_millis),
    };
    Ok(devices.create(wanted)?.name().to_owned())
}

fn member(id: u8, parameter: &str) -> Result<MemberId, RpcError> {
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
    fn find(&self, name: &str) -> Result<Arc<Bdev>, RpcError> {
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

    fn add_leg(&self, name: &str, peer: Peer) -> Result<bool, RpcError> {
        let leg = self.leg(&peer)?;
        let member = member(peer.member, "member_id")?;
        self.command(name, Command::Add { member }, Some(leg))?;
        let bdev = self.find(name)?;
        replicated(&bdev).members().push(peer);
        Ok(true)
    }

    fn remove_leg(&self, name: &str, id: u8, force: bool) -> Result<bool, RpcError> {
        let member = member(id, "member_id")?;
        self.command(name, Command::Remove { member, force }, None)?;
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        device.members().retain(|peer| peer.member != id);
        pool::leave(&device.home, device.pool, member).map_err(no_answer)?;
        Ok(true)
    }

    /// Gives the engine a command and waits for its end.
    fn command(&self, name: &str, command: Command, leg: Option<pool::LegSpec>) -> Result<bool, RpcError> {
        let bdev = self.find(name)?;
        let device = replicated(&bdev);
        let added = leg.as_ref().map(|leg| leg.peer.member);
        let told = pool::command(&device.home, device.pool, command, leg)
            .map_err(|error| RpcError::errno(EINVAL, error.to_string()))?;
        let result = match told.recv_timeout(COMMAND) {
            Ok(result) => result.map_err(|error| RpcError::errno(EBUSY, error.to_string())),
            Err(_) => Err(RpcError::errno(
                ETIMEDOUT,
                "the pool did not say how the command ended: look at its status",
            )),
        };
        if let (Err(_), Some(id)) = (&result, added) {
            pool::leave(&device.home, device.pool, member(id, "member_id")?).map_err(no_answer)?;
        }
        result.map(|()| true)
    }
}

fn replicated(bdev: &Bdev) -> &Replicated {
    let device: &dyn Any = &**bdev.device();
    device.downcast_ref().expect("looked at by its product name")
}
