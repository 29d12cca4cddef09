//! Replicated devices and stores as `tgt-metrics` takes them, which knows no module.

use bdev_brmr::device::Devices;
use bdev_brmr::store::Stores;
use bdev_rmr::pool::{LegFigures, PoolFigures, StopKind};
use bdev_rmr::store::StoreStatus;
use rmr_engine::store::Service;
use std::sync::Arc;
use std::time::Duration;
use tgt_metrics::replication::{Device, Leg, Replication, ReplicationSource, Stops, Store};

/// Both questions together are answered within a second, or left out.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who tells of them at each scrape.
pub(crate) fn source(devices: &Arc<Devices>, stores: &Arc<Stores>) -> ReplicationSource {
    let (devices, stores) = (devices.clone(), stores.clone());
    ReplicationSource::new(move || Replication {
        devices: devices.figures(PATIENCE).into_iter().map(device).collect(),
        stores: stores.figures(PATIENCE).iter().map(store).collect(),
    })
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn device(pool: PoolFigures) -> Device {
    let kind = |kind| match kind {
        StopKind::Assembling => "assembling",
        StopKind::Changing => "changing",
    };
    let stops = StopKind::ALL.into_iter().zip(pool.stops).map(|(of, stops)| Stops {
        kind: kind(of),
        count: stops.count,
        seconds: seconds(stops.ns),
        seconds_max: seconds(stops.ns_max),
    });
    Device {
        stops: stops.collect(),
        legs: pool.legs.iter().map(leg).collect(),
        name: pool.name,
        pool: pool.pool.to_string(),
        serves: pool.serves,
        members: pool.members,
        up_to_date: pool.up_to_date,
        generation: pool.generation,
        requests: pool.under_way,
    }
}

fn leg(leg: &LegFigures) -> Leg {
    Leg {
        member: leg.member.index(),
        connected: leg.connected,
        up_to_date: leg.up_to_date,
        read_seconds: leg.read_ns.map(seconds),
    }
}

fn store(store: &StoreStatus) -> Store {
    let engine = store.engine.as_ref();
    let resync = engine.map(|engine| engine.resync).unwrap_or_default();
    Store {
        pool: uuid::Uuid::from_bytes(store.superblock.pool.0).to_string(),
        member: store.superblock.member.index(),
        serves: engine.is_some_and(|engine| engine.service == Service::Serving),
        dirty_bytes: resync.dirty_bytes,
        copied_bytes: resync.copied_bytes,
        overwritten_bytes: resync.overwritten_bytes,
        intents: engine.map_or(0, |engine| engine.entries),
        copying: engine.map_or(0, |engine| engine.copying),
        requests: store.requests,
        letters_dropped: store.letters_dropped,
    }
}
