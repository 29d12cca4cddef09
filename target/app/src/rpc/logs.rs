//! log_set_level, log_get_level, log_set_print_level, log_get_print_level, log_get_flags, log_set_flag,
//! log_clear_flag.

use crate::log::{Level, LogControl};
use rpc_registry::{Method, Phase, Registry, RpcError, codes};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, json};
use std::sync::Arc;

/// Parameters of `log_set_level` and `log_set_print_level`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetLevel {
    /// ERROR, WARNING, NOTICE, INFO or DEBUG
    level: String,
}

/// Parameters of `log_set_flag` and `log_clear_flag`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Flag {
    /// A flag that log_get_flags lists, or all
    flag: String,
}

pub(super) fn register(registry: &mut Registry, log: &Arc<LogControl>) {
    register_levels(registry, log);
    register_flags(registry, log);
}

fn register_levels(registry: &mut Registry, log: &Arc<LogControl>) {
    let of = log.clone();
    registry.add(
        set_level("log_set_level", "Set SPDK's level for syslog; kept and answered, there is no syslog here"),
        move |SetLevel { level }| parse(&level).map(|level| of.set_level(level)).map(|()| true),
    );
    let of = log.clone();
    registry.add(
        set_level("log_set_print_level", "Set the level up to which logs are written to stderr"),
        move |SetLevel { level }| parse(&level).map(|level| of.set_print_level(level)).map(|()| true),
    );
    let of = log.clone();
    registry.add_no_params(
        get("log_get_level", "Show SPDK's level for syslog").result_example(json!("NOTICE")),
        move || Ok(of.level().name()),
    );
    let of = log.clone();
    registry.add_no_params(
        get("log_get_print_level", "Show the level up to which logs are written to stderr")
            .result_example(json!("NOTICE")),
        move || Ok(of.print_level().name()),
    );
}

fn register_flags(registry: &mut Registry, log: &Arc<LogControl>) {
    let of = log.clone();
    registry.add_no_params(
        get("log_get_flags", "List the log flags: components whose INFO and DEBUG logs are written")
            .result_example(json!({"bdev": false, "rpc": true})),
        move || Ok(of.flags().map(|(name, set)| (name.to_owned(), set.into())).collect::<Map<_, _>>()),
    );
    for (name, summary, on) in [
        ("log_set_flag", "Write INFO and DEBUG logs of a component, within the print level", true),
        ("log_clear_flag", "Write no INFO and DEBUG logs of a component", false),
    ] {
        let of = log.clone();
        let method = get(name, summary).example(json!({"flag": "bdev"})).result_example(json!(true));
        registry.add(method, move |Flag { flag }| {
            let refused = |error: crate::log::UnknownFlag| {
                let error = RpcError::invalid_params(error.to_string());
                error.parameter("flag", &flag, "all, or a flag that log_get_flags lists")
            };
            of.set_flag(&flag, on).map(|()| true).map_err(refused)
        });
    }
}

fn get(name: &'static str, summary: &'static str) -> Method {
    Method::new(name, summary).spdk(true).phase(Phase::Any).decode_error(codes::INTERNAL)
}

fn set_level(name: &'static str, summary: &'static str) -> Method {
    get(name, summary).example(json!({"level": "NOTICE"})).result_example(json!(true))
}

fn parse(text: &str) -> Result<Level, RpcError> {
    text.parse().map_err(|error: crate::log::UnknownLevel| {
        let accepted = Level::ALL.map(Level::name).join(", ");
        RpcError::invalid_params(error.to_string()).parameter("level", text, accepted)
    })
}
