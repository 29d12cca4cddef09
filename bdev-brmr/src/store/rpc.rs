//! brmr_create_store, brmr_add_store, brmr_remove_store, brmr_delete_store, brmr_get_stores, rmr_get_server_pools,
//! rmr_set_sync_limit, rmr_get_store_metadata. Control threads.

use super::error::StoresError;
use super::show;
use super::stores::{AddStore, CreateStore, Stores, SyncLimit, pool_of};
use rpc_registry::{Method, Registry, RpcError, Subsystem};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

const EXAMPLE_POOL: &str = "0d9b1d2c-6f0e-4b51-9a3a-6f0f8a4f3e11";

/// Parameters of `brmr_create_store`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    /// UUID of the pool, or a label for it
    #[schemars(length(min = 1))]
    pool: String,
    /// UUID of the pool, when the label is not known here yet
    uuid: Option<Uuid>,
    /// Name, alias or UUID of the bdev; it must be empty
    #[schemars(length(min = 1))]
    bdev: String,
    /// Which member of the pool it is: 0 to 7
    member_id: u64,
    /// Bytes of the device, the same on all members; default: all that there is room for
    mapped_size: Option<u64>,
    /// Bytes per chunk, the same on all members: a power of two from 65536; default 131072
    chunk_size: Option<u64>,
    /// Bytes per block of the device, the same on all members: 512, 1024, 2048 or 4096; default 4096
    block_size: Option<u64>,
    /// Whether every write is durable before it is answered; default false
    write_through: Option<bool>,
    /// Even if this process holds another member of the pool, so that one death takes both: for measurements; default false
    share_node: Option<bool>,
}

/// How a store is added.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// An empty bdev takes the place of a lost one
    Replace,
}

/// Parameters of `brmr_add_store`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    /// UUID of the pool, or a label for it
    #[schemars(length(min = 1))]
    pool: String,
    /// UUID of the pool, when the label is not known here yet
    uuid: Option<Uuid>,
    /// Name, alias or UUID of the bdev
    #[schemars(length(min = 1))]
    bdev: String,
    /// Bytes that the device must have
    mapped_size: Option<u64>,
    /// Whether every write is durable before it is answered; default false
    write_through: Option<bool>,
    /// Even if this process holds another member of the pool, so that one death takes both: for measurements; default false
    share_node: Option<bool>,
    /// replace: the bdev is empty and takes the place of a lost one, as the same member
    mode: Option<Mode>,
    /// With mode=replace: which member it is
    member_id: Option<u64>,
    /// With mode=replace: bytes per chunk, as the other members have
    chunk_size: Option<u64>,
    /// With mode=replace: bytes per block, as the other members have
    block_size: Option<u64>,
}

/// Parameters of `brmr_remove_store` and `brmr_delete_store`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Remove {
    /// UUID or label of the pool
    #[schemars(length(min = 1))]
    pool: String,
    /// Even if it may be the last up-to-date copy; default false
    force: Option<bool>,
}

/// Parameters of `brmr_get_stores`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Get {
    /// UUID or label of one pool
    pool: Option<String>,
}

/// Parameters of `rmr_get_server_pools`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetPools {
    /// Label or UUID of one pool
    name: Option<String>,
}

/// Parameters of `rmr_get_store_metadata`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GetMetadata {
    /// UUID or label of the pool
    #[schemars(length(min = 1))]
    pool: String,
}

/// Parameters of `rmr_set_sync_limit`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetLimit {
    /// UUID or label of the pool
    #[schemars(length(min = 1))]
    pool: String,
    /// Copied at most, MiB a second; 0: no limit
    mbytes_per_sec: Option<u32>,
    /// Not slowed below this because of clients, MiB a second
    min_mbytes_per_sec: Option<u32>,
    /// Share of the time that copies take while clients are busy, per cent
    #[schemars(range(min = 1, max = 100))]
    busy_share_pct: Option<u8>,
}

