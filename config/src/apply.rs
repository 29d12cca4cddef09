//! Making the calls of a configuration, in SPDK's two passes.

use crate::error::ConfigError;
use crate::parse::{Config, ConfigCall};
use rpc_registry::{Registry, Scope, State};

/// What a pass did.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// Calls that succeeded.
    pub made: usize,
    /// Calls left out, because neither their method nor their subsystem is one of ours.
    pub skipped: Vec<ConfigCall>,
    /// Calls that failed, with `ignore_errors`.
    pub failed: Vec<ConfigError>,
}

/// Makes the calls that belong to the registry's state, through the same handlers and the same strict decoding as the
/// socket. Called twice: in [`State::Startup`] for methods legal there (one legal in both states runs now), and after
/// [`Registry::enter_runtime`] for the others.
///
/// A method that is unknown is noticed in the first pass: skipped when its subsystem is unknown as well, an error
/// otherwise. The first error ends the pass, unless `ignore_errors` (`--json-ignore-init-errors`).
///
/// Blocks as long as the calls do; never call it on a reactor.
pub fn apply(config: &Config, registry: &Registry, ignore_errors: bool) -> Result<ApplyReport, ConfigError> {
    let state = registry.state();
    let mut report = ApplyReport::default();
    for subsystem in &config.subsystems {
        for call in &subsystem.calls {
            match turn(registry, state, &subsystem.name, &call.method) {
                Turn::NotNow => continue,
                Turn::Skip => {
                    tracing::info!(
                        "{}: skipped \"{}\": no subsystem \"{}\"",
                        call.place,
                        call.method,
                        subsystem.name
                    );
                    report.skipped.push(call.clone());
                    continue;
                }
                Turn::Now => {}
            }
            match registry.call(&Scope::all(), &call.method, call.params.as_deref()) {
                Ok(_) => report.made += 1,
                Err(error) => {
                    let failure = ConfigError::Call {
                        place: call.place.clone(),
                        subsystem: subsystem.name.clone(),
                        method: call.method.clone(),
                        error: Box::new(error),
                    };
                    if !ignore_errors {
                        return Err(failure);
                    }
                    tracing::warn!("ignored: {failure}");
                    report.failed.push(failure);
                }
            }
        }
    }
    Ok(report)
}

/// What a pass does with a call.
enum Turn {
    /// Make it; for an unknown method the registry's answer says what is near.
    Now,
    NotNow,
    Skip,
}

fn turn(registry: &Registry, state: State, subsystem: &str, method: &str) -> Turn {
    match (state, registry.method(method)) {
        (State::Startup, Some(method)) if method.is_for(State::Startup) => Turn::Now,
        (State::Runtime, Some(method)) if !method.is_for(State::Startup) => Turn::Now,
        (State::Startup, None) if registry.subsystem(subsystem).is_none() => Turn::Skip,
        (State::Startup, None) => Turn::Now,
        _ => Turn::NotNow,
    }
}
