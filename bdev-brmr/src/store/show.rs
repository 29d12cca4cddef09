//! What calls about stores answer.

use super::stores::{Stores, pool_of};
use bdev_rmr::store::{EngineStatus, Phase, StoreStatus, area_bytes, data_offset};
use rmr_engine::StoreConfig;
use rmr_engine::store::{OutCause, Service};
use rmr_proto::{Epoch, EpochRecord, MEMBERS_MAX, MemberSet, Origin, Promise};
use serde_json::{Value, json};

fn members(set: MemberSet) -> Vec<usize> {
    set.iter().map(|member| member.index()).collect()
}

fn promise(promise: Promise) -> Value {
    json!({"generation": promise.generation, "nonce": format!("{:016x}", promise.nonce)})
}

/// Null if there was none yet.
fn epoch(epoch: Epoch) -> Value {
    if epoch == Epoch::default() {
        return Value::Null;
    }
    let Promise { generation, nonce } = epoch.promise;
    json!({"generation": generation, "nonce": format!("{nonce:016x}"), "version": epoch.version})
}

fn service(engine: &EngineStatus) -> (&'static str, Option<&'static str>) {
    match engine.service {
        Service::Serving => ("serving", None),
        Service::Latched => ("latched", Some("a metadata write failed; remove the store and add it again")),
        Service::Out(cause) => {
            let why = match cause {
                OutCause::Opened => "opened; no newer epoch has named it yet",
                OutCause::Promised => "promised to a client that has not taken it into its set",
                OutCause::DiskError => "its disk failed a write or a flush",
            };
            ("out", Some(why))
        }
    }
}

/// In the words of the kernel's RMR.
fn state(store: &StoreStatus) -> &'static str {
    match &store.engine {
        Some(engine) if store.phase == Phase::Open => match engine.service {
            Service::Serving => "NORMAL",
            _ if engine.record.adopted != Epoch::default() => "NO_IO",
            _ if engine.record.promise != Promise::default() => "CREATED",
            _ => "REGISTERED",
        },
        _ => "NO_IO",
    }
}

fn ms_since(when: std::time::SystemTime) -> u64 {
    // The clock may have been set back since.
    when.elapsed().map_or(0, |past| u64::try_from(past.as_millis()).unwrap_or(u64::MAX))
}

/// For `brmr_get_stores`.
pub(super) fn store(stores: &Stores, store: &StoreStatus) -> Value {
    let superblock = &store.superblock;
    let geometry = &superblock.geometry;
    let block = 1u64 << geometry.block_shift();
    let blocks = store.engine.as_ref().map_or(geometry.blocks(), |engine| engine.record.blocks);
    let why = store.why.as_deref().or_else(|| store.engine.as_ref().and_then(|engine| service(engine).1));
    json!({
        "pool": pool_of(store).to_string(),
        "name": stores.label(pool_of(store)),
        "bdev": store.bdev,
        "member_id": superblock.member.index(),
        "incarnation": format!("{:016x}", superblock.incarnation.0),
        "state": store.phase.name(),
        "changed_ms_ago": ms_since(store.since),
        "service": store.engine.as_ref().map(|engine| service(engine).0),
        "why": why,
        "mapped": blocks * block,
        "capacity": superblock.capacity * block,
        "block_size": block,
        "chunk_size": block << geometry.chunk_shift(),
        "write_through": stores.writes_through(store.key()),
        "requests": store.requests,
        "disk_ops": store.on_disk,
        "clients": store.clients,
        "letters_dropped": store.letters_dropped,
    })
}

/// For `rmr_get_server_pools`.
pub(super) fn pool(stores: &Stores, store: &StoreStatus) -> Value {
    let mut shown = json!({
        "name": stores.label(pool_of(store)),
        "uuid": pool_of(store).to_string(),
        "member_id": store.superblock.member.index(),
        "state": state(store),
        "bdev": store.bdev,
        "why": store.why,
    });
    let Some(engine) = &store.engine else { return shown };
    let (word, why) = service(engine);
    let record = &engine.record;
    shown["service"] = word.into();
    if store.why.is_none() {
        shown["why"] = why.into();
    }
    shown["fencing"] = engine.fencing.into();
    shown["promise"] = promise(record.promise);
    shown["epoch"] = epoch(record.adopted);
    shown["set"] = members(record.set).into();
    shown["members"] = members(record.members).into();
    shown["resting"] = members(record.resting).into();
    shown["dirty_chunks"] = engine.dirty_chunks.into();
    shown["entries"] = engine.entries.into();
    shown["copying"] = engine.copying.into();
    shown["sync"] = sync(engine);
    let links = store.links.iter().map(|l| json!({"member_id": l.member, "up": l.up, "why": l.why}));
    shown["peers"] = links.collect();
    shown
}

fn sync(engine: &EngineStatus) -> Value {
    let (resync, limits) = (&engine.resync, &engine.limits);
    json!({
        "dirty_bytes": resync.dirty_bytes,
        "copied_bytes": resync.copied_bytes,
        "overwritten_bytes": resync.overwritten_bytes,
        "mbytes_per_sec": limits.bytes_per_sec >> 20,
        "min_mbytes_per_sec": limits.min_bytes_per_sec >> 20,
        "busy_share_pct": limits.busy_share_pct,
    })
}

/// For `rmr_get_store_metadata`.
pub(super) fn metadata(store: &StoreStatus) -> Value {
    let superblock = &store.superblock;
    let config = StoreConfig::default();
    let geometry = &superblock.geometry;
    json!({
        "bdev": store.bdev,
        "superblock": {
            "pool": pool_of(store).to_string(),
            "member_id": superblock.member.index(),
            "incarnation": format!("{:016x}", superblock.incarnation.0),
            "blocks": geometry.blocks(),
            "block_size": 1u64 << geometry.block_shift(),
            "chunk_blocks": 1u64 << geometry.chunk_shift(),
            "region_chunks": 1u64 << geometry.region_shift(),
            "capacity_blocks": superblock.capacity,
            "zeroed": superblock.zeroed,
        },
        "layout": {
            "area_bytes": area_bytes(&superblock.room(), &config),
            "journal_bytes": config.journal_bytes,
            "data_offset": data_offset(superblock, &config),
        },
        "record": store.engine.as_ref().map(|engine| record(&engine.record)),
    })
}

fn record(record: &EpochRecord) -> Value {
    let origin = match record.origin {
        Origin::Create { reference } => json!({"create": {"reference": reference.index()}}),
        Origin::Assembly => json!("assembly"),
        Origin::Shrink => json!("shrink"),
        Origin::Join { member } => json!({"join": {"member_id": member.index()}}),
    };
    let peers = (0..MEMBERS_MAX).filter(|at| record.members.iter().any(|member| member.index() == *at));
    let peer = |at: usize| {
        json!({
            "member_id": at,
            "incarnation": format!("{:016x}", record.peers[at].incarnation.0),
            "counter": record.peers[at].counter,
            "last_in": epoch(record.last_in[at]),
        })
    };
    json!({
        "promise": promise(record.promise),
        "adopted": epoch(record.adopted),
        "base": epoch(record.base),
        "origin": origin,
        "set": members(record.set),
        "members": members(record.members),
        "resting": members(record.resting),
        "blocks": record.blocks,
        "boot": format!("{:016x}", record.boot),
        "counter": record.counter,
        "wrote": epoch(record.wrote),
        "decided": epoch(record.decided),
        "learning": record.learning,
        "peers": peers.map(peer).collect::<Vec<_>>(),
    })
}
