//! framework_get_reactors, thread_get_stats, thread_get_pollers, thread_get_io_channels.

use super::unit::{percent, time};
use super::{each, number};
use serde_json::{Value, json};

/// One row a reactor; shares are of the time since it started.
pub(super) fn reactors(answer: &Value) -> Option<Value> {
    let tick = tick(answer)?;
    each(answer.get("reactors")?, |reactor| {
        let (busy, idle) = (number(reactor, "busy")?, number(reactor, "idle")?);
        let names = reactor.get("lw_threads")?.as_array()?.iter().map(|thread| thread.get("name"));
        Some(json!({"reactor": names.collect::<Option<Vec<_>>>()?, "core": reactor.get("lcore")?,
            "numa": reactor.get("numa_id")?, "tid": reactor.get("tid")?, "busy": percent(busy, busy + idle),
            "busy_time": time(busy * tick), "idle_time": time(idle * tick),
            "asleep": if reactor.get("in_interrupt")?.as_bool()? { "yes" } else { "no" }}))
    })
}

/// One row a thread.
pub(super) fn threads(answer: &Value) -> Option<Value> {
    let tick = tick(answer)?;
    each(answer.get("threads")?, |thread| {
        let (busy, idle) = (number(thread, "busy")?, number(thread, "idle")?);
        Some(json!({"id": thread.get("id")?, "name": thread.get("name")?, "cpumask": thread.get("cpumask")?,
            "busy": percent(busy, busy + idle), "busy_time": time(busy * tick), "idle_time": time(idle * tick),
            "pollers": thread.get("active_pollers_count")?, "timed": thread.get("timed_pollers_count")?,
            "paused": thread.get("paused_pollers_count")?}))
    })
}

/// One row a poller.
pub(super) fn pollers(answer: &Value) -> Option<Value> {
    let tick = tick(answer)?;
    let mut rows = Vec::new();
    for thread in answer.get("threads")?.as_array()? {
        for kind in ["active", "timed", "paused"] {
            for poller in thread.get(format!("{kind}_pollers"))?.as_array()? {
                let (runs, busy) = (number(poller, "run_count")?, number(poller, "busy_count")?);
                let period =
                    number(poller, "period_ticks").map_or("every turn".to_owned(), |p| time(p * tick));
                rows.push(json!({"thread": thread.get("name")?, "id": poller.get("id")?,
                    "poller": poller.get("name")?, "kind": kind, "runs_every": period,
                    "runs": poller.get("run_count")?, "busy": percent(busy, runs)}));
            }
        }
    }
    Some(Value::Array(rows))
}

/// One row for each bdev that is open on a thread.
pub(super) fn channels(answer: &Value) -> Option<Value> {
    let mut rows = Vec::new();
    for thread in answer.get("threads")?.as_array()? {
        for channel in thread.get("io_channels")?.as_array()? {
            rows.push(json!({"thread": thread.get("name")?, "channel": channel.get("name")?,
                "opened": channel.get("ref")?}));
        }
    }
    Some(Value::Array(rows))
}

/// Seconds of a tick.
fn tick(answer: &Value) -> Option<f64> {
    number(answer, "tick_rate").filter(|rate| *rate > 0.0).map(|rate| 1.0 / rate)
}

#[cfg(test)]
mod tests {
    use crate::view::text;
    use serde_json::json;

    #[test]
    fn reactors_show_their_share_of_time_and_whether_they_sleep() {
        let answer = json!({"tick_rate": 1000, "pid": 1, "reactors": [{"lcore": 3, "numa_id": 1, "tid": 9,
            "busy": 1000, "idle": 3000, "in_interrupt": true, "lw_threads": [{"name": "reactor_0"}]}]});
        let shown = text("framework_get_reactors", None, &answer, None);
        assert_eq!(
            shown,
            "REACTOR    CORE  NUMA  TID    BUSY  BUSY_TIME  IDLE_TIME  ASLEEP\n\
             reactor_0     3     1    9  25.0 %        1 s        3 s  yes\n"
        );
    }

    #[test]
    fn pollers_and_channels_stand_beside_their_thread() {
        let poller = json!({"name": "p", "id": 4, "state": "waiting", "run_count": 8, "busy_count": 2});
        let mut timed = poller.clone();
        timed["period_ticks"] = json!(500);
        let answer = json!({"tick_rate": 1000, "threads": [{"name": "t", "active_pollers": [poller],
            "timed_pollers": [timed], "paused_pollers": []}]});
        let shown = text("thread_get_pollers", None, &answer, None);
        assert!(shown.contains("t        4  p       active  every turn     8  25.0 %\n"), "{shown}");
        assert!(shown.contains("t        4  p       timed   500 ms         8  25.0 %\n"), "{shown}");
        let answer = json!({"tick_rate": 1, "threads": [{"name": "t", "io_channels": [{"name": "bdev_a", "ref": 2}]}]});
        assert_eq!(
            text("thread_get_io_channels", None, &answer, None),
            "THREAD  CHANNEL  OPENED\nt       bdev_a        2\n"
        );
    }
}
