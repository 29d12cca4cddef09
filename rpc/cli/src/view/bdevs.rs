//! bdev_get_bdevs and bdev_get_iostat.

use super::unit::{bytes, time};
use super::{each, number};
use serde_json::{Map, Value, json};

/// Kinds of operations that have accounts: as shown, and as in the members of the answer.
const OPS: [(&str, &str, &str, &str); 4] = [
    ("read", "num_read_ops", "bytes_read", "read"),
    ("write", "num_write_ops", "bytes_written", "write"),
    ("unmap", "num_unmap_ops", "bytes_unmapped", "unmap"),
    ("copy", "num_copy_ops", "bytes_copied", "copy"),
];

/// One row a bdev.
pub(super) fn list(answer: &Value) -> Option<Value> {
    each(answer, |bdev| {
        let blocks = bdev.get("num_blocks")?.as_u64()?;
        let block_size = bdev.get("block_size")?.as_u64()?;
        let uuid = bdev.get("uuid")?;
        let aliases = bdev.get("aliases")?.as_array()?.iter().filter(|alias| *alias != uuid);
        Some(json!({
            "name": bdev.get("name")?,
            "size": bytes(blocks as f64 * block_size as f64),
            "block_size": block_size,
            "num_blocks": blocks,
            "product": bdev.get("product_name")?,
            "claim": claim(bdev),
            "limits": limits(bdev),
            "uuid": uuid,
            "aliases": aliases.collect::<Vec<_>>(),
        }))
    })
}

fn claim(bdev: &Value) -> Value {
    match bdev.get("claimed").and_then(Value::as_bool) {
        Some(true) => bdev.get("claim_type").cloned().unwrap_or_else(|| "yes".into()),
        _ => "".into(),
    }
}

/// The limits that are set: `rw_ios_per_sec=1000`.
fn limits(bdev: &Value) -> String {
    let limits = bdev.get("assigned_rate_limits").and_then(Value::as_object);
    let set = limits.into_iter().flatten().filter(|(_, limit)| limit.as_u64() != Some(0));
    set.map(|(name, limit)| format!("{name}={limit}")).collect::<Vec<_>>().join(" ")
}

/// One row for each bdev (or channel) and each kind of operation it has done; failures and queue depths below.
pub(super) fn iostat(answer: &Value) -> Option<Value> {
    let tick = 1.0 / number(answer, "tick_rate").filter(|rate| *rate > 0.0)?;
    let (list, title, key) = match answer.get("channels") {
        Some(channels) => (channels, "thread", "thread_id"),
        None => (answer.get("bdevs")?, "name", "name"),
    };
    let (mut accounts, mut errors, mut depths) = (Vec::new(), Vec::new(), Vec::new());
    for one in list.as_array()? {
        let name = one.get(key)?;
        accounts.extend(ops(title, name, one, tick)?);
        for (status, count) in one.get("io_error").and_then(Value::as_object).unwrap_or(&Map::new()) {
            errors.push(json!({title: name, "error": status, "count": count}));
        }
        depths.extend(depth(title, name, one));
    }
    if errors.is_empty() && depths.is_empty() {
        return Some(Value::Array(accounts));
    }
    let tables = [("done", accounts), ("errors", errors), ("sampled queue depth", depths)];
    let tables = tables.into_iter().filter(|(_, rows)| !rows.is_empty());
    Some(Value::Object(tables.map(|(name, rows)| (name.to_owned(), Value::Array(rows))).collect()))
}

fn ops(title: &str, name: &Value, one: &Value, tick: f64) -> Option<Vec<Value>> {
    let mut rows = Vec::new();
    for (op, ops_name, bytes_name, latency) in OPS {
        let ops = one.get(ops_name)?.as_u64()?;
        if ops == 0 {
            continue;
        }
        let ticks = |name: String| Some(number(one, &name)? * tick);
        rows.push(json!({title: name, "op": op, "ios": ops,
            "bytes": bytes(number(one, bytes_name)?),
            "mean": time(ticks(format!("{latency}_latency_ticks"))? / ops as f64),
            "min": time(ticks(format!("min_{latency}_latency_ticks"))?),
            "max": time(ticks(format!("max_{latency}_latency_ticks"))?)}));
    }
    if rows.is_empty() {
        rows.push(json!({title: name, "op": "none", "ios": 0}));
    }
    Some(rows)
}

fn depth(title: &str, name: &Value, one: &Value) -> Option<Value> {
    Some(json!({title: name, "now": one.get("queue_depth")?,
        "sampled_every": time(number(one, "queue_depth_polling_period")? * 1e-6),
        "busy_for": time(number(one, "io_time")? * 1e-6)}))
}

#[cfg(test)]
mod tests {
    use crate::schema::embedded;
    use crate::view::text;
    use serde_json::{Value, json};

    fn example(method: &str) -> Value {
        embedded().method(method).and_then(|method| method.result_example.clone()).expect("an example")
    }

    #[test]
    fn a_bdev_shows_its_size_its_claim_and_its_limits() {
        let mut answer = example("bdev_get_bdevs");
        answer[0]["assigned_rate_limits"]["rw_ios_per_sec"] = json!(1000);
        let shown = text("bdev_get_bdevs", None, &answer, None);
        let row = shown.lines().nth(1).expect("a row");
        for words in ["Malloc0 ", " 64 MiB ", " 131072 ", " exclusive_write ", " rw_ios_per_sec=1000 "] {
            assert!(row.contains(words), "{words}: {shown}");
        }
        assert_eq!(row.matches("11111111-2222").count(), 1, "the UUID is no alias: {shown}");
    }

    #[test]
    fn accounts_are_in_time_and_bytes_and_failures_and_depths_follow() {
        let mut answer = example("bdev_get_iostat");
        answer["tick_rate"] = json!(1_000_000);
        answer["bdevs"][0]["read_latency_ticks"] = json!(600);
        answer["bdevs"][0]["max_read_latency_ticks"] = json!(2000);
        let shown = text("bdev_get_iostat", None, &answer, None);
        assert!(shown.starts_with("NAME     OP    IOS   BYTES    MEAN      MIN   MAX\n"), "{shown}");
        assert!(shown.contains("Malloc0  read    6  73 KiB  100 us  38.5 ms  2 ms\n"), "{shown}");
        assert!(!shown.contains("write"), "{shown}");
        answer["bdevs"][0]["io_error"] = json!({"nvme_error": 3});
        answer["bdevs"][0]["queue_depth"] = json!(7);
        answer["bdevs"][0]["queue_depth_polling_period"] = json!(1000);
        answer["bdevs"][0]["io_time"] = json!(2_500_000);
        let shown = text("bdev_get_iostat", None, &answer, None);
        assert!(
            shown.contains("errors:\n  NAME     ERROR       COUNT\n  Malloc0  nvme_error      3\n"),
            "{shown}"
        );
        assert!(shown.contains("  Malloc0    7           1 ms     2.5 s\n"), "{shown}");
    }

    #[test]
    fn a_bdev_without_io_is_not_left_out() {
        let mut answer = example("bdev_get_iostat");
        answer["bdevs"][0]["num_read_ops"] = json!(0);
        let shown = text("bdev_get_iostat", None, &answer, None);
        assert!(shown.contains("Malloc0  none"), "{shown}");
    }
}
