//! Replicated devices and stores. This crate knows no module: whoever has them says how they stand.

use crate::families::{
    DEVICE_GENERATION, DEVICE_MEMBERS, DEVICE_REQUESTS, DEVICE_SERVES, DEVICE_STOPPED, DEVICE_STOPPED_MAX,
    DEVICE_STOPS, DEVICE_UP_TO_DATE, LEG_CONNECTED, LEG_READ_LATENCY, LEG_UP_TO_DATE, STORE_COPIED,
    STORE_COPYING, STORE_DIRTY, STORE_DROPPED, STORE_INTENTS, STORE_OVERWRITTEN, STORE_REQUESTS,
    STORE_SERVES,
};
use crate::text::{Samples, Text};
use std::fmt::{self, Display};
use std::sync::Arc;

/// What keeps the requests of a device waiting, since it was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stops {
    /// `assembling` or `changing`.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
    /// Together, one that lasts included.
    pub seconds: f64,
    /// The longest.
    pub seconds_max: f64,
}

/// A leg of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// Its number.
    pub member: usize,
    /// Does its store answer?
    pub connected: bool,
    /// Does it hold every acknowledged write?
    pub up_to_date: bool,
    /// What reads take there; none was measured.
    pub read_seconds: Option<f64>,
}

/// A replicated device.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Name of its bdev.
    pub name: String,
    /// UUID of its pool.
    pub pool: String,
    /// Are its requests carried out?
    pub serves: bool,
    /// Members.
    pub members: usize,
    /// Of these, up to date.
    pub up_to_date: usize,
    /// Starts of the pool by whomever, ever.
    pub generation: u64,
    /// Requests under way.
    pub requests: usize,
    /// One for each kind.
    pub stops: Vec<Stops>,
    /// One for each member that it was told of.
    pub legs: Vec<Leg>,
}

/// A store. Bytes copied count from when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// UUID of its pool.
    pub pool: String,
    /// Its member.
    pub member: usize,
    /// Is it in the set?
    pub serves: bool,
    /// Bytes still to be copied.
    pub dirty_bytes: u64,
    /// Bytes copied.
    pub copied_bytes: u64,
    /// Bytes that clients wrote anew before they were copied.
    pub overwritten_bytes: u64,
    /// Live entries of its intent log.
    pub intents: usize,
    /// Chunks being copied.
    pub copying: usize,
    /// Requests not answered yet.
    pub requests: usize,
    /// Letters that nobody came for.
    pub letters_dropped: u64,
}

/// All of them, as they are now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replication {
    /// Of this host as a compute node.
    pub devices: Vec<Device>,
    /// Of this host as a storage node.
    pub stores: Vec<Store>,
}

/// Who says how they stand. Asked on a thread that may block, a second at most.
#[derive(Clone)]
pub struct ReplicationSource(Arc<dyn Fn() -> Replication + Send + Sync>);

impl ReplicationSource {
    /// Asks `look` at each scrape.
    pub fn new(look: impl Fn() -> Replication + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }
}

impl fmt::Debug for ReplicationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplicationSource")
    }
}

pub(crate) fn write(text: &mut Text, source: &ReplicationSource) {
    let Replication { devices, stores } = (source.0)();
    text.family(DEVICE_SERVES, |s| of_devices(s, &devices, |device| u8::from(device.serves)));
    text.family(DEVICE_MEMBERS, |s| of_devices(s, &devices, |device| device.members));
    text.family(DEVICE_UP_TO_DATE, |s| of_devices(s, &devices, |device| device.up_to_date));
    text.family(DEVICE_GENERATION, |s| of_devices(s, &devices, |device| device.generation));
    text.family(DEVICE_REQUESTS, |s| of_devices(s, &devices, |device| device.requests));
    text.family(DEVICE_STOPS, |s| of_stops(s, &devices, |stops| stops.count));
    text.family(DEVICE_STOPPED, |s| of_stops(s, &devices, |stops| stops.seconds));
    text.family(DEVICE_STOPPED_MAX, |s| of_stops(s, &devices, |stops| stops.seconds_max));
    text.family(LEG_CONNECTED, |s| of_legs(s, &devices, |leg| Some(u8::from(leg.connected))));
    text.family(LEG_UP_TO_DATE, |s| of_legs(s, &devices, |leg| Some(u8::from(leg.up_to_date))));
    text.family(LEG_READ_LATENCY, |s| of_legs(s, &devices, |leg| leg.read_seconds));
    text.family(STORE_SERVES, |s| of_stores(s, &stores, |store| u8::from(store.serves)));
    text.family(STORE_DIRTY, |s| of_stores(s, &stores, |store| store.dirty_bytes));
    text.family(STORE_COPIED, |s| of_stores(s, &stores, |store| store.copied_bytes));
    text.family(STORE_OVERWRITTEN, |s| of_stores(s, &stores, |store| store.overwritten_bytes));
    text.family(STORE_INTENTS, |s| of_stores(s, &stores, |store| store.intents));
    text.family(STORE_COPYING, |s| of_stores(s, &stores, |store| store.copying));
    text.family(STORE_REQUESTS, |s| of_stores(s, &stores, |store| store.requests));
    text.family(STORE_DROPPED, |s| of_stores(s, &stores, |store| store.letters_dropped));
}

fn of_devices<V: Display>(samples: &mut Samples<'_>, devices: &[Device], value: impl Fn(&Device) -> V) {
    for device in devices {
        samples.add(&[("bdev", &device.name), ("pool", &device.pool)], value(device));
    }
}

fn of_stops<V: Display>(samples: &mut Samples<'_>, devices: &[Device], value: impl Fn(&Stops) -> V) {
    for device in devices {
        for stops in &device.stops {
            samples.add(&[("bdev", &device.name), ("kind", stops.kind)], value(stops));
        }
    }
}

fn of_legs<V: Display>(samples: &mut Samples<'_>, devices: &[Device], value: impl Fn(&Leg) -> Option<V>) {
    for device in devices {
        for leg in &device.legs {
            if let Some(value) = value(leg) {
                samples.add(&[("bdev", &device.name), ("member", &leg.member.to_string())], value);
            }
        }
    }
}

fn of_stores<V: Display>(samples: &mut Samples<'_>, stores: &[Store], value: impl Fn(&Store) -> V) {
    for store in stores {
        samples.add(&[("pool", &store.pool), ("member", &store.member.to_string())], value(store));
    }
}
