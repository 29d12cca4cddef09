//! Replicated devices and stores: who is up to date, and when what is to be copied will be. Pure.

use crate::show::plain;
use crate::view::unit::{bytes, time};
use serde::Serialize;
use serde_json::{Value, json};

/// How they stood at one moment. A member of an answer that is not understood is shown as unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pools {
    legs: Vec<Leg>,
    stores: Vec<Store>,
}

/// A leg of a device of this host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Leg {
    bdev: String,
    member: u64,
    /// Of the device.
    device_state: String,
    state: String,
    up_to_date: bool,
    why: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Store {
    pool: String,
    member: u64,
    service: String,
    dirty: u64,
    /// Copied, or written anew by clients before it was.
    done: u64,
}

/// A store of this host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StoreRates {
    /// UUID.
    pool: String,
    member: u64,
    service: String,
    /// Still to be copied.
    dirty_bytes: u64,
    /// By how much that fell in a second, but for what was added.
    bytes_per_sec: f64,
    /// Until nothing is left, if it goes on like that; none: nothing is left, or nothing happens.
    seconds_left: Option<f64>,
}

/// What is shown of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct PoolRates {
    /// By device and member.
    pub legs: Vec<Leg>,
    /// By pool.
    pub stores: Vec<StoreRates>,
}

fn word(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or("?").to_owned()
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Pools {
    /// From the answers of `bdev_brmr_get_devices` and `rmr_get_server_pools`; null for a target without them.
    pub(crate) fn of(devices: &Value, stores: &Value) -> Self {
        let legs = rows(devices).flat_map(|device| {
            rows(&device["legs"]).map(|leg| Leg {
                bdev: word(device, "name"),
                member: leg["member_id"].as_u64().unwrap_or_default(),
                device_state: word(device, "state"),
                state: word(leg, "state"),
                up_to_date: leg["up_to_date"] == json!(true),
                why: leg["why"].as_str().map(str::to_owned),
            })
        });
        let sync = |store: &Value, name: &str| store["sync"][name].as_u64().unwrap_or_default();
        let stores = rows(stores).map(|store| Store {
            pool: word(store, "uuid"),
            member: store["member_id"].as_u64().unwrap_or_default(),
            service: word(store, "service"),
            dirty: sync(store, "dirty_bytes"),
            done: sync(store, "copied_bytes") + sync(store, "overwritten_bytes"),
        });
        Self { legs: legs.collect(), stores: stores.collect() }
    }

    /// What was done since `before`. A store that was opened anew has begun at zero.
    pub(crate) fn since(&self, before: &Pools, seconds: f64) -> PoolRates {
        let rate = |now: &Store| {
            let same = |other: &&Store| (&other.pool, other.member) == (&now.pool, now.member);
            let was = before.stores.iter().find(same).map_or(0, |before| before.done);
            let bytes_per_sec = now.done.checked_sub(was).unwrap_or(now.done) as f64 / seconds;
            let left = (now.dirty > 0 && bytes_per_sec > 0.0).then(|| now.dirty as f64 / bytes_per_sec);
            StoreRates {
                pool: now.pool.clone(),
                member: now.member,
                service: now.service.clone(),
                dirty_bytes: now.dirty,
                bytes_per_sec,
                seconds_left: left,
            }
        };
        PoolRates { legs: self.legs.clone(), stores: self.stores.iter().map(rate).collect() }
    }
}

/// Both as tables; nothing where there are none.
pub(crate) fn tables(rates: &PoolRates, width: Option<u16>) -> String {
    let legs: Vec<Value> = rates.legs.iter().map(leg).collect();
    let stores: Vec<Value> = rates.stores.iter().map(store).collect();
    let tables = [legs, stores].into_iter().filter(|rows| !rows.is_empty());
    tables.map(|rows| format!("\n{}", plain(&Value::Array(rows), width))).collect()
}

fn leg(leg: &Leg) -> Value {
    json!({
        "device": leg.bdev,
        "is": leg.device_state,
        "member": leg.member.to_string(),
        "leg": leg.state,
        "up to date": if leg.up_to_date { "yes" } else { "no" },
        "why not": leg.why.as_deref().unwrap_or("-"),
    })
}

fn store(store: &StoreRates) -> Value {
    json!({
        "store of pool": store.pool,
        "member": store.member.to_string(),
        "is": store.service,
        "to copy": bytes(store.dirty_bytes as f64),
        "copies": format!("{}/s", bytes(store.bytes_per_sec)),
        "done in": store.seconds_left.map_or("-".to_owned(), time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::embedded;

    fn example(method: &str) -> Value {
        embedded().method(method).and_then(|method| method.result_example.clone()).expect("an example")
    }

    fn at(dirty: u64, copied: u64) -> Pools {
        let mut stores = example("rmr_get_server_pools");
        let sync = &mut stores[0]["sync"];
        (sync["dirty_bytes"], sync["copied_bytes"]) = (json!(dirty), json!(copied));
        Pools::of(&example("bdev_brmr_get_devices"), &stores)
    }

    #[test]
    fn what_is_left_and_how_fast_it_falls_say_when_it_ends() {
        let rates = at(6 << 20, 4 << 20).since(&at(8 << 20, 2 << 20), 2.0);
        let store = &rates.stores[0];
        assert_eq!((store.bytes_per_sec, store.seconds_left), (f64::from(1 << 20), Some(6.0)));
        let text = tables(&rates, None);
        for words in ["Brmr0", "active", "6 MiB", "1 MiB/s", "6 s", "yes"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn nothing_to_copy_nothing_copied_and_a_store_opened_anew_are_no_nonsense() {
        let left = |now: &Pools, before: &Pools| now.since(before, 1.0).stores[0].seconds_left;
        assert_eq!(left(&at(0, 10), &at(10, 0)), None);
        assert_eq!(left(&at(10, 5), &at(10, 5)), None);
        let anew = at(100, 50).since(&at(0, 1000), 1.0);
        assert_eq!((anew.stores[0].bytes_per_sec, anew.stores[0].seconds_left), (50.0, Some(2.0)));
        assert_eq!(tables(&Pools::of(&Value::Null, &Value::Null).since(&at(1, 1), 1.0), None), "");
    }
}
