//! The configuration as text, laid out as SPDK's client writes it.

use crate::error::ConfigError;
use rpc_registry::{ConfigEntry, Registry, to_ascii_pretty};
use serde::Serialize;

#[derive(Serialize)]
struct Root {
    subsystems: Vec<Saved>,
}

#[derive(Serialize)]
struct Saved {
    subsystem: &'static str,
    config: Option<Vec<ConfigEntry>>,
}

/// What the target is now, byte for byte as SPDK's `save_config` prints it: indented by two, ASCII, newline at the end.
///
/// Blocks as long as the subsystems' writers do; never call it on a reactor.
pub fn save(registry: &Registry) -> Result<String, ConfigError> {
    let saved = registry.subsystems().iter();
    let subsystems = saved.map(|each| Saved { subsystem: each.name(), config: each.saved() }).collect();
    let text =
        to_ascii_pretty(&Root { subsystems }).map_err(|why| ConfigError::Save { why: why.to_string() })?;
    Ok(text + "\n")
}
