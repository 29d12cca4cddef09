//! rtrs_get_sessions, rtrs_get_listeners.

use super::unit::{bytes, time};
use super::{each, number};
use serde_json::{Value, json};

/// One row for each path of a session to a peer, and for each lane of a client's.
pub(super) fn sessions(answer: &Value) -> Option<Value> {
    let mut rows = Vec::new();
    for session in answer.as_array()? {
        match session.get("role")?.as_str()? {
            "client" => to_peer(session, &mut rows)?,
            _ => of_client(session, &mut rows)?,
        }
    }
    Some(Value::Array(rows))
}

fn to_peer(session: &Value, rows: &mut Vec<Value>) -> Option<()> {
    for path in session.get("paths")?.as_array()? {
        let latency = number(path, "latency_ns")?;
        rows.push(
            json!({"session": session.get("session")?, "role": "client", "state": session.get("state")?,
            "path": path.get("path")?, "path_state": path.get("state")?,
            "latency": if latency > 0.0 { time(latency / 1e9) } else { "-".to_owned() },
            "requests": path.get("requests")?, "written": bytes(number(path, "bytes_written")?),
            "read": bytes(number(path, "bytes_read")?), "resends": path.get("resends")?,
            "faults": path.get("faults")?, "last_reason": text_or_dash(path.get("reason")?)}),
        );
    }
    Some(())
}

fn of_client(session: &Value, rows: &mut Vec<Value>) -> Option<()> {
    for lane in session.get("lanes")?.as_array()? {
        let from: Option<Vec<&str>> =
            lane.get("connections")?.as_array()?.iter().map(Value::as_str).collect();
        let from = from?;
        rows.push(json!({"session": session.get("session")?, "role": "server", "state": "up",
            "path": from.join(" "), "path_state": if from.is_empty() { "down" } else { "up" },
            "latency": "-", "requests": "-", "written": "-", "read": "-", "resends": "-", "faults": "-",
            "last_reason": "-"}));
    }
    Some(())
}

/// One row a listener.
pub(super) fn listeners(answer: &Value) -> Option<Value> {
    each(answer, |listener| {
        let last = match listener.get("last_refused")? {
            Value::Null => "-".to_owned(),
            last => format!("{}: {}", last.get("from")?.as_str()?, last.get("reason")?.as_str()?),
        };
        Some(json!({"traddr": listener.get("traddr")?, "trsvcid": listener.get("trsvcid")?,
            "trtype": listener.get("trtype")?, "key": text_or_dash(listener.get("key")?),
            "reactor": listener.get("reactor")?, "connections": listener.get("connections")?,
            "admitted": listener.get("admitted")?, "refused": listener.get("refused")?, "last_refused": last}))
    })
}

fn text_or_dash(value: &Value) -> Value {
    if value.is_null() { "-".into() } else { value.clone() }
}

#[cfg(test)]
mod tests {
    use crate::view::text;
    use serde_json::json;

    #[test]
    fn each_path_of_a_session_has_a_row_and_says_why_it_is_down() {
        let path = json!({"path": "ip:1.2.3.4:5", "state": "down", "latency_ns": 0, "requests": 7,
            "bytes_written": 2_097_152, "bytes_read": 0, "resends": 1, "faults": 2, "reason": "by command"});
        let ours = json!({"session": "a", "role": "client", "state": "stalled", "paths": [path]});
        let theirs = json!({"session": "b", "role": "server", "lanes": [{"connections": ["1.1.1.1:9"]}]});
        let shown = text("rtrs_get_sessions", None, &json!([ours, theirs]), None);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        for word in ["stalled", "ip:1.2.3.4:5", "down", "2 MiB", "by command"] {
            assert!(lines[1].contains(word), "{word}: {shown}");
        }
        assert!(lines[2].contains("server") && lines[2].contains("1.1.1.1:9"), "{shown}");
    }

    #[test]
    fn a_listener_says_who_was_refused_last() {
        let answer = json!([{"trtype": "TCP", "traddr": "::1", "trsvcid": "4430", "key": null, "reactor": 0,
            "connections": 1, "admitted": 2, "refused": 3,
            "last_refused": {"from": "[::1]:7", "reason": "no key", "ago_ms": 9}}]);
        let shown = text("rtrs_get_listeners", None, &answer, None);
        assert!(shown.contains("[::1]:7: no key"), "{shown}");
    }
}
