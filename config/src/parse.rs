//! From text to a list of calls, each with its place.

use crate::error::ConfigError;
use crate::text::{Place, Text};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::Path;

/// A configuration: per subsystem, the calls that make it.
#[derive(Debug, Clone)]
pub struct Config {
    /// In the order of the file.
    pub subsystems: Vec<SubsystemConfig>,
    /// What is odd but no error, one line each.
    pub warnings: Vec<String>,
}

/// One subsystem's calls.
#[derive(Debug, Clone)]
pub struct SubsystemConfig {
    /// Its name.
    pub name: String,
    /// In the order of the file; calls of a batch stand here one by one.
    pub calls: Vec<ConfigCall>,
}

/// One call.
#[derive(Debug, Clone)]
pub struct ConfigCall {
    /// The method.
    pub method: String,
    /// The parameters' text, without comments.
    pub params: Option<Box<RawValue>>,
    /// Where the call stands.
    pub place: Place,
}

/// Other members are ignored, as in SPDK.
#[derive(Deserialize)]
struct Root<'a> {
    #[serde(borrow)]
    subsystems: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subsystem<'a> {
    subsystem: String,
    #[serde(borrow)]
    config: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call<'a> {
    method: String,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Reads a config file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse_named(&path.display().to_string(), &text)
}

/// Reads a configuration from text. Places in errors name the file `config`.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_named("config", text)
}

fn parse_named(file: &str, text: &str) -> Result<Config, ConfigError> {
    let text = Text::new(file, text).map_err(|place| ConfigError::Syntax {
        place,
        why: "this comment does not end, accepted: /* … */".to_owned(),
    })?;
    let mut config = Config { subsystems: Vec::new(), warnings: Vec::new() };
    let root: Root<'_> = read(&text, &text.json, '{', "an object with the member \"subsystems\", an array")?;
    match root.subsystems {
        Some(list) => {
            config.subsystems = list.iter().map(|raw| subsystem(&text, raw)).collect::<Result<_, _>>()?;
        }
        None => config.warnings.push(format!("{file}: no \"subsystems\": nothing to configure")),
    }
    Ok(config)
}

fn subsystem(text: &Text, raw: &RawValue) -> Result<SubsystemConfig, ConfigError> {
    let accepted = "{\"subsystem\": NAME, \"config\": [calls] or null}";
    let Subsystem { subsystem: name, config } = read(text, raw.get(), '{', accepted)?;
    let mut calls = Vec::new();
    for entry in config.unwrap_or_default() {
        if entry.get().starts_with('[') {
            let batch: Vec<&RawValue> = read(text, entry.get(), '[', "a batch of calls")?;
            for entry in batch {
                calls.push(call(text, entry)?);
            }
        } else {
            calls.push(call(text, entry)?);
        }
    }
    Ok(SubsystemConfig { name, calls })
}

fn call(text: &Text, raw: &RawValue) -> Result<ConfigCall, ConfigError> {
    let call: Call<'_> = read(text, raw.get(), '{', "a call {\"method\": NAME, \"params\": {…}}")?;
    let place = text.place(text.offset_of(raw.get()));
    Ok(ConfigCall { method: call.method, params: call.params.map(ToOwned::to_owned), place })
}

/// Reads one level of `part`, which is a piece of `text` and must begin with `first`: serde would also take an array
/// for an object with its members in order.
fn read<'a, T: Deserialize<'a>>(
    text: &Text,
    part: &'a str,
    first: char,
    accepted: &str,
) -> Result<T, ConfigError> {
    let trimmed = part.trim_start();
    let fault = |place, why| ConfigError::Syntax { place, why };
    if !trimmed.starts_with(first) {
        return Err(fault(text.place(text.offset_of(trimmed)), format!("accepted: {accepted}")));
    }
    serde_json::from_str(part).map_err(|error| {
        let words = error.to_string();
        let what = words.split(" at line ").next().unwrap_or_default();
        fault(text.place_in(part, &error), format!("{what}, accepted: {accepted}"))
    })
}
