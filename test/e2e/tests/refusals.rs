//! Every parameter of every method, wrong in each way: the method's own code, a message that names the parameter, and
//! nothing changed.

#![allow(clippy::expect_used, missing_docs)]

use rmr_rpc::{Client, Method, Schema};
use serde_json::json;
use test_e2e::faults::{self, Fault};
use test_e2e::places::tell;
use test_e2e::raw::Raw;
use test_e2e::spdk::SpdkClient;
use test_e2e::state;
use test_e2e::target::Target;

/// Without parameters every module answers this one.
const INVALID_PARAMS: i64 = -32602;

struct Rig {
    client: Client,
    /// None without a Python environment: then all calls go out as bytes.
    spdk: Option<SpdkClient>,
    raw: Raw,
    by_spdk: usize,
    by_bytes: usize,
}

impl Rig {
    fn new(target: &mut Target) -> Rig {
        let raw = Raw::connect(&target.socket());
        let spdk = SpdkClient::connect(&target.socket());
        Rig { client: target.client(), spdk, raw, by_spdk: 0, by_bytes: 0 }
    }

    /// The error's code and message. By SPDK's client where it can send the fault: a name given twice, and what is
    /// empty, it cannot.
    fn refused(&mut self, method: &str, fault: &Fault) -> Result<(i64, String), String> {
        let sendable = fault.what != "twice" && fault.params.contains(':');
        match &mut self.spdk {
            Some(spdk) if sendable => {
                self.by_spdk += 1;
                let answer = spdk.call_text(method, &fault.params);
                answer.map_or_else(|error| Ok((error.code, error.message)), |result| Err(result.to_string()))
            }
            _ => {
                self.by_bytes += 1;
                let params = &fault.params;
                let answer = self.raw.ask(&format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#));
                let error = answer.get("error").ok_or_else(|| answer.to_string())?;
                let code = error["code"].as_i64().expect("a code");
                Ok((code, error["message"].as_str().expect("a text").to_owned()))
            }
        }
    }

    /// What is wrong with the answer to a wrong call; none if it is as it must be.
    fn complaint(&mut self, method: &Method, fault: &Fault) -> Option<String> {
        let before = state::of(&mut self.client);
        let refused = self.refused(&method.name, fault);
        let changed = state::changes(&before, &state::of(&mut self.client));
        let code = if fault.parameter.is_some() { method.decode_error } else { INVALID_PARAMS };
        let why = match refused {
            Err(result) => format!("succeeded: {result}"),
            Ok((got, message)) if got != code => format!("code {got}, not {code}: {message}"),
            Ok((_, message)) => {
                let named = fault.parameter.as_ref().unwrap_or(&method.name);
                if message.contains(named) && changed.is_empty() {
                    return None;
                }
                if changed.is_empty() {
                    format!("the message does not name it: {message}")
                } else {
                    changed.join("; ")
                }
            }
        };
        Some(format!("{} {} {:?} {}: {why}", method.name, fault.what, fault.parameter, fault.params))
    }
}

fn all_refused(target: &mut Target, in_phase: &[&str]) {
    let schema = target.call("rmr_get_schema", json!({}));
    let schema: Schema = serde_json::from_value(schema).expect("a schema");
    let mut rig = Rig::new(target);
    let methods: Vec<&Method> =
        schema.methods.iter().filter(|method| in_phase.contains(&method.phase.as_str())).collect();
    assert!(!methods.is_empty());
    let mut complaints = Vec::new();
    for method in &methods {
        for fault in faults::of(method) {
            complaints.extend(rig.complaint(method, &fault));
        }
    }
    tell(&format!(
        "{} methods: {} wrong calls by SPDK's client, {} as bytes",
        methods.len(),
        rig.by_spdk,
        rig.by_bytes
    ));
    assert!(complaints.is_empty(), "{} wrong:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn wrong_parameters_are_refused_by_name_at_run_time_and_change_nothing() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    target.call("bdev_null_create", json!({"name": "Null0", "num_blocks": 2048, "block_size": 512}));
    target.call("bdev_malloc_create", json!({"name": "Malloc0", "num_blocks": 2048, "block_size": 512}));
    all_refused(&mut target, &["runtime", "any"]);
    assert!(target.stop().success());
}

/// In startup options cannot be read back: whether they changed shows afterwards, beside a target left alone.
#[test]
fn wrong_parameters_are_refused_by_name_in_startup_and_change_nothing() {
    let Some(mut target) = Target::start(&["--wait-for-rpc"]) else { return };
    let Some(mut untouched) = Target::start(&["--wait-for-rpc"]) else { return };
    all_refused(&mut target, &["startup", "any"]);
    let initialised = |target: &mut Target| {
        target.call("framework_start_init", json!({}));
        state::of(&mut target.client())
    };
    let changes = state::changes(&initialised(&mut untouched), &initialised(&mut target));
    assert!(changes.is_empty(), "{}", changes.join("\n"));
    assert!(target.stop().success());
}

#[test]
fn the_state_that_is_compared_shows_every_change() {
    let Some(mut target) = Target::start(&["--wait-for-rpc"]) else { return };
    let mut before = state::of(&mut target.client());
    let calls = [
        ("framework_start_init", json!({})),
        ("bdev_null_create", json!({"name": "Null0", "num_blocks": 2048, "block_size": 512})),
        ("bdev_null_resize", json!({"name": "Null0", "new_size": 2})),
        ("log_set_level", json!({"level": "ERROR"})),
        ("log_set_print_level", json!({"level": "INFO"})),
        ("log_set_flag", json!({"flag": "bdev"})),
        ("log_clear_flag", json!({"flag": "bdev"})),
        ("bdev_null_delete", json!({"name": "Null0"})),
    ];
    for (method, params) in calls {
        target.call(method, params);
        let after = state::of(&mut target.client());
        assert!(!state::changes(&before, &after).is_empty(), "{method}");
        before = after;
    }
}

#[test]
fn what_the_handler_refuses_changes_nothing_either() {
    let Some(mut target) = Target::start(&[]) else { return };
    target.wait_ready();
    target.call("bdev_null_create", json!({"name": "Null0", "num_blocks": 2048, "block_size": 512}));
    let mut rig = Rig::new(&mut target);
    let calls = [
        ("bdev_null_create", json!({"name": "Null0", "num_blocks": 1, "block_size": 512}), -17, "Null0"),
        ("bdev_null_create", json!({"name": "a", "num_blocks": 1, "block_size": 500}), -22, "multiple"),
        ("bdev_null_create", json!({"name": "a", "num_blocks": 0, "block_size": 512}), -22, "blocks"),
        ("bdev_malloc_create", json!({"num_blocks": 1_u64 << 52, "block_size": 512}), -12, "memory"),
        ("bdev_null_delete", json!({"name": "b"}), -19, "b"),
        ("bdev_malloc_delete", json!({"name": "Null0"}), -22, "Null0"),
        ("bdev_null_resize", json!({"name": "Null0", "new_size": 0}), -22, "new_size"),
        ("bdev_uring_create", json!({"name": "u", "filename": "/nonexistent/disk"}), -2, "/nonexistent/disk"),
        ("bdev_uring_create", json!({"name": "u", "filename": "/"}), -22, "a directory"),
        ("bdev_aio_create", json!({"name": "u", "filename": "/dev/null"}), -22, "a character device"),
        ("bdev_uring_create", json!({"name": "Null0", "filename": "/nonexistent/disk"}), -17, "Null0"),
        ("bdev_uring_delete", json!({"name": "b"}), -19, "b"),
        ("bdev_aio_rescan", json!({"name": "Null0"}), -22, "Null0"),
        ("bdev_passthru_create", json!({"name": "Null0", "base_bdev_name": "b"}), -17, "Null0"),
        ("bdev_passthru_delete", json!({"name": "b"}), -19, "b"),
        ("bdev_split_create", json!({"base_bdev": "Null0", "split_count": 0}), -22, "split_count 0"),
        ("bdev_delay_delete", json!({"name": "b"}), -19, "b"),
        ("bdev_error_resume_pending", json!({"name": "EE_b"}), -19, "EE_b"),
        ("bdev_get_bdevs", json!({"name": "b"}), -19, "b"),
        ("keyring_file_add_key", json!({"name": "b", "path": "key"}), -1, "relative"),
        ("keyring_file_add_key", json!({"name": "b", "path": "/nonexistent/key"}), -2, "/nonexistent/key"),
        ("keyring_file_remove_key", json!({"name": "b"}), -126, "the keyring is empty"),
        ("bdev_get_iostat", json!({"name": "b"}), -19, "b"),
        ("spdk_kill_instance", json!({"sig_name": "SIGSTOP"}), -32602, "SIGSTOP"),
        ("log_set_print_level", json!({"level": "LOUD"}), -32602, "LOUD"),
        ("log_set_flag", json!({"flag": "colour"}), -32602, "colour"),
        ("framework_get_config", json!({"name": "b"}), -32602, "b"),
        ("framework_set_scheduler", json!({"name": "dynamic"}), -32602, "dynamic"),
        ("thread_set_cpumask", json!({"id": 4711, "cpumask": "0x1"}), -32602, "4711"),
        ("no_such_method", json!({"a": 1}), -32601, "Method not found"),
        ("iobuf_set_options", json!({"small_pool_count": 100}), -1, "before framework"),
    ];
    let mut complaints = Vec::new();
    for (method, params, code, words) in calls {
        let before = state::of(&mut rig.client);
        let fault = Fault { what: "refused", parameter: None, params: params.to_string() };
        let got = rig.refused(method, &fault);
        let changed = state::changes(&before, &state::of(&mut rig.client));
        let good =
            matches!(&got, Ok((got, text)) if *got == code && text.contains(words)) && changed.is_empty();
        if !good {
            complaints.push(format!("{method} {params}: {got:?}, expected {code} {words:?}; {changed:?}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
