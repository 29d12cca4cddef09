//! Calls through the public interface: phases, codes, the registry's own methods.

#![allow(clippy::expect_used, missing_docs)]

use rpc_registry::{ConfigEntry, Method, Phase, Registry, RpcError, Scope, State, Subsystem, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NullCreate {
    /// Name of the device
    name: String,
    #[schemars(range(min = 1))]
    num_blocks: u64,
    block_size: Option<u32>,
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    let create = Method::new("bdev_null_create", "Make a null bdev")
        .decode_error(codes::INTERNAL)
        .spdk(true)
        .aliases(&["construct_null_bdev"])
        .example(json!({"name": "Null0", "num_blocks": 1024}));
    registry.add(create, |params: NullCreate| match params.name.as_str() {
        "taken" => Err(RpcError::errno(17, "")),
        "panic" => panic!("on purpose: {}", params.num_blocks),
        _ => Ok(format!("{}/{}/{:?}", params.name, params.num_blocks, params.block_size)),
    });
    registry.add_no_params(Method::new("set_early", "Only early").phase(Phase::Startup), || Ok(true));
    registry.add_no_params_with(Method::new("start", "Begin").phase(Phase::Startup), |registry| {
        Ok(registry.enter_runtime())
    });
    registry.add_subsystem(Subsystem::new("iobuf"));
    registry.add_subsystem(Subsystem::new("bdev").depends_on(&["iobuf"]).config(|| {
        vec![
            ConfigEntry::new("bdev_null_create", json!({"name": "n", "num_blocks": 1})),
            ConfigEntry::bare("bdev_wait_for_examine"),
        ]
    }));
    registry
}

fn running() -> Registry {
    let registry = registry();
    assert!(registry.enter_runtime());
    registry
}

fn code(result: Result<Value, RpcError>) -> i64 {
    result.expect_err("an error").code
}

#[test]
fn a_call_decodes_runs_and_answers() {
    let registry = running();
    let params = json!({"name": "a", "num_blocks": u64::MAX});
    let expect = Ok(json!("a/18446744073709551615/None"));
    assert_eq!(registry.call_value("bdev_null_create", Some(&params)), expect);
    assert_eq!(registry.call_value("construct_null_bdev", Some(&params)), expect);
}

#[test]
fn wrong_parameters_answer_the_methods_own_code_with_detail() {
    let error = running()
        .call_value("bdev_null_create", Some(&json!({"name": "a", "num_blocks": "abc"})))
        .expect_err("wrong type");
    assert_eq!(error.code, -32603);
    assert_eq!(
        error.message,
        r#"bdev_null_create: parameter "num_blocks": got "abc" (string), accepted: integer 1..18446744073709551615"#
    );
    let data = json!({"method": "bdev_null_create", "parameter": "num_blocks", "value": "\"abc\"",
        "accepted": "integer 1..18446744073709551615"});
    assert_eq!(error.data, Some(data));
    for absent in [None, Some(&json!({})), Some(&Value::Null)] {
        let error = running().call_value("bdev_null_create", absent).expect_err("missing");
        assert!(error.message.contains("\"name\" is missing"), "{error}");
    }
}

#[test]
fn a_method_without_parameters_takes_none_or_null_only() {
    let registry = registry();
    assert_eq!(registry.call_value("set_early", None), Ok(json!(true)));
    assert_eq!(registry.call_value("set_early", Some(&Value::Null)), Ok(json!(true)));
    for given in [json!({}), json!([]), json!({"a": 1})] {
        let error = registry.call_value("set_early", Some(&given)).expect_err("parameters");
        assert_eq!((error.code, error.message.as_str()), (-32602, "set_early requires no parameters"));
    }
}

#[test]
fn the_wrong_phase_is_minus_one_with_spdks_texts() {
    let early = registry().call_value("bdev_null_create", None).expect_err("too early");
    assert_eq!(early.code, -1);
    assert_eq!(
        early.message,
        "Method may only be called after framework is initialized using framework_start_init RPC."
    );
    let late = running().call_value("set_early", None).expect_err("too late");
    assert_eq!(late.code, -1);
    assert_eq!(
        late.message,
        "Method may only be called before framework is initialized. Use --wait-for-rpc command line parameter \
         and then issue this RPC before the framework_start_init RPC."
    );
}

#[test]
fn a_handler_may_move_the_target_to_run_time_once() {
    let registry = registry();
    assert_eq!(registry.state(), State::Startup);
    assert_eq!(registry.call_value("start", None), Ok(json!(true)));
    assert_eq!(registry.state(), State::Runtime);
    assert_eq!(code(registry.call_value("start", None)), -1);
    assert!(!registry.enter_runtime());
}

#[test]
fn an_unknown_method_names_the_nearest() {
    let error = running().call_value("bdev_nul_create", None).expect_err("unknown");
    assert_eq!((error.code, error.message.as_str()), (-32601, "Method not found"));
    assert_eq!(error.data.expect("data")["did_you_mean"], json!(["bdev_null_create"]));
}

#[test]
fn a_handler_that_panics_answers_an_internal_error() {
    let error = running()
        .call_value("bdev_null_create", Some(&json!({"name": "panic", "num_blocks": 3})))
        .expect_err("a panic");
    assert_eq!(error.code, -32603);
    assert!(error.message.contains("the handler panicked: on purpose: 3"), "{error}");
    assert_eq!(
        running().call_value("bdev_null_create", Some(&json!({"name": "taken", "num_blocks": 3}))),
        Err(RpcError::new(-17, "File exists"))
    );
}

#[test]
fn rpc_get_methods_filters_by_phase_scope_and_alias() {
    let names = |registry: &Registry, scope: &Scope, params: &str| -> Vec<String> {
        let raw: &RawValue = serde_json::from_str(params).expect("JSON");
        let text = registry.call(scope, "rpc_get_methods", Some(raw)).expect("methods");
        serde_json::from_str(&text).expect("names")
    };
    let has = |list: &[String], name: &str| list.iter().any(|each| each == name);
    let all = names(&registry(), &Scope::all(), "null");
    assert!(has(&all, "set_early") && has(&all, "bdev_null_create") && !has(&all, "construct_null_bdev"));
    let early = names(&registry(), &Scope::all(), r#"{"current":true}"#);
    assert!(has(&early, "set_early") && !has(&early, "bdev_null_create"));
    let late = names(&running(), &Scope::all(), r#"{"current":true,"include_aliases":true}"#);
    assert!(!has(&late, "set_early") && has(&late, "construct_null_bdev"));
    let few = Scope::only(["rpc_get_methods", "bdev_null_create"]);
    assert_eq!(names(&running(), &few, "{}"), ["rpc_get_methods", "bdev_null_create"]);
    assert_eq!(running().call(&few, "set_early", None).expect_err("hidden").code, -32601);
}

#[test]
fn subsystems_and_their_configs_are_told() {
    let registry = running();
    let expect =
        json!([{"subsystem": "iobuf", "depends_on": []}, {"subsystem": "bdev", "depends_on": ["iobuf"]}]);
    assert_eq!(registry.call_value("framework_get_subsystems", None), Ok(expect));
    let config = |name: &str| registry.call_value("framework_get_config", Some(&json!({"name": name})));
    assert_eq!(config("iobuf"), Ok(Value::Null));
    let expect = json!([
        {"method": "bdev_null_create", "params": {"name": "n", "num_blocks": 1}},
        {"method": "bdev_wait_for_examine"}
    ]);
    assert_eq!(config("bdev"), Ok(expect));
    let error = config("x").expect_err("unknown");
    assert_eq!((error.code, error.message.as_str()), (-32602, "Subsystem 'x' not found"));
}

#[test]
fn the_schema_tells_everything_about_a_method() {
    let schema = registry().schema();
    let methods = schema["methods"].as_array().expect("methods");
    let create = methods.iter().find(|method| method["name"] == "bdev_null_create").expect("the method");
    assert_eq!(create["params"]["properties"]["name"]["description"], "Name of the device");
    assert_eq!(create["phase"], "runtime");
    assert_eq!(create["spdk"], true);
    assert_eq!(create["example"], json!({"name": "Null0", "num_blocks": 1024}));
    assert_eq!(registry().call_value("rmr_get_schema", None), Ok(schema.clone()));
}

#[derive(Serialize)]
struct Huge<'a> {
    text: &'a str,
}

#[test]
fn a_result_over_32_mib_is_an_error() {
    let mut registry = Registry::new();
    let text: &'static str = Box::leak("x".repeat(33 << 20).into_boxed_str());
    registry.add_no_params(Method::new("huge", "Too much").phase(Phase::Any), move || Ok(Huge { text }));
    let error = registry.call_value("huge", None).expect_err("too long");
    assert_eq!(error.code, -32603);
    assert!(error.message.contains("longer than 33554432 bytes"), "{error}");
}

#[test]
#[should_panic(expected = "registered twice")]
fn a_name_taken_is_a_mistake_in_the_program() {
    registry().add_no_params(Method::new("construct_null_bdev", "Again"), || Ok(true));
}

#[test]
#[should_panic(expected = "its example: m: parameter \"num_blocks\" is missing")]
fn an_example_that_does_not_fit_is_a_mistake_in_the_program() {
    registry().add(Method::new("m", "M").example(json!({"name": "a"})), |_: NullCreate| Ok(true));
}

#[test]
#[should_panic(expected = "needs later registered before it")]
fn a_subsystem_comes_after_what_it_needs() {
    registry().add_subsystem(Subsystem::new("x").depends_on(&["later"]));
}