/// Adds the methods of stores. The subsystem that saves them comes back: it depends on the bdevs and on sessions.
pub fn register(registry: &mut Registry, stores: &Arc<Stores>) -> Subsystem {
    change(registry, stores);
    look(registry, stores);
    let of = stores.clone();
    Subsystem::new("brmr").config(move || of.config())
}

fn change(registry: &mut Registry, stores: &Arc<Stores>) {
    let of = stores.clone();
    registry.add(
        Method::new("brmr_create_store", "Make a store of a replicated pool on an empty bdev, and open it")
            .example(json!({"pool": EXAMPLE_POOL, "bdev": "Nvme0n1", "member_id": 0}))
            .result_example(json!(true)),
        move |params: Create| create(&of, params),
    );
    let of = stores.clone();
    registry.add(
        Method::new("brmr_add_store", "Open the store that is on a bdev again, or replace a lost one")
            .example(json!({"pool": EXAMPLE_POOL, "bdev": "Nvme0n1"}))
            .result_example(json!(true)),
        move |params: Add| add(&of, params),
    );
    let of = stores.clone();
    registry.add(
        Method::new("brmr_remove_store", "Close a store; what is on its bdev stays")
            .example(json!({"pool": EXAMPLE_POOL}))
            .result_example(json!(true)),
        move |Remove { pool, force }: Remove| {
            of.remove(of.pool(&pool, None)?, force.unwrap_or(false))?;
            Ok(true)
        },
    );
    let of = stores.clone();
    registry.add(
        Method::new("brmr_delete_store", "Close a store and make its bdev none: its data is given up")
            .example(json!({"pool": EXAMPLE_POOL}))
            .result_example(json!(true)),
        move |Remove { pool, force }: Remove| {
            of.delete(of.pool(&pool, None)?, force.unwrap_or(false))?;
            Ok(true)
        },
    );
    let of = stores.clone();
    registry.add(
        Method::new(
            "rmr_set_sync_limit",
            "Say how fast chunks are copied to a store; what is not given stays",
        )
        .example(json!({"pool": EXAMPLE_POOL, "mbytes_per_sec": 200}))
        .result_example(json!(true)),
        move |params: SetLimit| {
            let mib = |mib: u32| u64::from(mib) << 20;
            let limit = SyncLimit {
                most: params.mbytes_per_sec.map(mib),
                least: params.min_mbytes_per_sec.map(mib),
                busy_share_pct: params.busy_share_pct,
            };
            of.set_sync_limit(of.pool(&params.pool, None)?, limit)?;
            Ok(true)
        },
    );
}

fn look(registry: &mut Registry, stores: &Arc<Stores>) {
    let of = stores.clone();
    registry.add(
        Method::new(
            "brmr_get_stores",
            "List the stores of this node, their bdevs and sizes, and why they do not serve",
        )
        .example(json!({"pool": EXAMPLE_POOL}))
        .result_example(json!([{
            "pool": EXAMPLE_POOL, "name": null, "bdev": "Nvme0n1", "member_id": 0,
            "incarnation": "5f0c2a7be1d34496", "state": "open", "changed_ms_ago": 1200, "service": "serving",
            "why": null, "mapped": 1_073_741_824_u64, "capacity": 1_073_741_824_u64, "block_size": 4096,
            "chunk_size": 131_072, "write_through": false, "requests": 0, "disk_ops": 0, "clients": 1,
            "letters_dropped": 0,
        }])),
        move |Get { pool }: Get| list(&of, pool.as_deref(), show::store),
    );
    let of = stores.clone();
    registry.add(
        Method::new("rmr_get_server_pools", "List the pools of which this node has a store, and how replication stands")
            .example(json!({"name": EXAMPLE_POOL}))
            .result_example(json!([{
                "name": null, "uuid": EXAMPLE_POOL, "member_id": 0, "state": "REGISTERED", "bdev": "Nvme0n1",
                "why": "opened; no newer epoch has named it yet", "service": "out", "fencing": false,
                "promise": {"generation": 0, "nonce": "0000000000000000"}, "epoch": null, "set": [], "members": [0],
                "resting": [], "dirty_chunks": 0, "entries": 0, "copying": 0,
                "sync": {
                    "dirty_bytes": 0, "copied_bytes": 0, "overwritten_bytes": 0, "mbytes_per_sec": 0,
                    "min_mbytes_per_sec": 8, "busy_share_pct": 25,
                },
                "peers": [],
            }])),
        move |GetPools { name }: GetPools| list(&of, name.as_deref(), show::pool),
    );
    let of = stores.clone();
    registry.add(
        Method::new(
            "rmr_get_store_metadata",
            "Show the metadata of a store, decoded: superblock, places, epoch record",
        )
        .example(json!({"pool": EXAMPLE_POOL})),
        move |GetMetadata { pool }: GetMetadata| {
            let pool = of.pool(&pool, None)?;
            let store = of.status()?.into_iter().find(|store| pool_of(store) == pool);
            let store = store.ok_or(StoresError::NoStore(pool))?;
            Ok(show::metadata(&store))
        },
    );
}

