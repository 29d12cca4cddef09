//! Answers of well-known methods, arranged for people; all others are shown as they come.
//!
//! A view takes an answer apart by names. Where one is missing, because the target is not the one that this client was
//! built with, there is no view, and the answer is shown as it is.

mod bdevs;
mod histogram;
mod reactors;
mod sessions;
pub(crate) mod unit;

use crate::show::plain;
use serde_json::{Map, Value, json};

/// What is shown instead of an answer.
enum View {
    /// A value to be laid out.
    Value(Value),
    /// Lines as they are.
    Text(String),
}

/// The answer of `method` to `params` as text, tables no wider than `width`. Ends with a newline.
pub fn text(method: &str, params: Option<&Value>, answer: &Value, width: Option<u16>) -> String {
    match view(method, params, answer) {
        Some(View::Value(value)) => plain(&spelled(value), width),
        Some(View::Text(text)) => text,
        None => plain(answer, width),
    }
}

/// With numbers as text: the columns of a view are chosen, so none is left out for being zero in every row.
fn spelled(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Array(list) => list.into_iter().map(spelled).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, spelled(value))).collect(),
        other => other,
    }
}

fn view(method: &str, params: Option<&Value>, answer: &Value) -> Option<View> {
    match method {
        "bdev_get_bdevs" => bdevs::list(answer).map(View::Value),
        "bdev_get_iostat" => bdevs::iostat(answer).map(View::Value),
        "bdev_get_histogram" => histogram::chart(answer).map(View::Text),
        "bdev_get_histogram_borders" => histogram::borders(params?, answer).map(View::Text),
        "framework_get_reactors" => reactors::reactors(answer).map(View::Value),
        "framework_get_config" => calls(answer).map(View::Value),
        "thread_get_stats" => reactors::threads(answer).map(View::Value),
        "thread_get_pollers" => reactors::pollers(answer).map(View::Value),
        "thread_get_io_channels" => reactors::channels(answer).map(View::Value),
        "iobuf_get_stats" => pools(answer).map(View::Value),
        "rtrs_get_sessions" => sessions::sessions(answer).map(View::Value),
        "rtrs_get_listeners" => sessions::listeners(answer).map(View::Value),
        "notify_get_notifications" => notifications(answer).map(View::Value),
        _ => None,
    }
}

/// One row for each element of a list; none if one of them has another form.
fn each(list: &Value, row: impl Fn(&Value) -> Option<Value>) -> Option<Value> {
    list.as_array()?.iter().map(row).collect::<Option<Vec<_>>>().map(Value::Array)
}

fn number(value: &Value, name: &str) -> Option<f64> {
    value.get(name)?.as_f64()
}

/// One row for each pool of each module.
fn pools(answer: &Value) -> Option<Value> {
    let mut rows = Vec::new();
    for module in answer.as_array()? {
        for pool in ["small", "large"] {
            let stats = module.get(format!("{pool}_pool"))?;
            rows.push(json!({"module": module.get("module")?, "pool": pool, "buffers": stats.get("cache_size")?,
                "in_use": stats.get("main")?, "kept_free": stats.get("cache")?, "retries": stats.get("retry")?}));
        }
    }
    Some(Value::Array(rows))
}

/// Numbers first: they are what the next call asks from.
fn notifications(answer: &Value) -> Option<Value> {
    each(answer, |event| {
        Some(json!({"id": event.get("id")?, "type": event.get("type")?, "ctx": event.get("ctx")?}))
    })
}

/// Calls of a configuration, each with its parameters on a line.
fn calls(answer: &Value) -> Option<Value> {
    each(answer, |call| {
        let none = Map::new();
        let params = call.get("params").and_then(Value::as_object).unwrap_or(&none);
        let params: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(json!({"method": call.get("method")?, "params": params.join(" ")}))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::embedded;

    /// Methods with a view; each has an example answer in the schema.
    const VIEWED: [&str; 13] = [
        "bdev_get_bdevs",
        "bdev_get_iostat",
        "bdev_get_histogram",
        "bdev_get_histogram_borders",
        "framework_get_reactors",
        "framework_get_config",
        "thread_get_stats",
        "thread_get_pollers",
        "thread_get_io_channels",
        "iobuf_get_stats",
        "rtrs_get_sessions",
        "rtrs_get_listeners",
        "notify_get_notifications",
    ];

    #[test]
    fn every_view_shows_the_documented_answer() {
        for name in VIEWED {
            let method = embedded().method(name).expect(name);
            let mut answer = method.result_example.clone().expect("an example");
            if name == "bdev_get_histogram" {
                // The example is cut short, and so no base64.
                answer["histogram"] = json!("");
            }
            assert!(view(name, method.example.as_ref(), &answer).is_some(), "{name}: {answer}");
        }
    }

    #[test]
    fn an_answer_of_another_form_is_shown_as_it_comes() {
        for name in VIEWED {
            for answer in [json!(true), json!([{"other": 1}]), json!({"other": 1}), json!(null)] {
                assert_eq!(text(name, None, &answer, None), plain(&answer, None), "{name}");
            }
        }
    }

    #[test]
    fn pools_events_and_calls_are_rows() {
        let pool = json!({"cache": 3, "main": 1, "retry": 0, "cache_size": 4});
        let stats = json!([{"module": "dma", "small_pool": pool, "large_pool": pool}]);
        let shown = text("iobuf_get_stats", None, &stats, None);
        assert!(
            shown.starts_with("MODULE  POOL   BUFFERS  IN_USE  KEPT_FREE  RETRIES\ndma     small        4"),
            "{shown}"
        );
        let events = json!([{"type": "bdev_register", "ctx": "a", "id": 7}]);
        assert_eq!(
            text("notify_get_notifications", None, &events, None),
            "ID  TYPE           CTX\n 7  bdev_register  a\n"
        );
        let config = json!([{"method": "m", "params": {"name": "a", "n": 1}}, {"method": "o"}]);
        assert_eq!(
            text("framework_get_config", None, &config, None),
            "METHOD  PARAMS\nm       name=\"a\" n=1\no\n"
        );
    }
}
