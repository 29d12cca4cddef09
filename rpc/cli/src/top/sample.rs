//! What a target has done so far, and from two such samples what it does now. Pure.

use super::pools::{PoolRates, Pools};
use serde::Serialize;
use serde_json::Value;

/// Counters of a target at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Ticks of the target's clock.
    ticks: u64,
    /// Ticks of a second.
    tick_rate: u64,
    reactors: Vec<ReactorCounters>,
    bdevs: Vec<BdevCounters>,
    pools: Pools,
}

#[derive(Debug, Clone, PartialEq)]
struct ReactorCounters {
    name: String,
    core: u64,
    busy: u64,
    idle: u64,
    asleep: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct BdevCounters {
    name: String,
    read: OpCounters,
    write: OpCounters,
    unmap: OpCounters,
    errors: u64,
    queue_depth: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct OpCounters {
    ops: u64,
    bytes: u64,
    ticks: u64,
    ticks_max: u64,
}

/// What a target did between two samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Rates {
    /// Time between the samples.
    pub seconds: f64,
    /// In the target's order.
    pub reactors: Vec<ReactorRates>,
    /// In the target's order.
    pub bdevs: Vec<BdevRates>,
    /// Replicated devices and stores.
    pub replication: PoolRates,
}

/// What a reactor did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ReactorRates {
    /// Its name.
    pub name: String,
    /// Its core.
    pub core: u64,
    /// Percent of its time in turns that did something.
    pub busy_percent: f64,
    /// Whether it slept when it was asked.
    pub asleep: bool,
}

/// What a bdev did. Rates are of IOs that succeeded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BdevRates {
    /// Its name.
    pub name: String,
    /// Reads in a second.
    pub read_iops: f64,
    /// Writes in a second.
    pub write_iops: f64,
    /// Unmaps in a second.
    pub unmap_iops: f64,
    /// Bytes read in a second.
    pub read_bytes_per_sec: f64,
    /// Bytes written in a second.
    pub write_bytes_per_sec: f64,
    /// Mean latency of what ended between the samples; none if nothing did.
    pub latency_mean_us: Option<f64>,
    /// Longest latency since the target's accounts were last reset.
    pub latency_max_us: f64,
    /// IOs in flight on average, by their latencies (Little's law).
    pub depth_mean: f64,
    /// IOs in flight at the target's last look; none while they are not sampled.
    pub queue_depth: Option<u64>,
    /// Failures between the samples.
    pub errors: u64,
    /// Failures since the target's accounts were last reset.
    pub errors_total: u64,
}

impl BdevRates {
    /// All IOs in a second.
    pub(crate) fn iops(&self) -> f64 {
        self.read_iops + self.write_iops + self.unmap_iops
    }

    /// Bytes read and written in a second.
    pub(crate) fn bytes_per_sec(&self) -> f64 {
        self.read_bytes_per_sec + self.write_bytes_per_sec
    }
}

impl Sample {
    /// From the answers of `framework_get_reactors` and `bdev_get_iostat`; else the name of what is missing.
    pub(crate) fn of(reactors: &Value, iostat: &Value) -> Result<Self, String> {
        Ok(Self {
            ticks: whole(iostat, "ticks")?,
            tick_rate: whole(iostat, "tick_rate")?.max(1),
            reactors: list(reactors, "reactors")?.iter().map(reactor).collect::<Result<_, _>>()?,
            bdevs: list(iostat, "bdevs")?.iter().map(bdev).collect::<Result<_, _>>()?,
            pools: Pools::default(),
        })
    }

    /// With replicated devices and stores.
    pub(crate) fn with(self, pools: Pools) -> Self {
        Self { pools, ..self }
    }

