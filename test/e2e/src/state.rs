//! What a target is, as its clients can see: what a refused call must leave alone.

use crate::shape::without;
use rmr_rpc::{Client, Error};
use serde_json::{Value, json};

/// Questions whose answers change only when a call changes something. In startup some of them are refused; the
/// refusal is then part of the state.
const QUESTIONS: [&str; 11] = [
    "bdev_get_bdevs",
    "framework_get_subsystems",
    "framework_get_scheduler",
    "notify_get_notifications",
    "log_get_level",
    "log_get_print_level",
    "log_get_flags",
    "thread_get_io_channels",
    "notify_get_types",
    "keyring_get_keys",
    "spdk_get_version",
];

/// The answers to all questions, and the saved configuration of every subsystem.
pub fn of(client: &mut Client) -> Vec<(String, Value)> {
    let mut state: Vec<_> =
        QUESTIONS.iter().map(|method| ((*method).to_owned(), answer(client, method, None))).collect();
    let callable = answer(client, "rpc_get_methods", Some(json!({"current": true})));
    state.push(("rpc_get_methods".to_owned(), callable));
    for subsystem in answer(client, "framework_get_subsystems", None).as_array().into_iter().flatten() {
        let name = &subsystem["subsystem"];
        let config = answer(client, "framework_get_config", Some(json!({"name": name})));
        state.push((format!("configuration of {name}"), config));
    }
    state
}

/// The parts that differ, one line each.
pub fn changes(before: &[(String, Value)], after: &[(String, Value)]) -> Vec<String> {
    let pairs = before.iter().zip(after).filter(|(before, after)| before != after);
    let mut lines: Vec<_> =
        pairs.map(|(before, after)| format!("{}: {} became {}", before.0, before.1, after.1)).collect();
    if before.len() != after.len() {
        lines.push("another number of subsystems".to_owned());
    }
    lines
}

fn answer(client: &mut Client, method: &str, params: Option<Value>) -> Value {
    match client.call(method, params.as_ref()) {
        Ok(mut result) => {
            // Measured at start: another target's differs.
            without(&mut result, "tick_rate");
            result
        }
        Err(Error::Refused { refusal, .. }) => json!(refusal),
        Err(other) => panic!("{other}"),
    }
}