fn create(stores: &Stores, params: Create) -> Result<bool, RpcError> {
    let pool = stores.pool(&params.pool, params.uuid)?;
    stores.create(&CreateStore {
        pool,
        bdev: params.bdev,
        member: params.member_id,
        mapped: params.mapped_size,
        chunk: params.chunk_size,
        block: params.block_size,
        write_through: params.write_through.unwrap_or(false),
        share_node: params.share_node.unwrap_or(false),
    })?;
    stores.learn(&params.pool, pool);
    Ok(true)
}

fn add(stores: &Stores, params: Add) -> Result<bool, RpcError> {
    let pool = stores.pool(&params.pool, params.uuid)?;
    let write_through = params.write_through.unwrap_or(false);
    let share_node = params.share_node.unwrap_or(false);
    let (bdev, mapped, member) = (params.bdev, params.mapped_size, params.member_id);
    match params.mode {
        Some(Mode::Replace) => {
            let missing = |field, what: &str| StoresError::Field {
                field,
                value: "missing".to_owned(),
                accepted: format!("{what}: an empty bdev does not say"),
            };
            let member = member.ok_or_else(|| missing("member_id", "with mode=replace, 0 to 7"))?;
            let mapped = mapped
                .ok_or_else(|| missing("mapped_size", "with mode=replace, as the other members have"))?;
            let (chunk, block) = (params.chunk_size, params.block_size);
            stores.create(&CreateStore {
                pool,
                bdev,
                member,
                mapped: Some(mapped),
                chunk,
                block,
                write_through,
                share_node,
            })?;
        }
        None => {
            let only_new =
                [("member_id", member), ("chunk_size", params.chunk_size), ("block_size", params.block_size)];
            if let Some((field, Some(value))) = only_new.into_iter().find(|(_, value)| value.is_some()) {
                let accepted = "nothing without mode=replace: the store says it".to_owned();
                return Err(StoresError::Field { field, value: value.to_string(), accepted }.into());
            }
            stores.add(&AddStore { pool, bdev, mapped, write_through, share_node })?;
        }
    }
    stores.learn(&params.pool, pool);
    Ok(true)
}

fn list(
    stores: &Stores,
    only: Option<&str>,
    show: impl Fn(&Stores, &bdev_rmr::store::StoreStatus) -> Value,
) -> Result<Vec<Value>, RpcError> {
    let only = only.map(|pool| stores.pool(pool, None)).transpose()?;
    let all = stores.status()?;
    if let Some(pool) = only.filter(|pool| !all.iter().any(|store| pool_of(store) == *pool)) {
        return Err(StoresError::NoStore(pool).into());
    }
    let wanted = all.iter().filter(|store| only.is_none_or(|pool| pool_of(store) == pool));
    Ok(wanted.map(|store| show(stores, store)).collect())
}