    /// What was done since `before`. What was not there then began at zero; so did accounts that shrank: they were
    /// reset.
    pub(crate) fn since(&self, before: &Sample) -> Rates {
        let seconds = (self.ticks.saturating_sub(before.ticks) as f64 / self.tick_rate as f64).max(1e-9);
        let reactors = self.reactors.iter().map(|now| {
            let before = before.reactors.iter().find(|before| before.name == now.name);
            now.since(before)
        });
        let bdevs = self.bdevs.iter().map(|now| {
            let before = before.bdevs.iter().find(|before| before.name == now.name);
            now.since(before, seconds, self.tick_rate as f64)
        });
        let replication = self.pools.since(&before.pools, seconds);
        Rates { seconds, reactors: reactors.collect(), bdevs: bdevs.collect(), replication }
    }
}

impl ReactorCounters {
    fn since(&self, before: Option<&Self>) -> ReactorRates {
        let busy = grown(self.busy, before.map_or(0, |before| before.busy)) as f64;
        let idle = grown(self.idle, before.map_or(0, |before| before.idle)) as f64;
        let busy_percent = if busy + idle > 0.0 { 100.0 * busy / (busy + idle) } else { 0.0 };
        ReactorRates { name: self.name.clone(), core: self.core, busy_percent, asleep: self.asleep }
    }
}

impl BdevCounters {
    fn since(&self, before: Option<&Self>, seconds: f64, tick_rate: f64) -> BdevRates {
        let of = |op: fn(&Self) -> OpCounters| op(self).since(before.map(op).unwrap_or_default());
        let (read, write, unmap) = (of(|b| b.read), of(|b| b.write), of(|b| b.unmap));
        let all = [read, write, unmap];
        let ops: u64 = all.iter().map(|op| op.ops).sum();
        let ticks = all.iter().map(|op| op.ticks as f64).sum::<f64>();
        let max = all.iter().map(|op| op.ticks_max).max().unwrap_or_default();
        let rate = |count: u64| count as f64 / seconds;
        BdevRates {
            name: self.name.clone(),
            read_iops: rate(read.ops),
            write_iops: rate(write.ops),
            unmap_iops: rate(unmap.ops),
            read_bytes_per_sec: rate(read.bytes),
            write_bytes_per_sec: rate(write.bytes),
            latency_mean_us: (ops > 0).then(|| ticks / ops as f64 / tick_rate * 1e6),
            latency_max_us: max as f64 / tick_rate * 1e6,
            depth_mean: ticks / tick_rate / seconds,
            queue_depth: self.queue_depth,
            errors: grown(self.errors, before.map_or(0, |before| before.errors)),
            errors_total: self.errors,
        }
    }
}

impl OpCounters {
    /// All of it anew after a reset, which shows in any one of the counters.
    fn since(self, before: Self) -> Self {
        if self.ops < before.ops || self.bytes < before.bytes || self.ticks < before.ticks {
            return self;
        }
        Self {
            ops: self.ops - before.ops,
            bytes: self.bytes - before.bytes,
            ticks: self.ticks - before.ticks,
            ticks_max: self.ticks_max,
        }
    }
}

/// What a counter has grown by; one that shrank was reset, and has grown from zero.
fn grown(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn reactor(value: &Value) -> Result<ReactorCounters, String> {
    let core = whole(value, "lcore")?;
    let name = value.pointer("/lw_threads/0/name").and_then(Value::as_str);
    Ok(ReactorCounters {
        name: name.map_or_else(|| format!("core {core}"), str::to_owned),
        core,
        busy: whole(value, "busy")?,
        idle: whole(value, "idle")?,
        asleep: value.get("in_interrupt").and_then(Value::as_bool).unwrap_or(false),
    })
}

fn bdev(value: &Value) -> Result<BdevCounters, String> {
    let op = |ops: &str, bytes: &str, latency: &str| {
        Ok::<_, String>(OpCounters {
            ops: whole(value, ops)?,
            bytes: whole(value, bytes)?,
            ticks: whole(value, &format!("{latency}_latency_ticks"))?,
            ticks_max: whole(value, &format!("max_{latency}_latency_ticks"))?,
        })
    };
    let errors = value.get("io_error").and_then(Value::as_object);
    Ok(BdevCounters {
        name: value.get("name").and_then(Value::as_str).ok_or("name")?.to_owned(),
        read: op("num_read_ops", "bytes_read", "read")?,
        write: op("num_write_ops", "bytes_written", "write")?,
        unmap: op("num_unmap_ops", "bytes_unmapped", "unmap")?,
        errors: errors.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum(),
        queue_depth: value.get("queue_depth").and_then(Value::as_u64),
    })
}

fn whole(value: &Value, name: &str) -> Result<u64, String> {
    value.get(name).and_then(Value::as_u64).ok_or_else(|| name.to_owned())
}

fn list<'v>(value: &'v Value, name: &str) -> Result<&'v Vec<Value>, String> {
    value.get(name).and_then(Value::as_array).ok_or_else(|| name.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::schema::embedded;
    use serde_json::json;

    /// A sample of one reactor and one bdev; a tick is a microsecond.
    pub(crate) fn sample(ticks: u64, name: &str, reads: u64, busy: u64) -> Sample {
        let example = |method: &str| {
            embedded().method(method).and_then(|method| method.result_example.clone()).expect("an example")
        };
        let (mut reactors, mut iostat) = (example("framework_get_reactors"), example("bdev_get_iostat"));
        (iostat["ticks"], iostat["tick_rate"]) = (json!(ticks), json!(1_000_000));
        (reactors["reactors"][0]["busy"], reactors["reactors"][0]["idle"]) =
            (json!(busy), json!(ticks - busy));
        let bdev = &mut iostat["bdevs"][0];
        bdev["name"] = json!(name);
        (bdev["num_read_ops"], bdev["bytes_read"]) = (json!(reads), json!(reads * 4096));
        (bdev["read_latency_ticks"], bdev["max_read_latency_ticks"]) = (json!(reads * 200), json!(900));
        bdev["io_error"] = json!({"failed": reads / 100});
        Sample::of(&reactors, &iostat).expect("a sample")
    }

    #[test]
    fn rates_are_what_was_done_between_two_samples() {
        let rates = sample(3_000_000, "a", 3000, 1_500_000).since(&sample(1_000_000, "a", 1000, 500_000));
        assert_eq!(rates.seconds, 2.0);
        let bdev = &rates.bdevs[0];
        assert_eq!((bdev.read_iops, bdev.write_iops, bdev.iops()), (1000.0, 0.0, 1000.0));
        assert_eq!(bdev.bytes_per_sec(), 4_096_000.0);
        assert_eq!((bdev.latency_mean_us, bdev.latency_max_us), (Some(200.0), 900.0));
        // 1000 a second, each 200 us: a fifth of an IO in flight.
        assert!((bdev.depth_mean - 0.2).abs() < 1e-9);
        assert_eq!((bdev.errors, bdev.errors_total, bdev.queue_depth), (20, 30, None));
        assert_eq!(rates.reactors[0].busy_percent, 50.0);
    }

    #[test]
    fn a_reset_a_new_bdev_and_one_that_did_nothing_are_no_nonsense() {
        let before = sample(1_000_000, "a", 1000, 0);
        let reset = sample(2_000_000, "a", 10, 0).since(&before);
        assert_eq!((reset.bdevs[0].read_iops, reset.bdevs[0].errors), (10.0, 0));
        let fresh = sample(2_000_000, "b", 50, 0).since(&before);
        assert_eq!(fresh.bdevs[0].read_iops, 50.0);
        let idle = sample(2_000_000, "a", 1000, 0).since(&before);
        assert_eq!((idle.bdevs[0].iops(), idle.bdevs[0].latency_mean_us), (0.0, None));
        let at_once = before.since(&before);
        assert!(at_once.bdevs[0].iops().is_finite() && at_once.reactors[0].busy_percent == 0.0);
    }

    #[test]
    fn an_answer_of_another_form_names_what_is_missing() {
        let error =
            Sample::of(&json!({"reactors": []}), &json!({"ticks": 1, "tick_rate": 1})).expect_err("no bdevs");
        assert_eq!(error, "bdevs");
    }
}
